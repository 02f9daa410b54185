"""A zoo of bloat: relations in every state that fools an estimate, and the truth by really rewriting them.

Every relation is some hundred pages large, so that one page more or less is less than half a point.
Autovacuum must be off on the server: the states are made, not left to chance.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.databases import Database

SCHEMA = "bloat_zoo"

_CREATE: dict[str, tuple[str, ...]] = {
    # --- tables: fresh, and bloated in the usual ways
    "fresh": (
        "CREATE TABLE fresh AS SELECT n AS id, md5(n::text) AS v, now() AS at FROM generate_series(1, 60000) n",
        "CREATE UNIQUE INDEX fresh_id ON fresh (id)",
        "VACUUM ANALYZE fresh",
    ),
    "churned": (
        "CREATE TABLE churned AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 60000) n",
        "CREATE UNIQUE INDEX churned_id ON churned (id)",
        "CREATE INDEX churned_v ON churned (v)",
        "DELETE FROM churned WHERE id % 5 < 3",
        "VACUUM ANALYZE churned",
    ),
    "dead": (  # updated once, and never vacuumed
        "CREATE TABLE dead AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 40000) n",
        "CREATE INDEX dead_id ON dead (id)",
        "UPDATE dead SET v = md5(v)",
        "ANALYZE dead",
    ),
    "hot": (  # HOT chains, pruned and not
        "CREATE TABLE hot (id int, n int, v text) WITH (fillfactor = 70)",
        "CREATE INDEX hot_id ON hot (id)",
        "INSERT INTO hot SELECT n, 0, md5(n::text) FROM generate_series(1, 40000) n",
        "UPDATE hot SET n = n + 1 WHERE id % 3 = 0",
        "UPDATE hot SET n = n + 1 WHERE id % 3 = 0",
        "VACUUM ANALYZE hot",
        "UPDATE hot SET n = n + 1 WHERE id % 7 = 0",
        "ANALYZE hot",
    ),
    "first_half_gone": (
        "CREATE TABLE first_half_gone AS SELECT n AS id, n % 7 AS v FROM generate_series(1, 120000) n",
        "CREATE INDEX first_half_gone_id ON first_half_gone (id)",
        "DELETE FROM first_half_gone WHERE id <= 60000",
        "VACUUM ANALYZE first_half_gone",
    ),
    "last_tenth_left": (
        "CREATE TABLE last_tenth_left AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 60000) n",
        "CREATE INDEX last_tenth_left_v ON last_tenth_left (v)",
        "CREATE INDEX last_tenth_left_id ON last_tenth_left (id)",
        "DELETE FROM last_tenth_left WHERE id <= 54000",
        "VACUUM ANALYZE last_tenth_left",
    ),
    # --- fillfactor
    "loose": (
        "CREATE TABLE loose (id int, v text) WITH (fillfactor = 60)",
        "INSERT INTO loose SELECT n, md5(n::text) FROM generate_series(1, 40000) n",
        "CREATE INDEX loose_id ON loose (id) WITH (fillfactor = 50)",
        "VACUUM ANALYZE loose",
    ),
    "loose_churned": (
        "CREATE TABLE loose_churned (id int, v text) WITH (fillfactor = 70)",
        "INSERT INTO loose_churned SELECT n, md5(n::text) FROM generate_series(1, 60000) n",
        "DELETE FROM loose_churned WHERE id % 2 = 0",
        "VACUUM ANALYZE loose_churned",
    ),
    "tightened": (  # filled before the fillfactor was lowered: a rewrite would make it larger
        "CREATE TABLE tightened AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 40000) n",
        "ALTER TABLE tightened SET (fillfactor = 80)",
        "VACUUM ANALYZE tightened",
    ),
    # --- shapes of rows
    "narrow": (
        "CREATE TABLE narrow AS SELECT n % 2 = 0 AS v FROM generate_series(1, 150000) n",
        "DELETE FROM narrow WHERE ctid IN (SELECT ctid FROM narrow WHERE v LIMIT 30000)",
        "VACUUM ANALYZE narrow",
    ),
    "misaligned": (
        "CREATE TABLE misaligned (a bool, b bigint, c bool, d timestamptz, e smallint, f uuid, g float8)",
        """INSERT INTO misaligned SELECT n % 2 = 0, n, true, now(), 1, gen_random_uuid(), n
           FROM generate_series(1, 40000) n""",
        "DELETE FROM misaligned WHERE b % 4 = 0",
        "VACUUM ANALYZE misaligned",
    ),
    "null_filled": (
        f"CREATE TABLE null_filled (id int, {', '.join(f'c{n} bigint' for n in range(20))}, v text)",
        """INSERT INTO null_filled (id, c3, c7, v)
           SELECT n, CASE WHEN n % 3 = 0 THEN n END, CASE WHEN n % 5 = 0 THEN n END,
                  CASE WHEN n % 2 = 0 THEN repeat('x', n % 60) END FROM generate_series(1, 60000) n""",
        "DELETE FROM null_filled WHERE id % 4 = 1",
        "VACUUM ANALYZE null_filled",
    ),
    "mixed_widths": (
        """CREATE TABLE mixed_widths AS SELECT n AS id, left(repeat(md5(n::text), 50), (random() * 1500)::int) AS v
           FROM generate_series(1, 8000) n""",
        "ALTER TABLE mixed_widths ALTER v SET STORAGE PLAIN",
        "DELETE FROM mixed_widths WHERE id % 3 = 0",
        "VACUUM ANALYZE mixed_widths",
    ),
    "five_to_a_page": (
        "CREATE TABLE five_to_a_page (id int, v text)",
        "ALTER TABLE five_to_a_page ALTER v SET STORAGE PLAIN",
        "INSERT INTO five_to_a_page SELECT n, repeat('x', 1400) FROM generate_series(1, 4000) n",
        "VACUUM ANALYZE five_to_a_page",
    ),
    "two_to_a_page": (  # a quarter of every page cannot be used, and no rewrite will change that
        "CREATE TABLE two_to_a_page (id int, v text)",
        "ALTER TABLE two_to_a_page ALTER v SET STORAGE PLAIN",
        "INSERT INTO two_to_a_page SELECT n, repeat('x', 3000) FROM generate_series(1, 1200) n",
        "DELETE FROM two_to_a_page WHERE id % 6 = 0",
        "VACUUM ANALYZE two_to_a_page",
    ),
    "columns_dropped": (
        "CREATE TABLE columns_dropped AS SELECT n AS id, n AS a, md5(n::text) AS gone FROM generate_series(1, 50000) n",
        "ALTER TABLE columns_dropped DROP gone",
        "VACUUM ANALYZE columns_dropped",
    ),
    "columns_added": (
        "CREATE TABLE columns_added AS SELECT n AS id FROM generate_series(1, 90000) n",
        "DELETE FROM columns_added WHERE id % 3 > 0",
        "ALTER TABLE columns_added ADD b bigint DEFAULT 7",
        "VACUUM ANALYZE columns_added",
    ),
    # --- TOAST
    "toasted": (
        "CREATE TABLE toasted (id int, note text, v text)",
        "ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL",
        """INSERT INTO toasted SELECT n, md5(n::text), left(repeat(md5(n::text), 400), 2500 + (n * 7919) % 7000)
           FROM generate_series(1, 2500) n""",
        "DELETE FROM toasted WHERE id % 5 < 2",
        "VACUUM ANALYZE toasted",
    ),
    "toasted_fresh": (
        "CREATE TABLE toasted_fresh (id int, v text)",
        "ALTER TABLE toasted_fresh ALTER v SET STORAGE EXTERNAL",
        "INSERT INTO toasted_fresh SELECT n, repeat(md5(n::text), 100) FROM generate_series(1, 1500) n",
        "VACUUM ANALYZE toasted_fresh",
    ),
    "compressed": (
        "CREATE TABLE compressed AS SELECT n AS id, repeat(md5(n::text), 90 + n % 50) AS v FROM generate_series(1, 15000) n",
        "DELETE FROM compressed WHERE id % 2 = 0",
        "VACUUM ANALYZE compressed",
    ),
    # --- statistics that are not there, or old
    "never_analyzed": (
        "CREATE TABLE never_analyzed AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 50000) n",
        "CREATE INDEX never_analyzed_v ON never_analyzed (v)",
        "DELETE FROM never_analyzed WHERE id % 2 = 0",
    ),
    "stale": (
        "CREATE TABLE stale AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 50000) n",
        "CREATE INDEX stale_v ON stale (v)",
        "VACUUM ANALYZE stale",
        "DELETE FROM stale WHERE id % 10 > 0",
    ),
    "grown_since": (
        "CREATE TABLE grown_since AS SELECT n AS id, 'x'::text AS v FROM generate_series(1, 1000) n",
        "VACUUM ANALYZE grown_since",
        "INSERT INTO grown_since SELECT n, repeat('y', 200) FROM generate_series(1, 20000) n",
    ),
    # --- partitions, inheritance, materialized views
    "parts": (
        "CREATE TABLE parts (id int, at date, v text) PARTITION BY RANGE (at)",
        "CREATE INDEX parts_id ON parts (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        """INSERT INTO parts SELECT n, '2026-01-01'::date + n % 59, md5(n::text) FROM generate_series(1, 80000) n
           WHERE n % 59 <> 31""",
        "DELETE FROM parts WHERE at < '2026-01-15'",
        "VACUUM ANALYZE parts",
    ),
    "parent": (
        "CREATE TABLE parent (id int, v text)",
        "CREATE TABLE child (extra bigint) INHERITS (parent)",
        "INSERT INTO parent SELECT n, md5(n::text) FROM generate_series(1, 30000) n",
        "INSERT INTO child SELECT n, repeat('x', 300), n FROM generate_series(1, 8000) n",
        "DELETE FROM ONLY parent WHERE id % 3 = 0",
        "VACUUM ANALYZE parent",
        "VACUUM ANALYZE child",
    ),
    "seen": (
        "CREATE MATERIALIZED VIEW seen AS SELECT id, md5(v || 'x') AS v FROM churned",
        "CREATE UNIQUE INDEX seen_id ON seen (id)",
        "UPDATE churned SET v = md5(v) WHERE id % 10 = 8",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY seen",
        "VACUUM ANALYZE churned",
        "VACUUM ANALYZE seen",
    ),
    # --- indexes
    "keys": (
        "CREATE TABLE keys (id int, u uuid, few int, n int, t text, num numeric, at timestamptz)",
        "CREATE INDEX keys_u ON keys (u)",
        "CREATE INDEX keys_few_inserted ON keys (few)",
        "CREATE INDEX keys_n ON keys (n)",
        """INSERT INTO keys SELECT n, gen_random_uuid(), (random() * 50)::int,
           CASE WHEN n % 3 = 0 THEN (random() * 1e6)::int END,
           repeat(md5((n % 5000)::text), 1 + n % 3), (n % 100)::numeric / 7, now() - n * interval '1 minute'
           FROM generate_series(1, 60000) n""",
        "CREATE INDEX keys_few_built ON keys (few)",
        "CREATE INDEX keys_few_plain ON keys (few) WITH (deduplicate_items = off)",
        "CREATE INDEX keys_partial ON keys (id) WHERE few < 10",
        "CREATE INDEX keys_expression ON keys (upper(left(t, 20)))",
        "CREATE INDEX keys_two ON keys (few, at)",
        "CREATE INDEX keys_include ON keys (id) INCLUDE (t)",
        "CREATE INDEX keys_t ON keys (t)",
        "CREATE INDEX keys_num ON keys (num)",
        "CREATE INDEX keys_hash ON keys USING hash (u)",
        "CREATE INDEX keys_brin ON keys USING brin (at)",
        "VACUUM ANALYZE keys",
    ),
    "queue": (  # rows come at the end and go at the front
        "CREATE TABLE queue (id bigint, state text, v text)",
        "CREATE INDEX queue_id ON queue (id)",
        "CREATE INDEX queue_state ON queue (state)",
        "CREATE INDEX queue_open ON queue (id) WHERE state = 'open'",
        "INSERT INTO queue SELECT n, 'open', md5(n::text) FROM generate_series(1, 40000) n",
        "UPDATE queue SET state = 'done' WHERE id <= 36000",
        "VACUUM queue",
        "DELETE FROM queue WHERE id <= 20000",
        "VACUUM ANALYZE queue",
        "INSERT INTO queue SELECT n, 'open', md5(n::text) FROM generate_series(40001, 60000) n",
        "VACUUM ANALYZE queue",
    ),
    "versions": (  # a unique key updated again and again, without HOT
        "CREATE TABLE versions (id int, n int, v text)",
        "CREATE UNIQUE INDEX versions_id ON versions (id)",
        "CREATE INDEX versions_n ON versions (n)",
        "INSERT INTO versions SELECT n, n % 100, md5(n::text) FROM generate_series(1, 30000) n",
        "UPDATE versions SET n = (n + 1) % 100",
        "VACUUM versions",
        "UPDATE versions SET n = (n + 1) % 100",
        "VACUUM ANALYZE versions",
    ),
    "scattered": (
        "CREATE TABLE scattered AS SELECT n AS id, (n * 7919::bigint) % 100003 AS k FROM generate_series(1, 100000) n",
        "CREATE INDEX scattered_k ON scattered (k)",
        "DELETE FROM scattered WHERE id % 4 > 0",
        "VACUUM ANALYZE scattered",
    ),
    # --- what fools statistics, or is stored otherwise in an index than in its table
    "skewed": (  # half of the rows have twenty keys: ANALYZE counts far too few of the others
        "CREATE TABLE skewed AS SELECT CASE WHEN n % 2 = 0 THEN n % 20 ELSE n / 4 END AS k FROM generate_series(1, 200000) n",
        "ALTER TABLE skewed ALTER k SET STATISTICS 10",
        "CREATE INDEX skewed_k ON skewed (k)",
        "VACUUM ANALYZE skewed",
    ),
    "soft_deleted": (  # the table's NULLs and common values are not those of its partial index
        "CREATE TABLE soft_deleted (id int, deleted_at timestamptz)",
        "INSERT INTO soft_deleted SELECT n, CASE WHEN n % 3 = 0 THEN now() - n * interval '1 s' END FROM generate_series(1, 150000) n",
        "CREATE INDEX soft_deleted_gone ON soft_deleted (deleted_at) WHERE deleted_at IS NOT NULL",
        "VACUUM ANALYZE soft_deleted",
    ),
    "soft_deleting": (  # dead rows that the partial index has no entries for
        "CREATE TABLE soft_deleting (id int, deleted_at timestamptz)",
        "INSERT INTO soft_deleting SELECT n, CASE WHEN n % 2 = 0 THEN now() - n * interval '1 s' END FROM generate_series(1, 60000) n",
        "CREATE INDEX soft_deleting_gone ON soft_deleting (deleted_at) WHERE deleted_at IS NOT NULL",
        "VACUUM ANALYZE soft_deleting",
        "UPDATE soft_deleting SET deleted_at = now() + id * interval '1 s' WHERE id % 4 = 1",
        "ANALYZE soft_deleting",
    ),
    "external_key": (  # the statistics know the pointers into TOAST, the index has the values
        "CREATE TABLE external_key (id int, v text)",
        "ALTER TABLE external_key ALTER v SET STORAGE EXTERNAL",
        "INSERT INTO external_key SELECT n, left(repeat(md5(n::text), 70), 2200) FROM generate_series(1, 1500) n",
        "CREATE INDEX external_key_v ON external_key (v)",
        "VACUUM ANALYZE external_key",
    ),
    "long_keys": (
        "CREATE TABLE long_keys (id int, v text)",
        "ALTER TABLE long_keys ALTER v SET STORAGE EXTERNAL",
        """INSERT INTO long_keys SELECT n, left(repeat(md5(n::text), 80), 100 + n * 7919 % 2500)
           FROM generate_series(1, 3000) n""",
        "CREATE INDEX long_keys_v ON long_keys (v)",
        "DELETE FROM long_keys WHERE id % 3 = 0",
        "VACUUM ANALYZE long_keys",
    ),
    "compressed_key": (  # plain in the table, compressed in its index
        "CREATE TABLE compressed_key (id int, v text)",
        "INSERT INTO compressed_key SELECT n, repeat(md5(n::text), 20 + n % 30) FROM generate_series(1, 20000) n",
        "CREATE INDEX compressed_key_v ON compressed_key (v)",
        "DELETE FROM compressed_key WHERE id % 5 < 2",
        "VACUUM ANALYZE compressed_key",
        "DELETE FROM compressed_key WHERE id % 5 = 2",
    ),
    "named": (  # 64 bytes in the table, as many as it has letters in an index
        "CREATE TABLE named AS SELECT n AS id, ('relation_' || n % 40000)::name AS v FROM generate_series(1, 60000) n",
        "CREATE INDEX named_v ON named (v)",
        "DELETE FROM named WHERE id % 3 = 0",
        "VACUUM ANALYZE named",
    ),
    "small_text": (  # nearly all rows need the same padding, and it is not the mean one
        "CREATE TABLE small_text AS SELECT 'Name ' || n % 5000 AS v FROM generate_series(1, 120000) n",
        "VACUUM ANALYZE small_text",
    ),
    "small_text_churned": (
        "CREATE TABLE small_text_churned AS SELECT n AS id, 'Name ' || n % 5000 AS v FROM generate_series(1, 120000) n",
        "DELETE FROM small_text_churned WHERE id % 5 > 2",
        "VACUUM ANALYZE small_text_churned",
    ),
    # --- other indexes than B-trees
    "places": (
        """CREATE TABLE places AS SELECT n AS id, point(random() * 1000, random() * 1000) AS p,
           box(point(random() * 1000, random() * 1000), point(random() * 1000, random() * 1000)) AS b,
           int4range(n, n + n % 50) AS r FROM generate_series(1, 30000) n""",
        "CREATE INDEX places_gist ON places USING gist (p)",
        "CREATE INDEX places_box ON places USING gist (b)",
        "CREATE INDEX places_range ON places USING gist (r)",
        "CREATE INDEX places_spgist ON places USING spgist (p)",
        "CREATE INDEX places_hash ON places USING hash (id)",
        "VACUUM ANALYZE places",
    ),
    "places_left": (
        "CREATE TABLE places_left AS SELECT * FROM places",
        "CREATE INDEX places_left_gist ON places_left USING gist (p)",
        "CREATE INDEX places_left_box ON places_left USING gist (b)",
        "CREATE INDEX places_left_range ON places_left USING gist (r)",
        "CREATE INDEX places_left_spgist ON places_left USING spgist (p)",
        "CREATE INDEX places_left_hash ON places_left USING hash (id)",
        "CREATE INDEX places_left_brin ON places_left USING brin (id) WITH (pages_per_range = 2)",
        "DELETE FROM places_left WHERE id % 5 > 0",
        "VACUUM ANALYZE places_left",
    ),
    "documents": (  # written row by row, so that the pending list has grown and was emptied
        "CREATE TABLE documents (id int, words tsvector, tags int[], facts jsonb)",
        "CREATE INDEX documents_words ON documents USING gin (words)",
        "CREATE INDEX documents_tags ON documents USING gin (tags)",
        """INSERT INTO documents SELECT n, to_tsvector('simple', md5(n::text) || ' ' || md5((n % 500)::text)),
           ARRAY[n % 1000, n % 777], jsonb_build_object('id', n, 'k', n % 100) FROM generate_series(1, 30000) n""",
        "CREATE INDEX documents_facts ON documents USING gin (facts)",
        "VACUUM ANALYZE documents",
    ),
    "documents_left": (
        "CREATE TABLE documents_left AS SELECT * FROM documents",
        "CREATE INDEX documents_left_words ON documents_left USING gin (words)",
        "CREATE INDEX documents_left_tags ON documents_left USING gin (tags)",
        "DELETE FROM documents_left WHERE id % 10 > 0",
        "VACUUM ANALYZE documents_left",
    ),
    "documents_packed": (  # half of the rows came one by one into the halves that a build has left free
        "CREATE TABLE documents_packed AS SELECT * FROM documents WHERE id % 2 = 0",
        "CREATE INDEX documents_packed_facts ON documents_packed USING gin (facts) WITH (fastupdate = off)",
        "INSERT INTO documents_packed SELECT * FROM documents WHERE id % 2 = 1",
        "VACUUM ANALYZE documents_packed",
    ),
    "ten_times": (  # keys come one by one: each page shares what it has only when it is full
        "CREATE TABLE ten_times (k int, n int)",
        "CREATE INDEX ten_times_k ON ten_times (k)",
        "CREATE INDEX ten_times_both ON ten_times (k, n)",
        "INSERT INTO ten_times SELECT 5 + n * 7919::bigint % 10007, n * 7919::bigint % 10007 % 7 FROM generate_series(1, 100000) n",
        "VACUUM ANALYZE ten_times",
    ),
}


@dataclass(frozen=True)
class Truth:
    """What a relation weighs, and what it weighs once it was rewritten; main fork only."""

    name: str
    kind: str
    size_bytes: int
    rewritten_bytes: int

    @property
    def ratio(self) -> float:
        """The share that the rewrite gave back, 0 to 1."""
        return max(0.0, 1 - self.rewritten_bytes / self.size_bytes) if self.size_bytes else 0.0


_RELATIONS = f"""
SELECT c.oid::int, coalesce(parent.relname || ' TOAST', c.relname), c.relkind, pg_relation_size(c.oid)
FROM pg_class c LEFT JOIN pg_class parent ON parent.reltoastrelid = c.oid
WHERE coalesce(parent.relnamespace, c.relnamespace) = '{SCHEMA}'::regnamespace AND c.relkind IN ('r', 'm', 't', 'i')
ORDER BY c.relkind = 'i' DESC, 2"""


def build_bloat_zoo(database: Database) -> None:
    """Fill the schema `bloat_zoo`. What a session did is counted when it ends: each statement has its own."""
    settings = f"SET search_path = {SCHEMA}; SELECT setseed(0.5)"
    database.execute(f"CREATE SCHEMA {SCHEMA}")
    for statements in _CREATE.values():
        for statement in statements:
            database.execute(settings, statement)


def rewrite(database: Database) -> list[Truth]:
    """Rewrite every relation and tell what came of it. The zoo is no zoo of bloat any more afterwards."""
    before = database.query(_RELATIONS)
    for oid, _name, kind, _size in before:
        (name,) = database.query("SELECT %s::regclass::text", oid)[0]
        if kind == "i":
            database.execute(f"REINDEX INDEX {name}")
    indexes = {oid: size for oid, _name, kind, size in database.query(_RELATIONS) if kind == "i"}
    for oid, _name, kind, _size in before:
        (name,) = database.query("SELECT %s::regclass::text", oid)[0]
        if kind in "rm":
            database.execute(f"VACUUM FULL {name}")
    after = {oid: size for oid, _name, _kind, size in database.query(_RELATIONS)} | indexes
    by_name = {name: oid for oid, name, _kind, _size in database.query(_RELATIONS)}
    return [Truth(name, kind, size, after.get(by_name.get(name, 0), 0)) for _oid, name, kind, size in before if size]
