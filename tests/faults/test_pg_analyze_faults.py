"""pg_analyze when tables are locked, dropped or of another role, when time runs out, and when processes die."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.analyze import run as ops
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.analyze.tables import AnalyzePlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.limits import Limits
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_analyze
from tests.support import operations
from tests.support.backups import our_server
from tests.support.databases import Database, new_database
from tests.support.modules import Result, start_module
from tests.support.processes import alive, until
from tests.support.replicas import replica_of
from tests.support.servers import Server
from tests.support.vacuums import counted, locked

TIMEOUT_S = 60.0
# With this lock of another session a table can be looked at, and ANALYZE waits.
QUIETLY = "SHARE UPDATE EXCLUSIVE"
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ANALYZE%%' AND datname = %s"


def unknown(database: Database, *names: str) -> None:
    """Tables without statistics, the larger ones first."""
    for number, name in enumerate(names):
        rows = 1000 - number
        database.execute(
            f"CREATE TABLE {name} WITH (autovacuum_enabled = off) AS SELECT n AS id FROM generate_series(1, {rows}) n"
        )
        counted(database, name, 0, rows)


@pytest.fixture(name="two")
def _two(database: Database) -> Database:
    """Two tables to analyze, ``a`` before ``b``."""
    unknown(database, "a", "b")
    return database


def attempt(database: Database, check: bool = False, **over: Any) -> Result:
    return operations.attempt(pg_analyze, database, check, **over)


def analyze(database: Database, check: bool = False, **over: Any) -> Result:
    result = attempt(database, check, **over)
    assert result["failure"] is None, result["failure"]
    return result


def states(result: Mapping[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in result["tables"]}


def waiting(database: Database) -> int:
    """The backend whose ANALYZE waits for a lock, once there is one."""
    assert until(lambda: len(database.query(WAITING, database.name)) > 0, TIMEOUT_S)
    return int(database.query(WAITING, database.name)[0][0])


# --- one table of several ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", QUIETLY])
def test_a_locked_table_is_named_and_the_others_are_done(two: Database, mode: str) -> None:
    with locked(two, "a", mode):
        result = analyze(two, lock_timeout="200ms")
        assert states(result) == {"a": "failed", "b": "done"}
        assert "for longer than lock_timeout (200 ms)" in result["tables"][0]["why"]
        assert "public.a" in attempt(two, tables=["a"], lock_timeout="200ms")["failure"]
        assert states(analyze(two, skip_locked=True)) == {"a": "skipped"}
    assert states(analyze(two)) == {"a": "done"}
    assert analyze(two)["changed"] is False


def test_a_table_that_is_dropped_meanwhile_is_passed_over(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        module = start_module("pg_analyze", two.login())
        waiting(two)
        two.execute("DROP TABLE b")
    result = module.finish()
    assert not result["failed"], result["msg"]
    assert states(result) == {"a": "done", "b": "skipped"}


def test_a_table_that_takes_too_long_is_named_and_the_others_are_done(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        result = analyze(two, statement_timeout="300ms")
    assert states(result) == {"a": "failed", "b": "done"}
    assert "statement timeout" in result["tables"][0]["why"]


def test_a_cancelled_statement_ends_the_run_and_another_one_goes_on(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        module = start_module("pg_analyze", two.login())
        two.query("SELECT pg_cancel_backend(%s)", waiting(two))
        result = module.finish()
    assert (result["failed"], states(result)) == (True, {"a": "left", "b": "left"})
    assert "Another session cancelled the work on public.a" in result["msg"]
    assert states(analyze(two)) == {"a": "done", "b": "done"}


@pytest.mark.parametrize("grant", ["", "GRANT pg_monitor TO {}"])
def test_tables_of_others_are_named_and_ones_own_are_done(two: Database, grant: str) -> None:
    role = f"own_{two.name}"
    two.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"ALTER TABLE b OWNER TO {role}", grant.format(role) or "SELECT"
    )
    try:
        login = {"login_user": role, "login_password": "x"}
        result = analyze(two, **login)
        assert states(result) == {"a": "failed", "b": "done"}
        assert any("owns neither the table nor the database" in each["why"] for each in result["tables"])
        assert result["notes"] == [
            "The login is not a superuser: missing statistics are found only in tables that the login may read."
        ]
        assert "public.a" in attempt(two, **login)["failure"]  # nothing at all could be done
    finally:
        two.execute(f"ALTER TABLE b OWNER TO postgres; DROP ROLE {role}")


# --- the whole run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_module_and_statement_at_once(two: Database, number: signal.Signals) -> None:
    with locked(two, "a", QUIETLY):
        module = start_module("pg_analyze", two.login(lock_timeout="1h"))
        pid = waiting(two)
        module.process.send_signal(number)
        assert f"Stopped by {number.name}" in module.finish(TIMEOUT_S)["msg"]
        assert until(lambda: not alive(pid), TIMEOUT_S)
    assert states(analyze(two)) == {"a": "done", "b": "done"}


def test_the_end_of_the_window_stops_the_run_and_another_one_goes_on(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        limits = Limits(until=datetime.now(UTC) + timedelta(seconds=0.5))
        done = ops.run(
            our_server(two), LocalTarget(), AnalyzePlan(two.name), limits, lambda: datetime.now(UTC), check_mode=False
        )
    assert str(done.values["stopped_by"]).startswith("The maintenance window ended")
    assert (states(done.values), done.changed) == ({"a": "left", "b": "left"}, False)
    assert states(analyze(two)) == {"a": "done", "b": "done"}


def test_stages_that_were_stopped_are_gone_on_with(two: Database) -> None:
    """The load limit lets the first stage of the first table through."""
    looks = iter([datetime.now(UTC)])
    late = datetime.now(UTC) + timedelta(hours=1)
    limits = Limits(until=datetime.now(UTC) + timedelta(minutes=1))
    plan = AnalyzePlan(two.name, in_stages=True)
    done = ops.run(our_server(two), LocalTarget(), plan, limits, lambda: next(looks, late), check_mode=False)
    assert states(done.values) == {"a": "left", "b": "left"}
    assert done.changed
    assert states(analyze(two, in_stages=True)) == {"a": "done", "b": "done"}


def test_a_replica_that_falls_behind_stops_the_run() -> None:
    with Server(settings={"autovacuum": "off"}) as primary:
        database = new_database(primary)
        unknown(database, "a", "b")
        with replica_of(primary) as replica:
            for check in (True, False):
                with pytest.raises(
                    InvalidInput, match=r"ANALYZE must run on the primary: .* is a standby\. Set login_host"
                ):
                    attempt(Database(replica, database.name), check)
            replica.query("SELECT pg_wal_replay_pause()")
            database.execute("CREATE TABLE more AS SELECT n FROM generate_series(1, 10000) n")
            result = analyze(database, tables=["a", "b"], max_replica_lag="100kB")
            assert "max_replica_lag allows 100.0 KiB" in result["stopped_by"]
            assert (result["left"], result["changed"]) == (["public.a", "public.b"], False)
            replica.query("SELECT pg_wal_replay_resume()")
            assert until(lambda: analyze(database, max_replica_lag="100kB")["changed"], TIMEOUT_S)


def test_a_server_that_dies_is_told(new_server: Callable[..., Server]) -> None:
    database = new_database(new_server())
    unknown(database, "t")
    with locked(database, "t", QUIETLY):
        module = start_module("pg_analyze", database.login())
        waiting(database)
        database.server.kill()
        result = module.finish()
    assert result["failed"]
    assert "connection to the server was lost" in result["msg"]
    database.server.start()
    assert states(analyze(database)) == {"t": "done"}
