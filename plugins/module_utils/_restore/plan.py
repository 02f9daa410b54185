# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator wants of a restore, a swap and a discard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._load import databases
from .._plan import Plan


@dataclass(frozen=True)
class SmokeQuery:
    """A question of the operator's own; `expect` is the text of the first value, None when any row will do."""

    query: str
    expect: str | None = None


@dataclass(frozen=True)
class StagePlan(Plan):
    """What the operator wants of a stage.

    Attributes:
        backup: `latest`, a backup's id, or the path of a dump that this collection has not taken.
        jobs: tables and indexes to load and to compare at the same time.
        max_replica_lag_bytes: how far replicas may be behind; None for any.
    """

    db: str
    backup: str
    force: bool
    jobs: int
    scratch_dir: str
    bin_dir: str | None
    check_space: bool
    keep_failed: bool
    accept_unproven: bool
    analyze: bool
    nice: int
    max_replica_lag_bytes: int | None = None
    smoke_queries: Sequence[SmokeQuery] = ()
    accept: Sequence[str] = ()
    allow: Sequence[str] = ()

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        databases.refuse_maintenance_db(self.db)


@dataclass(frozen=True)
class SwapPlan(Plan):
    """What the operator wants of a swap.

    Attributes:
        replacement: `staged` or `replaced` (the newest that is marked so for this database), or a database's name.
        keep_old_s: seconds to keep what is replaced.
        grace_s: seconds that running transactions may go on.
        block_s: seconds that new connections may wait at a time.
    """

    db: str
    replacement: str
    keep_old_s: float
    grace_s: float
    block_s: float
    attempts: int
    allow: Sequence[str] = ()

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        databases.refuse_maintenance_db(self.db)


@dataclass(frozen=True)
class DiscardPlan(Plan):
    """What the operator wants dropped; `due_only` spares what is still to be kept."""

    db: str
    due_only: bool
