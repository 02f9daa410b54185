"""Constraints and indexes."""

from __future__ import annotations

from tests.support.zoo.feature import Feature

CONSTRAINTS = (
    Feature(
        "CHECKs whose text changes when it is read back",
        """
        CREATE TABLE zoo.statuses (
            status varchar(20) DEFAULT 'new' CHECK (status IN ('new', 'active', 'it''s gone')),
            code char(3) CHECK (code NOT IN ('abc', 'def')),
            kind text CHECK (kind IN ('a', 'b')),
            level varchar CHECK (level = ANY (ARRAY['x', 'y']::varchar[])),
            n numeric CHECK (n BETWEEN 1 AND 10.5),
            name name CHECK (name IN ('a', 'b')),
            word varchar(9) CHECK (word LIKE 'a%' OR word = 'b' OR lower(word) <> 'c'),
            at timestamptz CHECK (at > '2000-01-01' AND at < '2100-01-01 00:00:00+05:30'),
            span interval CHECK (span < '1 day'::interval),
            amount real CHECK (amount > 0.1 AND amount < 1e10),
            CONSTRAINT nested CHECK (n BETWEEN 1 AND 5 AND name <> 'x' OR n NOT BETWEEN 3 AND 4 OR n IS NULL),
            CHECK ((status, code) IN (('new', 'aaa'), ('active', 'bbb')) OR code IS NULL)
        );
        INSERT INTO zoo.statuses (status) VALUES ('new'), (NULL);
        """,
    ),
    Feature(
        "the same in defaults, generated columns, indexes, statistics, policies, views, triggers and rules",
        (
            """
            CREATE TABLE zoo.in_lists (
                status varchar(20),
                is_open boolean DEFAULT ('a'::varchar IN ('a', 'b')),
                is_done boolean GENERATED ALWAYS AS (status IN ('done', 'gone')) STORED
            );
            INSERT INTO zoo.in_lists (status) VALUES ('a'), ('done');
            CREATE INDEX in_lists_partial ON zoo.in_lists (status) WHERE status IN ('a', 'b');
            CREATE INDEX in_lists_expression ON zoo.in_lists ((status IN ('a', 'b')));
            CREATE STATISTICS zoo.in_lists_statistics ON (status IN ('a', 'b')), is_open FROM zoo.in_lists;
            CREATE POLICY in_lists_policy ON zoo.in_lists USING (status IN ('a', 'b')) WITH CHECK (status NOT IN ('c', 'd'));
            CREATE VIEW zoo.in_lists_view AS SELECT * FROM zoo.in_lists WHERE status IN ('a', 'b');
            CREATE MATERIALIZED VIEW zoo.in_lists_stored AS SELECT status FROM zoo.in_lists WHERE status IN ('a', 'b');
            CREATE FUNCTION zoo.in_lists_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
            CREATE TRIGGER in_lists_trigger BEFORE UPDATE ON zoo.in_lists FOR EACH ROW
                WHEN (NEW.status IN ('a', 'b')) EXECUTE FUNCTION zoo.in_lists_trigger();
            CREATE RULE in_lists_rule AS ON DELETE TO zoo.in_lists WHERE OLD.status IN ('a', 'b') DO INSTEAD NOTHING;
            CREATE FUNCTION zoo.in_lists_body(varchar) RETURNS boolean LANGUAGE sql RETURN $1 IN ('a', 'b');
            CREATE FUNCTION zoo.in_lists_argument(a boolean DEFAULT ('a'::varchar IN ('a', 'b'))) RETURNS int LANGUAGE sql AS 'SELECT 1';
            CREATE DOMAIN zoo.in_lists_domain AS varchar(9) DEFAULT 'a' CHECK (VALUE IN ('a', 'b'));
            CREATE TABLE zoo.in_lists_partitioned (status varchar(9)) PARTITION BY LIST ((status IN ('a', 'b')));
            CREATE TABLE zoo.in_lists_partition PARTITION OF zoo.in_lists_partitioned FOR VALUES IN (true);
            """,
        ),
    ),
    Feature(
        "publication with a row filter and a list of columns",
        "CREATE PUBLICATION zoo_filtered FOR TABLE zoo.in_lists (status) WHERE (status = 'a' OR length(status) > 3)",
        min_version=15,
    ),
    Feature(
        "constraints that are not valid, with rows that break them",
        (
            "CREATE TABLE zoo.not_valid (id int, parent int, v text); INSERT INTO zoo.not_valid VALUES (-1, 99, NULL)",
            "ALTER TABLE zoo.not_valid ADD CONSTRAINT positive CHECK (id > 0) NOT VALID",
            "ALTER TABLE zoo.not_valid ADD CONSTRAINT child FOREIGN KEY (parent) REFERENCES zoo.empty NOT VALID",
            "ALTER TABLE zoo.not_valid ADD CONSTRAINT later CHECK (id <> 7) NO INHERIT NOT VALID",
        ),
    ),
    Feature(
        "NOT NULL with a name, not valid, and constraints that are not enforced",
        (
            """
            CREATE TABLE zoo.named_not_null (a int CONSTRAINT "must be" NOT NULL, b int, c int REFERENCES zoo.empty NOT ENFORCED,
            CONSTRAINT "may be" CHECK (b > 0) NOT ENFORCED); INSERT INTO zoo.named_not_null VALUES (1, -1, 99)
            """,
            "INSERT INTO zoo.named_not_null VALUES (1, NULL, NULL)",
            'ALTER TABLE zoo.named_not_null ADD CONSTRAINT "will be" NOT NULL b NOT VALID',
        ),
        min_version=18,
    ),
    Feature(
        "temporal keys",
        """
        CREATE TABLE zoo.temporal (id int4range, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
        CREATE TABLE zoo.temporal_child (id int4range, during daterange,
        FOREIGN KEY (id, PERIOD during) REFERENCES zoo.temporal (id, PERIOD during));
        INSERT INTO zoo.temporal VALUES ('[1,2)', '[2024-01-01,2025-01-01)')
        """,
        min_version=18,
    ),
    Feature(
        "exclusion constraints",
        """
        CREATE TABLE zoo.bookings (room int, during tsrange, area circle,
        EXCLUDE USING gist (during WITH &&) WHERE (room > 5), EXCLUDE USING gist (area WITH &&) DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO zoo.bookings VALUES (1, '[2024-01-01,2024-02-01)', '<(0,0),1>'), (2, '[2024-01-15,2024-02-01)', '<(9,9),1>')
        """,
    ),
    Feature(
        "foreign keys: circular, deferrable, to itself, of several columns, to and from partitioned tables",
        """
        CREATE TABLE zoo.hen (id int PRIMARY KEY, egg int NOT NULL);
        CREATE TABLE zoo.egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES zoo.hen DEFERRABLE INITIALLY DEFERRED);
        ALTER TABLE zoo.hen ADD FOREIGN KEY (egg) REFERENCES zoo.egg DEFERRABLE INITIALLY DEFERRED;
        INSERT INTO zoo.hen VALUES (1, 1); INSERT INTO zoo.egg VALUES (1, 1);
        CREATE TABLE zoo.tree (id int PRIMARY KEY, parent int REFERENCES zoo.tree ON DELETE CASCADE ON UPDATE SET NULL);
        INSERT INTO zoo.tree VALUES (1, 2), (2, 1), (3, NULL), (4, 4);
        CREATE TABLE zoo.visits (id int, day date, FOREIGN KEY (id, day) REFERENCES zoo.by_range MATCH FULL ON DELETE RESTRICT);
        INSERT INTO zoo.visits VALUES (1, '2023-01-02'), (NULL, NULL);
        CREATE TABLE zoo.partitioned_child (v int, parent int REFERENCES zoo.tree DEFERRABLE) PARTITION BY LIST (v);
        CREATE TABLE zoo.partitioned_child_1 PARTITION OF zoo.partitioned_child FOR VALUES IN (1);
        INSERT INTO zoo.partitioned_child VALUES (1, 3);
        """,
    ),
    Feature(
        "foreign key that nulls some columns",
        "CREATE TABLE zoo.some_nulled (id int, day date, FOREIGN KEY (id, day) REFERENCES zoo.by_range ON DELETE SET NULL (id))",
        min_version=15,
    ),
    Feature(
        "unique constraints: deferrable, with included columns, from an index",
        """
        CREATE TABLE zoo.uniques (a int UNIQUE DEFERRABLE, b int, c text, UNIQUE (b) INCLUDE (c));
        CREATE UNIQUE INDEX uniques_later ON zoo.uniques (c);
        ALTER TABLE zoo.uniques ADD CONSTRAINT "from index" UNIQUE USING INDEX uniques_later
        """,
    ),
    Feature(
        "unique with NULLs not distinct",
        "CREATE TABLE zoo.one_null (a int UNIQUE NULLS NOT DISTINCT); INSERT INTO zoo.one_null VALUES (NULL), (1)",
        min_version=15,
    ),
)

INDEXES = (
    Feature(
        "indexes of every method",
        """
        CREATE TABLE zoo.indexed (id int, v text, doc jsonb, tags text[], box box, at timestamptz, words tsvector);
        INSERT INTO zoo.indexed SELECT n, md5(n::text), jsonb_build_object('n', n), ARRAY[n::text], box(point(n, n), point(0, 0)),
            timestamptz '2024-01-01 00:00+00' + n * interval '1 min', to_tsvector('simple', md5(n::text)) FROM generate_series(1, 500) n;
        CREATE INDEX ON zoo.indexed USING hash (v);
        CREATE INDEX ON zoo.indexed USING gin (doc jsonb_path_ops) WITH (fastupdate = off);
        CREATE INDEX ON zoo.indexed USING gin (tags);
        CREATE INDEX ON zoo.indexed USING gist (box);
        CREATE INDEX ON zoo.indexed USING spgist (v);
        CREATE INDEX ON zoo.indexed USING brin (at) WITH (pages_per_range = 4);
        CREATE INDEX ON zoo.indexed USING gist (words tsvector_ops (siglen = 100));
        CREATE UNIQUE INDEX ON zoo.indexed (id DESC NULLS LAST) INCLUDE (v);
        CREATE INDEX ON zoo.indexed (v text_pattern_ops) WHERE id > 10 AND v IS NOT NULL;
        CREATE INDEX "expression's index" ON zoo.indexed (lower(v), (doc ->> 'n'), ((id + 1) * 2)) WITH (fillfactor = 50);
        ALTER INDEX zoo."expression's index" ALTER COLUMN 1 SET STATISTICS 100;
        """,
    ),
    Feature(
        "extended statistics",
        """
        CREATE STATISTICS zoo.some_statistics (ndistinct, mcv) ON id, v FROM zoo.indexed;
        CREATE STATISTICS zoo."expression statistics" ON lower(v), (id % 10) FROM zoo.indexed;
        ALTER STATISTICS zoo.some_statistics SET STATISTICS 77
        """,
    ),
)

INVALID_INDEX = "CREATE UNIQUE INDEX CONCURRENTLY invalid_index ON zoo.identical (a)"
"""Fails on the identical rows, and leaves an invalid index, which a dump leaves out."""

FEATURES = (*CONSTRAINTS, *INDEXES)
