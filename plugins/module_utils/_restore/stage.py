# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup beside production, on the same server, and prove it. Production is not touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

from .._catalog.catalog import Catalog, Entry
from .._errors import ConnectionFailed, Interrupted, InvalidInput, Locked, ProofFailed, RunbookError
from .._load import database_properties, databases, load, source_database, source_settings, sql
from .._load.copies import Copy
from .._load.databases import Database, Mark
from .._postgres import own_sessions
from .._postgres.connection import Server, Session
from .._postgres.reconnect import persist
from .._postgres.sql import LAG
from .._postgres.statements import compose
from .._target import work_directory
from .._target.base import Target
from .._units import human_size, to_rfc3339, utc_now
from .._verify import restore_copy
from .._verify.restore_copy import StepTimer
from . import acceptance, loaded_stage, preflight, stage_steps, waits
from .exclusive_session import exclusive
from .preflight import RestorePreflight, StagePlan

_DROP_PATIENCE_S = 60.0
_LAG_PATIENCE_S = 3600.0
_LAG_EVERY_S = 1.0
_NAME_WAY_OUT = "Say accept_unproven: true, and refresh what is computed from the name once it is in production."
_UNTOUCHED = "Production was not touched."
_CHANGED_SINCE = (
    "An earlier run loaded this stage, and a session may have changed it since. "
    "Run this again: it loads the backup again."
)
_SETTINGS_WAY_OUT = "Install on the server what is missing, or say accept_unproven: true if nothing depends on it."


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


@dataclass
class _Half:
    """A stage that is not proven yet.

    Attributes:
        name: empty as long as there is none.
        resumed: whether an earlier run has loaded it.
        remembered: whether the next run can go on from it, since its load has come to its end.
    """

    name: str = ""
    resumed: bool = False
    remembered: bool = False


@dataclass(frozen=True)
class _Loaded:
    """A stage whose load has come to its end: the database, its mark, and what the proof needs."""

    copy: Copy
    made: Database
    mark: Mark
    loaded: load.Loaded


def stage(target: Target, server: Server, plan: StagePlan, found: RestorePreflight, clock: StepTimer) -> Staged:
    """Restore and prove; returns the stage that is there already, if it is of the same backup.

    A stage that an earlier run has loaded is not loaded again, but proven all the same.

    Raises:
        Locked: somebody else restores this database.
        restore.RestoreRefused, ProofFailed: it does not load, or is not what its source was.
    """
    identity = found.source.identity
    half = _Half()
    with exclusive(server, plan.db) as session:
        try:
            with waits.bounded(server, session):
                way = preflight.way_of(server, plan, found.tablespace, found.keeps_tablespaces)
                ready = preflight.ready(session, plan, identity)
                before = None if ready else preflight.loaded(session, plan, identity, way)
                removed = _sweep(session, plan.db, before.database if before else None)
                if ready and ready.mark:
                    return _as_it_is(server, session, plan, found, ready, ready.mark, removed)
                if before:
                    half.name, half.resumed, half.remembered = before.database.name, True, True
                    made = _go_on(server, session, plan, found, before)
                else:
                    made = _load(target, server, session, plan, found, way, half, clock)
                return _finish(server, session, plan, found, made, half, clock, removed)
        except BaseException as exc:
            if half.name:
                _give_up(server, session, plan, half, exc)
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


def _load(
    target: Target,
    server: Server,
    session: Session,
    plan: StagePlan,
    found: RestorePreflight,
    way: Mapping[str, object],
    half: _Half,
    clock: StepTimer,
) -> _Loaded:
    """Make a database, load it, and leave the mark by which the next run goes on, should this one not come so far.

    Raises:
        Locked: the stage that was there before is gone, so that nothing says whether there is room for a load.
    """
    if not found.loads:
        raise Locked(
            "The stage that was there is gone",
            subject=repr(plan.db),
            why="another run has swapped it in or removed it meanwhile",
            remedy="Nothing was done. See which run that was, then run this again.",
        )
    source, now = found.source, utc_now()
    at = half.name = databases.unique_name(session, plan.db, "staged", now)
    begun = Mark("staging", plan.db, source.name, to_rfc3339(now), digest=source.identity.digest)
    with clock.step("create"):
        copy = _empty(server, session, plan, found, at, begun)
    found.notes.extend(copy.notes)
    made = databases.find(session, at)
    with work_directory.work_directory(target, plan.work_dir) as home:
        with clock.step("restore"):
            nice = ["nice", "-n", str(plan.nice)] if plan.nice else []
            dump = replace(source.dump, tablespaces=found.keeps_tablespaces)
            with restore_copy.blaming(copy, restore_copy.circumstances(copy, "stage", source.needs)):
                loaded = load.load(
                    target, copy.server, found.programs, dump, at,
                    jobs=plan.jobs, work_dir=home, before=nice, pause=_brake(session, plan),
                )  # fmt: skip
        made = replace(made, oid=loaded.oid or made.oid)
        loading = loaded_stage.Loading(way, plan.force, loaded, copy.notes, copy.doubts, _started(copy))
        mark = loaded_stage.as_mark(begun, source.fingerprint, loading)
        if mark is not None:
            # The server writes it to disk after all that was loaded before.
            persist(server, lambda: databases.put_mark(session, _same(session, made).name, mark))
            half.remembered = True
    return _Loaded(copy, made, begun, loaded)


def _started(copy: Copy) -> str:
    """When the server was started, if a crash of it would empty tables of the copy; else empty."""

    def ask() -> str:
        with copy.server.connect(copy.name) as inside:
            return str(inside.value(sql.SERVER_STARTED)) if inside.value(sql.HAS_UNLOGGED) else ""

    return persist(copy.server, ask)


def _empty(server: Server, session: Session, plan: StagePlan, found: RestorePreflight, at: str, begun: Mark) -> Copy:
    """An empty database beside production, that lives where the source did: that decides what the load computes."""
    needs = found.source.needs
    like = needs.like or source_database.like_of(session, plan.db)
    lacks = source_database.create_database(session, at, like, needs.encoding, tablespace=found.tablespace)
    databases.put_mark(session, at, begun)
    session.execute(compose("ALTER DATABASE {} CONNECTION LIMIT 0", at))  # superusers only
    copy = _settled(server, session, plan, found, at)
    if needs.like is None and found.production is not None:
        database_properties.apply(
            session,
            at,
            database_properties.of(session, databases.find(session, at)),
            database_properties.of(session, found.production),
        )
    source_database.create_bound(copy.server, session, at, begun, needs.extensions)
    return replace(copy, notes=lacks)


def _settled(server: Server, session: Session, plan: StagePlan, found: RestorePreflight, at: str) -> Copy:
    """The database as a copy for our sessions, with the settings of its source. May be done twice."""
    like = found.source.needs.like
    dumped = found.source.manifest is not None
    visitor = own_sessions.on_copy(server, session, dumped=dumped, more={"synchronous_commit": "off"})
    doubts = source_settings.settle(session, visitor, at, like) if like else []
    roles = source_settings.of_other_roles(like, server.login.user) if like else {}
    return Copy(visitor, at, [], doubts, _SETTINGS_WAY_OUT, roles, plan.db, _NAME_WAY_OUT)


def _go_on(
    server: Server, session: Session, plan: StagePlan, found: RestorePreflight, before: loaded_stage.Found
) -> _Loaded:
    """The stage that an earlier run has loaded, as it was when the load came to its end."""
    name, mark = before.database.name, before.mark
    session.query(sql.END_SESSIONS, (before.database.oid,))  # that run's, which the server may not have ended yet
    copy = before.loading.on(persist(server, lambda: _settled(server, session, plan, found, name)))
    said = f"{name} was not loaded again: an earlier run has loaded it, which began at {mark.at}."
    found.notes.extend([*copy.notes, said])
    return _Loaded(copy, before.database, replace(mark, loading=None), before.loading.loaded)


def _finish(
    server: Server,
    session: Session,
    plan: StagePlan,
    found: RestorePreflight,
    stage: _Loaded,
    half: _Half,
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
        persist(visitor, lambda: stage_steps.dress(session, _same(session, stage.made), found))
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
    persist(server, lambda: databases.put_mark(session, _same(session, stage.made).name, mark))
    return Staged(at, mark, True, True, dict(clock.steps), smoke, removed, half.resumed)


def _give_up(server: Server, session: Session, plan: StagePlan, half: _Half, exc: BaseException) -> None:
    """Drop a stage that failed. One that is loaded, and of which nothing bad is known, is left for the next run."""
    failed = isinstance(exc, (load.RestoreRefused, ProofFailed, InvalidInput))
    told = [_UNTOUCHED]
    if half.remembered and not failed:
        if not isinstance(exc, Locked):  # else another run has it, or has removed it
            told.append(f"The backup is loaded as {half.name}: the next run of this backup goes on from there.")
        if isinstance(exc, Interrupted):
            exc.left = " ".join(told)
    elif half.remembered:
        # Only under the lock: without it, another run may go on from this stage now, and find out the same.
        with suppress(RunbookError):
            persist(server, lambda: _drop_failed(session, half.name, keep=plan.keep_failed))
    elif not plan.keep_failed:
        _drop(server, half.name)
    if isinstance(exc, RunbookError):
        missing = [each for each in told if each not in exc.message]
        exc.remedy = " ".join(filter(None, [exc.remedy, *missing]))


def _drop_failed(session: Session, name: str, *, keep: bool) -> None:
    """Drop a loaded stage that is not what its source was, or let the next run drop it."""
    found = databases.list_databases(session).get(name)
    if found is None or found.mark is None or found.mark.state != "loaded":
        return
    if keep:
        databases.put_mark(session, name, replace(found.mark, state="staging", loading=None))
    else:
        databases.drop(session, name)


def _same(session: Session, made: Database) -> Database:
    """The stage that this run has made, as it is now.

    Raises:
        Locked: it is another one. The lock was lost for a while with its connection.
    """
    found = databases.list_databases(session).get(made.name)
    if found is None or found.oid != made.oid:
        raise Locked(
            "Another run has removed what this one restored",
            subject=repr(made.name),
            why="the connection was lost, and with it the lock on the database's name",
            remedy=f"{_UNTOUCHED} See which run that was, wait for it to end, then run this again.",
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


def _sweep(session: Session, db: str, spared: Database | None) -> list[str]:
    """Drop what runs that died have left half-way, but for the one to go on from; only alone."""
    left = databases.find_marked(session, db, "staging", "loaded")
    chosen = [item.name for item in left if spared is None or item.oid != spared.oid]
    for name in chosen:
        databases.drop(session, name)
    return chosen


def _drop(server: Server, name: str) -> None:
    """Drop a stage that failed, waiting for a server that restarts; else the next run does it."""
    deadline = time.monotonic() + _DROP_PATIENCE_S
    while True:
        try:
            with databases.connect_admin(server) as session:
                databases.drop(session, name)
            return
        except RunbookError as exc:
            if not isinstance(exc, ConnectionFailed) and not exc.details.get("lost"):
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


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
            exc.remedy = f"{exc.remedy} {_UNTOUCHED}".strip()
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
        "msg": f"{mark.backup} {done} {staged.name}: {mark.verdict}, {mark.rows} rows.",
    }
