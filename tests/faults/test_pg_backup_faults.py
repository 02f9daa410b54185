"""pg_backup under bad input and bad luck: a clear error, and nothing that looks like a backup."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import directory_name
from tests.support.backups import back_up, differences, dumping, entries, leftovers, manifest_of, params, restored
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import (
    COLLECTIONS,
    Result,
    expect_failure,
    run_module,
    start_module,
)
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.zoo.feature import identifier


@pytest.fixture(name="small")
def _small(database: Database) -> Database:
    database.execute("CREATE TABLE sentinel (v text); INSERT INTO sentinel VALUES ('here'); CREATE SEQUENCE numbers")
    return database


def refused(database: Database, backup_dir: Path, **over: Any) -> Result:
    """The answer to a backup that has to fail and leaves nothing."""
    result = expect_failure("pg_backup", params(database, backup_dir, **over))
    assert not result.get("changed")
    assert dumping(backup_dir) == []
    assert leftovers(backup_dir, database) == []
    return result


# --- wrong words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"format": "tar"}, "value of format must be one of"),
        ({"fingerprint": "md5"}, "value of fingerprint must be one of"),
        ({"jobs": 0}, "Invalid jobs (0)"),
        ({"jobs": -3}, "Invalid jobs (-3)"),
        ({"jobs": 1001}, "Invalid jobs (1001)"),
        ({"jobs": "many"}, "cannot be converted to an int"),
        ({"compress": "bzip2"}, "Invalid compress ('bzip2')"),
        ({"compress": "gzip:99"}, "Invalid compress"),
        ({"compress": ""}, "Invalid compress"),
        ({"max_age": "soon"}, "Invalid max_age"),
        ({"max_age": "-1h"}, "Invalid max_age"),
        ({"max_age": "9" * 400}, "Invalid max_age"),
        ({"lock_timeout": "never"}, "Invalid lock_timeout"),
        ({"lock_timeout": "-5"}, "Invalid lock_timeout"),
        ({"lock_timeout": "52w"}, "Invalid lock_timeout ('52w')"),
        ({"backup_dir": "backups"}, "Invalid backup_dir ('backups'): it is not an absolute path"),
        ({"backup_dir": ""}, "Invalid backup_dir ('')"),
        ({"backup_dir": "/tmp/a\0b"}, "null byte"),
        ({"db": ""}, "Invalid db"),
        ({"db": "a\0b"}, "NUL"),
        ({"login_port": 0}, "Invalid login_port"),
        ({"login_port": 65536}, "Invalid login_port"),
        ({"connect_params": {"port": "5432,5433"}}, "Invalid login_port"),
        ({"connect_params": {"port": "x"}}, "Invalid login_port"),
        ({"connect_params": {"sslpassword": "x-secret"}}, "sslpassword"),
        ({"connect_params": {"no_such_word": 1}}, "no_such_word"),
        ({"ssl_mode": "maybe"}, "value of ssl_mode must be one of"),
        ({"nonsense": 1}, "Unsupported parameters"),
    ],
)
def test_wrong_words_are_named(small: Database, backup_dir: Path, over: dict[str, Any], message: str) -> None:
    result = expect_failure("pg_backup", {**params(small, backup_dir), **over})
    assert message in result["msg"]
    assert list(backup_dir.iterdir()) == []


# --- no way to the server -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"login_password": "wr0ng-password"}, "password authentication failed"),
        ({"login_password": ""}, "no password supplied"),
        ({"login_user": "no_such_role"}, "login_user"),
        ({"login_port": 1}, "login_port"),
        ({"login_host": "host.invalid"}, "login_host"),
        ({"login_host": "", "login_unix_socket": "/nonexistent"}, "login_unix_socket"),
        ({"db": "no such database"}, "does not exist"),
        ({"db": "POSTGRES"}, "case-sensitive"),
        ({"ssl_mode": "require"}, "SSL"),
        ({"ssl_mode": "verify-full", "ca_cert": "/nonexistent.crt"}, "ca_cert"),
    ],
)
def test_no_way_to_the_server_is_explained(
    small: Database, backup_dir: Path, over: dict[str, Any], message: str
) -> None:
    result = expect_failure("pg_backup", params(small, backup_dir, **over))
    assert result["error"]["kind"] == "ConnectionFailed"
    assert message in result["msg"]
    assert "wr0ng-password" not in json.dumps(result)
    assert list(backup_dir.iterdir()) == []


def test_a_name_that_the_server_cuts_off_is_not_another_database(any_server: Server, backup_dir: Path) -> None:
    name = "n" * 63
    database = new_database(any_server, name)
    try:
        result = expect_failure("pg_backup", params(database, backup_dir, db=name + "n"))
    finally:
        database.drop()
    assert result["error"]["kind"] in ("InvalidInput", "ConnectionFailed")
    assert list(backup_dir.iterdir()) == []


def test_without_psycopg2_it_says_what_to_install(small: Database, backup_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "psycopg2.py").write_text("raise ImportError('No module named psycopg2')")
    env = {"PYTHONPATH": f"{tmp_path}:{COLLECTIONS}"}
    result = expect_failure("pg_backup", params(small, backup_dir), env=env)
    assert result["error"]["kind"] == "MissingLibrary"
    assert "psycopg2-binary" in result["msg"]
    assert list(backup_dir.iterdir()) == []


# --- programs -----------------------------------------------------------------------------------------


def fake_programs(folder: Path, script: str, server: Server) -> Path:
    """A bin_dir whose pg_dump is this shell script; $REAL is the real one."""
    folder.mkdir()
    for program in ("pg_dumpall", "pg_restore", "psql"):
        (folder / program).symlink_to(server.client_dir / program)
    (folder / "pg_dump").write_text(f"#!/bin/sh\nREAL={shlex.quote(str(server.client_dir / 'pg_dump'))}\n{script}\n")
    (folder / "pg_dump").chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'pg_dump (PostgreSQL) 9.6.24'", "only version 9.6.24 was found"),
        ("echo 'pg_dump (PostgreSQL) 13.99'", "which is older than"),
        ("echo 'something else'", "does not have all of"),
        ("exit 1", "does not have all of"),
        (None, "does not have all of"),
        ("garbage", "does not have all of"),
    ],
)
def test_a_client_that_cannot_serve_is_named(
    small: Database, backup_dir: Path, tmp_path: Path, script: str | None, message: str
) -> None:
    folder = fake_programs(tmp_path / "bin", script or "", small.server)
    if script is None:
        (folder / "pg_dump").unlink()
    elif script == "garbage":
        (folder / "pg_dump").write_bytes(b"\0\1\2\3")
    result = refused(small, backup_dir, bin_dir=str(folder))
    assert result["error"]["kind"] == "ProgramMissing"
    assert message in result["msg"]
    assert f"postgresql-client-{small.server.major}" in result["msg"]
    assert list(backup_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "pg_dump ended with status 3"),
        ("echo 'the reason' >&2; exit 1", "the reason"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo 'the end' >&2; exit 1", "the end"),
    ],
)
def test_a_dump_that_fails_is_no_backup(
    small: Database, backup_dir: Path, tmp_path: Path, script: str, message: str
) -> None:
    script = f'case "$*" in *--version*) exec "$REAL" "$@";; esac; {script}'
    result = refused(
        small, backup_dir, bin_dir=str(fake_programs(tmp_path / "bin", script, small.server)), compress="gzip"
    )
    assert result["error"]["kind"] == "CommandFailed"
    assert message in result["msg"]
    assert len(result["msg"]) < 10_000
    assert entries(backup_dir, small) == []


def test_globals_that_fail_are_no_backup(small: Database, backup_dir: Path, tmp_path: Path) -> None:
    folder = fake_programs(tmp_path / "bin", 'exec "$REAL" "$@"', small.server)
    (folder / "pg_dumpall").unlink()
    (folder / "pg_dumpall").write_text("#!/bin/sh\necho no globals >&2; exit 1\n")
    (folder / "pg_dumpall").chmod(0o755)
    result = refused(small, backup_dir, bin_dir=str(folder))
    assert "pg_dumpall ended with status 1" in result["msg"]
    assert entries(backup_dir, small) == []


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        'quo"te', "it's", " two  spaces ", "new\nline", "tab\t", "UPPER", "ünïcödé", "日本語", "😀", "100%s %d",
        "a=b", "host=x", "postgres://x", "postgresql://localhost/postgres", "back\\slash", "\\", "-leading",
        "--help", "..", ".", "dot.ted", "../up", "$(id)`id`;", "{{ x }}", "x" * 63, "é" * 31, "%41", "*",
    ],
)  # fmt: skip
def test_a_database_of_any_name_is_backed_up(server: Server, backup_dir: Path, name: str) -> None:
    database = new_database(server, name)
    try:
        database.execute(
            "CREATE TABLE sentinel (v text); INSERT INTO sentinel VALUES ('here'); CREATE TABLE two (v text)"
        )
        result = back_up(database, backup_dir, globals=False)
        manifest = manifest_of(backup_dir, database)
    finally:
        database.drop()
    assert manifest.database == name
    assert manifest.fingerprint is not None
    assert manifest.fingerprint.tables["public.sentinel"].rows == 1
    path = Path(result["backup"]["path"])
    assert path.parent == backup_dir / directory_name(name)
    assert [each.name for each in backup_dir.iterdir()] == [directory_name(name)]
    assert "TABLE DATA public sentinel" in server.run("pg_restore", "--list", path / "data")


def test_names_that_are_not_utf8_are_refused_clearly(server: Server, backup_dir: Path) -> None:
    name = unique_name("ascii")
    server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    database = Database(server, name)
    try:
        with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SET client_encoding = 'SQL_ASCII'")
            cursor.execute(b'CREATE TABLE "t\xff" (v text)')
        result = run_module("pg_backup", params(database, backup_dir))
        if result["failed"]:
            assert result["error"]["kind"] == "QueryFailed"
            assert "UTF8" in result["msg"]
            assert "rename it" in result["msg"]
            assert leftovers(backup_dir, database) == []
        else:
            assert len(entries(backup_dir, database)) == 1
    finally:
        database.drop()


# --- rights -------------------------------------------------------------------------------------------


@pytest.fixture(name="role")
def _role(server: Server) -> Iterator[Callable[..., str]]:
    """Make roles with the tests' password; they go with what they own."""
    made: list[str] = []

    def make(options: str = "") -> str:
        made.append(unique_name("role"))
        server.psql(f"CREATE ROLE {made[-1]} LOGIN {options} PASSWORD '{server.password}'")
        return made[-1]

    yield make
    for each in made:
        for database in server.databases() - {"template0"}:
            with contextlib.suppress(psycopg2.Error):
                server.query(f"DROP OWNED BY {each}", db=database)
        server.psql(f"DROP ROLE {each}")


@pytest.mark.parametrize(
    ("deny", "named"),
    [
        ("CREATE TABLE hidden (v int)", "public.hidden"),
        ("CREATE SEQUENCE hidden", "public.hidden"),
        ("CREATE SCHEMA closed; CREATE TABLE closed.t (v int); GRANT SELECT ON closed.t TO PUBLIC", "closed.t"),
        ("CREATE TABLE hidden (v int) PARTITION BY LIST (v)", "public.hidden"),
        (
            """CREATE TABLE rows (v int); GRANT SELECT ON rows TO PUBLIC; INSERT INTO rows VALUES (1), (2);
               ALTER TABLE rows ENABLE ROW LEVEL SECURITY; CREATE POLICY two ON rows USING (v > 1)""",
            "public.rows: row-level security",
        ),
        ("SELECT lo_from_bytea(0, 'hidden')", "1 large object that it may not read"),
    ],
)
@pytest.mark.parametrize("mode", ["content", "none"])
def test_what_may_not_be_read_is_an_error_and_no_partial_dump(
    small: Database, backup_dir: Path, role: Callable[..., str], deny: str, named: str, mode: str
) -> None:
    small.execute(
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO PUBLIC",
    )
    user = role()
    back_up(small, backup_dir / "before", login_user=user, fingerprint=mode)
    small.execute(deny)
    result = refused(small, backup_dir, login_user=user, fingerprint=mode)
    assert named in result["msg"]
    # pg_read_all_data does not reach large objects.
    assert ("lo_compat_privileges" if "large object" in named else "pg_read_all_data") in result["msg"]
    assert entries(backup_dir, small) == []


def test_row_level_security_does_not_hide_rows_from_who_may_bypass_it(
    small: Database, backup_dir: Path, role: Callable[..., str]
) -> None:
    user = role("BYPASSRLS")
    small.execute(
        f"GRANT pg_read_all_data TO {user}",
        "CREATE TABLE rows (v int); ALTER TABLE rows ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY two ON rows USING (v > 1); INSERT INTO rows VALUES (1), (2)",
    )
    path = back_up(small, backup_dir, login_user=user)["backup"]["path"]
    copy = restored(small, path)
    assert copy.query("SELECT v FROM rows ORDER BY v") == [(1,), (2,)]
    assert differences(manifest_of(backup_dir, small).fingerprint, copy) == []
    copy.drop()


def test_a_wrong_setting_of_the_database_does_no_harm(small: Database, backup_dir: Path) -> None:
    small.execute(
        *(
            f"ALTER DATABASE {identifier(small.name)} SET {setting}"
            for setting in (
                "statement_timeout = '50ms'", "lock_timeout = '1ms'", "search_path = 'nowhere'", "row_security = on",
                "default_transaction_isolation = 'serializable'", "default_transaction_read_only = on",
                "DateStyle = 'German'", "client_encoding = 'LATIN1'", "bytea_output = 'escape'",
                "idle_in_transaction_session_timeout = '1ms'",
            )
        )
    )  # fmt: skip
    back_up(small, backup_dir)
    assert manifest_of(backup_dir, small).source.settings


# --- locks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["content", "none"])
@pytest.mark.parametrize("check", [False, True])
def test_an_exclusive_lock_is_waited_for_and_then_named(
    small: Database, backup_dir: Path, mode: str, check: bool
) -> None:
    with contextlib.closing(small.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE sentinel IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        result = expect_failure(
            "pg_backup", params(small, backup_dir, lock_timeout="1s", fingerprint=mode), check=check
        )
        assert 1 <= time.monotonic() - started < 30
    assert "exclusive lock" in result["msg"]
    assert "lock_timeout" in result["msg"]
    assert leftovers(backup_dir, small) == []
    assert entries(backup_dir, small) == []
    back_up(small, backup_dir)


def test_a_lock_that_ends_in_time_does_no_harm(small: Database, backup_dir: Path) -> None:
    with contextlib.closing(small.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE sentinel IN ACCESS EXCLUSIVE MODE")
        module = start_module("pg_backup", params(small, backup_dir, lock_timeout="60s"))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        assert until(lambda: small.query(waiting)[0][0] > 0, 30)
        connection.rollback()
        assert not module.finish()["failed"]
