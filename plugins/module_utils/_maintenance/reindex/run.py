# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild indexes one by one, each whole or as it was: what a rebuild leaves when it ends early is dropped at once.

If we are killed, or the server is, the next run drops it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..._errors import Locked, QueryFailed
from ..._postgres import primary, sqlstate
from ..._postgres.connection import Server, Session
from ..._postgres.statements import compose
from ..._target.base import Target
from ..._units import human_duration, to_rfc3339
from .. import autovacuum, causes
from .. import sql as brakes_sql
from ..limits import Brakes, Limits
from . import choose, indexes, leftovers, sql
from .choose import Item, ReindexCandidates, Reindexed, ReindexPlan
from .indexes import Index
from .leftovers import Leftover, Worker
from .room import Room

_LOOK_EVERY_S = 0.2
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CLEAN_TIMEOUT_S = 5.0
_LONGEST_TIMEOUT_MS = 2**31 - 1
_SET_LOCK_TIMEOUT = "SELECT pg_catalog.set_config('lock_timeout', %s, false)"
# A lock was not to be had in time; a deadlock, which waiting for each other's snapshots can be.
_LOCKED, _DEADLOCK = sqlstate.LOCK_NOT_AVAILABLE, sqlstate.DEADLOCK_DETECTED
_CANCELLED, _NOT_UNIQUE, _EXCLUDED, _NO_RIGHT = (
    sqlstate.QUERY_CANCELED,
    sqlstate.UNIQUE_VIOLATION,
    sqlstate.EXCLUSION_VIOLATION,
    sqlstate.INSUFFICIENT_PRIVILEGE,
)
_FULL = sqlstate.DISK_FULL
_MORE_ROOM = "Free space, or rebuild smaller indexes first: they are done all the same."
_AGAIN = "Run it again later."
_IN_THE_WAY = "Run it again when that is over, or raise lock_timeout, retries or max_transaction_age."


class _Stop(Exception):
    """Nothing more is to be begun; the text says why. `broken`: that is a failure, and not a brake."""

    def __init__(self, why: str, *, broken: bool = False) -> None:
        super().__init__(why)
        self.broken = broken


@dataclass(frozen=True)
class _Fate:
    """How one piece of work ended: `done`, `failed`, `left` or `skipped`; and whether to try it `again`."""

    state: str
    why: str = ""
    remedy: str = ""
    attempts: int = 0
    again: bool = False


def run(
    server: Server, target: Target, plan: ReindexPlan, limits: Limits, clock: Callable[[], datetime], *, rehearsal: bool
) -> Reindexed:
    """Do what is due, or in a rehearsal say what would be.

    Raises:
        InvalidInput: the server is a standby.
        Locked: somebody else does the same in this database.
        ObjectNotFound: a table or an index that is named is not there.
    """
    # The age of transactions is judged index by index: a rebuild that is under way is not given up for it.
    limits = replace(limits, max_transaction_s=None)
    with ExitStack() as stack:
        control = stack.enter_context(server.connect(plan.db, settings=indexes.LOOK_SETTINGS))
        primary.require(control, "REINDEX", server.login.host)
        watch = stack.enter_context(server.connect(plan.db))
        work = stack.enter_context(server.connect(plan.db, settings=_settings(plan)))
        brakes = Brakes(limits, watch, target, clock)
        pids = [each.value(brakes_sql.BACKEND_PID) for each in (control, work, watch)]
        if not rehearsal and not control.value(sql.LOCK):
            raise Locked("Another reindex of this database is under way", subject=repr(plan.db),
                         remedy="Wait for it to end, then run again.")  # fmt: skip
        try:
            with brakes.watching(control):  # so that a signal need not wait for a long measurement
                outlook = choose.choose(control, plan, leftovers.workers(control, pids))
        except QueryFailed:
            if brakes.stopped_by is None:
                raise
            return Reindexed(stopped_by=brakes.stopped_by)
        worker = _Worker(control, work, brakes, plan, Room(control, target, plan), pids)
        return worker.rehearse(outlook) if rehearsal else worker.do(outlook)


def _settings(plan: ReindexPlan) -> Mapping[str, str]:
    """Of the session that works. Where transactions are read-only by default, REINDEX is allowed, DROP INDEX is not."""
    timeout = plan.statement_timeout_s
    return {
        "statement_timeout": "0" if timeout is None else f"{max(1, round(timeout * 1000))}ms",
        "default_transaction_read_only": "off",
    }


class _Worker:
    def __init__(
        self, control: Session, work: Session, brakes: Brakes, plan: ReindexPlan, room: Room, pids: Sequence[int]
    ) -> None:
        self._control = control
        self._work = work
        self._brakes = brakes
        self._plan = plan
        self._room = room
        self._pids = list(pids)
        self._remains: list[Leftover] = []

    def rehearse(self, outlook: ReindexCandidates) -> Reindexed:
        """What would be done now."""
        done = self._begin(outlook)
        done.stopped_by = self._brakes.check()
        if self._brakes.limits.opens:
            done.notes.append(f"The maintenance window is closed; it opens at {to_rfc3339(self._brakes.limits.opens)}.")
        items = [self._foresee(item) if item.state == "due" else item for item in outlook.items]
        return replace(done, items=items, remains=list(outlook.remains))

    def _foresee(self, item: Item) -> Item:
        if autovacuum.busy(self._control, [item.index.table_oid]):
            return replace(item, state="skipped", why=autovacuum.BUSY, remedy=_AGAIN)
        why = self._room.problem(item)
        if why:
            return replace(item, state="failed", why=why, remedy=_MORE_ROOM)
        rows = self._obstacles(item.index, self._plan.max_transaction_s, snapshots=self._plan.concurrently)
        return replace(item, state="left", why=f"it would wait for {_describe(rows[0])}") if rows else item

    def do(self, outlook: ReindexCandidates) -> Reindexed:
        """Do it, until it is done or has to stop."""
        done = self._begin(outlook)
        self._remains, items = list(outlook.remains), list(outlook.items)
        try:
            for at, left in enumerate(outlook.remains):
                if left.state == "due":
                    self._remains[at] = self._drop(left)
            for at, item in enumerate(items):
                if item.state == "due":
                    items[at] = self._rebuild(item)
                    if self._brakes.cancelled:  # though it was too late for this one
                        raise _Stop(self._brakes.stopped_by or "", broken=True)
        except _Stop as exc:
            done.stopped_by, done.broken = str(exc), exc.broken
        except QueryFailed as exc:
            if not exc.details.get("lost"):
                raise
            done.stopped_by, done.broken = exc.message, True
        why = (done.stopped_by or "").rstrip(".")
        done.remains = [replace(each, state="left", why=why) if each.state == "due" else each for each in self._remains]
        done.items = [replace(each, state="left", why=why) if each.state == "due" else each for each in items]
        return done

    def _begin(self, outlook: ReindexCandidates) -> Reindexed:
        done = Reindexed(
            unknown=outlook.unknown, judged=outlook.judged, named=bool(self._plan.indexes or self._plan.tables)
        )
        if outlook.items and self._room.note:
            done.notes.append(self._room.note)
        if outlook.items and not self._control.value(sql.SEES_OTHERS):
            done.notes.append("Long transactions of others cannot be seen: grant the login pg_read_all_stats.")
        return done

    # --- one piece of work

    def _drop(self, left: Leftover) -> Leftover:
        fate = self._attempt(left.index, lambda: leftovers.drop(self._work, left.index))
        if fate.state == "done":
            return replace(left, state="dropped")
        return replace(left, state="failed" if fate.state == "failed" else "left", why=fate.why)

    def _rebuild(self, item: Item) -> Item:
        why = self._room.problem(item)
        if why:
            return replace(item, state="failed", why=why, remedy=_MORE_ROOM)
        index = item.index
        if self._plan.concurrently and (left := self._left_of(index)):
            why = f"{left.index.identity}, which an interrupted rebuild of it has left, has to be dropped first"
            return replace(item, state="left", why=why)
        how = "CONCURRENTLY " if self._plan.concurrently else ""
        statement = compose(f"REINDEX INDEX {how}{{}}.{{}}", index.schema, index.name)
        started = time.monotonic()
        fate = self._attempt(index, lambda: self._work.execute(statement), rebuilds=True)
        item = replace(item, duration_s=round(time.monotonic() - started, 3), attempts=fate.attempts)
        if fate.state != "done":
            return replace(item, state=fate.state, why=fate.why, remedy=fate.remedy)
        now = self._control.query(sql.NOW, {"schema": index.schema, "name": index.name})
        if now and not now[0].usable:
            return replace(item, state="failed", why="it is still invalid", remedy="See the server's log.")
        return replace(item, state="rebuilt", size_after_bytes=self._size(now[0].oid) if now else None)

    def _size(self, oid: int) -> int | None:
        with suppress(QueryFailed):  # somebody has locked it meanwhile
            size = self._control.value(sql.SIZE, (oid,))
            return None if size is None else int(size)
        return None

    def _attempt(self, index: Index, act: Callable[[], None], *, rebuilds: bool = False) -> _Fate:
        """Try, and try again after a growing pause when it was only a lock.

        Raises:
            _Stop: a brake, or the connection was lost.
        """
        for attempt in range(self._plan.retries + 1):
            fate = self._once(index, act, rebuilds=rebuilds)
            fate = replace(fate, attempts=attempt + fate.attempts)
            if not fate.again or attempt == self._plan.retries:
                return fate
            time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
        raise AssertionError("not reached: the last attempt returns or raises")

    def _once(self, index: Index, act: Callable[[], None], *, rebuilds: bool) -> _Fate:
        snapshots = rebuilds and self._plan.concurrently
        self._go_on()
        if autovacuum.busy(self._control, [index.table_oid]):
            return _Fate("skipped", autovacuum.BUSY, _AGAIN)
        waiting = self._wait(index, snapshots=snapshots)
        if waiting:
            return _Fate("left", waiting)
        worker = self._wait_for_table(index) if snapshots else None
        if worker is not None:
            return _Fate("failed", f"another session is in the way: {worker}", _IN_THE_WAY, attempts=1, again=True)
        exc = self._guarded(index, act, self._plan.patience_s if rebuilds else self._plan.lock_timeout_s)
        if exc is None:
            return _Fate("done", attempts=1)
        if exc.details.get("lost"):
            raise _Stop(f"{exc.what} while {index.identity} was worked on: {exc.why}.", broken=True)
        ended = self._brakes.ended(exc, index.identity, self._plan.statement_timeout_s)
        if snapshots and self._replaced(index):
            return _Fate("done", attempts=1)
        if ended:
            raise _Stop(self._brakes.stopped_by or "", broken=self._brakes.cancelled)
        # Who has waited for transactions as long as he may would only build it again; and while what this attempt has
        # built is still there, another one would leave one more.
        for_locks = (_DEADLOCK,) if snapshots else (_LOCKED, _DEADLOCK)
        locked = causes.state_of(exc) in for_locks and not causes.in_function(exc)
        again = locked and self._left_of(index) is None
        return replace(self._explain(index, exc), attempts=1, again=again)

    def _go_on(self) -> None:
        reason = self._brakes.check()
        if reason:
            raise _Stop(reason)

    def _guarded(self, index: Index, act: Callable[[], None], lock_timeout_s: float) -> QueryFailed | None:
        """Do it, and drop what it leaves when it fails, whatever ends it; returns the server's refusal."""
        self._limit(lock_timeout_s)
        try:
            try:
                with self._brakes.watching(self._work):
                    act()
            except QueryFailed as exc:
                if not exc.details.get("lost"):
                    self._clean(index)
                return exc
        except BaseException:
            self._clean(index)
            raise
        return None

    def _limit(self, lock_timeout_s: float) -> None:
        milliseconds = min(_LONGEST_TIMEOUT_MS, round(lock_timeout_s * 1000))
        self._work.query(_SET_LOCK_TIMEOUT, (f"{milliseconds}ms",))

    def _replaced(self, index: Index) -> bool:
        """Whether the new index has taken the place of the old one, which then is all that was left to do away with."""
        now = self._control.query(sql.NOW, {"schema": index.schema, "name": index.name})
        return bool(now) and now[0].usable and now[0].oid != index.oid

    def _clean(self, index: Index) -> None:
        """Drop what a rebuild of this index has left, and note what cannot be dropped now: the next run does it."""
        with suppress(QueryFailed):
            self._limit(_CLEAN_TIMEOUT_S)
            for left in leftovers.of_rebuild(index, indexes.read(self._control, [index.table_schema])):
                try:
                    leftovers.drop(self._work, left)
                except QueryFailed as exc:
                    why = f"a rebuild of {index.identity} was interrupted, and it cannot be dropped yet ({exc.why})"
                    if left.oid not in [each.index.oid for each in self._remains]:
                        self._remains.append(Leftover(left, "drop", why, "left", of=index.identity))

    def _left_of(self, index: Index) -> Leftover | None:
        """What a rebuild of this index has left, and is still there."""
        there = (each for each in self._remains if each.of == index.identity and each.state != "dropped")
        return next(there, None)

    # --- who is in the way

    def _wait(self, index: Index, *, snapshots: bool) -> str:
        """Wait for transactions that would keep it waiting, for as long as the plan allows; who they are, or nothing.

        Raises:
            _Stop: a brake; or one of them would keep every rebuild in this database waiting.
        """
        deadline = time.monotonic() + self._plan.wait_s
        while True:
            rows = self._obstacles(index, self._plan.max_transaction_s, snapshots=snapshots)
            if not rows:
                return ""
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_EVERY_S)
            self._go_on()
        text = _describe(rows[0])
        if not rows[0].held:
            raise _Stop(f"Every concurrent rebuild here would wait for {text}.")
        return f"it would wait for {text}"

    def _wait_for_table(self, index: Index) -> Worker | None:
        """Wait until nobody keeps a concurrent rebuild from beginning, for `lock_timeout`; who still does, or nobody.

        Raises:
            _Stop: a brake.
        """
        deadline = time.monotonic() + self._plan.lock_timeout_s
        while True:
            worker = leftovers.workers(self._control, self._pids).get(index.table_oid)
            if worker is None or time.monotonic() >= deadline:
                return worker
            time.sleep(_LOOK_EVERY_S)
            self._go_on()

    def _obstacles(self, index: Index, age_s: float, *, snapshots: bool) -> list[Any]:
        """The oldest first, but those before that have a lock on the table only."""
        values = {"pids": self._pids, "age_s": age_s, "relations": [index.table_oid, index.oid]}
        rows = [row for row in self._control.query(sql.OLD_TRANSACTIONS, values) if row.held or snapshots]
        return sorted(rows, key=lambda row: (row.held, -row.age_s))

    def _explain(self, index: Index, exc: QueryFailed) -> _Fate:
        """What a refusal means for the index."""
        absent = causes.absent(self._control, index.oid, index.schema, index.name)
        if absent:
            named = causes.asked_for(self._plan.indexes, index.schema, index.name)
            return _Fate("failed" if named else "skipped", absent)
        why, remedy = causes.reason(exc), causes.remedy(exc, self._work.server_version)
        state = causes.state_of(exc)
        if causes.in_function(exc):
            return _Fate("failed", why, remedy or "See to the function, then run it again.")
        if state in (_LOCKED, _DEADLOCK):
            rows = self._obstacles(index, 0.0, snapshots=self._plan.concurrently)
            if rows:
                holder = _describe(max(rows, key=lambda row: (row.held, row.age_s)))
                return _Fate("failed", f"another session is in the way: {holder} ({why})", _IN_THE_WAY)
            return _Fate("failed", f"{why}; the lock is free now", _IN_THE_WAY)
        if state in (_NOT_UNIQUE, _EXCLUDED):
            columns = ", ".join(index.key_texts)
            where = f" WHERE {index.predicate}" if index.predicate else ""
            # For people to run: the names are quoted by the server, and nothing here sends it.
            find = (
                f"SELECT {columns}, count(*) FROM {index.table_identity}{where} GROUP BY {columns} HAVING count(*) > 1;"  # noqa: S608
            )
            why = f"its rows are not unique, so that it cannot be made valid ({why})"
            return _Fate("failed", why, f"Find them: {find}")
        if state == _CANCELLED:
            return _Fate("failed", why, "Run it again, with a longer statement_timeout.")
        if state == _FULL:
            return _Fate("failed", why, _MORE_ROOM)
        if state == _NO_RIGHT:
            remedy = "Use the owner's login, or a superuser's."
        return _Fate("failed", why, remedy or "See the server's log, then run it again.")


def _describe(row: Any) -> str:
    who = row.application if row.pid is None else f"process {row.pid}"
    program = f" ({row.application})" if row.pid is not None and row.application else ""
    query = f": {row.query}" if row.query else ""
    return f"{who} of {row.user}{program}, {row.state} for {human_duration(row.age_s)}{query}"
