# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild indexes one by one, each whole or as it was: what a rebuild leaves when it ends early is dropped at once.

What it leaves when the module or the server is killed, the next run drops.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Protocol, TypeVar

from ..._errors import Locked, QueryFailed, RunbookError
from ..._postgres import sqlstate
from ..._postgres.connection import Server
from ..._postgres.statements import compose
from ..._target.base import Target
from .. import autovacuum, causes
from ..limits import Limits
from ..outcome import Outcome, conclude
from ..work import Item, ItemFacts, Subject, WorkLoop, begin, timeouts
from . import indexes, leftovers, report, sql
from .choose import OTHER_LOGIN, IndexRebuild, ReindexCandidates, ReindexPlan, choose
from .indexes import Index
from .leftovers import Leftover
from .obstacles import RebuildObstacles, describe
from .room import IndexRoom
from .workers import workers

_CLEAN_TIMEOUT_S = 5.0
_LONGEST_TIMEOUT_MS = 2**31 - 1
_SET_LOCK_TIMEOUT = "SELECT pg_catalog.set_config('lock_timeout', %s, false)"
# A lock timeout; a deadlock, which waiting for each other's snapshots can be.
_LOCKED, _DEADLOCK = sqlstate.LOCK_NOT_AVAILABLE, sqlstate.DEADLOCK_DETECTED
_CANCELLED, _NO_RIGHT = sqlstate.QUERY_CANCELED, sqlstate.INSUFFICIENT_PRIVILEGE
_NOT_UNIQUE, _EXCLUDED = sqlstate.UNIQUE_VIOLATION, sqlstate.EXCLUSION_VIOLATION
_FULL = sqlstate.DISK_FULL
_MORE_ROOM = "Free disk space; smaller indexes are rebuilt all the same."
_LATER = "Run it again later."
_BLOCKED = "Run it again when that session has ended, or raise lock_timeout, retries or max_transaction_age."


def run(
    server: Server,
    target: Target,
    plan: ReindexPlan,
    limits: Limits,
    clock: Callable[[], datetime],
    *,
    check_mode: bool,
) -> Outcome:
    """Rebuild what is due, or in check mode say what would be.

    Raises:
        InvalidInput: the server is a standby.
        Locked: another session does the same in this database.
        ObjectNotFound: a table or an index that is listed does not exist.
    """
    # The age of transactions is looked at index by index: a rebuild that has begun is not given up for it.
    limits = replace(limits, max_transaction_age_s=None)
    # Where transactions are read-only by default, REINDEX is allowed, and DROP INDEX is not.
    settings = {**timeouts(plan.lock_timeout_s, plan.statement_timeout_s), "default_transaction_read_only": "off"}
    with begin(server, target, plan.db, "REINDEX", limits, clock, settings=settings, check_mode=check_mode) as work:
        if not check_mode and not work.control.value(sql.LOCK):
            raise Locked("Another reindex of this database is running", subject=repr(plan.db),
                         remedy="Wait for it to end, then run this again.")  # fmt: skip
        busy = workers(work.control, work.pids)
        found = work.choose(lambda: choose(work.control, plan, busy)) or ReindexCandidates()
        room, obstacles = IndexRoom(work.control, target, plan), RebuildObstacles(work, plan)
        drops = Drop(work, plan, obstacles)
        drops.items = work.do(drops, found.leftovers)
        items = work.do(Rebuild(work, plan, obstacles, room, drops), found.items)
        if found.items and room.note:
            work.notes.append(room.note)
        if found.items and not work.lost and not work.control.value(sql.SEES_OTHERS):
            work.notes.append("Long transactions of other roles cannot be seen: grant the login pg_read_all_stats.")
        return conclude(work, report.WORDS, report.report(work, plan, found, items, drops.items, clock()))


class _OfIndex(ItemFacts, Protocol):
    @property
    def index(self) -> Index:
        """The index that is worked on."""


I = TypeVar("I", bound=_OfIndex)  # noqa: E741


class _IndexWork(Subject[I]):
    """What dropping and rebuilding an index have in common."""

    def __init__(self, work: WorkLoop, plan: ReindexPlan, obstacles: RebuildObstacles) -> None:
        self.statement_timeout_s = plan.statement_timeout_s
        self.retries = plan.retries
        self._control = work.control
        self._session = work.session
        self._check_mode = work.check_mode
        self._plan = plan
        self._obstacles = obstacles

    def _limit(self, lock_timeout_s: float) -> None:
        milliseconds = min(_LONGEST_TIMEOUT_MS, round(lock_timeout_s * 1000))
        self._session.query(_SET_LOCK_TIMEOUT, (f"{milliseconds}ms",))

    def _explain(self, item: Item[I], exc: RunbookError) -> Item[I]:
        """What a refusal means for the index."""
        index, state = item.facts.index, causes.state_of(exc)
        absent = causes.absent(self._control, index.oid, index.schema, index.name)
        if absent:
            explicit = causes.asked_for(self._plan.indexes, index.schema, index.name)
            return item.become("failed" if explicit else "skipped", absent)
        why, remedy = causes.reason(exc), causes.remedy(exc, self._session.server_version)
        if causes.in_function(exc):
            return item.become("failed", why, remedy or "Correct the function, then run it again.")
        if state in (_LOCKED, _DEADLOCK):
            rows = self._obstacles.transactions(index, 0.0, snapshots=self._plan.concurrently)
            if rows:
                holder = describe(max(rows, key=lambda row: (row.held, row.age_s)))
                return item.become("failed", f"it is blocked by {holder} ({why})", _BLOCKED)
            return item.become("failed", f"{why}; the lock is free now", _BLOCKED)
        if state in (_NOT_UNIQUE, _EXCLUDED):
            why = f"its rows are not unique, so it cannot become valid ({why})"
            return item.become("failed", why, f"Find them: {_duplicates(index)}")
        remedies = {
            _CANCELLED: "Run it again with a longer statement_timeout.",
            _FULL: _MORE_ROOM,
            _NO_RIGHT: OTHER_LOGIN,
        }
        return item.become("failed", why, remedies.get(state, remedy or "See the server's log, then run it again."))


def _duplicates(index: Index) -> str:
    """For people to run: the names are quoted by the server, and nothing here sends it."""
    columns = ", ".join(index.key_texts)
    where = f" WHERE {index.predicate}" if index.predicate else ""
    return f"SELECT {columns}, count(*) FROM {index.table_identity}{where} GROUP BY {columns} HAVING count(*) > 1;"  # noqa: S608


class Drop(_IndexWork[Leftover]):
    """Drop what interrupted rebuilds have left. `items` are all leftovers, with those of this run."""

    def __init__(self, work: WorkLoop, plan: ReindexPlan, obstacles: RebuildObstacles) -> None:
        """Nothing is done yet."""
        super().__init__(work, plan, obstacles)
        self.items: list[Item[Leftover]] = []

    def of(self, index: Index) -> Item[Leftover] | None:
        """What a rebuild of this index has left, and is still there."""
        there = (
            each for each in self.items if each.facts.of == index.identity and each.state not in ("done", "skipped")
        )
        return next(there, None)

    def look(self, item: Item[Leftover]) -> Item[Leftover]:
        """Leave it when its table is in use."""
        if autovacuum.busy(self._control, [item.facts.index.table_oid]):
            return item.become("left", autovacuum.BUSY)
        waiting = self._obstacles.wait(item.facts.index, snapshots=False)
        return item.become("left", waiting) if waiting else item

    def act(self, item: Item[Leftover]) -> None:
        """Drop it."""
        self._limit(self._plan.lock_timeout_s)
        leftovers.drop(self._session, item.facts.index)

    def examine(self, item: Item[Leftover]) -> Item[Leftover]:
        """It does not exist any more."""
        return replace(item, state="done")

    def refused(self, item: Item[Leftover], exc: RunbookError) -> Item[Leftover]:
        """Only a lock timeout or a deadlock is worth another attempt."""
        again = causes.state_of(exc) in (_LOCKED, _DEADLOCK) and not causes.in_function(exc)
        return replace(self._explain(item, exc), again=again)


class Rebuild(_IndexWork[IndexRebuild]):
    """Rebuild indexes, and drop at once what a rebuild leaves when it fails or is interrupted."""

    def __init__(
        self, work: WorkLoop, plan: ReindexPlan, obstacles: RebuildObstacles, room: IndexRoom, drops: Drop
    ) -> None:
        """Nothing is done yet."""
        super().__init__(work, plan, obstacles)
        self._room = room
        self._drops = drops

    def look(self, item: Item[IndexRebuild]) -> Item[IndexRebuild]:
        """Whether it has room, and what it would wait for."""
        index = item.facts.index
        if autovacuum.busy(self._control, [index.table_oid]):
            return item.become("skipped", autovacuum.BUSY, _LATER)
        why = self._room.problem(item.facts)
        if why:
            return item.become("failed", why, _MORE_ROOM)
        left = self._drops.of(index) if self._plan.concurrently else None
        if left is not None and left.state != "due":
            return item.become("left", f"{left.name}, a leftover of its interrupted rebuild, has to be dropped first")
        waiting = self._obstacles.wait(index, snapshots=self._plan.concurrently)
        if waiting:
            return item.become("left", waiting)
        if self._plan.concurrently and not self._check_mode:
            worker = self._obstacles.wait_for_table(index)
            if worker is not None:
                return item.become("failed", f"it is blocked by {worker}", _BLOCKED, again=True)
        return item

    def act(self, item: Item[IndexRebuild]) -> None:
        """Rebuild it."""
        index = item.facts.index
        self._limit(self._plan.patience_s)
        how = "CONCURRENTLY " if self._plan.concurrently else ""
        self._session.execute(compose(f"REINDEX INDEX {how}{{}}.{{}}", index.schema, index.name))

    def clean(self, item: Item[IndexRebuild]) -> None:
        """Drop what the rebuild has left, and note what cannot be dropped now: the next run does it."""
        index = item.facts.index
        with suppress(QueryFailed):
            self._limit(_CLEAN_TIMEOUT_S)
            for left in leftovers.of_rebuild(index, indexes.read(self._control, [index.table_schema])):
                try:
                    leftovers.drop(self._session, left)
                except QueryFailed as exc:
                    why = f"a rebuild of {index.identity} was interrupted, and it cannot be dropped yet ({exc.why})"
                    if left.oid not in [each.facts.index.oid for each in self._drops.items]:
                        kept = leftovers.item(left, leftovers.DROP, why, state="left", of=index.identity)
                        self._drops.items.append(kept)

    def examine(self, item: Item[IndexRebuild]) -> Item[IndexRebuild]:
        """Whether it is valid, and how large."""
        index = item.facts.index
        now = self._control.query(sql.NOW, {"schema": index.schema, "name": index.name})
        if now and not now[0].usable:
            return item.become("failed", "it is still invalid", "See the server's log.")
        size = self._size(now[0].oid) if now else None
        return replace(item, state="done", facts=replace(item.facts, size_after_bytes=size))

    def _size(self, oid: int) -> int | None:
        with suppress(QueryFailed):  # another session has locked it meanwhile
            size = self._control.value(sql.SIZE, (oid,))
            return None if size is None else int(size)
        return None

    def refused(self, item: Item[IndexRebuild], exc: RunbookError) -> Item[IndexRebuild]:
        """Done all the same if the new index is in its place: then dropping the old one was all that was left.

        A concurrent rebuild that has waited for transactions for as long as it may would only be built again, and while
        its leftover is there, another attempt would leave one more.
        """
        index, concurrently = item.facts.index, self._plan.concurrently
        if concurrently:
            now = self._control.query(sql.NOW, {"schema": index.schema, "name": index.name})
            if now and now[0].usable and now[0].oid != index.oid:
                return self.examine(item)
        for_locks = (_DEADLOCK,) if concurrently else (_LOCKED, _DEADLOCK)
        locked = causes.state_of(exc) in for_locks and not causes.in_function(exc)
        return replace(self._explain(item, exc), again=locked and self._drops.of(index) is None)
