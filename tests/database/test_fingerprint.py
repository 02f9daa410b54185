"""Fingerprints on real servers: a restored copy has its source's, and every change of the real world is noticed."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture, tables
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import (
    Fingerprint,
    TableFigure,
    compare,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Session
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.changes import DEFINITIONS, PREPARE, ROLES, ROWS, VALUES, WITH_ICU
from tests.support.databases import Database, new_database
from tests.support.programs import Installation
from tests.support.proofs import original, proven_differences
from tests.support.servers import Server
from tests.support.zoo.feature import Availability, Feature

ALGORITHMS = ("record-3", "text-3")


def our(server: Server) -> OurServer:
    """The server as the collection sees it."""
    login = Login(host=server.host, port=server.port, user=server.user, password=server.password)
    return OurServer(LocalTarget(), login)


def taken(database: Database, algorithm: str | None = None, mode: str = "content", workers: int = 2) -> Fingerprint:
    """The fingerprint of a database without writers."""
    return capture.take(our(database.server), database.name, mode=mode, workers=workers, algorithm=algorithm)


def differences(source: Fingerprint, copy: Fingerprint) -> list[str]:
    """The differences as texts."""
    return [str(each) for each in compare(source, copy)]


def recorded(database: Database, workers: int = 2) -> Fingerprint:
    """The fingerprint of a database that others may write to."""
    recorder = capture.Recorder(our(database.server), database.name, mode="content", workers=workers)
    with recorder.open() as record:
        record.record()
        return record.finish()


@pytest.fixture(name="small_ranges")
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read tables in ranges of three blocks; returns the conditions under which they are read."""
    monkeypatch.setattr(tables, "_RANGE_BLOCKS", 3)
    conditions: list[str] = []
    plain = tables.TableReader._by_query

    def noting(reader: tables.TableReader, session: Session, part: tables._TablePart) -> TableFigure:
        conditions.append(part.condition)
        return plain(reader, session, part)

    monkeypatch.setattr(tables.TableReader, "_by_query", noting)
    return conditions


@contextlib.contextmanager
def copy_of(database: Database, folder: Path) -> Iterator[Database]:
    """A database restored from a dump of this one by PostgreSQL's own programs."""
    copy = new_database(database.server)
    try:
        copy.execute("CREATE TABLE filler (); DROP TABLE filler; CREATE TYPE filler AS ENUM ('a'); DROP TYPE filler")
        database.run("pg_dump", "--format=custom", f"--file={folder / 'dump'}")
        copy.run("pg_restore", "--exit-on-error", f"--dbname={copy.name}", folder / "dump")
        yield copy
    finally:
        copy.drop()


# --- what is equal ------------------------------------------------------------------------------------


def test_a_restored_zoo_has_the_fingerprint_of_its_source(any_zoo: Database, tmp_path: Path) -> None:
    with copy_of(any_zoo, tmp_path) as copy:
        for algorithm in ALGORITHMS:
            source = original(any_zoo, algorithm)
            assert source.fingerprint.algorithm == algorithm
            assert source.fingerprint.rows > 20000
            assert proven_differences(source, copy) == []


def test_the_number_of_workers_makes_no_difference(zoo: Database) -> None:
    one = taken(zoo, workers=1)
    assert one == taken(zoo, workers=4)
    assert one.tables["zoo.many"].rows > 10000


def test_ranges_of_blocks_make_no_difference(zoo: Database, small_ranges: list[str]) -> None:
    zoo.execute("ANALYZE zoo.many")
    whole = taken(zoo)
    assert not any("ctid" in condition for condition in small_ranges)
    assert recorded(zoo, workers=4) == whole
    of_many = [condition for condition in small_ranges if "ctid" in condition]
    assert len(of_many) > 20
    assert any(condition.count("ctid") == 2 for condition in of_many)
    small_ranges.clear()
    assert recorded(zoo, workers=1) == whole  # one worker gains nothing by them
    assert not any("ctid" in condition for condition in small_ranges)


def test_a_range_is_read_without_the_rest_of_the_table(database: Database) -> None:
    database.execute("CREATE TABLE t AS SELECT n, repeat('x', 500) AS v FROM generate_series(1, 5000) n; ANALYZE t")
    for part in (tables._TablePart(None, 0, 10), tables._TablePart(None, 10, 20), tables._TablePart(None, 300)):
        plan = database.query(f"EXPLAIN SELECT count(*) FROM ONLY t AS t {part.condition}")
        assert "Tid Range Scan" in str(plan), part


def test_a_large_table_that_a_query_cannot_read_is_read_by_copy_as_a_whole(
    database: Database, small_ranges: list[str]
) -> None:
    database.execute(
        "CREATE TABLE t AS SELECT n, repeat('x', 500) AS v FROM generate_series(1, 500) n",
        "ANALYZE t",
        "CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
        "CREATE INDEX ON t (f(n))",
        "CREATE OR REPLACE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1 / 0'",
    )
    found = recorded(database)
    assert any("ctid" in condition for condition in small_ranges)
    assert found.copied == ["public.t"]
    assert found.tables["public.t"].rows == 500
    assert found.tables == taken(database).tables


def test_counts_are_the_content_without_digests(zoo: Database) -> None:
    content, counts = taken(zoo), taken(zoo, mode="counts")
    assert counts.mode == "counts"
    assert {name: figure.rows for name, figure in counts.tables.items()} == {
        name: figure.rows for name, figure in content.tables.items()
    }
    assert {figure.digest for figure in counts.tables.values()} == {None}
    assert counts.large_objects.objects == content.large_objects.objects
    assert counts.objects == content.objects


def test_settings_of_the_database_make_no_difference(any_database: Database) -> None:
    any_database.execute(
        "CREATE TABLE t (at timestamptz, span interval, f float8, b bytea, m money, n numeric, x text[])",
        "INSERT INTO t VALUES (now(), '1 day 2:03', 0.1, 'abc', 12.3, 1.0, '{a}')",
        "CREATE VIEW v AS SELECT at::date, span FROM t WHERE at > '2000-01-01' AND x[1] = 'a' AND f > 0",
    )
    before = taken(any_database)
    settings = {
        "DateStyle": "'SQL, DMY'", "IntervalStyle": "iso_8601", "TimeZone": "'Asia/Kolkata'", "bytea_output": "escape",
        "extra_float_digits": "-15", "search_path": "nowhere", "quote_all_identifiers": "on",
        "standard_conforming_strings": "off", "row_security": "off", "statement_timeout": "'500ms'", "jit_above_cost": "0",
        "default_transaction_isolation": "serializable", "default_transaction_read_only": "on",
        "default_transaction_deferrable": "on", "idle_in_transaction_session_timeout": "'500ms'",
        "enable_seqscan": "off", "lc_messages": "'C'",
    }  # fmt: skip
    if any_database.server.major >= 17:
        settings["transaction_timeout"] = "'500ms'"
    for name, value in settings.items():
        any_database.server.query(f'ALTER DATABASE "{any_database.name}" SET {name} = {value}')
    assert differences(before, taken(any_database)) == []


def test_another_order_of_rows_grants_and_index_creation_makes_no_difference(any_database: Database) -> None:
    any_database.execute(*ROLES)
    one, other = new_database(any_database.server), new_database(any_database.server)
    try:
        create = "CREATE TABLE t (a int, b text); "
        one.execute(
            create + "INSERT INTO t VALUES (1, 'x'), (2, 'y'); CREATE INDEX i ON t (a); CREATE INDEX j ON t (b)"
        )
        one.execute("GRANT SELECT ON t TO fp_one; GRANT INSERT ON t TO fp_two")
        other.execute(create + "INSERT INTO t VALUES (2, 'y'); CREATE INDEX j ON t (b); CREATE INDEX i ON t (a)")
        other.execute("GRANT INSERT ON t TO fp_two; GRANT SELECT ON t TO fp_one; INSERT INTO t VALUES (1, 'x')")
        assert differences(taken(one), taken(other)) == []
    finally:
        one.drop()
        other.drop()


TEMPORARY = (
    "CREATE TEMP TABLE passing (a int CHECK (a > 0), b int); COMMENT ON TABLE passing IS 'x'; COMMENT ON COLUMN passing.a IS 'x'",
    "CREATE TRIGGER t BEFORE UPDATE ON passing FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "COMMENT ON TRIGGER t ON passing IS 'x'",
    "CREATE RULE r AS ON DELETE TO passing DO INSTEAD NOTHING; COMMENT ON RULE r ON passing IS 'x'",
    "CREATE POLICY p ON passing USING (true); COMMENT ON POLICY p ON passing IS 'x'",
    "CREATE STATISTICS public.s ON a, b FROM passing; COMMENT ON STATISTICS public.s IS 'x'",
    "CREATE INDEX ON passing (a); CREATE TEMP VIEW seen AS SELECT 1 AS a; CREATE TEMP SEQUENCE counted",
    "CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 9); CREATE TYPE pg_temp.pair AS (a int, b int)",
    "CREATE FUNCTION pg_temp.f(passing) RETURNS int LANGUAGE sql AS 'SELECT 1'; COMMENT ON FUNCTION pg_temp.f IS 'x'",
)


def test_what_is_temporary_makes_no_difference(any_database: Database) -> None:
    source = taken(any_database)
    with contextlib.closing(any_database.connect()) as somebody, somebody.cursor() as cursor:
        for statement in TEMPORARY:
            cursor.execute(statement)
        assert differences(source, taken(any_database)) == []


def test_the_version_of_an_extension_makes_no_difference_for_a_dump_does_not_name_it(any_database: Database) -> None:
    before = taken(any_database)
    any_database.execute("UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'")
    assert differences(before, taken(any_database)) == []


# --- what is noticed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["values", "rows", "definitions"])
def test_every_single_change_is_noticed_and_nothing_else(any_database: Database, kind: str) -> None:
    with contextlib.closing(any_database.connect()) as connection:
        available = Availability(connection)
        changes = {
            name: change
            for name, change in {"values": VALUES, "rows": ROWS, "definitions": DEFINITIONS}[kind].items()
            if not available.reason_against(Feature(name, "", change.min_version, change.needs))
        }
        has_icu = not available.reason_against(Feature("icu", "", needs="icu"))
    assert len(changes) > 10
    any_database.execute(*PREPARE, *(WITH_ICU if has_icu else ()), *(change.before for change in changes.values()))
    before = {algorithm: taken(any_database, algorithm) for algorithm in ALGORITHMS}
    any_database.execute(*(change.after for change in changes.values()))
    for algorithm in ALGORITHMS:
        told = differences(before[algorithm], taken(any_database, algorithm))
        missed = {name: [each for each in change.found if not _among(told, each)] for name, change in changes.items()}
        assert {name: texts for name, texts in missed.items() if texts} == {}
        expected = [each for change in changes.values() for each in change.found]
        assert [text for text in told if not any(_among([text], each) for each in expected)] == []


def _among(told: list[str], wanted: str) -> bool:
    return any(text == wanted or text.startswith(f"{wanted}: ") for text in told)


def test_large_objects_are_compared_by_content_owner_and_rights(any_database: Database) -> None:
    any_database.execute(
        *ROLES,
        "SELECT lo_from_bytea(77777, decode(repeat('00', 300000), 'hex'))",
        "SELECT lo_from_bytea(77778, '')",
    )
    base = taken(any_database)
    assert base.large_objects.objects == 2
    for change, undo, expected in (
        ("SELECT lo_put(77777, 299999, '\\x01')", "SELECT lo_put(77777, 299999, '\\x00')", "large objects content"),
        ("SELECT lo_put(77777, 300000, '\\x00')", "DO $$ BEGIN PERFORM lo_truncate(lo_open(77777, 131072), 300000); END $$", "large objects content"),
        ("SELECT lo_create(77779)", "SELECT lo_unlink(77779)", "large objects count"),
        ("ALTER LARGE OBJECT 77777 OWNER TO fp_one", "ALTER LARGE OBJECT 77777 OWNER TO postgres", "large objects content"),
        ("GRANT SELECT ON LARGE OBJECT 77778 TO fp_one", "REVOKE SELECT ON LARGE OBJECT 77778 FROM fp_one", "large objects content"),
    ):  # fmt: skip
        any_database.execute(change)
        [difference] = differences(base, taken(any_database))
        assert difference.startswith(expected), change
        any_database.execute(undo)
        assert differences(base, taken(any_database)) == [], undo


def test_a_hole_in_a_large_object_equals_the_zeros_that_a_restore_makes_of_it(
    database: Database, tmp_path: Path
) -> None:
    database.execute("SELECT lo_create(77777)", "SELECT lo_put(77777, 500000, '\\x01')")
    with copy_of(database, tmp_path) as copy:
        assert differences(taken(database), taken(copy)) == []


# --- in hard times ------------------------------------------------------------------------------------


def test_many_tables_do_not_exhaust_a_small_lock_table(new_server: Callable[..., Server]) -> None:
    database = new_database(new_server(settings={"max_connections": 12, "max_locks_per_transaction": 10}))
    database.execute(
        *(f"CREATE TABLE many_{n} (id serial PRIMARY KEY); INSERT INTO many_{n} DEFAULT VALUES" for n in range(700))
    )
    lock_all = "BEGIN; " + "; ".join(f"SELECT FROM many_{n}" for n in range(700)) + "; ROLLBACK"
    with pytest.raises(psycopg2.errors.OutOfMemory):
        database.execute(lock_all)  # else this test would prove nothing
    fingerprint = taken(database)
    assert fingerprint.rows == 700
    assert len(fingerprint.sequences) == 700


def test_a_table_that_cannot_be_read_is_named(database: Database) -> None:
    database.execute(*ROLES, "CREATE TABLE secret (a int); CREATE TABLE open (a int); GRANT SELECT ON open TO fp_one")
    server = our(database.server)
    with server.connect(database.name) as session:
        session.execute("SET ROLE fp_one")
        recorder = capture.Recorder(server, database.name, mode="content", workers=1)
        recorder._connect = lambda: contextlib.nullcontext(session)  # type: ignore[method-assign]
        with pytest.raises(QueryFailed, match="permission denied for table secret"), recorder.open():
            recorder.record()


class Churn:
    """Clients that never rest: rows, DDL, TRUNCATE, DROP, sequences and large objects at random."""

    STATEMENTS = (
        "INSERT INTO kept (v) SELECT md5(random()::text) FROM generate_series(1, 20)",
        "UPDATE kept SET v = v || '!' WHERE id % 7 = 3",
        "DELETE FROM kept WHERE id % 11 = 5",
        "TRUNCATE emptied; INSERT INTO emptied SELECT generate_series(1, 50)",
        "ALTER TABLE altered ADD IF NOT EXISTS b int DEFAULT 7",
        "ALTER TABLE altered DROP IF EXISTS b",
        "DROP TABLE IF EXISTS passing; CREATE TABLE passing AS SELECT generate_series(1, 10) AS a",
        "DROP TABLE IF EXISTS passing_{n}; CREATE TABLE passing_{n} (id serial PRIMARY KEY); INSERT INTO passing_{n} DEFAULT VALUES",
        "DROP INDEX IF EXISTS kept_v; CREATE INDEX kept_v ON kept (v)",
        "SELECT nextval('counted') FROM generate_series(1, 5)",
        "SELECT setval('moved', 1 + (random() * 100)::int)",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata LIMIT 1",
        "SELECT lo_from_bytea(0, 'x')",
    )  # fmt: skip

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]
        self.done = 0

    def __enter__(self) -> Churn:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        with contextlib.closing(self._database.connect(options="-c lock_timeout=50ms")) as connection:
            while not self._stop.is_set():
                with contextlib.suppress(psycopg2.Error), connection.cursor() as cursor:
                    cursor.execute(chance.choice(self.STATEMENTS).format(n=number))
                    self.done += 1


def test_a_dump_beside_a_recording_has_its_fingerprint_whatever_happens_meanwhile(
    any_database: Database, tmp_path: Path, small_ranges: list[str]
) -> None:
    any_database.execute(
        "CREATE TABLE kept (id serial PRIMARY KEY, v text); INSERT INTO kept (v) SELECT n FROM generate_series(1, 2000) n; ANALYZE kept",
        "CREATE TABLE emptied (a int); CREATE TABLE altered (a int); INSERT INTO altered SELECT generate_series(1, 100)",
        "CREATE SEQUENCE counted; CREATE SEQUENCE moved",
    )
    server = any_database.server
    dump = tmp_path / "dump"
    with Churn(any_database) as churn, ThreadPoolExecutor(1) as pool:
        recorder = capture.Recorder(our(server), any_database.name, mode="content", workers=2, lock_timeout_s=30)
        with recorder.open() as record:
            reading = pool.submit(record.record)
            argv = [server.program("pg_dump"), "-Fc", f"--file={dump}", f"--snapshot={record.snapshot}"]
            done = subprocess.run(
                argv, env=server.environment(any_database.name), capture_output=True, text=True, check=False
            )
            reading.result()
            assert done.returncode == 0, done.stderr
            source = record.finish()
        assert churn.done > 20
        assert any("ctid" in condition for condition in small_ranges)
    copy = new_database(server)
    try:
        copy.run("pg_restore", "--exit-on-error", f"--dbname={copy.name}", dump)
        found = compare(source, taken(copy))
        if "moved" in str(found):  # setval() jumps: it may have been set and set again within the dump
            found = [each for each in found if each.subject != "public.moved"]
        assert [str(each) for each in found] == []
    finally:
        copy.drop()


def test_the_servers_of_this_run_cover_both_algorithms(any_server: Server) -> None:
    assert capture.best_algorithm(any_server.major * 10000) == "record-3"
    assert capture.best_algorithm(130012) == "text-3"
    assert isinstance(any_server.installation, Installation)
