"""What a failed statement has really met: an SQLSTATE that a function of the database raises is no cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_analyze,
    pg_bloat_report,
    pg_reindex,
    pg_vacuum,
)
from tests.support.databases import Database, new_database
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.programs import Installation, installations
from tests.support.servers import Server
from tests.support.vacuums import counted

# Each is concluded to be something else where it comes from the server itself: dropped, locked, cancelled, no right,
# a full disk, not unique, a deadlock, a lost connection.
STATES = ("42P01", "3F000", "42704", "55P03", "57014", "42501", "53100", "23505", "40P01", "XX000")


def _spoilt(database: Database, body: str, rows: int = 4000) -> None:
    """A table ``bad`` with an index on a function that has become harmful since, and a table ``good``."""
    if database.query("SELECT 1 FROM pg_available_extensions WHERE name = 'pgstattuple'"):
        database.execute("CREATE EXTENSION pgstattuple")
    database.execute(
        "CREATE TABLE good (id int) WITH (autovacuum_enabled = off)",
        "CREATE TABLE bad (id int) WITH (autovacuum_enabled = off)",
        f"INSERT INTO good SELECT generate_series(1, {rows - 100})",
        f"INSERT INTO bad SELECT generate_series(1, {rows})",
        "CREATE FUNCTION pick(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN repeat('x', 50) || $1; END $$",
        "CREATE INDEX bad_i ON bad (pick(id))",
        f"DELETE FROM good WHERE id % 2 = 0; DELETE FROM bad WHERE id <> {rows}",
    )
    counted(database, "bad", rows - 1, 1)
    counted(database, "good", (rows - 100) // 2, (rows - 100) // 2)
    database.execute(
        f"CREATE OR REPLACE FUNCTION pick(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ {body} $$",
    )


def _rebuild(database: Database, **over: Any) -> Result:
    options = {"min_bloat_ratio": 0.0, "min_bloat_bytes": "0", "min_confidence": "low", "retries": 0}
    return attempt(pg_reindex, database, **{**options, **over})


def _of(result: Result, name: str, rows: str = "tables") -> dict[str, Any]:
    (found,) = (each for each in result[rows] if each["name"] == name)
    return dict(found)


@pytest.mark.parametrize("state", STATES)
def test_what_a_function_raises_is_told_and_nothing_is_concluded_from_it(database: Database, state: str) -> None:
    _spoilt(database, f"BEGIN RAISE EXCEPTION 'no luck' USING ERRCODE = '{state}'; END")
    vacuumed = attempt(pg_vacuum, database, min_dead_tuples=1000)
    assert (vacuumed["failure"], vacuumed["stopped_by"], vacuumed["changed"]) == (None, None, True)
    assert (_of(vacuumed, "good")["state"], _of(vacuumed, "bad")["state"]) == ("done", "failed")
    told = _of(vacuumed, "bad")["why"]
    assert told.startswith("it was vacuumed, but its statistics could not be gathered: no luck (in ")
    assert "pick(integer)" in told
    database.execute("CREATE TABLE other AS SELECT generate_series(1, 100) AS id")
    analyzed = attempt(pg_analyze, database)
    assert (analyzed["failure"], analyzed["stopped_by"]) == (None, None)
    assert _of(analyzed, "bad")["state"] == "failed"
    assert _of(analyzed, "bad")["why"].startswith("no luck (in ")
    rebuilt = _rebuild(database, indexes=["bad_i"])
    assert rebuilt["stopped_by"] is None
    assert _of(rebuilt, "bad_i", "indexes")["state"] == "failed"
    assert _of(rebuilt, "bad_i", "indexes")["why"].startswith("no luck (in ")
    for module, over in ((pg_vacuum, {"tables": ["bad"]}), (pg_analyze, {"tables": ["public.bad"]})):
        assert "no luck" in (attempt(module, database, **over)["failure"] or "nothing failed"), module


@pytest.fixture(name="newer")
def _newer(servers: Callable[[Installation], Server]) -> Iterator[Database]:
    """A database on 17 or newer: maintenance runs with a search_path of its own, which no table of people is in."""
    database = new_database(servers(max(installations(), key=lambda each: each.major)))
    yield database
    database.drop()


_LOOKUP = "DECLARE r text; BEGIN SELECT v INTO r FROM lookup WHERE k = $1; RETURN coalesce(r, 'x' || $1); END"
_NOT_FOUND = 'relation "lookup" does not exist'


def test_what_a_function_does_not_find_under_the_search_path_of_maintenance_is_no_dropped_table(
    newer: Database,
) -> None:
    database = newer
    database.execute("CREATE TABLE lookup (k int, v text)")
    _spoilt(database, _LOOKUP)
    for module in (pg_vacuum, pg_analyze):
        result = attempt(module, database, tables=["bad"])
        assert _NOT_FOUND in (result["failure"] or ""), (module, result)
        (finding,) = result["findings"]
        assert "ALTER FUNCTION ... SET search_path" in finding["message"] + finding["remedy"]
        assert _of(result, "bad")["state"] == "failed"
    database.execute("CREATE TABLE other AS SELECT generate_series(1, 100) AS id")
    everything = attempt(pg_analyze, database)
    assert (everything["failure"], _of(everything, "bad")["state"]) == (None, "failed")
    assert _of(everything, "other")["state"] == "done"


def test_what_a_function_does_not_find_ends_a_rewrite_and_a_rebuild_with_its_name(database: Database) -> None:
    _spoilt(database, _LOOKUP)
    window = {"start": "00:00", "end": "00:00"}
    rewritten = attempt(
        pg_vacuum, database, tables=["bad"], full=True, window=window, min_bloat_ratio=0.1, min_bloat_bytes="1kB"
    )
    assert _NOT_FOUND in (rewritten["failure"] or ""), rewritten
    assert _of(rewritten, "bad")["state"] == "failed"
    rebuilt = _rebuild(database, indexes=["bad_i"])
    assert _NOT_FOUND in _of(rebuilt, "bad_i", "indexes")["why"]
    (finding,) = (each for each in rebuilt["findings"] if each["check"] == "reindex_failed")
    assert finding["remedy"] == "Correct the function, then run it again."


_PGSTATINDEX = """
CREATE OR REPLACE FUNCTION pgstatindex(IN relname regclass, OUT version int, OUT tree_level int, OUT index_size bigint,
    OUT root_block_no bigint, OUT internal_pages bigint, OUT leaf_pages bigint, OUT empty_pages bigint,
    OUT deleted_pages bigint, OUT avg_leaf_density float8, OUT leaf_fragmentation float8) LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'right sibling''s left-link does not match' USING ERRCODE = 'XX000'; END $$
"""


def test_a_damaged_index_is_named_by_the_report_and_not_taken_for_a_dropped_one(database: Database) -> None:
    database.execute(
        "CREATE EXTENSION pgstattuple",
        _PGSTATINDEX,
        "CREATE TABLE t AS SELECT i FROM generate_series(1, 20000) i",
        "CREATE INDEX t_i ON t (i)",
        "DELETE FROM t WHERE i % 2 = 0",
    )
    relation = _of(attempt(pg_bloat_report, database, top=0, min_size="0"), "t_i", "relations")
    assert "right sibling" in relation["note"]
