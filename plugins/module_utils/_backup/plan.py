# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator wants of a backup, and whether a backup that is there is enough."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .._catalog.catalog import Catalog, Entry
from .._catalog.newest import newest_within
from .._errors import InvalidInput
from .._plan import Plan
from .._postgres.cluster_id import cluster_of
from .._postgres.connection import Server
from . import pg_dump

LONGEST_LOCK_TIMEOUT = "24d"  # PostgreSQL keeps milliseconds in 31 bits


@dataclass(frozen=True)
class BackupPlan(Plan):
    """What the operator wants. Durations are in seconds; `jobs` None means the CPUs of the target, at most 8."""

    db: str
    format: str
    jobs: int | None
    compress: str
    fingerprint: str
    max_age_s: float | None
    globals: bool
    globals_passwords: bool
    bin_dir: str | None
    lock_timeout_s: float
    check_space: bool
    change_id: str | None

    def check(self) -> None:
        """Raise InvalidInput for values that cannot work, before anything is touched."""
        if not self.db:
            raise InvalidInput(
                "Invalid db", subject=repr(self.db), why="it is empty", remedy="Name the database to back up."
            )
        if "\0" in self.db:
            raise InvalidInput(
                "Invalid db", subject=repr(self.db), why="it has a NUL character", remedy="Give the name without it."
            )
        pg_dump.check_compression(self.compress)


def young_enough(catalog: Catalog, server: Server, plan: BackupPlan, now: datetime) -> Entry | None:
    """The newest backup of this server, if it is younger than the plan's `max_age` and has what the plan asks for."""
    if not plan.max_age_s:
        return None
    cluster = cluster_of(server, plan.db)
    return newest_within(catalog, plan.db, plan.max_age_s, plan.fingerprint != "none", now, cluster)
