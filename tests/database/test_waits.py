"""A server without the database postgres, one whose synchronous standby is missing, and locks that other sessions hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ConnectionFailed, QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import databases
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.statements import compose
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import waits
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_database_discard, pg_database_swap, pg_restore
from tests.support.databases import Database
from tests.support.operations import attempt
from tests.support.restores import ours, params, production, remove, rows, verified_backup
from tests.support.servers import Server


@pytest.fixture(scope="module")
def private() -> Iterator[Server]:
    """A server of this module's own, whose settings and databases it may change."""
    with Server() as server:
        yield server


@pytest.fixture
def prod(private: Server) -> Iterator[Database]:
    database = production(private)
    yield database
    remove(database)


def test_a_restore_waits_for_no_missing_standby_and_needs_no_database_postgres(
    private: Server, prod: Database, backup_dir: Path
) -> None:
    verified_backup(prod, backup_dir)
    prod.execute("INSERT INTO users SELECT 1000 + n, 'x' FROM generate_series(1, 5) n")
    now = rows(prod)
    words = params(prod, backup_dir, analyze=False)
    prod.execute("ALTER DATABASE postgres RENAME TO set_aside")
    prod.execute("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (gone)'", "SELECT pg_reload_conf()")
    try:
        staged = attempt(pg_restore, prod, **words)
        swapped = attempt(pg_database_swap, prod, grace="0")
        assert rows(prod) == now - 5
        kept = attempt(pg_database_discard, prod)
        attempt(pg_database_discard, prod, due_only=False)
    finally:
        prod.execute(
            "SET synchronous_commit = local",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
            "ALTER DATABASE set_aside RENAME TO postgres",
        )
    [finding] = [each for each in staged["findings"] if each["check"] == "restore_synchronous_standby"]
    assert "0 of 1 synchronous standbys are connected" in finding["message"]
    assert f"public.users {now:,} -> {now - 5:,}" in staged["msg"]
    assert "not touched" not in staged["msg"]
    assert swapped["changed"]
    [item] = kept["kept"]
    assert (kept["changed"], item["name"]) == (False, swapped["replaced"])
    assert f"{item['name']} is kept until {item['keep_until']}." in kept["msg"]


def test_a_wait_for_a_lock_is_bounded_and_names_who_holds_it(prod: Database) -> None:
    server = ours(prod)
    mark = databases.Mark("staged", prod.name, "x", "2026-01-01T00:00:00Z")
    with (
        prod.server.connect("postgres", autocommit=False, application_name="deploy tool") as holder,
        databases.connect_admin(server) as session,
        holder.cursor() as cursor,
    ):
        cursor.execute(f'ALTER DATABASE "{prod.name}" RENAME TO away')
        began = time.monotonic()
        with pytest.raises(QueryFailed) as caught, waits.bounded(server, session, lock_s=1):
            session.execute(compose("ALTER DATABASE {} RENAME TO renamed", prod.name))
        assert time.monotonic() - began < 60
        for text in ("s for a lock", "deploy tool", "idle in transaction", "Production was not touched"):
            assert text in caught.value.message
        # The session goes on, and the swap, which bounds its waits itself, says the same.
        assert session.value("SELECT 1") == 1
        session.execute(compose("CREATE DATABASE {}", f"{prod.name}_staged"))
        databases.put_mark(session, f"{prod.name}_staged", mark)
        with pytest.raises(
            Exception, match=r"it waited for a lock \(object\) that session \d+ of postgres \(deploy tool"
        ):
            attempt(pg_database_swap, prod, grace="0", block="1s", attempts=1)
        holder.rollback()


def test_a_database_that_is_missing_is_told_with_the_nearest_one(prod: Database) -> None:
    server = ours(prod)
    with pytest.raises(ConnectionFailed) as caught, server.connect(f"{prod.name}x"):
        pass
    assert f"Did you mean {prod.name!r}?" in caught.value.remedy
    assert "postgres_db" in caught.value.remedy
