# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sessions that a rebuild would have to wait for, and waiting for them."""

from __future__ import annotations

import time
from typing import Any

from ..._units import human_duration
from ..work import Stop, WorkLoop
from . import sql
from .choose import ReindexPlan
from .indexes import Index
from .workers import Worker, workers

_LOOK_EVERY_S = 0.2


class RebuildObstacles:
    """What a rebuild would wait for. Check mode looks, and does not wait."""

    def __init__(self, work: WorkLoop, plan: ReindexPlan) -> None:
        """Nothing is looked at yet."""
        self._work = work
        self._plan = plan

    def wait(self, index: Index, *, snapshots: bool) -> str:
        """Wait for old transactions to end, for as long as the plan allows; what would still be waited for, or empty.

        Raises:
            Stop: a load limit is reached; or every rebuild in this database would wait for one of them.
        """
        deadline = time.monotonic() + (0.0 if self._work.check_mode else self._plan.wait_for_transactions_s)
        while True:
            rows = self.transactions(index, self._plan.max_transaction_age_s, snapshots=snapshots)
            if not rows:
                return ""
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY_S)
            self._work.go_on()
        text = describe(rows[0])
        if not rows[0].held:
            raise Stop(f"Every concurrent rebuild in this database would wait for {text}.")
        return f"it would wait for {text}"

    def wait_for_table(self, index: Index) -> Worker | None:
        """Wait until a concurrent rebuild can begin, for `lock_timeout`; the session that still prevents it, or None.

        Raises:
            Stop: a load limit is reached.
        """
        deadline = time.monotonic() + self._plan.lock_timeout_s
        while True:
            worker = workers(self._work.control, self._work.pids).get(index.table_oid)
            if worker is None or time.monotonic() >= deadline:
                return worker
            time.sleep(_LOOK_EVERY_S)
            self._work.go_on()

    def transactions(self, index: Index, age_s: float, *, snapshots: bool) -> list[Any]:
        """Those older than this: the oldest first, but those before that have a lock on the table only."""
        values = {"pids": self._work.pids, "age_s": age_s, "relations": [index.table_oid, index.oid]}
        rows = [row for row in self._work.control.query(sql.OLD_TRANSACTIONS, values) if row.held or snapshots]
        return sorted(rows, key=lambda row: (row.held, -row.age_s))


def describe(row: Any) -> str:
    """A transaction, for people."""
    process = row.application if row.pid is None else f"process {row.pid}"
    program = f" ({row.application})" if row.pid is not None and row.application else ""
    query = f": {row.query}" if row.query else ""
    return f"{process} of {row.user}{program}, {row.state} for {human_duration(row.age_s)}{query}"
