"""pg_restore on real servers: a proven copy beside production, and production as it was."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from tests.support.backups import back_up
from tests.support.catalogs import add_verdict
from tests.support.databases import Database
from tests.support.modules import expect_failure, start_module
from tests.support.processes import until
from tests.support.restores import digest, family, named, params, production, remove, rows, stage, verified_backup
from tests.support.servers import Server
from tests.support.verifications import flip, forge, hand_made, tables_of


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = production(server)
    yield database
    remove(database)


def test_a_backup_is_staged_on_every_major_and_production_is_what_it_was(any_server: Server, backup_dir: Path) -> None:
    prod = production(any_server)
    try:
        back_up(prod, backup_dir)
        original = digest(prod)
        prod.execute('DELETE FROM users WHERE id > 900 AND id NOT IN (SELECT "user" FROM "Or ders")')
        before = digest(prod)
        result = stage(prod, backup_dir, backup=entry_of(backup_dir))
        assert result["changed"]
        assert (result["stage"]["verdict"], result["stage"]["rows"]) == ("verified", 1500)
        assert digest(prod) == before
        assert digest(named(prod, result["stage"]["name"])) == original
        assert {"restore_s", "compare_s", "analyze_s"} <= set(result["steps"])
        again = stage(prod, backup_dir, backup=entry_of(backup_dir))
        assert (again["changed"], again["stage"]["name"]) == (False, result["stage"]["name"])
    finally:
        remove(prod)


def entry_of(backup_dir: Path) -> str:
    """The only backup that there is."""
    [path] = backup_dir.glob("*/*Z")
    return path.name


def test_the_zoo_is_staged(zoo_copy: Database, backup_dir: Path) -> None:
    verified_backup(zoo_copy, backup_dir)
    try:
        result = stage(zoo_copy, backup_dir)
        assert digest(named(zoo_copy, result["stage"]["name"])) == digest(zoo_copy)
    finally:
        remove(zoo_copy)


def test_in_pieces_it_is_the_same(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    result = stage(prod, backup_dir, max_replica_lag="64MB", jobs=1, nice=5)
    assert digest(named(prod, result["stage"]["name"])) == digest(prod)


def test_the_stage_is_made_like_production(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    role = f"{prod.name} o'wner"
    prod.execute(
        f'CREATE ROLE "{role}"',
        f'ALTER DATABASE {prod.name} OWNER TO "{role}"',
        f"COMMENT ON DATABASE {prod.name} IS 'the shop''s own'",
        f'ALTER DATABASE {prod.name} SET search_path = "$user", public, "odd, one"',
        f"ALTER DATABASE {prod.name} SET work_mem = '5MB'",
        f"ALTER DATABASE {prod.name} SET shop.motto = 'it''s; {{}} %s'",
        f"ALTER ROLE \"{role}\" IN DATABASE {prod.name} SET statement_timeout = '7s'",
        f"REVOKE CONNECT ON DATABASE {prod.name} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {prod.name} TO "{role}" WITH GRANT OPTION',
    )
    try:
        made = named(prod, stage(prod, backup_dir)["stage"]["name"])
        assert like(made) == like(prod)
        assert made.query("SHOW shop.motto") == [("it's; {} %s",)]
        assert made.query("SHOW search_path") == [('"$user", public, "odd, one"',)]
    finally:
        remove(prod)
        prod.server.query(f'DROP ROLE "{role}"')


def like(database: Database) -> list[Any]:
    """All that ALTER DATABASE and GRANT have made of a database, but for our marks."""
    return database.query(
        "SELECT pg_get_userbyid(datdba), shobj_description(d.oid, 'pg_database'),"
        " (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x),"
        " (SELECT array_agg(s.setrole || v ORDER BY s.setrole, v) FROM pg_db_role_setting s, unnest(s.setconfig) v"
        "  WHERE s.setdatabase = d.oid AND v NOT LIKE 'pg_runbook.%%')"
        " FROM pg_database d WHERE datname = current_database() AND %s",
        True,
    )


def test_settings_of_the_source_are_used_when_production_is_gone(prod: Database, backup_dir: Path) -> None:
    prod.execute(f"ALTER DATABASE {prod.name} SET work_mem = '5MB'")
    verified_backup(prod, backup_dir)
    prod.drop()
    made = named(prod, stage(prod, backup_dir)["stage"]["name"])
    assert made.query("SHOW work_mem") == [("5MB",)]
    assert rows(made) == 1000


def test_check_mode_says_what_would_change_and_makes_nothing(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    prod.execute("CREATE TABLE newer AS SELECT 1 AS a", 'DELETE FROM "Or ders" WHERE id > 10')
    databases = family(prod)
    result = stage(prod, backup_dir, check=True, diff=True)
    assert result["changed"]
    assert result["stage"] is None
    assert family(prod) == databases
    changes = {(change["table"], change["now"], change["restored"]) for change in result["preflight"]["changes"]}
    assert changes == {("public.newer", 1, None), ('public."Or ders"', 10, 500)}
    assert 'public."Or ders": 10 rows' in result["diff"]["before"]
    assert 'public."Or ders": 500 rows' in result["diff"]["after"]
    assert "data of 20" in result["diff"]["after"]


# --- which backup ---------------------------------------------------------------------------------------


def test_latest_is_the_newest_verified_one(prod: Database, backup_dir: Path) -> None:
    first = verified_backup(prod, backup_dir)
    back_up(prod, backup_dir)
    assert stage(prod, backup_dir, check=True)["preflight"]["backup"] == first


def test_without_a_verified_backup_latest_is_none(prod: Database, backup_dir: Path) -> None:
    back_up(prod, backup_dir)
    told = expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert "There is no verified backup" in told
    assert "backup_verify" in told


def test_one_that_failed_its_verification_is_refused(prod: Database, backup_dir: Path) -> None:
    id_ = verified_backup(prod, backup_dir)
    add_verdict(backup_dir, prod.name, id_, "failed", utc_now(), "rows are missing")
    told = expect_failure("pg_restore", params(prod, backup_dir, backup=id_))["msg"]
    assert "found to be damaged" in told
    assert "rows are missing" in told


@pytest.mark.parametrize("hurt", ["bit", "cut", "gone"])
def test_a_damaged_file_is_found_before_anything_is_made(prod: Database, backup_dir: Path, hurt: str) -> None:
    verified_backup(prod, backup_dir)
    before = digest(prod)
    data = max(backup_dir.glob("*/*Z/data/*.dat*"), key=lambda path: path.stat().st_size)
    if hurt == "bit":
        flip(data, 20, 3)
    elif hurt == "cut":
        data.write_bytes(data.read_bytes()[:-7])
    else:
        data.unlink()
    result = expect_failure("pg_restore", params(prod, backup_dir))
    assert "The backup is damaged" in result["msg"]
    assert "Production was not touched" in result["msg"]
    assert family(prod) == [prod.name]
    assert digest(prod) == before


def test_a_copy_that_differs_is_dropped(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: tables_of(document)["public.users"].update(rows=1001))
    before = digest(prod)
    result = expect_failure("pg_restore", params(prod, backup_dir))
    assert "The restored copy is not proven" in result["msg"]
    assert result["error"]["difference_count"] == 1
    assert family(prod) == [prod.name]
    assert digest(prod) == before
    kept = expect_failure("pg_restore", params(prod, backup_dir, keep_failed=True))
    assert "not proven" in kept["msg"]
    [left] = [name for name in family(prod) if name != prod.name]
    assert rows(named(prod, left)) == 1000
    assert expect_failure("pg_restore", params(prod, backup_dir))["failed"]
    assert family(prod) == [prod.name]


@pytest.mark.parametrize("arguments", [(), ("--format=custom",), ("--format=directory",)])
def test_a_backup_made_by_hand_has_to_be_accepted(prod: Database, backup_dir: Path, arguments: tuple[str, ...]) -> None:
    path = str(hand_made(prod, backup_dir / "by_hand", *arguments))
    assert "cannot be proven" in expect_failure("pg_restore", params(prod, backup_dir, backup=path))["msg"]
    result = stage(prod, backup_dir, backup=path, accept_unproven=True)
    assert (result["stage"]["verdict"], result["stage"]["rows"]) == ("inconclusive", 1500)
    assert rows(named(prod, result["stage"]["name"])) == 1000


def test_a_script_that_makes_its_own_database_is_refused(prod: Database, backup_dir: Path) -> None:
    path = str(hand_made(prod, backup_dir / "by_hand", "--create"))
    told = expect_failure("pg_restore", params(prod, backup_dir, backup=path, accept_unproven=True))["msg"]
    assert "a database of its own" in told
    assert family(prod) == [prod.name]


# --- what keeps it from being restored here ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("roles", ["nobody here"], "roles are missing: nobody here"),
        ("extensions", ["timetravel"], "extensions are not installed: timetravel"),
    ],
)
def test_what_the_server_lacks_is_named(
    prod: Database, backup_dir: Path, key: str, value: list[str], told: str
) -> None:
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: document["surroundings"].update({key: value}))
    assert told in expect_failure("pg_restore", params(prod, backup_dir))["msg"]


def test_too_little_space_and_too_few_connections_are_told(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    assert "connections are free" in expect_failure("pg_restore", params(prod, backup_dir, jobs=900))["msg"]
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: document.update(database_size_bytes=10**16))
    assert "not enough space" in expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert stage(prod, backup_dir, check_space=False)["changed"]


def test_a_login_that_is_no_superuser_is_told(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    role = f"{prod.name}_weak"
    prod.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'dummy' CREATEDB")
    try:
        over = {"login_user": role, "login_password": "dummy"}
        assert f"{role} is no superuser" in expect_failure("pg_restore", params(prod, backup_dir, **over))["msg"]
    finally:
        prod.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"jobs": 0}, "jobs is out of range"),
        ({"nice": 20}, "nice is out of range"),
        ({"max_replica_lag": "much"}, "max_replica_lag is not a size"),
        ({"db": "postgres"}, "cannot be replaced"),
        ({"backup": "no_20260101T000000Z"}, "There is no such backup"),
        ({"backup": "/nonexistent/file"}, "There is no such file"),
    ],
)
def test_bad_input_is_told(prod: Database, backup_dir: Path, over: dict[str, Any], told: str) -> None:
    verified_backup(prod, backup_dir)
    assert told in expect_failure("pg_restore", params(prod, backup_dir, **over))["msg"]


def test_what_is_tied_to_the_database_is_named(new_server: Callable[..., Server], backup_dir: Path) -> None:
    server = new_server(settings={"max_prepared_transactions": 5, "wal_level": "logical"})
    prod = production(server)
    verified_backup(prod, backup_dir)
    prod.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    server.query("CREATE EXTENSION postgres_fdw")
    server.query(f"CREATE SERVER shop FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname '{prod.name}')")
    result = stage(prod, backup_dir, check=True)
    subjects = {(finding["value"], finding["subject"], finding["severity"]) for finding in result["findings"]}
    assert subjects == {
        ("publication", "everything", "warning"),
        ("foreign_server", "postgres: shop", "warning"),
    }
    prod.execute("SELECT pg_create_logical_replication_slot('listener', 'pgoutput')")
    prod.execute("CREATE SUBSCRIPTION sub CONNECTION 'dbname=x' PUBLICATION y WITH (connect = false)")
    with contextlib.closing(prod.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE users SET name = 'x' WHERE id = 1")
        cursor.execute("PREPARE TRANSACTION 'half'")
    refused = expect_failure("pg_restore", params(prod, backup_dir))
    for text in ("prepared transaction half", "replication slot listener", "subscription sub", "ROLLBACK PREPARED"):
        assert text in refused["msg"]
    assert family(prod) == [prod.name]


# --- smoke queries ----------------------------------------------------------------------------------------


def test_smoke_queries_are_asked_and_may_not_write(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    good = [{"query": "SELECT count(*) FROM users", "expect": "1000"}, {"query": "SELECT max(id) FROM users"}]
    result = stage(prod, backup_dir, smoke_queries=good)
    assert [answer["value"] for answer in result["stage"]["smoke"]] == ["1000", "1000"]
    for query, told in (
        ({"query": "SELECT count(*) FROM users", "expect": "7"}, "it says 1000, not 7"),
        ({"query": "SELECT FROM users WHERE false"}, "it returns no row"),
        ({"query": "SELECT * FROM nothing"}, "does not exist"),
        ({"query": "DELETE FROM users RETURNING 1"}, "read-only transaction"),
    ):
        wrong = expect_failure("pg_restore", params(prod, backup_dir, smoke_queries=[query], force=True))
        assert told in wrong["msg"]
    assert len(family(prod)) == 2  # production, and the good one


# --- deaths -----------------------------------------------------------------------------------------------


def loading(database: Database) -> bool:
    """Whether a stage is being loaded."""
    return bool(
        database.server.query(
            "SELECT 1 FROM pg_stat_activity WHERE starts_with(datname, %s) AND application_name = 'pg_restore'",
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
    assert "Another restore or swap of this database is under way" in told
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
