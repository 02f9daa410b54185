"""Tables on which no query can be planned are read by COPY, as pg_dump reads them; what cannot be read is said."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import Fingerprint, compare
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from tests.support.backups import our_server
from tests.support.databases import Database

# An immutable function, and what it becomes: it finds another one by the search_path, so that with an empty one no query on
# a table with such an index is planned. (Since 17, CREATE INDEX would notice.)
HARMLESS = "CREATE FUNCTION by_path(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'"
BY_PATH = """
CREATE FUNCTION inner_one(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
CREATE OR REPLACE FUNCTION by_path(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT inner_one($1) * 2';
"""
KINDS = {
    "an index on an expression": "CREATE INDEX ON t (by_path(x))",
    "a unique index on one": "CREATE UNIQUE INDEX ON t (by_path(x))",
    "a partial index": "CREATE INDEX ON t (x) WHERE by_path(x) > 0",
    "statistics on an expression": "CREATE STATISTICS s ON (by_path(x)) FROM t",
}


def taken(database: Database, mode: str = "content", copied: list[str] | None = None) -> Fingerprint:
    """The fingerprint, of a source or (with `copied`) of a copy."""
    server: OurServer = our_server(database)
    return capture.take(server, database.name, mode=mode, workers=2, copied=copied)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_no_query_reads_is_read_by_copy(database: Database, kind: str) -> None:
    database.psql(HARMLESS)
    database.psql(
        'CREATE TABLE t (x int, "to" text, g int GENERATED ALWAYS AS (x * 2) STORED);'
        "INSERT INTO t VALUES (1, E'a\\tb\\nc\\\\'), (2, NULL), (3, '\\N');"
        "CREATE TABLE other AS SELECT 7 AS n"
    )
    database.psql(f"{KINDS[kind]}; {BY_PATH}")
    source = taken(database)
    assert (source.copied, source.unread_tables) == (["public.t"], {})
    assert (source.tables["public.t"].rows, source.tables["public.other"].rows) == (3, 1)
    assert compare(source, taken(database, copied=source.copied)) == []
    assert taken(database, "counts").tables["public.t"].rows == 3
    database.psql("UPDATE t SET \"to\" = '' WHERE x = 2")
    [changed] = compare(source, taken(database, copied=source.copied))
    assert (changed.kind, changed.subject) == ("content of table", "public.t")


def test_a_copy_that_lacks_the_index_is_read_as_its_source_was(database: Database) -> None:
    database.psql(HARMLESS)
    database.psql("CREATE TABLE t AS SELECT 1 AS x; CREATE INDEX i ON t (by_path(x));" + BY_PATH)
    source = taken(database)
    database.psql("DROP INDEX i")
    assert [str(each) for each in compare(source, taken(database, copied=source.copied))] == [
        "object index public.i is missing"
    ]


def test_a_copy_that_cannot_be_read_as_its_source_was_is_unread_and_counted(database: Database) -> None:
    database.psql(HARMLESS)
    database.psql("CREATE TABLE t AS SELECT 1 AS x")
    source = taken(database)
    database.psql("CREATE INDEX i ON t (by_path(x)); UPDATE t SET x = 2;" + BY_PATH)
    copy = taken(database, copied=source.copied)
    assert "inner_one" in copy.unread_tables["public.t"]
    assert copy.tables["public.t"].rows == 1
    assert {each.kind for each in compare(source, copy)} == {"object", "definition of"}
    database.psql("INSERT INTO t VALUES (3)")
    assert "rows of table" in [each.kind for each in compare(source, taken(database, copied=source.copied))]


def test_partitions_that_count_as_a_whole_are_read_in_one_way(database: Database) -> None:
    database.psql(HARMLESS)
    database.psql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE p (m mood, x int) PARTITION BY HASH (m)")
    for number in range(2):
        database.psql(f"CREATE TABLE p{number} PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER {number})")
    database.psql("INSERT INTO p VALUES ('sad', 1), ('ok', 2); CREATE INDEX ON p0 (by_path(x));" + BY_PATH)
    source = taken(database)
    assert source.copied == ["public.p"]
    assert source.tables["public.p"].rows == 2
    assert compare(source, taken(database, copied=source.copied)) == []


def test_what_neither_reads_is_unread_and_all_else_is_compared(database: Database) -> None:
    """Damaged catalogs: whether there can be a backup at all is for pg_dump to say."""
    database.psql(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t AS SELECT 'sad'::mood AS m;"
        "CREATE TABLE other AS SELECT 1 AS n"
    )
    database.psql("SET allow_system_table_mods = on; DELETE FROM pg_enum WHERE enumlabel = 'sad'")
    source = taken(database)
    assert source.unread_tables.keys() == {"public.t"}
    assert "enum" in source.unread_tables["public.t"]
    assert "public.t" not in source.tables
    database.psql("INSERT INTO other VALUES (2)")
    assert [str(each) for each in compare(source, taken(database, copied=source.copied))] == [
        "rows of table public.other: 1 in the source, 2 in the copy"
    ]


@pytest.mark.majors
def test_what_pg_dump_can_read_can_be_read_on_every_major(any_database: Database) -> None:
    any_database.psql(HARMLESS)
    for number, statement in enumerate(KINDS.values()):
        any_database.psql(f"CREATE TABLE t{number} AS SELECT 1 AS x; {statement.replace(' t', f' t{number}')}")
    any_database.psql(BY_PATH)
    kind = "VIRTUAL" if any_database.server.major >= 18 else "STORED"
    any_database.psql(
        f"CREATE TABLE v (x int, g int GENERATED ALWAYS AS (6 / (x + 1)) {kind}); INSERT INTO v VALUES (1)"
    )
    if kind == "VIRTUAL":
        any_database.psql("INSERT INTO v VALUES (-1)")  # selecting g fails from now on
    source = taken(any_database)
    assert source.unread_tables == {}
    assert source.copied == [f"public.t{number}" for number in range(len(KINDS))] + ["public.v"] * (kind == "VIRTUAL")
    assert compare(source, taken(any_database, copied=source.copied)) == []


def test_a_table_that_the_login_may_not_read_still_fails(database: Database) -> None:
    database.psql("CREATE TABLE t (x int)")
    name = f"{database.name}_reader"
    database.psql(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    server = our_server(database)
    login = type(server.login)(host=server.login.host, port=server.login.port, user=name, password="x")
    try:
        with pytest.raises(QueryFailed, match="permission denied"):
            capture.take(OurServer(server.target, login), database.name, mode="content", workers=1)
    finally:
        database.psql(f"DROP OWNED BY {name}; DROP ROLE {name}")
