# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that reads what bloat is computed from: sizes, statistics, and pages.

https://www.postgresql.org/docs/current/catalog-pg-class.html
https://www.postgresql.org/docs/current/view-pg-stats.html
https://www.postgresql.org/docs/current/pgstattuple.html
https://www.postgresql.org/docs/current/pageinspect.html
"""

from __future__ import annotations

# A TOAST table, and an index of one, count as their owner's: `owner` is the table that people know.
# pg_relation_size() waits for a session that holds an exclusive lock, so those relations get the size of the last VACUUM.
_BATCH = """
WITH locked AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
), leaf AS MATERIALIZED (
    SELECT tree.relid AS oid
    FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
    CROSS JOIN LATERAL pg_catalog.pg_partition_tree(p.oid) AS tree
    WHERE p.relkind = 'p' AND (p.relname = ANY (%(tables)s::pg_catalog.text[])
        OR n.nspname || '.' || p.relname = ANY (%(tables)s::pg_catalog.text[]))
), batch AS MATERIALIZED (
    SELECT c.oid, c.relname, c.relkind, c.relam, c.relpages, c.reltuples, c.reloptions, c.relfrozenxid, c.relnamespace,
           home.oid AS table_oid, home.reltuples AS table_reltuples, home.reltoastrelid,
           owner.oid AS owner_oid, owner.relname AS owner_name, n.nspname AS owner_schema,
           locked.oid IS NOT NULL AS is_locked, home.reltoastrelid IN (SELECT l.oid FROM locked l) AS is_toast_locked
    FROM pg_catalog.pg_class c
    LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
    JOIN pg_catalog.pg_class home ON home.oid = coalesce(i.indrelid, c.oid)
    LEFT JOIN pg_catalog.pg_depend d ON home.relkind = 't' AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        AND d.objid = home.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'i'
    JOIN pg_catalog.pg_class owner ON owner.oid = coalesce(d.refobjid, home.oid)
    JOIN pg_catalog.pg_namespace n ON n.oid = owner.relnamespace
    LEFT JOIN locked ON locked.oid = c.oid
    WHERE c.oid > %(after)s AND c.relkind = ANY (%(kinds)s::"char"[]) AND c.relpersistence <> 't' AND owner.relkind <> 't'
      AND CASE WHEN pg_catalog.cardinality(%(schemas)s::pg_catalog.text[]) > 0 THEN n.nspname = ANY (%(schemas)s::pg_catalog.text[])
          ELSE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_temp\\_%%' END
      AND (pg_catalog.cardinality(%(tables)s::pg_catalog.text[]) = 0 OR owner.relname = ANY (%(tables)s::pg_catalog.text[])
           OR n.nspname || '.' || owner.relname = ANY (%(tables)s::pg_catalog.text[]) OR owner.oid IN (SELECT oid FROM leaf))
    ORDER BY c.oid LIMIT %(limit)s
)"""
_COMMON = """
    b.oid::pg_catalog.int8 AS oid, b.table_oid::pg_catalog.int8 AS table_oid, b.owner_schema, b.owner_name, b.relname, b.relkind, b.is_locked,
    own.nspname AS schema, am.amname AS access_method, b.relpages, b.reltuples, b.table_reltuples,
    CASE WHEN b.is_locked THEN b.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8
         ELSE pg_catalog.pg_relation_size(b.oid) END AS size_bytes,
    (SELECT pg_catalog.split_part(o, '=', 2)::pg_catalog.int4 FROM pg_catalog.unnest(b.reloptions) o
     WHERE o LIKE 'fillfactor=%%') AS fillfactor,
    pg_catalog.pg_stat_get_live_tuples(b.table_oid) AS live_tuples,
    pg_catalog.pg_stat_get_dead_tuples(b.table_oid) AS dead_tuples,
    pg_catalog.pg_stat_get_mod_since_analyze(b.table_oid) AS changes,
    pg_catalog.pg_stat_get_ins_since_vacuum(b.table_oid) AS inserts,
    pg_catalog.pg_stat_get_tuples_updated(b.table_oid) AS updates,
    pg_catalog.pg_stat_get_tuples_deleted(b.table_oid) AS deletes,
    pg_catalog.pg_stat_get_tuples_hot_updated(b.table_oid) AS hot_updates,
    greatest(pg_catalog.pg_stat_get_last_vacuum_time(b.table_oid), pg_catalog.pg_stat_get_last_autovacuum_time(b.table_oid),
             pg_catalog.pg_stat_get_last_analyze_time(b.table_oid), pg_catalog.pg_stat_get_last_autoanalyze_time(b.table_oid)
    ) IS NOT NULL AS counted_since"""
_JOINS = """
JOIN pg_catalog.pg_namespace own ON own.oid = b.relnamespace
LEFT JOIN pg_catalog.pg_am am ON am.oid = b.relam"""

# Columns stand in their physical order, as alignment depends on it. Inherited statistics are of the children, too.
HEAPS = f"""{_BATCH}
SELECT {_COMMON},
    CASE WHEN b.relkind <> 'm' OR b.relfrozenxid <> '0' THEN pg_catalog.age(b.relfrozenxid) END AS freeze_age,
    greatest(pg_catalog.pg_stat_get_last_vacuum_time(b.oid), pg_catalog.pg_stat_get_last_autovacuum_time(b.oid)) AS last_vacuum,
    greatest(pg_catalog.pg_stat_get_last_analyze_time(b.oid), pg_catalog.pg_stat_get_last_autoanalyze_time(b.oid)) AS last_analyze,
    columns.*
FROM batch b {_JOINS}
CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attlen ORDER BY a.attnum) AS lengths,
           pg_catalog.array_agg(a.attalign::pg_catalog.text ORDER BY a.attnum) AS aligns,
           pg_catalog.array_agg(a.attstorage::pg_catalog.text ORDER BY a.attnum) AS storages,
           pg_catalog.array_agg(a.attisdropped ORDER BY a.attnum) AS dropped,
           pg_catalog.array_agg(s.avg_width ORDER BY a.attnum) AS widths,
           pg_catalog.array_agg(coalesce(s.null_frac, CASE WHEN a.attnotnull THEN 0 END) ORDER BY a.attnum) AS null_shares,
           coalesce(pg_catalog.bool_or(a.atthasmissing), false) AS some_missing
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = own.nspname AND s.tablename = b.relname AND s.attname = a.attname
        AND NOT s.inherited
    WHERE a.attrelid = b.oid AND a.attnum > 0
) columns
ORDER BY b.oid"""

# Statistics of an expression hang on the index, those of a column on its table.
# Whether equal keys can share an entry: support function 4 of the operator class, and nothing besides the keys.
# https://www.postgresql.org/docs/current/btree.html#BTREE-DEDUPLICATION
# Values of a key may lie in TOAST unless its type keeps them short. ANALYZE looks at 300 rows for each unit of its target.
INDEXES = f"""{_BATCH}
SELECT {_COMMON},
    i.indisunique AS is_unique, i.indpred IS NOT NULL AS is_partial, i.indisvalid AS is_valid,
    i.indnatts = i.indnkeyatts AND coalesce(keys.can_share, false)
        AND NOT coalesce('deduplicate_items=off' = ANY (b.reloptions) OR 'deduplicate_items=false' = ANY (b.reloptions), false) AS can_share,
    (SELECT oc.opcname FROM pg_catalog.pg_opclass oc WHERE oc.oid = i.indclass[0]) AS opclass, t.relpages AS table_pages,
    (SELECT pg_catalog.split_part(o, '=', 2)::pg_catalog.int4 FROM pg_catalog.unnest(b.reloptions) o
     WHERE o LIKE 'pages_per_range=%%') AS pages_per_range,
    keys.lengths, keys.aligns, keys.storages, keys.sampled, keys.widths, keys.null_shares, keys.distincts, keys.common,
    CASE WHEN keys.can_toast AND b.reltoastrelid <> '0' AND NOT b.is_toast_locked
         THEN pg_catalog.pg_relation_size(b.reltoastrelid) END AS toast_bytes
FROM batch b {_JOINS}
JOIN pg_catalog.pg_index i ON i.indexrelid = b.oid
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(a.attlen ORDER BY a.attnum) AS lengths,
           pg_catalog.array_agg(a.attalign::pg_catalog.text ORDER BY a.attnum) AS aligns,
           pg_catalog.array_agg(a.attstorage::pg_catalog.text ORDER BY a.attnum) AS storages,
           coalesce(pg_catalog.bool_or(ta.attstorage IN ('x', 'e') AND NOT (ta.atttypmod BETWEEN 5 AND 259
               AND ta.atttypid IN ('pg_catalog.varchar'::pg_catalog.regtype, 'pg_catalog.bpchar'::pg_catalog.regtype))), false) AS can_toast,
           pg_catalog.array_agg(coalesce(s.avg_width, e.avg_width) ORDER BY a.attnum) AS widths,
           pg_catalog.array_agg(coalesce(s.null_frac, e.null_frac) ORDER BY a.attnum) AS null_shares,
           pg_catalog.array_agg(coalesce(s.n_distinct, e.n_distinct) ORDER BY a.attnum) AS distincts,
           300 * pg_catalog.min(coalesce(nullif(ta.attstattarget, -1), nullif(a.attstattarget, -1),
                                         pg_catalog.current_setting('default_statistics_target')::pg_catalog.int4)) AS sampled,
           CASE WHEN pg_catalog.count(*) = 1
                THEN pg_catalog.max(coalesce(s.most_common_freqs, e.most_common_freqs)) END AS common,
           pg_catalog.bool_and(a.attnum > i.indnkeyatts OR co.collisdeterministic IS NOT FALSE AND EXISTS (
               SELECT FROM pg_catalog.pg_opclass oc JOIN pg_catalog.pg_amproc p ON p.amprocfamily = oc.opcfamily
                   AND p.amproclefttype = oc.opcintype AND p.amprocrighttype = oc.opcintype AND p.amprocnum = 4
               WHERE oc.oid = i.indclass[a.attnum - 1])) AS can_share
    FROM pg_catalog.pg_attribute a
    LEFT JOIN pg_catalog.pg_attribute ta ON ta.attrelid = t.oid AND ta.attnum = i.indkey[a.attnum - 1] AND ta.attnum > 0
    LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
    LEFT JOIN pg_catalog.pg_stats s ON s.schemaname = tn.nspname AND s.tablename = t.relname AND NOT s.inherited
        AND s.attname = ta.attname
    LEFT JOIN pg_catalog.pg_stats e ON e.schemaname = own.nspname AND e.tablename = b.relname AND NOT e.inherited
        AND e.attname = a.attname AND ta.attnum IS NULL
    WHERE a.attrelid = b.oid AND a.attnum > 0
) keys
ORDER BY b.oid"""

# Which functions there are for this login, and in which schemas: {function: schema}.
MEANS = """
SELECT p.proname, n.nspname
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
WHERE e.extname IN ('pgstattuple', 'pageinspect', 'pg_freespacemap') AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  AND (p.proname, p.pronargs) IN (('pgstattuple', 1), ('pgstattuple_approx', 1), ('pgstatindex', 1), ('get_raw_page', 2),
      ('heap_page_items', 1), ('page_header', 1), ('bt_page_stats', 2), ('bt_page_items', 2), ('pgstathashindex', 1),
      ('gin_page_opaque_info', 1), ('pg_freespace', 1))
  AND (p.proname <> 'bt_page_items' OR 'tids' = ANY (p.proargnames)) -- since 1.8, to which an operator has to update it
  AND (p.proname <> 'get_raw_page' OR (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = CURRENT_USER))"""

PGSTATTUPLE = """
SELECT table_len, tuple_count, tuple_len, dead_tuple_count, dead_tuple_len, free_space
FROM {}.pgstattuple(%s::pg_catalog.oid::pg_catalog.regclass)"""

PGSTATTUPLE_APPROX = """
SELECT table_len, approx_tuple_count, dead_tuple_count, dead_tuple_len, approx_free_space
FROM {}.pgstattuple_approx(%s::pg_catalog.oid::pg_catalog.regclass)"""

PGSTATINDEX = """
SELECT index_size, leaf_pages, avg_leaf_density FROM {}.pgstatindex(%s::pg_catalog.oid::pg_catalog.regclass)"""

PGSTATHASHINDEX = """
SELECT live_items, dead_items FROM {}.pgstathashindex(%s::pg_catalog.oid::pg_catalog.regclass)"""

# Pages of a GIN index that are deleted, or hold what came by fastupdate and has its place elsewhere after a rebuild.
# https://www.postgresql.org/docs/current/gin-implementation.html#GIN-FAST-UPDATE
GIN_PAGES = """
SELECT pg_catalog.count(*) AS pages, pg_catalog.count(*) FILTER (WHERE page.unused) AS unused,
       coalesce(pg_catalog.sum(page.used) FILTER (WHERE NOT page.unused), 0)::pg_catalog.int8 AS used
FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS block (number)
CROSS JOIN LATERAL {0}.get_raw_page(%s, block.number) AS raw (page)
CROSS JOIN LATERAL (
    SELECT h.special - 24 - (h.upper - h.lower) AS used, h.upper = 0 OR o.flags && '{{deleted,list,list_fullrow}}'::text[] AS unused
    FROM {0}.page_header(raw.page) AS h, {0}.gin_page_opaque_info(raw.page) AS o) AS page"""

# Wholly free pages, as the last VACUUM has found them.
FREE_PAGES = """
SELECT pg_catalog.count(*) AS pages FROM {}.pg_freespace(%s::pg_catalog.oid::pg_catalog.regclass) AS page
WHERE page.avail > pg_catalog.current_setting('block_size')::pg_catalog.int4 / 2"""

# The pages of a table that are known to hold live rows only, without looking into them.
VISIBLE_PAGES = "SELECT relallvisible, relpages FROM pg_catalog.pg_class WHERE oid = %s"

# Bits of t_infomask: 0x0100 inserter committed, 0x0200 inserter aborted (both: frozen), 0x0400 deleter committed,
# 0x0800 no deleter, 0x0080 only locked. https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/access/htup_details.h
HEAP_PAGES = """
SELECT pg_catalog.count(*) AS pages,
       coalesce(pg_catalog.sum(h.upper - h.lower), 0)::pg_catalog.int8 AS free_bytes,
       coalesce(pg_catalog.sum(items.live), 0)::pg_catalog.int8 AS live,
       coalesce(pg_catalog.sum(items.live_bytes), 0)::pg_catalog.int8 AS live_bytes,
       coalesce(pg_catalog.sum(items.dead), 0)::pg_catalog.int8 AS dead,
       coalesce(pg_catalog.sum(items.dead_bytes), 0)::pg_catalog.int8 AS dead_bytes,
       coalesce(pg_catalog.max(items.longest), 0) AS longest, coalesce(pg_catalog.min(items.shortest), 0) AS shortest
FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS block (number)
CROSS JOIN LATERAL {0}.get_raw_page(%s, block.number) AS raw (page)
CROSS JOIN LATERAL {0}.page_header(raw.page) AS h
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE alive) AS live, pg_catalog.sum(size) FILTER (WHERE alive) AS live_bytes,
           pg_catalog.count(*) FILTER (WHERE NOT alive) AS dead, pg_catalog.sum(size) FILTER (WHERE NOT alive) AS dead_bytes,
           pg_catalog.max(size) FILTER (WHERE alive) AS longest, pg_catalog.min(size) FILTER (WHERE alive) AS shortest
    FROM (SELECT (p.lp_len + 7) / 8 * 8 AS size,
                 (p.t_infomask & 768) <> 512 AND ((p.t_infomask & 2048) > 0 OR (p.t_infomask & 128) > 0 OR p.t_xmax = '0') AS alive
          FROM {0}.heap_page_items(raw.page) AS p WHERE p.lp_flags = 1) AS tuple
) AS items"""

# The high key of a page counts as an item.
BTREE_PAGES = """
SELECT pg_catalog.count(*) AS pages, pg_catalog.count(*) FILTER (WHERE leaf) AS leaves,
       coalesce(pg_catalog.sum(page_size - free_size) FILTER (WHERE leaf), 0)::pg_catalog.int8 AS leaf_bytes
FROM (SELECT s.page_size, s.free_size, s.type = 'l' OR s.type = 'r' AND %s AS leaf
      FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS block (number)
      CROSS JOIN LATERAL {0}.bt_page_stats(%s, block.number) AS s) AS page"""

# How often each key stands on a page, by the size of a plain entry and that number. `data` is the key alone, as bytes:
# equal ones can share an entry. The high key of a page is none of its items. `used` is of all leaves that were seen.
LEAF_KEYS = """
WITH leaf AS MATERIALIZED (
    SELECT block.number, s.page_size - s.free_size - 44 AS used, CASE WHEN s.btpo_next = 0 THEN 0 ELSE 1 END AS high_keys
    FROM pg_catalog.unnest(%s::pg_catalog.int4[]) AS block (number)
    CROSS JOIN LATERAL {0}.bt_page_stats(%s, block.number) AS s
    WHERE s.type = 'l' OR s.type = 'r' AND %s
)
SELECT key.entry, key.rows, pg_catalog.count(*) AS keys,
       (SELECT pg_catalog.sum(l.used) FROM leaf l)::pg_catalog.int8 AS used
FROM leaf CROSS JOIN LATERAL (
    SELECT 8 + CASE WHEN i.nulls THEN 8 ELSE 0 END + (pg_catalog.length(i.data) + 1) / 3 AS entry,
           pg_catalog.sum(coalesce(pg_catalog.cardinality(i.tids), 1))::pg_catalog.int8 AS rows
    FROM {0}.bt_page_items(%s, leaf.number) AS i WHERE i.itemoffset > leaf.high_keys
    GROUP BY i.nulls, i.data
) AS key
GROUP BY key.entry, key.rows"""

# The rows as a rewrite would form them, which is not how they lie there after columns were dropped or added.
# A dropped column is a NULL in each of them, which brings the bitmap of NULLs: beyond eight columns it takes eight bytes.
REWRITTEN_ROWS = """
SELECT pg_catalog.count(*) AS rows, pg_catalog.sum((size + 7) / 8 * 8)::pg_catalog.int8 AS bytes,
       pg_catalog.min(size) AS shortest, pg_catalog.max(size) AS longest
FROM (SELECT pg_catalog.pg_column_size(ROW({columns})) +
             CASE WHEN pg_catalog.num_nulls({columns}) = 0 THEN {bitmap} ELSE 0 END AS size
      FROM ONLY {{}}.{{}} TABLESAMPLE SYSTEM ({share}) LIMIT {rows}) AS row"""
# Sizes of rows in the order in which they lie there. What is in TOAST comes back whole, which shows.
ROW_SIZES = """
SELECT pg_catalog.pg_column_size(t.*) AS size FROM ONLY {{}}.{{}} AS t TABLESAMPLE SYSTEM ({share}) LIMIT {rows}"""
# A header, two integers, and a length of four bytes. There is no TABLESAMPLE of a TOAST table.
CHUNK_SIZES = """
SELECT 36 + pg_catalog.octet_length(t.chunk_data) AS size FROM {{}}.{{}} AS t LIMIT {rows}"""
READABLE_COLUMNS = """
SELECT a.attname, pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
FROM pg_catalog.pg_attribute a WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
# Of a relation that is being dropped, `readable` is NULL. Whole rows are not to be read if that fetches values from TOAST.
NAMES = """
SELECT n.nspname, c.relname, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS quoted,
       pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS readable,
       CASE WHEN c.reltoastrelid <> '0' THEN pg_catalog.pg_relation_size(c.reltoastrelid) > 0 ELSE false END AS has_toast
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"""

MISSING_SCHEMAS = """
SELECT s FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS s
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = s)"""
MISSING_TABLES = """
SELECT t FROM pg_catalog.unnest(%s::pg_catalog.text[]) AS t
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.relkind IN ('r', 'm', 'p') AND t IN (c.relname, n.nspname || '.' || c.relname))"""
