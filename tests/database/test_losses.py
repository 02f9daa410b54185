"""What pg_dump does not carry, or a login cannot see, is said at the backup and again before a swap."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup import losses
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.sql.content import PINNED_SETTINGS
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_backup, pg_restore, pg_restore_verify
from tests.support.backups import manifest_of, our_server, params
from tests.support.databases import Database, new_database
from tests.support.operations import attempt
from tests.support.processes import until
from tests.support.programs import client_for
from tests.support.replicas import replica_of
from tests.support.servers import Server
from tests.support.verifications import scratch_folder
from tests.support.workspace import give, workspace

# By the check of the finding: what makes the loss, where `{role}` is a role of the test, and what the finding has to say.
KINDS: dict[str, tuple[str, str]] = {
    "rows": (
        (
            "CREATE TABLE own (id serial PRIMARY KEY, x int); ALTER EXTENSION plpgsql ADD TABLE own;"
            "INSERT INTO own SELECT FROM generate_series(1, 5)"
        ),
        r"5 rows of public\.own will be missing after a restore.* ALTER EXTENSION plpgsql DROP TABLE public\.own",
    ),
    "positions": (
        "CREATE SEQUENCE own; ALTER EXTENSION plpgsql ADD SEQUENCE own; SELECT nextval('own'), nextval('own')",
        r"1 sequence to the start: public\.own .*setval\('public\.own', 2, true\)",
    ),
    "member_object": (
        (
            "CREATE TABLE own (x int, y int); ALTER EXTENSION plpgsql ADD TABLE own; CREATE INDEX i ON own (x);"
            "CREATE POLICY p ON own; CREATE STATISTICS s ON x, y FROM own; CREATE RULE r AS ON DELETE TO own DO NOTHING;"
            "CREATE TRIGGER t BEFORE UPDATE ON own FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger(); ALTER TABLE own ADD CHECK (x > 0)"
        ),
        r"constraint own_x_check.*index public\.i .*policy p .*CREATE INDEX i ON public\.own",
    ),
    "member_added": (
        "CREATE TABLE own (x int); ALTER EXTENSION plpgsql ADD TABLE own",
        "table public.own of the extension",
    ),
    "member_owner": (
        "CREATE TABLE own (x int); ALTER EXTENSION plpgsql ADD TABLE own; ALTER TABLE own OWNER TO {role}",
        "1 changed owner.*ALTER TABLE public.own OWNER TO {role};",
    ),
    "extension_version": (
        "SET allow_system_table_mods = on; UPDATE pg_extension SET extversion = '0.9'",
        r"extension plpgsql 0\.9 \(1\.0 here.*CREATE EXTENSION plpgsql VERSION '0\.9'",
    ),
    "comment": (
        (
            "CREATE TABLE p (a int CONSTRAINT c CHECK (a > 0), b int); CREATE TABLE k () INHERITS (p);"
            "COMMENT ON CONSTRAINT c ON k IS 'it''s'; CREATE TABLE q (a int) PARTITION BY LIST (a);"
            "CREATE TABLE q1 PARTITION OF q FOR VALUES IN (1); COMMENT ON TYPE p IS 'rows'; COMMENT ON TYPE _p IS 'arrays';"
            "CREATE VIEW v AS SELECT 1 AS a; COMMENT ON RULE \"_RETURN\" ON v IS 'rule'; CREATE TYPE r AS RANGE (SUBTYPE = int)"
        ),
        r"4 comments .*constraint c on table public\.k.*COMMENT ON CONSTRAINT c ON public\.k IS 'it''s';",
    ),
    "disabled_constraint": (
        "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE k (a int REFERENCES p); ALTER TABLE k DISABLE TRIGGER ALL",
        r"k_a_fkey on public\.k.*ALTER TABLE public\.k DISABLE TRIGGER ALL",
    ),
    "system_relation": ("CREATE TABLE information_schema.own AS SELECT 1 AS a", r"information_schema\.own"),
    "system_object": (
        "CREATE FUNCTION pg_catalog.own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        r"function own\(\).*CREATE OR REPLACE FUNCTION pg_catalog\.own\(\)",
    ),
    "built_in": (
        (
            "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple);"
            "ALTER TEXT SEARCH CONFIGURATION pg_catalog.english ALTER MAPPING FOR asciiword WITH d"
        ),
        "mapping of 1 to public.d in the built-in text search configuration english",
    ),
    "privilege": (
        (
            "REVOKE SELECT ON information_schema.tables FROM PUBLIC; REVOKE USAGE ON LANGUAGE sql FROM PUBLIC;"
            "CREATE TABLE p (a int); GRANT USAGE ON TYPE p TO {role}"
        ),
        r"3 changed privileges.*information_schema\.tables; privileges on the language sql; privileges on the type public\.p",
    ),
    "extension_owner": (
        "SET allow_system_table_mods = on; UPDATE pg_extension SET extowner = '{role}'::regrole",
        r"extension plpgsql of {role}\. .*SET ROLE {role}; CREATE EXTENSION plpgsql;",
    ),
    "security_label": (
        (
            "INSERT INTO pg_shseclabel SELECT oid, tableoid, 'selinux', 'db_t'"
            " FROM pg_database WHERE datname = current_database()"
        ),
        r"security label of selinux for the database.*SECURITY LABEL FOR selinux ON DATABASE \S+ IS 'db_t';",
    ),
    "foreign_rows": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (a int) SERVER s",
        r"1 foreign table .*public\.f",
    ),
    "subscription": (
        "CREATE SUBSCRIPTION own CONNECTION '' PUBLICATION p WITH (connect = false)",
        "1 subscription is left out by a restore: subscription own",
    ),
}
# What only a pg_dump of before 18 leaves out.
OLDER = {
    "member_publication": (
        "CREATE TABLE own (x int); ALTER EXTENSION plpgsql ADD TABLE own; CREATE PUBLICATION b FOR TABLE own",
        r"in the publication b.*ALTER PUBLICATION b ADD TABLE ONLY public\.own",
    ),
}


@pytest.fixture(name="role")
def _role(any_database: Database) -> Iterator[str]:
    """A role that goes with the database."""
    name = f"{any_database.name}_role"
    any_database.psql(f"CREATE ROLE {name}")
    yield name
    any_database.psql("ALTER SUBSCRIPTION own SET (slot_name = NONE)") if subscribed(any_database) else None
    any_database.psql("DROP SUBSCRIPTION IF EXISTS own")
    any_database.psql(f"REASSIGN OWNED BY {name} TO postgres; DROP OWNED BY {name}; DROP ROLE {name}")


def subscribed(database: Database) -> bool:
    """Whether the database has the subscription of the test."""
    return database.query("SELECT count(*) FROM pg_subscription WHERE subname = 'own'") == [(1,)]


def found(database: Database, tool_major: int, **over: Any) -> dict[str, Finding]:
    """The findings on a database, by their check."""
    with our_server(database).connect(database.name, settings=PINNED_SETTINGS) as session:
        return {finding.check.removeprefix("lost_"): finding for finding in losses.find(session, tool_major, **over)}


def make(database: Database, statements: str, role: str) -> None:
    """Run each statement in a transaction of its own, as people do."""
    for statement in statements.format(role=role).split(";"):
        database.psql(statement)


def assert_says(finding: Finding | None, pattern: str) -> None:
    """The finding is there, and says this in its message or its remedy."""
    assert finding is not None
    text = f"{finding.message} {finding.remedy}"
    assert re.search(pattern, text, re.DOTALL), text
    assert finding.severity in ("info", "warning", "critical")


def test_an_ordinary_database_lacks_nothing(zoo: Database, database: Database) -> None:
    assert found(database, database.server.major) == {}
    told = found(zoo, zoo.server.major)
    assert not {check for check, each in told.items() if each.severity == "critical"} - {"subscription"}, told


@pytest.mark.majors
@pytest.mark.parametrize("kind", [*KINDS, *OLDER])
def test_each_kind_of_loss_is_found_on_every_major(any_database: Database, role: str, kind: str) -> None:
    statements, pattern = (KINDS | OLDER)[kind]
    assert kind not in found(any_database, any_database.server.major)
    make(any_database, statements, role)
    assert_says(found(any_database, 17)[kind], pattern.format(role=role) if "{role}" in pattern else pattern)
    assert (kind in found(any_database, 18)) == (kind not in OLDER)


@pytest.mark.majors
@pytest.mark.parametrize("kind", sorted({*KINDS, *OLDER} - {"rows", "positions", "foreign_rows", "extension_version"}))
def test_what_is_called_lost_is_not_in_a_dump(any_database: Database, role: str, kind: str) -> None:
    """The finding is no false alarm: a copy by pg_dump's own means has it no longer."""
    statements, dummy = (KINDS | OLDER)[kind]
    make(any_database, statements, role)
    dumped = any_database.run("pg_dump", f"--dbname={any_database.name}", "--no-subscriptions")
    tool = client_for(any_database.server.major).major
    if kind in OLDER and tool >= 18:
        assert kind not in found(any_database, tool)
        return
    copy = new_database(any_database.server)
    try:
        with contextlib.closing(copy.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(re.sub(r"(?ms)^COPY .*?^\\\.$|^\\(un)?restrict.*?$", "", dumped))
        assert kind in found(any_database, tool)
        assert kind not in found(copy, tool)
    finally:
        copy.drop()


def test_a_sample_of_losses_is_in_the_backup_and_before_the_swap(database: Database, backup_dir: Path) -> None:
    for kind in ("rows", "comment", "system_object"):
        make(database, KINDS[kind][0], "postgres")
    options = params(database, backup_dir)
    rehearsed = attempt(pg_backup, database, check=True, **options)
    taken = attempt(pg_backup, database, **options)
    assert rehearsed["findings"] == taken["findings"]
    assert [each["check"] for each in taken["findings"]] == [
        "lost_rows", "lost_member_object", "lost_member_added", "lost_comment", "lost_system_object",
    ]  # fmt: skip
    assert taken["severity"] == "critical"
    assert taken["msg"].endswith("4 findings show what a restore of it would lack or change.")
    assert rehearsed["msg"].endswith("4 findings show what a restore of it would lack or change.")
    assert json.loads(Path(taken["backup"]["path"], "manifest.json").read_text())["findings"] == taken["findings"]
    assert [each["check"] for each in manifest_of(backup_dir, database).findings] == [
        each["check"] for each in taken["findings"]
    ]
    again = attempt(pg_backup, database, **options, max_age="1h")
    assert (again["changed"], again["findings"]) == (False, taken["findings"])
    database.psql("DROP VIEW v; CREATE TABLE later (a int); COMMENT ON TYPE later IS 'x'")
    outlook = attempt(
        pg_restore, database, check=True, **{**options, "scratch_dir": str(workspace())},
        backup=taken["backup"]["id"], accept_unproven=True,
    )  # fmt: skip
    told = [each["message"] for each in outlook["findings"] if each["check"] == "lost_comment"]
    assert [message.rsplit(". ", 1)[1] for message in told] == [
        "This was the state when the backup was taken.", "This is the state of production now.",
    ]  # fmt: skip
    rows = [each for each in outlook["findings"] if each["check"] == "lost_rows"]
    assert [(each["severity"], each["value"]) for each in rows] == [("critical", 5)]


def test_rows_that_the_extension_brings_itself_are_no_loss(database: Database) -> None:
    """What a script inserted has the transaction of the extension's members: it comes back with the extension."""
    database.psql(
        "BEGIN; CREATE TABLE a (x int); CREATE TABLE b (x int); INSERT INTO a VALUES (1); CREATE INDEX i ON a (x);"
        "ALTER EXTENSION plpgsql ADD TABLE a; ALTER EXTENSION plpgsql ADD TABLE b; COMMIT"
    )
    assert not found(database, 15).keys() & {"rows", "member_object", "member_added"}
    database.psql("INSERT INTO a VALUES (2)")
    assert found(database, 15)["rows"].value == 1


def test_a_changed_row_of_a_configuration_table_that_its_condition_leaves_out(database: Database) -> None:
    database.psql(
        "BEGIN; CREATE TABLE a (x int, own bool); CREATE TABLE b (); INSERT INTO a VALUES (1, false), (2, false);"
        "ALTER EXTENSION plpgsql ADD TABLE a; ALTER EXTENSION plpgsql ADD TABLE b;"
        "SET LOCAL allow_system_table_mods = on;"
        "UPDATE pg_extension SET extconfig = ARRAY['a'::regclass::oid], extcondition = ARRAY['WHERE own']; COMMIT"
    )
    database.psql("INSERT INTO a VALUES (3, true)")
    assert "rows" not in found(database, 15)
    database.psql("UPDATE a SET x = 9 WHERE x = 1")
    assert_says(
        found(database, 15)["rows"], r"^1 row of public\.a .* leave out rows that fail the condition 'WHERE own'"
    )


def test_an_extension_that_pg_upgrade_has_brought_is_said_to_be_unknown(database: Database) -> None:
    """pg_upgrade adds each member in a transaction of its own, so their transactions show nothing."""
    make(database, "CREATE TABLE own (x int); ALTER EXTENSION plpgsql ADD TABLE own; CREATE INDEX i ON own (x)", "")
    members = "refclassid = 'pg_extension'::regclass AND deptype = 'e'"
    for classid, objid in database.query(f"SELECT classid::text, objid::text FROM pg_depend WHERE {members}"):
        database.psql(
            f"SET allow_system_table_mods = on; UPDATE pg_depend SET deptype = 'e' WHERE {members}"
            f" AND (classid, objid) = ({classid}, {objid})"
        )
    findings = found(database, database.server.major)
    assert_says(findings["member_unknown"], "1 extension comes from pg_upgrade: extension plpgsql")
    assert "member_object" not in findings


def test_a_standby_has_no_rows_of_unlogged_tables(new_server: Callable[..., Server]) -> None:
    primary = new_server()
    database = new_database(primary)
    database.execute("CREATE UNLOGGED TABLE u AS SELECT 1 AS a")
    assert "unlogged_rows" not in found(database, primary.major)
    with replica_of(primary) as standby:
        there = Database(standby, database.name)
        assert until(lambda: there.query("SELECT pg_is_in_recovery()") == [(True,)], 30)
        finding = found(there, primary.major)["unlogged_rows"]
        assert_says(
            finding,
            r"1 unlogged table .*public\.u\. A standby does not have this content.*Take backups from the primary",
        )
        assert finding.severity == "critical"


def test_an_invalid_index_and_its_comment(database: Database) -> None:
    database.psql("CREATE TABLE t AS SELECT 1 AS x FROM generate_series(1, 2)")
    with contextlib.suppress(Exception):
        database.psql("CREATE UNIQUE INDEX CONCURRENTLY i ON t (x)")
    assert_says(found(database, 15)["invalid_index"], r"public\.i on public\.t.*CREATE UNIQUE INDEX i ON public\.t")


def test_prepared_transactions_are_not_in_a_backup(new_server: Any) -> None:
    with new_server(settings={"max_prepared_transactions": 2}) as server:
        database = new_database(server)
        database.psql("CREATE TABLE t (x int)")
        database.psql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'half'")
        assert_says(found(database, 15)["prepared_transaction"], "'half' of postgres.*COMMIT PREPARED 'half';")
        database.psql("ROLLBACK PREPARED 'half'")


def test_large_objects_that_the_login_cannot_read_are_said_before_the_dump(
    database: Database, backup_dir: Path
) -> None:
    reader = f"{database.name}_reader"
    database.psql(f"CREATE ROLE {reader} LOGIN PASSWORD 'x' BYPASSRLS; GRANT pg_read_all_data TO {reader}")
    database.psql("SELECT lo_from_bytea(0, 'mine'), lo_from_bytea(0, 'other')")
    login = {"login_user": reader, "login_password": "x"}
    try:
        options = {**params(database, backup_dir), **login}
        with pytest.raises(QueryFailed) as refused:
            attempt(pg_backup, database, check=True, **options)
        assert "2 large objects" in refused.value.why
        assert f'ALTER ROLE "{reader}" SET lo_compat_privileges = on' in refused.value.remedy
        database.psql(f"ALTER ROLE {reader} SET lo_compat_privileges = on")
        assert attempt(pg_backup, database, **options)["backup"]["fingerprint"]["large_objects"] == 2
        database.psql(f"ALTER ROLE {reader} RESET lo_compat_privileges")
        [[first], [second]] = database.query("SELECT oid FROM pg_largeobject_metadata ORDER BY 1")
        database.psql(
            f"GRANT SELECT ON LARGE OBJECT {first} TO {reader}; GRANT SELECT ON LARGE OBJECT {second} TO PUBLIC"
        )
        attempt(pg_backup, database, check=True, **options)
    finally:
        database.psql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def test_user_mappings_that_hide_their_options(database: Database) -> None:
    reader = f"{database.name}_reader"
    database.psql(
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        f"CREATE ROLE {reader} LOGIN PASSWORD 'x';"
        "CREATE USER MAPPING FOR postgres SERVER s OPTIONS (password 'dummy')"
    )
    server = our_server(database)
    login = type(server.login)(host=server.login.host, port=server.login.port, user=reader, password="x")
    try:
        assert "user_mapping" not in found(database, 15)
        with type(server)(server.target, login).connect(database.name, settings=PINNED_SETTINGS) as session:
            told = {finding.check: finding for finding in losses.find(session, 15)}
        assert_says(told["lost_user_mapping"], "postgres on s.*ALTER USER MAPPING FOR postgres SERVER s OPTIONS")
        assert told["lost_user_mapping"].severity == "critical"
    finally:
        database.psql(f"DROP OWNED BY {reader}; DROP ROLE {reader}")


def test_tables_in_other_tablespaces_matter_to_a_script_only(database: Database) -> None:
    folder = database.server.folder / f"space-{database.name}"
    folder.mkdir()
    give(folder)
    space = f"space_{database.name}"
    database.psql(f"CREATE TABLESPACE {space} LOCATION '{folder}'")
    database.psql(f"CREATE TABLE t (x int) TABLESPACE {space}")
    try:
        assert "tablespace" not in found(database, 15)
        assert_says(found(database, 15, plain=True)["tablespace"], f"{space}: 1 table.*SET TABLESPACE {space};")
    finally:
        database.psql("DROP TABLE t")
        database.psql(f"DROP TABLESPACE {space}")


@pytest.mark.majors
def test_what_is_lost_does_not_make_a_verification_fail(any_database: Database, role: str, backup_dir: Path) -> None:
    """It was said at the backup, and a copy cannot have it."""
    for statements in (
        KINDS["comment"][0],
        KINDS["system_object"][0],
        KINDS["privilege"][0].replace("TABLE p", "TABLE pp"),
    ):
        make(any_database, statements.replace("ON TYPE p TO", "ON TYPE pp TO"), role)
    make(any_database, "CREATE TABLE own (x int, y int); ALTER EXTENSION plpgsql ADD TABLE own", role)
    make(
        any_database,
        "CREATE INDEX ON own (x); CREATE STATISTICS s ON x, y FROM own; INSERT INTO own VALUES (1, 2)",
        role,
    )
    make(any_database, "CREATE PUBLICATION b FOR TABLE own", role)
    options = params(any_database, backup_dir)
    taken = attempt(pg_backup, any_database, **options)
    assert taken["severity"] == "critical"
    with scratch_folder() as scratch:
        proof = attempt(pg_restore_verify, any_database, **{**options, "scratch_dir": str(scratch)})
    assert proof["verdict"] == "verified", (proof["why"], proof["differences"])
