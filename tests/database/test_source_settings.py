"""A copy lives where its source lives: settings, owner, name, libraries and tablespaces decide what a load computes."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import SCRATCH, find
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target import work_directory
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import Space
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local_files import LocalFiles
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify import scratch_instance
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify.scratch_instance import Preload
from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_backup,
    pg_database_discard,
    pg_database_swap,
    pg_restore,
    pg_restore_verify,
)
from tests.support.backups import manifest_of
from tests.support.backups import params as backup_params
from tests.support.databases import Database, new_database, unique_name
from tests.support.extended import MAJOR, installation
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.programs import Installation, installations
from tests.support.restores import remove
from tests.support.servers import Server
from tests.support.verifications import forge, scratch_folder
from tests.support.workspace import workspace


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = new_database(server, unique_name("prod"))
    yield database
    remove(database)


def back_up(database: Database, backup_dir: Path, **over: Any) -> str:
    """Take a backup; returns its id."""
    return str(attempt(pg_backup, database, **backup_params(database, backup_dir, **over))["backup"]["id"])


def verify(database: Database, backup_dir: Path, **over: Any) -> Result:
    """Verify the newest backup."""
    with scratch_folder() as scratch:
        options = {**backup_params(database, backup_dir), "scratch_dir": str(scratch), **over}
        return attempt(pg_restore_verify, database, **options)


def restore(database: Database, backup_dir: Path, id_: str, **over: Any) -> Result:
    """Restore a backup beside production."""
    options = {**backup_params(database, backup_dir), "scratch_dir": str(workspace()), "backup": id_, **over}
    return attempt(pg_restore, database, **options)


def swap(database: Database, **over: Any) -> Result:
    """Swap at once."""
    return attempt(pg_database_swap, database, grace="0", **over)


def refusal(database: Database, backup_dir: Path, id_: str, **over: Any) -> str:
    """The text by which a restore is refused."""
    with pytest.raises(RunbookError) as caught:
        restore(database, backup_dir, id_, **over)
    return caught.value.message


# --- settings -------------------------------------------------------------------------------------------

SETTINGS = {
    "timezone": "Asia/Tokyo",
    "datestyle": "German, DMY",
    "intervalstyle": "iso_8601",
    "bytea_output": "escape",
    "default_text_search_config": "pg_catalog.german",
    "app.in_file": "it's one",
    "array_nulls": "off",
}
SEEN = ("TimeZone", "DateStyle", "IntervalStyle", "bytea_output", "default_text_search_config")
CUSTOM = ("app.in_file", "app.of_all", "app.of_role", "app.of_database", "app.of_both")


def test_every_setting_that_content_can_depend_on_is_the_sources(
    new_server: Callable[..., Server], backup_dir: Path
) -> None:
    database = new_database(new_server(settings=SETTINGS), unique_name("prod"))
    database.execute(
        "ALTER ROLE ALL SET app.of_all = 'all'",
        "ALTER ROLE postgres SET app.of_role = 'role'",
        f"ALTER ROLE postgres IN DATABASE {database.name} SET app.of_both = 'both'",
        f"ALTER DATABASE {database.name} SET app.of_database = 'database'",
        # These would end a load, or change what it does.
        f"ALTER DATABASE {database.name} SET statement_timeout = '30s'",
        f"ALTER DATABASE {database.name} SET default_transaction_read_only = on",
        f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'serializable'",
        f"ALTER DATABASE {database.name} SET session_replication_role = 'replica'",
        "CREATE ROLE weak",
    )
    values = [(name, database.psql(f"SHOW {name}").strip()) for name in (*SEEN, *CUSTOM)]  # psycopg2 sets some itself
    assert ("app.in_file", "it's one") in values
    held = " AND ".join(
        f"current_setting('{name}') = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in values
    )
    row = ", ".join(f"current_setting('{name}') AS v{number}" for number, (name, dummy) in enumerate(values))
    database.run(
        "psql", "-Xq", "-v", "ON_ERROR_STOP=1",
        *("-c", "SET statement_timeout = 0; SET default_transaction_read_only = off"),
        *("-c", f"CREATE TABLE t (a int CHECK ({held})); INSERT INTO t VALUES (1)"),
        *("-c", "CREATE TABLE arrays AS SELECT ARRAY['a', NULL] AS v"),
        *("-c", f"CREATE MATERIALIZED VIEW here AS SELECT {row}"),
    )  # fmt: skip
    before = database.query("SELECT * FROM here")
    id_ = back_up(database, backup_dir)
    for place in ("instance", "database"):
        result = verify(database, backup_dir, verify_in=place)
        assert result["verdict"] == "verified", (place, result["why"], result["notes"])
    database.server.query(f"ALTER DATABASE {database.name} SET role = 'weak'")  # of production by now
    restore(database, backup_dir, id_)
    swap(database)
    assert database.query("SELECT current_user::text, current_setting('statement_timeout')") == [("weak", "30s")]
    database.server.query(f"ALTER DATABASE {database.name} RESET role")
    assert database.query("SELECT * FROM here") == before
    found = manifest_of(backup_dir, database).source
    assert (found.server_settings["app.in_file"], found.server_settings["TimeZone"]) == ("it's one", "Asia/Tokyo")


def test_a_setting_of_the_owner_is_named_when_a_load_fails(prod: Database, backup_dir: Path) -> None:
    role, other = f"{prod.name}_app", f"{prod.name}_other"
    prod.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'dummy'",
        f"CREATE ROLE {other}",
        f"ALTER ROLE {role} SET timezone = 'Asia/Tokyo'",
        f"ALTER ROLE {other} SET timezone = 'Asia/Seoul'",
        f"CREATE TABLE t (at timestamptz CHECK (at::time = '09:00')); ALTER TABLE t OWNER TO {role}",
    )
    try:
        with prod.connect(user=role, password="dummy") as session, session.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES ('2024-07-01 00:00+00')")
        back_up(prod, backup_dir)
        result = verify(prod, backup_dir)
        assert result["verdict"] == "inconclusive", result["why"]
        assert "TimeZone = Asia/Tokyo" in result["why"]
        assert "Seoul" not in result["why"]
        prod.execute(f"ALTER DATABASE {prod.name} SET timezone = 'Asia/Tokyo'")  # the way out that it names
        back_up(prod, backup_dir)
        assert verify(prod, backup_dir)["verdict"] == "verified"
    finally:
        remove(prod)
        prod.server.query(f"DROP ROLE {role}, {other}")


def test_libraries_that_are_not_installed_keep_no_session_out(prod: Database, backup_dir: Path) -> None:
    prod.execute("CREATE TABLE t AS SELECT 1 AS a", "CREATE MATERIALIZED VIEW sums AS SELECT sum(a) FROM t")
    id_ = back_up(prod, backup_dir)
    [entry] = backup_dir.glob("*/*Z")
    library = ["session_preload_libraries=no_such_library"]
    forge(entry, lambda document: document["source"].update(settings=library, role_settings={"postgres": library}))
    for place in ("instance", "database"):
        result = verify(prod, backup_dir, verify_in=place)
        assert result["verdict"] == "verified", result["why"]
    prod.drop()
    result = restore(prod, backup_dir, id_)
    assert "no_such_library" in " ".join(result["preflight"]["notes"])
    swap(prod)
    assert prod.query("SELECT a FROM t") == [(1,)]


# --- a locale that is not everywhere --------------------------------------------------------------------


@pytest.fixture(name="german")
def _german(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a German locale, which servers find by LOCPATH."""
    folder = Path(tempfile.mkdtemp(prefix="locale-", dir=workspace()))
    folder.chmod(0o755)
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.utf8"], check=True)
    monkeypatch.setenv("LOCPATH", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_money_keeps_the_locale_of_its_server(
    german: Path, monkeypatch: pytest.MonkeyPatch, new_server: Callable[..., Server], backup_dir: Path
) -> None:
    server = new_server(settings={"lc_monetary": "de_DE.UTF-8"})
    database, plain = (new_database(server, unique_name("prod")) for dummy in range(2))
    database.execute(
        "CREATE TABLE prices (id int PRIMARY KEY, p money)",
        "INSERT INTO prices VALUES (1, '12,34 €'), (2, '1.234,50 €'), (3, '-0,99 €'), (4, null)",
    )
    plain.execute("CREATE TABLE t AS SELECT 1 AS a", "CREATE MATERIALIZED VIEW sums AS SELECT sum(a) FROM t")
    ids = [back_up(each, backup_dir) for each in (database, plain)]
    assert verify(database, backup_dir)["verdict"] == "verified"
    monkeypatch.delenv("LOCPATH")  # as on another host
    result = verify(database, backup_dir)
    assert result["verdict"] == "inconclusive", result["why"]
    told = " ".join([result["why"], *result["notes"]])
    assert "lc_monetary = de_DE.UTF-8" in told
    assert "verify_in: database" in told
    assert verify(plain, backup_dir)["verdict"] == "verified"  # nothing in it depends on the locale
    assert verify(database, backup_dir, verify_in="database")["verdict"] == "verified"
    restore(database, backup_dir, ids[0])
    swap(database)
    assert database.query("SELECT p::numeric::text FROM prices ORDER BY id") == [
        ("12.34",), ("1234.50",), ("-0.99",), (None,),
    ]  # fmt: skip
    assert german.exists()


# --- the name -------------------------------------------------------------------------------------------


def test_a_check_of_the_databases_name_holds_in_its_namesake(prod: Database, backup_dir: Path) -> None:
    prod.execute(
        f"CREATE TABLE t (a int CHECK (current_database() = '{prod.name}')); INSERT INTO t VALUES (1)",
        "CREATE MATERIALIZED VIEW name AS SELECT current_database() AS name",
    )
    id_ = back_up(prod, backup_dir)
    result = verify(prod, backup_dir)
    assert result["verdict"] == "verified", result["why"]
    result = verify(prod, backup_dir, verify_in="database")
    assert result["verdict"] == "inconclusive", result["why"]
    assert "use the name of the database" in result["why"]
    assert "verify_in: instance" in result["why"]
    assert "use the name of the database" in refusal(prod, backup_dir, id_)


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_computed_from_the_name_never_gets_into_production_unsaid(
    prod: Database, backup_dir: Path, deep: bool
) -> None:
    prod.execute(
        "CREATE FUNCTION mine() RETURNS text LANGUAGE plpgsql STABLE AS 'BEGIN RETURN current_database(); END'",
        "CREATE VIEW below AS SELECT mine() AS name",
        f"CREATE MATERIALIZED VIEW label AS SELECT {'name FROM below' if deep else 'current_catalog AS name'}",
    )
    id_ = back_up(prod, backup_dir)
    assert verify(prod, backup_dir)["verdict"] == "verified"
    result = verify(prod, backup_dir, verify_in="database")
    assert (result["verdict"], "public.label is computed from the database's name" in result["why"]) == (
        "inconclusive",
        True,
    ), result["why"]
    assert "public.label is computed from the database's name" in refusal(prod, backup_dir, id_)
    restore(prod, backup_dir, id_, accept_unproven=True)


def test_a_name_that_only_a_procedure_of_the_operator_asks_for_is_no_obstacle(prod: Database, backup_dir: Path) -> None:
    prod.execute(
        "CREATE FUNCTION tool() RETURNS text LANGUAGE sql AS 'SELECT current_database()::text'",
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE MATERIALIZED VIEW sums AS SELECT sum(a) FROM t",
    )
    id_ = back_up(prod, backup_dir)
    assert verify(prod, backup_dir, verify_in="database")["verdict"] == "verified"
    restore(prod, backup_dir, id_)


@pytest.mark.parametrize("name", ["postgres", "template1"])
def test_a_backup_of_a_database_that_initdb_makes_is_verified(
    new_server: Callable[..., Server], backup_dir: Path, name: str
) -> None:
    database = Database(new_server(), name)
    database.execute("CREATE TABLE t AS SELECT current_database() AS name")
    back_up(database, backup_dir)
    result = verify(database, backup_dir)
    assert result["verdict"] == "verified", result["why"]


@pytest.mark.parametrize("place", ["instance", "database"])
def test_the_copy_gives_its_owner_the_privileges_of_pg_database_owner(
    server: Server, backup_dir: Path, place: str
) -> None:
    name = unique_name("owner")
    database = new_database(server, unique_name("prod"))
    database.run(
        "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c",
        f"""CREATE ROLE {name}; ALTER DATABASE {database.name} OWNER TO {name}; REVOKE ALL ON SCHEMA public FROM public;
        SET ROLE {name};
        CREATE TABLE public.t AS SELECT 1 AS a;
        CREATE FUNCTION public.f() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(a) FROM public.t); END';
        CREATE MATERIALIZED VIEW public.sums AS SELECT public.f()""",
    )  # fmt: skip
    try:
        back_up(database, backup_dir)
        result = verify(database, backup_dir, verify_in=place)
        assert result["verdict"] == "verified", result["why"]
        assert not any(each.startswith("pg_runbook_verify_") for each in server.databases())
    finally:
        remove(database)
        server.query(f"DROP ROLE {name}")


# --- libraries ------------------------------------------------------------------------------------------


def test_no_job_of_the_source_runs_in_a_scratch_instance() -> None:
    programs = find(
        LocalTarget(), MAJOR, bin_dir=str(installation("cases-cron", "cron").bin_dir), needed=SCRATCH, purpose=""
    )
    preload = Preload(["pg_cron", "no_such_library", "pg_stat_statements"], {"cron.database_name": "shop"})
    with (
        scratch_folder() as folder,
        work_directory.work_directory(LocalTarget(), str(folder)) as home,
        scratch_instance.instance(LocalTarget(), programs, home, superuser="boss", jobs=1, preload=preload) as made,
        made[0].connect("postgres") as session,
    ):
        assert session.value("SHOW shared_preload_libraries") == '"pg_cron","pg_stat_statements"'
        assert session.value("SHOW cron.database_name") == "shop"
        [lack] = made[1]
        assert "no_such_library" in lack
        assert session.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'cron'") == 0
        assert "too many background workers" in Path(home, "log").read_text()  # the one of pg_cron asked to be started


def test_what_starts_nothing_leaves_queries_their_workers() -> None:
    assert "max_worker_processes" not in Preload(["pg_stat_statements", "pgaudit"]).as_settings()
    assert Preload(["pg_stat_statements", "citus"]).as_settings()["max_worker_processes"] == "0"
    assert Preload([], {"a.b": "c"}).as_settings() == {}
    assert "a.b" not in Preload(["x"], {"a.b": "/var/log/production"}).as_settings()
    assert Preload(["x", "y"]).without("FATAL: about neither") == Preload()


# --- event triggers -------------------------------------------------------------------------------------

AUDITED = """
CREATE TABLE ddl_log (tag text);
CREATE TABLE t (id int PRIMARY KEY);
INSERT INTO t VALUES (1);
CREATE MATERIALIZED VIEW sums AS SELECT sum(id) FROM t;
CREATE MATERIALIZED VIEW again AS SELECT * FROM sums;
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.ddl_log VALUES (tg_tag); END$$;
CREATE EVENT TRIGGER log_start ON ddl_command_start EXECUTE FUNCTION log_ddl();
CREATE EVENT TRIGGER log_end ON ddl_command_end EXECUTE FUNCTION log_ddl();
COMMENT ON EVENT TRIGGER log_end IS 'after each command'
"""
ALWAYS = "ALTER EVENT TRIGGER log_end ENABLE ALWAYS"
AT_LOGIN = """
CREATE FUNCTION log_login() RETURNS event_trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO public.ddl_log VALUES ('login'); END$$;
CREATE EVENT TRIGGER log_login ON login EXECUTE FUNCTION log_login();
ALTER EVENT TRIGGER log_login ENABLE ALWAYS
"""


def watched_database(server: Server, *texts: str) -> Database:
    """A database whose event triggers write into a table."""
    database = new_database(server, unique_name("prod"))
    for text in texts:
        database.run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c", text)
    return database


def hold_event_triggers(server: Server, backup_dir: Path, **over: Any) -> None:
    """Verify and restore a database whose event triggers would leave a row for each time they fire."""
    # Before 17, psql would have one that fires always fire for what a script computes after it.
    always = server.major >= 17 or over.get("format") != "plain"
    database = watched_database(server, AUDITED, *([ALWAYS] if always else []), *([AT_LOGIN] * (server.major >= 17)))
    try:
        id_ = back_up(database, backup_dir, **over)
        for place in ("instance", "database"):
            result = verify(database, backup_dir, verify_in=place)
            assert result["verdict"] == "verified", (place, result["why"], result["differences"])
        recorded = manifest_of(backup_dir, database).fingerprint
        assert recorded is not None
        restored = restore(database, backup_dir, id_, smoke_queries=[{"query": "SELECT 1", "expect": "1"}])
        assert restored["stage"]["verdict"] == "verified"
        made = restored["stage"]["name"]
        [(rows,)] = server.query(
            "SELECT count(*) - (SELECT count(*) FROM pg_event_trigger WHERE evtevent = 'login') FROM ddl_log", db=made
        )  # this very session is the only one that was written down
        assert rows == recorded.tables["public.ddl_log"].rows
    finally:
        remove(database)


def test_event_triggers_do_not_fire_for_a_load(server: Server, backup_dir: Path) -> None:
    hold_event_triggers(server, backup_dir)


@pytest.mark.majors
@pytest.mark.parametrize("programs", [pytest.param(each, id=f"pg{each.major}") for each in installations()])
@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_event_triggers_do_not_fire_for_a_load_on_any_major(
    programs: Installation, servers: Callable[[Installation], Server], backup_dir: Path, format_: str
) -> None:
    hold_event_triggers(servers(programs), backup_dir, format=format_)


# --- tablespaces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_a_database_stays_on_its_disks(server: Server, backup_dir: Path, format_: str) -> None:
    fast, slow = unique_name("fast"), unique_name("slow")
    for name in (fast, slow):
        server.create_tablespace(name)
    database = Database(server, unique_name("prod"))
    try:
        server.query(f"CREATE DATABASE {database.name} TEMPLATE template0 TABLESPACE {fast}")
        database.execute(
            "CREATE TABLE t (id int PRIMARY KEY)",
            f"CREATE TABLE old (id int) TABLESPACE {slow}",
            f"CREATE INDEX old_id ON old (id) TABLESPACE {slow}",
        )
        before = where(database)
        assert before == {"": fast, "old": slow, "old_id": slow}
        id_ = back_up(database, backup_dir, format=format_)
        assert verify(database, backup_dir)["verdict"] == "verified"
        result = restore(database, backup_dir, id_)
        carried = format_ == "directory"
        assert any(slow in finding["subject"] for finding in result["findings"]) is not carried
        swap(database)
        assert where(database) == (before if carried else {"": fast})
        remove(database)  # lost
        restore(database, backup_dir, id_)
        swap(database)
        assert where(database)[""] == fast
        remove(database)
        for name in (fast, slow):
            server.query(f"DROP TABLESPACE {name}")
        result = restore(database, backup_dir, id_)
        missing = [each["subject"] for each in result["findings"] if "has no tablespace" in each["message"]]
        assert sorted(missing) == sorted([fast, *([slow] if carried else [])])
        swap(database)
        assert where(database) == {"": "pg_default"}
    finally:
        remove(database)


def where(database: Database) -> dict[str, str]:
    """The tablespaces of a database (by the empty name) and of relations that lie elsewhere."""
    return dict(
        database.query(
            "SELECT '', t.spcname::text FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace"
            " WHERE d.datname = current_database() UNION ALL SELECT c.relname::text, t.spcname::text"
            " FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE t.spcname <> %s",
            "pg_global",
        )
    )


@pytest.mark.parametrize("disk", ["tablespace", "WAL"])
def test_both_disks_have_to_have_room(
    server: Server, backup_dir: Path, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    name = unique_name("fast")
    folder = server.create_tablespace(name)
    database = Database(server, unique_name("prod"))
    try:
        server.query(f"CREATE DATABASE {database.name} TEMPLATE template0 TABLESPACE {name}")
        id_ = back_up(database, backup_dir)
        whole = LocalFiles.space
        cramped = folder if disk == "tablespace" else server.data_dir

        def space(self: LocalFiles, path: str) -> Space:
            found = whole(self, path)
            return replace(found, free_bytes=1_000_000) if path == str(cramped) else found

        monkeypatch.setattr(LocalFiles, "space", space)
        told = refusal(database, backup_dir, id_)
        assert "not enough space" in told
        assert str(cramped) in told
        restore(database, backup_dir, id_, check_space=False)
    finally:
        remove(database)


# --- templates ------------------------------------------------------------------------------------------


def test_a_template_stays_one_and_what_it_replaces_can_be_dropped(prod: Database, backup_dir: Path) -> None:
    prod.execute("CREATE TABLE t AS SELECT 1 AS a", f"ALTER DATABASE {prod.name} IS_TEMPLATE true")
    id_ = back_up(prod, backup_dir)
    restore(prod, backup_dir, id_)
    replaced = swap(prod)["replaced"]
    assert templates(prod) == {prod.name: True, replaced: False}
    back = swap(prod, replacement="replaced")["replaced"]
    assert templates(prod) == {prod.name: True, back: False}
    prod.server.query(f'ALTER DATABASE "{back}" IS_TEMPLATE true')  # by hand
    assert attempt(pg_database_discard, prod, due_only=False)["dropped"] == [back]
    prod.server.query(f"ALTER DATABASE {prod.name} IS_TEMPLATE false")
    prod.drop()
    restore(prod, backup_dir, id_)
    swap(prod)
    assert templates(prod) == {prod.name: True}
    prod.server.query(f"ALTER DATABASE {prod.name} IS_TEMPLATE false")


def templates(database: Database) -> dict[str, bool]:
    """Whether a database, and those that are named after it, are templates."""
    return dict(
        database.query("SELECT datname::text, datistemplate FROM pg_database WHERE datname ~ %s", f"^{database.name}")
    )


def test_one_that_cannot_be_dropped_keeps_no_other(prod: Database, backup_dir: Path) -> None:
    prod.execute("CREATE TABLE t AS SELECT 1 AS a")
    id_ = back_up(prod, backup_dir)
    names = []
    for dummy in range(2):
        restore(prod, backup_dir, id_, force=True)
        names.append(swap(prod)["replaced"])
    kept, gone = names
    slot = unique_name("slot")
    try:
        if prod.query("SHOW wal_level") != [("logical",)]:
            held_by_subscription(prod, kept, slot)
        result = attempt(pg_database_discard, prod, due_only=False)
        assert (result["dropped"], kept in result["failure"]) == ([gone], True), result
        assert "subscription" in result["failure"]
    finally:
        Database(prod.server, kept).execute(
            f"ALTER SUBSCRIPTION {slot} DISABLE",
            f"ALTER SUBSCRIPTION {slot} SET (slot_name = NONE)",
            f"DROP SUBSCRIPTION {slot}",
        )
    assert attempt(pg_database_discard, prod, due_only=False)["dropped"] == [kept]


def held_by_subscription(prod: Database, name: str, subscription: str) -> None:
    """Give a database a subscription, which keeps it from being dropped."""
    Database(prod.server, name).execute(
        f"CREATE SUBSCRIPTION {subscription} CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false)"
    )
