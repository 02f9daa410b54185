# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL for the sizes of databases, tables and tablespaces. PostgreSQL 14 and later.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-DBSIZE
"""

from __future__ import annotations

# The size of a database needs the right CONNECT, or pg_read_all_stats; without them it is NULL here.
# A database that is being dropped is left out (datconnlimit -2 from 17 on).
DATABASES = """
SELECT d.datname::pg_catalog.text AS name, d.datname = pg_catalog.current_database() AS current,
       CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
              OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_catalog.pg_database_size(d.oid) END AS size_bytes
FROM pg_catalog.pg_database d
WHERE d.datconnlimit <> -2
ORDER BY size_bytes DESC NULLS LAST, d.datname
"""

# The size of a tablespace needs the right CREATE on it, or pg_read_all_stats. Those that are all of a database's own
# are open to roles that may see that database, but not worth another rule.
TABLESPACES = """
SELECT t.spcname::pg_catalog.text AS name, nullif(pg_catalog.pg_tablespace_location(t.oid), '') AS location,
       CASE WHEN pg_catalog.has_tablespace_privilege(t.oid, 'CREATE')
              OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_catalog.pg_tablespace_size(t.oid) END AS size_bytes,
       pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') AS sees_places
FROM pg_catalog.pg_tablespace t
ORDER BY size_bytes DESC NULLS LAST, t.spcname
"""

# Every table and materialized view under its root: partitions count for the table that they are of, by any number of levels.
# pg_class.relpages is as old as the last VACUUM and 0 before it, so the candidates are ranked by the main forks of their
# heap, TOAST table and indexes, one or two calls of stat() each; only the largest get the exact size with all forks.
# pg_relation_size() waits for sessions that hold an exclusive lock, or wait for one: such relations have the size of the
# last VACUUM. A prepared transaction has no pid, and its locks count as well.
TABLES = """
WITH locked AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
), leaf AS MATERIALIZED (
    SELECT c.oid, c.reltoastrelid AS toast, nullif(c.reltuples, -1)::pg_catalog.float8 AS rows,
           CASE WHEN c.relispartition THEN pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid ELSE c.oid END AS root,
           c.relispartition AS partition
    FROM pg_catalog.pg_class c
    WHERE c.relkind IN ('r', 'm') AND NOT c.relisshared
), rolled AS (
    SELECT l.root, count(*) FILTER (WHERE l.partition)::pg_catalog.int4 AS partitions, sum(l.rows)::pg_catalog.int8 AS rows
    FROM leaf l GROUP BY l.root
), part AS MATERIALIZED (
    SELECT l.root, l.oid AS relation, 'heap' AS kind FROM leaf l
    UNION ALL SELECT l.root, l.toast, 'toast' FROM leaf l WHERE l.toast <> 0
    UNION ALL SELECT l.root, i.indexrelid, 'index' FROM leaf l JOIN pg_catalog.pg_index i ON i.indrelid = l.oid
    UNION ALL SELECT l.root, i.indexrelid, 'toast' FROM leaf l JOIN pg_catalog.pg_index i ON i.indrelid = l.toast
              WHERE l.toast <> 0
), ranked AS MATERIALIZED (
    SELECT part.root, count(*) OVER () AS tables
    FROM part
    JOIN pg_catalog.pg_class c ON c.oid = part.relation
    LEFT JOIN locked ON locked.oid = c.oid
    GROUP BY part.root
    ORDER BY sum(CASE WHEN locked.oid IS NULL THEN pg_catalog.pg_relation_size(c.oid)
                      ELSE c.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 END) DESC NULLS LAST,
             part.root
    LIMIT %(top)s
), exact AS MATERIALIZED (
    SELECT part.root, ranked.tables, part.kind, locked.oid IS NOT NULL AS locked,
           CASE WHEN locked.oid IS NULL
                THEN pg_catalog.pg_relation_size(c.oid, 'main') + pg_catalog.pg_relation_size(c.oid, 'fsm')
                     + pg_catalog.pg_relation_size(c.oid, 'vm') + pg_catalog.pg_relation_size(c.oid, 'init')
                ELSE c.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 END AS bytes
    FROM ranked
    JOIN part ON part.root = ranked.root
    JOIN pg_catalog.pg_class c ON c.oid = part.relation
    LEFT JOIN locked ON locked.oid = c.oid
), summed AS (
    SELECT e.root, e.tables, bool_or(e.locked) AS locked,
           coalesce(sum(e.bytes) FILTER (WHERE e.kind = 'heap'), 0)::pg_catalog.int8 AS heap_bytes,
           coalesce(sum(e.bytes) FILTER (WHERE e.kind = 'index'), 0)::pg_catalog.int8 AS index_bytes,
           coalesce(sum(e.bytes) FILTER (WHERE e.kind = 'toast'), 0)::pg_catalog.int8 AS toast_bytes,
           coalesce(sum(e.bytes), 0)::pg_catalog.int8 AS total_bytes
    FROM exact e GROUP BY e.root, e.tables
)
SELECT s.root::pg_catalog.int8 AS oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
       pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity,
       CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'm' THEN 'materialized view' ELSE 'table' END AS kind,
       rolled.partitions, s.heap_bytes, s.index_bytes, s.toast_bytes, s.total_bytes, rolled.rows AS rows_estimate,
       n.nspname IN ('pg_catalog', 'information_schema') AS system, s.locked, s.tables
FROM summed s
JOIN pg_catalog.pg_class c ON c.oid = s.root
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN rolled ON rolled.root = s.root
ORDER BY s.total_bytes DESC, s.root
"""
