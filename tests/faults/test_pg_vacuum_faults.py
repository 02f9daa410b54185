"""pg_vacuum when tables are locked, dropped or of another role, when time or disk run out, and when processes die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.limits import Limits
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.vacuum.plan import VacuumPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.vacuum.run import run
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support import cramped as small_disk
from tests.support import repack
from tests.support.backups import our_server
from tests.support.databases import Database, new_database
from tests.support.modules import RunningModule, start_module
from tests.support.processes import alive, command_lines, until
from tests.support.servers import Server
from tests.support.vacuums import ALWAYS, attempt, bloat, checks, done, locked, skipped, table, vacuum

TIMEOUT_S = 60.0
# With this lock of another session a table can be looked at, and VACUUM waits.
QUIETLY = "SHARE UPDATE EXCLUSIVE"
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s AND datname = %s"


@pytest.fixture(name="two")
def _two(database: Database) -> Database:
    """Two tables to vacuum, ``a`` before ``b``."""
    table(database, "a", rows=4000, dead=2000)
    table(database, "b", rows=2000, dead=1000)
    return database


def waiting(database: Database, statement: str = "VACUUM%") -> int:
    """The backend that waits for a lock, once there is one."""
    assert until(lambda: len(database.query(WAITING, statement, database.name)) > 0, TIMEOUT_S)
    return int(database.query(WAITING, statement, database.name)[0][0])


def started(database: Database, **over: Any) -> RunningModule:
    return start_module("pg_vacuum", database.login(**over))


# --- one table of several ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", QUIETLY])
def test_a_locked_table_is_named_with_its_holder_and_the_others_are_done(two: Database, mode: str) -> None:
    with locked(two, "a", mode) as pid:
        result = vacuum(two, lock_timeout="200ms")
        assert (done(result), result["changed"], result["left"]) == (["b"], True, ["public.a"])
        assert "longer than lock_timeout (200 ms)" in skipped(result)["a"]
        assert f"process {pid} of postgres (migration), idle in transaction" in skipped(result)["a"]
        assert checks(result) == [("vacuum_failed", "public.a")]
        named = attempt(two, tables=["a"], lock_timeout="200ms")
        assert "public.a (it was locked for longer" in named["failure"]
        without_waiting = vacuum(two, skip_locked=True)
        assert (without_waiting["changed"], without_waiting["findings"]) == (False, [])
        assert f"process {pid}" in skipped(without_waiting)["a"]
    assert done(vacuum(two)) == ["a"]


def test_tables_that_are_dropped_meanwhile_are_passed_over(two: Database) -> None:
    table(two, "c", rows=1000, dead=500)
    with locked(two, "a", QUIETLY):
        module = started(two, min_dead_tuples=500)
        waiting(two)
        two.execute("DROP TABLE b")
    result = module.finish()
    assert not result["failed"], result["msg"]
    assert (done(result), result["findings"]) == (["a", "c"], [])


def test_a_table_that_is_dropped_while_it_is_waited_for_is_passed_over(two: Database) -> None:
    with two.connect(autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("DROP TABLE a")
        module = started(two)
        waiting(two, "%pg_relation_size%")
        other.commit()
    result = module.finish()
    assert (result["failed"], done(result), result["findings"]) == (False, ["b"], [])
    assert skipped(result) == {"a": "it was dropped in the meantime"}


def test_a_table_that_takes_too_long_is_named_and_the_others_are_done(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        result = vacuum(two, statement_timeout="300ms")
    assert (done(result), result["left"]) == (["b"], ["public.a"])
    assert "longer than statement_timeout (300 ms)" in skipped(result)["a"]


def test_tables_of_others_are_named_and_ones_own_are_done(two: Database) -> None:
    role = f"own_{two.name}"
    two.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"ALTER TABLE b OWNER TO {role}")
    try:
        login = {"login_user": role, "login_password": "x"}
        for check in (True, False):
            result = vacuum(two, check, **login)
            assert done(result) == ["b"]
            assert "the login owns neither" in skipped(result)["a"]
            assert checks(result) == [("vacuum_failed", "public.a")]
        assert "the login owns neither" in attempt(two, tables=["a"], **login)["failure"]
        assert "the login owns neither" in attempt(two, **login)["failure"]  # nothing at all could be done
        two.execute(f"ALTER DATABASE {two.name} OWNER TO {role}")
        assert done(vacuum(two, **login)) == ["a"]
    finally:
        two.execute(
            f"ALTER DATABASE {two.name} OWNER TO postgres", f"ALTER TABLE b OWNER TO postgres; DROP ROLE {role}"
        )


# --- the whole run -----------------------------------------------------------------------------------------


def test_a_cancelled_statement_ends_the_run_and_another_one_goes_on(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        module = started(two)
        two.query("SELECT pg_cancel_backend(%s)", waiting(two))
        result = module.finish()
    assert result["failed"]
    assert "Another session cancelled the work on public.a" in result["msg"]
    assert (result["left"], result["changed"]) == (["public.a", "public.b"], False)
    assert done(vacuum(two)) == ["a", "b"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_module_and_statement_at_once(two: Database, number: signal.Signals) -> None:
    with locked(two, "a", QUIETLY):
        module = started(two, lock_timeout="1h")
        pid = waiting(two)
        module.process.send_signal(number)
        result = module.finish(TIMEOUT_S)
        assert f"Stopped by {number.name}" in result["msg"]
        assert until(lambda: not alive(pid), TIMEOUT_S)
    assert done(vacuum(two)) == ["a", "b"]


def test_a_killed_module_leaves_no_statement_behind_that_does_harm(two: Database) -> None:
    with locked(two, "a", QUIETLY):
        module = started(two)
        waiting(two)
        module.process.kill()
        module.process.communicate()
    assert vacuum(two)["left"] == []


def test_the_end_of_the_window_stops_the_run_and_another_one_goes_on(two: Database) -> None:
    now = datetime.now(UTC)
    with locked(two, "a", QUIETLY):
        outcome = run(
            our_server(two),
            LocalTarget(),
            VacuumPlan(two.name),
            Limits(until=now + timedelta(seconds=0.5)),
            lambda: datetime.now(UTC),
            check_mode=False,
        )
    assert (outcome.values["left"], outcome.changed, outcome.failure) == (["public.a", "public.b"], False, None)
    assert [each["state"] for each in outcome.values["tables"]] == ["left", "left"]
    assert outcome.values["stopped_by"].startswith("The maintenance window ended")
    assert done(vacuum(two)) == ["a", "b"]


def test_a_rewrite_that_would_outlast_the_window_is_not_begun(database: Database) -> None:
    bloat(database)
    now = datetime.now(UTC)
    plan = VacuumPlan(database.name, full=True, min_bloat_bytes=1)
    limits = Limits(until=now + timedelta(seconds=0.01))
    outcome = run(our_server(database), LocalTarget(), plan, limits, lambda: now, check_mode=False)
    assert (outcome.values["left"], outcome.changed) == (["public.t"], False)
    assert "a prediction" in outcome.values["stopped_by"]


def test_a_server_that_dies_is_told(new_server: Callable[..., Server]) -> None:
    database = new_database(new_server())
    table(database)
    with locked(database, "t", QUIETLY):
        module = started(database)
        waiting(database)
        database.server.kill()
        result = module.finish()
    assert result["failed"]
    assert "connection to the server was lost" in result["msg"]
    database.server.start()
    assert vacuum(database, tables=["t"])["left"] == []


# --- a full disk -------------------------------------------------------------------------------------------


@pytest.fixture(name="cramped")
def _cramped() -> Iterator[Database]:
    with small_disk.cramped() as database:
        yield database


def test_a_full_disk_loses_nothing(cramped: Database) -> None:
    bloat(cramped, "t", 40000)
    cramped.execute("ALTER TABLE t SET TABLESPACE cramped")
    fill = "CREATE TABLE filler TABLESPACE cramped AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 5000)"
    cramped.execute(fill)
    content, size = "SELECT count(*), sum(id) FROM t", "SELECT pg_total_relation_size('t'), pg_relation_filenode('t')"
    before = cramped.query(content), cramped.query(size)
    failed = attempt(cramped, full=True, window=ALWAYS, min_bloat_bytes="1MB")
    assert failed["failure"].startswith("The disk is full: could not extend file")
    assert (failed["left"], failed["changed"]) == (["public.t"], False)
    assert (cramped.query(content), cramped.query(size)) == before
    cramped.execute("DROP TABLE filler")
    assert done(vacuum(cramped, full=True, window=ALWAYS, min_bloat_bytes="1MB")) == ["t"]
    assert cramped.query(content) == before[0]


# --- pg_repack ---------------------------------------------------------------------------------------------

LEFT = """
SELECT count(*) FROM (SELECT 1 FROM pg_trigger WHERE tgname = 'repack_trigger'
UNION ALL SELECT 1 FROM pg_class WHERE relname ~ '^(log|table)_[0-9]+$'
UNION ALL SELECT 1 FROM pg_type WHERE typname ~ '^pk_[0-9]+$') AS found
"""


@pytest.fixture(name="place", scope="module")
def _place() -> Iterator[Server]:
    with Server(repack.installation(), settings={"autovacuum": "off"}, own_identity=True) as server:
        yield server


@pytest.fixture(name="bloated")
def _bloated(place: Server) -> Iterator[Database]:
    database = new_database(place)
    database.execute("CREATE EXTENSION pg_repack")
    bloat(database)
    yield database
    database.drop()


def repacking(database: Database, **over: Any) -> dict[str, Any]:
    bin_dir = str(database.server.bin_dir)
    return database.login(method="repack", bin_dir=bin_dir, min_bloat_bytes="100kB", lock_timeout="5s", **over)


def half_way(database: Database) -> int:
    """pg_repack has its trigger on the table, and waits for a transaction; its process id."""
    assert until(lambda: database.query(LEFT)[0][0] == 4, TIMEOUT_S), database.query(LEFT)
    [pid] = [pid for pid, line in command_lines().items() if "pg_repack" in line and f"'{database.name}'" in line]
    return pid


def sessions_gone(database: Database) -> bool:
    return database.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_repack'") == [(0,)]


def test_what_a_dead_pg_repack_has_left_is_dropped_and_the_next_run_goes_on(bloated: Database) -> None:
    with locked(bloated, "pg_class", "ACCESS SHARE"):
        module = start_module("pg_vacuum", repacking(bloated))
        os.kill(half_way(bloated), signal.SIGKILL)
        failed = module.finish()
        assert "public.t (pg_repack was ended by signal 9" in failed["msg"]
    assert until(lambda: sessions_gone(bloated), TIMEOUT_S)
    assert bloated.query(LEFT) == [(4,)]
    params = {key: value for key, value in repacking(bloated).items() if not key.startswith("login") and key != "db"}
    checked = vacuum(bloated, True, **params)
    assert (checked["cleaned"], bloated.query(LEFT)) == (["public.t"], [(4,)])
    result = vacuum(bloated, **params)
    assert (result["cleaned"], done(result), bloated.query(LEFT)) == (["public.t"], ["t"], [(0,)])
    assert vacuum(bloated, **params)["changed"] is False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pg_repack_clears_up_when_the_module_ends(bloated: Database, number: signal.Signals) -> None:
    with locked(bloated, "pg_class", "ACCESS SHARE"):
        module = start_module("pg_vacuum", repacking(bloated))
        pid = half_way(bloated)
        module.process.send_signal(number)
        module.process.communicate()
        assert until(lambda: not alive(pid), TIMEOUT_S)
    assert until(lambda: sessions_gone(bloated), TIMEOUT_S)
    assert until(lambda: bloated.query(LEFT) == [(0,)], TIMEOUT_S)


def test_a_load_limit_stops_pg_repack_and_a_running_one_is_left_alone(bloated: Database) -> None:
    with locked(bloated, "pg_class", "ACCESS SHARE"):
        module = start_module("pg_vacuum", repacking(bloated, max_transaction_age="10s"))
        half_way(bloated)
        params = {
            key: value for key, value in repacking(bloated).items() if not key.startswith("login") and key != "db"
        }
        beside = attempt(bloated, True, **params)
        assert (beside["cleaned"], beside["notes"]) == ([], ["Another pg_repack is working on public.t."])
        result = module.finish()
    assert (result["failed"], result["left"], result["changed"]) == (False, ["public.t"], False)
    assert "max_transaction_age allows 10.0 s" in result["stopped_by"]
    assert until(lambda: bloated.query(LEFT) == [(0,)], TIMEOUT_S)
