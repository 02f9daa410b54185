"""pg_terminate on real servers: the sessions that it ends and spares, and that it never ends a session that it has not checked."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.terminate import sql
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.terminate.plan import (
    Rule,
    SessionName,
    TerminatePlan,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.terminate.run import terminate
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import connection
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.databases import Database
from tests.support.modules import Result, expect_failure, expect_success
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.sessions import Person, crowd

SUPER = {"include_superusers": True}  # the sessions of the tests are a superuser's
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
HOSTILE = "<b>\x1b[31m'{{ x }}"


def end(database: Database, check: bool = False, **words: Any) -> Result:
    """Run the module; it has to succeed."""
    return expect_success("pg_terminate", {**database.login(), **words}, check=check, diff=True)


def outcomes(result: Result) -> dict[int, str]:
    """The outcome for each session, by pid."""
    return {row["pid"]: row["outcome"] for row in result["sessions"]}


def reason(result: Result, person: Person) -> str:
    """Why a session was spared."""
    [found] = [row["why"] for row in result["sessions"] if row["pid"] == person.pid]
    return str(found)


@contextlib.contextmanager
def role(database: Database, *grants: str, attributes: str = "") -> Iterator[str]:
    """An ordinary role for a while."""
    name = f"ender_{database.name}"
    database.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'x' {attributes}", *(f"GRANT {each} TO {name}" for each in grants)
    )
    try:
        yield name
    finally:
        database.execute(f"DROP ROLE {name}")


def test_a_named_session_is_ended_and_only_that_one(any_database: Database) -> None:
    with crowd(any_database) as people:
        idle, busy, other = people.join(HOSTILE), people.join("busy"), people.join("other")
        idle.run("BEGIN")
        busy.begin("SELECT pg_sleep(600)")
        people.in_state("active", busy)
        name = "SELECT application_name FROM pg_stat_activity WHERE pid = %s"
        [(named,)] = any_database.query(name, idle.pid)  # each major cleans it in its own way
        assert named.startswith("<b>")
        for check in (True, False):
            result = end(any_database, check, sessions=[idle.name, busy.name], grace="2s")
            assert (result["changed"], result["severity"]) == (True, "ok")
            assert outcomes(result) == {idle.pid: "terminated", busy.pid: "terminated"}
            assert result["diff"]["before"].count("\n") == 2
            assert "\x1b" not in result["diff"]["before"]
            assert result["diff"]["after"] == ""
            assert idle.alive() == check
            row = result["sessions"][0]
            assert (row["application"], row["database"], row["state"]) == (
                named,
                any_database.name,
                "idle in transaction",
            )
        assert busy.error.startswith(("57014", "57P01"))
        again = end(any_database, sessions=[idle.name, busy.name])
        assert (again["changed"], outcomes(again)) == (False, {idle.pid: "gone", busy.pid: "gone"})
        assert other.alive()


def test_another_session_with_the_same_pid_is_left_alone(database: Database) -> None:
    with crowd(database) as people:
        person = people.join()
        for start in ("2020-01-01T00:00:00Z", f"{person.start[:19]}.000001Z", person.start.replace("Z", "+01")):
            result = end(database, sessions=[{"pid": person.pid, "backend_start": start}])
            assert (result["changed"], outcomes(result)) == (False, {person.pid: "spared"})
            assert "not the same session" in reason(result, person)
        assert person.alive()
        whole = end(database, sessions=[{"pid": person.pid, "backend_start": f"{person.start[:19]}Z"}])
        assert outcomes(whole) == {person.pid: "terminated"}


def test_conditions_of_a_rule_must_all_be_met(any_database: Database) -> None:
    with crowd(any_database) as people:
        reports, other, resting = people.join("reports"), people.join("other"), people.join("reports")
        for each in (reports, other):
            each.run("BEGIN")
        rule = {
            "idle_in_transaction_over": "0",
            "application": "reports",
            "database": any_database.name,
            "user": "postgres",
        }
        assert outcomes(end(any_database, rule={**rule, "idle_in_transaction_over": "1h"}, **SUPER)) == {}
        assert outcomes(end(any_database, rule={**rule, "client_addr": "192.0.2.0/24"}, **SUPER)) == {}
        assert outcomes(end(any_database, rule={**rule, "user": "nobody"}, **SUPER)) == {}
        rule["client_addr"] = "127.0.0.0/8"
        for check in (True, False):
            assert outcomes(end(any_database, check, rule=rule, **SUPER)) == {reports.pid: "terminated"}
        again = end(any_database, rule=rule, **SUPER)
        assert (again["changed"], again["msg"]) == (False, "No session matches; nothing to do.")
        assert (reports.alive(), other.alive(), resting.alive()) == (False, True, True)


def test_a_long_query_is_cancelled_and_its_session_stays(database: Database) -> None:
    with crowd(database) as people:
        busy = people.join("busy")
        busy.begin("SELECT pg_sleep(600)")
        people.in_state("active", busy)
        rule = {"query_over": "10ms", "application": "busy"}
        for check in (True, False):
            result = end(database, check, rule=rule, **SUPER)
            assert (result["changed"], outcomes(result)) == (True, {busy.pid: "cancelled"})
            assert result["sessions"][0]["query"] == "SELECT pg_sleep(600)"
        assert busy.error.startswith("57014")
        assert busy.alive()
        assert end(database, rule=rule, **SUPER)["changed"] is False


def test_a_query_that_cannot_be_cancelled_has_its_session_terminated(database: Database) -> None:
    stubborn = (
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    )
    with crowd(database) as people:
        busy = people.join("busy")
        busy.begin(stubborn)
        people.in_state("active", busy)
        result = end(database, rule={"query_over": "10ms", "application": "busy"}, grace="300ms", **SUPER)
        assert outcomes(result) == {busy.pid: "terminated"}


def test_only_the_root_of_a_blockade_is_ended(any_database: Database) -> None:
    any_database.execute("CREATE TABLE t (id int)", "INSERT INTO t VALUES (1)")
    with crowd(any_database) as people:
        root, waiter, queued = people.join("root"), people.join("waiter"), people.join("queued")
        root.run("BEGIN; UPDATE t SET id = 2")
        waiter.begin("UPDATE t SET id = 3")
        people.waiting(waiter)
        queued.begin("UPDATE t SET id = 4")
        people.waiting(waiter, queued)
        rule = {"blocking_over": "1h", "database": any_database.name}
        assert outcomes(end(any_database, rule=rule, **SUPER)) == {}
        rule["blocking_over"] = "10ms"
        spared = end(any_database, rule=rule)
        assert (outcomes(spared), spared["changed"]) == ({root.pid: "spared"}, False)
        assert "superuser" in reason(spared, root)
        assert "blocks other sessions and was not terminated: a superuser's session" in spared["msg"]
        assert spared["severity"] == "warning"
        assert "include_superusers" in spared["findings"][0]["remedy"]
        assert outcomes(end(any_database, rule=rule, **SUPER)) == {root.pid: "terminated"}
        assert until(lambda: any_database.query("SELECT id FROM t") == [(4,)], 10)
        assert (root.alive(), waiter.error, queued.error) == (False, "", "")


def test_replicas_and_the_module_itself_are_spared(database: Database) -> None:
    with role(database, attributes="REPLICATION") as name:
        dsn = database.server.dsn(database.name, user=name, password="x")
        replica = psycopg2.connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
        with contextlib.closing(replica):
            rule = {"user": name}
            spared = end(database, rule=rule)
            assert (outcomes(spared), spared["changed"]) == ({replica.info.backend_pid: "spared"}, False)
            assert spared["sessions"][0]["kind"] == "walsender"
            assert outcomes(end(database, rule=rule, include_replication=True)) == {
                replica.info.backend_pid: "terminated"
            }
    assert until(lambda: database.server.query(SESSIONS, database.name) == [(0,)], 60)  # those of the attempts before
    own = end(database, rule={"application": "pg_runbook terminate", "database": database.name}, **SUPER)
    assert own["sessions"] == []


def test_autovacuum_against_wraparound_is_spared_whatever_is_included(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"autovacuum_naptime": 1, "autovacuum_freeze_max_age": 100000})
    database = Database(server, server.create_database("old"))
    slow = "autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
    database.execute(
        f"CREATE TABLE t WITH ({slow}) AS SELECT g AS id, repeat('x', 500) AS filler FROM generate_series(1, 20000) AS g",
        "CREATE UNLOGGED TABLE one (id int)",
        "DO $$ BEGIN FOR i IN 1..110000 LOOP BEGIN INSERT INTO one VALUES (i);"
        " EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$",
    )
    workers = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'autovacuum: VACUUM%public.t (to prevent wraparound)'"
    assert until(lambda: len(database.query(workers)) == 1, 60)
    [(worker,)] = database.query(workers)
    with crowd(database) as people:
        ddl = people.join()
        ddl.begin("ALTER TABLE t ADD b int")
        people.waiting(ddl)
        rule = {"blocking_over": "10ms"}
        everybody = {"include_superusers": True, "include_replication": True, "include_background": True}
        result = end(database, rule=rule, **everybody)
        assert (outcomes(result), result["changed"]) == ({worker: "spared"}, False)
        assert "wraparound" in result["sessions"][0]["why"]
        assert database.query(workers) == [(worker,)]
        start = "SELECT backend_start FROM pg_stat_activity WHERE pid = %s"
        named = [{"pid": worker, "backend_start": str(database.query(start, worker)[0][0])}]
        assert outcomes(end(database, sessions=named)) == {worker: "terminated"}


def test_without_the_right_it_says_so_and_fails_after_the_others(database: Database) -> None:
    with role(database, "pg_monitor") as name, crowd(database) as people:
        mine = people.join("same", user=name, password="x")
        people.database.execute(f"CREATE ROLE peer_{name} LOGIN PASSWORD 'x'")
        try:
            peer = people.join("same", user=f"peer_{name}", password="x")
            login = {"login_user": name, "login_password": "x", "rule": {"application": "same"}}
            for check in (True, False):
                failed = expect_failure("pg_terminate", database.login(**login), check=check)
                assert (outcomes(failed), failed["changed"]) == ({mine.pid: "terminated", peer.pid: "spared"}, True)
                assert "Grant pg_signal_backend to the login" in failed["msg"]
                assert [each["check"] for each in failed["findings"]] == ["terminate_rights"]
            assert (mine.alive(), peer.alive()) == (False, True)
            database.execute(f"GRANT pg_signal_backend TO {name}")
            assert outcomes(end(database, **login)) == {peer.pid: "terminated"}
        finally:
            people.leave()
            database.execute(f"DROP ROLE peer_{name}")


def test_what_is_hidden_is_not_guessed(database: Database) -> None:
    with role(database, "pg_signal_backend") as name, crowd(database) as people:
        person = people.join("hidden")
        person.run("BEGIN")
        login = {"login_user": name, "login_password": "x"}
        failed = expect_failure("pg_terminate", database.login(**login, sessions=[person.name]))
        assert (outcomes(failed), failed["changed"]) == ({person.pid: "spared"}, False)
        assert "pg_read_all_stats" in failed["msg"]
        unseen = end(database, **login, rule={"idle_in_transaction_over": "0"})
        assert unseen["sessions"] == []
        assert any("grant it pg_monitor" in note for note in unseen["notes"])
        assert person.alive()


def test_a_superuser_cannot_be_ended_by_others(database: Database) -> None:
    with role(database, "pg_signal_backend", "pg_monitor") as name, crowd(database) as people:
        person = people.join()
        failed = expect_failure(
            "pg_terminate", database.login(login_user=name, login_password="x", sessions=[person.name])
        )
        assert (outcomes(failed), person.alive()) == ({person.pid: "spared"}, True)


class Intercepted:
    """A session that lets something happen right before a statement, as it happens between two statements."""

    def __init__(self, session: connection.Session, statement: str, happens: Callable[[], None]) -> None:
        self.session, self.statement, self.happens = session, statement, happens

    def query(self, statement: Any, params: Any = None) -> list[Any]:
        """Pass it on."""
        if statement == self.statement:
            self.happens()
        return self.session.query(statement, params)

    def value(self, statement: Any, params: Any = None) -> Any:
        """Pass it on."""
        return self.session.value(statement, params)


def test_one_that_moves_on_between_judgement_and_signal_is_left_alone(database: Database) -> None:
    options = {**dict.fromkeys(("ca_cert", "ssl_cert", "ssl_key")), "ssl_mode": "prefer", "connect_params": {}}
    login = connection.Login.from_params({**options, "login_unix_socket": "", **database.login()})
    plan = TerminatePlan(rule=Rule(idle_in_transaction_over_s=0.0, application="mover"), include_superusers=True)
    with crowd(database) as people, connection.Server(LocalTarget(), login).connect(database.name) as session:
        person, sleeper = people.join("mover"), people.join("mover")
        for each in (person, sleeper):
            each.run("BEGIN")
        watched = Intercepted(session, sql.TERMINATE, lambda: person.run("COMMIT"))
        outcome = terminate(watched, plan, check_mode=False)  # type: ignore[arg-type]
        assert {each.pid: each.outcome for each in outcome.candidates} == {
            person.pid: "spared",
            sleeper.pid: "terminated",
        }
        assert (person.alive(), sleeper.alive()) == (True, False)

        person.run("BEGIN")
        plan = replace(plan, rule=Rule(), sessions=(SessionName.parse(person.pid, person.start),))
        leaving = Intercepted(session, sql.TERMINATE, lambda: leave(database, person))
        outcome = terminate(leaving, plan, check_mode=False)  # type: ignore[arg-type]
        assert ([each.outcome for each in outcome.candidates], outcome.changed) == (["gone"], False)


def leave(database: Database, person: Person) -> None:
    """Close a session, and wait until the server has noticed."""
    person.connection.close()
    assert until(lambda: not database.query("SELECT 1 FROM pg_stat_activity WHERE pid = %s", person.pid), 10)


def test_one_that_does_not_end_is_told_and_fails(database: Database) -> None:
    with crowd(database) as people:
        stopped = people.join("stopped")
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            failed = expect_failure("pg_terminate", database.login(sessions=[stopped.name], timeout="300ms"))
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert (outcomes(failed), failed["changed"]) == ({stopped.pid: "stayed"}, True)
        assert "still running 300 ms after" in failed["msg"]
        assert failed["findings"][0]["check"] == "session_stayed"
        assert until(lambda: not stopped.alive(), 10)


def test_more_than_was_allowed_are_all_left_alone(database: Database) -> None:
    with crowd(database) as people:
        persons = [people.join("many") for dummy in range(3)]
        words = database.login(rule={"application": "many"}, max_sessions=2, **SUPER)
        failed = expect_failure("pg_terminate", words)
        assert "3 sessions match, but max_sessions is 2" in failed["msg"]
        assert all(person.alive() for person in persons)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, "neither says which sessions to end"),
        ({"rule": {"user": ""}}, "Invalid rule.user (''): without a value the rule would mean more sessions"),
        ({"rule": {"query_over": "0", "application": " "}}, "rule.application"),
        (
            {"rule": {"user": "a"}, "sessions": [{"pid": 1, "backend_start": "2026-01-01T00:00:00Z"}]},
            "both say which sessions to end",
        ),
        (
            {"rule": {"idle_in_transaction_over": "1s", "query_over": "1s"}},
            "Invalid rule: no session is both idle in a transaction and busy",
        ),
        ({"rule": {"client_addr": "x"}}, "Invalid rule.client_addr ('x')"),
        ({"rule": {"query_over": "soon"}}, "Invalid rule.query_over"),
        ({"sessions": [{"pid": 1, "backend_start": "yesterday"}]}, "Invalid sessions (pid 1"),
        ({"sessions": [{"pid": 1, "backend_start": "2026-13-01T00:00:00Z"}]}, "Invalid sessions.backend_start"),
        ({"sessions": [{"pid": 0, "backend_start": "2026-01-01T00:00:00Z"}]}, "Invalid sessions (pid 0"),
    ],
)
def test_what_means_nobody_or_everybody_is_refused(server: Server, words: dict[str, Any], text: str) -> None:
    assert text in expect_failure("pg_terminate", {**server.login(), **words})["msg"]
