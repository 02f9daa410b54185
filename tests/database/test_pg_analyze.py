"""pg_analyze on real servers: it gathers stale and missing statistics, once."""

from __future__ import annotations

import contextlib

from tests.support.databases import Database
from tests.support.modules import Result, expect_failure, expect_success
from tests.support.processes import until

CONTENT = (
    "CREATE TABLE fresh AS SELECT n AS id FROM generate_series(1, 1000) n",
    "CREATE TABLE stale AS SELECT n AS id, n % 5 AS v FROM generate_series(1, 1000) n",
    "CREATE TABLE never AS SELECT n AS id FROM generate_series(1, 1000) n",
    "CREATE TABLE empty (id int)",
    "CREATE TABLE parts (id int, at int) PARTITION BY RANGE (at)",
    "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
    "INSERT INTO parts SELECT n, n % 10 FROM generate_series(1, 1000) n",
)


def counted(database: Database, changes: int) -> None:
    """Wait until the server's statistics show the changes; before 15 that takes a moment."""
    total = "SELECT sum(n_mod_since_analyze)::int FROM pg_stat_user_tables"
    assert until(lambda: database.query(total) == [(changes,)], 30)


def fill(database: Database) -> None:
    """A session reports what it changed at its end: so each step has one."""
    database.execute(*CONTENT)
    counted(database, 4000)
    database.execute("ANALYZE fresh", "ANALYZE stale", "ANALYZE parts_1")
    counted(database, 1000)
    database.execute("UPDATE stale SET v = 0")
    counted(database, 2000)


def analyze(database: Database, *, check: bool = False, **over: object) -> Result:
    return expect_success("pg_analyze", {**database.login(), **over}, check=check)


def names(result: Result, state: str) -> list[str]:
    return sorted(each["name"] for each in result["tables"] if each["state"] == state)


def test_check_mode_the_work_and_nothing_to_do(any_database: Database) -> None:
    fill(any_database)
    checked = analyze(any_database, check=True)
    assert (checked["changed"], names(checked, "due")) == (True, ["never", "parts", "stale"])
    done = analyze(any_database)
    assert (done["changed"], names(done, "done")) == (True, ["never", "parts", "stale"])
    again = analyze(any_database)
    assert (again["changed"], again["tables"]) == (False, [])


def test_expressions_columns_and_extended_statistics_are_missed(database: Database) -> None:
    database.execute(
        "CREATE TABLE t AS SELECT n AS a, n % 5 AS b FROM generate_series(1, 1000) n",
        "ANALYZE t",
        "ALTER TABLE t ADD c int DEFAULT 1",
        "CREATE INDEX t_e ON t ((a + b))",
        "CREATE STATISTICS t_s (ndistinct) ON a, b FROM t",
    )
    [table] = analyze(database)["tables"]
    assert all(word in table["why"] for word in ("statistics of c", "t_e", "t_s"))
    assert analyze(database)["changed"] is False


def test_statistics_of_a_parent_with_rows_in_its_children_alone(any_database: Database) -> None:
    any_database.execute(
        "CREATE TABLE parent (a int, b int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO child SELECT n, n % 5 FROM generate_series(1, 1000) n",
        "CREATE STATISTICS together ON a, b FROM parent",
    )
    counted(any_database, 1000)
    for rows, due in ((0, ["child", "parent"]), (500, ["parent"])):
        any_database.execute(f"INSERT INTO parent SELECT n, n % 5 FROM generate_series(1, {rows}) n")
        counted(any_database, rows or 1000)
        assert names(analyze(any_database), "done") == due
        counted(any_database, 0)
        assert analyze(any_database)["changed"] is False


def test_in_stages(database: Database) -> None:
    fill(database)
    assert names(analyze(database, in_stages=True, missing_only=True), "done") == ["never", "parts"]
    assert analyze(database, in_stages=True, missing_only=True)["changed"] is False


def test_a_locked_table_is_named_and_the_others_are_done(database: Database) -> None:
    fill(database)
    with contextlib.closing(database.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE never IN ACCESS EXCLUSIVE MODE")
        done = analyze(database, lock_timeout="100ms")
        assert (names(done, "failed"), names(done, "done")) == (["never"], ["parts", "stale"])
        named = expect_failure("pg_analyze", {**database.login(), "tables": ["never"], "lock_timeout": "100ms"})
        assert "public.never" in named["msg"]
    assert names(analyze(database), "done") == ["never"]
