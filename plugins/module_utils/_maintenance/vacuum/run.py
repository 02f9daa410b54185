# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VACUUM where it helps, table by table, and see what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from ..._errors import ConnectionFailed, QueryFailed, RunbookError
from ..._postgres import sqlstate
from ..._postgres.connection import Server
from ..._target.base import Target
from ..._units import human_duration, human_size, to_rfc3339
from .. import autovacuum, causes
from ..limits import Limits
from ..outcome import Outcome, conclude
from ..work import Stop, Subject, WorkLoop, begin
from . import ages, report, rewrite, sql, tables, xmin_horizon
from .plan import REPACK, VacuumPlan, has_database_stats
from .repack import Repack
from .report import VacuumRecord
from .tables import DEAD, FREEZE, VacuumItem, VacuumState, VacuumTable, VacuumTask

_STATISTICS_LAG_S = 3.0  # of the collector, before PostgreSQL 15
_NO_COLLECTOR = 150000
_MAINTAIN = 170000
_SAME_INSTANT_S = 0.05
_DROPPED = "it was dropped in the meantime"
Clock = Callable[[], datetime]


def run(server: Server, target: Target, plan: VacuumPlan, limits: Limits, clock: Clock, *, check_mode: bool) -> Outcome:
    """Vacuum what needs it, or in check mode say what would be.

    Raises:
        InvalidInput: the server is a standby, or an option does not work on it.
        ObjectNotFound: a table that is listed does not exist.
        ProgramMissing: pg_repack is not on the target.
    """
    record = VacuumRecord()

    def vacuum(plan: VacuumPlan, *, alone: bool) -> tuple[WorkLoop, list[VacuumItem], ages.Ages]:
        settings = plan.settings()
        with begin(
            server, target, plan.db, "VACUUM", limits, clock,
            settings=settings, check_mode=check_mode, programs=("pg_repack",),
        ) as work:  # fmt: skip
            subject = Vacuum(work, server, target, plan, record, clock)
            age = ages.Ages(server, plan, alone=alone)
            return work, subject.run(age), age

    work, items, age = vacuum(plan, alone=False)
    if not (plan.tables or plan.schemas or plan.rewrites or work.stopped_by):
        # Template databases, where no application works: only what is old in them is vacuumed.
        for name in age.old_templates():
            try:
                other, found, younger = vacuum(plan.aged_only(name), alone=True)
            except ConnectionFailed as exc:
                work.notes.append(f"The template database {name} nears wraparound: {exc.message}")
                continue
            found = [replace(each, name=f"{name}: {each.name}") for each in found]
            younger.tell(record, other, found)
            items += found
            work.add(other, name)
            if other.stopped_by:
                break
    age.tell(record, work, items)
    return conclude(work, report.WORDS, report.report(work, plan, items, record))


class Vacuum(Subject[VacuumTask]):
    """VACUUM, VACUUM FULL or pg_repack of the tables of one database, one after the other."""

    def __init__(
        self, work: WorkLoop, server: Server, target: Target, plan: VacuumPlan, record: VacuumRecord, clock: Clock
    ) -> None:
        """Refuse what this server cannot do; nothing is chosen yet.

        Raises:
            InvalidInput: the server does not know an option yet.
            ProgramMissing: pg_repack is not on the target.
        """
        self.statement_timeout_s = plan.statement_timeout_s
        self._work = work
        self._session = work.session
        self._target = target
        self._plan = plan
        self._record = record
        self._clock = clock
        settings = work.control.query(sql.SETTINGS)[0]
        plan.refuse_old(work.session.server_version, settings.version)
        self._freeze_min_age = int(settings.freeze_min_age)
        self._mxid_freeze_min_age = int(settings.mxid_freeze_min_age)
        self._counts = causes.counts(work.control)
        if not self._counts:
            work.notes.append("track_counts is off: dead rows are not counted, so most tables seem to need nothing.")
        self._forecast = rewrite.RewriteForecast()
        self._room: rewrite.RewriteRoom | None = None
        self._holders: Sequence[xmin_horizon.XminHolder] = ()
        self._repack = Repack(target, server, work.session, plan) if plan.method == REPACK else None
        if self._repack:
            self._repack.prepare()

    def run(self, age: ages.Ages) -> list[VacuumItem]:
        """Choose the tables and work on them; what came of each."""
        work, plan = self._work, self._plan
        items = work.choose(self._choose) or []
        if self._repack:
            self._record.cleaned += self._repack.clean(work.notes)
        if items:
            self._holders = xmin_horizon.holders(work.control)
        if items and plan.rewrites:
            self._room = rewrite.RewriteRoom(work.control, self._target)
            if not self._room.known:
                work.notes.append("The free space of the server cannot be checked, so a copy may not fit.")
        items = work.do(self, items)
        if not (plan.rewrites or work.stopped_by):
            frozen = any(each.reason == FREEZE and (each.changed or each.state in ("due", "done")) for each in items)
            self._finish(stale=frozen or age.stale())
        return items

    def _choose(self) -> list[VacuumItem]:
        control, plan = self._work.control, self._plan
        found, explicit = tables.read(control, plan)
        self._record.examined += sum(not each.system or bool(plan.schemas or plan.tables) for each in found)
        if plan.rewrites:
            return rewrite.choose(control, plan, found, explicit, self._work.notes)
        return ages.permitted(tables.choose(found, explicit, plan, self._freeze_min_age), self._record)

    def _finish(self, *, stale: bool) -> None:
        """Bring the database's own age up to date, which each VACUUM from PostgreSQL 16 on has left for the end.

        It can be older than all of its tables: those that were old may have been dropped, or vacuumed without that.
        """
        if not stale:
            return
        statement = "VACUUM (ONLY_DATABASE_STATS)"
        if not has_database_stats(self._session.server_version):
            statement = "VACUUM pg_catalog.pg_am"  # small, and each VACUUM does it at its end
        with suppress(QueryFailed):  # a lock, or no privilege: the age that stays is reported
            self._session.execute(statement)

    # --- right before the work

    def look(self, item: VacuumItem) -> VacuumItem:
        """Whether it can be done, has a use, and ends within the window."""
        plan, table = self._plan, item.facts.table
        self._in_time(item)
        if not table.allowed:
            why = "the login owns neither the table nor the database"
            why += ", and lacks MAINTAIN on it (role pg_maintain)" if self._session.server_version >= _MAINTAIN else ""
            return item.become("failed", why, "Use the login of the owner or of a superuser.")
        if plan.skip_locked and (holders := self._locked_by(table)):
            return item.become("skipped", f"it is locked by {holders}")
        if autovacuum.busy(self._session, [table.oid], toast=plan.process_toast is not False):
            return item.become("skipped", autovacuum.BUSY)
        before = tables.state(self._session, table.oid)
        if before is None:
            return self._dropped(item, _DROPPED)
        item = replace(item, facts=replace(item.facts, before=before, predicted_lock_s=self._predicted(item.facts)))
        holder = self._holder(item)
        if holder is not None:
            return item.become("skipped", self._held(holder, item, before.dead_tuples))
        hindrance = self._room.missing(item.facts, before) if self._room else None
        hindrance = hindrance or (self._repack.refusal(table) if self._repack else "")
        return item.become("failed", hindrance) if hindrance else item

    def _in_time(self, item: VacuumItem) -> None:
        """Raise Stop for a rewrite that would outlast the window."""
        until = self._work.limits.limits.until
        if self._plan.rewrites and until is not None:
            needed = self._forecast.seconds(item.facts)
            if (until - self._clock()).total_seconds() < needed:
                raise Stop(
                    f"{item.name} would take about {human_duration(needed)} ({self._forecast.explain(item.facts)}),"
                    f" and the window ends at {to_rfc3339(until)}."
                )

    def _predicted(self, task: VacuumTask) -> float | None:
        return self._forecast.seconds(task) if self._plan.full and not self._repack else None

    def _locked_by(self, table: VacuumTable) -> str:
        modes = causes.BLOCK_REWRITE if self._plan.rewrites else causes.BLOCK_VACUUM
        return causes.holders(self._session, table.oid, modes)

    def _dropped(self, item: VacuumItem, why: str) -> VacuumItem:
        table = item.facts.table
        explicit = causes.asked_for(self._plan.tables, table.schema, table.name)
        return item.become("failed" if explicit else "skipped", why)

    def _holder(self, item: VacuumItem) -> xmin_horizon.XminHolder | None:
        """What holds the xmin horizon, so that the work would be in vain; else None."""
        table = item.facts.table
        if self._plan.rewrites:  # pg_repack copies live rows only
            certain = self._repack or item.facts.gain_is_certain
            return None if certain else xmin_horizon.staying(self._session)
        if item.reason == DEAD:
            return xmin_horizon.held_since(self._holders, table.vacuumed)
        if item.reason == FREEZE and self._holders and not (table.aged_by_multixacts_alone or table.system):
            oldest = self._holders[0]
            return oldest if table.age - oldest.age <= _nothing(table) else None
        return None

    def _held(self, holder: xmin_horizon.XminHolder, item: VacuumItem, dead: int) -> str:
        self._record.hold(holder, item.name, dead)
        return f"its dead rows cannot be removed yet: {holder} may still need them"

    # --- the work

    def act(self, item: VacuumItem) -> None:
        """Vacuum or rewrite it."""
        plan, table = self._plan, item.facts.table
        if self._repack:
            self._repack.run(table, lambda: self._work.limits.stopped_by)
            return
        aged = item.reason == FREEZE
        if aged:  # or only what is not all-visible would be read, and the age would stay
            self._session.query("SET vacuum_freeze_table_age = 0")
            self._session.query("SET vacuum_multixact_freeze_table_age = 0")
        analyze = plan.analyze and (plan.full or table.stale)
        young = table.freeze_limit <= self._freeze_min_age or table.mxid_limit <= self._mxid_freeze_min_age
        freeze = plan.freeze or (aged and young)  # else what VACUUM leaves would be too old again
        version = self._session.server_version
        self._session.execute(plan.statement(table.schema, table.name, version, analyze=analyze, freeze=freeze))

    # --- what came of it

    def examine(self, item: VacuumItem) -> VacuumItem:
        """Compare the table's state and statistics with those before."""
        before = item.facts.before
        after = self._after(item.facts.table, before) if before else None
        if before is None or after is None:
            return self._dropped(item, _DROPPED)
        item = replace(item, facts=replace(item.facts, after=after, analyzed=after.analyzes > before.analyzes))
        if self._plan.rewrites:
            return self._rewritten(item, before, after)
        if after.vacuums == before.vacuums and self._counts:
            why = f"the server skipped it: {self._lock_holders(item, 'it was locked at that moment')}"
            return item.become("skipped" if self._plan.skip_locked else "failed", why)
        worked = (
            item.facts.analyzed or not self._counts or item.facts.table.inserted > 0 or _improved(item, before, after)
        )
        why = item.why if worked else "there was nothing to remove"
        if after.dead_tuples > 0 and after.dead_tuples >= before.dead_tuples and self._holders:
            held = self._held(self._holders[0], item, after.dead_tuples)
            why = f"{item.why}; {held}" if worked else held
        return item.become("done" if worked else "skipped", why)

    def _after(self, table: VacuumTable, before: VacuumState) -> VacuumState | None:
        """The table afterwards, as soon as the statistics know of it."""
        deadline = time.monotonic() + _STATISTICS_LAG_S
        while True:
            now = tables.state(self._session, table.oid)
            known = now is None or self._plan.rewrites or not self._counts or now.vacuums > before.vacuums
            if known or self._session.server_version >= _NO_COLLECTOR or time.monotonic() > deadline:
                return now
            time.sleep(_SAME_INSTANT_S)

    def _rewritten(self, item: VacuumItem, before: VacuumState, after: VacuumState) -> VacuumItem:
        """Whether a rewrite took place, and gave back what it was to give back."""
        if after.file == before.file:
            return item.become("failed", f"it was not rewritten: {self._lock_holders(item, 'the server skipped it')}")
        self._forecast.learn(after.total_bytes, item.duration_s or 0.0)
        freed = before.total_bytes - after.total_bytes
        if self._repack or freed >= max(1, min(self._plan.min_bloat_bytes, item.facts.gain_bytes // 2)):
            return replace(item, state="done")
        holders = xmin_horizon.holders(self._session)
        if not holders:
            return replace(item, state="done")
        self._record.hold(holders[0], item.name, before.dead_tuples)
        size = human_size(max(0, freed))
        why = f"it was rewritten, which freed {size}: {holders[0]} may still need its dead rows"
        return item.become("skipped", why)

    def _lock_holders(self, item: VacuumItem, otherwise: str) -> str:
        holders = self._locked_by(item.facts.table)
        return f"it is locked by {holders}" if holders else otherwise

    def refused(self, item: VacuumItem, exc: RunbookError) -> VacuumItem:
        """What the server's refusal means. A full disk ends the run."""
        state, table = causes.state_of(exc), item.facts.table
        if state == sqlstate.QUERY_CANCELED:
            limit = human_duration(self._plan.statement_timeout_s)
            return item.become("failed", f"it took longer than statement_timeout ({limit})")
        if state == sqlstate.DISK_FULL:
            text = f"The disk is full: {exc.why.rstrip('.')} ({item.name}). The table is unchanged. Free disk space."
            raise Stop(text, failed=True)
        absent = causes.absent(self._session, table.oid, table.schema, table.name)
        if absent:
            return self._dropped(item, absent)
        if state == sqlstate.LOCK_NOT_AVAILABLE and not causes.in_function(exc):
            why = f"it was locked for longer than lock_timeout ({human_duration(self._plan.lock_timeout_s)})"
            holders = self._locked_by(table)
            item = item.become("failed", f"{why}, by {holders}" if holders else f"{why}; the lock is free now")
        else:
            item = item.become("failed", causes.reason(exc), causes.remedy(exc, self._session.server_version))
        return self._with_what_was_done(item)

    def _with_what_was_done(self, item: VacuumItem) -> VacuumItem:
        """The item with what VACUUM has done before its ANALYZE failed."""
        before = item.facts.before
        if before is None or self._plan.rewrites:
            return item
        try:
            after = tables.state(self._session, item.facts.table.oid)
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise
            return item  # still locked: what was done is not known
        if after is None or after.vacuums <= before.vacuums:
            return item
        why = f"it was vacuumed, but its statistics could not be gathered: {item.why}"
        return replace(item, why=why, changed=True, facts=replace(item.facts, after=after))


def _improved(item: VacuumItem, before: VacuumState, after: VacuumState) -> bool:
    """Whether VACUUM has removed or frozen anything."""
    younger = after.freeze_age < before.freeze_age or after.mxid_age < before.mxid_age
    return (
        after.dead_tuples < before.dead_tuples
        or after.total_bytes < before.total_bytes
        or after.visible_pages > before.visible_pages
        or (item.reason == FREEZE and younger)
    )


def _nothing(table: VacuumTable) -> int:
    """An age by which freezing is not worth reading a whole table: a twentieth of the limit."""
    return table.freeze_limit // 20
