"""pg_restore_verify and sources that are made in an unusual way: their backups are good, and no harm comes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import compare
from tests.support.backups import back_up, fingerprint, manifest_of
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure
from tests.support.restores import family, named, remove, stage, verified_backup
from tests.support.servers import Server
from tests.support.verifications import MODULE, forge, hand_made, params, scratch_folder, verify, watched

PLACES = ("instance", "database")


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


def left(server: Server) -> list[str]:
    """The throwaway databases that are still there."""
    return [name for name in server.databases() if name.startswith("pg_runbook_verify_")]


# --- what a new database has and the source has not ----------------------------------------------------


def test_a_database_without_public_and_plpgsql_is_verified_and_staged(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    database.execute("DROP SCHEMA public", "DROP EXTENSION plpgsql", "CREATE SCHEMA s", "CREATE TABLE s.t (a int)")
    verified_backup(database, backup_dir)
    try:
        for place in PLACES:
            result = verify(database, backup_dir, scratch, verify_in=place)
            assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
        assert stage(database, backup_dir)["stage"]["verdict"] == "verified"
    finally:
        remove(database)


def test_a_public_that_only_the_copy_has_not_is_a_difference(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    database.execute("CREATE TABLE t (a int)")
    entry = back_up(database, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document["fingerprint"]["objects"].pop("schema public"))
    result = verify(database, backup_dir, scratch, verify_in="database")
    assert (result["verdict"], [each["subject"] for each in result["differences"]]) == ("incomplete", ["schema public"])


# --- partitions, in parallel ----------------------------------------------------------------------------

PARTITIONED = """
CREATE TABLE g (id int PRIMARY KEY, up int, v text) PARTITION BY LIST (id);
CREATE TABLE g1 PARTITION OF g FOR VALUES IN (1) PARTITION BY LIST (id);
CREATE TABLE g11 PARTITION OF g1 FOR VALUES IN (1);
CREATE TABLE g2 PARTITION OF g FOR VALUES IN (2);
CREATE TABLE g3 PARTITION OF g FOR VALUES IN (3);
INSERT INTO g VALUES (1, 1, 'as it was'), (2, 1, 'as it was'), (3, 2, 'as it was');
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := 'spoilt'; RETURN NEW; END$$;
CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON g FOR EACH ROW EXECUTE FUNCTION spoil();
COMMENT ON TRIGGER spoil ON g IS 'it changes what is written';
ALTER TABLE g11 DISABLE TRIGGER spoil;
ALTER TABLE g ADD CONSTRAINT late CHECK (id > 2) NOT VALID;
ALTER TABLE g ADD FOREIGN KEY (up) REFERENCES g;
CREATE TABLE plain (id int PRIMARY KEY, g int REFERENCES g, up int REFERENCES plain);
COMMENT ON CONSTRAINT plain_up_fkey ON plain IS 'to itself';
INSERT INTO plain VALUES (1, 1, 1);
CREATE DOMAIN small AS int;
CREATE TABLE d (v small);
INSERT INTO d SELECT 100 FROM generate_series(1, 1000);
ALTER DOMAIN small ADD CONSTRAINT late CHECK (VALUE < 10) NOT VALID;
"""


def test_partitioned_tables_are_loaded_in_parallel(any_database: Database, backup_dir: Path, scratch: Path) -> None:
    any_database.execute(PARTITIONED)
    back_up(any_database, backup_dir)
    with watched(any_database.server) as bin_dir:
        result = verify(any_database, backup_dir, scratch, jobs=2, verify_in="database", bin_dir=str(bin_dir))
        asked = (bin_dir / "pg_restore.log").read_text()
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    assert asked.count("--jobs=2 ") == 1, asked  # and not once more for having failed


def test_what_does_not_load_in_parallel_is_loaded_once_more(
    database: Database, backup_dir: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(PARTITIONED)
    id_ = verified_backup(database, backup_dir)
    monkeypatch.setenv("NO_COMPANY", "yes")
    try:
        with watched(database.server) as bin_dir:
            over: dict[str, Any] = {"jobs": 2, "bin_dir": str(bin_dir)}
            result = verify(database, backup_dir, scratch, verify_in="database", **over)
            assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
            result = stage(database, backup_dir, backup=id_, **over)
            assert result["stage"]["verdict"] == "verified"
            assert fingerprint(named(database, result["stage"]["name"])) == fingerprint(database)
            # It has its mark again, so that the next run knows it.
            again = stage(database, backup_dir, backup=id_, **over)
            assert (again["changed"], again["stage"]["name"]) == (False, result["stage"]["name"])
            assert len(family(database)) == 2
            assert (bin_dir / "pg_restore.log").read_text().count("--jobs=2 ") == 2
    finally:
        remove(database)


# --- in whose name --------------------------------------------------------------------------------------

HARM = """CREATE FUNCTION {role}.harm() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    COPY (SELECT 1) TO PROGRAM 'touch {proof}';
    RETURN 1;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN 0;
END$$"""


def test_roles_can_do_what_they_can_in_the_source_and_no_more(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    evil, readers, reader, boss = (unique_name(each) for each in ("evil", "readers", "reader", "boss"))
    proof = scratch / "harm"
    scratch.chmod(0o777)
    database.execute(
        f"CREATE ROLE {evil}; CREATE ROLE {readers}; CREATE ROLE {reader} BYPASSRLS; CREATE ROLE {boss} SUPERUSER",
        f"GRANT {readers}, pg_monitor TO {reader}; CREATE SCHEMA {evil} AUTHORIZATION {evil}",
        f"GRANT pg_execute_server_program TO {boss}, {readers}",
        HARM.format(role=evil, proof=proof),
        f"ALTER FUNCTION {evil}.harm() OWNER TO {evil}",
        # Its owner could, by a role that reaches the host of the source; a host that verifies is not that one.
        f"SET ROLE {evil}; CREATE MATERIALIZED VIEW {evil}.m AS SELECT {evil}.harm()",
        "RESET ROLE; CREATE TABLE t (a int); INSERT INTO t VALUES (1); ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        f"GRANT SELECT ON t TO {readers}; GRANT CREATE ON SCHEMA public TO {reader}",
        # Only by a membership, and only as a role that may bypass row-level security.
        f"SET ROLE {reader}; CREATE MATERIALIZED VIEW mine AS SELECT a, (SELECT count(*) FROM pg_ls_waldir()) FROM t",
        "RESET ROLE; CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()",
        f"ALTER EVENT TRIGGER e OWNER TO {boss}",
    )
    try:
        entry = back_up(database, backup_dir)["backup"]["path"]
        result = verify(database, backup_dir, scratch)
        assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
        assert not proof.exists()
        around = manifest_of(backup_dir, database).source
        assert (boss in around.superusers, reader in around.bypassrls) == (True, True)
        assert evil not in around.superusers
        assert around.members[readers] == [reader]
        # An older manifest has no attributes of roles: then no role has any.
        forge(entry, without_attributes)
        result = verify(database, backup_dir, scratch)
        assert result["verdict"] == "inconclusive"
        # Whichever of the two views comes first.
        assert re.search("ermission denied|row-level security", result["why"]), result["why"]
        script = hand_made(database, scratch.parent / "harm.sql")
        assert verify(database, backup_dir, scratch, backup=str(script))["verdict"] == "inconclusive"
        assert not proof.exists()
    finally:
        database.drop()
        database.server.query(f"DROP ROLE {evil}, {readers}, {reader}, {boss}")


def without_attributes(document: dict[str, Any]) -> None:
    """As manifests were before."""
    for name in ("superusers", "bypassrls", "members"):
        del document["source"][name]


# --- tablespaces, subscriptions and space ---------------------------------------------------------------

SUBSCRIBED = "CREATE SUBSCRIPTION {} CONNECTION 'host=/nonexistent' PUBLICATION p WITH (connect = false)"
LET_GO = ("ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}")


def test_a_script_takes_neither_tablespaces_nor_subscriptions_along(
    new_server: Callable[..., Server], backup_dir: Path, scratch: Path
) -> None:
    server = new_server()
    database = new_database(server)
    server.create_tablespace("fast")
    database.execute("CREATE TABLE t (a int) TABLESPACE fast", SUBSCRIBED.format("s"))
    script = hand_made(database, backup_dir / "a.sql")
    no_space = hand_made(database, backup_dir / "b.sql", "--no-subscriptions")
    back_up(database, backup_dir, format="plain")
    for statement in LET_GO:
        database.execute(statement.format("s"))
    result = verify(database, backup_dir, scratch, verify_in="database")
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    result = verify(database, backup_dir, scratch, backup=str(script), verify_in="database")
    assert (result["verdict"], left(server)) == ("inconclusive", [])
    assert "subscriptions" in result["why"]
    # A dump not taken by this collection names a tablespace that the scratch server lacks: not a fault of the dump.
    result = verify(database, backup_dir, scratch, backup=str(no_space))
    assert result["verdict"] == "inconclusive"
    assert "fast" in result["notes"][0]


def test_a_database_with_a_subscription_is_dropped_and_keeps_no_other_one(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    server = database.server
    script = hand_made(database, backup_dir / "a.sql")
    name, second = "pg_runbook_verify_a", "pg_runbook_verify_b"
    for each in (name, second):
        server.create_database(each)
    Database(server, name).execute(SUBSCRIBED.format('"a ""b"'))
    server.query(f"ALTER DATABASE {second} IS_TEMPLATE true")  # it cannot be dropped
    try:
        assert verify(database, backup_dir, scratch, backup=str(script), verify_in="database")["restored"]
        assert left(server) == [second]
    finally:
        server.query(f"ALTER DATABASE {second} IS_TEMPLATE false")
        server.drop_database(second)


def test_the_disk_of_production_has_to_have_room_for_the_copy(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = back_up(database, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document.update(database_size_bytes=2**60))
    for place in PLACES:
        result = expect_failure(MODULE, params(database, backup_dir, scratch, verify_in=place))
        assert result["error"]["kind"] == "NotEnoughSpace"
        assert left(database.server) == []
    result = verify(database, backup_dir, scratch, verify_in="database", check_space=False)
    assert result["verdict"] == "verified"


# --- locales ----------------------------------------------------------------------------------------------


@pytest.fixture(name="icu_server")
def _icu_server(new_server: Callable[..., Server]) -> Server:
    """A server as `initdb --locale-provider=icu` makes it."""
    server = new_server(settings={"allow_system_table_mods": "on"})
    server.query("CREATE DATABASE made TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    server.query("ALTER DATABASE template0 IS_TEMPLATE false")
    server.query("DROP DATABASE template0")
    server.query("ALTER DATABASE made RENAME TO template0")
    server.query("ALTER DATABASE template0 IS_TEMPLATE true ALLOW_CONNECTIONS false")
    server.query("UPDATE pg_database SET datcollversion = NULL WHERE datname = 'template0'")  # initdb does so as well
    return server


def provider(database: Database) -> str:
    """The locale provider of a database, as the catalog of its server has it."""
    return str(database.query("SELECT datlocprovider FROM pg_database WHERE datname = current_database()")[0][0])


def test_a_database_of_the_operating_systems_locale_stays_one_where_icu_is_the_default(
    icu_server: Server, backup_dir: Path, scratch: Path
) -> None:
    options = "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"
    database = Database(icu_server, "shop")
    icu_server.query(f"CREATE DATABASE shop TEMPLATE template0 {options}")
    database.execute("CREATE TABLE t (a text PRIMARY KEY); INSERT INTO t VALUES ('a'), ('B')")
    verified_backup(database, backup_dir)
    result = verify(database, backup_dir, scratch, verify_in="database")
    assert (result["verdict"], result["notes"]) == ("verified", []), result["why"]
    copy = named(database, stage(database, backup_dir)["stage"]["name"])
    assert provider(copy) == "c"
    # In place of a locale that is not there comes C, and not what the template happens to have.
    entry = next(backup_dir.glob("shop/*Z"))
    forge(entry, lambda document: document["source"].update(collate="xx_XX.utf8"))
    result = verify(database, backup_dir, scratch, verify_in="database")
    assert (result["verdict"], result["differences"]) == ("inconclusive", []), result["why"]


def test_another_refusal_than_that_of_a_locale_is_not_taken_for_one(
    database: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = back_up(database, backup_dir)["backup"]["path"]
    forge(entry, lambda document: document["source"].update(encoding="KLINGON"))
    result = expect_failure(MODULE, params(database, backup_dir, scratch, verify_in="database"))
    assert "KLINGON" in json.dumps(result["error"])


def test_definitions_are_compared_whatever_the_order_of_letters(icu_server: Server) -> None:
    icu_server.query('CREATE ROLE "B"; CREATE ROLE a')
    found = []
    for name, options in (("letters", ""), ("bytes", "LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'")):
        icu_server.query(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        database = Database(icu_server, name)
        database.execute(
            'CREATE TABLE t (a int); GRANT SELECT ON t TO PUBLIC, a, "B"; CREATE POLICY p ON t TO a, "B"',
            'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a, "B"; CREATE TABLE "T" (a int)',
            'CREATE PUBLICATION p FOR TABLE t, "T"',
        )
        found.append(fingerprint(database))
    assert compare(*found) == []
