"""Queries: which may be explained, what of their texts is hidden, and what two samples say of one another."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries import judgement
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries.comparison import (
    Baseline,
    compare,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries.explain import left_out
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries.judgement import QueriesPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.queries.statistics import (
    Query,
    Statistics,
    StatisticsFacts,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.query_texts import without_secrets

NOW = datetime(2026, 2, 6, 3, 4, 5, tzinfo=UTC)
FACTS = StatisticsFacts(
    version="1.10", schema="public", columns=[], has_info=True, available="1.10",
    settings={"pg_stat_statements.max": "5000"}, pending_restart=False, sees_all=True, standby=False, login="postgres",
    database="app", encoding="UTF8", block_size=8192, server_major=16,
)  # fmt: skip


def query(number: int = 1, **over: Any) -> Query:
    """A statement that has taken 100 calls of 10 ms."""
    known: dict[str, Any] = {
        "queryid": str(number), "userid": 10, "dbid": 5, "toplevel": True, "user": "app", "database": "app", "calls": 100,
        "rows": 1, "total_time_s": 1.0, "mean_time_s": 0.01, "stddev_time_s": 0.0, "max_time_s": 0.02, "plan_time_s": 0.0,
        "time_ratio": 0.5, "hit_bytes": 0, "read_bytes": 0, "dirtied_bytes": 0, "written_bytes": 0, "temp_bytes": 0,
        "wal_bytes": 0, "io_time_s": 0.0, "since": None, "rank": 1, "text": "SELECT $1",
    }  # fmt: skip
    return Query(**{**known, **over})


def baseline(**over: Any) -> Baseline:
    """A sample of a week ago, with 50 calls of 5 ms."""
    known = {
        "collected_at": "2026-01-30T03:04:05Z",
        "stats_reset": None,
        "evictions": 0,
        "total_time_s": 0.25,
        "queries": {"1/10/5": {"calls": 50, "total_time_s": 0.25}},
    }
    return Baseline.parse({**known, **over})


def test_what_may_be_explained() -> None:
    for text in ("SELECT 1", " -- a\n/* b */ ( select 1)", "WITH a AS (SELECT $1) SELECT", "Delete from t"):
        assert left_out(query(text=text), FACTS) == ""
    for text, reason in (
        ("SELECT 1; DROP TABLE t", "semicolon"),
        ("VACUUM t", "no plan"),
        ("SELECTED", "no plan"),
        ("/* /* */ SELECT */ DROP TABLE t", ""),  # the server takes it for an error, as it explains
        ("EXPLAIN ANALYZE DELETE FROM t", "no plan"),
        ("", "unknown"),
    ):
        assert reason in left_out(query(text=text), FACTS)
    assert "longer" in left_out(query(cut=True), FACTS)
    assert "another database" in left_out(query(database="other"), FACTS)


@pytest.mark.parametrize(
    "text",
    [
        "ALTER ROLE app PASSWORD 'hunter2'",
        "/* x */ CREATE USER app WITH ENCRYPTED PASSWORD E'hunter2''\\'more hunter2' LOGIN",
        "ALTER ROLE app PASSWORD 'hunter2 that was cut",
        "ALTER ROLE app PASSWORD $$hunter2$$",
        "ALTER ROLE app PASSWORD $a$hunter2 $$ hunter2$a$ VALID UNTIL 'now'",
        "CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'app', password 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2 dbname=d' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''hunter2 hunter2'' dbname=d' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION 'postgresql://app:hunter2@h/d' PUBLICATION p",
        "CREATE SUBSCRIPTION s CONNECTION 'postgresql://app:hunt@hunter2@h/d' PUBLICATION p",
        "ALTER ROLE app PASSWORD /* y */ 'hunter2'",
        "ALTER ROLE app PASSWORD\n-- c'\n'hunter2'",
        "ALTER ROLE app PASSWORD /* /* */ ' */ 'hunter2'",
        "ALTER ROLE app PASSWORD 'hun'\n'hunter2'",
        "ALTER ROLE app PASSWORD 'back\\' VALID UNTIL 'now'; ALTER ROLE app PASSWORD 'hunter2'",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE bob PASSWORD ''hunter2'''; END $$",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE bob PASSWORD ' || quote_literal('hunter2'); END $$",
        "DO 'BEGIN EXECUTE ''ALTER ROLE bob PASSWORD ''''hunter2''''''; END'",
        "CALL change_password('bob', password := 'hunter2')",
        "CALL change(password, 'hunter2')",
        "SELECT 1; ALTER ROLE app PASSWORD 'hunter2'",
        "SELECT dblink_exec('ALTER ROLE bob PASSWORD ' || quote_literal('hunter2'))",
        "SELECT set_config('app.password', 'hunter2', false)",
        "SELECT * FROM dblink('host=h password = hunt\\ hunter2', 'SELECT 1') AS t (a int)",
        "UPDATE users SET \"Password\" = 'hunter2' WHERE id = 1",
        "SET my.password TO 'hunter2'",
        "ALTER SERVER s OPTIONS (SET sslpassword 'hunter2')",
    ],
)
def test_passwords_of_statements_are_not_shown(text: str) -> None:
    told = without_secrets(text)
    assert "hunter2" not in told
    assert "********" in told


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM users WHERE password = $1",
        "UPDATE users SET password = md5($1)",
        "VACUUM t",
        "SELECT id, password FROM users WHERE name = 'bob' -- $$ it's \"one\"",
        "SELECT e'it\\'s', U&'d\\0061', $$a$$, x.a$b$ FROM x /* ' */ WHERE a = '",
        "ALTER ROLE app PASSWORD NULL VALID UNTIL 'tomorrow'",
        "CREATE TABLE users (id int, password text, password_hash text)",
        "SET password_encryption = 'md5'",
        "COPY t TO PROGRAM 'curl http://host:8080/x'",
        "",
    ],
)
def test_other_texts_are_shown_as_they_are(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "CREATE USER a PASSWORD 'x' IN ROLE b; ALTER USER c PASSWORD $$x$$",
            "CREATE USER a PASSWORD '********' IN ROLE b; ALTER USER c PASSWORD '********'",
        ),
        ("CREATE SERVER s OPTIONS (url 'http://u:a@b@h/d')", "CREATE SERVER s OPTIONS (url 'http://u:********@h/d')"),
        ("DO $$ SELECT 'password' || 'x' $$", "DO $$ SELECT 'password********"),
    ],
)
def test_as_little_as_possible_is_hidden(text: str, told: str) -> None:
    assert without_secrets(text) == told


@pytest.mark.parametrize("text", ["'a''", "/* ", "password x ", "$a$ $b$ ", 'x"', "://a:"])
def test_a_long_text_is_read_in_a_moment(text: str) -> None:
    began = time.monotonic()
    without_secrets(text * (200_000 // len(text)))
    assert time.monotonic() - began < 5


def test_the_interval_is_compared_with_the_time_before() -> None:
    now = Statistics(queries=[query(), query(2)], statement_count=2, total_time_s=2.0, evictions=0)
    found = compare(FACTS, now, "app", baseline())
    [change] = found.changes
    assert (change.calls, change.mean_time_s, change.factor) == (50, pytest.approx(0.015), pytest.approx(3.0))
    assert change.time_ratio == pytest.approx(0.75 / 1.75)
    assert (found.new, found.notes) == ([query(2)], [])
    plan = QueriesPlan()
    assert [each.subject for each in judgement.of_comparison(found, plan)] == ["1"]
    for strict in (QueriesPlan(min_calls=51), QueriesPlan(min_time_ratio=0.5), QueriesPlan(slower_factor=3.1)):
        assert not list(judgement.of_comparison(found, strict))


def test_counters_that_began_anew_are_noticed() -> None:
    evicted = Statistics(queries=[query(calls=40, total_time_s=4.0)], statement_count=1, evictions=3)
    found = compare(FACTS, evicted, "app", baseline())
    assert [(each.calls, each.restarted) for each in found.changes] == [(40, True)]
    assert any("evicted statements 3 times" in note for note in found.notes)

    quiet = baseline(queries={"1/10/5": {"calls": 50, "total_time_s": 0.25}, "9/10/5": {"calls": 1, "total_time_s": 0}})
    vanished = Statistics(queries=[query()], statement_count=1, evictions=0)
    assert compare(FACTS, vanished, "app", quiet).changes[0].calls == 100
    unread = Statistics(queries=[query()], statement_count=9, evictions=0)
    assert compare(FACTS, unread, "app", quiet).changes[0].calls == 50

    young = Statistics(queries=[query(since=NOW - timedelta(days=1))], statement_count=1, oldest=NOW, evictions=0)
    assert compare(FACTS, young, "app", baseline()).changes[0].calls == 100
    reset = Statistics(queries=[query()], statement_count=1, evictions=0, stats_reset=NOW)
    told = compare(FACTS, reset, "app", baseline(stats_reset="2026-01-01T00:00:00Z"))
    assert (told.reset, told.changes[0].calls, "were reset at" in told.notes[0]) == (True, 100, True)


def test_what_cannot_be_compared_is_said() -> None:
    now = Statistics(queries=[query()], statement_count=1)
    for words in ({"scope": "other"}, {"server_major": 15}):
        found = compare(FACTS, now, "app", baseline(**words))
        assert (found.changes, found.since) == ([], None)
        assert "No comparison is possible" in found.notes[0]
    for broken in ({"queries": None}, {"collected_at": "yesterday"}, {"queries": {"1": {"calls": "many"}}}):
        with pytest.raises(InvalidInput, match="Invalid baseline: it is not a sample"):
            baseline(**broken)


def test_conspicuous_queries_are_found() -> None:
    gib = 1024**3
    bad = query(
        time_ratio=0.9, total_time_s=90.0, mean_time_s=0.9, stddev_time_s=9.0, temp_bytes=2 * gib, read_bytes=3 * gib, hit_bytes=gib
    )  # fmt: skip
    found = [each.check for each in judgement.of_queries([bad, query(2), query(3, queryid=None)], QueriesPlan())]
    assert found == ["query_dominates", "query_temp_files", "query_cache", "query_deviation"]
