# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup beside production, on the same server, and prove it. Production is not touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from .._catalog.catalog import Catalog, Entry
from .._errors import ProofFailed, RunbookError
from .._load import databases, load, source_settings, sql
from .._load.databases import Database, Mark
from .._postgres import own_sessions
from .._postgres.connection import Server, Session
from .._postgres.reconnect import persist
from .._target.base import Target
from .._units import counted
from .._verify.restore_copy import StepTimer
from . import acceptance, existing, loaded_stage, stage_cleanup, stage_load, stage_steps, waits
from .exclusive_session import exclusive
from .plan import StagePlan
from .preflight import RestorePreflight
from .stage_load import UNTOUCHED, LoadedStage, UnprovenStage

_CHANGED_SINCE = (
    "An earlier run loaded this staged copy, and a session may have changed it since. "
    "Run this again to load the backup again."
)


@dataclass(frozen=True)
class Staged:
    """A proven database beside production; `changed` if it was not there, or not made like production.

    `resumed` says that an earlier run has loaded it, and this one has proven it.
    """

    name: str
    mark: Mark
    created: bool
    changed: bool
    steps: Mapping[str, float] = field(default_factory=dict)
    smoke: Sequence[Mapping[str, object]] = ()
    removed: Sequence[str] = ()
    resumed: bool = False


def stage(target: Target, server: Server, plan: StagePlan, found: RestorePreflight, clock: StepTimer) -> Staged:
    """Restore and prove; returns the stage that is there already, if it is of the same backup.

    A stage that an earlier run has loaded is not loaded again, but proven all the same.

    Raises:
        Locked: another run restores this database.
        restore.RestoreRefused, ProofFailed: it does not load, or is not what its source was.
    """
    identity = found.source.identity
    half = UnprovenStage()
    with exclusive(server, plan.db) as session:
        try:
            with waits.bounded(server, session):
                way = existing.way_of(server, plan, found.tablespace, found.keeps_tablespaces)
                ready = existing.find_staged(session, plan, identity)
                before = None if ready else existing.find_loaded(session, plan, identity, way)
                removed = stage_cleanup.sweep(session, plan.db, before.database if before else None)
                if ready and ready.mark:
                    return _as_it_is(server, session, plan, found, ready, ready.mark, removed)
                if before:
                    half.name, half.resumed, half.remembered = before.database.name, True, True
                    made = _go_on(server, session, plan, found, before)
                else:
                    made = stage_load.load_stage(target, server, session, plan, found, way, half, clock)
                return _finish(server, session, plan, found, made, half, clock, removed)
        except BaseException as exc:
            if half.name:
                stage_cleanup.give_up(server, session, plan, half, exc)
            raise


def _as_it_is(
    server: Server,
    session: Session,
    plan: StagePlan,
    found: RestorePreflight,
    ready: Database,
    mark: Mark,
    removed: Sequence[str],
) -> Staged:
    """A proven stage that was there: it is made like production again, and asked again."""
    now, changed = mark, False
    if found.production:
        now = replace(mark, connection_limit=stage_steps.limit(found), is_template=stage_steps.is_template(found))
        changed = persist(server, lambda: stage_steps.dress(session, ready, found))
        if now != mark:
            changed = True
            databases.put_mark(session, ready.name, now)
    smoke = stage_steps.smoke(own_sessions.on_copy(server, session), ready.name, plan.smoke_queries)
    return Staged(ready.name, now, False, changed, {}, smoke, removed)


def _go_on(
    server: Server, session: Session, plan: StagePlan, found: RestorePreflight, before: loaded_stage.FoundStage
) -> LoadedStage:
    """The stage that an earlier run has loaded, as it was when the load came to its end."""
    name, mark = before.database.name, before.mark
    session.query(sql.END_SESSIONS, (before.database.oid,))  # that run's, which the server may not have ended yet
    copy = before.loading.on(persist(server, lambda: stage_load.settle(server, session, plan, found, name)))
    said = f"{name} was not loaded again: the run that began at {mark.at} has loaded it."
    found.notes.extend([*copy.notes, said])
    return LoadedStage(copy, before.database, replace(mark, loading=None), before.loading.loaded)


def _finish(
    server: Server,
    session: Session,
    plan: StagePlan,
    found: RestorePreflight,
    stage: LoadedStage,
    half: UnprovenStage,
    clock: StepTimer,
    removed: Sequence[str],
) -> Staged:
    """Prove and dress what is loaded."""
    copy, visitor, at = stage.copy, stage.copy.server, stage.copy.name
    with clock.step("compare"):
        try:
            verdict, restored = persist(visitor, lambda: stage_steps.prove(plan, found, copy, stage.loaded))
        except ProofFailed as exc:
            if half.resumed:
                exc.remedy = f"{_CHANGED_SINCE} {exc.remedy}"
            raise
    if plan.analyze:
        with clock.step("analyze"):
            stage_steps.analyze(visitor, at, plan.jobs, found.notes)
    with clock.step("settings"):
        persist(visitor, lambda: stage_steps.dress(session, stage_load.same(session, stage.made), found))
        if found.production is None:  # its settings may be of another server
            lacks = persist(visitor, lambda: source_settings.without_libraries(session, visitor, at))
            found.notes.extend(each.text for each in lacks)
    with clock.step("smoke"):
        smoke = stage_steps.smoke(visitor, at, plan.smoke_queries)
    mark = replace(
        stage.mark,
        state="staged",
        verdict=verdict.verdict,
        rows=restored.figures.rows,
        connection_limit=stage_steps.limit(found),
        is_template=stage_steps.is_template(found),
        lost=acceptance.lost(restored.differences),
    )
    persist(server, lambda: databases.put_mark(session, stage_load.same(session, stage.made).name, mark))
    return Staged(at, mark, True, True, dict(clock.steps), smoke, removed, half.resumed)


@contextmanager
def hold_backup(catalog: Catalog, subject: Entry | load.Dump) -> Iterator[None]:
    """Keep retention from removing the backup for as long as it is read."""
    with ExitStack() as stack:
        if isinstance(subject, Entry):
            stack.enter_context(catalog.use(subject, f"restore of {subject.id}"))
        try:
            yield
        except BaseException:
            with suppress(RunbookError):  # it would hide the error that tells more
                stack.close()
            raise
        try:
            stack.close()
        except RunbookError as exc:
            exc.remedy = f"{exc.remedy} {UNTOUCHED}".strip()
            raise


def report(staged: Staged) -> dict[str, object]:
    """The values of a module's result."""
    mark = staged.mark
    about = {"name": staged.name, "backup": mark.backup, "verdict": mark.verdict, "rows": mark.rows, "lost": mark.lost}
    done = "is staged as" if staged.created else "was staged before as"
    if staged.resumed:
        done = "was loaded by an earlier run, and is staged as"
    return {
        "stage": {**about, "smoke": list(staged.smoke)},
        "removed": list(staged.removed),
        "resumed": staged.resumed,
        "msg": f"{mark.backup} {done} {staged.name}: {mark.verdict}, {counted(mark.rows or 0, 'row')}.",
    }
