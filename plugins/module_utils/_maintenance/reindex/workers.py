# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions that work on tables now, and keep a build of an index from beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..._postgres.connection import Session
from . import sql


@dataclass(frozen=True)
class Worker:
    """A session that holds a lock on a table which only one can hold; a prepared transaction has no process."""

    pid: int | None
    user: str
    application: str
    command: str

    def __str__(self) -> str:
        """For people."""
        if self.pid is None:
            return "a prepared transaction (see pg_prepared_xacts)"
        name = f" ({self.application})" if self.application else ""
        return f"process {self.pid} of {self.user or 'an unknown role'}{name}, {self.command}"


def workers(session: Session, pids: Sequence[int]) -> dict[int, Worker]:
    """Which session works on which table now, but for these processes, which are ours."""
    rows = session.query(sql.WORKERS, {"pids": list(pids)})
    return {row.table_oid: Worker(row.pid, row.user or "", row.application or "", row.command) for row in rows}
