# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ANALYZE what has stale or missing statistics, table by table, and see that it had an effect."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..._errors import InvalidInput, QueryFailed, RunbookError
from ..._postgres import sqlstate
from ..._postgres.connection import Server
from ..._postgres.statements import compose
from ..._target.base import Target
from ..._units import human_duration
from .. import autovacuum, causes
from ..limits import Limits
from ..outcome import Outcome, RunReport, Words, conclude
from ..work import Item, Subject, WorkLoop, begin, timeouts
from . import sql
from .tables import AnalyzePlan, AnalyzeState, AnalyzeTable, AnalyzeTask, choose, coarse, read, read_children

_STAGES = (1, 10)  # before the one with the server's own target; as vacuumdb --analyze-in-stages
_ONLY, _BUFFER_LIMIT = 180000, 160000
_SHARED_STATISTICS = 150000  # before it, a collector writes them every half second
_COLLECTOR_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.05
_LOCKED = sqlstate.LOCK_NOT_AVAILABLE
_WORDS = Words("ANALYZE", "analyze", "table", "tables", "analyzed")
AnalyzeItem = Item[AnalyzeTask]


def run(
    server: Server,
    target: Target,
    plan: AnalyzePlan,
    limits: Limits,
    clock: Callable[[], datetime],
    *,
    check_mode: bool,
) -> Outcome:
    """Analyze what is due, or in check mode say what would be.

    Raises:
        ObjectNotFound: a table that is listed does not exist.
        InvalidInput: the server is a standby, or too old for an option.
    """
    settings = timeouts(plan.lock_timeout_s, plan.statement_timeout_s)
    with begin(server, target, plan.db, "ANALYZE", limits, clock, settings=settings, check_mode=check_mode) as work:
        if plan.buffer_usage_limit_bytes is not None and work.session.server_version < _BUFFER_LIMIT:
            raise InvalidInput("buffer_usage_limit needs PostgreSQL 16", remedy="Remove the option.")
        tables = read(work.control, plan.schemas)
        items = choose(
            tables,
            read_children(work.control),
            plan,
            only=work.session.server_version >= _ONLY,
            coarse=coarse(work.control, tables) if plan.in_stages else (),
        )
        if not work.control.value(sql.READS_STATISTICS):
            work.notes.append(
                "The login is not a superuser: missing statistics are found only in tables that the login may read."
            )
        subject = Analyze(work, plan)
        for stage in subject.stages():
            subject.begin_stage(stage)
            chosen = [each for each in items if stage is None or each.reason == "missing"]
            found = {each.name: each for each in work.do(subject, chosen)}
            items = [found.get(each.name, each) for each in items]
        if not check_mode:
            items = subject.finish(items)
        return conclude(work, _WORDS, _report(items, plan, len(tables)))


class Analyze(Subject[AnalyzeTask]):
    """ANALYZE of one table after the other, in one stage or in several."""

    def __init__(self, work: WorkLoop, plan: AnalyzePlan) -> None:
        """Nothing is done yet."""
        self.statement_timeout_s = plan.statement_timeout_s
        self._control = work.control
        self._session = work.session
        self._check_mode = work.check_mode
        self._notes = work.notes
        self._plan = plan
        self._stage: int | None = None

    def stages(self) -> Sequence[int | None]:
        """The statistics targets, one stage after the other; None is the server's own."""
        return (*_STAGES, None) if self._plan.in_stages and not self._check_mode else (None,)

    def begin_stage(self, stage: int | None) -> None:
        """As vacuumdb does: the first stage takes no breaks, for queries wait for it."""
        self._stage = stage
        for name, value in (("default_statistics_target", stage), ("vacuum_cost_delay", 0 if stage == 1 else None)):
            if value is None:
                self._session.query(f"RESET {name}")
            else:
                self._session.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, str(value)))

    def look(self, item: AnalyzeItem) -> AnalyzeItem:
        """Skip it if autovacuum is vacuuming one of its tables, which ANALYZE would cancel."""
        tables = [item.facts.table.oid, *item.facts.covers]
        if autovacuum.busy(self._control, tables, vacuum_only=True):
            return item.become("skipped", autovacuum.BUSY)
        return item

    def act(self, item: AnalyzeItem) -> None:
        """Analyze it."""
        self._session.execute(self._statement(item.facts.table))

    def _statement(self, table: AnalyzeTable) -> Any:
        options = ["SKIP_LOCKED"] if self._plan.skip_locked else []
        limit = self._plan.buffer_usage_limit_bytes
        if limit is not None:
            options.append("BUFFER_USAGE_LIMIT {limit}")
        words = f"({', '.join(options)}) " if options else ""
        only = "ONLY " if self._session.server_version >= _ONLY else ""
        return compose(f"ANALYZE {words}{only}{{}}.{{}}", table.schema, table.name, limit=f"{(limit or 0) // 1024}kB")

    def examine(self, item: AnalyzeItem) -> AnalyzeItem:
        """After an early stage it stays due. Whether it had an effect shows in the end, see `finish`."""
        return replace(item, state="done" if self._stage is None else "due", changed=True)

    def refused(self, item: AnalyzeItem, exc: RunbookError) -> AnalyzeItem:
        """What the server's refusal means."""
        table = item.facts.table
        absent = causes.absent(self._control, table.oid, table.schema, table.name)
        if absent:
            explicit = causes.asked_for(self._plan.tables, table.schema, table.name)
            return item.become("failed" if explicit else "skipped", absent)
        if causes.state_of(exc) == _LOCKED and not causes.in_function(exc):
            why = f"it was locked for longer than lock_timeout ({human_duration(self._plan.lock_timeout_s)})"
            holders = causes.holders(self._control, table.oid)
            return item.become("failed", f"{why}, by {holders}" if holders else f"{why}; the lock is free now")
        return item.become("failed", causes.reason(exc), causes.remedy(exc, self._session.server_version))

    def finish(self, items: Sequence[AnalyzeItem]) -> list[AnalyzeItem]:
        """See what the server has counted since: without the privilege, or with a lock to skip, ANALYZE only warns."""
        found = list(items)
        with suppress(QueryFailed):
            counts = causes.counts(self._control)
            if not counts:
                self._notes.append("track_counts is off: the server does not count what ANALYZE did.")
            states = self._states([each.facts for each in items if each.state == "done"])
            for at, item in enumerate(found):
                if item.state == "done":
                    found[at] = self._with_effect(item, states.get(item.facts.table.oid), counts=counts)
        return found

    def _with_effect(self, item: AnalyzeItem, now: AnalyzeState | None, *, counts: bool) -> AnalyzeItem:
        table = item.facts.table
        if counts and now is not None and now.by_hand == table.state.by_hand:
            holders = causes.holders(self._control, table.oid)
            why = f"the server skipped it: it is locked by {holders}" if holders else "the server skipped it"
            return replace(item.become("skipped", why), changed=False)
        return replace(item, facts=replace(item.facts, after=now))

    def _states(self, tasks: Sequence[AnalyzeTask]) -> dict[int, AnalyzeState]:
        """What is counted now. A collector is waited for, so that another run sees what this one did."""
        wanted = {each.table.oid: each.table.state.by_hand for each in tasks}
        also = [oid for each in tasks for oid in each.covers]
        patience = _COLLECTOR_PATIENCE_S if self._session.server_version < _SHARED_STATISTICS else 0.0
        deadline = time.monotonic() + patience
        while True:
            rows = self._control.query(sql.STATES, ([*wanted, *also],))
            found = {row.oid: AnalyzeState(row.live, row.changes, row.by_hand, row.by_itself) for row in rows}
            behind = [oid for oid, before in wanted.items() if oid in found and found[oid].by_hand == before]
            behind += [oid for oid in also if oid in found and found[oid].changes]
            if not behind or time.monotonic() >= deadline:
                return found
            time.sleep(_LOOK_EVERY_S)


def _report(items: Sequence[AnalyzeItem], plan: AnalyzePlan, examined: int) -> RunReport:
    worked = [each for each in items if each.state in ("due", "done")]
    return RunReport(
        items,
        examined=examined,
        explicit=bool(plan.tables),
        before=[f"{each.name}: {each.why}" for each in worked],
        after=[f"{each.name}: fresh statistics" for each in worked],
    )
