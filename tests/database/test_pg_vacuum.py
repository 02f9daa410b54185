"""pg_vacuum on real servers: it vacuums the tables that need it, in order, and no others; a second run changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    InvalidInput,
    ObjectNotFound,
    ProgramMissing,
)
from tests.support import repack
from tests.support.databases import Database, new_database
from tests.support.modules import expect_failure, expect_success
from tests.support.servers import Server
from tests.support.vacuums import ALWAYS, attempt, bloat, checks, counted, done, kill, skipped, snapshot, table, vacuum

SMALL = {"min_bloat_bytes": "100kB"}


def test_dead_rows_go_and_nothing_else_is_touched(any_database: Database) -> None:
    table(any_database, dead=2000)
    table(any_database, "clean", dead=0)
    table(any_database, "hardly", dead=400)
    for check in (True, False):
        result = vacuum(any_database, check, cost_delay="1ms", cost_limit=10000)
        assert (result["changed"], done(result)) == (True, ["t"])
        [row] = result["tables"]
        assert (row["action"], row["before"]["dead_tuples"]) == ("vacuum", 2000)
        assert "50% of its rows (2,000) are dead" in row["why"]
        assert "public.t: " in result["diff"]["before"]
    assert (row["after"]["dead_tuples"], row["analyzed"]) == (0, True)
    assert row["before"]["heap_bytes"] > 400_000 > row["before"]["index_bytes"] > 0
    assert row["duration_s"] > 0
    again = vacuum(any_database)
    assert (again["changed"], again["tables"], again["msg"]) == (
        False,
        [],
        "No table needs VACUUM (3 tables examined).",
    )


def test_the_module_as_ansible_runs_it(database: Database) -> None:
    table(database)
    for check, changed in ((True, True), (False, True), (False, False)):
        result = expect_success("pg_vacuum", database.login(), check=check, diff=True)
        assert (result["changed"], done(result)) == (changed, ["t"] if changed else [])
        assert ("diff" in result) == changed


def test_thresholds_are_the_operators(database: Database) -> None:
    table(database, rows=4000, dead=400)
    assert vacuum(database)["changed"] is False
    assert done(vacuum(database, True, min_dead_ratio=0.1, min_dead_tuples=400)) == ["t"]
    assert done(vacuum(database, True, min_dead_ratio=0.1, min_dead_tuples=401)) == []
    assert done(vacuum(database, True, min_dead_ratio=0.11, min_dead_tuples=400)) == []


def test_the_largest_waste_comes_first_and_schemas_are_a_filter(database: Database) -> None:
    database.execute("CREATE SCHEMA other")
    table(database, "few", rows=4000, dead=2000)
    table(database, "many", rows=8000, dead=4000)
    table(database, "other.t", rows=4000, dead=2000)
    assert done(vacuum(database, True)) == ["many", "t", "few"]  # two are equal, then by name
    assert done(vacuum(database, True, schemas=["other"])) == ["t"]
    assert done(vacuum(database, True, tables=["t", "public.few"])) == ["t", "few"]


def test_dead_values_in_toast_count_by_themselves(database: Database) -> None:
    database.execute(
        "CREATE TABLE w (id int, v text) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off)",
        "ALTER TABLE w ALTER v SET STORAGE EXTERNAL",
        "INSERT INTO w SELECT n, 'small' FROM generate_series(1, 20000) n",
        "INSERT INTO w SELECT n, repeat('x', 20000) FROM generate_series(1, 200) n",
    )
    counted(database, "w", 0, 20200)
    toast = database.query("SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'w'::regclass")[0][0]
    counted(database, toast, 0, 2200)
    database.execute("VACUUM ANALYZE w")
    database.execute("DELETE FROM w WHERE v <> 'small'")
    counted(database, "w", 200, 20000)
    counted(database, toast, 2200, 0)
    [row] = vacuum(database)["tables"]
    assert "100% of its values in TOAST (2,200) are dead" in row["why"]
    assert row["after"]["toast_bytes"] < row["before"]["toast_bytes"]
    assert vacuum(database)["changed"] is False


# --- named tables ----------------------------------------------------------------------------------------


def test_a_named_table_is_done_unless_there_is_nothing_to_do(database: Database) -> None:
    table(database, rows=4000, dead=0)
    assert vacuum(database, tables=["t"])["changed"] is False
    kill(database, "t", 4000, 10)
    for check in (True, False):
        assert done(vacuum(database, check, tables=["public.t"])) == ["t"]
    assert vacuum(database, tables=["t"])["changed"] is False
    database.execute("INSERT INTO t (id) VALUES (-1)")
    counted(database, "t", 0, 3991)
    assert done(vacuum(database, tables=["t"])) == ["t"]
    assert vacuum(database, tables=["t"])["changed"] is False


def test_a_table_that_was_never_vacuumed_or_analyzed(database: Database) -> None:
    database.execute("CREATE TABLE empty (n int) WITH (autovacuum_enabled = off)")
    database.execute("CREATE TABLE fresh WITH (autovacuum_enabled = off) AS SELECT 1 AS n")
    counted(database, "fresh", 0, 1)
    result = vacuum(database, tables=["empty", "fresh"])
    assert done(result) == ["fresh"]
    assert result["tables"][0]["analyzed"]
    assert vacuum(database, tables=["empty", "fresh"])["changed"] is False


def test_any_name_and_partitions_and_materialized_views(database: Database) -> None:
    database.execute(
        'CREATE SCHEMA "S s"',
        'CREATE MATERIALIZED VIEW "S s"."M\'v" AS SELECT generate_series(1, 10) AS n',
        'CREATE TABLE "P p" (n int) PARTITION BY RANGE (n)',
        'CREATE TABLE low PARTITION OF "P p" FOR VALUES FROM (0) TO (10) WITH (autovacuum_enabled = off)',
        'CREATE TABLE high PARTITION OF "P p" FOR VALUES FROM (10) TO (20) WITH (autovacuum_enabled = off)',
    )
    database.execute('INSERT INTO "P p" SELECT generate_series(0, 19)')
    counted(database, "high", 0, 10)
    assert sorted(done(vacuum(database, tables=["P p", "S s.M'v"]))) == ["M'v", "high", "low"]
    assert vacuum(database, tables=["P p", "S s.M'v"])["changed"] is False


@pytest.mark.parametrize("name", ["nothing", "T", "public.nothing", "a_view", "t_pkey"])
def test_a_name_of_no_table_is_refused_before_anything_is_done(database: Database, name: str) -> None:
    table(database)
    database.execute("CREATE VIEW a_view AS SELECT 1")
    with pytest.raises(ObjectNotFound) as caught:
        vacuum(database, tables=["t", name])
    assert caught.value.subject == name
    counted(database, "t", 2000, 2000)


# --- wraparound ------------------------------------------------------------------------------------------


def burn(database: Database, count: int) -> None:
    """Use up transaction ids."""
    database.execute(
        f"DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$",
    )


def test_the_oldest_comes_first(any_database: Database) -> None:
    table(any_database, "oldest", rows=10, dead=0)
    burn(any_database, 200)
    table(any_database, "older", rows=10, dead=0)
    burn(any_database, 300)
    table(any_database, "young", rows=4000, dead=2000)
    result = vacuum(any_database, max_freeze_age=250)
    assert done(result) == ["oldest", "older", "young"]
    rows = result["tables"]
    assert "transactions old, and the limit is 250" in rows[0]["why"]
    assert rows[0]["before"]["freeze_age"] > 500 > 250 > rows[0]["after"]["freeze_age"]
    assert vacuum(any_database, max_freeze_age=250)["changed"] is False


def test_freezing_is_named_and_done_once(database: Database) -> None:
    table(database, rows=4000, dead=0)
    burn(database, 100)
    frozen = "SELECT age(relfrozenxid) FROM pg_class WHERE relname = 't'"
    assert vacuum(database, tables=["t"], freeze=True)["changed"] is False  # young: less than vacuum_freeze_min_age
    kill(database, "t", 4000, 2000)
    assert done(vacuum(database, freeze=True)) == ["t"]
    assert database.query(frozen)[0][0] < 100
    assert vacuum(database, tables=["t"], freeze=True)["changed"] is False


def test_multixacts_threaten_whatever_transactions_are_held(database: Database) -> None:
    database.execute(
        "CREATE TABLE mx (id int PRIMARY KEY, v int)"
        " WITH (autovacuum_enabled = off, autovacuum_multixact_freeze_max_age = 10000)",
        "INSERT INTO mx SELECT n, 0 FROM generate_series(1, 8000) n",
        # each row is locked by the transaction, and written by a subtransaction of its own: a multixact
        "DO $$ BEGIN PERFORM 1 FROM mx FOR KEY SHARE; FOR i IN 1..8000 LOOP"
        " BEGIN UPDATE mx SET v = 1 WHERE id = i; EXCEPTION WHEN OTHERS THEN RAISE; END; END LOOP; END $$",
    )
    with snapshot(database):
        result = vacuum(database)
        assert (done(result), result["findings"]) == (["mx"], [])
        [row] = result["tables"]
        assert "multixacts old, and the limit is 7,500" in row["why"]
        assert row["before"]["mxid_age"] > 7500 > row["after"]["mxid_age"]
        assert vacuum(database)["changed"] is False


# --- rows that cannot be removed ---------------------------------------------------------------------------


def test_who_holds_dead_rows_is_told_and_nothing_is_done_in_vain(database: Database) -> None:
    table(database, dead=0)
    with snapshot(database) as pid:
        kill(database, "t", 4000, 2000)
        first = vacuum(database)
        assert checks(first) == [("vacuum_xmin_horizon", str(pid))]
        [finding] = first["findings"]
        assert (
            f"2,000 dead rows in public.t cannot be removed: process {pid} (postgres (report), idle in"
            in finding["message"]
        )
        assert f"pg_terminate_backend({pid})" in finding["remedy"]
        assert first["tables"][0]["after"]["dead_tuples"] == 2000
        counts = "SELECT pg_stat_get_vacuum_count('t'::regclass)"
        before = database.query(counts)
        for check in (True, False):
            again = vacuum(database, check)
            assert (again["changed"], checks(again)) == (False, [("vacuum_xmin_horizon", str(pid))])
            assert "cannot be removed yet" in skipped(again)["t"]
        assert database.query(counts) == before
        vacuum(database, max_freeze_age=1)  # what is older than the snapshot can be frozen, once
        assert vacuum(database, max_freeze_age=1)["changed"] is False
    result = vacuum(database)
    assert (done(result), result["findings"]) == (["t"], [])


@pytest.fixture(name="place", scope="module")
def _place() -> Iterator[Server]:
    """A server with pg_repack, prepared transactions and no autovacuum."""
    settings = {"max_prepared_transactions": 2, "autovacuum": "off"}
    with Server(repack.installation(), settings=settings, own_identity=True) as server:
        yield server


@pytest.fixture(name="here")
def _here(place: Server) -> Iterator[Database]:
    fresh = new_database(place)
    fresh.execute("CREATE EXTENSION pg_repack")
    yield fresh
    fresh.drop()


def test_a_prepared_transaction_holds_dead_rows_as_well(here: Database) -> None:
    table(here, dead=0)
    with contextlib.closing(here.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("CREATE TABLE half_done (n int)")
        cursor.execute("PREPARE TRANSACTION 'it''s'")
    kill(here, "t", 4000, 2000)
    for changed in (True, False):  # at first the statistics are gathered
        result = vacuum(here)
        assert (result["changed"], checks(result)) == (changed, [("vacuum_xmin_horizon", "it's")])
    assert "ROLLBACK PREPARED 'it''s'" in result["findings"][0]["remedy"]
    here.execute("ROLLBACK PREPARED 'it''s'")
    assert done(vacuum(here)) == ["t"]


# --- options ---------------------------------------------------------------------------------------------


def test_options_are_those_of_the_servers_major(any_database: Database) -> None:
    table(any_database)
    options = {
        "index_cleanup": "auto",
        "parallel": 0,
        "truncate": False,
        "process_toast": False,
        "skip_locked": True,
        "freeze": True,
    }
    ring = {**options, "buffer_usage_limit": "2MB"}
    major = any_database.server.major
    if major < 16:
        for check in (True, False):
            with pytest.raises(
                InvalidInput, match=rf"VACUUM of this server has no buffer_usage_limit \(PostgreSQL {major}\."
            ):
                vacuum(any_database, check, **ring)
        ring = options
    assert done(vacuum(any_database, **ring)) == ["t"]


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"full": True}, "needs a maintenance window"),
        ({"full": True, "window": ALWAYS, "parallel": 2}, "do not apply to a rewrite .parallel."),
        ({"method": "repack", "truncate": True}, "do not apply to a rewrite .truncate."),
        ({"min_dead_ratio": 20}, "Invalid min_dead_ratio"),
        ({"cost_limit": 10001}, "Invalid cost_limit"),
        ({"lock_timeout": "soon"}, "Invalid lock_timeout"),
        ({"min_bloat_bytes": "many"}, "Invalid min_bloat_bytes"),
    ],
)
def test_what_cannot_work_is_refused(database: Database, over: dict[str, object], told: str) -> None:
    for check in (True, False):
        with pytest.raises(InvalidInput, match=told):
            vacuum(database, check, **over)


def test_maintain_is_right_enough(any_database: Database) -> None:
    table(any_database)
    role = f"own_{any_database.name}"
    any_database.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    login = {"login_user": role, "login_password": "x"}
    try:
        refused = attempt(any_database, **login)["failure"]
        assert ("MAINTAIN" in refused) == (any_database.server.major >= 17)
        if any_database.server.major >= 17:
            any_database.execute(f"GRANT pg_maintain TO {role}")
            assert done(vacuum(any_database, **login)) == ["t"]
    finally:
        any_database.execute(f"DROP ROLE {role}")


# --- rewrites --------------------------------------------------------------------------------------------


def test_full_gives_back_what_is_bloated_and_nothing_else(database: Database) -> None:
    bloat(database)
    table(database, "clean", rows=20000, dead=0)
    login = {"full": True, "window": ALWAYS, **SMALL}
    size = "SELECT pg_relation_filenode('clean'::regclass), pg_table_size('t'::regclass)"
    before = database.query(size)
    checked = vacuum(database, True, **login)
    assert (checked["changed"], done(checked), database.query(size)) == (True, ["t"], before)
    assert "for a predicted" in checked["msg"]
    predicted = checked["tables"][0]["predicted_lock_s"]
    assert 0 < predicted < 1
    result = vacuum(database, **login)
    assert (done(result), result["tables"][0]["action"]) == (["t"], "vacuum full")
    [row] = result["tables"]
    assert row["predicted_lock_s"] == predicted
    assert row["after"]["heap_bytes"] < 0.6 * row["before"]["heap_bytes"]
    assert result["freed_bytes"] > 1_000_000
    assert database.query(size)[0][0] == before[0][0]
    assert vacuum(database, **login)["changed"] is False
    assert vacuum(database, tables=["t", "clean"], **login)["changed"] is False
    assert vacuum(database, True, **{**login, "min_bloat_bytes": "1GB"})["changed"] is False


def test_outside_of_the_window_nothing_is_done_and_the_next_one_is_told(database: Database) -> None:
    bloat(database)
    later = datetime.now(UTC) + timedelta(hours=2)
    window = {"start": f"{later:%H:%M}", "end": f"{later + timedelta(hours=1):%H:%M}"}
    opens = f"{later:%Y-%m-%dT%H:%M}:00Z"
    refused = expect_failure("pg_vacuum", database.login(full=True, window=window, **SMALL))
    assert (refused["error"]["kind"], refused["error"]["opens"]) == ("OutsideWindow", opens)
    assert opens in refused["msg"]
    checked = vacuum(database, True, full=True, window=window, **SMALL)
    assert done(checked) == ["t"]
    assert checked["notes"] == [f"The maintenance window is closed; it opens at {opens}."]


def test_repack_rewrites_without_a_window_and_without_locking_readers_out(here: Database, place: Server) -> None:
    bloat(here)
    bloat(here, "locked_to_read")
    bloat(here, "keyless")
    here.execute("ALTER TABLE keyless DROP CONSTRAINT keyless_pkey")
    login = {"method": "repack", "bin_dir": str(place.bin_dir), **SMALL}
    checked = vacuum(here, True, **login)
    assert sorted(done(checked)) == ["locked_to_read", "t"]
    assert "primary key" in skipped(checked)["keyless"]
    result = vacuum(here, **login)
    assert sorted(done(result)) == ["locked_to_read", "t"]
    assert {row["predicted_lock_s"] for row in result["tables"]} == {None}
    assert checks(result) == [("vacuum_failed", "public.keyless")]
    assert result["freed_bytes"] > 2_000_000
    assert here.query("SELECT count(*), min(v), max(v) FROM t") == [(10000, "x" * 100, "x" * 100)]
    here.execute("DROP TABLE keyless")
    assert vacuum(here, **login)["changed"] is False


def test_repack_needs_its_program_and_its_extension(here: Database, place: Server, tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="postgresql-15-repack"):
        vacuum(here, method="repack", bin_dir=str(tmp_path))
    here.execute("DROP EXTENSION pg_repack")
    with pytest.raises(InvalidInput, match="CREATE EXTENSION pg_repack"):
        vacuum(here, method="repack", bin_dir=str(place.bin_dir))


# --- load limits ----------------------------------------------------------------------------------------------


def test_a_load_limit_stops_between_tables_and_another_run_goes_on(database: Database) -> None:
    table(database, "a", rows=8000, dead=4000)
    table(database, "b", rows=4000, dead=2000)
    result = vacuum(database, max_wal_size="1kB")
    assert (result["changed"], done(result), result["left"]) == (False, [], ["public.a", "public.b"])
    assert "max_wal_size allows 1.0 KiB" in result["stopped_by"]
    assert checks(result) == [("vacuum_left", "public.a, public.b")]
    assert done(vacuum(database, max_wal_size="1TB", max_transaction_age="1h", window=ALWAYS)) == ["a", "b"]
