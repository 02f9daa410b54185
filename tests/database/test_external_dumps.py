"""Dumps that other tools and hands have made: harmless errors, line ends of terminals, packers, and sequences."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import external_dump
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import load as restore
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.load import Loaded, RestoreRefused
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import CLIENT, find
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_restore, pg_restore_verify
from tests.support.backups import our_server
from tests.support.corpus import CORPUS
from tests.support.databases import Database, new_database
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.restores import params as restore_params
from tests.support.restores import production, remove
from tests.support.servers import Server
from tests.support.verifications import hand_made, leftovers, params, scratch_folder

DUMPS = CORPUS / "external-dumps"
CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 300) n;
    CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE VIEW names AS SELECT name FROM users;
"""


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


def verify(database: Database, backup_dir: Path, scratch: Path, path: Path, **over: Any) -> Result:
    """Verify a dump of its own; nothing may be left of it."""
    options = {"verify_in": "database", **over}
    result = attempt(pg_restore_verify, database, **params(database, backup_dir, scratch, backup=str(path), **options))
    assert leftovers(scratch) == []
    return result


def load(database: Database, scratch: Path, path: Path, **over: Any) -> Loaded:
    """Load a dump into a database, and keep what comes of it."""
    target = LocalTarget()
    programs = find(target, 0, bin_dir=str(database.server.client_dir), needed=CLIENT, purpose="for a test")
    dump = external_dump.identify(target, str(path))
    work = scratch / "work"
    work.mkdir()
    try:
        return restore.load(
            target, our_server(database), programs, dump, database.name, jobs=2, work_dir=str(work), **over
        )
    finally:
        shutil.rmtree(work)


# --- harmless errors --------------------------------------------------------------------------------------


def through_a_terminal(folder: Path) -> Path:
    """A dump as `kubectl exec -it` gives it: each line ends in CR and LF."""
    path = folder / "terminal.sql"
    path.write_bytes((DUMPS / "terminal.sql").read_bytes().replace(b"\n", b"\r\n"))
    return path


@pytest.mark.parametrize("name", ["public", "terminal"])
@pytest.mark.parametrize("place", ["instance", "database"])
def test_a_dump_that_psql_loads_is_restored_whole(
    database: Database, backup_dir: Path, scratch: Path, name: str, place: str
) -> None:
    dump = through_a_terminal(backup_dir) if name == "terminal" else DUMPS / f"{name}.sql"
    result = verify(database, backup_dir, scratch, dump, verify_in=place)
    assert result["verdict"] == "inconclusive", result["why"]
    assert result["restored"]["rows_by_table"] == {"public.a": 50, "public.b": 50}, result["why"]
    assert "100 rows in 2 tables" in result["why"]
    assert ("CREATE SCHEMA public" in "".join(result["notes"])) is (name == "public")


@pytest.mark.parametrize("kind", ["what a terminal printed before it", "a database of its own"])
def test_what_else_comes_with_a_dump_does_no_harm(
    database: Database, backup_dir: Path, scratch: Path, kind: str
) -> None:
    database.execute(CONTENT)
    own = kind == "a database of its own"
    script = hand_made(database, backup_dir / "a.sql", *(["--create", "--clean"] if own else []))
    if not own:
        script.write_bytes(b"Password: \r\n" + script.read_bytes().replace(b"\n", b"\r\n"))
    result = verify(database, backup_dir, scratch, script, verify_in="instance" if own else "database")
    assert (result["verdict"], result["restored"]["rows"]) == ("inconclusive", 300), result["why"]
    assert ("DROP DATABASE" if own else "Password:") in result["notes"][0]


def test_a_dump_with_harmless_errors_gets_into_production(server: Server, backup_dir: Path) -> None:
    database = production(server)
    server.query("CREATE ROLE godel")
    try:
        options = restore_params(database, backup_dir, backup=str(DUMPS / "public.sql"), accept_unproven=True)
        result = attempt(pg_restore, database, **options)
        copy = Database(server, result["stage"]["name"])
        assert copy.query("SELECT count(*), max(v) FROM a") == [(50, "line1\nline2")]
        assert any("CREATE SCHEMA public" in note for note in result["preflight"]["notes"])
    finally:
        remove(database)
        server.query("DROP ROLE godel")


@pytest.mark.parametrize("format_", ["plain", "custom"])
def test_drops_of_what_is_not_there_and_settings_of_newer_clients_are_harmless(
    server: Server, backup_dir: Path, scratch: Path, format_: str
) -> None:
    database = new_database(server)
    try:
        database.execute(CONTENT)
        script = hand_made(database, backup_dir / "a.sql", "--clean", f"--format={format_}")
        if format_ == "plain":
            script.write_text(script.read_text().replace("SET lock_timeout", "SET some_timeout = 0;\nSET lock_timeout"))
        result = verify(database, backup_dir, scratch, script)
        assert (result["verdict"], result["restored"]["rows"]) == ("inconclusive", 300), result["why"]
        if format_ == "plain":
            [note] = result["notes"]
            assert "some_timeout" in note
            assert "DROP VIEW" in note
    finally:
        database.drop()


def test_rights_of_a_role_that_is_missing_are_told_and_the_others_are_granted(
    server: Server, backup_dir: Path, scratch: Path
) -> None:
    database, copy = new_database(server), new_database(server)
    server.query("CREATE ROLE goes; CREATE ROLE stays")
    try:
        database.execute(CONTENT, "GRANT SELECT ON users TO goes; GRANT SELECT ON users TO stays")
        for format_, place in (("plain", 0), ("custom", 1), ("directory", 2), ("tar", 3)):
            hand_made(database, backup_dir / str(place), f"--format={format_}")
        database.execute("DROP OWNED BY goes")
        server.query("DROP ROLE goes")
        for place in range(4):
            loaded = load(copy, scratch, backup_dir / str(place))
            [refusal] = loaded.refusals
            assert (refusal.statement, refusal.sqlstate) == ("GRANT SELECT ON TABLE public.users TO goes;", "42704")
            assert copy.query("SELECT has_table_privilege('stays', 'users', 'SELECT'), count(*) FROM users") == [
                (True, 300)
            ]
            copy.execute("DROP OWNED BY stays; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        result = verify(database, backup_dir, scratch, backup_dir / "0")
        assert result["verdict"] == "inconclusive"
        assert "goes" in result["notes"][0]
    finally:
        database.drop()
        copy.drop()
        server.query("DROP ROLE stays")


# --- what is not harmless ---------------------------------------------------------------------------------


def test_the_rows_of_a_refused_copy_are_never_run(database: Database, backup_dir: Path, scratch: Path) -> None:
    database.execute(
        "CREATE TABLE before (a text); CREATE TABLE spared (a int); INSERT INTO spared VALUES (1)",
        "CREATE FUNCTION public.noise() RETURNS void LANGUAGE sql AS $$\nSELECT 1;\n$$",
        "INSERT INTO before VALUES ('x'), ('''); DROP TABLE spared; SELECT (''')",
        "INSERT INTO before VALUES ('\nDROP TABLE spared;\n'), ('; DROP TABLE spared; --')",
    )
    script = hand_made(database, backup_dir / "a.sql", "--table=before")
    text = script.read_text()
    script.write_text(text.replace("CREATE TABLE public.before", "CREATE TABLE public.misspelt"))
    database.execute("DROP TABLE before")
    with pytest.raises(RestoreRefused) as caught:
        load(database, scratch, script)
    assert [each.sqlstate for each in caught.value.refusals][-1] == "42P01"
    assert "COPY public.before (a) FROM stdin;" in caught.value.message
    assert not caught.value.place_to_blame
    assert database.query("SELECT a FROM spared") == [(1,)]


@pytest.mark.parametrize("arguments", [(), ("--inserts",), ("-Fc",), ("-Fd",)])
def test_a_row_that_is_refused_fails_the_backup_and_is_named(
    database: Database, backup_dir: Path, scratch: Path, arguments: tuple[str, ...]
) -> None:
    database.execute(
        "CREATE TABLE z (a int); INSERT INTO z VALUES (1)",
        "CREATE FUNCTION z_is_filled() RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT count(*) = 1 FROM public.z'",
        "CREATE TABLE t (a int CHECK (public.z_is_filled())); INSERT INTO t VALUES (1)",
    )
    dump = hand_made(database, backup_dir / "a", *arguments)
    result = verify(database, backup_dir, scratch, dump, jobs=1)
    assert result["verdict"] == "failed", result["why"]
    assert "violates check constraint" in result["why"]
    assert re.search(r"(COPY|INSERT INTO) (of table )?\W?(public\.)?t\b", result["why"]), result["why"]


def test_a_function_that_looks_like_rows_is_loaded_as_it_is(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    database.execute(
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT '\nCOPY public.t (a) FROM stdin;\nx\n\\.\n'$$",
        "CREATE TABLE t (a text); INSERT INTO t VALUES ('x')",
        "CREATE INDEX i ON t (a); COMMENT ON INDEX i IS E'a\n\\\\.\nb'",
    )
    script = hand_made(database, backup_dir / "a.sql")
    copy = new_database(database.server)
    question = "SELECT prosrc, obj_description('i'::regclass), (SELECT string_agg(a, ',') FROM t) FROM pg_proc WHERE proname = 'f'"
    try:
        assert load(copy, scratch, script).refusals == []
        assert copy.query(question) == database.query(question)
    finally:
        copy.drop()


def test_a_script_that_ends_early_is_told_so_whatever_its_line_ends(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    whole = through_a_terminal(backup_dir).read_bytes()
    cut = backup_dir / "cut.sql"
    cut.write_bytes(whole[: whole.index(b"-- PostgreSQL database dump complete")])
    result = verify(database, backup_dir, scratch, cut)
    assert (result["verdict"], "is truncated" in result["why"]) == ("failed", True)


# --- packers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packer", "format_"),
    [("bzip2", "plain"), ("xz", "plain"), ("zstd", "custom"), ("lz4", "tar"), ("xz", "custom"), ("bzip2", "tar")],
)
def test_what_is_packed_is_known_by_its_content(
    database: Database, backup_dir: Path, scratch: Path, packer: str, format_: str
) -> None:
    database.execute(CONTENT)
    options = ["-Z0"] if format_ == "custom" else []
    dump = hand_made(database, backup_dir / "a", f"--format={format_}", *options)
    packed = backup_dir / "a.sql.gz"  # whatever its name
    with dump.open("rb") as source, packed.open("wb") as sink:
        subprocess.run([packer, "-c"], stdin=source, stdout=sink, check=True)
    result = verify(database, backup_dir, scratch, packed)
    assert (result["verdict"], result["restored"]["rows"]) == ("inconclusive", 300), result["why"]
    packed.write_bytes(packed.read_bytes()[:-30])
    with contextlib.suppress(InvalidInput):  # of one block, nothing is unpacked
        assert verify(database, backup_dir, scratch, packed)["verdict"] == "failed"


# --- sequences --------------------------------------------------------------------------------------------


def test_sequences_behind_their_columns_are_found(database: Database, backup_dir: Path, scratch: Path) -> None:
    database.execute(
        "CREATE TABLE owned (id serial PRIMARY KEY); INSERT INTO owned SELECT generate_series(1, 500)",
        'CREATE TABLE "I d" ("I d" int GENERATED BY DEFAULT AS IDENTITY); INSERT INTO "I d" VALUES (7)',
        "CREATE SEQUENCE s; CREATE TABLE by_default (a bigint DEFAULT nextval('s')); INSERT INTO by_default VALUES (1)",
        "CREATE SEQUENCE down INCREMENT -1; CREATE TABLE downward (a int DEFAULT nextval('down'))",
        "INSERT INTO downward VALUES (-5); SELECT setval('down', -3)",
        # These are right.
        "CREATE TABLE fine (id serial); INSERT INTO fine DEFAULT VALUES; CREATE TABLE empty (id serial)",
        "CREATE SEQUENCE round CYCLE; CREATE TABLE cyclic (a int DEFAULT nextval('round')); INSERT INTO cyclic VALUES (9)",
        "CREATE TABLE text_id (a text DEFAULT nextval('s')::text); INSERT INTO text_id VALUES ('x')",
    )
    dump = hand_made(database, backup_dir / "a.sql")
    result = verify(database, backup_dir, scratch, dump)
    found = {each["subject"]: each for each in result["findings"] if each["check"] == "sequence_position"}
    assert set(found) == {"public.owned_id_seq", 'public."I d_I d_seq"', "public.s", "public.down"}
    owned = found["public.owned_id_seq"]
    assert owned["message"] == (
        "Sequence public.owned_id_seq is at 1, but public.owned.id goes up to 500: the next insert fails, or uses a"
        " number twice."
    )
    for each in found.values():  # each remedy helps
        database.execute(each["remedy"])
    dump.unlink()
    result = verify(database, backup_dir, scratch, hand_made(database, dump))
    assert [each["check"] for each in result["findings"]] == ["backup_verification"]


def test_a_restore_tells_of_sequences_behind_their_columns(server: Server, backup_dir: Path) -> None:
    database = production(server)
    try:
        database.execute("SELECT setval('users_id_seq', 1)")
        dump = hand_made(database, backup_dir / "a.sql")
        options = restore_params(database, backup_dir, backup=str(dump), accept_unproven=True)
        result = attempt(pg_restore, database, **options)
        assert [each["subject"] for each in result["findings"]] == ["public.users_id_seq"]
    finally:
        remove(database)
