"""pg_health_info on real servers: all sections of every major, few statements, and a page whatever happens to the server."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import connection as _db
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_health_info
from tests.support.databases import Database, new_database
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.operations import attempt
from tests.support.processes import until
from tests.support.queries import counting_installations
from tests.support.replicas import replica_of
from tests.support.servers import Server

SECTIONS = ["server", "activity", "queries", "storage", "disk", "replication", "maintenance", "schema"]
PASSWORD = "dummy-of-the-tests-77af"
MOST_STATEMENTS = 30
COUNTING = counting_installations()


def checks(result: dict[str, Any]) -> dict[str, str]:
    """The severity of each check that has a finding."""
    return {each["check"]: each["severity"] for each in result["findings"]}


def states(result: dict[str, Any]) -> dict[str, str]:
    """How each section went."""
    return {name: section["state"] for name, section in result["sections"].items()}


@contextlib.contextmanager
def login(database: Database, *grants: str) -> Iterator[dict[str, Any]]:
    """A role with no rights but these, as connection options."""
    role = f"r_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'", *(f"GRANT {each} TO {role}" for each in grants))
    try:
        yield database.login(login_user=role, login_password=PASSWORD)
    finally:
        database.execute(f"DROP ROLE {role}")


def test_everything_is_read_with_any_rights_and_what_is_hidden_is_said(any_database: Database) -> None:
    any_database.execute(
        'CREATE TABLE "T" (a int)',
        'INSERT INTO "T" SELECT number FROM generate_series(1, 40000) AS number',
        'DELETE FROM "T" WHERE a % 2 = 0',
        'CREATE INDEX broken ON "T" (a)',
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
    )
    counted = "SELECT pg_stat_get_dead_tuples('\"T\"'::regclass) > 0"
    assert until(lambda: any_database.query(counted) == [(True,)], 20)
    result = expect_success("pg_health_info", any_database.login())
    assert states(result) == dict.fromkeys(SECTIONS, "read")
    assert list(result["sections"]) == SECTIONS
    assert (result["reachable"], result["changed"], result["severity"]) == (True, False, "critical")
    assert result["statements"] <= MOST_STATEMENTS
    assert result["duration_s"] < 3
    found = checks(result)
    assert (found["server_fsync"], found["server_full_page_writes"]) == ("critical", "critical")
    assert (found["maintenance_dead_rows"], found["maintenance_invalid_indexes"]) == ("warning", "warning")
    assert result["findings"][0]["severity"] == "critical"
    data = {name: section["data"] for name, section in result["sections"].items()}
    assert data["server"]["version"].startswith(str(any_database.server.major))
    assert (data["maintenance"]["invalid_indexes"], data["maintenance"]["never_analyzed_tables"]) == (1, ['public."T"'])
    assert data["activity"]["connection_count"] >= 1
    assert data["replication"]["role"] == "primary"
    assert any(each["name"] == any_database.name for each in data["storage"]["databases"])
    assert 0 < data["storage"]["free_bytes"] < data["storage"]["total_bytes"]
    assert "There are no earlier samples" in result["sections"]["storage"]["message"]
    assert data["disk"]["file_systems"]
    for grants in (["pg_monitor"], []):
        with login(any_database, *grants) as words:
            less = expect_success("pg_health_info", words)
        assert states(less) == dict.fromkeys(SECTIONS, "read"), grants
        assert ("server_rights" in checks(less)) == (not grants)
        told = " ".join(note for section in less["sections"].values() for note in section["notes"])
        assert ("grant it pg_monitor" in told) == (not grants), told


def test_what_is_ignored_is_left_out_and_counted_and_limits_can_be_set(database: Database) -> None:
    words = {
        **database.login(),
        "sections": ["maintenance", "server"],
        "ignore": ["server_fsync"],
        "thresholds": {"server": {"restarted_s": 0, "freeze_factor": 1e-9}},
    }
    result = expect_success("pg_health_info", words)
    assert list(result["sections"]) == ["server", "maintenance"]
    found = checks(result)
    assert "server_fsync" not in found
    assert "server_restarted" not in found
    assert found["server_full_page_writes"] == "critical"
    assert found["server_wraparound"] == "warning"
    assert "1 finding left out because of the option ignore." in result["sections"]["server"]["notes"]


def test_what_only_a_human_knows_is_a_threshold(database: Database) -> None:
    known = {"replication": {"expected_replicas": 2}, "disk": {"min_free_bytes": 10**18}, "activity": {"cores": 1000}}
    words = {**database.login(), "sections": list(known)}
    found = expect_success("pg_health_info", {**words, "thresholds": known})
    told = {each["check"]: each for each in found["findings"]}
    assert (told["replication_replicas"]["value"], told["replication_replicas"]["threshold"]) == (0, 2)
    assert told["disk_used"]["severity"] == "critical"
    assert found["sections"]["activity"]["data"]["pool"]["cores"] == 1000


@pytest.mark.parametrize(
    ("thresholds", "told"),
    [
        ({"servre": {}}, "The sections are server, activity"),
        ({"server": {"hit": 1}}, "Valid names: freeze_factor, min_hit_ratio"),
        ({"server": {"min_hit_ratio": "high"}}, "Invalid thresholds.server.min_hit_ratio ('high')"),
        ({"replication": {"lag_warning_s": "x"}}, "Invalid thresholds.replication.lag_warning_s"),
    ],
)
def test_a_wrong_threshold_is_refused_with_the_right_names(database: Database, thresholds: Any, told: str) -> None:
    result = expect_failure("pg_health_info", {**database.login(), "thresholds": thresholds})
    assert told in result["msg"]


@pytest.mark.parametrize("installation", COUNTING[:1] + COUNTING[1:][-1:], ids=lambda each: f"pg{each.major}")
def test_a_server_gets_few_statements_over_one_connection(new_server: Callable[..., Server], installation: Any) -> None:
    settings = {
        "log_statement": "all", "log_line_prefix": "%a|%p|", "shared_preload_libraries": "pg_stat_statements",
        "log_connections": "on",
    }  # fmt: skip
    server = new_server(installation, settings=settings)
    database = new_database(server)
    database.execute("CREATE EXTENSION pg_stat_statements", "SELECT 1")
    before = len(server.log())
    result = expect_success("pg_health_info", database.login())
    assert states(result) == dict.fromkeys(SECTIONS, "read")
    lines = re.findall(r"^pg_runbook health\|(\d+)\|LOG:  (?:statement|execute[^:]*): ", server.log()[before:], re.M)
    assert result["statements"] == len(lines) <= MOST_STATEMENTS
    assert len(set(lines)) == 1


def days_ago(days: float) -> str:
    """A time as the samples have it."""
    return f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def test_earlier_samples_tell_the_growth_and_a_damaged_one_takes_nothing_away(
    new_server: Callable[..., Server],
) -> None:
    database = new_database(new_server(COUNTING[-1], settings={"shared_preload_libraries": "pg_stat_statements"}))
    database.execute("CREATE EXTENSION pg_stat_statements", "SELECT 1")
    words = {**database.login(), "sections": ["queries", "storage"]}
    first = expect_success("pg_health_info", words)["sections"]
    assert "slower queries cannot be found" in " ".join(first["queries"]["notes"])
    size, queries = first["storage"]["data"]["sample"], first["queries"]["data"]["sample"]
    grown = [
        {**size, "collected_at": days_ago(days), "free_bytes": size["free_bytes"] + days * size["free_bytes"] // 15,
         "total_bytes": None, "databases": {database.name: size["databases"][database.name] - days * 1000}}
        for days in range(30, 0, -1)
    ]  # fmt: skip
    given = {"storage_history": grown, "queries_baseline": {**queries, "collected_at": days_ago(7)}}
    result = expect_success("pg_health_info", {**words, **given})
    told = {name: section["data"] for name, section in result["sections"].items()}
    assert told["queries"]["compared_with"] == given["queries_baseline"]["collected_at"]
    assert "slower queries cannot be found" not in " ".join(result["sections"]["queries"]["notes"])
    assert (checks(result)["disk_forecast"], told["storage"]["forecast"]["samples"]) == ("warning", 31)
    [mine] = [each for each in told["storage"]["databases"] if each["current"]]
    assert 900 < mine["growth_bytes_per_day"] < 1100

    odd = {
        "storage_history": [{"a": 1}],
        "queries_baseline": {"collected_at": "x"},
        "server_baseline": {"deadlocks": "y"},
    }
    result = expect_success("pg_health_info", {**words, **odd, "sections": SECTIONS})
    assert states(result) == dict.fromkeys(SECTIONS, "read")
    assert "Invalid baseline: it is not a sample of queries" in " ".join(result["sections"]["queries"]["notes"])
    assert "not from the past: 1" in " ".join(result["sections"]["storage"]["notes"])


def deadlock(server: Server) -> None:
    """Let two sessions wait for each other until the server ends one of them."""
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(contextlib.closing(server.connect(autocommit=False))) for dummy in range(2)
        )
        first.cursor().execute("SELECT pg_advisory_xact_lock(1)")
        second.cursor().execute("SELECT pg_advisory_xact_lock(2)")

        def close_the_ring() -> None:
            with contextlib.suppress(psycopg2.errors.DeadlockDetected):
                second.cursor().execute("SELECT pg_advisory_xact_lock(1)")

        other = threading.Thread(target=close_the_ring)
        other.start()
        with contextlib.suppress(psycopg2.errors.DeadlockDetected):
            first.cursor().execute("SELECT pg_advisory_xact_lock(2)")
        first.rollback()
        other.join()
    assert until(lambda: server.query("SELECT sum(deadlocks) > 0 FROM pg_stat_database") == [(True,)], 20)


def test_deadlocks_are_judged_within_a_time_that_is_known(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"deadlock_timeout": "10ms"})  # from 15 on: it does not say since when it counts
    deadlock(server)
    server.restart()
    words = {**server.login(), "sections": ["server"]}

    def judged(**over: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result = expect_success("pg_health_info", {**words, **over})
        found = {each["check"]: each for each in result["findings"]}
        return found.get("server_deadlocks", {}), result["sections"]["server"]

    finding, section = judged()
    assert (finding, section["data"]["deadlocks"], section["data"]["statistics_age_s"]) == ({}, 1, None)
    assert "has counted 1 deadlock since an unknown time" in " ".join(section["notes"])

    finding, section = judged(server_baseline={"collected_at": days_ago(0.5), "deadlocks": 0})
    assert (finding["value"], finding["threshold"]) == (1, 1)
    assert finding["message"] == "1 deadlock within the last 12 h."
    assert "unknown time" not in " ".join(section["notes"])
    for before in ({"collected_at": days_ago(4), "deadlocks": 0}, {"collected_at": days_ago(1), "deadlocks": 1}):
        assert judged(server_baseline=before)[0] == {}, before

    server.query("SELECT pg_stat_reset()")
    deadlock(server)
    assert until(lambda: judged()[0].get("value") == 1, 20)


def test_a_standby_is_read_as_one(new_server: Callable[..., Server]) -> None:
    with replica_of(new_server()) as standby:
        result = expect_success("pg_health_info", standby.login())
    assert states(result) == dict.fromkeys(SECTIONS, "read")
    assert result["sections"]["server"]["data"]["role"] == "standby"
    assert result["sections"]["replication"]["data"]["replay"]["lag_bytes"] is not None
    assert result["statements"] <= MOST_STATEMENTS


def test_a_server_that_is_not_there_has_a_page(database: Database) -> None:
    result = expect_success("pg_health_info", database.login(login_port=1))
    assert (result["reachable"], result["severity"], result["statements"]) == (False, "critical", 0)
    [finding] = result["findings"]
    assert finding["check"] == "health_connection"
    assert "cannot be reached" in finding["message"]
    assert finding["remedy"]
    assert states(result) == {"server": "failed", **dict.fromkeys(SECTIONS[1:], "not read")}


def test_a_machine_without_the_library_is_critical(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_db, "_MISSING", "No module named 'psycopg2'")
    result = attempt(pg_health_info, database, ignore=["health_section"])
    assert (result["reachable"], result["severity"]) == (False, "critical")
    assert checks(result) == {"health_connection": "critical"}
    assert "psycopg2" in result["findings"][0]["message"]
    assert "psycopg2" in result["findings"][0]["remedy"]


def test_no_section_at_all_is_critical(database: Database) -> None:
    result = attempt(pg_health_info, database, sections=["backups"])
    assert checks(result) == {"health_nothing_read": "critical"}
    assert "postgres_backup_dir" in result["findings"][0]["remedy"]


def test_backups_are_judged_while_the_server_is_down_too(database: Database, backup_dir: Path) -> None:
    words = {"backup_dir": str(backup_dir), "backup_rpo": "1d"}
    result = expect_success("pg_health_info", {**database.login(login_port=1), **words})
    assert result["reachable"] is False
    assert states(result)["backups"] == "read"
    assert checks(result) == {"health_connection": "critical", "backup_rpo": "critical"}
    away = expect_success("pg_health_info", {**database.login(), **words, "backup_dir": str(backup_dir / "a\nb")})
    assert away["reachable"] is True
    assert states(away)["backups"] in ("read", "failed")


def test_a_server_that_hangs_has_a_page_in_time(new_server: Callable[..., Server]) -> None:
    server = new_server()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        result = expect_success("pg_health_info", {**server.login(), "statement_timeout": "2s"})
        assert time.monotonic() - started < 10
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert (result["reachable"], checks(result)) == (False, {"health_connection": "critical"})


def waiting(server: Server) -> int:
    """Wait until the module waits for a lock, and return its process."""
    found: list[Any] = []
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_runbook health' AND wait_event_type = 'Lock'"

    def there() -> bool:
        found[:] = server.query(asked)
        return bool(found)

    assert until(there, 20)
    return int(found[0][0])


@contextlib.contextmanager
def locked(server: Server, table: str) -> Iterator[Any]:
    """Hold a table of the catalog exclusively."""
    with contextlib.closing(server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield connection


def test_a_section_that_cannot_be_read_is_told_and_the_rest_goes_on(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with locked(server, "pg_settings"):
        result = expect_success("pg_health_info", server.login())
    assert states(result)["server"] == "failed"
    assert [states(result)[name] for name in ("activity", "storage", "replication", "maintenance")] == ["read"] * 4
    told = [each for each in result["findings"] if each["check"] == "health_section"]
    assert {each["severity"] for each in told} == {"warning"}
    assert "lock timeout" in told[0]["message"]
    assert told[0]["remedy"]


@pytest.mark.parametrize("fate", ["stopped", "terminated"])
def test_a_connection_that_is_lost_is_made_anew_once(new_server: Callable[..., Server], fate: str) -> None:
    server = new_server()
    with locked(server, "pg_settings") as holder:
        module = start_module("pg_health_info", {**server.login(), "statement_timeout": "2s"})
        pid = waiting(server)
        if fate == "stopped":
            os.kill(pid, signal.SIGSTOP)  # it keeps no statement_timeout now
        else:
            server.query("SELECT pg_terminate_backend(%s)", pid)
        holder.rollback()
    try:
        result = module.finish(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert not result["failed"], result["msg"]
    assert states(result) == {**dict.fromkeys(SECTIONS, "read"), "server": "failed"}
    [finding] = [each for each in result["findings"] if each["check"] == "health_connection"]
    assert finding["severity"] == "critical"
    assert "lost while the section server was read" in finding["message"]
    assert ("no answer for 4 s" in finding["message"]) == (fate == "stopped")
    assert result["reachable"]
