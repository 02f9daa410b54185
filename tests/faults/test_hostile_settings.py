"""Settings that people give a database, a login or the environment keep no backup, proof or restore from being right."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_backup,
    pg_database_swap,
    pg_restore,
    pg_restore_verify,
)
from tests.support.backups import params
from tests.support.databases import Database, new_database, unique_name
from tests.support.extended import MAJOR
from tests.support.operations import attempt
from tests.support.programs import Installation, installations
from tests.support.restores import remove
from tests.support.servers import Server
from tests.support.verifications import scratch_folder
from tests.support.workspace import workspace

HOSTILE = {
    "array_nulls": "off",
    "bytea_output": "escape",
    "check_function_bodies": "on",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "DateStyle": "SQL, DMY",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "extra_float_digits": "-15",
    "idle_in_transaction_session_timeout": "100ms",
    "IntervalStyle": "sql_standard",
    "lc_monetary": "C",
    "lock_timeout": "1ms",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "nowhere",
    "standard_conforming_strings": "off",
    "statement_timeout": "50ms",
    "transform_null_equals": "on",
    "xmloption": "document",
}
ENVIRONMENT = {
    "PGAPPNAME": "app",
    "PGCLIENTENCODING": "LATIN1",
    "PGDATABASE": "elsewhere",
    "PGDATESTYLE": "German",
    "PGHOST": "nowhere.invalid",
    "PGOPTIONS": "-c statement_timeout=50ms -c default_transaction_read_only=on -c DateStyle=German -c search_path=nowhere",
    "PGPORT": "1",
    "PGTZ": "Asia/Tokyo",
    "PGUSER": "elsewhere",
}
CONTENT = r"""
CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT 'it''s a \n' CHECK (v <> E'\\'), n text[], f float8, b bytea,
                i interval, at timestamptz, d date, "Grüße" int);
INSERT INTO t SELECT n, 'Größe € \' || n, ARRAY['a', NULL, 'NULL'], n / 3.0::float8, '\x00ff5c27', n * '1 day 2:03'::interval,
                     '2024-07-01 12:00+02'::timestamptz + n * '1 hour'::interval, '2024-01-02'::date + n, n
              FROM generate_series(1, 500) n;
CREATE INDEX ON t (lower(v)) WHERE n IS NOT NULL;
CREATE MATERIALIZED VIEW m AS SELECT at::date AS day, count(*) AS n FROM t GROUP BY 1;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a\b' || E'\n' || 'é' $$;
CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial PRIMARY KEY, t int REFERENCES t);
INSERT INTO shop.orders (t) SELECT n FROM generate_series(1, 500) n;
"""


PLAIN = {
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
    "quote_all_identifiers": "off",
    "search_path": "public",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "TimeZone": "UTC",
}
QUERIES = (
    "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM t",
    "SELECT day::text, n FROM m ORDER BY 1",
    "SELECT f()",
    "SELECT count(*), max(id) FROM shop.orders",
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 't_v_check'",
)


@pytest.fixture(name="prod")
def _prod(servers: Callable[[Installation], Server], programs: Installation) -> Iterator[Database]:
    database = new_database(servers(programs), unique_name("prod"))
    yield database
    remove(database)
    database.server.psql(f"DROP ROLE IF EXISTS {database.name}_admin")


@contextlib.contextmanager
def settings_of_the_database(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in HOSTILE.items():
        database.server.psql(f"ALTER DATABASE {database.name} SET {name} = '{value}'")
    yield


@contextlib.contextmanager
def settings_of_the_login(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    role = f"{database.name}_admin"
    database.server.psql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'dummy-of-the-tests-5b1e'")
    for name, value in HOSTILE.items():
        database.server.psql(f"ALTER ROLE {role} SET {name} = '{value}'")
    yield


@contextlib.contextmanager
def settings_of_the_environment(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


def contents(database: Database) -> list[object]:
    """All that matters, read under settings of the tests' own."""
    options = " ".join(f"-c {name}={value}" for name, value in PLAIN.items())
    with contextlib.closing(database.connect(options=options)) as session:
        cursor = session.cursor()
        found: list[object] = []
        for query in QUERIES:
            cursor.execute(query)
            found.append(cursor.fetchall())
        return found


@pytest.mark.parametrize(
    "programs",
    [
        pytest.param(each, id=f"pg{each.major}", marks=[] if each.major == MAJOR else [pytest.mark.majors])
        for each in installations()
    ],
)
@pytest.mark.parametrize(
    "hostile",
    [settings_of_the_database, settings_of_the_login, settings_of_the_environment],
    ids=lambda each: each.__name__,
)
def test_settings_of_people_change_nothing(
    prod: Database,
    backup_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    hostile: Callable[[Database, pytest.MonkeyPatch], contextlib.AbstractContextManager[None]],
) -> None:
    prod.execute(CONTENT)
    before = contents(prod)
    login = {"login_user": f"{prod.name}_admin"} if hostile is settings_of_the_login else {}
    options = {**params(prod, backup_dir), **login}
    with hostile(prod, monkeypatch), scratch_folder() as scratch:
        taken = attempt(pg_backup, prod, **options)
        for place in ("instance", "database"):
            proof = attempt(pg_restore_verify, prod, **{**options, "scratch_dir": str(scratch), "verify_in": place})
            assert proof["verdict"] == "verified", (place, proof["why"], proof["notes"])
        where = {**options, "scratch_dir": str(workspace()), "backup": taken["backup"]["id"]}
        attempt(pg_restore, prod, **where)
        attempt(pg_database_swap, prod, **{**prod.login(), **login, "grace": "0"})
    assert contents(prod) == before
