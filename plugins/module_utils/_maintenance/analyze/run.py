# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ANALYZE what has stale or missing statistics, table by table, and see that it had an effect."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..._errors import InvalidInput, QueryFailed
from ..._findings import Finding
from ..._postgres import primary, sqlstate
from ..._postgres.connection import Server, Session
from ..._postgres.statements import compose
from ..._target.base import Target
from ..._units import human_duration, to_rfc3339
from .. import autovacuum, causes
from ..limits import Brakes, Limits
from . import sql
from .tables import AnalyzePlan, Item, State, Table, coarse, judge, read, read_children

_STAGES = (1, 10)  # before the one with the server's own target; as vacuumdb --analyze-in-stages
_ONLY, _BUFFER_LIMIT = 180000, 160000
_SHARED_STATISTICS = 150000  # before it, a collector writes them every half second
_COLLECTOR_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.05
_LOCKED = sqlstate.LOCK_NOT_AVAILABLE


@dataclass
class Analyzed:
    """What was done. `stopped_by` is the reason to stop early, a sentence; `broken`: that is a failure."""

    items: list[Item] = field(default_factory=list)
    judged: int = 0
    named: bool = False
    stopped_by: str | None = None
    broken: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was analyzed, be it only in an early stage."""
        return any(each.duration_s is not None for each in self.items)

    def of(self, *states: str) -> list[Item]:
        """The tables with one of these states."""
        return [each for each in self.items if each.state in states]

    @property
    def failure(self) -> str | None:
        """Why the task fails: it broke off, or a table that was named, or every one, could not be done."""
        failed = self.of("failed")
        if self.broken:
            return self.stopped_by
        if failed and (self.named or not self.of("analyzed")):
            return f"{len(failed)} tables could not be analyzed: " + "; ".join(
                f"{each.table.identity} ({each.why.rstrip('.')})" for each in failed
            )
        return None


def run(
    server: Server, target: Target, plan: AnalyzePlan, limits: Limits, clock: Callable[[], datetime], *, rehearsal: bool
) -> Analyzed:
    """Do what is due, or in a rehearsal say what would be.

    Raises:
        ObjectNotFound: a table that is named is not there.
        InvalidInput: the server is a standby, or too old for an option.
    """
    timeout = plan.statement_timeout_s
    settings = {
        "lock_timeout": f"{round(plan.lock_timeout_s * 1000)}ms",
        "statement_timeout": "0" if timeout is None else f"{max(1, round(timeout * 1000))}ms",
    }
    with ExitStack() as stack:
        control = stack.enter_context(server.connect(plan.db, settings={"jit": "off", "lock_timeout": "10s"}))
        primary.require(control, "ANALYZE", server.login.host)
        watch = stack.enter_context(server.connect(plan.db))
        work = stack.enter_context(server.connect(plan.db, settings=settings))
        if plan.buffer_usage_limit_kb is not None and work.server_version < _BUFFER_LIMIT:
            raise InvalidInput("buffer_usage_limit needs PostgreSQL 16", remedy="Leave it out.")
        brakes = Brakes(limits, watch, target, clock)
        tables = read(control, plan.schemas)
        items = judge(
            tables,
            read_children(control),
            plan,
            only=work.server_version >= _ONLY,
            coarse=coarse(control, tables) if plan.in_stages else (),
        )
        done = Analyzed(items, judged=len(tables), named=bool(plan.tables))
        if not control.value(sql.READS_STATISTICS):
            done.notes.append("The login is no superuser: only statistics that it may read are judged missing.")
        if rehearsal:
            done.stopped_by = brakes.check()
            done.items[:] = [_unless_busy(control, item) for item in done.items]
            if limits.opens:
                done.notes.append(f"The maintenance window is closed; it opens at {to_rfc3339(limits.opens)}.")
        else:
            _Worker(control, work, brakes, plan).do(done)
        return done


def _unless_busy(session: Session, item: Item) -> Item:
    """The item, skipped if autovacuum is vacuuming one of its tables, which ANALYZE would put an end to."""
    tables = [item.table.oid, *item.covers]
    if item.state == "due" and autovacuum.busy(session, tables, vacuum_only=True):
        return replace(item, state="skipped", why=autovacuum.BUSY)
    return item


class _Worker:
    def __init__(self, control: Session, work: Session, brakes: Brakes, plan: AnalyzePlan) -> None:
        self._control = control
        self._work = work
        self._brakes = brakes
        self._plan = plan

    def do(self, done: Analyzed) -> None:
        """Do it, until it is done or has to stop."""
        stages: Sequence[int | None] = (*_STAGES, None) if self._plan.in_stages else (None,)
        try:
            for stage in stages:
                self._begin_stage(stage)
                for at, item in enumerate(done.items):
                    if item.state == "due" and (stage is None or item.reason == "missing"):
                        done.stopped_by = self._brakes.check()
                        if done.stopped_by is None:
                            done.items[at] = self._one(item, last=stage is None)
                            done.stopped_by, done.broken = self._brakes.stopped_by, self._brakes.cancelled
                        if done.stopped_by:
                            return
        except QueryFailed as exc:
            if not exc.details.get("lost"):
                raise
            done.stopped_by, done.broken = exc.message, True
        finally:
            self._finish(done)

    def _begin_stage(self, stage: int | None) -> None:
        """As vacuumdb does: the first stage takes no breaks, for queries wait for it."""
        for name, value in (("default_statistics_target", stage), ("vacuum_cost_delay", 0 if stage == 1 else None)):
            if value is None:
                self._work.query(f"RESET {name}")
            else:
                self._work.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, str(value)))

    def _one(self, item: Item, *, last: bool) -> Item:
        item = _unless_busy(self._control, item)
        if item.state != "due":
            return item
        started = time.monotonic()
        try:
            with self._brakes.watching(self._work):
                self._work.execute(self._statement(item.table))
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise
            if self._brakes.ended(exc, item.table.identity, self._plan.statement_timeout_s):
                return item
            return self._refused(item, exc)
        taken = round((item.duration_s or 0.0) + time.monotonic() - started, 3)
        return replace(item, state="analyzed" if last else "due", duration_s=taken)

    def _statement(self, table: Table) -> Any:
        options = ["SKIP_LOCKED"] if self._plan.skip_locked else []
        limit = self._plan.buffer_usage_limit_kb
        if limit is not None:
            options.append("BUFFER_USAGE_LIMIT {limit}")
        words = f"({', '.join(options)}) " if options else ""
        only = "ONLY " if self._work.server_version >= _ONLY else ""
        return compose(f"ANALYZE {words}{only}{{}}.{{}}", table.schema, table.name, limit=f"{limit}kB")

    def _refused(self, item: Item, exc: QueryFailed) -> Item:
        """The item with what the server's refusal means."""
        table = item.table
        absent = causes.absent(self._control, table.oid, table.schema, table.name)
        if absent:
            named = causes.asked_for(self._plan.tables, table.schema, table.name)
            return replace(item, state="failed" if named else "skipped", why=absent)
        if causes.state_of(exc) == _LOCKED and not causes.in_function(exc):
            why = f"it was locked for longer than {human_duration(self._plan.lock_timeout_s)}"
            holders = causes.holders(self._control, table.oid)
            return replace(
                item, state="failed", why=f"{why}, by {holders}" if holders else f"{why}; the lock is free now"
            )
        remedy = causes.remedy(exc, self._work.server_version)
        return replace(item, state="failed", why=causes.reason(exc), remedy=remedy)

    def _finish(self, done: Analyzed) -> None:
        """See what the server has counted since: without the right, or with a lock to skip, ANALYZE only warns."""
        with suppress(QueryFailed):
            counted = causes.counts(self._control)
            if not counted:
                done.notes.append("track_counts is off: the server does not count what ANALYZE did.")
            states = self._states(done)
            for at, item in enumerate(done.items):
                if item.state != "analyzed":
                    continue
                now = states.get(item.table.oid)
                if counted and now is not None and now.by_hand == item.table.state.by_hand:
                    holders = causes.holders(self._control, item.table.oid)
                    why = f"the server skipped it: it is locked by {holders}" if holders else "the server skipped it"
                    done.items[at] = replace(item, state="skipped", why=why, duration_s=None)
                else:
                    done.items[at] = replace(item, after=now)
        why = (done.stopped_by or "").rstrip(".")
        done.items[:] = [replace(each, state="left", why=why) if each.state == "due" else each for each in done.items]

    def _states(self, done: Analyzed) -> dict[int, State]:
        """What is counted now. A collector is waited for, so that another run sees what this one did."""
        wanted = {oid: item.table.state.by_hand for item in done.of("analyzed") for oid in (item.table.oid,)}
        also = [oid for item in done.of("analyzed") for oid in item.covers]
        patience = _COLLECTOR_PATIENCE_S if self._work.server_version < _SHARED_STATISTICS else 0.0
        deadline = time.monotonic() + patience
        while True:
            rows = self._control.query(sql.STATES, ([*wanted, *also],))
            found = {row.oid: State(row.live, row.changes, row.by_hand, row.by_itself) for row in rows}
            behind = [oid for oid, before in wanted.items() if oid in found and found[oid].by_hand == before]
            behind += [oid for oid in also if oid in found and found[oid].changes]
            if not behind or time.monotonic() >= deadline:
                return found
            time.sleep(_LOOK_EVERY_S)


# --- what to say of it


def findings(done: Analyzed) -> list[Finding]:
    """What somebody has to know of."""
    found = [
        Finding(
            check=f"analyze_{each.state}",
            severity="warning" if each.state == "failed" else "info",
            subject=each.table.identity,
            value=each.reason,
            threshold=None,
            message=f"{each.table.identity} was not analyzed: {each.why.rstrip('.')}.",
            remedy="Run it again."
            if each.state == "skipped"
            else f"{each.remedy} When the reason is gone: ANALYZE {each.table.identity};".strip(),
        )
        for each in done.of("failed", "skipped")
    ]
    left = done.of("left")
    if left:
        names = ", ".join(each.table.identity for each in left[:5])
        text = f"{len(left)} tables are left to be analyzed. {done.stopped_by or ''}".strip()
        found.append(
            Finding("analyze_left", "warning", names, len(left), 0, text, "Run it again; it goes on from there.")
        )
    return found


def values(done: Analyzed) -> dict[str, object]:
    """The values of a module's result."""
    return {
        "tables": [each.as_dict() for each in done.items],
        "judged": done.judged,
        "left": [each.table.identity for each in done.of("left", "failed")],
        "stopped_by": done.stopped_by,
        "notes": done.notes,
    }


def describe(done: Analyzed, *, rehearsal: bool) -> str:
    """One sentence for people."""
    worked = done.of("due" if rehearsal else "analyzed")
    if worked:
        text = f"{len(worked)} of {done.judged} tables {'would be' if rehearsal else 'were'} analyzed."
    else:
        text = f"Nothing to do for {done.judged} tables." if not done.items else "No table was analyzed."
    for state, word in (("failed", "Failed"), ("skipped", "Skipped"), ("left", "Left")):
        names = [each.table.identity for each in done.of(state)]
        text += f" {word}: {', '.join(names[:10])}." if names else ""
    return f"{text} {done.stopped_by}" if done.stopped_by else text


def difference(done: Analyzed) -> dict[str, str]:
    """What is, or would be, other than before, for people: `before` and `after`."""
    worked = done.of("due", "analyzed")
    before = [f"{each.table.identity}: {each.about}" for each in worked]
    after = [f"{each.table.identity}: fresh statistics" for each in worked]
    return {"before": "\n".join([*before, ""]), "after": "\n".join([*after, ""])}
