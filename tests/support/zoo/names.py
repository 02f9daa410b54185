"""Names that break code which builds SQL, shell scripts, paths, patterns or templates from strings."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.zoo.feature import Feature, identifier, literal

HOSTILE_NAMES = (
    'quo"te',
    '""',
    "it's",
    "with space",
    " around ",
    "new\nline",
    "carriage\rreturn",
    "tab\tbed",
    "UPPER",
    "upper",
    "CamelCase",
    "ünïcödé",
    "e\u0301 decomposed",
    "\u00e9 decomposed",
    "日本語",
    "שלום",
    "astral 😀 𝔸",
    "per%cent %s %d %%",
    "back\\slash",
    "\\.",
    "co:lon",
    ":'psql'",
    "-leading-dash",
    "--comment",
    "/* comment */",
    "; DROP TABLE x; --",
    "$HOME `id` $(id)",
    "$$",
    "dot.ted",
    "slash/ed",
    "../up",
    "*?[glob]",
    "pat.*|tern",
    "{{ jinja }}",
    "{% raw %}",
    "#hash",
    "@at",
    "a=b",
    "comma,ted",
    "(paren)",
    "select",
    "user",
    "null",
    "0digit",
    "x" * 63,
    "é" * 31,
)
"""Each is at most 63 bytes long in UTF-8."""

HOSTILE_DATABASE_NAMES = (
    *HOSTILE_NAMES,
    "dbname=postgres",
    "postgresql://localhost/postgres",
    "all",
    "sameuser",
)
"""In addition, names that libpq would read as a connection string, or pg_hba.conf as a word."""

HOSTILE_TEXTS = (
    "",
    " ",
    "\\N",
    "\\.",
    "\n",
    "\r\n",
    "\t",
    "a\\tb",
    "NULL",
    "null",
    "\x01\x1f\x7f",
    "%s %d %%",
    "'",
    '"',
    '{"a": 1}',
    "{1,2}",
    "(1,2)",
    "😀",
    "e\u0301",
    "\u00e9",
    "\ufeffbom",
    "\u202ertl",
    "\U0010ffff",
)


def _schema_and_table(name: str) -> Feature:
    """Return a schema, and in it a table, column, index, sequence, constraint and function, all of this name."""
    quoted, text = identifier(name), literal(name)
    return Feature(
        f"name {name!r}",
        f"""
        CREATE SCHEMA {quoted};
        CREATE TABLE {quoted}.{quoted} ({quoted} text CONSTRAINT {quoted} CHECK ({quoted} <> 'never'), n serial);
        CREATE INDEX ON {quoted}.{quoted} ({quoted});
        INSERT INTO {quoted}.{quoted} VALUES ({text}), (NULL), ({text});
        CREATE FUNCTION {quoted}.{quoted}({quoted} int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1';
        COMMENT ON TABLE {quoted}.{quoted} IS {text};
        COMMENT ON COLUMN {quoted}.{quoted}.{quoted} IS {text};
        """,
    )


def _features() -> Iterator[Feature]:
    yield from (_schema_and_table(name) for name in HOSTILE_NAMES)
    columns = ", ".join(f"{identifier(name)} text DEFAULT {literal(name)}" for name in HOSTILE_NAMES)
    yield Feature(
        "a table with every hostile column",
        f"CREATE TABLE zoo.columns ({columns}); INSERT INTO zoo.columns DEFAULT VALUES",
    )
    labels = ", ".join(literal(name) for name in HOSTILE_NAMES)
    values = ", ".join(f"({literal(name)})" for name in HOSTILE_NAMES)
    yield Feature(
        "an enum with every hostile label",
        f"""
        CREATE TYPE zoo.labels AS ENUM ({labels});
        CREATE TABLE zoo.labelled (v zoo.labels, vs zoo.labels[]);
        INSERT INTO zoo.labelled (v) VALUES {values};
        INSERT INTO zoo.labelled (vs) SELECT enum_range(NULL::zoo.labels);
        """,
    )
    rows = ", ".join(f"({literal(text)})" for text in HOSTILE_TEXTS)
    yield Feature("hostile text values", f"CREATE TABLE zoo.texts (v text); INSERT INTO zoo.texts VALUES {rows}")
    yield Feature(
        "same table name in two schemas",
        """
        CREATE TABLE zoo.twin (v int); INSERT INTO zoo.twin VALUES (1);
        CREATE TABLE public.twin (v int); INSERT INTO public.twin VALUES (2), (3);
        """,
    )


FEATURES = tuple(_features())
