# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about indexes: what they are, who uses them, and which foreign keys have none.

https://www.postgresql.org/docs/current/catalog-pg-index.html
"""

from __future__ import annotations

# pg_relation_size() waits for a session with an exclusive lock on the relation, and pg_get_indexdef() and pg_get_expr() for
# one with such a lock on the table, or that waits for such a lock itself. There, the size is that of the
# last VACUUM, and expressions are not told.
_LOCKED = """
locked AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
)"""

# Every index but those of temporary tables. One of a TOAST table belongs to `home`, the table that people know.
# A key is what it is made of, its operator class, its collation and its order, as one text.
# {last_scan}: pg_stat_get_lastscan() is there from 16 on. {may_maintain}: the right MAINTAIN from 17 on.
_INDEXES = f"""
WITH {_LOCKED}
SELECT i.indexrelid::pg_catalog.int8 AS oid, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity,
       n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
       i.indrelid::pg_catalog.int8 AS table_oid, pg_catalog.format('%%I.%%I', hn.nspname, home.relname) AS table_identity,
       hn.nspname::pg_catalog.text AS table_schema, home.relname::pg_catalog.text AS table_name,
       home.oid::pg_catalog.int8 AS home,
       am.amname::pg_catalog.text AS access_method, t.relkind = 't' AS of_toast,
       c.relkind = 'I' AS partitioned, parent.inhparent::pg_catalog.int8 AS parent,
       CASE WHEN c.relkind = 'I' THEN 0
            WHEN locked.oid IS NOT NULL THEN c.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8
            ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) END AS size_bytes,
       i.indisvalid AS valid, i.indisready AS ready, i.indislive AS live, i.indisunique AS "unique",
       i.indisexclusion AS exclusion, i.indisreplident AS replica_identity, i.indisclustered AS clustered,
       i.indimmediate AS immediate, coalesce(pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct', 'false')::bool AS nulls_equal,
       k.conname::pg_catalog.text AS "constraint",
       EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f') AS referenced,
       EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
               AND e.objid IN (i.indexrelid, home.oid) AND e.objsubid = 0 AND e.deptype = 'e') AS of_extension,
       ARRAY(SELECT pg_catalog.concat_ws(' ', CASE WHEN i.indkey[at - 1] = 0 AND shut.oid IS NOT NULL
                                                  THEN pg_catalog.format('%%s of %%s', at, i.indexrelid)  -- like no other
                                                  WHEN i.indkey[at - 1] = 0 THEN pg_catalog.pg_get_indexdef(i.indexrelid, at, false)
                                                  ELSE i.indkey[at - 1]::pg_catalog.text END,
                                         i.indclass[at - 1], i.indcollation[at - 1], i.indoption[at - 1])
             FROM pg_catalog.generate_series(1, i.indnkeyatts) AS at ORDER BY at) AS keys,
       ARRAY(SELECT i.indkey[at - 1]::pg_catalog.int4 FROM pg_catalog.generate_series(1, i.indnkeyatts) AS at ORDER BY at) AS columns,
       ARRAY(SELECT i.indkey[at - 1]::pg_catalog.int4
             FROM pg_catalog.generate_series(i.indnkeyatts + 1, i.indnatts) AS at ORDER BY at) AS included,
       ARRAY(SELECT CASE WHEN shut.oid IS NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid, at, false)
                         ELSE coalesce((SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a
                                        WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[at - 1]), '(an expression)') END
             FROM pg_catalog.generate_series(1, i.indnkeyatts) AS at ORDER BY at) AS key_texts,
       CASE WHEN shut.oid IS NULL THEN pg_catalog.pg_get_expr(i.indpred, i.indrelid)
            WHEN i.indpred IS NOT NULL THEN pg_catalog.format('(that of %%s)', i.indexrelid) END AS predicate,
       pg_catalog.pg_stat_get_numscans(i.indexrelid) AS scans, {{last_scan}} AS last_scan,
       hn.nspname IN ('pg_catalog', 'information_schema') AS system, c.relisshared AS shared,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') OR {{may_maintain}} AS may_maintain,
       coalesce(nullif(c.reltablespace, 0), d.dattablespace)::pg_catalog.int8 AS tablespace
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
LEFT JOIN pg_catalog.pg_class owner ON t.relkind = 't' AND owner.reltoastrelid = t.oid
JOIN pg_catalog.pg_class home ON home.oid = coalesce(owner.oid, t.oid)
JOIN pg_catalog.pg_namespace hn ON hn.oid = home.relnamespace
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_inherits parent ON parent.inhrelid = i.indexrelid
LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
LEFT JOIN locked ON locked.oid = c.oid
LEFT JOIN locked AS shut ON shut.oid = i.indrelid
WHERE c.relpersistence <> 't' AND home.relpersistence <> 't'
  AND (%(tables)s::pg_catalog.oid[] IS NULL OR i.indrelid = ANY (%(tables)s::pg_catalog.oid[]))
  AND CASE WHEN pg_catalog.cardinality(%(schemas)s::pg_catalog.text[]) > 0 THEN hn.nspname = ANY (%(schemas)s::pg_catalog.text[])
           ELSE hn.nspname NOT IN ('pg_catalog', 'information_schema') END
ORDER BY i.indexrelid
"""


def indexes(server_version: int) -> str:
    """The statement that reads all indexes, for this server."""
    return _INDEXES.format(
        last_scan="pg_catalog.pg_stat_get_lastscan(i.indexrelid)"
        if server_version >= 160000
        else "NULL::pg_catalog.timestamptz",
        may_maintain="pg_catalog.has_table_privilege(home.oid, 'MAINTAIN')" if server_version >= 170000 else "false",
    )


# Foreign keys of tables that people made, those of partitions by their parent's. `deletes`: rows that were deleted
# from the referenced table, each of which had the referencing one searched.
FOREIGN_KEYS = f"""
WITH {_LOCKED}
SELECT k.conname::pg_catalog.text AS name, c.oid::pg_catalog.int8 AS table_oid,
       pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS table_identity, c.relkind = 'p' AS partitioned,
       pg_catalog.format('%%I.%%I', rn.nspname, r.relname) AS referenced,
       k.conkey::pg_catalog.int4[] AS columns,
       ARRAY(SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS key (number, at)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = key.number ORDER BY key.at) AS names,
       size.bytes AS size_bytes, deleted.rows AS deletes
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid
JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
CROSS JOIN LATERAL (
    SELECT coalesce(sum(CASE WHEN locked.oid IS NULL THEN pg_catalog.pg_relation_size(leaf.oid)
                             ELSE leaf.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 END), 0)::pg_catalog.int8 AS bytes
    FROM (SELECT c.oid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) AS p) AS part
    JOIN pg_catalog.pg_class leaf ON leaf.oid = part.oid AND leaf.relkind = 'r'
    LEFT JOIN locked ON locked.oid = leaf.oid) AS size
CROSS JOIN LATERAL (
    SELECT coalesce(sum(pg_catalog.pg_stat_get_tuples_deleted(part.oid)), 0)::pg_catalog.int8 AS rows
    FROM (SELECT r.oid UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(r.oid) AS p) AS part) AS deleted
WHERE k.contype = 'f' AND k.conparentid = 0 AND c.relpersistence <> 't'
  AND (%(tables)s::pg_catalog.oid[] IS NULL OR k.conrelid = ANY (%(tables)s::pg_catalog.oid[]))
  AND CASE WHEN pg_catalog.cardinality(%(schemas)s::pg_catalog.text[]) > 0 THEN n.nspname = ANY (%(schemas)s::pg_catalog.text[])
           ELSE n.nspname NOT IN ('pg_catalog', 'information_schema') END
ORDER BY size.bytes DESC, 2, 1
"""

# Since when scans are counted. From 15 on a database has no time of its own until its statistics are reset; a
# crash resets those of the whole server. `replicas` is how many servers may use indexes without being counted here.
# https://www.postgresql.org/docs/current/monitoring-stats.html
STATISTICS = """
SELECT greatest(d.stats_reset, b.stats_reset) AS since, pg_catalog.pg_is_in_recovery() AS standby,
       (SELECT count(*)::pg_catalog.int4 FROM pg_catalog.pg_stat_replication) AS replicas,
       pg_catalog.current_setting('track_counts')::bool AS counted
FROM pg_catalog.pg_stat_database d, pg_catalog.pg_stat_bgwriter b
WHERE d.datname = pg_catalog.current_database()
"""

# Who works on a table in a way that only one may: builds an index, drops one, vacuums. Autovacuum builds none; a
# prepared transaction has no process.
# https://www.postgresql.org/docs/current/explicit-locking.html
WORKERS = """
SELECT l.relation::pg_catalog.int8 AS table_oid, l.pid, a.usename::pg_catalog.text AS "user", a.application_name AS application,
       coalesce(p.command, l.mode) AS command
FROM pg_catalog.pg_locks l
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND (l.pid IS NULL OR l.pid <> ALL (%(pids)s))
  AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND (a.pid IS NULL OR NOT coalesce(a.backend_type = 'autovacuum worker', a.usesysid IS NULL))  -- its type is not for all
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
ORDER BY 1, 2
"""


# --- what a rebuild needs to know

# Other transactions that are older than this: with a snapshot, whatever they read in this database; or with a lock on
# one of these relations. Not those of lazy VACUUM and of autovacuum, which no session waits for (WaitForOlderSnapshots in
# src/backend/commands/indexcmds.c).
OLD_TRANSACTIONS = """
SELECT a.pid, coalesce(a.usename::pg_catalog.text, '') AS "user", a.application_name AS application, a.state,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.float8 AS age_s,
       coalesce(pg_catalog.left(pg_catalog.regexp_replace(a.query, '\\s+', ' ', 'g'), 200), '') AS query,
       locks.held, a.backend_xmin IS NOT NULL AS snapshot
FROM pg_catalog.pg_stat_activity a
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l
                   WHERE l.pid = a.pid AND l.locktype = 'relation' AND l.granted
                     AND l.relation = ANY (%(relations)s::pg_catalog.oid[])) AS held) AS locks
WHERE a.datname = pg_catalog.current_database() AND a.pid <> ALL (%(pids)s) AND a.xact_start IS NOT NULL
  AND pg_catalog.clock_timestamp() - a.xact_start > pg_catalog.make_interval(secs => %(age_s)s)
  AND (locks.held OR a.backend_xmin IS NOT NULL)
  AND a.backend_type NOT IN ('autovacuum worker', 'parallel worker')
  AND (locks.held OR NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid))
UNION ALL
SELECT NULL, x.owner::pg_catalog.text, 'prepared transaction ' || x.gid, 'prepared',
       extract(epoch FROM pg_catalog.clock_timestamp() - x.prepared)::pg_catalog.float8, '', true, false
FROM pg_catalog.pg_prepared_xacts x
WHERE x.database = pg_catalog.current_database()
  AND pg_catalog.clock_timestamp() - x.prepared > pg_catalog.make_interval(secs => %(age_s)s)
  AND EXISTS (SELECT FROM pg_catalog.pg_locks l
              WHERE l.virtualtransaction = '-1/' || x.transaction::pg_catalog.text AND l.locktype = 'relation'
                AND l.relation = ANY (%(relations)s::pg_catalog.oid[]))
ORDER BY age_s DESC
"""

# Whether this login sees what others do.
SEES_OTHERS = "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"

# By name: a rebuild gives an index another OID. No row: it was dropped.
NOW = """
SELECT c.oid::pg_catalog.int8 AS oid, i.indisvalid AND i.indisready AND i.indislive AS usable
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Waits for a session that has the index locked exclusively; null if it was dropped.
SIZE = "SELECT pg_catalog.pg_relation_size(%s::pg_catalog.oid)"

# The partitions of tables, so that naming a partitioned one means them; a table that is none is not in it.
LEAVES = """
SELECT leaf.relid::pg_catalog.int8 AS oid
FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS root (oid), pg_catalog.pg_partition_tree(root.oid) AS leaf
"""

TABLES = """
SELECT c.oid::pg_catalog.int8 AS oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
"""

# What a sort keeps in memory before it goes to temporary files, in bytes.
SORT_BYTES = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))"

# Where an index has its files: empty for the data directory.
PLACE = "SELECT pg_catalog.pg_tablespace_location(%s::pg_catalog.oid)"

# One reindex of a database at a time, wherever it is run from.
LOCK = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('pg_runbook reindex', 0))"
