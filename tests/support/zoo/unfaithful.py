"""Databases that a dump cannot bring back as they are: what verification is for.

Each stands for an accident that real databases have; PostgreSQL itself reports nothing while dumping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

RESTORE_FAILS = "the restore reports errors"
CONTENT_DIFFERS = "the restore succeeds, but the content differs"


@dataclass(frozen=True)
class Unfaithful:
    """What to create in an empty database, and what comes of it."""

    name: str
    outcome: str
    statements: tuple[str, ...]
    max_version: int = 99
    """The last major that lets this happen."""


UNFAITHFUL = (
    Unfaithful(
        "orphan rows behind a valid foreign key",
        RESTORE_FAILS,
        (
            "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (parent int REFERENCES parent)",
            "SET session_replication_role = replica; INSERT INTO child VALUES (1); RESET session_replication_role",
        ),
    ),
    Unfaithful(
        "duplicate rows behind a unique index",
        RESTORE_FAILS,
        (
            "CREATE TABLE t (a int); CREATE UNIQUE INDEX t_a ON t (a); INSERT INTO t VALUES (1)",
            "UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 't_a'::regclass",
            "INSERT INTO t VALUES (1)",
            "UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 't_a'::regclass",
        ),
    ),
    Unfaithful(
        "rows that break a CHECK whose function was changed",
        RESTORE_FAILS,
        (
            "CREATE FUNCTION good(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0'",
            "CREATE TABLE t (a int CHECK (good(a))); INSERT INTO t VALUES (1), (200)",
            "CREATE OR REPLACE FUNCTION good(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100'",
        ),
    ),
    Unfaithful(
        "a CHECK that reads another table, found by the search_path",
        RESTORE_FAILS,
        (
            "CREATE TABLE allowed (v int); INSERT INTO allowed VALUES (1)",
            "CREATE FUNCTION is_allowed(int) RETURNS boolean LANGUAGE sql AS 'SELECT EXISTS (SELECT FROM allowed WHERE v = $1)'",
            "CREATE TABLE t (a int CHECK (is_allowed(a))); INSERT INTO t VALUES (1)",
        ),
    ),
    Unfaithful(
        "an index on a function that calls another, found by the search_path",
        RESTORE_FAILS,
        (
            "CREATE FUNCTION inner_one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END'",
            "CREATE FUNCTION outer_one(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_one($1); END'",
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
            "CREATE INDEX ON t (outer_one(a))",
        ),
        max_version=16,  # from 17 on the index cannot be created in the first place
    ),
    Unfaithful(
        "a materialized view on a function that finds a table by the search_path",
        RESTORE_FAILS,
        (
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
            "CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql SET search_path FROM CURRENT AS 'BEGIN RETURN (SELECT sum(a) FROM t); END'",
            "CREATE MATERIALIZED VIEW m AS SELECT total()",
            "ALTER FUNCTION total() RESET search_path",
        ),
    ),
    Unfaithful(
        "a regclass value that names an index",
        RESTORE_FAILS,
        ("CREATE TABLE t (a int PRIMARY KEY, r regclass); INSERT INTO t VALUES (1, 't_pkey')",),
    ),
    Unfaithful(
        "a stored generated column whose function was changed",
        CONTENT_DIFFERS,
        (
            "CREATE FUNCTION price(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'",
            "CREATE TABLE t (a int, p int GENERATED ALWAYS AS (public.price(a)) STORED); INSERT INTO t VALUES (1), (2)",
            "CREATE OR REPLACE FUNCTION price(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3'",
        ),
    ),
    Unfaithful(
        "rows that break a CHECK of their domain",
        RESTORE_FAILS,
        (
            "CREATE DOMAIN d AS int; CREATE TABLE t (a d); INSERT INTO t VALUES (-1)",
            "ALTER DOMAIN d ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID",
            "UPDATE pg_constraint SET convalidated = true WHERE conname = 'positive'",
        ),
    ),
)


CHAINED_GRANTS = Unfaithful(
    "rights granted by a role that needs the rights on the schema first",
    "a parallel restore in one go sometimes reports errors; one section after the other it never does",
    (
        """
        DO $$ BEGIN
            PERFORM pg_advisory_xact_lock(20240229);
            IF to_regrole('zoo_granter') IS NULL THEN CREATE ROLE zoo_granter; CREATE ROLE zoo_granted; END IF;
        END $$
        """,
        "CREATE SCHEMA chained; GRANT USAGE ON SCHEMA chained TO zoo_granter",
        """
        DO $$ BEGIN FOR n IN 1..20 LOOP
            EXECUTE format('CREATE TABLE chained.t%s ()', n);
            EXECUTE format('GRANT SELECT ON chained.t%s TO zoo_granter WITH GRANT OPTION', n);
            SET LOCAL ROLE zoo_granter;
            EXECUTE format('GRANT SELECT ON chained.t%s TO zoo_granted', n);
            RESET ROLE;
        END LOOP; END $$
        """,
    ),
)
"""pg_restore --jobs=2 fails with 3 to 6 of 10 such restores: it may grant on the table before on the schema."""


def unfaithful_on(major: int) -> tuple[Unfaithful, ...]:
    """Return the cases that can happen on this major."""
    return tuple(case for case in UNFAITHFUL if major <= case.max_version)


def build_unfaithful(connection: Connection, case: Unfaithful) -> None:
    """Create the case in an empty database; the connection is a superuser's, with autocommit."""
    with connection.cursor() as cursor:
        for statement in case.statements:
            cursor.execute(statement)
