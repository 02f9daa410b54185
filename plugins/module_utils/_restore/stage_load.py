# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of a stage: a database beside production, made like the source's, and filled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from .._errors import InvalidInput, Locked
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
from . import loaded_stage
from .plan import StagePlan
from .preflight import RestorePreflight

UNTOUCHED = "Production was not touched."
_LAG_PATIENCE_S = 3600.0
_LAG_EVERY_S = 1.0
_NAME_WAY_OUT = "Set accept_unproven: true, and after the swap refresh what is computed from the name."
_SETTINGS_WAY_OUT = "Install on the server what is missing, or set accept_unproven: true if nothing depends on it."


@dataclass
class UnprovenStage:
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
class LoadedStage:
    """A stage whose load has come to its end: the database, its mark, and what the proof needs."""

    copy: Copy
    made: Database
    mark: Mark
    loaded: load.Loaded


def load_stage(
    target: Target,
    server: Server,
    session: Session,
    plan: StagePlan,
    found: RestorePreflight,
    way: Mapping[str, object],
    half: UnprovenStage,
    clock: StepTimer,
) -> LoadedStage:
    """Make a database, load it, and leave the mark by which the next run goes on, should this one not come so far.

    Raises:
        Locked: the stage that was there before no longer exists, so that nothing says whether there is room for a load.
    """
    if not found.loads:
        raise Locked(
            "The staged copy no longer exists",
            subject=repr(plan.db),
            why="another run has swapped it in or dropped it",
            remedy="Nothing was done. Find that run, then run this again.",
        )
    source, now = found.source, utc_now()
    at = half.name = databases.unique_name(session, plan.db, "staged", now)
    begun = Mark("staging", plan.db, source.name, to_rfc3339(now), digest=source.identity.digest)
    with clock.step("create"):
        copy = _empty(server, session, plan, found, at, begun)
    found.notes.extend(copy.notes)
    made = databases.find(session, at)
    with work_directory.work_directory(target, plan.scratch_dir) as home:
        with clock.step("restore"):
            nice = ["nice", "-n", str(plan.nice)] if plan.nice else []
            dump = replace(source.dump, tablespaces=found.keeps_tablespaces)
            with restore_copy.blaming(copy, restore_copy.circumstances(copy, "stage", source.needs)):
                loaded = load.load(
                    target, copy.server, found.programs, dump, at,
                    jobs=plan.jobs, work_dir=home, before=nice, pause=_brake(session, plan),
                )  # fmt: skip
        made = replace(made, oid=loaded.oid or made.oid)
        loading = loaded_stage.StageLoading(way, plan.force, loaded, copy.notes, copy.doubts, _started(copy))
        mark = loaded_stage.as_mark(begun, source.fingerprint, loading)
        if mark is not None:
            # The server writes it to disk after all that was loaded before.
            persist(server, lambda: databases.put_mark(session, same(session, made).name, mark))
            half.remembered = True
    return LoadedStage(copy, made, begun, loaded)


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
    copy = settle(server, session, plan, found, at)
    if needs.like is None and found.production is not None:
        database_properties.apply(
            session,
            at,
            database_properties.of(session, databases.find(session, at)),
            database_properties.of(session, found.production),
        )
    source_database.create_bound(copy.server, session, at, begun, needs.extensions)
    return replace(copy, notes=lacks)


def settle(server: Server, session: Session, plan: StagePlan, found: RestorePreflight, at: str) -> Copy:
    """The database as a copy for our sessions, with the settings of its source. May be done twice."""
    like = found.source.needs.like
    dumped = found.source.manifest is not None
    visitor = own_sessions.on_copy(server, session, dumped=dumped, more={"synchronous_commit": "off"})
    doubts = source_settings.settle(session, visitor, at, like) if like else []
    roles = source_settings.of_other_roles(like, server.login.user) if like else {}
    return Copy(visitor, at, [], doubts, _SETTINGS_WAY_OUT, roles, plan.db, _NAME_WAY_OUT)


def _brake(session: Session, plan: StagePlan) -> Callable[[], None] | None:
    """What waits for replicas that are too far behind; None when any lag is accepted."""
    most = plan.max_replica_lag_bytes
    if most is None:
        return None

    def wait() -> None:
        deadline = time.monotonic() + _LAG_PATIENCE_S
        while (lag := session.value(LAG)) > most:
            if time.monotonic() > deadline:
                raise InvalidInput(
                    "A replica does not catch up",
                    subject=f"{human_size(lag)} behind",
                    why=f"max_replica_lag allows at most {human_size(most)}",
                    remedy="See pg_stat_replication for the reason, or raise max_replica_lag. Production was not "
                    "touched.",
                )
            time.sleep(_LAG_EVERY_S)

    return wait


def same(session: Session, made: Database) -> Database:
    """The stage that this run has made, as it is now.

    Raises:
        Locked: it is another one. The lock was lost for a while with its connection.
    """
    found = databases.list_databases(session).get(made.name)
    if found is None or found.oid != made.oid:
        raise Locked(
            "Another run has dropped the staged copy of this run",
            subject=repr(made.name),
            why="the connection was lost, and with it the lock on the database",
            remedy=f"{UNTOUCHED} Find that run, wait for it to end, then run this again.",
        )
    return found
