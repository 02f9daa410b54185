"""pg_restore_verify and dumps not taken by this collection: they restore or fail, but prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.databases import Database, new_database, unique_name
from tests.support.servers import Server
from tests.support.verifications import hand_made, packed, scratch_folder, verify

CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, at timestamptz DEFAULT '2026-01-01 00:00:00+00');
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 300) n;
    CREATE TABLE "Or ders" (id int GENERATED ALWAYS AS IDENTITY, "user" int REFERENCES users, v numeric(10,2));
    INSERT INTO "Or ders" ("user", v) SELECT 1 + n % 300, n / 7.0 FROM generate_series(1, 50) n;
    CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE MATERIALIZED VIEW totals AS SELECT "user", sum(v) FROM "Or ders" GROUP BY 1;
    SELECT lo_from_bytea(0, 'a large object');
"""
ROWS = {'public."Or ders"': 50, "public.users": 300}


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(name="filled", scope="module")
def _filled(server: Server) -> Iterator[Database]:
    """A small database. Shared: do not write to it."""
    database = new_database(server, unique_name("filled"))
    database.execute(CONTENT)
    yield database
    database.drop()


HAND_MADE: dict[str, Callable[[Database, Path], Path]] = {
    "script": lambda database, folder: hand_made(database, folder / "a.sql"),
    "packed script": lambda database, folder: packed(hand_made(database, folder / "a.sql")),
    "script of inserts": lambda database, folder: hand_made(database, folder / "a.sql", "--inserts"),
    "script that drops first": lambda database, folder: hand_made(database, folder / "a.sql", "--clean", "--if-exists"),
    "custom": lambda database, folder: hand_made(database, folder / "a.dump", "-Fc"),
    "packed custom": lambda database, folder: packed(hand_made(database, folder / "a.dump", "-Fc", "-Z0")),
    "tar": lambda database, folder: hand_made(database, folder / "a.tar", "-Ft"),
    "packed tar": lambda database, folder: packed(hand_made(database, folder / "a.tar", "-Ft")),
    "directory": lambda database, folder: hand_made(database, folder / "a", "-Fd"),
    "custom that is called a script": lambda database, folder: hand_made(database, folder / "a.sql", "-Fc"),
    "script that is called packed": lambda database, folder: hand_made(database, folder / "a.sql.gz"),
    "packed script that is called custom": lambda database, folder: packed(
        hand_made(database, folder / "a.sql")
    ).rename(folder / "a.dump"),
    "a name with everything in it": lambda database, folder: hand_made(
        database, folder / "-rf 'a' $(b) %s \"c\"\n.sql"
    ),
}


@pytest.mark.parametrize("kind", HAND_MADE)
def test_a_backup_made_by_hand_restores_but_proves_nothing(
    filled: Database, backup_dir: Path, scratch: Path, kind: str
) -> None:
    path = HAND_MADE[kind](filled, backup_dir)
    databases = filled.server.databases()
    result = verify(filled, backup_dir, scratch, backup=str(path), verify_in="database")
    assert result["verdict"] == "inconclusive", result["why"]
    assert not result["changed"]
    assert result["restored"]["rows_by_table"] == ROWS
    assert "350 rows in 2 tables" in result["why"]
    assert result["backup"]["path"] == str(path)
    assert filled.server.databases() == databases


@pytest.mark.parametrize("arguments", [(), ("--on-conflict-do-nothing",), ("--rows-per-insert=2",)])
def test_a_table_of_inserts_ends_in_several_ways(
    database: Database, backup_dir: Path, scratch: Path, arguments: tuple[str, ...]
) -> None:
    database.execute(
        "CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES; INSERT INTO nothing DEFAULT VALUES",
        "CREATE TABLE texts AS SELECT '|' AS a FROM generate_series(1, 3); CREATE TABLE empty (a int)",
    )
    dump = hand_made(database, backup_dir / "a", "-Fd", "-Z0", "--inserts", *arguments)
    result = verify(database, backup_dir, scratch, backup=str(dump), verify_in="database")
    assert (result["verdict"], (result["restored"] or {}).get("rows")) == ("inconclusive", 5), result["why"]
    for table in dump.glob("[0-9]*.dat"):
        whole = table.read_bytes()
        if len(whole) > 5:
            table.write_bytes(whole[:-3])
            cut = verify(database, backup_dir, scratch, backup=str(dump), verify_in="database")
            assert (cut["verdict"], "is truncated" in cut["why"]) == ("failed", True)
            table.write_bytes(whole)


@pytest.mark.parametrize("name", ["godel", "postgres", 'Gö "del" %s'])
def test_a_script_that_creates_its_database_is_restored_into_an_instance_only(
    new_server: Callable[..., Server], backup_dir: Path, scratch: Path, name: str
) -> None:
    server = new_server()
    database = Database(server, name) if name == "postgres" else new_database(server, name)
    database.execute(CONTENT)
    script = hand_made(database, backup_dir / "a.sql", "--create")
    result = verify(database, backup_dir, scratch, backup=str(script))
    assert (result["verdict"], (result["restored"] or {}).get("rows_by_table")) == ("inconclusive", ROWS), result["why"]
    before = server.databases()
    result = verify(database, backup_dir, scratch, backup=str(script), verify_in="database")
    assert result["verdict"] == "inconclusive"
    assert "verify_in: instance" in result["why"]
    assert server.databases() == before


def test_a_function_that_looks_like_rows_and_ends_is_no_early_end(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    database.execute(
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT '\nCOPY public.t (a) FROM stdin;\nx\n\\.\n'$$",
        "CREATE TABLE t (a text); INSERT INTO t VALUES (E'\\n--\\n-- PostgreSQL database dump complete\\n--\\n')",
    )
    for arguments in ((), ("--inserts",)):
        script = hand_made(database, backup_dir / "a.sql", *arguments)
        result = verify(database, backup_dir, scratch, backup=str(script), verify_in="database")
        assert (result["verdict"], result["restored"]["rows"]) == ("inconclusive", 1), result["why"]


def test_check_mode_of_a_backup_made_by_hand_changes_nothing(filled: Database, backup_dir: Path, scratch: Path) -> None:
    script = hand_made(filled, backup_dir / "a.sql")
    result = verify(filled, backup_dir, scratch, backup=str(script), check=True)
    assert (result["changed"], result["verdict"]) == (False, None)
