"""pg_query_info and pg_query_stats_reset on real servers, with an extension of every version at hand, and without it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries import sql, statistics
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.factory import create_target
from tests.support.databases import Database, new_database
from tests.support.majors import per_major
from tests.support.modules import expect_failure, expect_success
from tests.support.queries import PRELOADED, can_count, counting_database, counting_installations, quote, repeat
from tests.support.replicas import replica_of
from tests.support.servers import PASSWORD, Server

SCHEMA = 'Odd "%s" Schema'
MEASURES = {"temp": "temp_bytes", "total": "total_time_s"}


@pytest.fixture(scope="module", params=per_major(counting_installations()))
def counting(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that counts queries, of each major that can."""
    with Server(request.param, settings={**PRELOADED, "pg_stat_statements.track": "all"}) as server:
        for role, granted in (("plain", ""), ("monitor", "IN ROLE pg_monitor")):
            server.query(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' {granted}")
        yield server


ONE_SERVER = pytest.mark.parametrize(
    "counting", counting_installations()[-1:], indirect=True, ids=lambda each: f"pg{each.major}"
)


@pytest.fixture
def counted(counting: Server) -> Iterator[Database]:
    """A database of it, with nothing counted."""
    with counting_database(counting, schema=SCHEMA) as database:
        database.query(f"SELECT {quote(SCHEMA)}.pg_stat_statements_reset()")
        yield database


def checks(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The findings by their check."""
    return {finding["check"]: finding for finding in result["findings"]}


def the(result: dict[str, Any], text: str) -> dict[str, Any]:
    """The one listed query with this in its text."""
    [found] = [each for each in result["queries"] if text in (each["query"] or "")]
    return dict(found)


def test_without_the_library_the_commands_that_enable_it_are_told(any_database: Database) -> None:
    result = expect_success("pg_query_info", any_database.login())
    assert (result["available"], result["queries"], result["sample"], result["severity"]) == (False, [], {}, "warning")
    remedy = checks(result)["query_stats_missing"]["remedy"]
    assert "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'; Then restart the server" in remedy
    assert f"in the database {any_database.name}: CREATE EXTENSION pg_stat_statements;" in remedy
    assert ("contrib" in remedy) is not can_count(any_database.server.installation)
    if can_count(any_database.server.installation):
        any_database.execute("CREATE EXTENSION pg_stat_statements")
        again = checks(expect_success("pg_query_info", any_database.login()))["query_stats_missing"]
        assert "CREATE EXTENSION" not in again["remedy"]
        failed = expect_failure("pg_query_stats_reset", any_database.login())
        assert "restart the server" in failed["msg"]


def test_the_commands_keep_other_libraries_and_an_extension_alone_is_enough(new_server: Callable[..., Server]) -> None:
    [installation, *_others] = counting_installations()
    other = new_server(installation, settings={"shared_preload_libraries": "auto_explain"})
    remedy = checks(expect_success("pg_query_info", other.login()))["query_stats_missing"]["remedy"]
    [command] = [each for each in remedy.split(" Then ") if each.startswith("ALTER SYSTEM")]
    other.query(command.rstrip(" "))
    other.query(f"CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    hidden = checks(expect_success("pg_query_info", other.login(login_user="plain")))["query_stats_missing"]["remedy"]
    assert "the libraries that SHOW shared_preload_libraries lists" in hidden
    written = (other.data_dir / "postgresql.auto.conf").read_text()
    del other.settings["shared_preload_libraries"]
    assert "auto_explain" in written
    assert other.restart().query("SHOW shared_preload_libraries") == [("auto_explain, pg_stat_statements",)]
    remedy = checks(expect_success("pg_query_info", other.login()))["query_stats_missing"]["remedy"]
    assert remedy == "In the database postgres: CREATE EXTENSION pg_stat_statements;"


def test_queries_are_measured_sorted_and_cut_to_one_database(counted: Database) -> None:
    counted.execute("CREATE TABLE t AS SELECT g AS id, repeat('x', 200) AS pad FROM generate_series(1, 20000) AS g")
    repeat(counted, "SELECT count(*) FROM t WHERE id < 5", 30)
    repeat(counted, "SET work_mem = '64kB'; SELECT * FROM t ORDER BY pad, id DESC", 2)
    counted.server.query("SELECT 'elsewhere' AS other")
    for sort, measure in MEASURES.items():
        result = expect_success("pg_query_info", {**counted.login(), "sort": sort, "top": 50})
        figures = [each[measure] for each in result["queries"]]
        assert figures == sorted(figures, reverse=True), sort
        assert result["changed"] is False
    count = the(result, "SELECT count(*) FROM t")
    assert (count["calls"], count["rows"], count["user"], count["database"]) == (30, 30, "postgres", counted.name)
    assert count["query"] == "SELECT count(*) FROM t WHERE id < $1"
    assert 0 < count["mean_time_s"] <= count["total_time_s"] <= result["total_time_s"]
    assert count["cache_hit_ratio"] > 0.5
    assert count["shared_hit_bytes"] > 30 * 8192
    assert the(result, "ORDER BY pad")["temp_bytes"] > 1_000_000
    created = the(result, "CREATE TABLE t")
    assert created["wal_bytes"] > 1_000_000
    assert 0.99 < sum(each["time_ratio"] for each in result["queries"] if each["toplevel"]) < 1.01
    assert not [each for each in result["queries"] if "elsewhere" in each["query"] or "AS other" in each["query"]]
    everywhere = expect_success("pg_query_info", {**counted.login(), "all_databases": True, "top": 99})
    assert the(everywhere, "AS other")["database"] == "postgres"
    one = expect_success("pg_query_info", {**counted.login(), "top": 1, "query_length": 6})
    [only] = one["queries"]
    assert (len(only["query"]), only["query_cut"]) == (6, True)
    assert len(one["sample"]["queries"]) > 5


@ONE_SERVER
def test_what_a_login_may_not_see_is_said(counted: Database) -> None:
    repeat(counted, "SELECT 1 AS secret_of_postgres", 3)
    seen = expect_success("pg_query_info", counted.login(login_user="monitor"))
    assert "query_texts_hidden" not in checks(seen) or "query_stats_refused" in checks(seen)
    assert "query_stats_refused" in checks(seen)  # no right on the schema
    counted.execute(f"GRANT USAGE ON SCHEMA {quote(SCHEMA)} TO PUBLIC")
    seen = expect_success("pg_query_info", counted.login(login_user="monitor"))
    assert the(seen, "secret_of_postgres")["calls"] == 3
    plain = expect_success("pg_query_info", counted.login(login_user="plain"))
    assert plain["available"]
    assert checks(plain)["query_texts_hidden"]["remedy"] == 'GRANT pg_read_all_stats TO "plain";'
    assert "secret_of_postgres" not in json.dumps(plain)
    assert any("plain cannot see" in note for note in plain["notes"])
    assert any(each["queryid"] is None and each["calls"] == 3 for each in plain["queries"])
    refused = expect_failure("pg_query_stats_reset", counted.login(login_user="plain"))
    assert "GRANT EXECUTE ON FUNCTION" in refused["msg"]


@ONE_SERVER
def test_hostile_texts_come_through(counted: Database) -> None:
    long = f"SELECT /* {'x' * 1_000_000} */ 1 AS big"
    odd = "SELECT /* <script>alert(1)</script> \x1b[31m\u202e\U0001f600 {{ 7 * 7 }} %s %(a)s */ 1, 2 AS \"{{ 'odd' }}\""
    counted.execute(long, odd, "CREATE ROLE hers PASSWORD 'hunter2'", "DROP ROLE hers")
    result = expect_success("pg_query_info", {**counted.login(), "top": 50})
    big = the(result, "SELECT /* xxx")
    assert (len(big["query"]), big["query_cut"]) == (1000, True)
    assert the(result, "<script>")["query"] == odd.replace(" 1, 2 AS", " $1, $2 AS")
    assert the(result, "CREATE ROLE")["query"] == "CREATE ROLE hers PASSWORD '********'"
    assert len(json.dumps(result)) < 200_000


@ONE_SERVER
def test_an_invalid_text_of_another_encoding_costs_the_texts_and_nothing_else(counted: Database) -> None:
    server = counted.server
    server.query("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with contextlib.closing(server.connect("bytes")) as connection, connection.cursor() as cursor:
        cursor.execute("SET client_encoding = 'SQL_ASCII'")
        cursor.execute(b'SELECT 1 AS "\xff\xfe"')
        cursor.execute(f"CREATE SCHEMA {quote(SCHEMA)}; CREATE EXTENSION pg_stat_statements SCHEMA {quote(SCHEMA)}")
    inside = expect_success("pg_query_info", {**counted.login(db="bytes"), "top": 50})
    assert the(inside, "\ufffd\ufffd")["calls"] == 1
    outside = expect_success("pg_query_info", {**counted.login(), "all_databases": True, "top": 50})
    server.drop_database("bytes")
    assert any(note.startswith("The texts of the queries cannot be read") for note in outside["notes"])
    assert outside["total_time_s"] > 0


def test_an_old_extension_is_read_and_told(counted: Database) -> None:
    old = new_database(counted.server)
    old.execute("CREATE EXTENSION pg_stat_statements VERSION '1.4'")
    repeat(old, "SELECT 5 AS five", 4)
    result = expect_success("pg_query_info", {**old.login(), "top": 50})
    assert the(result, "AS five")["calls"] == 4
    assert checks(result)["query_stats_outdated"]["remedy"] == "ALTER EXTENSION pg_stat_statements UPDATE;"
    assert (result["extension_version"], result["evictions"], result["stats_reset"]) == ("1.4", None, None)
    assert any("does not count WAL" in note for note in result["notes"])
    failed = expect_failure("pg_query_stats_reset", old.login())
    assert "ALTER EXTENSION pg_stat_statements UPDATE" in failed["msg"]
    old.execute("ALTER EXTENSION pg_stat_statements UPDATE")
    assert "query_stats_outdated" not in checks(expect_success("pg_query_info", old.login()))
    old.drop()


def test_what_got_slower_since_an_earlier_sample_is_found(counted: Database) -> None:
    repeat(counted, "SELECT pg_sleep(0.001) AS napping", 20)
    repeat(counted, "SELECT 1 AS steady", 20)
    before = expect_success("pg_query_info", counted.login())["sample"]
    repeat(counted, "SELECT pg_sleep(0.01) AS napping", 20)
    repeat(counted, "SELECT 2 AS steady", 20)
    words = {**counted.login(), "baseline": before, "top": 50}
    result = expect_success("pg_query_info", words)
    [slower] = [each for each in result["findings"] if each["check"] == "query_slower"]
    assert "AS napping" in slower["message"]
    assert "20 calls" in slower["message"]
    [change] = [each for each in result["changes"] if "napping" in each["query"]]
    assert change["calls"] == 20
    assert 0.01 <= change["mean_time_s"] < 1
    assert change["factor"] == slower["value"] > 3
    assert (result["compared_with"], change["counters_restarted"]) == (before["collected_at"], False)

    counted.query(f"SELECT {quote(SCHEMA)}.pg_stat_statements_reset()")
    repeat(counted, "SELECT pg_sleep(0.02) AS napping", 20)
    reset = expect_success("pg_query_info", {**words, "baseline": {**before, "stats_reset": "2026-01-01T00:00:00Z"}})
    assert any("were reset at" in note for note in reset["notes"])
    [change] = [each for each in reset["changes"] if "napping" in each["query"]]
    assert (change["calls"], change["counters_restarted"]) == (20, True)
    assert "query_slower" in checks(reset)

    other = expect_success("pg_query_info", {**words, "all_databases": True})
    assert (other["changes"], other["compared_with"]) == ([], None)
    assert any("No comparison is possible" in note for note in other["notes"])
    assert "not a sample of queries" in expect_failure("pg_query_info", {**words, "baseline": {"queries": [1]}})["msg"]


def test_plans_are_shown_where_that_is_safe(counted: Database) -> None:
    counted.execute(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "SELECT * FROM t WHERE id = 5",
        "DELETE FROM t WHERE id = 5",
        'SELECT 1 AS "a; DROP TABLE t"',
        "/* so */ -- and so\n SELECT count(*) FROM t",
    )
    words = {**counted.login(), "explain": True, "top": 50}
    result = expect_success("pg_query_info", words)
    if counted.server.major < 16:
        assert result["plans"] == []
        assert any("16 or later" in note for note in result["notes"])
        return
    plans = {each["query"]: each for each in result["plans"]}
    assert "t_pkey" in " ".join(plans["SELECT * FROM t WHERE id = $1"]["plan"])
    assert plans["DELETE FROM t WHERE id = $1"]["plan"][0].startswith("Delete on t")
    assert "semicolon" in plans['SELECT $1 AS "a; DROP TABLE t"']["why"]
    assert plans["CREATE TABLE t (id int PRIMARY KEY)"]["why"] == "It has no plan."
    [leading] = [each for text, each in plans.items() if text.endswith("SELECT count(*) FROM t")]
    assert leading["plan"]

    counted.execute("GRANT ALL ON SCHEMA public TO plain")
    with contextlib.closing(counted.connect(user="plain")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE FUNCTION trap() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RAISE ''sprung''; END'")
        with contextlib.suppress(Exception):
            cursor.execute("SELECT trap()")
    trapped = expect_success("pg_query_info", words)
    assert trapped["plans"] == []
    assert any("public.trap" in note for note in trapped["notes"])


def test_a_reset_is_rehearsed_done_and_not_done_again(counted: Database) -> None:
    words = {**counted.login(), "min_age": "0"}
    repeat(counted, "SELECT 1 AS mine", 150)
    counted.server.query("SELECT 1 AS other_database")
    young = expect_success("pg_query_stats_reset", {**words, "all_databases": True, "min_age": "1h"})
    assert (young["changed"], "min_age is 1 h" in young["why"]) == (False, True)
    rehearsal = expect_success("pg_query_stats_reset", words, check=True, diff=True)
    assert rehearsal["changed"]
    assert rehearsal["diff"]["after"]["call_count"] == 0
    done = expect_success("pg_query_stats_reset", words)
    assert done["changed"]
    assert any("AS mine" in each["query"] and each["calls"] == 150 for each in done["before"])
    assert sum(each["calls"] for each in done["sample"]["queries"].values()) >= 150
    left = expect_success("pg_query_info", {**counted.login(), "all_databases": True, "top": 99})
    assert "AS mine" not in json.dumps(left["queries"])
    assert the(left, "AS other_database")
    again = expect_success("pg_query_stats_reset", {**words, "min_age": "1h"})
    assert (again["changed"], bool(again["why"])) == (False, True)
    whole = expect_success("pg_query_stats_reset", {**words, "all_databases": True})
    assert whole["changed"]
    assert not expect_success("pg_query_stats_reset", {**words, "all_databases": True, "min_age": "1h"})["changed"]


@ONE_SERVER
def test_it_takes_four_statements_and_a_timeout_holds(counted: Database) -> None:
    counted.server.query("ALTER SYSTEM SET log_statement = 'all'")
    counted.server.query("SELECT pg_reload_conf()")
    repeat(counted, "SELECT 'settled'", 20)
    expect_success("pg_query_info", counted.login())
    counted.server.query("ALTER SYSTEM RESET log_statement")
    counted.server.query("SELECT pg_reload_conf()")
    ours = counted.server.log().rpartition("'settled'")[2].partition("ALTER SYSTEM RESET")[0]
    lines = [line for line in ours.splitlines() if f"] {counted.name} LOG:  statement:" in line]
    lines = [line for line in lines if "DateStyle" not in line]
    assert len(lines) == 4, lines
    with contextlib.closing(counted.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_extension")
        hung = expect_failure("pg_query_info", {**counted.login(), "statement_timeout": "100ms"})
    assert "statement timeout" in hung["msg"]


def test_statements_that_were_evicted_are_told(new_server: Callable[..., Server]) -> None:
    [installation, *_others] = counting_installations()
    server = new_server(installation, settings={**PRELOADED, "pg_stat_statements.max": 100})
    with counting_database(server) as database:
        database.execute(*(f"SELECT 1{', 1' * number}" for number in range(150)))
        result = expect_success("pg_query_info", database.login())
        assert result["evictions"] > 0
        evicted = checks(result)["query_stats_evicted"]
        assert "room for 100" in evicted["message"]
        server.query("ALTER SYSTEM SET pg_stat_statements.track = 'none'")
        server.query("SELECT pg_reload_conf()")
        assert "query_stats_off" in checks(expect_success("pg_query_info", database.login()))
        with replica_of(server) as standby:
            there = expect_success("pg_query_info", {**standby.login(), "db": database.name})
            assert there["available"]
            assert any("standby" in note for note in there["notes"])


def test_the_columns_of_a_newer_extension_are_understood(any_database: Database) -> None:
    """1.12 comes with PostgreSQL 18, whose package here has no extension: a function with its columns stands for it."""
    times = [f"{kind}_blk_{verb}_time" for kind in ("shared", "local", "temp") for verb in ("read", "write")]
    blocks = [f"{kind}_blks_{verb}" for kind in ("shared", "temp") for verb in ("hit", "read", "dirtied", "written")]
    columns = {
        **dict.fromkeys(["total_plan_time", "total_exec_time", "mean_exec_time", "stddev_exec_time"], "float8"),
        **dict.fromkeys(["max_exec_time", *times], "float8"),
        **dict.fromkeys([*blocks, "wal_buffers_full", "parallel_workers_launched"], "int8"),
        "wal_bytes": "numeric",
        "stats_since": "timestamptz",
        "toplevel": "bool",
    }
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    values = {"float8": "2000", "int8": "3", "numeric": "7", "timestamptz": "'2026-01-01Z'", "bool": "true"}
    given = ", ".join(f"{values[kind]}::{kind}" for kind in columns.values())
    any_database.execute(
        f"CREATE FUNCTION pg_stat_statements(bool) RETURNS TABLE (queryid int8, userid oid, dbid oid, calls int8, rows int8,"
        f" {declared}) LANGUAGE sql AS $$ SELECT -5::int8, 10::oid, oid, 4::int8, 6::int8, {given}"
        " FROM pg_database WHERE datname = current_database() $$"
    )
    login = Login(host="127.0.0.1", port=any_database.server.port, user="postgres", password=PASSWORD)
    with OurServer(create_target({"kubernetes": None}), login).connect(any_database.name) as session:
        known = {**statistics.read_facts(session).__dict__, "schema": "public", "columns": list(columns)}
        facts = statistics.StatisticsFacts(**known)
        for sort in sql.SORTS:
            counted = statistics.read(session, facts, all_databases=False, sort=sort, top=5, sample=5)
    [query] = counted.queries
    assert (query.queryid, query.io_time_s, query.wal_bytes, query.temp_bytes) == ("-5", 12.0, 7, 6 * 8192)
    assert query.since == counted.oldest == datetime(2026, 1, 1, tzinfo=UTC)
    assert counted.total_time_s == 2.0
