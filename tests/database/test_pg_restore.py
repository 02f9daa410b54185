"""pg_restore on real servers: a proven copy beside production, and production as it was."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import NotEnoughSpace
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.load import Dump
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import preflight
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.plan import StagePlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.source import BackupIdentity, Source
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify.restore_copy import (
    RestoreRequirements,
    space_for,
)
from tests.support.backups import back_up
from tests.support.catalogs import add_verdict
from tests.support.databases import Database, unique_name
from tests.support.modules import expect_failure
from tests.support.restores import (
    digest,
    family,
    named,
    ours,
    params,
    production,
    remove,
    rows,
    stage,
    swap,
    verified_backup,
)
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
        assert result["stage"]["verdict"] == "verified"  # some of its definitions are printed otherwise from now on
        copy, original = (digest(each) for each in (named(zoo_copy, result["stage"]["name"]), zoo_copy))
        assert copy.pop("objects").keys() == original.pop("objects").keys()
        assert copy == original
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
        f"ALTER DATABASE {prod.name} SET temp_tablespaces = ''",
        f"ALTER ROLE \"{role}\" IN DATABASE {prod.name} SET search_path = ''",
        f"REVOKE CONNECT ON DATABASE {prod.name} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {prod.name} TO "{role}" WITH GRANT OPTION',
    )
    try:
        made = named(prod, stage(prod, backup_dir)["stage"]["name"])
        assert like(made) == like(prod)
        assert made.query("SHOW shop.motto") == [("it's; {} %s",)]
        assert made.query("SHOW search_path") == [('"$user", public, "odd, one"',)]

        # A stage that is there already is what production is by now.
        prod.execute(
            f"ALTER DATABASE {prod.name} OWNER TO CURRENT_USER",
            f"COMMENT ON DATABASE {prod.name} IS NULL",
            f"ALTER DATABASE {prod.name} RESET work_mem",
            f"ALTER DATABASE {prod.name} SET search_path = ''",
            f'REVOKE ALL ON DATABASE {prod.name} FROM "{role}" CASCADE',
            f"REVOKE TEMPORARY ON DATABASE {prod.name} FROM PUBLIC",
        )
        for changed in (True, False):
            again = stage(prod, backup_dir)
            assert (again["changed"], again["stage"]["name"], like(made)) == (changed, made.name, like(prod))
        assert made.query("SHOW search_path") == [('""',)]
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
    assert "backup of 20" in result["diff"]["after"]


# --- which backup ---------------------------------------------------------------------------------------


def test_latest_is_the_newest_verified_one_of_this_cluster(prod: Database, backup_dir: Path) -> None:
    first, theirs = (verified_backup(prod, backup_dir) for dummy in range(2))
    forge(backup_dir / prod.name / theirs, lambda document: document.update(system_identifier="7"))
    back_up(prod, backup_dir)
    assert stage(prod, backup_dir, check=True)["preflight"]["backup"] == first
    shutil.rmtree(backup_dir / prod.name / first)
    refused = expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert f"{theirs} is of cluster 7" in refused
    assert stage(prod, backup_dir, check=True, backup=theirs)["preflight"]["backup"] == theirs


def test_without_a_verified_backup_latest_is_none(prod: Database, backup_dir: Path) -> None:
    back_up(prod, backup_dir)
    told = expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert "There is no verified backup" in told
    assert "backup_verify" in told


def test_one_that_failed_its_verification_is_refused(prod: Database, backup_dir: Path) -> None:
    id_ = verified_backup(prod, backup_dir)
    add_verdict(backup_dir, prod.name, id_, "failed", utc_now(), "rows are missing")
    told = expect_failure("pg_restore", params(prod, backup_dir, backup=id_))["msg"]
    assert "failed its verification" in told
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
    assert "The staged copy is not verified" in result["msg"]
    assert result["error"]["difference_count"] == 1
    assert family(prod) == [prod.name]
    assert digest(prod) == before
    kept = expect_failure("pg_restore", params(prod, backup_dir, keep_failed=True))
    assert "not verified" in kept["msg"]
    [left] = [name for name in family(prod) if name != prod.name]
    assert rows(named(prod, left)) == 1000
    # A stage that an operator has renamed stays; one with its old name is dropped by the next run.
    kept_for_good = f"{prod.name}_evidence"
    prod.server.query(f'ALTER DATABASE "{left}" RENAME TO {kept_for_good}')
    again = params(prod, backup_dir, keep_failed=True)
    assert expect_failure("pg_restore", again)["failed"]
    assert expect_failure("pg_restore", params(prod, backup_dir))["failed"]
    assert family(prod) == sorted([prod.name, kept_for_good])
    # Even when it is in production by now.
    prod.server.query(f"ALTER DATABASE {prod.name} RENAME TO {prod.name}_gone")
    prod.server.query(f"ALTER DATABASE {kept_for_good} RENAME TO {prod.name}")
    assert "not verified" in expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert rows(prod) == 1000


@pytest.mark.parametrize("arguments", [(), ("--format=custom",), ("--format=directory",)])
def test_a_backup_made_by_hand_has_to_be_accepted(prod: Database, backup_dir: Path, arguments: tuple[str, ...]) -> None:
    path = str(hand_made(prod, backup_dir / "by_hand", *arguments))
    assert "cannot be verified" in expect_failure("pg_restore", params(prod, backup_dir, backup=path))["msg"]
    result = stage(prod, backup_dir, backup=path, accept_unproven=True)
    assert (result["stage"]["verdict"], result["stage"]["rows"]) == ("inconclusive", 1500)
    assert rows(named(prod, result["stage"]["name"])) == 1000


def test_a_backup_made_by_hand_gets_encoding_and_locale_of_production(server: Server, backup_dir: Path) -> None:
    name = unique_name("latin")
    server.query(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    prod = Database(server, name)
    try:
        path = str(hand_made(prod, backup_dir / "by_hand"))
        made = named(prod, stage(prod, backup_dir, backup=path, accept_unproven=True)["stage"]["name"])
        like = "SELECT encoding, datcollate, datctype FROM pg_database WHERE datname = current_database()"
        assert made.query(like) == prod.query(like) == [(8, "C", "C")]
    finally:
        remove(prod)


def test_a_script_that_makes_its_own_database_is_refused(prod: Database, backup_dir: Path) -> None:
    path = str(hand_made(prod, backup_dir / "by_hand", "--create"))
    told = expect_failure("pg_restore", params(prod, backup_dir, backup=path, accept_unproven=True))["msg"]
    assert "creates a database and connects to it" in told
    assert family(prod) == [prod.name]


def test_another_file_of_the_same_path_is_another_backup(prod: Database, backup_dir: Path) -> None:
    path = str(hand_made(prod, backup_dir / "by_hand"))
    words = {"backup": path, "accept_unproven": True, "analyze": False}
    stage(prod, backup_dir, **words)
    assert stage(prod, backup_dir, **words)["changed"] is False
    prod.execute('DELETE FROM users WHERE id NOT IN (SELECT "user" FROM "Or ders")')
    left = rows(prod)
    hand_made(prod, backup_dir / "by_hand")
    made = stage(prod, backup_dir, **words)["stage"]["name"]
    assert rows(named(prod, made)) == left < 1000
    swap(prod, replacement=made)
    assert "nothing to do" in stage(prod, backup_dir, **words)["msg"]
    prod.execute('DELETE FROM "Or ders"')
    hand_made(prod, backup_dir / "by_hand")
    assert stage(prod, backup_dir, check=True, **words)["changed"]


# --- what keeps it from being restored here ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("roles", ["no such role"], "roles are missing: no such role"),
        ("extensions", ["timetravel"], "extensions are not installed: timetravel"),
    ],
)
def test_what_the_server_lacks_is_named(
    prod: Database, backup_dir: Path, key: str, value: list[str], told: str
) -> None:
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: document["source"].update({key: value}))
    assert told in expect_failure("pg_restore", params(prod, backup_dir))["msg"]


def test_too_little_space_and_too_few_connections_are_told(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    assert "connections, and" in expect_failure("pg_restore", params(prod, backup_dir, jobs=900))["msg"]
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: document.update(database_size_bytes=10**16))
    assert "not enough space" in expect_failure("pg_restore", params(prod, backup_dir))["msg"]
    assert stage(prod, backup_dir, check_space=False)["changed"]
    # What is loaded already needs no more room; nor does one that gets the room of another that died half-way.
    assert stage(prod, backup_dir)["changed"] is False


def plan_for(db: str) -> StagePlan:
    """A plan as the module makes it of its defaults."""
    return StagePlan(db, "latest", False, 1, "/var/tmp", None, True, False, False, True, 0)


def test_the_room_of_what_died_half_way_counts(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    forge(entry, lambda document: tables_of(document)["public.users"].update(rows=1001))
    expect_failure("pg_restore", params(prod, backup_dir, keep_failed=True, analyze=False))
    [left] = [name for name in family(prod) if name != prod.name]
    size = int(prod.server.query("SELECT pg_database_size(%s)", left)[0][0])
    needs = RestoreRequirements(15, 0)
    source = Source(BackupIdentity("a backup"), Dump("/nowhere", "custom"), needs, None, None, None)
    needed = space_for(needs.size_bytes)
    with ours(prod).connect("postgres") as session:
        for db, free, fits in (
            (prod.name, needed - size, True),
            (prod.name, needed - size - 10**6, False),
            ("another", needed - 1, False),
        ):
            refused = pytest.raises(NotEnoughSpace, match="restore_discard")
            with contextlib.nullcontext() if fits else refused:
                preflight._refuse_cramped(session, plan_for(db), source, "/data", free)


def test_a_login_that_is_no_superuser_is_told(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    role = f"{prod.name}_weak"
    prod.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'dummy' CREATEDB")
    try:
        over = {"login_user": role, "login_password": "dummy"}
        assert f"{role} is not a superuser" in expect_failure("pg_restore", params(prod, backup_dir, **over))["msg"]
    finally:
        prod.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"jobs": 0}, "Invalid jobs"),
        ({"nice": 20}, "Invalid nice"),
        ({"max_replica_lag": "much"}, "Invalid max_replica_lag"),
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
    prod.execute("ROLLBACK PREPARED 'half'")
    told = expect_failure("pg_restore", params(prod, backup_dir, allow=["replication_slot"]))["msg"]
    assert "subscription sub" in told
    assert "slot" not in told
    assert stage(prod, backup_dir, check=True, allow=["replication_slot", "subscription"])["changed"]


def test_a_table_of_production_that_is_locked_does_not_keep_it(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    prod.execute('DELETE FROM "Or ders" WHERE id > 10')
    with contextlib.closing(prod.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        found = stage(prod, backup_dir, check=True)["preflight"]
    assert [(change["table"], change["now"]) for change in found["changes"]] == [('public."Or ders"', 10)]
    assert "not counted because the tables are locked or large: public.users." in " ".join(found["notes"])


# --- smoke queries ----------------------------------------------------------------------------------------


def test_smoke_queries_are_asked_and_may_not_write(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    good = [{"query": "SELECT count(*) FROM users", "expect": "1000"}, {"query": "SELECT max(id) FROM users"}]
    result = stage(prod, backup_dir, smoke_queries=good)
    assert [answer["value"] for answer in result["stage"]["smoke"]] == ["1000", "1000"]
    for query, told in (
        ({"query": "SELECT count(*) FROM users", "expect": "7"}, "it returned 1000 instead of 7"),
        ({"query": "SELECT FROM users WHERE false"}, "it returned no row"),
        ({"query": "SELECT * FROM nothing"}, "does not exist"),
        ({"query": "DELETE FROM users RETURNING 1"}, "read-only transaction"),
    ):
        wrong = expect_failure("pg_restore", params(prod, backup_dir, smoke_queries=[query], force=True))
        assert told in wrong["msg"]
    wrong = expect_failure("pg_restore", params(prod, backup_dir, smoke_queries=[{**good[0], "expect": "7"}]))
    assert "it returned 1000 instead of 7" in wrong["msg"]  # a stage that is there is asked, too
    assert len(family(prod)) == 2  # production, and the good one
