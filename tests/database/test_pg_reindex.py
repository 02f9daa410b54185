"""pg_reindex on real servers: it rebuilds only bloated indexes, drops leftovers, and names long work."""

from __future__ import annotations

import contextlib

from tests.support.databases import Database
from tests.support.modules import Result, expect_failure, expect_success, start_module
from tests.support.processes import until
from tests.support.vacuums import ALWAYS, counted

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


def test_check_mode_a_rebuild_and_nothing_to_do(any_database: Database) -> None:
    bloat(any_database)
    before = size(any_database)
    checked = reindex(any_database, check=True)
    assert checked["changed"], checked
    assert size(any_database) == before
    done = reindex(any_database)
    assert done["changed"], done
    assert size(any_database) < before / 2
    states = {each["name"]: each["state"] for each in done["indexes"]}
    assert states["t_id"] == "done"
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
    assert [(each["name"], each["state"]) for each in done["leftovers"]] == [("t_id_ccnew", "done")]
    assert [(each["name"], each["reason"], each["state"]) for each in done["indexes"]] == [("t_own", "invalid", "done")]
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


def test_partitions_are_rebuilt_each_by_itself(database: Database) -> None:
    database.execute(
        "CREATE TABLE p (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (60000)",
        "CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (60000) TO (120000)",
        "CREATE INDEX p_id ON p (id)",
        "INSERT INTO p SELECT n, 'x' FROM generate_series(0, 119999) n",
        "DELETE FROM p WHERE id % 60000 <= 50000",
    )
    counted(database, "p_2", 50001, 9999)
    database.execute("VACUUM ANALYZE p_1", "VACUUM ANALYZE p_2")
    for over, names in (
        ({"indexes": ["p_id"]}, ["p_1_id_idx", "p_2_id_idx"]),
        ({"tables": ["public.p_2"]}, ["p_2_id_idx"]),
    ):
        found = reindex(database, check=True, **over)
        assert sorted(each["name"] for each in found["indexes"]) == names
    done = reindex(database, tables=["p"])
    assert {each["name"]: each["state"] for each in done["indexes"]} == dict.fromkeys(
        ["p_1_id_idx", "p_2_id_idx"], "done"
    )
    assert reindex(database)["changed"] is False


def test_constraints_stay_what_they_are(database: Database) -> None:
    database.execute(
        "CREATE EXTENSION btree_gist",
        "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v int, EXCLUDE USING gist (v WITH =))",
        "CREATE TABLE child (t int REFERENCES t)",
        "INSERT INTO t SELECT n, n, n FROM generate_series(1, 100) n",
        "UPDATE pg_index SET indisvalid = false WHERE indrelid = 't'::regclass",
    )
    shape = "SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid IN ('t'::regclass, 'child'::regclass) ORDER BY 1"
    before = database.query(shape)
    done = reindex(database)
    assert {each["name"]: each["state"] for each in done["indexes"]} == {
        "t_pkey": "done",
        "t_u_key": "done",
        "t_v_excl": "skipped",
    }
    [told] = [each for each in done["findings"] if each["check"] == "reindex_skipped"]
    assert "exclusion constraint" in told["message"]
    assert "concurrently: false in a window" in told["remedy"]
    in_a_window = reindex(database, concurrently=False, window=ALWAYS)
    assert {each["name"]: each["state"] for each in in_a_window["indexes"]} == {"t_v_excl": "done"}
    assert database.query(shape) == before
    assert database.query("SELECT count(*)::int FROM pg_index WHERE NOT indisvalid") == [(0,)]


def test_the_systems_catalogs_on_request_only(database: Database) -> None:
    database.execute(
        *(f"CREATE TABLE t_{number} ({', '.join(f'c_{at} int' for at in range(200))})" for number in range(20))
    )
    database.execute(
        "DO $$ BEGIN FOR n IN 0..19 LOOP EXECUTE 'DROP TABLE t_' || n; END LOOP; END $$", "VACUUM pg_attribute"
    )
    bloated = "SELECT pg_relation_size('pg_attribute_relid_attnum_index')"
    before = database.query(bloated)
    refused = expect_failure("pg_reindex", {**database.login(), "system": True})
    assert "cannot be rebuilt concurrently" in refused["msg"]
    assert "on request only" in expect_failure("pg_reindex", {**database.login(), "schemas": ["pg_catalog"]})["msg"]
    database.execute("CREATE EXTENSION pgstattuple")
    assert reindex(database)["changed"] is False
    done = reindex(database, system=True, concurrently=False, window=ALWAYS, min_bloat_ratio=0.1)
    assert "pg_attribute_relid_attnum_index" in [each["name"] for each in done["indexes"] if each["state"] == "done"]
    assert database.query(bloated) < before


def test_superfluous_and_missing_indexes_are_told_and_never_dropped(database: Database) -> None:
    database.execute(
        "CREATE TABLE t AS SELECT n AS id, n AS v FROM generate_series(1, 60000) n",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "CREATE INDEX t_one ON t (v)",
        "CREATE INDEX t_two ON t (v)",
        "CREATE TABLE child AS SELECT n AS t FROM generate_series(1, 60000) n",
        "ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t",
        "VACUUM ANALYZE",
    )
    names = "SELECT count(*)::int FROM pg_indexes WHERE schemaname = 'public'"
    before = database.query(names)
    checks = {each["check"] for each in reindex(database)["findings"]}
    assert {"index_duplicate", "index_missing_for_key"} <= checks
    assert database.query(names) == before
