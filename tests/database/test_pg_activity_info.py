"""pg_activity_info on real servers: sessions, lock waits, hidden data, and servers that cannot be reached."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._health.reachability import reach
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import connection as _db
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.databases import Database, new_database
from tests.support.modules import Result, expect_failure, expect_success
from tests.support.pgbouncer import pgbouncer
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.sessions import crowd

NOW = {"blocking_warning": "0", "idle_in_transaction_warning": "0", "query_warning": "0"}
HOSTILE = "<script>alert(1)</script>\x1b[31m'\"{{ x }}"


def look(database: Database, **over: Any) -> Result:
    """Run the module and check what always holds."""
    result = expect_success("pg_activity_info", {**database.login(), **over})
    assert result["changed"] is False
    return result


def finding(result: Result, check: str) -> dict[str, Any]:
    """The one finding of a check."""
    [found] = [each for each in result["findings"] if each["check"] == check]
    return dict(found)


@pytest.fixture(scope="module")
def small() -> Iterator[Database]:
    """A database on a server with few connections, prepared transactions and room for long queries."""
    settings = {"max_connections": 12, "max_prepared_transactions": 4, "track_activity_query_size": "1MB"}
    with Server(settings=settings) as server:
        yield new_database(server)


def test_a_blocking_tree_with_its_locks_and_its_relation(any_database: Database) -> None:
    any_database.execute('CREATE TABLE "Big Orders" (id int PRIMARY KEY)', 'INSERT INTO "Big Orders" VALUES (1)')
    with crowd(any_database) as people:
        root, writer, queued, ddl, reader = (
            people.join(name) for name in ("root", "writer", "queued", "ddl", "reader")
        )
        root.run('BEGIN; UPDATE "Big Orders" SET id = 1')
        writer.begin('UPDATE "Big Orders" SET id = 1')
        people.waiting(writer)
        queued.begin('DELETE FROM "Big Orders"')
        people.waiting(writer, queued)
        ddl.begin('ALTER TABLE "Big Orders" ADD b int')
        people.waiting(writer, queued, ddl)
        reader.begin('SELECT * FROM "Big Orders"')
        people.waiting(writer, queued, ddl, reader)
        result = look(any_database, **NOW)

        [blocker] = result["blockers"]
        assert (blocker["pid"], blocker["held_up"], blocker["state"]) == (root.pid, 4, "idle in transaction")
        assert (blocker["backend_start"], blocker["application"]) == (root.start, "root")
        rows = {row["pid"]: row for row in result["blocking"]}
        assert len(rows) == len(result["blocking"]) == 5
        assert result["blocking"][0]["pid"] == root.pid
        assert {row["root_pid"] for row in rows.values()} == {root.pid}
        assert [rows[each.pid]["depth"] for each in (root, writer, queued, ddl, reader)] == [0, 1, 2, 1, 2]
        assert rows[queued.pid]["blocked_by"] == [writer.pid]
        assert (rows[writer.pid]["lock_type"], rows[reader.pid]["lock_mode"]) == ("transactionid", "AccessShareLock")
        assert {rows[each.pid]["relation"] for each in (writer, queued, ddl, reader)} == {'public."Big Orders"'}
        assert rows[writer.pid]["wait_s"] >= rows[reader.pid]["wait_s"] > 0
        assert rows[writer.pid]["query"] == 'UPDATE "Big Orders" SET id = 1'

        judged = finding(result, "blocking")
        assert (judged["severity"], judged["subject"]) == ("warning", f"pid {root.pid}")
        assert f"terminate_sessions_backend_start={root.start}" in judged["remedy"]
        assert finding(result, "idle_in_transaction")["subject"] == f"pid {root.pid}"
        assert finding(result, "long_query")["subject"] == f"pid {writer.pid}"
        assert (result["severity"], result["waiting_count"], result["idle_in_transaction_count"]) == ("warning", 4, 1)
        assert "blocks 4 sessions" in result["msg"]
        assert {"wait_event": "Lock:relation", "sessions": 2} in result["wait_events"]
        assert [row["pid"] for row in result["idle_in_transaction"]] == [root.pid]
        assert result["oldest_transactions"][0]["pid"] == root.pid
        assert [row["pid"] for row in result["longest_queries"]] == [each.pid for each in (writer, queued, ddl, reader)]

        many = look(any_database, blocking_warning="0", waiters_critical=4)
        assert (finding(many, "blocking")["severity"], finding(many, "blocking")["value"]) == ("critical", 4)
        assert not [each for each in look(any_database)["findings"] if each["severity"] != "ok"]
        elsewhere = look(Database(any_database.server, "postgres"))
        assert elsewhere["blocking"][1]["relation"].startswith("OID ")


def test_shares_counts_and_lists_have_limits(small: Database) -> None:
    with crowd(small) as people:
        for name in ("a", "a", "b"):
            people.join(name)
        result = look(small, connections_ratio_warning=0.3)
        assert (result["usable_connections"], result["max_connections"], result["connection_count"]) == (9, 12, 4)
        judged = finding(result, "connections")
        assert (judged["severity"], judged["value"], judged["threshold"]) == ("warning", 0.4444, 0.3)
        assert "4 of 9 connections" in judged["message"]
        assert finding(look(small, connections_ratio_critical=0.4), "connections")["severity"] == "critical"
        assert result["by_application"][0] == {
            "application": "a", "sessions": 2, "active": 0, "idle": 2, "idle_in_transaction": 0,
        }  # fmt: skip
        assert {"state": "idle", "sessions": 3} in result["by_state"]
        assert [row["database"] for row in result["by_database"]] == [small.name]
        assert len(look(small, top=1)["by_application"]) == 1


def test_the_size_of_a_pool_follows_from_cores_and_says_its_source(database: Database) -> None:
    with crowd(database) as people:
        for dummy in range(4):
            people.join().run("BEGIN")
        pool = look(database, cores=1, spindles=1)
        assert pool["pool"]["recommended_size"] == 3
        assert pool["pool"]["busy_now"] >= 4
        assert finding(pool, "pool_size")["severity"] == "info"
        assert "core_count * 2" in pool["pool"]["formula"]
        assert "wiki.postgresql.org" in pool["pool"]["source"]
        assert look(database)["pool"]["cores"] == len(os.sched_getaffinity(0))


def test_names_and_queries_of_anybody_are_harmless(small: Database) -> None:
    small.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with crowd(small) as people, crowd(Database(small.server, "latin")) as others:
        long = people.join(HOSTILE)
        long.run("BEGIN")
        long.run(f"SELECT 1 -- {HOSTILE} {'x' * 1_000_000}")
        cut = people.join("cut")
        cut.run("BEGIN")
        cut.run("SELECT 'ééééé'")
        foreign = others.join("latin")
        foreign.run("SET client_encoding = 'LATIN1'")
        foreign.connection.set_client_encoding("LATIN1")
        foreign.run("BEGIN")
        foreign.run("SELECT 'caf\u00e9'")
        result = look(small, idle_in_transaction_warning="0")
        rows = {row["pid"]: row for row in result["idle_in_transaction"]}
        assert rows[long.pid]["query"].startswith("SELECT 1 -- <script>")
        assert len(rows[long.pid]["query"].encode()) == 500
        assert rows[foreign.pid]["query"] == "SELECT 'caf\ufffd'"
        message = finding(result, "idle_in_transaction")["message"]
        assert "\x1b" not in message
        assert "<script>" in message
        short = {row["pid"]: row for row in look(small, query_length=12)["idle_in_transaction"]}
        assert short[cut.pid]["query"] == "SELECT 'éé"
        assert {row["query"] for row in look(small, query_length=0)["idle_in_transaction"]} == {""}


def test_passwords_in_queries_are_not_shown(small: Database) -> None:
    with crowd(small) as people:
        role, code = people.join("role"), people.join("code")
        role.run("BEGIN; ALTER ROLE postgres PASSWORD /* new */ 'hunter2'")
        code.run("BEGIN")
        code.run("DO $$ BEGIN PERFORM 'ALTER ROLE bob PASSWORD ''hunter2'''; END $$")
        result = look(small, **NOW)
        shown = {row["pid"]: row["query"] for row in result["idle_in_transaction"]}
        rule = {"rule": {"application": "role"}, "include_superusers": True}
        meant = expect_success("pg_terminate", {**small.login(), **rule}, check=True, diff=True)
    assert shown == {
        role.pid: "BEGIN; ALTER ROLE postgres PASSWORD /* new */ '********'",
        code.pid: "DO $$ BEGIN PERFORM 'ALTER ROLE bob PASSWORD********",
    }
    assert [row["query"] for row in meant["sessions"]] == [shown[role.pid]]
    assert "hunter2" not in json.dumps([result, meant])


def test_a_prepared_transaction_is_a_blocker_without_a_process(small: Database) -> None:
    small.execute("CREATE TABLE p (id int)", "INSERT INTO p VALUES (1)")
    with crowd(small) as people:
        maker, waiter = people.join(), people.join()
        maker.run("BEGIN; UPDATE p SET id = 2; PREPARE TRANSACTION 'it''s <b>'")
        try:
            waiter.begin("UPDATE p SET id = 3")
            people.waiting(waiter)
            result = look(small, prepared_warning="0", blocking_warning="0")
        finally:
            small.execute("ROLLBACK PREPARED 'it''s <b>'")
        assert [row["gid"] for row in result["prepared_transactions"]] == ["it's <b>"]
        assert "ROLLBACK PREPARED 'it''s <b>';" in finding(result, "prepared_transaction")["remedy"]
        assert [(row["pid"], row["depth"]) for row in result["blocking"]] == [(0, 0), (waiter.pid, 1)]
        assert finding(result, "blocking")["message"].startswith("A prepared transaction blocks 1 session")


@pytest.mark.parametrize("monitors", [False, True])
def test_what_a_login_may_not_see_is_said(any_database: Database, monitors: bool) -> None:
    role = f"looker_{any_database.name}"
    any_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    if monitors:
        any_database.execute(f"GRANT pg_monitor TO {role}")
    try:
        any_database.execute("CREATE TABLE t (id int)")
        with crowd(any_database) as people:
            root, waiter = people.join("root"), people.join("waiter")
            root.run("BEGIN; LOCK TABLE t")
            waiter.begin("SELECT * FROM t")
            people.waiting(waiter)
            result = look(any_database, login_user=role, login_password="x", **NOW)
        assert any("grant it pg_monitor" in note for note in result["notes"]) != monitors
        assert [row["pid"] for row in result["blocking"]] == [root.pid, waiter.pid]
        assert result["blocking"][1]["relation"] == "public.t"
        assert (result["blocking"][1]["query"] == "SELECT * FROM t") == monitors
        assert (result["blocking"][0]["backend_start"] == root.start) == monitors
        assert len(result["idle_in_transaction"]) == monitors
        assert {row["application"] for row in result["by_application"]} >= {"root", "waiter"}
        assert finding(result, "blocking")["severity"] == "warning"
    finally:
        any_database.execute(f"DROP ROLE {role}")


def test_pgbouncer_in_between_is_seen(small: Database) -> None:
    with pgbouncer(small.server, pool_size=1) as login:
        result = look(small, **login)
        ours = {"host": login["login_host"], "port": login["login_port"]}
        with contextlib.closing(small.connect(**ours)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout'), pg_backend_pid()")
            [(timeout, pid)] = cursor.fetchall()
        assert (timeout, pid != connection.info.backend_pid) == ("0", True)  # nothing of ours is left to others
        assert (result["pooler"]["detected"], result["pooler"]["this_connection"]) == (True, True)
        assert any("SHOW POOLS" in note for note in result["notes"])
    assert until(lambda: look(small)["pooler"]["detected"] is False, 10)


# --- unreachable servers


def unreachable(login: dict[str, Any], **over: Any) -> tuple[Result, float]:
    """What the module says of a server without a session, and how long that took."""
    began = time.monotonic()
    result = expect_success("pg_activity_info", {**login, "must_connect": False, **over})
    took = time.monotonic() - began
    assert (result["connected"], result["severity"], result["changed"]) == (False, "critical", False)
    assert finding(result, "server_unreachable")["message"] in result["msg"]
    failed = expect_failure("pg_activity_info", {**login, **over})
    assert (failed["error"]["reachability"], failed["error"]["cause"]) == (
        result["reachability"],
        result["unreachable_cause"],
    )
    return result, took


def test_a_refused_login_is_not_a_server_that_is_away(database: Database) -> None:
    wrong, dummy = unreachable(database.login(login_password="no"))
    assert (wrong["reachability"], wrong["unreachable_cause"]) == ("accepting", "login_refused")
    missing, dummy = unreachable(database.login(db="no such"))
    assert (missing["reachability"], missing["unreachable_cause"]) == ("accepting", "no_database")
    nobody, dummy = unreachable(database.login(login_user="no_such_role"))
    assert (nobody["reachability"], nobody["unreachable_cause"]) == ("accepting", "login_refused")


def test_full_shutting_down_hung_and_gone(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"max_connections": 5, "superuser_reserved_connections": 0, "max_wal_senders": 0})
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.closing(server.connect())) for dummy in range(5)]
        full, dummy = unreachable(server.login())
        assert (full["reachability"], full["unreachable_cause"]) == ("accepting", "too_many_connections")
        assert "terminate_sessions" in full["findings"][0]["remedy"]

        os.kill(server.pid, signal.SIGSTOP)
        try:
            hung, took = unreachable(server.login(connect_params={"connect_timeout": 2}))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (hung["reachability"], hung["unreachable_cause"]) == ("no response", "timeout")
        assert took < 20  # and does not hang

        held.pop().close()
        os.kill(server.pid, signal.SIGTERM)  # a smart shutdown waits for the others
        assert until(lambda: "received smart shutdown request" in server.log(), 10)
        stopping, dummy = unreachable(server.login())
        assert (stopping["reachability"], stopping["unreachable_cause"]) == ("rejecting", "starting_up")
        assert "shutting down" in stopping["unreachable_why"]
    assert until(lambda: not server.running, 20)
    gone, dummy = unreachable(server.login())
    assert (gone["reachability"], gone["unreachable_cause"]) == ("no response", "refused")
    socket, dummy = unreachable(server.login(login_unix_socket=str(server.socket_dir)))
    assert (socket["reachability"], socket["unreachable_cause"]) == ("no response", "refused")
    unknown, dummy = unreachable(server.login(login_host="no-such-host.invalid"))
    assert (unknown["reachability"], unknown["unreachable_cause"]) == ("no response", "refused")


def test_no_statement_outlasts_its_timeout_and_none_is_left_behind(any_database: Database) -> None:
    options = {**dict.fromkeys(("ca_cert", "ssl_cert", "ssl_key")), "ssl_mode": "prefer", "connect_params": {}}
    login = _db.Login.from_params({**options, "login_unix_socket": "", **any_database.login()})
    began = time.monotonic()
    with reach(_db.Server(LocalTarget(), login), any_database.name, 0.2) as session:
        with pytest.raises(QueryFailed, match="statement timeout"):
            session.query("SELECT pg_sleep(%(long)s)", {"long": 30})
        assert time.monotonic() - began < 10
        [row] = session.query("SELECT setting, reset_val FROM pg_settings WHERE name = 'statement_timeout'")
        assert tuple(row) == ("200", "0")


def test_what_cannot_work_is_refused(database: Database) -> None:
    assert (
        "Invalid connections_ratio_warning"
        in expect_failure("pg_activity_info", database.login(connections_ratio_warning=2))["msg"]
    )
    assert "Invalid top" in expect_failure("pg_activity_info", database.login(top=0))["msg"]
