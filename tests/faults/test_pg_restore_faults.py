"""pg_restore where something dies, fills up or gets in the way: production is what it was, and nothing is left for long."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.databases import Database
from tests.support.modules import expect_failure, start_module
from tests.support.processes import until
from tests.support.restores import digest, family, params, production, remove, stage, swap, verified_backup
from tests.support.servers import Server


def loading(database: Database) -> bool:
    """Whether a stage is being loaded."""
    return bool(
        database.server.query(
            "SELECT 1 FROM pg_stat_activity WHERE starts_with(datname, %s) AND application_name LIKE 'pg_runbook %%(pg_restore)'",
            f"{database.name}_staged",
        )
    )


@pytest.fixture(name="slow")
def _slow(server: Server) -> Iterator[Database]:
    """A database whose restore takes some time."""
    content = (
        "CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 9) n;\n"
        "CREATE TABLE slow (id int CHECK (pg_sleep(3)::text = ''));\n"
        "INSERT INTO slow VALUES (1);"
    )
    database = production(server, content)
    yield database
    remove(database)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_stopped_leaves_nothing_for_long(slow: Database, backup_dir: Path, signum: int) -> None:
    verified_backup(slow, backup_dir)
    before = digest(slow)
    running = start_module("pg_restore", params(slow, backup_dir))
    until(lambda: loading(slow), 60)
    running.process.send_signal(signum)
    if signum == signal.SIGTERM:
        assert "Stopped by SIGTERM" in running.finish()["msg"]
        assert family(slow) == [slow.name]
    else:
        running.process.communicate()
    result = stage(slow, backup_dir)
    assert family(slow) == sorted([slow.name, result["stage"]["name"]])
    assert len(result["removed"]) == (signum == signal.SIGKILL)
    assert digest(slow) == before


def test_two_at_once_are_one_too_many(slow: Database, backup_dir: Path) -> None:
    first, second = verified_backup(slow, backup_dir), verified_backup(slow, backup_dir)
    running = start_module("pg_restore", params(slow, backup_dir, backup=first))
    until(lambda: loading(slow), 60)
    told = expect_failure("pg_restore", params(slow, backup_dir, backup=second))["msg"]
    assert "Another restore or swap of this database is running" in told
    assert not running.finish()["failed"]


def test_a_disk_that_fills_up_meanwhile_leaves_production_and_no_stage(server: Server, backup_dir: Path) -> None:
    # What the server says of a full disk, when a row comes into a stage.
    content = (
        "CREATE FUNCTION room(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_database() LIKE '%_staged_%' THEN"
        " RAISE 'could not extend file \"base/5/1\": No space left on device' USING ERRCODE = 'disk_full'; END IF;"
        " RETURN true; END $$;\n"
        "CREATE TABLE large (id int CHECK (room(id)));\nINSERT INTO large VALUES (1);"
    )
    prod = production(server, content)
    try:
        verified_backup(prod, backup_dir)
        before = digest(prod)
        told = expect_failure("pg_restore", params(prod, backup_dir))["msg"]
        assert "No space left on device" in told
        assert "Production was not touched" in told
        assert family(prod) == [prod.name]
        assert digest(prod) == before
    finally:
        remove(prod)


def test_a_server_that_restarts_meanwhile_is_told(new_server: Callable[..., Server], backup_dir: Path) -> None:
    server = new_server()
    content = "CREATE TABLE slow (id int CHECK (pg_sleep(3)::text = ''));\nINSERT INTO slow VALUES (1);"
    prod = production(server, content)
    verified_backup(prod, backup_dir)
    running = start_module("pg_restore", params(prod, backup_dir))
    until(lambda: loading(prod), 60)
    server.restart("immediate")
    result = running.finish()
    assert result["failed"]
    assert "Internal error" not in result["msg"]
    assert family(prod) == [prod.name]
    assert stage(prod, backup_dir)["changed"]


def test_limits_and_defaults_of_the_login_do_not_keep_it(slow: Database, backup_dir: Path) -> None:
    verified_backup(slow, backup_dir)
    role = f"{slow.name}_limited"
    limits = ("idle_session_timeout = '1s'", "statement_timeout = '2s'", "default_transaction_read_only = on")
    slow.execute(
        f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'dummy'",
        *(f"ALTER ROLE {role} SET {limit}" for limit in limits),
    )
    try:
        over = {"login_user": role, "login_password": "dummy"}
        assert stage(slow, backup_dir, **over)["changed"]
        swap(slow, **over)
    finally:
        slow.execute(f"DROP ROLE {role}")
    assert slow.query("SELECT count(*) FROM slow") == [(1,)]
