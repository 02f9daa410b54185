# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VACUUM where it helps: one table after the other, as long as the brakes allow, and what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime

from ..._errors import ConnectionFailed, QueryFailed, RunbookError
from ..._postgres import primary, sqlstate
from ..._postgres.connection import Server, Session
from ..._target.base import Target
from ..._units import human_duration, human_size, to_rfc3339
from .. import autovacuum, causes
from ..limits import Brakes, Limits
from . import ages, rewrite, sql, tables, xmin_horizon
from .outcome import Done, Outcome
from .plan import REPACK, VacuumPlan, has_database_stats
from .repack import Repack
from .tables import State, Table, Task

_LOOK_SETTINGS = {"lock_timeout": "5s", "statement_timeout": "60s"}
_STATISTICS_LAG_S = 3.0  # of the collector, before PostgreSQL 15
_NO_COLLECTOR = 150000
_SAME_INSTANT_S = 0.05
_DROPPED = "It was dropped meanwhile."
Clock = Callable[[], datetime]


class Vacuum:
    """One run over the tables of a database."""

    def __init__(
        self, target: Target, server: Server, plan: VacuumPlan, limits: Limits, clock: Clock, *, check_mode: bool
    ) -> None:
        """Nothing is done yet. `server` sends no writes in check mode, and `check_mode` says so."""
        self._target = target
        self._server = server
        self._plan = plan
        self._limits = limits
        self._clock = clock
        self._check_mode = check_mode
        self._forecast = rewrite.Forecast()
        self._aged_only = False
        self._outcome = Outcome(check_mode=check_mode)

    def run(self) -> Outcome:
        """Do it.

        Raises:
            InvalidInput, ObjectNotFound, ConnectionFailed: it cannot be done at all, and nothing was.
            QueryFailed: the connection was lost.
        """
        plan = self._plan
        with ExitStack() as stack:
            own = stack.enter_context(self._server.connect(plan.db, settings=_LOOK_SETTINGS))
            self._refuse(own)
            self._brakes = Brakes(self._limits, own, self._target, self._clock, programs=("pg_repack",))
            self._brakes.check()  # one that cannot work is refused before anything is done
            self._work = stack.enter_context(self._server.connect(plan.db, settings=plan.settings()))
            self._repack = Repack(self._target, self._server, self._work, plan) if plan.method == REPACK else None
            if self._repack:
                self._repack.prepare()
            tasks = self._choose(own)
            if self._repack:
                self._outcome.cleaned.extend(self._repack.clean(self._outcome.notes))
            if self._limits.opens:
                self._outcome.notes.append(f"The window is closed; it opens at {to_rfc3339(self._limits.opens)}.")
            self._holders = xmin_horizon.holders(own) if tasks else []
            self._ages = ages.Ages(self._server, plan, alone=self._aged_only)
            self._room = rewrite.Room(own, self._target) if plan.rewrites and tasks else None
            if self._room and not self._room.known:
                self._outcome.notes.append("The free space of the server cannot be seen, so a copy may not fit.")
            self._all(tasks)
            self._finish()
            if not (plan.tables or plan.schemas or plan.rewrites or self._outcome.stopped_by or self._aged_only):
                self._templates()
            self._ages.tell(self._outcome, tasks)
        return self._outcome

    def _refuse(self, session: Session) -> None:
        primary.require(session, "VACUUM", self._server.login.host)
        told = session.query(sql.SETTINGS)[0]
        self._plan.refuse_old(session.server_version, told.version)
        self._freeze_min_age = int(told.freeze_min_age)
        self._mxid_freeze_min_age = int(told.mxid_freeze_min_age)
        self._counts = causes.counts(session)
        if not self._counts:
            self._outcome.notes.append(
                "track_counts is off: dead rows are not counted, so most tables seem to need nothing."
            )

    def _choose(self, session: Session) -> list[Task]:
        found, named = tables.read(session, self._plan)
        if self._plan.rewrites:
            return rewrite.choose(session, self._plan, found, named, self._outcome.notes)
        tasks = tables.choose(found, named, self._plan, self._freeze_min_age)
        return ages.allowed(tasks, self._outcome)

    def _all(self, tasks: Sequence[Task]) -> None:
        for number, task in enumerate(tasks):
            reason = self._brakes.check() or self._too_late(task)
            done = self._one(task) if reason is None else None
            if done is None:
                self._outcome.stopped_by = reason or self._outcome.stopped_by
                self._outcome.left = [each.table.title for each in tasks[number:]]
                return
            self._outcome.tables.append(done)

    def _too_late(self, task: Task) -> str | None:
        until = self._limits.until
        if self._plan.rewrites and until is not None:
            needed = self._forecast.seconds(task)
            if (until - self._clock()).total_seconds() < needed:
                return (
                    f"{task.table.title} would take about {human_duration(needed)}"
                    f" ({self._forecast.explain(task)}), and the window ends at {to_rfc3339(until)}."
                )
        return None

    def _templates(self) -> None:
        """Freeze what is old in template databases, where no application works and hardly anybody looks."""
        for name in self._ages.old_templates():
            plan = self._plan.aged_only(name)
            run = Vacuum(self._target, self._server, plan, self._limits, self._clock, check_mode=self._check_mode)
            run._aged_only = True
            try:
                found = run.run()
            except ConnectionFailed as exc:
                self._outcome.notes.append(f"The template database {name} nears wraparound: {exc.message}")
                continue
            self._outcome.add(found, name)
            if self._outcome.stopped_by:
                return

    # --- one table

    def _one(self, task: Task) -> Done | None:
        """Work on a table; None when it was stopped in its midst."""
        done = Done(task, self._action, database=self._plan.db, predicted_lock_s=self._predicted(task))
        if not task.table.allowed:
            why = "The login is neither its owner nor that of the database"
            why += ", and has no MAINTAIN on it (role pg_maintain)." if self._work.server_version >= 170000 else "."
            return replace(done, skipped=why, problem=True)
        try:
            before = self._look(task)
        except QueryFailed as exc:
            return self._failed(done, exc, 0.0)
        if before is None:
            return replace(done, skipped=_DROPPED, problem=self._asked_for(task))
        if isinstance(before, str):
            return replace(done, skipped=before)
        done = replace(done, before=before)
        in_vain = self._in_vain(task, before)
        if in_vain:
            return replace(done, skipped=in_vain)
        hindrance = self._hindrance(task, before)
        if hindrance:
            return replace(done, skipped=hindrance, problem=True)
        if self._check_mode:
            return replace(done, done=True)
        started = time.monotonic()
        try:
            with self._brakes.watching(self._work):
                self._act(task)
            after = self._after(task.table, before)
        except RunbookError as exc:
            return self._failed(done, exc, time.monotonic() - started)
        return self._judge(replace(done, after=after, duration_s=round(time.monotonic() - started, 3)))

    @property
    def _action(self) -> str:
        return "repack" if self._repack else "vacuum full" if self._plan.full else "vacuum"

    def _predicted(self, task: Task) -> float | None:
        return self._forecast.seconds(task) if self._plan.full and not self._repack else None

    def _look(self, task: Task) -> State | str | None:
        """The table as it is; a sentence if it is not to be waited for."""
        if self._plan.skip_locked and (holders := self._locked_by(task)):
            return f"It is locked by {holders}."
        if autovacuum.busy(self._work, [task.table.oid], toast=self._plan.process_toast is not False):
            return f"{autovacuum.BUSY.capitalize()}."
        return tables.state(self._work, task.table.oid)

    def _locked_by(self, task: Task) -> str:
        modes = causes.BLOCK_REWRITE if self._plan.rewrites else causes.BLOCK_VACUUM
        return causes.holders(self._work, task.table.oid, modes)

    def _in_vain(self, task: Task, before: State) -> str:
        """Why nothing would come of it for somebody's sake; else empty."""
        holder = self._holder(task)
        if holder is None:
            return ""
        self._hold(holder, task, before.dead_tuples)
        return f"Its dead rows cannot be removed yet: {holder} may still have to see them."

    def _holder(self, task: Task) -> xmin_horizon.Holder | None:
        table = task.table
        if self._plan.rewrites:  # pg_repack copies the living alone
            return None if self._repack or task.firm else xmin_horizon.staying(self._work)
        if task.why == "dead":
            return xmin_horizon.held_since(self._holders, table.vacuumed)
        if task.why == "freeze" and self._holders and not (table.aged_by_multixacts_alone or table.system):
            oldest = self._holders[0]
            return oldest if table.age - oldest.age <= _nothing(table) else None
        return None

    def _hindrance(self, task: Task, before: State) -> str:
        """Why it cannot be done; else empty."""
        missing = self._room.missing(task, before) if self._room else None
        return missing or (self._repack.refusal(task.table) if self._repack else "")

    def _act(self, task: Task) -> None:
        plan, table = self._plan, task.table
        if self._repack:
            self._repack.run(table, lambda: self._brakes.stopped_by)
            return
        aged = task.why == "freeze"
        if aged:  # or only what is not all-visible would be read, and the age would stay
            self._work.query("SET vacuum_freeze_table_age = 0")
            self._work.query("SET vacuum_multixact_freeze_table_age = 0")
        analyze = plan.analyze and (plan.full or table.stale)
        young = table.freeze_limit <= self._freeze_min_age or table.mxid_limit <= self._mxid_freeze_min_age
        freeze = plan.freeze or (aged and young)  # else what VACUUM leaves would be too old again
        version = self._work.server_version
        self._work.execute(plan.statement(table.schema, table.name, version, analyze=analyze, freeze=freeze))

    def _after(self, table: Table, before: State) -> State | None:
        """The table afterwards, as soon as the statistics know of it."""
        deadline = time.monotonic() + _STATISTICS_LAG_S
        while True:
            now = tables.state(self._work, table.oid)
            known = now is None or self._plan.rewrites or not self._counts or now.vacuums > before.vacuums
            if known or self._work.server_version >= _NO_COLLECTOR or time.monotonic() > deadline:
                return now
            time.sleep(_SAME_INSTANT_S)

    def _judge(self, done: Done) -> Done:
        before, after, task = done.before, done.after, done.task
        if before is None or after is None:
            return replace(done, skipped=_DROPPED, problem=self._asked_for(task))
        analyzed = after.analyzes > before.analyzes
        if self._plan.rewrites:
            if after.file == before.file:
                holders = self._locked_by(task)
                why = f"It was not rewritten: {f'it is locked by {holders}' if holders else 'the server skipped it'}."
                return replace(done, skipped=why, problem=True)
            self._forecast.learn(after.total_bytes, done.duration_s)
            in_vain = self._was_in_vain(task, before, after)
            return replace(done, done=not in_vain, analyzed=analyzed, skipped=in_vain)
        if after.vacuums == before.vacuums and self._counts:
            holders = self._locked_by(task)
            why = f"The server skipped it: {f'it is locked by {holders}' if holders else 'it was locked just then'}."
            return replace(done, skipped=why, problem=not self._plan.skip_locked)
        worked = (
            after.dead_tuples < before.dead_tuples
            or after.total_bytes < before.total_bytes
            or after.visible_pages > before.visible_pages
            or task.table.inserted > 0
            or not self._counts
            or (task.why == "freeze" and (after.freeze_age < before.freeze_age or after.mxid_age < before.mxid_age))
        )
        skipped = ""
        if after.dead_tuples > 0 and after.dead_tuples >= before.dead_tuples and self._holders:
            self._hold(self._holders[0], task, after.dead_tuples)
            skipped = f"Its dead rows cannot be removed yet: {self._holders[0]} may still have to see them."
        elif not (worked or analyzed):
            skipped = "There was nothing to remove."
        return replace(done, done=worked or analyzed, analyzed=analyzed, skipped=skipped)

    def _was_in_vain(self, task: Task, before: State, after: State) -> str:
        """Why a rewrite has hardly given anything back, if it is for somebody's sake; else empty."""
        freed = before.total_bytes - after.total_bytes
        if self._repack or freed >= max(1, min(self._plan.min_bloat_bytes, task.gain_bytes // 2)):
            return ""
        holders = xmin_horizon.holders(self._work)
        if not holders:
            return ""
        self._hold(holders[0], task, before.dead_tuples)
        size = human_size(max(0, freed))
        return f"It was rewritten, and gave back {size}: {holders[0]} may still have to see its dead rows."

    def _hold(self, holder: xmin_horizon.Holder, task: Task, dead: int) -> None:
        known = next((each for each in self._outcome.held if each.identity == holder.identity), holder)
        self._outcome.held.setdefault(known, {})[task.table.title] = dead

    # --- what goes wrong

    def _failed(self, done: Done, exc: RunbookError, seconds: float) -> Done | None:
        """Judge an error: of this table alone, or of all (then `stopped_by` is set)."""
        done = replace(done, duration_s=round(seconds, 3))
        if exc.details.get("lost"):
            raise exc
        state, table = causes.state_of(exc), done.task.table
        if state == sqlstate.QUERY_CANCELED:
            return self._cancelled(done, exc)
        if state == sqlstate.DISK_FULL:
            self._outcome.broken = True
            self._outcome.stopped_by = (
                f"The disk is full: {exc.why.rstrip('.')} ({table.title}). Nothing was lost:"
                " the table is what it was. Free some space."
            )
            return None
        absent = causes.absent(self._work, table.oid, table.schema, table.name)
        if absent:
            return replace(done, skipped=f"{absent.capitalize()}.", problem=self._asked_for(done.task))
        return self._with_what_was_done(replace(done, skipped=self._refusal(done.task, exc), problem=True))

    def _asked_for(self, task: Task) -> bool:
        return causes.asked_for(self._plan.tables, task.table.schema, task.table.name)

    def _refusal(self, task: Task, exc: RunbookError) -> str:
        """Why the server refused it, and what helps; sentences."""
        if causes.state_of(exc) == sqlstate.LOCK_NOT_AVAILABLE and not causes.in_function(exc):
            why = f"It was locked for longer than lock_timeout ({human_duration(self._plan.lock_timeout_s)})"
            holders = self._locked_by(task)
            return why + (f", by {holders}." if holders else "; the lock is free now.")
        return f"{causes.reason(exc)}. {causes.remedy(exc, self._work.server_version)}".strip()

    def _with_what_was_done(self, done: Done) -> Done:
        """The table with what VACUUM has done before its ANALYZE failed."""
        if done.before is None or self._plan.rewrites:
            return done
        after = tables.state(self._work, done.task.table.oid)
        if after is None or after.vacuums <= done.before.vacuums:
            return done
        why = f"It was vacuumed, but its statistics could not be gathered: {done.skipped}"
        return replace(done, done=True, after=after, skipped=why)

    def _cancelled(self, done: Done, exc: RunbookError) -> Done | None:
        limit = self._plan.statement_timeout_s
        if self._brakes.ended(exc, done.task.table.title, limit):
            self._outcome.stopped_by, self._outcome.broken = self._brakes.stopped_by or "", self._brakes.cancelled
            return None
        why = f"It took longer than statement_timeout ({human_duration(limit or 0)})."
        return replace(done, skipped=why, problem=True)

    def _finish(self) -> None:
        """Bring the database's own age up to date, which each VACUUM from PostgreSQL 16 on has left for the end.

        It can be older than all of its tables: those that were old may have been dropped, or vacuumed without that.
        """
        frozen = any(each.done and each.task.why == "freeze" for each in self._outcome.tables)
        if self._plan.rewrites or self._outcome.stopped_by or not (frozen or self._ages.stale()):
            return
        statement = "VACUUM (ONLY_DATABASE_STATS)"
        if not has_database_stats(self._work.server_version):
            statement = "VACUUM pg_catalog.pg_am"  # small, and each VACUUM does it at its end
        with suppress(QueryFailed):  # a lock, or no right: what stays is told
            self._work.execute(statement)


def _nothing(table: Table) -> int:
    """An age by which freezing is not worth reading a whole table: a twentieth of the limit."""
    return table.freeze_limit // 20
