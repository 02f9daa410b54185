"""Changes of the real world that a fingerprint has to notice, each on objects of its own."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """What is there, what happens to it, and the differences that have to be found: exactly these."""

    before: str
    after: str
    found: tuple[str, ...]
    min_version: int = 14
    needs: str = ""


ROLES = tuple(
    f"DO $$ BEGIN CREATE ROLE {name}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    for name in ("fp_one", "fp_two")
)


def value(name: str, type_: str, before: str, after: str, *, needs: str = "") -> tuple[str, Change]:
    """One value of a type becomes another one, which may well be equal to it by the type's own rules."""
    table = f"v_{name.replace(' ', '_')}"
    create = f"CREATE TABLE {table} (id int, v {type_}); INSERT INTO {table} VALUES (1, {before}), (2, NULL)"
    return f"value: {name}", Change(
        create, f"UPDATE {table} SET v = {after} WHERE id = 1", (f"content of table public.{table}",), needs=needs
    )


def definition(name: str, before: str, after: str, *found: str, min_version: int = 14) -> tuple[str, Change]:
    """A definition becomes another one."""
    return name, Change(before, after, found, min_version)


VALUES = dict(
    [
        value("scale of numeric", "numeric", "1.0", "1.00"),
        value("scale of numeric in a domain", "fp_numeric", "1.0", "1.00"),
        value("negative zero", "float8", "0", "'-0'"),
        value("negative zero of real", "real", "0", "'-0'"),
        value("not a number", "float8", "'NaN'", "'Infinity'"),
        value("last digit of float8", "float8", "0.1", "0.10000000000000002"),
        value("interval of equal length", "interval", "'1 mon'", "'30 days'"),
        value("interval in other units", "interval", "'24:00'", "'1 day'"),
        value("same instant in another zone", "timetz", "'12:00+00'", "'13:00+01'"),
        value("microsecond", "timestamptz", "'2026-01-01 00:00:00.000001Z'", "'2026-01-01 00:00:00.000002Z'"),
        value("enum", "fp_enum", "'a'", "'b'"),
        value("blanks in json", "json", "'{\"a\":1}'", "'{\"a\": 1}'"),
        value("order of keys in json", "json", '\'{"a":1,"b":2}\'', '\'{"b":2,"a":1}\''),
        value("jsonb", "jsonb", "'{\"a\":1}'", "'{\"a\":2}'"),
        value("case under a collation that ignores it", "text COLLATE fp_ignoring_case", "'a'", "'A'", needs="icu"),
        value("case in a domain that ignores it", "fp_ignoring_text", "'a'", "'A'", needs="icu"),
        value("blank at the end of bpchar", "bpchar", "'a'", "'a '"),
        value("blank at the end", "text", "'a'", "'a '"),
        value("null or empty", "text", "''", "NULL"),
        value("lower bound of an array", "int[]", "'{1,2}'", "'[0:1]={1,2}'"),
        value("dimensions of an array", "int[]", "'{1,2}'", "'{{1,2}}'"),
        value("null in an array", "text[]", "'{NULL}'", "'{\"NULL\"}'"),
        value("scale in an array", "numeric[]", "'{1.0}'", "'{1.00}'"),
        value("field of a composite", "fp_pair", "'(1,a)'", "'(1,b)'"),
        value("null field of a composite", "fp_pair", "'(1,)'", "'(1,\"\")'"),
        value("type with a lossy cast to text", "fp_masked", "'(1,a)'", "'(2,a)'"),
        value("bound of a range", "numrange", "'[1,2]'", "'[1,2)'"),
        value("scale in a range", "numrange", "'[1.0,2]'", "'[1,2]'"),
        value("bit", "bit varying", "B'10'", "B'100'"),
        value("byte", "bytea", "'\\x00ff'", "'\\x00fe'"),
        value("netmask", "inet", "'10.0.0.1/8'", "'10.0.0.1/9'"),
        value("char", '"char"', "'a'", "'b'"),
        value("oid", "oid", "1", "2"),
        value("large text", "text", "repeat('abc', 50000)", "repeat('abc', 49999) || 'abd'"),
    ]
)

ROWS = {
    "a row is changed": Change(
        "CREATE TABLE r1 (a int, b text); INSERT INTO r1 SELECT n, 'x' FROM generate_series(1, 1000) n",
        "UPDATE r1 SET b = 'y' WHERE a = 500",
        ("content of table public.r1",),
    ),
    "a row is deleted": Change(
        "CREATE TABLE r2 (a int); INSERT INTO r2 VALUES (1), (2)",
        "DELETE FROM r2 WHERE a = 1",
        ("rows of table public.r2",),
    ),
    "a row is doubled": Change(
        "CREATE TABLE r3 (a int); INSERT INTO r3 VALUES (1), (2)",
        "INSERT INTO r3 VALUES (1)",
        ("rows of table public.r3",),
    ),
    "a row is doubled and another one deleted": Change(
        "CREATE TABLE r4 (a int); INSERT INTO r4 VALUES (1), (2)",
        "UPDATE r4 SET a = 1 WHERE a = 2",
        ("content of table public.r4",),
    ),
    "a pair of rows is replaced by another pair": Change(  # an XOR of hashes would be blind to it
        "CREATE TABLE r5 (a int); INSERT INTO r5 VALUES (1), (1), (3)",
        "UPDATE r5 SET a = 2 WHERE a = 1",
        ("content of table public.r5",),
    ),
    "values swap rows": Change(
        "CREATE TABLE r6 (a int, b fp_enum); INSERT INTO r6 VALUES (1, 'a'), (2, 'b')",
        "UPDATE r6 SET b = CASE b WHEN 'a' THEN 'b'::fp_enum ELSE 'a' END",
        ("content of table public.r6",),
    ),
    "values swap columns": Change(
        "CREATE TABLE r7 (a text, b text); INSERT INTO r7 VALUES ('x', NULL)",
        "UPDATE r7 SET a = NULL, b = 'x'",
        ("content of table public.r7",),
    ),
    "a separator moves between columns": Change(
        "CREATE TABLE r8 (a text, b text); INSERT INTO r8 VALUES ('x,y', 'z')",
        "UPDATE r8 SET a = 'x', b = 'y,z'",
        ("content of table public.r8",),
    ),
    "a row without columns appears": Change(
        "CREATE TABLE r9 (); INSERT INTO r9 DEFAULT VALUES",
        "INSERT INTO r9 DEFAULT VALUES",
        ("rows of table public.r9",),
    ),
    "a row moves from the parent to a child": Change(
        "CREATE TABLE r10 (a int); CREATE TABLE r10_child () INHERITS (r10); INSERT INTO r10 VALUES (1)",
        "TRUNCATE r10; INSERT INTO r10_child VALUES (1)",
        ("rows of table public.r10", "rows of table public.r10_child"),
    ),
    "a row of a partition is changed": Change(
        """CREATE TABLE r11 (a int, b text) PARTITION BY RANGE (a);
           CREATE TABLE r11_1 PARTITION OF r11 FOR VALUES FROM (0) TO (10); INSERT INTO r11 VALUES (1, 'x')""",
        "UPDATE r11 SET b = 'y'",
        ("content of table public.r11_1",),
    ),
    "a row is changed where an enum's hash distributes them": Change(
        """CREATE TABLE r12 (a fp_enum, b text) PARTITION BY HASH (a);
           CREATE TABLE r12_0 PARTITION OF r12 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
           CREATE TABLE r12_1 PARTITION OF r12 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
           INSERT INTO r12 VALUES ('a', 'x'), ('b', 'x'), ('c', 'x')""",
        "UPDATE r12 SET b = 'y' WHERE a = 'b'",
        ("content of table public.r12",),
    ),
    "an unlogged table is emptied": Change(
        "CREATE UNLOGGED TABLE r13 (a int); INSERT INTO r13 VALUES (1)",
        "TRUNCATE r13",
        ("rows of table public.r13",),
    ),
    "a table is dropped": Change(
        "CREATE TABLE r14 (a int)",
        "DROP TABLE r14",
        ("table public.r14 is missing", "object table public.r14 is missing"),
    ),
}

DEFINITIONS = dict(
    [
        definition("order of columns", "CREATE TABLE d1 (a int, b int)",
                   "DROP TABLE d1; CREATE TABLE d1 (b int, a int)", "definition of table public.d1"),
        definition("type of a column", "CREATE TABLE d2 (a int)", "ALTER TABLE d2 ALTER a TYPE bigint", "definition of table public.d2"),
        definition("length of a column", "CREATE TABLE d2b (a varchar(5))", "ALTER TABLE d2b ALTER a TYPE varchar(6)",
                   "definition of table public.d2b"),
        definition("default", "CREATE TABLE d3 (a int DEFAULT 1)", "ALTER TABLE d3 ALTER a SET DEFAULT 2", "definition of table public.d3"),
        definition("collation", "CREATE TABLE d4 (a text)", 'ALTER TABLE d4 ALTER a TYPE text COLLATE "C"', "definition of table public.d4"),
        definition("not null", "CREATE TABLE d5 (a int NOT NULL)", "ALTER TABLE d5 ALTER a DROP NOT NULL", "definition of table public.d5"),
        definition("name of a column", "CREATE TABLE d6 (a int)", "ALTER TABLE d6 RENAME a TO b", "definition of table public.d6"),
        definition("column added", "CREATE TABLE d7 (a int)", "ALTER TABLE d7 ADD b int", "definition of table public.d7"),
        definition("column dropped", "CREATE TABLE d8 (a int, b int)", "ALTER TABLE d8 DROP b", "definition of table public.d8"),
        definition("identity", "CREATE TABLE d9 (a int GENERATED ALWAYS AS IDENTITY)",
                   "ALTER TABLE d9 ALTER a SET GENERATED BY DEFAULT", "definition of table public.d9"),
        definition("generated expression", "CREATE TABLE d10 (a int, b int GENERATED ALWAYS AS (a * 2) STORED)",
                   "ALTER TABLE d10 DROP b; ALTER TABLE d10 ADD b int GENERATED ALWAYS AS (a * 3) STORED", "definition of table public.d10"),
        definition("storage", "CREATE TABLE d11 (a text)", "ALTER TABLE d11 ALTER a SET STORAGE external", "definition of table public.d11"),
        definition("statistics target", "CREATE TABLE d12 (a text)", "ALTER TABLE d12 ALTER a SET STATISTICS 7", "definition of table public.d12"),
        definition("fillfactor", "CREATE TABLE d13 (a int)", "ALTER TABLE d13 SET (fillfactor = 50)", "definition of table public.d13"),
        definition("logged", "CREATE TABLE d14 (a int)", "ALTER TABLE d14 SET UNLOGGED", "definition of table public.d14"),
        definition("owner", "CREATE TABLE d15 (a int)", "ALTER TABLE d15 OWNER TO fp_one", "definition of table public.d15"),
        definition("right to a table", "CREATE TABLE d16 (a int)", "GRANT SELECT ON d16 TO fp_one", "definition of table public.d16"),
        definition("grant option", "CREATE TABLE d17 (a int); GRANT SELECT ON d17 TO fp_one",
                   "GRANT SELECT ON d17 TO fp_one WITH GRANT OPTION", "definition of table public.d17"),
        definition("right to a column", "CREATE TABLE d18 (a int)", "GRANT SELECT (a) ON d18 TO fp_one", "definition of table public.d18"),
        definition("row-level security on", "CREATE TABLE d19 (a int)", "ALTER TABLE d19 ENABLE ROW LEVEL SECURITY", "definition of table public.d19"),
        definition("row-level security forced", "CREATE TABLE d20 (a int)", "ALTER TABLE d20 FORCE ROW LEVEL SECURITY",
                   "definition of table public.d20"),
        definition("replica identity", "CREATE TABLE d21 (a int)", "ALTER TABLE d21 REPLICA IDENTITY FULL", "definition of table public.d21"),
        definition("inheritance", "CREATE TABLE d22 (a int); CREATE TABLE d22_child () INHERITS (d22)",
                   "ALTER TABLE d22_child NO INHERIT d22", "definition of table public.d22_child"),
        definition("partition bound", """CREATE TABLE d23 (a int) PARTITION BY LIST (a); CREATE TABLE d23_1 PARTITION OF d23 FOR VALUES IN (1)""",
                   "ALTER TABLE d23 DETACH PARTITION d23_1; ALTER TABLE d23 ATTACH PARTITION d23_1 FOR VALUES IN (2)",
                   "definition of table public.d23_1"),
        definition("index dropped", "CREATE TABLE d24 (a int); CREATE INDEX d24_a ON d24 (a)", "DROP INDEX d24_a", "object index public.d24_a is missing"),
        definition("index made unique", "CREATE TABLE d25 (a int); CREATE INDEX d25_a ON d25 (a)",
                   "DROP INDEX d25_a; CREATE UNIQUE INDEX d25_a ON d25 (a)", "definition of index public.d25_a"),
        definition("condition of an index", "CREATE TABLE d26 (a varchar); CREATE INDEX d26_a ON d26 (a) WHERE a IN ('x', 'y')",
                   "DROP INDEX d26_a; CREATE INDEX d26_a ON d26 (a) WHERE a IN ('x', 'z')", "definition of index public.d26_a"),
        definition("clustered", "CREATE TABLE d27 (a int); CREATE INDEX d27_a ON d27 (a)", "ALTER TABLE d27 CLUSTER ON d27_a",
                   "definition of index public.d27_a"),
        definition("constraint not valid", "CREATE TABLE d28 (a int, CONSTRAINT d28_a CHECK (a > 0))",
                   "ALTER TABLE d28 DROP CONSTRAINT d28_a; ALTER TABLE d28 ADD CONSTRAINT d28_a CHECK (a > 0) NOT VALID",
                   "definition of constraint d28_a on public.d28"),
        definition("and becomes or", "CREATE TABLE d29 (a int, CONSTRAINT d29_a CHECK (a > 0 AND a < 9))",
                   "ALTER TABLE d29 DROP CONSTRAINT d29_a; ALTER TABLE d29 ADD CONSTRAINT d29_a CHECK (a > 0 OR a < 9)",
                   "definition of constraint d29_a on public.d29"),
        definition("foreign key's action", "CREATE TABLE d30 (a int PRIMARY KEY, b int, CONSTRAINT d30_b FOREIGN KEY (b) REFERENCES d30)",
                   "ALTER TABLE d30 DROP CONSTRAINT d30_b; ALTER TABLE d30 ADD CONSTRAINT d30_b FOREIGN KEY (b) REFERENCES d30 ON DELETE CASCADE",
                   "definition of constraint d30_b on public.d30"),
        definition("constraint dropped", "CREATE TABLE d31 (a int, CONSTRAINT d31_a UNIQUE (a))", "ALTER TABLE d31 DROP CONSTRAINT d31_a",
                   "object constraint d31_a on public.d31 is missing", "object index public.d31_a is missing"),
        definition("trigger disabled",
                   "CREATE TABLE d32 (a int); CREATE TRIGGER t BEFORE UPDATE ON d32 FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                   "ALTER TABLE d32 DISABLE TRIGGER t", "definition of trigger t on public.d32"),
        definition("trigger dropped",
                   "CREATE TABLE d33 (a int); CREATE TRIGGER t BEFORE UPDATE ON d33 FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                   "DROP TRIGGER t ON d33", "object trigger t on public.d33 is missing"),
        definition("rule", "CREATE TABLE d34 (a int); CREATE RULE r AS ON INSERT TO d34 WHERE new.a > 1 DO INSTEAD NOTHING",
                   "CREATE OR REPLACE RULE r AS ON INSERT TO d34 WHERE new.a > 2 DO INSTEAD NOTHING", "definition of rule r on public.d34"),
        definition("policy", "CREATE TABLE d35 (a int); CREATE POLICY p ON d35 USING (a > 1)", "ALTER POLICY p ON d35 USING (a > 2)",
                   "definition of policy p on public.d35"),
        definition("roles of a policy", "CREATE TABLE d36 (a int); CREATE POLICY p ON d36 TO fp_one USING (a > 1)", "ALTER POLICY p ON d36 TO fp_two",
                   "definition of policy p on public.d36"),
        definition("body of a function", "CREATE FUNCTION f1() RETURNS text LANGUAGE sql AS 'SELECT ''a b'''",
                   "CREATE OR REPLACE FUNCTION f1() RETURNS text LANGUAGE sql AS 'SELECT ''ab'''", "definition of function public.f1()"),
        definition("brackets in a body with casts", "CREATE FUNCTION f1b() RETURNS int LANGUAGE sql AS 'SELECT (1+2)*3 -- ::text AND x'",
                   "CREATE OR REPLACE FUNCTION f1b() RETURNS int LANGUAGE sql AS 'SELECT 1+(2*3) -- ::text AND x'", "definition of function public.f1b()"),
        definition("volatility of a function", "CREATE FUNCTION f2() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION f2() IMMUTABLE",
                   "definition of function public.f2()"),
        definition("rights to a function", "CREATE FUNCTION f3() RETURNS int LANGUAGE sql AS 'SELECT 1'", "REVOKE EXECUTE ON FUNCTION f3() FROM PUBLIC",
                   "definition of function public.f3()"),
        definition("security of a function", "CREATE FUNCTION f4() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION f4() SECURITY DEFINER",
                   "definition of function public.f4()"),
        definition("aggregate", "CREATE AGGREGATE f5(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')",
                   "DROP AGGREGATE f5(int); CREATE AGGREGATE f5(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')",
                   "definition of aggregate public.f5(integer)"),
        definition("procedure", "CREATE PROCEDURE f6() LANGUAGE sql AS 'SELECT 1'", "CREATE OR REPLACE PROCEDURE f6() LANGUAGE sql AS 'SELECT 2'",
                   "definition of procedure public.f6()"),
        definition("label of an enum", "CREATE TYPE y1 AS ENUM ('a', 'c')", "ALTER TYPE y1 ADD VALUE 'b' BEFORE 'c'", "definition of type public.y1"),
        definition("order of labels", "CREATE TYPE y2 AS ENUM ('a', 'b')", "DROP TYPE y2; CREATE TYPE y2 AS ENUM ('b', 'a')", "definition of type public.y2"),
        definition("attribute of a composite type", "CREATE TYPE y3 AS (a int)", "ALTER TYPE y3 ADD ATTRIBUTE b int", "definition of type public.y3"),
        definition("default of a domain", "CREATE DOMAIN y4 AS int DEFAULT 1", "ALTER DOMAIN y4 SET DEFAULT 2", "definition of type public.y4"),
        definition("constraint of a domain", "CREATE DOMAIN y5 AS int CONSTRAINT c CHECK (VALUE > 0)",
                   "ALTER DOMAIN y5 DROP CONSTRAINT c; ALTER DOMAIN y5 ADD CONSTRAINT c CHECK (VALUE > 1)", "definition of constraint c on public.y5"),
        definition("range type", "CREATE TYPE y6 AS RANGE (subtype = float8)",
                   "DROP TYPE y6; CREATE TYPE y6 AS RANGE (subtype = float8, subtype_diff = float8mi)", "definition of type public.y6"),
        definition("view", "CREATE TABLE w0 (a int); CREATE VIEW w1 AS SELECT a FROM w0 WHERE a > 1",
                   "CREATE OR REPLACE VIEW w1 AS SELECT a FROM w0 WHERE a > 2",
                   "definition of view public.w1"),
        definition("security barrier of a view", "CREATE VIEW w2 AS SELECT 1 AS a", "ALTER VIEW w2 SET (security_barrier)", "definition of view public.w2"),
        definition("materialized view", "CREATE MATERIALIZED VIEW w3 AS SELECT 1 AS a",
                   "DROP MATERIALIZED VIEW w3; CREATE MATERIALIZED VIEW w3 AS SELECT 2 AS a",
                   "definition of materialized view public.w3"),
        definition("materialized view not filled", "CREATE MATERIALIZED VIEW w4 AS SELECT 1 AS a", "REFRESH MATERIALIZED VIEW w4 WITH NO DATA",
                   "definition of materialized view public.w4"),
        definition("value of a sequence", "CREATE SEQUENCE s1; SELECT setval('s1', 7)", "SELECT setval('s1', 8)",
                   "value of sequence public.s1: 7 in the source, 8 in the copy"),
        definition("a sequence that was never called", "CREATE SEQUENCE s2", "SELECT nextval('s2')",
                   "value of sequence public.s2: 0 in the source, 1 in the copy"),
        definition("increment of a sequence", "CREATE SEQUENCE s3; SELECT nextval('s3')", "ALTER SEQUENCE s3 INCREMENT 2", "definition of sequence public.s3"),
        definition("limit of a sequence", "CREATE SEQUENCE s4; SELECT nextval('s4')", "ALTER SEQUENCE s4 MAXVALUE 99", "definition of sequence public.s4"),
        definition("owner of a sequence", "CREATE TABLE s5_t (a int); CREATE SEQUENCE s5", "ALTER SEQUENCE s5 OWNED BY s5_t.a",
                   "definition of sequence public.s5"),
        definition("comment", "CREATE TABLE c1 (a int); COMMENT ON TABLE c1 IS 'x'", "COMMENT ON TABLE c1 IS 'y'", "definition of comment table public.c1"),
        definition("comment of a column", "CREATE TABLE c2 (a int)", "COMMENT ON COLUMN c2.a IS 'y'",
                   "object comment table column public.c2.a is not in the source"),
        definition("schema", "CREATE SCHEMA n1", "DROP SCHEMA n1", "object schema n1 is missing"),
        definition("owner of a schema", "CREATE SCHEMA n2", "ALTER SCHEMA n2 OWNER TO fp_one", "definition of schema n2"),
        definition("right to a schema", "CREATE SCHEMA n3", "GRANT USAGE ON SCHEMA n3 TO fp_one", "definition of schema n3"),
        definition("default privileges", "CREATE SCHEMA n4", "ALTER DEFAULT PRIVILEGES IN SCHEMA n4 GRANT SELECT ON TABLES TO fp_one",
                   "object default privileges postgres r n4 is not in the source"),
        definition("extension", "SELECT 1", "DROP EXTENSION plpgsql", "object extension plpgsql is missing"),
        definition("extended statistics", "CREATE TABLE x1 (a int, b int); CREATE STATISTICS x1_s (ndistinct) ON a, b FROM x1",
                   "DROP STATISTICS x1_s; CREATE STATISTICS x1_s (mcv) ON a, b FROM x1", "definition of statistics public.x1_s"),
        definition("table of a publication", "CREATE TABLE x2 (a int); CREATE PUBLICATION x2_p FOR TABLE x2", "ALTER PUBLICATION x2_p DROP TABLE x2",
                   "definition of publication x2_p"),
        definition("row filter of a publication", "CREATE TABLE x3 (a int); CREATE PUBLICATION x3_p FOR TABLE x3 WHERE (a > 1)",
                   "ALTER PUBLICATION x3_p SET TABLE x3 WHERE (a > 2)", "definition of publication x3_p", min_version=15),
        definition("columns of a publication", "CREATE TABLE x4 (a int, b int); CREATE PUBLICATION x4_p FOR TABLE x4 (a)",
                   "ALTER PUBLICATION x4_p SET TABLE x4 (b)", "definition of publication x4_p", min_version=15),
        definition("operator", "CREATE OPERATOR |+| (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
                   "DROP OPERATOR |+| (int, int); CREATE OPERATOR |+| (LEFTARG = int, RIGHTARG = int, FUNCTION = int4mi)",
                   "definition of operator public.|+|(integer,integer)"),
        definition("cast", "CREATE TYPE x5 AS ENUM ('a'); CREATE CAST (x5 AS varchar) WITH INOUT",
                   "DROP CAST (x5 AS varchar); CREATE CAST (x5 AS varchar) WITH INOUT AS IMPLICIT", "definition of cast public.x5 as character varying"),
        definition("text search configuration", "CREATE TEXT SEARCH CONFIGURATION x6 (COPY = simple)",
                   "ALTER TEXT SEARCH CONFIGURATION x6 DROP MAPPING FOR word",
                   "definition of text search configuration public.x6"),
        definition("options of a foreign server", "CREATE FOREIGN DATA WRAPPER x7; CREATE SERVER x7_s FOREIGN DATA WRAPPER x7 OPTIONS (a '1')",
                   "ALTER SERVER x7_s OPTIONS (SET a '2')", "definition of foreign server x7_s"),
        definition("options of a foreign table",
                   "CREATE FOREIGN DATA WRAPPER x8; CREATE SERVER x8_s FOREIGN DATA WRAPPER x8; CREATE FOREIGN TABLE x8_t (a int) SERVER x8_s OPTIONS (a '1')",
                   "ALTER FOREIGN TABLE x8_t OPTIONS (SET a '2')", "definition of foreign table public.x8_t"),
        definition("user mapping", "CREATE FOREIGN DATA WRAPPER x9; CREATE SERVER x9_s FOREIGN DATA WRAPPER x9", "CREATE USER MAPPING FOR fp_one SERVER x9_s",
                   "object user mapping fp_one on x9_s is not in the source"),
    ]
)  # fmt: skip

PREPARE = (
    *ROLES,
    "CREATE TYPE fp_enum AS ENUM ('a', 'b', 'c'); CREATE TYPE fp_pair AS (a int, b text); CREATE DOMAIN fp_numeric AS numeric",
    "CREATE TYPE fp_masked AS (a int, b text); CREATE FUNCTION fp_mask(fp_masked) RETURNS text LANGUAGE sql AS 'SELECT ''***'''",
    "CREATE CAST (fp_masked AS text) WITH FUNCTION fp_mask(fp_masked)",
)
WITH_ICU = (
    "CREATE COLLATION fp_ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE DOMAIN fp_ignoring_text AS text COLLATE fp_ignoring_case",
)
