"""Views, functions, triggers and everything else that is not a table."""

from __future__ import annotations

from tests.support.zoo.feature import Feature

FUNCTIONS = (
    Feature(
        "functions of every sort",
        r"""
        CREATE FUNCTION zoo."add %s"(a int, b int DEFAULT 2, VARIADIC c int[] DEFAULT '{}') RETURNS int LANGUAGE sql
            IMMUTABLE STRICT PARALLEL SAFE COST 5 LEAKPROOF AS $body$ SELECT a + b -- $$ 'quoted' \ %s $body$;
        CREATE FUNCTION zoo.outs(IN a int, OUT b int, INOUT c text) LANGUAGE plpgsql SET search_path = zoo, pg_temp
            SET datestyle = 'ISO, DMY' SECURITY DEFINER AS $$ BEGIN b := a; END $$;
        CREATE FUNCTION zoo.rows_of() RETURNS TABLE (x int, "y z" text) LANGUAGE sql STABLE ROWS 7 AS $$ SELECT 1, 'a' $$;
        CREATE FUNCTION zoo.rows_of_table() RETURNS SETOF zoo.many LANGUAGE sql AS 'SELECT * FROM zoo.many';
        CREATE FUNCTION zoo.overloaded(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION zoo.overloaded(text) RETURNS int LANGUAGE sql AS 'SELECT 2';
        CREATE FUNCTION zoo.atomic(a int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC
            SELECT count(*) FROM zoo.many WHERE id > a; SELECT a + 1; END;
        CREATE FUNCTION zoo.polymorphic(anyelement, anyarray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1';
        CREATE PROCEDURE zoo.work(INOUT a int DEFAULT 1) LANGUAGE plpgsql AS $$ BEGIN a := a + 1; COMMIT; END $$;
        CREATE FUNCTION zoo.default_of_table() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 41; END';
        CREATE TABLE zoo.default_by_function (a int DEFAULT zoo.default_of_table() + 1); INSERT INTO zoo.default_by_function DEFAULT VALUES;
        """,
    ),
    Feature(
        "aggregates",
        """
        CREATE AGGREGATE zoo.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0', MSFUNC = int4pl, MINVFUNC = int4mi,
            MSTYPE = int, MINITCOND = '0', COMBINEFUNC = int4pl, PARALLEL = SAFE);
        CREATE AGGREGATE zoo."ordered set"(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal,
            FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA = true);
        CREATE VIEW zoo.uses_aggregate AS SELECT zoo.total(id) FROM zoo.many;
        """,
    ),
    Feature(
        "operators, operator class, casts, conversion",
        (
            """
            CREATE FUNCTION zoo.less(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT abs($1) < abs($2)';
            CREATE FUNCTION zoo.less_equal(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT abs($1) <= abs($2)';
            CREATE FUNCTION zoo.equal(int, int) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT abs($1) = abs($2)';
            CREATE FUNCTION zoo.compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT abs($1) - abs($2)';
            CREATE OPERATOR zoo.|<| (FUNCTION = zoo.less, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(zoo.|>|));
            CREATE OPERATOR zoo.|<=| (FUNCTION = zoo.less_equal, LEFTARG = int, RIGHTARG = int);
            CREATE OPERATOR zoo.|=| (FUNCTION = zoo.equal, LEFTARG = int, RIGHTARG = int, RESTRICT = eqsel);
            CREATE OPERATOR zoo.|>=| (FUNCTION = zoo.less_equal, LEFTARG = int, RIGHTARG = int);
            CREATE OPERATOR zoo.|>| (FUNCTION = zoo.less, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(zoo.|<|));
            CREATE OPERATOR FAMILY zoo.absolute USING btree;
            CREATE OPERATOR CLASS zoo.absolute FOR TYPE int USING btree FAMILY zoo.absolute AS
                OPERATOR 1 zoo.|<|, OPERATOR 2 zoo.|<=|, OPERATOR 3 zoo.|=|, OPERATOR 4 zoo.|>=|, OPERATOR 5 zoo.|>|,
                FUNCTION 1 zoo.compare(int, int);
            CREATE TABLE zoo.absolutes (v int); INSERT INTO zoo.absolutes SELECT generate_series(-50, 50);
            CREATE INDEX ON zoo.absolutes (v zoo.absolute);
            CREATE VIEW zoo.uses_operator AS SELECT v OPERATOR(zoo.|<|) 5 AS small FROM zoo.absolutes;
            """,
            """
            CREATE FUNCTION zoo.pair_of(int) RETURNS zoo.pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1, NULL)::zoo.pair';
            CREATE CAST (int AS zoo.pair) WITH FUNCTION zoo.pair_of(int) AS ASSIGNMENT;
            CREATE CAST (zoo.mood AS text) WITH INOUT AS IMPLICIT;
            CREATE CONVERSION zoo.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
            """,
        ),
    ),
    Feature(
        "text search",
        """
        CREATE TEXT SEARCH DICTIONARY zoo."stop words" (TEMPLATE = simple, ACCEPT = false);
        CREATE TEXT SEARCH CONFIGURATION zoo.plain (COPY = pg_catalog.english);
        ALTER TEXT SEARCH CONFIGURATION zoo.plain ALTER MAPPING FOR asciiword, word WITH zoo."stop words", english_stem;
        ALTER TEXT SEARCH CONFIGURATION zoo.plain DROP MAPPING FOR url;
        CREATE TEXT SEARCH PARSER zoo.parser (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
        CREATE INDEX ON zoo.texts USING gin (to_tsvector('zoo.plain', v));
        """,
    ),
)

VIEWS = (
    Feature(
        "views of every sort",
        """
        CREATE VIEW zoo."view %s" AS SELECT id AS "id's", v FROM zoo.many WHERE v LIKE '%a\\_%';
        CREATE VIEW zoo.checked WITH (security_barrier) AS SELECT * FROM zoo.indexed WHERE id > 3 WITH CASCADED CHECK OPTION;
        CREATE RECURSIVE VIEW zoo.counter (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counter WHERE n < 5;
        CREATE VIEW zoo.by_primary_key AS SELECT id, v, count(*) FROM zoo.many GROUP BY id;
        CREATE VIEW zoo.grouped AS SELECT id % 3 AS a, length(v) AS b, count(*), grouping(id % 3) FROM zoo.many
            GROUP BY GROUPING SETS ((id % 3), (length(v)), ());
        CREATE VIEW zoo.windowed AS SELECT id, sum(id) OVER w, lag(v) OVER (w ROWS 2 PRECEDING) FROM zoo.many WINDOW w AS (ORDER BY id);
        CREATE VIEW zoo.joined AS SELECT * FROM zoo.tree t JOIN zoo.hen h USING (id) AS j LEFT JOIN LATERAL (SELECT t.parent + 1 AS up) l ON true;
        CREATE VIEW zoo.renamed AS SELECT a AS x FROM zoo.dropped; ALTER VIEW zoo.renamed RENAME x TO "y y";
        CREATE VIEW zoo.no_columns_view AS SELECT;
        """,
    ),
    Feature(
        "view with the invoker's rights",
        "CREATE VIEW zoo.invoker WITH (security_invoker) AS SELECT * FROM zoo.many",
        15,
    ),
    Feature(
        "materialized views: populated, not, stale, on one another, indexed",
        """
        CREATE TABLE zoo.source (v int); INSERT INTO zoo.source VALUES (1), (2);
        CREATE MATERIALIZED VIEW zoo.populated AS SELECT id, v FROM zoo.many WHERE id < 100;
        CREATE UNIQUE INDEX ON zoo.populated (id);
        CREATE MATERIALIZED VIEW zoo.unpopulated AS SELECT * FROM zoo.many WITH NO DATA;
        CREATE MATERIALIZED VIEW zoo.on_unpopulated AS SELECT * FROM zoo.unpopulated WITH NO DATA;
        CREATE MATERIALIZED VIEW zoo.fresh AS SELECT count(*) AS n FROM zoo.many;
        CREATE MATERIALIZED VIEW zoo.stale AS SELECT count(*) AS n, sum(v) FROM zoo.source;
        CREATE MATERIALIZED VIEW zoo."a on stale" AS SELECT n * 10 AS n FROM zoo.stale;
        INSERT INTO zoo.source VALUES (3);
        """,
    ),
    Feature(
        "a materialized view that differs with every refresh",
        "CREATE MATERIALIZED VIEW zoo.restless AS SELECT random() AS r, clock_timestamp() AS at, n FROM generate_series(1, 3) n",
    ),
)

TRIGGERS = (
    Feature(
        "rules, enabled and not",
        """
        CREATE TABLE zoo.ruled (a int, b text); INSERT INTO zoo.ruled VALUES (1, 'x'); CREATE TABLE zoo.ruled_log (a int, at text);
        CREATE RULE "log it" AS ON UPDATE TO zoo.ruled WHERE OLD.a <> NEW.a DO ALSO INSERT INTO zoo.ruled_log VALUES (OLD.a, 'update');
        CREATE RULE off AS ON DELETE TO zoo.ruled DO INSTEAD NOTHING; ALTER TABLE zoo.ruled DISABLE RULE off;
        CREATE RULE swallow AS ON INSERT TO zoo.ruled DO INSTEAD NOTHING; ALTER TABLE zoo.ruled ENABLE ALWAYS RULE swallow;
        CREATE VIEW zoo.writable AS SELECT a, b FROM zoo.ruled;
        CREATE RULE redirect AS ON INSERT TO zoo.writable DO INSTEAD INSERT INTO zoo.ruled_log VALUES (NEW.a, NEW.b) RETURNING a, at;
        """,
    ),
    Feature(
        "triggers, enabled and not, which would change or refuse what a restore writes",
        """
        CREATE TABLE zoo.triggered (a int, b text);
        INSERT INTO zoo.triggered VALUES (1, 'x'), (2, 'y');
        CREATE FUNCTION zoo.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused: %', TG_NAME; END $$;
        CREATE FUNCTION zoo.change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.b := 'changed'; RETURN NEW; END $$;
        CREATE FUNCTION zoo.ignore() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER "refuse %s" BEFORE INSERT ON zoo.triggered FOR EACH ROW WHEN (NEW.a > 100) EXECUTE FUNCTION zoo.refuse();
        CREATE TRIGGER change BEFORE INSERT OR UPDATE OF b ON zoo.triggered FOR EACH ROW EXECUTE FUNCTION zoo.change('an', 'arg''ument');
        CREATE TRIGGER disabled BEFORE INSERT ON zoo.triggered EXECUTE FUNCTION zoo.refuse();
        CREATE TRIGGER always AFTER DELETE ON zoo.triggered REFERENCING OLD TABLE AS gone EXECUTE FUNCTION zoo.ignore();
        CREATE TRIGGER on_replica AFTER INSERT ON zoo.triggered FOR EACH ROW EXECUTE FUNCTION zoo.ignore();
        ALTER TABLE zoo.triggered DISABLE TRIGGER disabled;
        ALTER TABLE zoo.triggered ENABLE ALWAYS TRIGGER always;
        ALTER TABLE zoo.triggered ENABLE REPLICA TRIGGER on_replica;
        CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON zoo.triggered FROM zoo.tree DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION zoo.ignore();
        CREATE TRIGGER instead INSTEAD OF INSERT ON zoo.renamed FOR EACH ROW EXECUTE FUNCTION zoo.ignore();
        CREATE TRIGGER of_partitions AFTER INSERT ON zoo.by_list FOR EACH ROW EXECUTE FUNCTION zoo.ignore();
        ALTER TABLE zoo.by_list_b DISABLE TRIGGER of_partitions;
        """,
    ),
    Feature(
        "row security, enabled, forced, and policies without it",
        """
        CREATE TABLE zoo.secured (owner name DEFAULT current_user, v text);
        INSERT INTO zoo.secured VALUES ('zoo_owner', 'a'), ('zoo_reader', 'b'), ('no role', 'c');
        ALTER TABLE zoo.secured OWNER TO zoo_owner; ALTER TABLE zoo.secured ENABLE ROW LEVEL SECURITY;
        CREATE POLICY "own rows" ON zoo.secured FOR SELECT TO zoo_reader, zoo_owner USING (owner = current_user);
        CREATE POLICY "not c" ON zoo.secured AS RESTRICTIVE FOR ALL TO PUBLIC USING (v <> 'c') WITH CHECK (v IS NOT NULL);
        GRANT SELECT ON zoo.secured TO zoo_reader;
        CREATE TABLE zoo.forced (v int); INSERT INTO zoo.forced VALUES (1); ALTER TABLE zoo.forced OWNER TO zoo_owner;
        ALTER TABLE zoo.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        """,
    ),
)

RIGHTS = (
    Feature(
        "rights, owners and default rights",
        """
        ALTER SCHEMA zoo OWNER TO zoo_owner;
        GRANT USAGE ON SCHEMA zoo, zoo_types, public TO zoo_reader, "zoo_Quo""ted Röle";
        GRANT SELECT ON ALL TABLES IN SCHEMA zoo TO zoo_reader;
        CREATE TABLE zoo.forbidden (secret text); INSERT INTO zoo.forbidden VALUES ('only for its owner');
        REVOKE ALL ON zoo.forbidden FROM zoo_reader, PUBLIC;
        ALTER TABLE zoo.many OWNER TO zoo_owner;
        GRANT SELECT, UPDATE ON public.twin TO "zoo_Quo""ted Röle" WITH GRANT OPTION;
        SET ROLE "zoo_Quo""ted Röle"; GRANT SELECT ON public.twin TO zoo_member; RESET ROLE;
        GRANT SELECT (a), UPDATE (b) ON zoo.dropped TO zoo_member;
        GRANT ALL ON zoo.empty TO PUBLIC; REVOKE ALL ON zoo.identical FROM postgres;
        GRANT USAGE ON SEQUENCE zoo.high TO zoo_reader; GRANT USAGE ON TYPE zoo.mood TO zoo_reader;
        REVOKE ALL ON FUNCTION zoo.outs(int, text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION zoo.outs(int, text) TO zoo_reader;
        REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC; GRANT USAGE ON FOREIGN SERVER "zoo'server" TO zoo_reader;
        ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner IN SCHEMA zoo GRANT SELECT ON TABLES TO zoo_reader;
        ALTER DEFAULT PRIVILEGES FOR ROLE zoo_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES FOR ROLE "zoo_Quo""ted Röle" GRANT USAGE ON SEQUENCES TO PUBLIC;
        """,
    ),
    Feature("rights on a system catalogue", "GRANT SELECT ON pg_catalog.pg_authid TO zoo_member"),
    Feature(
        "publications",
        """
        CREATE PUBLICATION zoo_all FOR ALL TABLES WITH (publish = 'insert');
        CREATE PUBLICATION "zoo_some's" FOR TABLE zoo.many, ONLY zoo.parent WITH (publish_via_partition_root);
        CREATE PUBLICATION zoo_none;
        """,
    ),
    Feature("publication of a schema", 'CREATE PUBLICATION zoo_schema FOR TABLES IN SCHEMA zoo, "new\nline"', 15),
    Feature(
        "comments on everything",
        r"""
        COMMENT ON SCHEMA zoo IS 'it''s "a" \ comment
of two lines, 😀 %s';
        COMMENT ON COLUMN zoo.many.id IS 'column'; COMMENT ON CONSTRAINT positive ON zoo.not_valid IS 'constraint';
        COMMENT ON CONSTRAINT "is even" ON DOMAIN zoo.even IS 'of a domain'; COMMENT ON DOMAIN zoo.even IS 'domain';
        COMMENT ON INDEX zoo.many_pkey IS 'index'; COMMENT ON SEQUENCE zoo.high IS 'sequence'; COMMENT ON TYPE zoo.pair IS 'type';
        COMMENT ON COLUMN zoo.pair.a IS 'of a type'; COMMENT ON VIEW zoo.checked IS 'view'; COMMENT ON COLUMN zoo.checked.id IS 'of a view';
        COMMENT ON MATERIALIZED VIEW zoo.stale IS 'stored'; COMMENT ON FUNCTION zoo.outs(int, text) IS 'function';
        COMMENT ON PROCEDURE zoo.work(int) IS 'procedure'; COMMENT ON AGGREGATE zoo.total(int) IS 'aggregate';
        COMMENT ON TRIGGER change ON zoo.triggered IS 'trigger'; COMMENT ON RULE "log it" ON zoo.ruled IS 'rule';
        COMMENT ON POLICY "own rows" ON zoo.secured IS 'policy'; COMMENT ON STATISTICS zoo.some_statistics IS 'statistics';
        COMMENT ON PUBLICATION zoo_none IS 'publication'; COMMENT ON FOREIGN DATA WRAPPER zoo_nothing IS 'wrapper';
        COMMENT ON SERVER "zoo'server" IS 'server'; COMMENT ON FOREIGN TABLE zoo.unreadable IS 'foreign'; COMMENT ON LANGUAGE plpgsql IS 'language';
        COMMENT ON OPERATOR zoo.|<| (int, int) IS 'operator'; COMMENT ON OPERATOR CLASS zoo.absolute USING btree IS 'class';
        COMMENT ON OPERATOR FAMILY zoo.absolute USING btree IS 'family'; COMMENT ON CAST (int AS zoo.pair) IS 'cast';
        COMMENT ON CONVERSION zoo.to_latin IS 'conversion'; COMMENT ON COLLATION zoo."own C" IS 'collation';
        COMMENT ON TEXT SEARCH CONFIGURATION zoo.plain IS 'search'; COMMENT ON TEXT SEARCH DICTIONARY zoo."stop words" IS 'words';
        COMMENT ON TEXT SEARCH PARSER zoo.parser IS 'parser'; COMMENT ON ACCESS METHOD zoo_heap IS 'method'; COMMENT ON EXTENSION plpgsql IS 'own words';
        """,
    ),
    Feature(
        "event triggers, enabled and not",
        """
        CREATE FUNCTION zoo.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END';
        CREATE EVENT TRIGGER "zoo watch" ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION zoo.watch();
        CREATE EVENT TRIGGER zoo_disabled ON sql_drop EXECUTE FUNCTION zoo.watch(); ALTER EVENT TRIGGER zoo_disabled DISABLE;
        COMMENT ON EVENT TRIGGER "zoo watch" IS 'event trigger';
        """,
    ),
)

ROLES = """
DO $$ BEGIN
    PERFORM pg_advisory_xact_lock(20240229);  -- roles belong to the whole server, and zoos may be built side by side
    IF to_regrole('zoo_owner') IS NULL THEN
        CREATE ROLE zoo_owner;
        CREATE ROLE zoo_reader LOGIN PASSWORD 'dummy-of-zoo-reader' CONNECTION LIMIT 50 VALID UNTIL 'infinity';
        CREATE ROLE "zoo_Quo""ted Röle" NOINHERIT CREATEDB CREATEROLE;
        CREATE ROLE zoo_member IN ROLE "zoo_Quo""ted Röle";
        GRANT zoo_owner TO zoo_member WITH ADMIN OPTION;
        ALTER ROLE zoo_reader SET search_path = zoo, "new
line";
        COMMENT ON ROLE zoo_owner IS 'owns the "zoo"';
    END IF;
END $$
"""
READER = ("zoo_reader", "dummy-of-zoo-reader")
"""A role without special rights, which may log in and read some of the zoo, and its password."""

#: Settings of the database that change how values look as text.
DATABASE_SETTINGS = (
    "ALTER DATABASE {db} SET DateStyle = 'SQL, DMY'",
    "ALTER DATABASE {db} SET TimeZone = 'Asia/Kolkata'",
    "ALTER DATABASE {db} SET IntervalStyle = 'iso_8601'",
    "ALTER DATABASE {db} SET extra_float_digits = 0",
    "ALTER DATABASE {db} SET bytea_output = 'escape'",
    "ALTER DATABASE {db} SET xmlbinary = 'hex'",
    "ALTER DATABASE {db} SET quote_all_identifiers = on",
    "ALTER DATABASE {db} SET standard_conforming_strings = off",
    "ALTER DATABASE {db} SET escape_string_warning = off",
    'ALTER DATABASE {db} SET search_path = zoo, "new\nline", public',
    "ALTER DATABASE {db} SET default_text_search_config = 'pg_catalog.german'",
    "ALTER DATABASE {db} SET default_toast_compression = 'pglz'",
    "ALTER DATABASE {db} SET default_transaction_isolation = 'serializable'",
    "ALTER DATABASE {db} SET default_transaction_deferrable = on",
    "ALTER DATABASE {db} SET \"zoo.setting\" = 'it''s \\ %s'",
    "ALTER ROLE zoo_reader IN DATABASE {db} SET work_mem = '7MB'",
    "COMMENT ON DATABASE {db} IS 'the \"zoo\" %s'",
    "GRANT CONNECT, CREATE ON DATABASE {db} TO zoo_reader",
)

FEATURES = (*FUNCTIONS, *VIEWS, *TRIGGERS, *RIGHTS)
