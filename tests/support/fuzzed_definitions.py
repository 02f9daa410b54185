"""Random definitions, nested as people and frameworks nest them, whose printed form a restore may change."""

from __future__ import annotations

import random
from collections.abc import Callable

BASE = """
CREATE TYPE fz_mood AS ENUM ('a', 'b'); CREATE TYPE fz_pair AS (i int, s text);
CREATE TABLE fz_t (i int, s text, v varchar(10), n numeric, f float8, d date, ts timestamptz, b boolean, a int[], m fz_mood, j jsonb);
CREATE TABLE fz_u (i int PRIMARY KEY, s text, n numeric, ts timestamptz, a int[], p fz_pair);
CREATE FUNCTION fz_rows() RETURNS SETOF fz_u LANGUAGE sql STABLE AS 'SELECT * FROM public.fz_u';
CREATE FUNCTION fz_pairs() RETURNS SETOF fz_pair LANGUAGE sql STABLE AS 'SELECT 1, ''x''::text';
"""
#: What happens to the types and columns afterwards, when views already use them.
AFTERWARDS = """
ALTER TABLE fz_u ADD grown text; ALTER TYPE fz_pair ADD ATTRIBUTE grown int CASCADE; ALTER TABLE fz_t RENAME s TO text_of_it;
ALTER TABLE fz_u RENAME n TO amount; ALTER TABLE fz_t ADD added int DEFAULT 1;
"""
_COLUMNS = {
    "fz_t": {"int": "i", "text": "s", "varchar": "v", "numeric": "n", "float8": "f", "date": "d", "timestamptz": "ts",
             "boolean": "b", "int[]": "a", "fz_mood": "m", "jsonb": "j"},
    "fz_u": {"int": "i", "text": "s", "numeric": "n", "timestamptz": "ts", "int[]": "a"},
}  # fmt: skip
_LITERALS = {
    "int": ("1", "0", "-2"), "text": ("'x'", "'it''s'", "E'a\\\\b'"), "varchar": ("'x'", "'y'::varchar", "'z'"),
    "numeric": ("1.50", "2", "0"), "float8": ("1.5", "2", "'NaN'"), "date": ("'2020-01-01'", "DATE '2020-02-03'"),
    "timestamptz": ("'2020-01-01 00:00+00'", "now()"), "boolean": ("true", "false", "'t'"), "int[]": ("'{}'", "ARRAY[1, 2]"),
    "fz_mood": ("'a'", "'b'"), "jsonb": ("'{}'", "'[1]'"),
}  # fmt: skip
TYPES = tuple(_LITERALS)


class Definitions:
    """A stream of statements from a seed. A few are refused by the server, as two literals may have no common type."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._number = 0

    def statement(self) -> str:
        """One more object."""
        self._number += 1
        name = f"fz_{self._number}"
        makers: list[Callable[[str], str]] = [
            self._view, self._view, self._view, self._view, self._materialized, self._function, self._rule, self._check,
            self._default, self._policy, self._index, self._trigger, self._arguments, self._domain, self._writer,
        ]  # fmt: skip
        return self._random.choice(makers)(name)

    # --- objects --------------------------------------------------------------------------------------

    def _view(self, name: str) -> str:
        return f"CREATE VIEW {name} AS {self.query(self._types(), 3)}"

    def _materialized(self, name: str) -> str:
        return f"CREATE MATERIALIZED VIEW {name} AS {self.query(self._types(), 2)} WITH NO DATA"

    def _function(self, name: str) -> str:
        kind = self._type()
        body = self.query([kind], 2)
        return f"CREATE FUNCTION {name}(x int) RETURNS SETOF {kind} LANGUAGE sql BEGIN ATOMIC {body}; END"

    def _writer(self, name: str) -> str:
        source = self.query(["int", "text"], 2)
        writes = self._random.choice(
            [
                f"INSERT INTO fz_u (i, s) {source} ON CONFLICT (i) DO UPDATE SET s = excluded.s WHERE {self._boolean('fz_u', 1)} RETURNING i",
                f"UPDATE fz_u SET s = q.k FROM ({self.query(['text'], 1, names=['k'])}) q WHERE {self._boolean('fz_u', 1)} RETURNING fz_u.i",
                f"DELETE FROM fz_u WHERE i IN ({self.query(['int'], 1)}) RETURNING fz_u.i",
                "WITH w AS (INSERT INTO fz_u (i, s) SELECT 1, NULL UNION ALL SELECT 2, 'x' RETURNING i) SELECT i FROM w",
            ]
        )
        return f"CREATE FUNCTION {name}() RETURNS SETOF int LANGUAGE sql BEGIN ATOMIC {writes}; END"

    def _rule(self, name: str) -> str:
        return (
            f"CREATE RULE {name} AS ON INSERT TO fz_t WHERE new.i > {self._literal('int')} DO ALSO "
            f"INSERT INTO fz_u (i, s) SELECT new.i, k FROM ({self.query(['text'], 2, names=['k'])}) q"
        )

    def _check(self, name: str) -> str:
        return f"ALTER TABLE fz_t ADD CONSTRAINT {name} CHECK ({self._boolean('fz_t', 2, queries=False)})"

    def _default(self, name: str) -> str:
        kind = self._type()
        return f"ALTER TABLE fz_t ADD {name} {kind} DEFAULT {self.expression(kind, None, 2, queries=False)}"

    def _policy(self, name: str) -> str:
        return (
            f"CREATE POLICY {name} ON fz_t USING ({self._boolean('fz_t', 2)}) WITH CHECK ({self._boolean('fz_t', 2)})"
        )

    def _index(self, name: str) -> str:
        condition = self._boolean("fz_t", 1, queries=False)
        key = self.expression(self._random.choice(["text", "int", "numeric"]), "fz_t", 1, queries=False)
        return f"CREATE INDEX {name} ON fz_t (({key})) WHERE {condition}"

    def _trigger(self, name: str) -> str:
        condition = self._boolean("new", 2, queries=False)
        call = "suppress_redundant_updates_trigger()"
        return f"CREATE TRIGGER {name} BEFORE UPDATE ON fz_t FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {call}"

    def _arguments(self, name: str) -> str:
        kinds = self._types()
        made = ", ".join(f"x{n} {kind} DEFAULT {self.expression(kind, None, 1)}" for n, kind in enumerate(kinds))
        return f"CREATE FUNCTION {name}({made}) RETURNS int LANGUAGE sql AS 'SELECT 1'"

    def _domain(self, name: str) -> str:
        kind = self._random.choice(["text", "varchar", "numeric", "int"])
        values = ", ".join(self._literal(kind) for dummy in range(2))
        default = self.expression(kind, None, 1, queries=False)
        return f"CREATE DOMAIN {name} AS {kind} DEFAULT {default} CHECK (VALUE IN ({values}) OR VALUE = {self._literal(kind)})"

    # --- queries --------------------------------------------------------------------------------------

    def query(self, kinds: list[str], depth: int, names: list[str] | None = None) -> str:
        """A query of these types; its columns are called c0, c1 ... unless they have names."""
        names = names or [f"c{n}" for n in range(len(kinds))]
        shapes: list[Callable[[list[str], int, list[str]], str]] = [self._select]
        if depth > 0:
            shapes += [self._union, self._union, self._nested, self._with, self._recursive, self._values, self._joined]
        return self._random.choice(shapes)(kinds, depth, names)

    def _select(self, kinds: list[str], depth: int, names: list[str]) -> str:
        table = self._random.choice(["fz_t", "fz_u", None])
        columns = ", ".join(
            f"{self.expression(kind, table, depth)} AS {name}" for kind, name in zip(kinds, names, strict=True)
        )
        if table is None:
            return f"SELECT {columns}"
        where = f" WHERE {self._boolean(table, depth)}" if self._random.random() < 0.6 else ""
        return f"SELECT {columns} FROM {table}{where}"

    def _bare(self, kinds: list[str], names: list[str]) -> str:
        columns = (f"{self._bare_value(kind)} AS {name}" for kind, name in zip(kinds, names, strict=True))
        return f"SELECT {', '.join(columns)}"

    def _union(self, kinds: list[str], depth: int, names: list[str]) -> str:
        word = self._random.choice(["UNION ALL", "UNION", "EXCEPT", "INTERSECT"])
        arms = [self.query(kinds, depth - 1, names), self._bare(kinds, names)]
        if self._random.random() < 0.5:
            arms.append(self.query(kinds, 0, names))
        return f" {word} ".join(f"({arm})" for arm in arms)

    def _nested(self, kinds: list[str], depth: int, names: list[str]) -> str:
        inner = self.query(kinds, depth - 1, names)
        lateral = self._random.choice(
            ["", f" WHERE EXISTS (SELECT 'x' FROM fz_u WHERE {self._boolean('fz_u', depth - 1)})"]
        )
        return f"SELECT {', '.join(f'q.{name}' for name in names)} FROM ({inner}) q{lateral}"

    def _with(self, kinds: list[str], depth: int, names: list[str]) -> str:
        materialized = self._random.choice(["", "MATERIALIZED ", "NOT MATERIALIZED "])
        return f"WITH w AS {materialized}({self.query(kinds, depth - 1, names)}) SELECT * FROM w"

    def _recursive(self, kinds: list[str], depth: int, names: list[str]) -> str:
        first = ", ".join(f"{self._typed(kind)} AS {name}" for kind, name in zip(kinds, names, strict=True))
        again = ", ".join(
            self._random.choice([f"r.{name}", self._bare_value(kind)]) for kind, name in zip(kinds, names, strict=True)
        )
        word = self._random.choice(["UNION", "UNION ALL"])
        return (
            f"WITH RECURSIVE r AS (SELECT 1 AS step, {first} {word} SELECT r.step + 1, {again} FROM r WHERE r.step < 3)"
            f" SELECT {', '.join(names)} FROM r"
        )

    def _values(self, kinds: list[str], depth: int, names: list[str]) -> str:
        rows = [f"({', '.join(self._typed(kind) for kind in kinds)})"]
        rows += [f"({', '.join(self._bare_value(kind) for kind in kinds)})"]
        return f"SELECT * FROM (VALUES {', '.join(rows)}) v({', '.join(names)})"

    def _joined(self, kinds: list[str], depth: int, names: list[str]) -> str:
        source = self._random.choice(
            ["fz_rows() g", "fz_t JOIN fz_u USING (i)", "fz_t LEFT JOIN fz_u o ON fz_t.i = o.i", "fz_pairs() g(one, other)",
             "ROWS FROM (fz_rows(), generate_series(1, 2)) AS g", "fz_u CROSS JOIN LATERAL fz_pairs() p", "fz_u u2 NATURAL JOIN fz_t"]
        )  # fmt: skip
        columns = ", ".join(
            f"{self.expression(kind, None, depth - 1)} AS {name}" for kind, name in zip(kinds, names, strict=True)
        )
        return f"SELECT {columns} FROM {source}"

    # --- expressions ----------------------------------------------------------------------------------

    def expression(self, kind: str, table: str | None, depth: int, *, queries: bool = True) -> str:
        """An expression of this type, or one that is coerced to it."""
        if depth <= 0 or self._random.random() < 0.3:
            return self._simple(kind, table)
        one, other = (self.expression(kind, table, depth - 1, queries=queries) for dummy in range(2))
        condition = self._boolean(table, depth - 1, queries=queries)
        choices = [
            f"CASE WHEN {condition} THEN {one} ELSE {other} END", f"COALESCE({one}, {other})", f"NULLIF({one}, {self._typed(kind)})",
            f"({one})::{kind}", f"CASE WHEN {condition} THEN {self._bare_value(kind)} WHEN true THEN {other} END",
        ]  # fmt: skip
        if queries:
            choices += [
                f"(SELECT max(z.c0) FROM ({self.query([kind], depth - 1)}) z)" if kind in ("int", "text", "numeric", "date")
                else f"(SELECT z.c0 FROM ({self.query([kind], depth - 1)}) z LIMIT 1)"
            ]  # fmt: skip
        numeric = self.expression("numeric", table, depth - 1, queries=queries)
        special = {
            "text": [f"({one} || {other})", f"lower({one})", f"substring({one} FROM 1 FOR 2)", f"trim({one})", f"({numeric})::text"],
            "varchar": [f"left({one}, 3)"],
            "int": [f"({one} + {other})", f"length({self._simple('text', table)})", f"({one})::bigint::int"],
            "numeric": [f"({one} * {other} + 1)", f"round({one}, 1)", f"extract(epoch from {self._typed('timestamptz')})::numeric",
                        f"extract('YEAR' from {self._simple('date', table) if table else self._typed('date')})::numeric"],
            "int[]": [f"ARRAY[{self.expression('int', table, depth - 1, queries=queries)}, 2]", f"array_append({one}, 1)"],
            "boolean": [condition],
        }  # fmt: skip
        if queries and kind == "int[]":
            special["int[]"].append(f"ARRAY({self.query(['int'], depth - 1)})")
        return self._random.choice(choices + special.get(kind, []))

    def _boolean(self, table: str | None, depth: int, *, queries: bool = True) -> str:
        kind = self._random.choice(["text", "varchar", "numeric", "int", "float8", "date", "fz_mood"])
        one = self.expression(kind, table, depth - 1, queries=queries)
        few = ", ".join(self._literal(kind) for dummy in range(self._random.randint(1, 3)))
        numbers = self._random.choice(["numeric", "float8", "int"])
        choices = [
            f"{one} IN ({few})", f"{one} NOT IN ({few})", f"{one} IS DISTINCT FROM {self._literal(kind)}", f"{one} IS NULL",
            f"{self._simple(numbers, table)} = ANY (ARRAY[1, 2])", f"{self._simple('text', table)} = ANY ('{{x,y}}')",
            f"{one} BETWEEN {self._literal(kind)} AND {self._literal(kind)}", f"{self._simple('text', table)} LIKE 'x%'",
            f"{self._simple('int', table)} <> ALL ('{{1,2}}'::int[])",
        ]  # fmt: skip
        if depth > 0:
            left, right = (self._boolean(table, depth - 1, queries=queries) for dummy in range(2))
            choices += [
                f"({left} AND {right})",
                f"({left} OR {right})",
                f"NOT ({left})",
                f"(({left} AND {right}) AND {left})",
            ]
            if queries:
                choices += [
                    f"EXISTS ({self._bare(['text'], ['k'])})", f"{one} IN ({self.query([kind], depth - 1)})",
                    f"EXISTS (SELECT 'X' FROM fz_u WHERE {self._boolean('fz_u', depth - 1)})",
                    f"{self._simple('text', table)} IN (SELECT 'x' UNION SELECT NULL)",
                    f"{self._simple('int', table)} = ANY (ARRAY(SELECT 1 UNION SELECT 2))",
                ]  # fmt: skip
        return self._random.choice(choices)

    def _simple(self, kind: str, table: str | None) -> str:
        column = _COLUMNS.get("fz_t" if table == "new" else table or "", {}).get(kind)
        if column is None or self._random.random() < 0.3:
            return self._random.choice([self._typed(kind), self._literal(kind)])
        return f"{table}.{column}"

    def _bare_value(self, kind: str) -> str:
        return self._random.choice(["NULL", self._literal(kind)])

    def _typed(self, kind: str) -> str:
        return f"({self._literal(kind)})::{kind}"

    def _literal(self, kind: str) -> str:
        return self._random.choice(_LITERALS[kind])

    def _type(self) -> str:
        return self._random.choice(TYPES)

    def _types(self) -> list[str]:
        return [self._type() for dummy in range(self._random.randint(1, 3))]
