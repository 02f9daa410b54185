"""pg_reindex on real servers: only what wastes space is rebuilt, what was left is dropped, and long work is named."""

from __future__ import annotations

import contextlib

from tests.support.databases import Database
from tests.support.modules import Result, expect_failure, expect_success, start_module
from tests.support.processes import until

BLOATED = (
    "CREATE TABLE t AS SELECT n AS id, n % 7 AS v FROM generate_series(1, 60000) n",
    "CREATE INDEX t_id ON t (id)",
    "CREATE INDEX t_v ON t (v)",
    "DELETE FROM t WHERE id <= 50000",
)


def bloat(database: Database) -> None:
    """Fill it; a session reports what it changed at its end, so that the statistics come from another one."""
    database.execute(*BLOATED)
    changes = "SELECT n_mod_since_analyze FROM pg_stat_user_tables WHERE relname = 't'"
    assert until(lambda: database.query(changes) == [(110000,)], 30)
    database.execute("VACUUM ANALYZE t")
    assert until(lambda: database.query(changes) == [(0,)], 30)


def reindex(database: Database, *, check: bool = False, **over: object) -> Result:
    words = {**database.login(), "min_bloat_bytes": "64kB", **over}
    return expect_success("pg_reindex", words, check=check)


def size(database: Database) -> int:
    return int(database.query("SELECT pg_relation_size('t_id')")[0][0])


def test_a_rehearsal_a_rebuild_and_nothing_to_do(any_database: Database) -> None:
    bloat(any_database)
    before = size(any_database)
    rehearsal = reindex(any_database, check=True)
    assert rehearsal["changed"], rehearsal
    assert size(any_database) == before
    done = reindex(any_database)
    assert done["changed"], done
    assert size(any_database) < before / 2
    states = {each["name"]: each["state"] for each in done["indexes"]}
    assert states["t_id"] == "rebuilt"
    assert done["freed_bytes"] > 0
    again = reindex(any_database)
    assert (again["changed"], again["indexes"]) == (False, [])


def test_an_invalid_index_is_rebuilt_and_a_leftover_dropped(database: Database) -> None:
    database.execute(
        "CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 100) n",
        "CREATE INDEX t_id ON t (id)",
        "CREATE INDEX t_id_ccnew ON t (id)",
        "CREATE INDEX t_own ON t ((id + 1))",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN ('t_id_ccnew'::regclass, 't_own'::regclass)",
    )
    assert reindex(database, check=True)["changed"]
    done = reindex(database)
    assert [(each["name"], each["state"]) for each in done["leftovers"]] == [("t_id_ccnew", "dropped")]
    assert [(each["name"], each["reason"], each["state"]) for each in done["indexes"]] == [
        ("t_own", "invalid", "rebuilt")
    ]
    assert database.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert reindex(database)["changed"] is False


def test_a_long_transaction_is_named_and_nothing_begun(database: Database) -> None:
    bloat(database)
    before = size(database)
    job = database.connect(autocommit=False, application_name="night job")
    with contextlib.closing(job) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")
        done = reindex(database, max_transaction_age="0")
        assert "night job" in str(done["findings"])
        assert "public.t_id" in done["left"]
    assert (done["changed"], size(database)) == (False, before)


def test_a_signal_leaves_nothing_behind(database: Database) -> None:
    bloat(database)
    job = database.connect(autocommit=False)
    with contextlib.closing(job) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
        words = {**database.login(), "min_bloat_bytes": "64kB", "lock_timeout": "60s"}
        module = start_module("pg_reindex", words)
        ccnew = "SELECT count(*) FROM pg_class WHERE relname LIKE 't%%ccnew'"
        assert until(lambda: database.query(ccnew) == [(1,)], 60)
        connection.rollback()
        module.process.terminate()
        result = module.finish()
    assert result["failed"] or result["changed"]
    assert database.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_a_unique_violation_is_told_and_its_leftover_is_gone(database: Database) -> None:
    database.execute("CREATE TABLE t AS SELECT 1 AS id FROM generate_series(1, 2)")
    with contextlib.suppress(Exception):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY t_id ON t (id)")
    result = expect_failure("pg_reindex", {**database.login(), "min_bloat_bytes": "64kB"})
    assert "not unique" in result["msg"]
    assert "GROUP BY id" in result["msg"]
    assert database.query("SELECT relname FROM pg_class WHERE relkind = 'i' AND relname LIKE 't\\_%%'") == [("t_id",)]
