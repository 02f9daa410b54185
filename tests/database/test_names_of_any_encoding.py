"""Names of databases and roles are bytes that the server never looks at: one that is not UTF-8 spoils no report."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from tests.support.backups import our_server
from tests.support.databases import Database
from tests.support.modules import expect_success
from tests.support.queries import PRELOADED, counting_installations
from tests.support.servers import Server

SHOWN = "caf\ufffd"  # codespell:ignore
BYTES = "SELECT oid, datname::text AS name FROM pg_database WHERE datname::bytea = 'caf\\351'"


@pytest.fixture
def latin(new_server: Callable[..., Server]) -> Server:
    """A server with a database, a role and a slot of names in Latin-1, and queries of theirs."""
    server = new_server(counting_installations()[-1], settings={**PRELOADED, "wal_level": "logical"})
    server.query("CREATE EXTENSION pg_stat_statements")
    server.query("CREATE DATABASE lat TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    server.query("CREATE DATABASE cafe")
    with contextlib.closing(server.connect("cafe")) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
        cursor.execute("CREATE SUBSCRIPTION sub CONNECTION 'port=1' PUBLICATION p WITH (connect = false)")
    with contextlib.closing(server.connect("lat")) as connection, connection.cursor() as cursor:
        cursor.execute("SET client_encoding = 'LATIN1'")
        cursor.execute(b'CREATE ROLE "r\xe9" SUPERUSER; SET ROLE "r\xe9"; SELECT 1 AS theirs')
        cursor.execute(b'RESET ROLE; ALTER DATABASE cafe RENAME TO "caf\xe9"')  # codespell:ignore
    return server


def test_every_report_shows_what_can_be_read_of_a_name(latin: Server) -> None:
    login = latin.login()
    storage = expect_success("pg_storage_info", login)
    assert {each["name"] for each in storage["databases"]} >= {"lat", SHOWN}
    queries = expect_success("pg_query_info", {**login, "all_databases": True, "top": 100})
    assert "r\ufffd" in {each["user"] for each in queries["queries"]}
    replication = expect_success("pg_replication_info", login)
    assert [each["database"] for each in replication["slots"]] == [SHOWN]
    assert [each["database"] for each in replication["subscriptions"]] == [SHOWN], "those come in a document"
    disk = expect_success("pg_disk_info", {**login, "held_warning": "0"})
    assert SHOWN in str([each for each in disk["findings"] if each["subject"] == "slot"])
    health = expect_success("pg_health_info", login)
    assert not [each for each in health["findings"] if "UTF-8" in each["message"]]
    assert "UnicodeDecodeError" not in str(health)


def test_elsewhere_such_a_name_is_an_error_that_says_so(latin: Server) -> None:
    server = our_server(Database(latin, "postgres"))
    with server.connect("postgres") as session:
        with pytest.raises(QueryFailed, match="not UTF-8") as failed:
            session.query(BYTES)
        assert session.value("SELECT 1") == 1
    assert failed.value.details["lost"] is False
    with server.connect("postgres", timeout_s=5) as session:
        assert session.query(BYTES)[0].name == SHOWN
        texts = "SELECT ARRAY['a', NULL]::text[] AS many, NULL::jsonb AS none, '{\"a\": 1}'::json AS some, '\\xe9'::bytea AS raw"
        row = session.query(texts)[0]
        assert (row.many, row.none, row.some, bytes(row.raw)) == (["a", None], None, {"a": 1}, b"\xe9")
