"""pg_reindex with faults: every index is rebuilt or unchanged, and the next run drops the leftovers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput, Locked
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.limits import Limits
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.reindex import run
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.reindex.choose import ReindexPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_index_info, pg_reindex
from tests.support import operations
from tests.support.backups import our_server
from tests.support.cramped import cramped
from tests.support.databases import Database, new_database
from tests.support.modules import Result, expect_success, start_module
from tests.support.processes import until
from tests.support.replicas import replica_of
from tests.support.servers import Server
from tests.support.vacuums import ALWAYS, checks, counted, locked, snapshot

TIMEOUT_S = 60.0
INVALID = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"
LEFT = "SELECT relname FROM pg_class WHERE relname ~ '_cc(new|old)'"
# With this lock of another session a rebuild begins, and then waits for that session.
WRITING = "ROW EXCLUSIVE"
# With this one a rebuild cannot begin.
QUIETLY = "SHARE UPDATE EXCLUSIVE"
HALF_WAY = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'REINDEX%%' AND datname = %s"


def invalid(database: Database, *names: str) -> None:
    """A table and an index for each name, the index invalid: so each is worth a rebuild, whatever its size."""
    for name in names:
        database.execute(
            f"CREATE TABLE {name} AS SELECT n AS id FROM generate_series(1, 100) n",
            f"CREATE INDEX {name}_id ON {name} (id)",
            INVALID.format(f"{name}_id"),
        )


@pytest.fixture(name="two")
def _two(database: Database) -> Database:
    """Two indexes to rebuild, of ``a`` before of ``b``."""
    invalid(database, "a", "b")
    return database


def attempt(database: Database, check: bool = False, **over: Any) -> Result:
    return operations.attempt(pg_reindex, database, check, **over)


def reindex(database: Database, check: bool = False, **over: Any) -> Result:
    result = attempt(database, check, **over)
    assert result["failure"] is None, result["failure"]
    return result


def states(result: Result) -> dict[str, str]:
    return {each["name"]: each["state"] for each in result["indexes"]}


def half_way(database: Database) -> int:
    """The backend whose rebuild waits for another session, once there is one."""
    assert until(lambda: len(database.query(HALF_WAY, database.name)) > 0, TIMEOUT_S)
    return int(database.query(HALF_WAY, database.name)[0][0])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """While another session is in the way, what an attempt has left cannot be dropped: that is for the next run."""
    monkeypatch.setattr(run, "_CLEAN_TIMEOUT_S", 0.05)


def nothing_left(database: Database) -> bool:
    return database.query(LEFT) == []


# --- one index of several ----------------------------------------------------------------------------------


def test_a_lock_is_tried_again_and_then_named_and_the_others_are_done(two: Database) -> None:
    at_once = {"concurrently": False, "window": ALWAYS, "lock_timeout": "100ms"}
    with locked(two, "a", WRITING) as pid:
        result = reindex(two, retries=1, **at_once)
        assert states(result) == {"a_id": "failed", "b_id": "done"}
        assert result["indexes"][0]["attempts"] == 2
        assert f"process {pid} of postgres (migration)" in result["indexes"][0]["why"]
        named = attempt(two, indexes=["a_id"], retries=0, **at_once)
        assert "public.a_id (it is blocked by process" in named["failure"]
    assert states(reindex(two, **at_once)) == {"a_id": "done"}
    assert reindex(two, **at_once)["changed"] is False


def test_who_vacuums_a_table_is_waited_for_as_long_as_for_a_lock(database: Database) -> None:
    """Not for as long as for a transaction."""
    database.execute(
        "CREATE TABLE t WITH (autovacuum_enabled = off) AS SELECT n AS id FROM generate_series(1, 20000) n",
        "CREATE INDEX t_id ON t (id)",
        "DELETE FROM t WHERE id > 1000",
    )
    counted(database, "t", 19000, 1000)
    database.execute("VACUUM ANALYZE t")
    with locked(database, "t", QUIETLY) as pid:
        result = attempt(database, lock_timeout="100ms", retries=1, min_bloat_bytes="64kB")
    assert [(each["state"], each["attempts"]) for each in result["indexes"]] == [("failed", 2)]
    assert f"process {pid} of postgres (migration)" in result["failure"]
    assert nothing_left(database)


def test_a_table_that_is_locked_exclusively_holds_nobody_up(two: Database) -> None:
    two.execute("CREATE INDEX a_odd ON a ((id % 2)) WHERE id > 5")
    with locked(two, "a", "ACCESS EXCLUSIVE") as pid:
        for result in (reindex(two, check=True), reindex(two)):
            assert list(states(result)) == ["b_id"]
            assert f"process {pid} of postgres (migration)" in result["leftovers"][0]["why"]
            assert result["left"] == ["public.a_id"]
        assert operations.attempt(pg_index_info, two)["failure"] is None
    assert states(reindex(two)) == {"a_id": "done"}


def test_an_index_that_is_dropped_meanwhile_is_passed_over(two: Database) -> None:
    with locked(two, "a", WRITING):
        module = start_module("pg_reindex", two.login())
        half_way(two)
        two.execute("DROP TABLE b")
    result = module.finish()
    assert not result["failed"], result["msg"]
    assert states(result) == {"a_id": "done", "b_id": "skipped"}
    assert "dropped in the meantime" in result["indexes"][1]["why"]


def test_one_that_takes_too_long_is_named_and_the_others_are_done(two: Database) -> None:
    with locked(two, "a", WRITING):
        result = reindex(two, statement_timeout="300ms")
    assert states(result) == {"a_id": "failed", "b_id": "done"}
    assert "statement timeout" in result["indexes"][0]["why"]
    [left] = result["leftovers"]
    assert (left["name"], left["state"], result["left"]) == ("a_id_ccnew", "left", ["public.a_id", "public.a_id_ccnew"])
    assert ("index_invalid", "public.a_id_ccnew") in checks(result)
    assert (states(reindex(two)), nothing_left(two)) == ({"a_id": "done"}, True)


def waiting_after_the_build(database: Database) -> bool:
    """Whether a rebuild has waited for others for half a second, with its index built."""
    waits = (
        "SELECT count(*)::int FROM pg_stat_activity a JOIN pg_stat_progress_create_index p USING (pid)"
        " WHERE a.wait_event_type = 'Lock' AND p.phase = 'waiting for old snapshots' AND a.datname = %s"
        " AND a.query_start < clock_timestamp() - interval '500 ms'"
    )
    return database.query(waits, database.name) == [(1,)]


def test_an_index_that_is_built_is_not_given_up_for_ordinary_transactions(two: Database) -> None:
    two.execute("CREATE TABLE other (id int)")
    with snapshot(two):
        module = start_module("pg_reindex", two.login(lock_timeout="100ms"))
        assert until(lambda: waiting_after_the_build(two), TIMEOUT_S)
    result = module.finish()
    assert [(each["state"], each["attempts"]) for each in result["indexes"]] == [("done", 1), ("done", 1)]


def test_what_an_attempt_leaves_is_told_and_no_further_one_is_begun_beside_it(two: Database) -> None:
    """If the login may not see a session, it learns of it only after the server has waited for it."""
    role = f"own_{two.name}"
    two.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"ALTER TABLE a OWNER TO {role}")
    login = {"login_user": role, "login_password": "x", "lock_timeout": "100ms", "max_transaction_age": "100ms"}
    login["retries"] = 1
    try:
        with locked(two, "a", WRITING):
            first = attempt(two, **login)
            assert [(each["state"], each["attempts"]) for each in first["indexes"]] == [("failed", 1)]
            assert ("a_id_ccnew", "left") in [(each["name"], each["state"]) for each in first["leftovers"]]
            assert ("index_invalid", "public.a_id_ccnew") in checks(first)
            second = attempt(two, indexes=["a_id"], **login)
            assert states(second) == {"a_id": "left"}
            assert "a_id_ccnew, a leftover of its interrupted rebuild" in second["indexes"][0]["why"]
            assert two.query(LEFT) == [("a_id_ccnew",)]
        assert states(reindex(two, indexes=["a_id"], **login)) == {"a_id": "done"}
        assert nothing_left(two)
    finally:
        two.execute(f"ALTER TABLE a OWNER TO postgres; DROP ROLE {role}")


def test_leftovers_are_dropped_where_transactions_are_read_only_by_default(two: Database) -> None:
    two.execute(
        "CREATE INDEX a_id_ccnew ON a (id)",
        INVALID.format("a_id_ccnew"),
        f"ALTER DATABASE {two.name} SET default_transaction_read_only = on",
    )
    result = reindex(two)
    assert [(each["name"], each["state"]) for each in result["leftovers"]] == [("a_id_ccnew", "done")]
    assert (states(result), nothing_left(two)) == ({"a_id": "done", "b_id": "done"}, True)


def test_a_cancelled_statement_leaves_nothing_and_ends_the_run(two: Database) -> None:
    with locked(two, "a", WRITING):
        module = start_module("pg_reindex", two.login())
        two.query("SELECT pg_cancel_backend(%s)", half_way(two))
        dropping = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE 'DROP INDEX%%' AND datname = %s"
        assert until(lambda: two.query(dropping, two.name) == [(1,)], TIMEOUT_S)
    result = module.finish()
    assert (states(result), nothing_left(two)) == ({"a_id": "left", "b_id": "left"}, True)
    assert "Another session cancelled the work on public.a_id" in result["msg"]
    assert result["failed"]
    assert states(reindex(two)) == {"a_id": "done", "b_id": "done"}


def test_a_rebuild_that_ends_after_the_new_index_is_in_place_is_one(two: Database) -> None:
    waits = "SELECT pid FROM pg_stat_progress_create_index WHERE phase = 'waiting for readers before marking dead' AND datname = %s"
    with contextlib.closing(two.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM a")
        module = start_module("pg_reindex", two.login())
        assert until(lambda: len(two.query(waits, two.name)) == 1, TIMEOUT_S)
        two.query("SELECT pg_cancel_backend(%s)", two.query(waits, two.name)[0][0])
        connection.rollback()
    result = module.finish()
    assert (states(result), nothing_left(two)) == ({"a_id": "done", "b_id": "left"}, True)
    assert "Another session cancelled the work on public.a_id" in result["msg"]
    assert states(reindex(two)) == {"b_id": "done"}


@pytest.mark.parametrize("grant", ["", "GRANT pg_monitor TO {}"])
def test_indexes_of_others_are_named_and_ones_own_are_done(two: Database, grant: str) -> None:
    role = f"own_{two.name}"
    two.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"ALTER TABLE b OWNER TO {role}", grant.format(role) or "SELECT"
    )
    try:
        login = {"login_user": role, "login_password": "x"}
        result = reindex(two, **login)
        assert states(result) == {"b_id": "done"}
        assert "lacks the privilege to change it" in result["leftovers"][0]["why"]
        seen = "Long transactions of other roles cannot be seen: grant the login pg_read_all_stats."
        assert (seen in result["notes"]) is not bool(grant)
    finally:
        two.execute(f"ALTER TABLE b OWNER TO postgres; DROP ROLE {role}")


# --- the whole run -----------------------------------------------------------------------------------------


def test_the_end_of_the_window_stops_the_run_and_another_one_goes_on(two: Database) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)

    def clock() -> datetime:
        """The window ends as soon as the first rebuild is under way."""
        return datetime.now(UTC) if nothing_left(two) else end

    with locked(two, "a", WRITING):
        plan, limits = ReindexPlan(two.name), Limits(until=end)
        done = run.run(our_server(two), LocalTarget(), plan, limits, clock, check_mode=False)
    assert str(done.values["stopped_by"]).startswith("The maintenance window ended")
    assert (done.values["left"], done.changed) == (["public.a_id", "public.b_id", "public.a_id_ccnew"], False)
    assert (states(reindex(two)), nothing_left(two)) == ({"a_id": "done", "b_id": "done"}, True)


def test_a_load_limit_stops_before_the_first(two: Database) -> None:
    for check in (True, False):
        result = reindex(two, check, max_wal_size="1kB")
        assert "max_wal_size allows 1.0 KiB" in result["stopped_by"]
    assert (result["left"], result["changed"]) == (["public.a_id", "public.b_id"], False)


def test_a_replica_that_falls_behind_stops_a_rebuild() -> None:
    with Server(settings={"autovacuum": "off"}) as primary:
        database = new_database(primary)
        invalid(database, "a", "b")
        with replica_of(primary) as replica:
            for check in (True, False):
                with pytest.raises(
                    InvalidInput, match=r"REINDEX must run on the primary: .* is a standby\. Set login_host"
                ):
                    attempt(Database(replica, database.name), check)
            replica.query("SELECT pg_wal_replay_pause()")
            database.execute("CREATE TABLE more AS SELECT n FROM generate_series(1, 10000) n")
            result = reindex(database, max_replica_lag="100kB")
            assert "max_replica_lag allows 100.0 KiB" in result["stopped_by"]
            assert (result["left"], result["changed"]) == (["public.a_id", "public.b_id"], False)
            replica.query("SELECT pg_wal_replay_resume()")
            assert until(lambda: reindex(database, max_replica_lag="100kB")["changed"], TIMEOUT_S)


def test_long_transactions_are_waited_for_as_long_as_is_allowed(two: Database) -> None:
    with contextlib.closing(two.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM a")
        module = start_module("pg_reindex", two.login(max_transaction_age="10ms", wait_for_transactions="60s"))
        looking = (
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
            " AND query LIKE '%%a.backend_xmin IS NOT NULL AS snapshot%%'"
        )
        assert until(lambda: two.query(looking, two.name) == [(True,)], TIMEOUT_S)
        assert two.query("SELECT count(*)::int FROM pg_index WHERE NOT indisvalid") == [(2,)]
        connection.rollback()
    result = module.finish()
    assert states(result) == {"a_id": "done", "b_id": "done"}


def test_a_second_run_at_the_same_time_is_refused(two: Database) -> None:
    with locked(two, "a", WRITING):
        module = start_module("pg_reindex", two.login())
        half_way(two)
        with pytest.raises(Locked, match="Another reindex of this database is running"):
            attempt(two)
    assert not module.finish()["failed"]


def test_what_a_restart_of_the_server_leaves_is_dropped_by_the_next_run(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"autovacuum": "off"})
    database = new_database(server)
    invalid(database, "t")
    with locked(database, "t", WRITING):
        module = start_module("pg_reindex", database.login(lock_timeout="60s"))
        assert until(lambda: not nothing_left(database), TIMEOUT_S)
        server.restart("immediate")
    result = module.finish()
    assert result["failed"]
    assert "connection to the server was lost" in result["msg"]
    done = expect_success("pg_reindex", database.login())
    assert [(each["name"], each["state"]) for each in done["leftovers"]] == [("t_id_ccnew", "done")]
    assert states(done) == {"t_id": "done"}
    assert expect_success("pg_reindex", database.login())["changed"] is False


def test_a_prepared_transaction_in_the_way_is_named(new_server: Callable[..., Server]) -> None:
    database = new_database(new_server(settings={"max_prepared_transactions": 2}))
    invalid(database, "t")
    database.execute("BEGIN; LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE; PREPARE TRANSACTION 'x'")
    result = attempt(database, lock_timeout="200ms", retries=0)
    database.execute("ROLLBACK PREPARED 'x'")
    assert "a prepared transaction" in result["leftovers"][0]["why"], result
    assert states(reindex(database)) == {"t_id": "done"}


def test_a_full_disk_leaves_the_index_as_it_was() -> None:
    with cramped() as database:
        database.execute(
            "CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 150000) n",
            "CREATE INDEX t_id ON t (id) TABLESPACE cramped",
            "CREATE TABLE filler TABLESPACE cramped AS SELECT repeat('x', 1000) AS v FROM generate_series(1, 5000)",
            INVALID.format("t_id"),
        )
        before = database.query("SELECT pg_relation_filenode('t_id')")
        failed = attempt(database)
        assert "could not extend file" in failed["failure"]
        assert "Free disk space" in failed["failure"]
        assert (failed["left"], nothing_left(database)) == (["public.t_id"], True)
        assert database.query("SELECT pg_relation_filenode('t_id')") == before
        database.execute("DROP TABLE filler")
        assert states(reindex(database)) == {"t_id": "done"}
