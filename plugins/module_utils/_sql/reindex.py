# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about what a concurrent rebuild of an index would wait for, and where it needs room.

https://www.postgresql.org/docs/current/sql-reindex.html#SQL-REINDEX-CONCURRENTLY
"""

from __future__ import annotations

# Other transactions that are older than this: with a snapshot, whatever they read in this database; or with a lock on
# one of these relations. Not those of lazy VACUUM and of autovacuum, which nobody waits for (WaitForOlderSnapshots in
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

# By name: a rebuild gives an index another OID. No row: it is gone.
NOW = """
SELECT c.oid::pg_catalog.int8 AS oid, i.indisvalid AND i.indisready AND i.indislive AS usable
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Waits for whoever has the index locked exclusively; null if it is gone.
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
