"""Statements that a server refused: read from psql's messages, and judged by SQLSTATE. No server."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.refusals import (
    Circumstances,
    Refusal,
    blamed,
    from_psql,
    harmless,
    shortened,
    told,
)

HERE = Circumstances("instance", 15, 15)

TOLD = """psql:<stdin>:12: WARNING:  01006: no privileges could be revoked for "t"
LOCATION:  restrict_and_check_grant, aclchk.c:300
psql:<stdin>:25: ERROR:  42P06: schema "public" already exists
LOCATION:  NamespaceCreate, pg_namespace.c:62
psql:<stdin>:25: STATEMENT:  CREATE SCHEMA public;
psql:<stdin>:54: FEHLER:  42704: Rolle »gone« existiert nicht
LOCATION:  get_role_oid, acl.c:5201
psql:<stdin>:54: STATEMENT:  ALTER TABLE t
    OWNER TO gone;
psql:<stdin>:60: error: invalid command \\restrict
psql:<stdin>:89: ERROR:  42883: function b(integer) does not exist
LINE 1: select b($1)
HINT:  No function matches the given name.
QUERY:  select b($1)
CONTEXT:  SQL function "a" during inlining
COPY t, line 1
LOCATION:  ParseFuncOrColumn, parse_func.c:636
psql:<stdin>:89: STATEMENT:  COPY t (a) FROM stdin;
psql:<stdin>:95: ERROR:  22P02: invalid input syntax for type integer: "x"
CONTEXT:  COPY t, line 1, column a: "x"
LOCATION:  pg_strtoint32, numutils.c:320
psql:<stdin>:95: STATEMENT:  COPY t (a) FROM stdin;
"""


def test_refusals_are_read_in_any_language_and_warnings_are_none() -> None:
    assert from_psql(TOLD) == [
        Refusal("CREATE SCHEMA public;", 'schema "public" already exists', "42P06"),
        Refusal("ALTER TABLE t OWNER TO gone;", "Rolle »gone« existiert nicht", "42704"),
        Refusal("a command of psql", "invalid command \\restrict"),
        Refusal(
            "COPY t (a) FROM stdin;",
            "function b(integer) does not exist",
            "42883",
            "No function matches the given name.",
            True,
        ),
        Refusal("COPY t (a) FROM stdin;", 'invalid input syntax for type integer: "x"', "22P02"),
    ]


def test_a_statement_whose_message_a_full_disk_has_swallowed_is_refused_all_the_same() -> None:
    text = "psql:<stdin>:32: STATEMENT:  CREATE INDEX i ON public.t (v);\n"
    assert from_psql(text) == [Refusal("CREATE INDEX i ON public.t (v);", "the server's message was lost")]


def test_a_long_statement_is_shortened_and_many_are_counted() -> None:
    assert len(shortened("x" * 1000)) == 160
    many = [Refusal(f"DROP TABLE t{number};", "it does not exist", "42P01") for number in range(7)]
    assert told(many, 9).endswith("DROP TABLE t4; (it does not exist); and 4 more")


# The statement, the SQLSTATE and a word of the way out.
PLACE = [
    ("CREATE TEXT SEARCH DICTIONARY d (template = simple, stopwords = s);", "F0000", "Install the file"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'lib';", "58P01", "Install the file"),
    ("REFRESH MATERIALIZED VIEW m;", "08001", "other server"),
    ("REFRESH MATERIALIZED VIEW m;", "HV00N", "other server"),
    ("REFRESH MATERIALIZED VIEW m;", "2F003", "other server"),
    ("CREATE INDEX i ON t (a);", "53200", "resource"),
    ("CREATE INDEX i ON t (a);", "57014", "Run again"),
    ("CREATE INDEX i ON t (a);", "40P01", "Run again"),
    ("CREATE TABLE t (a text COMPRESSION lz4);", "0A000", "built with it"),
    ("CREATE EXTENSION file_fdw;", "42501", "privilege"),
    ('CREATE TABLE t (a text COLLATE "de_DE");', "42704", "collation"),
    ("SET default_tablespace = fast;", "22023", "names"),
]


@pytest.mark.parametrize(("statement", "state", "way_out"), PLACE)
def test_the_place_is_to_blame_by_sqlstate(statement: str, state: str, way_out: str) -> None:
    found = blamed([Refusal(statement, "some words", state)], HERE, rows=False)
    assert found is not None
    assert way_out in found.remedy
    assert "verify_in: database" in found.remedy or "gain" in found.remedy
    assert statement in str(found)
    assert "some words" in str(found)


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("COPY t (a) FROM stdin;", "23514"),
        ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u;", "23503"),
        ("CREATE INDEX ON t (f(a));", "42883"),
        ("CREATE VIEW v AS SELECT x FROM t;", "42P01"),
        ("CREATE TABLE t (a int);", "42P07"),
        ("COPY t (a) FROM stdin;", "22P02"),
        ("SELECT 1;", ""),
        ("REVOKE ALL ON TABLE t FROM gone;", "42704"),  # a role that the source does not have either
    ],
)
def test_the_place_is_not_to_blame(statement: str, state: str) -> None:
    assert blamed([Refusal(statement, "some words", state)], HERE, rows=False) is None


def test_a_name_that_code_does_not_find_is_not_the_places_fault() -> None:
    inside = Refusal("CREATE INDEX ON t (f(a));", 'type "x" does not exist', "42704", "", True)
    assert blamed([inside], HERE, rows=False) is None


def test_a_library_that_is_not_preloaded_is_named_by_the_setting() -> None:
    text = 'pg_stat_statements must be loaded via "shared_preload_libraries"'
    found = blamed([Refusal("REFRESH MATERIALIZED VIEW m;", text, "55000")], HERE, rows=False)
    assert found is not None
    assert "shared_preload_libraries" in found.remedy
    not_populated = Refusal("REFRESH MATERIALIZED VIEW m;", 'materialized view "n" has not been populated', "55000")
    assert blamed([not_populated], HERE, rows=False) is None


def test_another_major_is_to_blame_for_whatever_is_refused() -> None:
    refused = [Refusal("CREATE VIEW v AS SELECT checkpoints_timed FROM pg_stat_bgwriter;", "no column", "42703")]
    found = blamed(refused, Circumstances("instance", 15, 18), rows=False)
    assert found is not None
    assert "use programs of version 15" in found.remedy
    assert blamed(refused, Circumstances("instance", 0, 18), rows=False) is None


def test_a_role_of_the_source_that_is_missing_here_is_named() -> None:
    refused = [Refusal("GRANT SELECT ON TABLE t TO app;", 'role "app" does not exist', "42704")]
    found = blamed(refused, Circumstances("database", 15, 15, ["app"]), rows=False)
    assert found is not None
    assert found.remedy == "Create the roles that the source has: app."
    assert blamed(refused, Circumstances("database", 15, 15, ["app"]), rows=True) is None  # no row is missing for it


def test_what_follows_from_a_refused_statement_is_no_cause() -> None:
    broken = Refusal("CREATE TYPE mood AS ENUM ('x', 'x');", "duplicate", "23505")
    follows = Refusal("CREATE TABLE t (m mood);", 'type "mood" does not exist', "42704")
    assert blamed([broken, follows], HERE, rows=True) is None
    file = Refusal("CREATE TEXT SEARCH DICTIONARY d (template = simple);", "no file", "F0000")
    assert blamed([file, follows], HERE, rows=True) is not None
    assert blamed([follows, file], HERE, rows=True) is not None


HARMLESS = [
    ("CREATE SCHEMA public;", "42P06"),
    ("CREATE EXTENSION plpgsql WITH SCHEMA pg_catalog;", "42710"),
    ("CREATE OR REPLACE PROCEDURAL LANGUAGE plpgsql;", "42710"),
    ("CREATE ROLE app;", "42710"),
    ("DROP TABLE public.t;", "42P01"),
    ("DROP SCHEMA s;", "3F000"),
    ("DROP FUNCTION public.f();", "42883"),
    ("DROP TYPE public.mood;", "42704"),
    ("DROP DATABASE shop;", "3D000"),
    ("ALTER TABLE ONLY public.t DROP CONSTRAINT t_pkey;", "42P01"),
    ("ALTER TABLE public.t ALTER COLUMN id DROP DEFAULT;", "42P01"),
    ("SET transaction_timeout = 0;", "42704"),
    ("SET default_with_oids = false;", "42704"),
    ("SET default_tablespace = fast;", "22023"),
    ("ALTER TABLE public.t OWNER TO app;", "42704"),
    ("GRANT SELECT ON TABLE public.t TO app;", "42704"),
    ("SET SESSION AUTHORIZATION 'app';", "22023"),
    ("COMMENT ON EXTENSION plpgsql IS 'x';", "42501"),
    ("Password: -- -- PostgreSQL database dump -- -- Dumped from database version 15.18 ...", "42601"),
]


@pytest.mark.parametrize(("statement", "state"), HARMLESS)
def test_what_people_see_of_dumps_that_load_well_is_harmless(statement: str, state: str) -> None:
    assert harmless(Refusal(statement, "some words", state))


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("CREATE TABLE public.t (a int);", "42P07"),
        ("COPY public.t (a) FROM stdin;", "42P01"),
        ("INSERT INTO public.t VALUES (1);", "42P01"),
        ("CREATE TYPE mood AS ENUM ();", "42710"),
        ("DROP TABLE public.t;", "42501"),
        ("CREATE INDEX i ON t (a);", "42704"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0);", "23514"),
        ("SELECT pg_catalog.setval('public.s', 1, true);", "42P01"),
        ("CREATE EXTENSION postgis;", "0A000"),
        ("a command of psql", ""),
        ("pg_dump: warning: something CREATE TABLE t (a int);", "42601"),
    ],
)
def test_what_may_leave_something_out_is_not_harmless(statement: str, state: str) -> None:
    assert not harmless(Refusal(statement, "some words", state))


def test_a_psql_that_does_not_know_restrict_loads_all_the_same() -> None:
    assert harmless(Refusal("a command of psql", "invalid command \\restrict"))
    assert not harmless(Refusal("a command of psql", "backslash commands are restricted; only \\unrestrict is allowed"))
