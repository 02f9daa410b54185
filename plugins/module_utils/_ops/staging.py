# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup beside production, on the same server, and prove it. Production is not touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from .._catalog.catalog import Catalog, Entry
from .._db import Server, Session
from .._errors import ConnectionFailed, InvalidInput, Locked, RunbookError
from .._reconnect import persist
from .._sql.brakes import LAG
from .._statements import compose
from .._target.base import Target
from .._units import human_size, to_rfc3339, utc_now
from . import (
    acceptance,
    databases,
    likeness,
    outlook,
    own_sessions,
    rehearsal,
    restore,
    scratch,
    source_database,
    source_settings,
    stage_steps,
    waits,
)
from .copies import Copy
from .databases import Database, Mark
from .exclusive_session import exclusive
from .outlook import Outlook, StagePlan
from .rehearsal import Clock

_DROP_PATIENCE_S = 60.0
_LAG_PATIENCE_S = 3600.0
_LAG_EVERY_S = 1.0
_NAME_WAY_OUT = "Say accept_unproven: true, and refresh what is computed from the name once it is in production."
_SETTINGS_WAY_OUT = "Install on the server what is missing, or say accept_unproven: true if nothing depends on it."


@dataclass(frozen=True)
class Staged:
    """A proven database beside production; `changed` if it was not there, or not made like production."""

    name: str
    mark: Mark
    created: bool
    changed: bool
    steps: Mapping[str, float] = field(default_factory=dict)
    smoke: Sequence[Mapping[str, object]] = ()
    removed: Sequence[str] = ()


def stage(target: Target, server: Server, plan: StagePlan, found: Outlook, clock: Clock) -> Staged:
    """Restore and prove; returns the stage that is there already, if it is of the same backup.

    Raises:
        Locked: somebody else restores this database.
        restore.RestoreRefused, ProofFailed: it does not load, or is not what its source was.
    """
    source = found.source
    with exclusive(server, plan.db) as session, waits.bounded(server, session):
        removed = _sweep(session, plan.db)
        ready = outlook.ready(session, plan, source.identity)
        if ready and ready.mark:
            changed, mark = False, ready.mark
            if found.production:
                mark = replace(
                    mark, connection_limit=stage_steps.limit(found), is_template=stage_steps.is_template(found)
                )
                changed = persist(server, lambda: stage_steps.dress(session, ready, found))
                if mark != ready.mark:
                    changed = True
                    databases.put_mark(session, ready.name, mark)
            smoke = stage_steps.smoke(own_sessions.on_copy(server, session), ready.name, plan.smoke_queries)
            return Staged(ready.name, mark, False, changed, {}, smoke, removed)
        now = utc_now()
        at = databases.beside(session, plan.db, "staged", now)
        begun = Mark("staging", plan.db, source.name, to_rfc3339(now), digest=source.identity.digest)
        try:
            with clock.step("create"):
                copy = _empty(server, session, plan, found, at, begun)
            found.notes.extend(copy.notes)
            return _fill(target, session, plan, found, copy, begun, clock, removed)
        except BaseException as exc:
            if isinstance(exc, restore.RestoreRefused):
                exc.remedy = f"{exc.remedy} Production was not touched.".strip()
            if not plan.keep_failed:
                _drop(server, at)
            raise


def _empty(server: Server, session: Session, plan: StagePlan, found: Outlook, at: str, begun: Mark) -> Copy:
    """An empty database beside production, that lives where the source did: that decides what the load computes."""
    needs = found.source.needs
    like = needs.like or source_database.like_of(session, plan.db)
    lacks = source_database.create_database(session, at, like, needs.encoding, tablespace=found.tablespace)
    databases.put_mark(session, at, begun)
    session.execute(compose("ALTER DATABASE {} CONNECTION LIMIT 0", at))  # superusers only
    dumped = found.source.manifest is not None
    visitor = own_sessions.on_copy(server, session, dumped=dumped, more={"synchronous_commit": "off"})
    doubts = []
    if needs.like is not None:
        doubts = source_settings.settle(session, visitor, at, needs.like)
    elif found.production is not None:
        likeness.apply(
            session, at, likeness.of(session, databases.find(session, at)), likeness.of(session, found.production)
        )
    source_database.create_bound(visitor, session, at, begun, needs.extensions)
    roles = source_settings.of_other_roles(needs.like, server.login.user) if needs.like else {}
    return Copy(visitor, at, lacks, doubts, _SETTINGS_WAY_OUT, roles, plan.db, _NAME_WAY_OUT)


def _fill(
    target: Target,
    session: Session,
    plan: StagePlan,
    found: Outlook,
    copy: Copy,
    begun: Mark,
    clock: Clock,
    removed: Sequence[str],
) -> Staged:
    """Load, prove and dress it."""
    source, server, at = found.source, copy.server, copy.name
    made = databases.find(session, at)
    with scratch.home(target, plan.work_dir) as home, clock.step("restore"):
        nice = ["nice", "-n", str(plan.nice)] if plan.nice else []
        dump = replace(source.dump, tablespaces=found.keeps_tablespaces)
        around = rehearsal.circumstances(copy, "stage", source.needs)
        with rehearsal.blaming(copy, around):
            loaded = restore.load(
                target, server, found.programs, dump, at,
                jobs=plan.jobs, work_dir=home, before=nice, pause=_brake(session, plan),
            )  # fmt: skip
    made = replace(made, oid=loaded.oid or made.oid)
    with clock.step("compare"):
        verdict, restored = persist(server, lambda: stage_steps.prove(plan, found, copy, loaded, around))
    if plan.analyze:
        with clock.step("analyze"):
            stage_steps.analyze(server, at, plan.jobs, found.notes)
    with clock.step("settings"):
        persist(server, lambda: stage_steps.dress(session, _same(session, made), found))
        if found.production is None:  # its settings may be of another server
            found.notes.extend(each.text for each in source_settings.without_libraries(session, server, at))
    with clock.step("smoke"):
        smoke = stage_steps.smoke(server, at, plan.smoke_queries)
    mark = replace(
        begun,
        state="staged",
        verdict=verdict.verdict,
        rows=restored.figures.rows,
        connection_limit=stage_steps.limit(found),
        is_template=stage_steps.is_template(found),
        lost=acceptance.lost(restored.differences),
    )
    persist(server, lambda: databases.put_mark(session, at, mark))
    return Staged(at, mark, True, True, dict(clock.steps), smoke, removed)


def _same(session: Session, made: Database) -> Database:
    """The stage that this run has made, as it is now.

    Raises:
        Locked: it is another one. The lock was lost for a while with its connection.
    """
    found = databases.known(session).get(made.name)
    if found is None or found.oid != made.oid:
        raise Locked(
            "Another run has removed what this one restored",
            subject=repr(made.name),
            why="the connection was lost, and with it the lock on the database's name",
            remedy="Production was not touched. See which run that was, wait for it to end, then run this again.",
        )
    return found


def _brake(session: Session, plan: StagePlan) -> Callable[[], None] | None:
    """What waits for replicas that are too far behind; None when nobody cares."""
    most = plan.max_lag_bytes
    if most is None:
        return None

    def wait() -> None:
        deadline = time.monotonic() + _LAG_PATIENCE_S
        while (lag := session.value(LAG)) > most:
            if time.monotonic() > deadline:
                raise InvalidInput(
                    "A replica does not catch up",
                    subject=f"{human_size(lag)} behind",
                    why=f"at most {human_size(most)} are allowed by max_replica_lag",
                    remedy="See pg_stat_replication for the reason, or allow more. Production was not touched.",
                )
            time.sleep(_LAG_EVERY_S)

    return wait


def _sweep(session: Session, db: str) -> list[str]:
    """Drop what runs that died have left half-way; only alone."""
    left = databases.marked(session, db, "staging")
    for item in left:
        databases.drop(session, item.name)
    return [item.name for item in left]


def _drop(server: Server, name: str) -> None:
    """Drop a stage that failed, waiting for a server that restarts; else the next run does it."""
    deadline = time.monotonic() + _DROP_PATIENCE_S
    while True:
        try:
            with databases.working(server) as session:
                databases.drop(session, name)
            return
        except RunbookError as exc:
            if not isinstance(exc, ConnectionFailed) and not exc.details.get("lost"):
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


@contextmanager
def kept(catalog: Catalog, subject: Entry | restore.Dump) -> Iterator[None]:
    """Keep retention from removing the backup for as long as it is read."""
    with ExitStack() as stack:
        if isinstance(subject, Entry):
            stack.enter_context(catalog.use(subject, f"restore of {subject.id}"))
        yield


def report(staged: Staged) -> dict[str, object]:
    """The values of a module's result."""
    mark = staged.mark
    about = {"name": staged.name, "backup": mark.backup, "verdict": mark.verdict, "rows": mark.rows, "lost": mark.lost}
    done = "is staged as" if staged.created else "was staged before as"
    return {
        "stage": {**about, "smoke": list(staged.smoke)},
        "removed": list(staged.removed),
        "msg": f"{mark.backup} {done} {staged.name}: {mark.verdict}, {mark.rows} rows.",
    }
