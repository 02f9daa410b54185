"""A table for every data type, with the values that are easily lost or mistaken for one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tests.support.zoo.feature import Feature, identifier, literal


class Kind(NamedTuple):
    """A data type and values of it."""

    name: str
    values: tuple[str, ...]
    min_version: int = 14
    needs: str = ""


KINDS = (
    Kind("boolean", ("t", "f")),
    Kind("smallint", ("0", "-32768", "32767")),
    Kind("integer", ("0", "-2147483648", "2147483647")),
    Kind("bigint", ("0", "-9223372036854775808", "9223372036854775807")),
    # equal to = and to every hash, but not the same
    Kind(
        "numeric",
        ("1", "1.0", "1.00", "0", "-0.000", "NaN", "1e-1000", "1e1000", "12345678901234567890.123456789"),
    ),
    Kind("numeric", ("Infinity", "-Infinity")),
    Kind("numeric(10,2)", ("1", "-99999999.99", "NaN")),
    Kind("numeric(5,-2)", ("100", "1234567"), min_version=15),
    Kind("numeric(2,5)", ("0.00012",), min_version=15),
    Kind("real", ("0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1")),
    Kind(
        "double precision",
        ("0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1"),
    ),
    Kind("money", ("0", "-92233720368547758.08", "12.34")),
    Kind("text", ("", " ", "a", "a ", "A", "\\N", "😀")),
    Kind("varchar(10)", ("", "a", "a ", "ß")),
    Kind("char(5)", ("", "a", "a    ", "ab")),
    Kind('"char"', ("", "a", "\\377")),
    Kind("name", ("", "postgres", "x" * 63)),
    Kind("bytea", ("", "\\x00", "\\x00ff5c", "\\xdeadbeef")),
    Kind("date", ("epoch", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2024-02-29")),
    Kind("time", ("00:00", "24:00:00", "23:59:59.999999")),
    Kind("timetz", ("12:00+00", "13:00+01", "24:00:00-15:59")),
    Kind(
        "timestamp",
        ("epoch", "infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"),
    ),
    Kind(
        "timestamptz",
        ("epoch", "infinity", "2024-03-31 01:30:00+00", "2024-10-27 02:30:00+02", "0044-03-15 BC"),
    ),
    Kind("timestamp(0)", ("2024-01-01 00:00:00.6",)),
    Kind(
        "interval",
        ("1 mon", "30 days", "720 hours", "-1 day +25 hours", "0", "178000000 years", "1.000001 s"),
    ),
    Kind("interval day to second(3)", ("1 day 2:03:04.5678",)),
    Kind("uuid", ("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    Kind("json", ('{"a": 1}', '{"a":1}', '{"a":1,"a":2}', "null", '"\\u00e9"', "1.0", "[1, 2]")),
    Kind("jsonb", ('{"b": 1, "a": [1.0, 1.00, null]}', "null", "1.0", "1.00", '"😀"', "[]", "{}")),
    Kind("jsonpath", ("$", "strict $.a[*] ? (@.b > 1)")),
    Kind("xml", ("<a/>", "<a></a>", "text", "<a b='&lt;'>é</a>"), needs="xml"),
    Kind("point", ("(0,0)", "(-0,0)", "(1e300,NaN)")),
    Kind("line", ("{1,2,3}",)),
    Kind("lseg", ("[(0,0),(1,1)]",)),
    Kind("box", ("(1,1),(0,0)",)),
    Kind("path", ("[(0,0),(1,1)]", "((0,0),(1,1))")),
    Kind("polygon", ("((0,0),(1,1),(1,0))",)),
    Kind("circle", ("<(0,0),1>",)),
    Kind("inet", ("10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4/96")),
    Kind("cidr", ("10.0.0.0/8", "::/0")),
    Kind("macaddr", ("08:00:2b:01:02:03",)),
    Kind("macaddr8", ("08:00:2b:01:02:03:04:05",)),
    Kind("bit(5)", ("10101", "00000")),
    Kind("bit varying", ("", "1", "10", "100")),
    Kind("bit varying(3)", ("", "101")),
    Kind("tsvector", ("'a':1A,2 'b':3", "a b a", "")),
    Kind("tsquery", ("a & !b | (c <-> d)", "'it''s':*A", "")),
    Kind("int4range", ("empty", "[1,5)", "[1,4]", "(,)", "[1,)")),
    Kind("int8range", ("[1,5)",)),
    Kind("numrange", ("[1.0,2.00)", "[1,2)", "(1,2]", "empty")),
    Kind("tsrange", ("[2024-01-01,infinity)", "[2024-01-01,)")),
    Kind("tstzrange", ("[2024-01-01,2024-02-01)",)),
    Kind("daterange", ("[2024-01-01,2024-01-31]",)),
    Kind("int4multirange", ("{}", "{[1,3),[5,7)}")),
    Kind("nummultirange", ("{[1.0,2.0]}",)),
    Kind("oid", ("0", "4294967295", "1259")),
    Kind("regclass", ("pg_class", "zoo.texts", '"UPPER"."UPPER"', "-", "4294967295")),
    Kind("regproc", ("now", "-")),
    Kind("regprocedure", ("abs(integer)", '"it\'s"."it\'s"(integer)')),
    Kind("regoperator", ("+(integer,integer)",)),
    Kind("regtype", ("integer", "zoo.labels", "timestamp with time zone[]")),
    Kind("regrole", ("zoo_owner", '"zoo_Quo""ted Röle"')),
    Kind("regnamespace", ("zoo", '"new\nline"')),
    Kind("regconfig", ("english",)),
    Kind("regdictionary", ("simple",)),
    Kind("regcollation", ('"C"',)),
    Kind("pg_lsn", ("0/0", "FFFFFFFF/FFFFFFFF")),
    Kind("pg_snapshot", ("10:20:10,14,15",)),
    Kind("txid_snapshot", ("10:20:10,14,15",)),
    Kind("xid", ("0", "4294967295")),
    Kind("xid8", ("0", "18446744073709551615")),
    Kind("cid", ("0",)),
    Kind("tid", ("(0,1)", "(4294967295,65535)")),
    Kind("int2vector", ("1 2 3", "")),
    Kind("oidvector", ("1 2 3", "")),
    Kind("aclitem", ("zoo_owner=r/postgres",)),
    Kind("refcursor", ("c", "")),
    Kind("zoo.mood", ("sad", "ok", "happy")),
    Kind("zoo.even", ("2", "4")),
    Kind("zoo.even_positive", ("2",)),
    Kind("zoo.pair", ('(1,"a,b")', "(,)", '(,"")')),
    Kind("zoo.nested", ('("(1,x)","{""(2,y)""}",sad)',)),
    Kind("zoo.shrunk", ("(1,x)",)),
    Kind("zoo.int_list", ("{1,2}", "{}")),
    Kind("zoo.floatrange", ("[-0,0]", "[1.5,2.5)")),
    Kind("zoo.floatmultirange", ("{[1.5,2.5)}",)),
)

WITHOUT_ARRAY_TYPE = frozenset({"zoo.int_list"})

PREPARE = Feature(
    "own types",
    (
        """
        CREATE TYPE zoo.mood AS ENUM ('sad', 'happy');
        ALTER TYPE zoo.mood ADD VALUE 'ok' BEFORE 'happy';
        CREATE DOMAIN zoo.even AS integer CONSTRAINT "is even" CHECK (VALUE % 2 = 0);
        CREATE DOMAIN zoo.even_positive AS zoo.even DEFAULT 2 CHECK (VALUE > 0);
        CREATE DOMAIN zoo.code AS varchar(5) COLLATE "C" CHECK (VALUE IN ('a', 'b', 'c'));
        CREATE DOMAIN zoo.unchecked AS integer;
        CREATE DOMAIN zoo.int_list AS integer[] CHECK (cardinality(VALUE) < 5);
        CREATE TYPE zoo.pair AS (a integer, b text);
        CREATE TYPE zoo.nested AS (one zoo.pair, many zoo.pair[], mood zoo.mood);
        CREATE TYPE zoo.shrunk AS (a integer, gone date, b text);
        ALTER TYPE zoo.shrunk DROP ATTRIBUTE gone;
        CREATE TYPE zoo.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi,
                                             multirange_type_name = zoo.floatmultirange);
        CREATE TYPE zoo.shell;
        """,
        "ALTER DOMAIN zoo.unchecked ADD CONSTRAINT later CHECK (VALUE > 0) NOT VALID",
    ),
)


def _table_of(number: int, kind: Kind) -> Feature:
    table = f"zoo_types.{identifier(kind.name if number == 1 else f'{kind.name} {number}')}"
    values = [f"{literal(value)}::{kind.name}" for value in kind.values]
    rows = ", ".join(f"({value})" for value in values)
    statements = [
        f"CREATE TABLE {table} (v {kind.name})",
        f"INSERT INTO {table} VALUES {rows}, (NULL), ({values[0]})",
    ]
    if kind.name not in WITHOUT_ARRAY_TYPE:
        statements += [
            f"ALTER TABLE {table} ADD vs {kind.name}[]",
            f"INSERT INTO {table} (vs) VALUES (ARRAY[{', '.join(values)}]), (ARRAY[NULL, {values[0]}]), ('{{}}')",
        ]
    return Feature(f"type {kind.name}", "; ".join(statements), kind.min_version, kind.needs)


def _features() -> Iterator[Feature]:
    yield PREPARE
    seen: dict[str, int] = {}
    for kind in KINDS:
        seen[kind.name] = seen.get(kind.name, 0) + 1
        yield _table_of(seen[kind.name], kind)
    yield Feature(
        "arrays with own lower bounds, NULLs and dimensions",
        """
        CREATE TABLE zoo_types.arrays (v integer[]);
        INSERT INTO zoo_types.arrays VALUES
            ('{}'), ('{1,2,3}'), ('[0:2]={1,2,3}'), ('[-5:-3]={1,2,3}'), ('{NULL}'), ('{NULL,NULL}'),
            ('{{1,2},{3,4}}'), ('[2:3][5:6]={{1,2},{3,4}}'), ('{{{1}}}');
        """,
    )
    yield Feature(
        "values equal under their collation, but not the same",
        """
        CREATE COLLATION zoo.ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE zoo_types.collated (v text COLLATE zoo.ignoring_case);
        INSERT INTO zoo_types.collated VALUES ('a'), ('A'), ('é'), (E'e\\u0301');
        CREATE INDEX ON zoo_types.collated (v);
        """,
        needs="icu",
    )
    yield Feature(
        "an own libc collation",
        """
        CREATE COLLATION zoo."own C" (provider = libc, locale = 'C');
        CREATE TABLE zoo_types.own_collation (v text COLLATE zoo."own C", w text COLLATE "POSIX");
        INSERT INTO zoo_types.own_collation VALUES ('a', 'b');
        CREATE INDEX ON zoo_types.own_collation (v COLLATE "POSIX", lower(w) COLLATE zoo."own C");
        """,
    )
    yield Feature(
        "citext, equal but not the same",
        """
        CREATE EXTENSION citext SCHEMA zoo_ext;
        CREATE TABLE zoo_types.citext (v zoo_ext.citext PRIMARY KEY);
        INSERT INTO zoo_types.citext VALUES ('ABC'), ('abd');
        """,
        needs="extension:citext",
    )
    yield Feature(
        "hstore",
        """
        CREATE EXTENSION hstore SCHEMA zoo_ext;
        CREATE TABLE zoo_types.hstore (v zoo_ext.hstore);
        INSERT INTO zoo_types.hstore VALUES ('a=>1,b=>NULL'), ('');
        CREATE INDEX ON zoo_types.hstore USING gin (v);
        """,
        needs="extension:hstore",
    )
    yield Feature(
        "pg_trgm",
        """
        CREATE EXTENSION pg_trgm SCHEMA zoo_ext;
        CREATE INDEX "zoo trigram" ON zoo.texts USING gin (v zoo_ext.gin_trgm_ops);
        """,
        needs="extension:pg_trgm",
    )
    yield Feature(
        "vector",
        """
        CREATE EXTENSION vector SCHEMA zoo_ext;
        CREATE TABLE zoo_types.vector (v zoo_ext.vector(3));
        INSERT INTO zoo_types.vector VALUES ('[1,2,3]'), ('[-0,0,1]');
        """,
        needs="extension:vector",
    )


FEATURES = tuple(_features())
