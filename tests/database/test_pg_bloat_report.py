"""pg_bloat_report against the truth: what VACUUM FULL and REINDEX really give back."""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.bloat.survey import Scope, survey
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as Login_Server
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.bloat_zoo import SCHEMA, Truth, build_bloat_zoo, rewrite
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure, expect_success
from tests.support.servers import Server
from tests.support.vacuums import counted

NAME = "pg_bloat_report"
# Built just now, and something about them misleads: a rebuild gives nothing back.
NOT_BLOATED = ("skewed_k", "soft_deleted", "soft_deleted_gone", "soft_deleting_gone", "external_key_v", "small_text")
# Whose figure rests on how full a build usually leaves pages, unlike that of a B-tree.
OTHERS = ("_gist", "_box", "_range", "_spgist", "_hash", "_brin", "_words", "_tags", "_facts")


@dataclass(frozen=True)
class Zoo:
    """The zoo with both extensions, and what it weighs once it was rewritten."""

    database: Database
    truths: dict[str, Truth]

    def copy(self, *statements: str) -> Database:
        """A copy, page by page, in which statements were run."""
        database = new_database(self.database.server, unique_name("bloat"), template=self.database.name)
        database.execute(*statements)
        return database


@pytest.fixture(scope="module", name="zoo")
def _zoo() -> Iterator[Zoo]:
    with Server(settings={"autovacuum": "off"}) as server:
        database = new_database(server, "bloat")
        build_bloat_zoo(database)
        database.execute("CREATE EXTENSION pgstattuple", "CREATE EXTENSION pageinspect")
        zoo = Zoo(database, {})
        copy = zoo.copy()
        zoo.truths.update({truth.name: truth for truth in rewrite(copy)})
        copy.drop()
        yield zoo


def reported(database: Database, **over: Any) -> dict[str, Any]:
    return expect_success(NAME, {**database.login(), "min_size": "0", "top": 0, **over})


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        each["name"] + (" TOAST" if each["kind"] == "toast" else ""): each
        for each in result["relations"]
        if each["schema"] == SCHEMA
    }


def errors(zoo: Zoo, result: dict[str, Any]) -> dict[str, float]:
    """By how many points each ratio misses the truth."""
    found = by_name(result)
    return {
        name: abs(found[name]["bloat_ratio"] - truth.ratio) * 100
        for name, truth in zoo.truths.items()
        if name in found and found[name]["bloat_ratio"] is not None
    }


# --- how near the truth ---------------------------------------------------------------------------------


def test_measured_ratios_are_the_truth(zoo: Zoo) -> None:
    result = reported(zoo.database)
    missed = errors(zoo, result)
    assert zoo.truths.keys() == missed.keys()
    others = {name: points for name, points in missed.items() if name.endswith(OTHERS)}
    trees = {name: points for name, points in missed.items() if name not in others}
    assert len(trees) >= 40
    assert len(others) >= 19
    for each, most in ((trees, 5), (others, 8)):
        assert statistics.median(each.values()) < 1
        assert max(each.values()) < most, sorted(each.items(), key=lambda each: -each[1])[:5]
    assert result["changed"] is False


def test_every_kind_of_index_has_a_figure_and_says_how_it_was_found(zoo: Zoo) -> None:
    found = by_name(reported(zoo.database))
    assert found["places_left_hash"]["method"] == "pgstathashindex"
    assert found["places_left_gist"]["method"] == "pgstattuple"
    assert found["documents_tags"]["method"] == "pageinspect"
    assert found["places_left_spgist"]["method"] == found["places_left_brin"]["method"] == "estimate"
    packed = found["documents_packed_facts"]
    assert (packed["bloat_bytes"], packed["recommendation"]) == (0, "nothing")
    assert "A rebuild would make it larger" in packed["note"]
    assert zoo.truths["documents_packed_facts"].rewritten_bytes > zoo.truths["documents_packed_facts"].size_bytes
    assert "The figure is a lower bound" in found["documents_words"]["note"]
    assert found["documents_words"]["bloat_ratio"] <= zoo.truths["documents_words"].ratio + 0.02


def test_sampled_pages_do_nearly_as_well(zoo: Zoo) -> None:
    copy = zoo.copy("DROP EXTENSION pgstattuple")
    result = reported(copy)
    copy.drop()
    assert {each["method"] for each in result["relations"]} == {"pageinspect", "estimate"}
    missed = {name: points for name, points in errors(zoo, result).items() if not name.endswith(OTHERS)}
    assert statistics.median(missed.values()) < 1
    assert max(missed.values()) < 5, sorted(missed.items(), key=lambda each: -each[1])[:5]


def test_nothing_is_promised_that_statistics_only_guess(zoo: Zoo) -> None:
    zoo.database.execute("DROP EXTENSION pageinspect")
    result = reported(zoo.database)
    zoo.database.execute("CREATE EXTENSION pageinspect")
    found, missed = by_name(result), errors(zoo, result)
    doubtful = {name for name, points in missed.items() if points > 5 and found[name]["confidence"] != "low"}
    assert doubtful <= {"long_keys_v"}
    assert "cannot be read" in found["long_keys_v"]["note"]
    for name in NOT_BLOATED:
        assert found[name]["bloat_ratio"] < 0.05
    assert found["skewed_k"]["confidence"] == "low"
    assert "if its keys repeat" in found["skewed_k"]["note"]


def test_an_estimate_knows_what_it_cannot_know(zoo: Zoo) -> None:
    result = reported(zoo.database, measure_budget="0")
    found, missed = by_name(result), errors(zoo, result)
    assert {each["method"] for each in result["relations"]} == {"estimate", "none"}
    wrong = {name: points for name, points in missed.items() if found[name]["confidence"] == "medium" and points > 5}
    assert wrong == {}
    assert {found[name]["confidence"] for name in ("skewed_k", "soft_deleted_gone", "small_text")} == {"low"}
    assert {found[name]["confidence"] for name in ("external_key_v", "compressed_key_v", "named_v")} == {"none"}
    assert max(missed.values()) < 25, sorted(missed.items(), key=lambda each: -each[1])[:5]
    unknown = [each for each in result["relations"] if each["bloat_ratio"] is None]
    assert unknown
    assert all(each["note"] and each["bloat_bytes"] is None and each["confidence"] == "none" for each in unknown)


def test_dead_rows_that_are_not_in_an_index_are_not_called_its_waste(database: Database) -> None:
    """Statistics can be of rows that were removed meanwhile, or deleted before the index was built."""
    database.execute(
        "CREATE EXTENSION pgstattuple",
        "CREATE TABLE lead (id int, x int) WITH (autovacuum_enabled = off)",
        "INSERT INTO lead SELECT n, n FROM generate_series(1, 60000) n",
    )
    counted(database, "lead", 0, 60000)
    database.execute("DELETE FROM lead WHERE id <= 48000")  # nor is it known how often keys repeat
    counted(database, "lead", 48000, 12000)
    database.execute("CREATE INDEX lead_x ON lead (x)")
    size = database.query("SELECT pg_relation_size('lead')::text")[0][0]
    result = reported(database, measure_bytes=str(int(size) - 1))  # so that only the index is measured
    (index,) = (each for each in result["relations"] if each["name"] == "lead_x")
    assert index["method"] == "pgstatindex"
    assert index["bloat_ratio"] < 0.02
    assert index["confidence"] == "low"
    assert re.match(
        r"The figure is a lower bound\. It would be \d\d% if each dead row of its table has an entry\.", index["note"]
    )


def test_rows_that_came_at_the_end_after_most_were_deleted_at_the_front(database: Database) -> None:
    database.execute(
        "CREATE EXTENSION pgstattuple",
        "CREATE TABLE lead (id int, x int) WITH (autovacuum_enabled = off)",
        "INSERT INTO lead SELECT n, n FROM generate_series(1, 250000) n",
        "CREATE INDEX lead_x ON lead (x)",
        "DELETE FROM lead WHERE id <= 200000",
        "VACUUM lead",
        "ANALYZE lead",
        "INSERT INTO lead SELECT n, n FROM generate_series(250001, 280000) n",
    )
    for options in ({}, {"measure_bytes": "8MB"}):  # with its table measured, and without
        result = reported(database, **options)
        (index,) = (each for each in result["relations"] if each["name"] == "lead_x")
        assert abs(index["bloat_ratio"] - 0.713) < 0.02, index


# --- what each row says -----------------------------------------------------------------------------------


def test_a_row_says_what_it_is_how_it_was_found_and_what_to_do(zoo: Zoo) -> None:
    result = reported(zoo.database, min_bloat_bytes="100kB")
    found = by_name(result)
    churned = found["churned"]
    assert churned["kind"] == "table"
    assert churned["method"] == "pgstattuple"
    assert churned["confidence"] == "high"
    assert (churned["live_tuples"], churned["dead_tuples"]) == (24000, 0)
    assert churned["last_vacuum"]
    assert churned["last_analyze"]
    assert churned["freeze_age"] >= 0
    assert churned["free_bytes"] > churned["bloat_bytes"] * 0.9
    assert churned["recommendation"] == "repack"
    assert found["churned_id"]["recommendation"] == "reindex"
    assert found["churned_id"]["table"] == "churned"
    assert found["dead"]["recommendation"] == "vacuum"
    assert found["dead"]["dead_bytes"] > 0
    assert found["loose"]["recommendation"] == "nothing"
    assert "fillfactor" in found["loose"]["why"]
    assert found["toasted TOAST"]["kind"] == "toast"
    assert found["toasted TOAST"]["recommendation"] == "repack"
    hashed = found["keys_hash"]  # by its rows it is as small as a rebuild makes it, and so is not measured
    assert (hashed["method"], hashed["confidence"], hashed["bloat_bytes"]) == ("estimate", "medium", 0)
    checks = {(finding["check"], finding["subject"]) for finding in result["findings"]}
    assert {("bloat", f"{SCHEMA}.churned_id"), ("dead_tuples", f"{SCHEMA}.dead")} <= checks
    assert all(finding["remedy"].startswith("Run the playbook") for finding in result["findings"])
    assert result["severity"] == "warning"


def test_scope_order_and_number_are_chosen(zoo: Zoo) -> None:
    result = reported(zoo.database, tables=["parts", f"{SCHEMA}.fresh"], measure_budget="0")
    assert {each["table"] for each in result["relations"]} == {"parts_1", "parts_2", "fresh"}
    result = reported(zoo.database, schemas=[SCHEMA], sort="size_bytes", top=3, measure_budget="0", min_size="1MB")
    sizes = [each["size_bytes"] for each in result["relations"]]
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)
    assert result["totals"]["relations"] > 40
    assert result["totals"]["size_bytes"] > sum(sizes)
    assert reported(zoo.database, schemas=["public"], measure_budget="0")["relations"] == []


@pytest.mark.parametrize("any_of", [{"schemas": ["no such"]}, {"tables": ["No_such"]}, {"top": -1},
                                    {"min_bloat_ratio": 2}, {"measure_budget": "soon"}, {"min_size": "big"}])  # fmt: skip
def test_bad_input_is_named(zoo: Zoo, any_of: dict[str, Any]) -> None:
    result = expect_failure(NAME, {**zoo.database.login(), **any_of})
    assert result["error"]["kind"] == "InvalidInput"
    assert str(next(iter(any_of.values()))).strip("[]'") in result["msg"]


# --- rights, budgets and others at work ------------------------------------------------------------------------


@pytest.fixture(name="role")
def _role(zoo: Zoo) -> Iterator[Callable[..., dict[str, Any]]]:
    made: list[str] = []

    def make(*statements: str) -> dict[str, Any]:
        name = unique_name("looker")
        made.append(name)
        database = zoo.database
        database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'dummy-7c1e'", *(each.format(name) for each in statements))
        return database.login(login_user=name, login_password="dummy-7c1e")

    yield make
    for name in made:
        zoo.database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_pg_monitor_is_enough_to_measure(zoo: Zoo, role: Callable[..., dict[str, Any]]) -> None:
    login = role("GRANT pg_monitor TO {}")
    result = expect_success(NAME, {**login, "min_size": "0", "top": 0, "schemas": [SCHEMA]})
    found, missed = by_name(result), errors(zoo, result)
    tables = [each for each in result["relations"] if each["access_method"] == "heap" and each["size_bytes"]]
    assert {each["method"] for each in tables} == {"pgstattuple"}
    assert statistics.median(missed.values()) < 1
    sure = {name: points for name, points in missed.items() if found[name]["confidence"] == "high"}
    assert len(sure) > 40
    assert max(sure.values()) < 5, sorted(sure.items(), key=lambda each: -each[1])[:5]
    for name in NOT_BLOATED:
        assert found[name]["bloat_ratio"] < 0.05
    assert found["ten_times_both"]["confidence"] == "medium"
    assert "lower bound" in found["ten_times_both"]["note"]


def test_without_any_right_there_are_sizes_and_the_reason(zoo: Zoo, role: Callable[..., dict[str, Any]]) -> None:
    result = expect_success(NAME, {**role(), "min_size": "0", "top": 0, "schemas": [SCHEMA]})
    found = by_name(result)
    assert len(found) > 60
    assert found["churned_v"]["confidence"] == "none"
    assert found["churned_v"]["size_bytes"] > 0
    assert "CREATE EXTENSION pgstattuple" in found["churned_v"]["note"]


def test_a_locked_table_holds_nobody_up(zoo: Zoo) -> None:
    with contextlib.closing(zoo.database.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {SCHEMA}.churned IN ACCESS EXCLUSIVE MODE")
        found = by_name(reported(zoo.database, tables=["churned", "dead"]))
    assert "lock" in found["churned"]["note"]
    assert found["churned"]["method"] == "estimate"
    assert found["dead"]["method"] == "pgstattuple"


def test_a_budget_is_kept(zoo: Zoo) -> None:
    bytes_kept = reported(zoo.database, measure_bytes="2MB")
    measured = [each for each in bytes_kept["relations"] if each["method"] in ("pgstattuple", "pgstatindex")]
    assert 0 < sum(each["size_bytes"] for each in measured) <= 2 * 1024 * 1024
    assert any("budget" in each["note"] for each in bytes_kept["relations"])
    no_time = reported(zoo.database, measure_budget="1ms")
    assert no_time["totals"]["measured"] == 0


@pytest.mark.parametrize("extension", ["pgstattuple", "pageinspect"])
def test_a_table_that_is_dropped_meanwhile_is_left_out(zoo: Zoo, extension: str) -> None:
    copy = zoo.copy("DROP EXTENSION pgstattuple, pageinspect", f"CREATE EXTENSION {extension}")
    params = {**copy.login(), "login_unix_socket": "", "ssl_mode": "prefer", "connect_params": {}}
    params.update(dict.fromkeys(("ca_cert", "ssl_cert", "ssl_key")))
    with Login_Server(LocalTarget(), Login.from_params(params)).connect(copy.name) as session:
        relations = survey(session, Scope(schemas=[SCHEMA]), measure_budget_s=60, measure_bytes=2**40)
        seen = [next(relations)]
        copy.execute(f"DROP TABLE {SCHEMA}.churned CASCADE", f"DROP TABLE {SCHEMA}.dead")
        seen.extend(relations)
    copy.drop()
    names = {each.name for each in seen if each.kind != "toast"}
    assert "churned_id" not in names
    assert "dead" not in names
    assert "last_tenth_left" in names


def test_rows_that_nobody_has_counted_make_no_index_bloated(zoo: Zoo) -> None:
    copy = zoo.copy(
        "DROP EXTENSION pageinspect",  # counters are not copied
        f"DELETE FROM pg_statistic WHERE starelid = '{SCHEMA}.fresh'::regclass",
        f"""UPDATE pg_class SET reltuples = -1, relpages = 0
            WHERE oid IN ('{SCHEMA}.fresh'::regclass, '{SCHEMA}.fresh_id'::regclass)""",
        "UPDATE pg_class SET relallvisible = 0",  # or else tables cost nothing to measure
    )
    copy.execute(f"INSERT INTO {SCHEMA}.skewed SELECT 7 FROM generate_series(1, 100)")
    counted(copy, f"{SCHEMA}.skewed", 0, 100)
    found = by_name(reported(copy, tables=["fresh", "skewed"], measure_bytes="4200kB"))
    # A few rows were counted since then, and the statistics do not show that there are more.
    copy.execute(f"INSERT INTO {SCHEMA}.fresh SELECT n FROM generate_series(100001, 100100) n")
    counted(copy, f"{SCHEMA}.fresh", 0, 100)
    found["few counted"] = by_name(reported(copy, tables=["fresh"], measure_bytes="4MB"))["fresh_id"]
    copy.drop()
    assert (found["fresh"]["method"], found["skewed"]["method"]) == ("none", "estimate")
    for name in ("fresh_id", "skewed_k", "few counted"):
        assert (found[name]["method"], found[name]["confidence"]) == ("pgstatindex", "low")
        assert re.search("were not counted|is unknown", found[name]["note"])
        assert found[name]["bloat_ratio"] < 0.05


def test_a_short_statement_timeout_is_told(zoo: Zoo, role: Callable[..., dict[str, Any]]) -> None:
    result = expect_failure(NAME, role("ALTER ROLE {} SET statement_timeout = 1"))
    assert result["error"]["kind"] == "QueryFailed"
    assert re.search("statement.timeout", result["msg"])


def test_it_estimates_without_extensions_and_samples_with_one_on_every_major(any_server: Server) -> None:
    database = new_database(any_server)
    database.execute(
        "CREATE TABLE t AS SELECT n AS id, n % 7 AS v FROM generate_series(1, 20000) n", "CREATE INDEX t_id ON t (id)"
    )
    database.execute("DELETE FROM t WHERE id % 2 = 0")
    counted(database, "t", 10000, 10000)
    database.execute("VACUUM ANALYZE t")
    counted(database, "t", 0, 10000)
    found = {each["name"]: each for each in reported(database)["relations"]}
    if database.query("SELECT FROM pg_available_extensions WHERE name = 'pageinspect'"):
        database.execute("CREATE EXTENSION pageinspect")
    sampled = {each["name"]: each for each in reported(database)["relations"]}
    database.drop()
    for name in ("t", "t_id"):
        assert found[name]["method"] == "estimate"
        assert sampled[name]["method"] in ("pageinspect", "estimate")
        assert 0.45 < found[name]["bloat_ratio"] < 0.55
        assert abs(sampled[name]["bloat_ratio"] - found[name]["bloat_ratio"]) < 0.02
