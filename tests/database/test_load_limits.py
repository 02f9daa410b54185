"""Load limits on real servers: each reason is seen, reported and gone again, and a running statement is stopped for it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import LOAD_LIMITS
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput, QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.limits import Limits, LoadLimits
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.window import OutsideWindow
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import directories as ops
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Session
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local_files import LocalFiles
from tests.support.backups import our_server
from tests.support.databases import Database, new_database
from tests.support.processes import until
from tests.support.replicas import replica_of
from tests.support.servers import Server

TIMEOUT_S = 30.0
LONG = "SELECT pg_catalog.pg_sleep(60)"
NOTHING = {
    "max_replica_lag": None,
    "max_wal_size": None,
    "max_transaction_age": None,
    "min_free": None,
    "window": None,
}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(name="sessions")
def _sessions(database: Database) -> Iterator[tuple[Session, Session]]:
    """One to work in, and one for the load limits."""
    ours = our_server(database)
    with ours.connect(database.name) as work, ours.connect(database.name) as own:
        yield work, own


def limited(own: Session, limits: Limits, target: LocalTarget | None = None, **options: Any) -> LoadLimits:
    return LoadLimits(limits, own, target or LocalTarget(), now, **{"every_s": 0.02, **options})


def told(load: LoadLimits) -> str:
    """The reason to stop, once there is one."""
    assert until(lambda: load.check() is not None, TIMEOUT_S)
    assert load.stopped_by is not None
    return load.stopped_by


# --- the reasons -----------------------------------------------------------------------------------------


def test_without_limits_there_is_no_reason(sessions: tuple[Session, Session]) -> None:
    load = limited(sessions[1], Limits.read(NOTHING, now()))
    assert load.check() is None
    with load.watching(sessions[0]):
        assert sessions[0].value("SELECT 1") == 1
    assert load.stopped_by is None


def test_a_long_transaction_is_named_until_it_ends(database: Database, sessions: tuple[Session, Session]) -> None:
    load = limited(sessions[1], Limits(max_transaction_age_s=0.05))
    assert load.check() is None
    with contextlib.closing(database.connect(autocommit=False, application_name="billing")) as other:
        with other.cursor() as cursor:
            cursor.execute("SELECT 1")
        reason = told(load)
        assert f"process {other.info.backend_pid} of postgres (billing), idle in transaction" in reason
        other.rollback()
        assert load.check() is None
    assert limited(sessions[1], Limits(max_transaction_age_s=0.05), programs=["billing"]).check() is None


def test_our_own_statement_is_nobody_elses_transaction(sessions: tuple[Session, Session]) -> None:
    load = limited(sessions[1], Limits(max_transaction_age_s=0.05))
    with load.watching(sessions[0]):
        sessions[0].query("SELECT pg_catalog.pg_sleep(0.3)")
    assert load.stopped_by is None


def test_wal_and_space_are_measured(sessions: tuple[Session, Session], server: Server) -> None:
    own = sessions[1]
    assert "and max_wal_size allows 1.0 KiB" in told(limited(own, Limits(max_wal_size_bytes=1024)))
    assert limited(own, Limits(max_wal_size_bytes=2**40)).check() is None
    assert f"are free in {server.data_dir}, and min_free" in told(limited(own, Limits(min_free_bytes=2**60)))
    assert f"are free in {server.data_dir}" in told(limited(own, Limits(min_free_ratio=0.99999999)))
    assert limited(own, Limits(min_free_bytes=1, min_free_ratio=None)).check() is None
    assert limited(own, Limits(min_free_ratio=0.000001)).check() is None


def test_the_directories_are_those_of_this_server(sessions: tuple[Session, Session], server: Server) -> None:
    class Elsewhere(LocalFiles):
        def read(self, path: str, limit: int = 4096) -> bytes:
            lines = super().read(path, limit).split(b"\n")
            return b"\n".join([*lines[:3], b"1", *lines[4:]])  # the port of another server

    there = LocalTarget()
    assert ops.places(sessions[1], there) == [str(server.data_dir), f"{server.data_dir}/pg_wal"]
    there.files = Elsewhere()
    with pytest.raises(InvalidInput, match="data directory cannot be seen"):
        limited(sessions[1], Limits(min_free_bytes=1), there).check()


@pytest.mark.parametrize(
    ("limits", "option"),
    [
        (Limits(max_replica_lag_s=1), "max_replica_lag"),
        (Limits(max_transaction_age_s=1), "max_transaction_age"),
        (Limits(max_wal_size_bytes=1), "max_wal_size"),
        (Limits(min_free_bytes=1), "min_free"),
    ],
)
def test_a_login_that_cannot_see_is_refused(database: Database, limits: Limits, option: str) -> None:
    database.execute(f"CREATE ROLE blind_{database.name} LOGIN PASSWORD 'x'")
    try:
        ours = our_server(database)
        with ours.connect(database.name) as own:
            own.query(f"SET ROLE blind_{database.name}")
            with pytest.raises(InvalidInput, match=f"{option}.*pg_monitor"):
                limited(own, limits).check()
            own.query("RESET ROLE")
            own.query(f"GRANT pg_monitor TO blind_{database.name}")
            own.query(f"SET ROLE blind_{database.name}")
            limited(own, limits).check()
    finally:
        database.execute(f"DROP ROLE blind_{database.name}")


def test_replicas_that_stand_still_and_prepared_transactions(server: Server) -> None:
    with Server(server.installation, settings={"max_prepared_transactions": 2}) as primary:
        database = new_database(primary)
        ours = our_server(database)
        with ours.connect(database.name) as work, ours.connect(database.name) as own:
            database.execute("CREATE TABLE t (n int)")
            with contextlib.closing(database.connect(autocommit=False)) as other, other.cursor() as cursor:
                cursor.execute("INSERT INTO t VALUES (1)")
                cursor.execute("PREPARE TRANSACTION 'order 66'")
            assert "prepared transaction 'order 66' of postgres" in told(
                limited(own, Limits(max_transaction_age_s=0.01))
            )
            database.execute("ROLLBACK PREPARED 'order 66'")
            assert limited(own, Limits(max_transaction_age_s=0.01)).check() is None
            with replica_of(primary) as replica:
                in_bytes, in_seconds = Limits(max_replica_lag_bytes=100_000), Limits(max_replica_lag_s=0.3)
                load = [limited(own, limits) for limits in (in_bytes, in_seconds)]
                assert until(lambda: all(each.check() is None for each in load), TIMEOUT_S)
                replica.query("SELECT pg_wal_replay_pause()")
                database.execute("INSERT INTO t SELECT generate_series(1, 10000)")
                # No session writes from here on: the server's own figure for the lag does not grow, the computed one does.
                for each in load:
                    assert told(each).startswith("Standby standby1 is ")
                with pytest.raises(QueryFailed), load[1].watching(work):
                    work.query(LONG)
                assert "max_replica_lag allows 300 ms" in str(load[1].stopped_by)
                replica.query("SELECT pg_wal_replay_resume()")
                assert until(lambda: all(each.check() is None for each in load), TIMEOUT_S)


# --- during a statement ----------------------------------------------------------------------------------


def test_the_end_of_the_window_stops_a_statement(sessions: tuple[Session, Session]) -> None:
    work, own = sessions
    load = limited(own, Limits(until=now() + timedelta(seconds=0.2)))
    assert load.check() is None
    started = time.monotonic()
    with pytest.raises(QueryFailed) as caught, load.watching(work):
        work.query(LONG)
    assert time.monotonic() - started < 20
    assert caught.value.details["sqlstate"] == "57014"
    assert str(load.stopped_by).startswith("The maintenance window ended at ")
    assert work.value("SELECT 1") == 1


def test_a_cancellation_that_comes_too_late_hits_nothing(sessions: tuple[Session, Session]) -> None:
    work, own = sessions
    stopped = 0
    for number in range(30):
        load = limited(own, Limits(until=now()), every_s=0.005)
        with contextlib.suppress(QueryFailed), load.watching(work):
            work.query("SELECT pg_catalog.pg_sleep(%s)", (0.004 + 0.0002 * number,))
        stopped += load.stopped_by is not None
        assert work.value("SELECT 1") == 1
    assert stopped


def test_a_signal_stops_a_statement(sessions: tuple[Session, Session]) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    work, own = sessions
    load = limited(own, Limits())
    before = signal.signal(signal.SIGUSR1, interrupt)
    killer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    started = time.monotonic()
    try:
        killer.start()
        with pytest.raises(Interrupted), load.watching(work):
            work.query(LONG)
    finally:
        killer.join()
        signal.signal(signal.SIGUSR1, before)
    assert time.monotonic() - started < 20
    assert load.stopped_by is None
    assert work.value("SELECT 1") == 1


def test_limits_that_cannot_be_checked_any_more_stop_the_work(sessions: tuple[Session, Session]) -> None:
    work, own = sessions
    load = limited(own, Limits(max_wal_size_bytes=2**40))
    assert load.check() is None
    own.query("SET statement_timeout = 1")
    load.session = _Slow(own)  # type: ignore[assignment]
    with pytest.raises(QueryFailed), load.watching(work):
        work.query(LONG)
    assert "cannot be checked: canceling statement due to statement timeout" in str(load.stopped_by)


class _Slow:
    """A session in which each query runs into its timeout."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def value(self, *_: object) -> Any:
        return self._session.value(LONG)


def test_a_lost_server_is_told_by_the_statement(database: Database) -> None:
    ours = our_server(database)
    with ours.connect(database.name) as work, ours.connect(database.name) as own:
        load = limited(own, Limits(max_wal_size_bytes=2**40))
        pids = [work.value("SELECT pg_backend_pid()"), own.value("SELECT pg_backend_pid()")]
        end = threading.Timer(0.1, lambda: database.query("SELECT pg_terminate_backend(pid) FROM unnest(%s) pid", pids))
        end.start()
        with pytest.raises(QueryFailed) as caught, load.watching(work):
            work.query(LONG)
        end.join()
    assert caught.value.details["lost"]
    assert load.stopped_by is None


# --- options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max_replica_lag": "64MB"}, Limits(max_replica_lag_bytes=64 * 1024**2)),
        ({"max_replica_lag": "30s"}, Limits(max_replica_lag_s=30)),
        ({"max_replica_lag": "5m"}, Limits(max_replica_lag_s=300)),
        (
            {"max_wal_size": "1GB", "max_transaction_age": "1h"},
            Limits(max_wal_size_bytes=1024**3, max_transaction_age_s=3600),
        ),
        ({"min_free": "10%"}, Limits(min_free_ratio=0.1)),
        ({"min_free": "20GB"}, Limits(min_free_bytes=20 * 1024**3)),
    ],
)
def test_options_become_limits(given: dict[str, Any], expected: Limits) -> None:
    assert Limits.read(LOAD_LIMITS.read({**NOTHING, **given}), now()) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"max_replica_lag": "64"},  # of what?
        {"max_replica_lag": "far"},
        {"max_wal_size": "1h"},
        {"max_transaction_age": "1GB"},
        {"min_free": "120%"},
        {"min_free": "%"},
        {"window": {"start": "1320", "end": "04:00"}},
    ],
)
def test_what_no_limit_can_be_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(given))}.*"):
        Limits.read(LOAD_LIMITS.read({**NOTHING, **given}), now())


def test_a_closed_window_is_refused_and_in_check_mode_told() -> None:
    noon = datetime(2026, 2, 2, 12, tzinfo=UTC)
    params = {**NOTHING, "window": {"start": "22:00", "end": "04:00"}}
    with pytest.raises(OutsideWindow):
        Limits.read(LOAD_LIMITS.read(params), noon)
    assert Limits.read(LOAD_LIMITS.read(params), noon, must_be_open=False).opens == noon.replace(hour=22)
    night = noon.replace(hour=23)
    assert Limits.read(LOAD_LIMITS.read(params), night).until == datetime(2026, 2, 3, 4, tzinfo=UTC)
