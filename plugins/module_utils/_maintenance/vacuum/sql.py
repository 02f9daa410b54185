# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about what VACUUM would do, and did. Nothing of it waits for a lock, but for `STATE`."""

from __future__ import annotations

from ..._postgres.sql import PROCEDURE

# https://www.postgresql.org/docs/current/runtime-config-autovacuum.html
SETTINGS = """
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.current_setting('block_size')::bigint AS block_size,
       pg_catalog.current_setting('vacuum_freeze_min_age')::bigint AS freeze_min_age,
       pg_catalog.current_setting('vacuum_multixact_freeze_min_age')::bigint AS mxid_freeze_min_age,
       (SELECT setting::bigint * 1048576 FROM pg_catalog.pg_settings WHERE name = 'max_wal_size') AS max_wal_bytes,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS places
"""

# Tables and materialized views, each with its TOAST table: what the statistics system counts, and the ages. The system's
# are among them, since a database is as old as its oldest catalog.
# Rights: as its owner, as the owner of the database, and since 17 by MAINTAIN ({maintain}).
# https://www.postgresql.org/docs/current/sql-vacuum.html#id-1.9.3.191.6
_TABLES = """
SELECT c.oid::bigint AS oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       c.relpages::bigint AS pages, c.relallvisible::bigint AS visible_pages, c.reltuples > 0 AS has_rows,
       greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid)) AS age,
       greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid)) AS mxid_age,
       least(pg_catalog.current_setting('autovacuum_freeze_max_age')::bigint,
             (SELECT option_value::bigint FROM pg_catalog.pg_options_to_table(c.reloptions)
              WHERE option_name = 'autovacuum_freeze_max_age')) AS freeze_max_age,
       least(pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::bigint,
             (SELECT option_value::bigint FROM pg_catalog.pg_options_to_table(c.reloptions)
              WHERE option_name = 'autovacuum_multixact_freeze_max_age')) AS mxid_freeze_max_age,
       pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, pg_catalog.pg_stat_get_dead_tuples(c.oid) AS dead,
       coalesce(t.relpages, 0)::bigint AS toast_pages,
       coalesce(pg_catalog.pg_stat_get_live_tuples(t.oid), 0) AS toast_live,
       coalesce(pg_catalog.pg_stat_get_dead_tuples(t.oid), 0) AS toast_dead,
       pg_catalog.pg_stat_get_ins_since_vacuum(c.oid) AS inserted,
       pg_catalog.pg_stat_get_mod_since_analyze(c.oid) AS modified,
       pg_catalog.pg_stat_get_vacuum_count(c.oid) + pg_catalog.pg_stat_get_autovacuum_count(c.oid) AS vacuums,
       pg_catalog.pg_stat_get_analyze_count(c.oid) + pg_catalog.pg_stat_get_autoanalyze_count(c.oid) AS analyzes,
       greatest(pg_catalog.pg_stat_get_last_vacuum_time(c.oid),
                pg_catalog.pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') OR {maintain} OR (NOT c.relisshared AND (
           SELECT pg_catalog.pg_has_role(datdba, 'USAGE') FROM pg_catalog.pg_database
           WHERE datname = pg_catalog.current_database())) AS allowed,
       n.nspname = 'information_schema' OR n.nspname ~ '^pg_' AS system
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND NOT (n.nspname = 'repack' AND c.relname ~ '^(log|table)_[0-9]{1,10}$')  -- of a pg_repack, dead or alive
  AND CASE WHEN %(oids)s::pg_catalog.int8[] IS NOT NULL THEN c.oid = ANY (%(oids)s::pg_catalog.oid[])
           WHEN %(schemas)s::pg_catalog.text[] <> '{}' THEN n.nspname = ANY (%(schemas)s::pg_catalog.text[])
           ELSE true END
"""
TABLES = _TABLES.replace("{maintain}", "false")
TABLES_17 = _TABLES.replace("{maintain}", "pg_catalog.has_table_privilege(c.oid, 'MAINTAIN')")

# The tables that names mean, and the partitions of a partitioned one; no row with an OID for a name of nothing.
NAMED = """
SELECT wanted, c.oid::bigint AS oid, c.relkind IN ('r', 'm', 'p') AS fits,
       CASE WHEN c.relkind = 'p'
            THEN ARRAY(SELECT relid::oid::bigint FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf)
            ELSE ARRAY[c.oid::bigint] END AS leaves
FROM pg_catalog.unnest(%(tables)s::pg_catalog.text[]) AS wanted
LEFT JOIN (pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace)
    ON wanted IN (c.relname::text, n.nspname::text || '.' || c.relname::text)
   AND c.relkind NOT IN ('i', 'I', 'S', 'c', 't') AND c.relpersistence <> 't'
   AND (%(schemas)s::pg_catalog.text[] = '{}' OR n.nspname = ANY (%(schemas)s::pg_catalog.text[]))
"""

# One table as it is now, with its sizes: waits for a session that has it locked exclusively.
STATE = """
SELECT pg_catalog.pg_relation_size(c.oid) AS heap_bytes,
       coalesce(pg_catalog.pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast_bytes,
       pg_catalog.pg_indexes_size(c.oid) AS index_bytes,
       pg_catalog.pg_stat_get_dead_tuples(c.oid)
           + coalesce(pg_catalog.pg_stat_get_dead_tuples(nullif(c.reltoastrelid, 0)), 0) AS dead_tuples,
       greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.age(t.relfrozenxid)) AS freeze_age,
       greatest(pg_catalog.mxid_age(c.relminmxid), pg_catalog.mxid_age(t.relminmxid)) AS mxid_age,
       c.relallvisible AS visible_pages, pg_catalog.pg_stat_get_vacuum_count(c.oid) AS vacuums,
       pg_catalog.pg_stat_get_analyze_count(c.oid) AS analyzes,
       pg_catalog.pg_relation_filenode(c.oid)::bigint AS file,
       coalesce((SELECT pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace
                 WHERE oid = c.reltablespace), '') AS place
FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
WHERE c.oid = %s
"""


# --- who keeps VACUUM from removing dead rows

# All that may still need rows that are dead to all others, the oldest first. `since`: a moment at which the
# snapshot was there already; null when that is not known. `began`: when its transaction did. Backends that run VACUUM
# themselves hold nothing back.
# https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-SPACE-RECOVERY
HOLDERS = f"""
SELECT 'session' AS kind, a.pid::text AS subject,
       greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) AS age,
       CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END AS since,
       pg_catalog.format('%s%s, %s, transaction of %s s', coalesce(a.usename::text, 'an unknown role'),
                         coalesce(' (' || nullif(a.application_name, '') || ')', ''), a.state,
                         round(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start))) AS about,
       a.xact_start AS began, {PROCEDURE.replace("%%", "%")} AS procedure
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = pg_catalog.current_database() AND a.backend_type <> 'autovacuum worker'
  AND a.pid <> pg_catalog.pg_backend_pid() AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
UNION ALL
SELECT 'replica', coalesce(nullif(application_name, ''), pid::text), pg_catalog.age(backend_xmin), NULL,
       coalesce('at ' || pg_catalog.host(client_addr), 'at a local socket'), NULL, NULL
FROM pg_catalog.pg_stat_replication WHERE backend_xmin IS NOT NULL
UNION ALL
SELECT 'slot', slot_name::text, pg_catalog.age(xmin), NULL,
       CASE WHEN active THEN 'in use' ELSE 'not in use' END, NULL, NULL
FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL
UNION ALL
SELECT 'prepared', gid, pg_catalog.age(transaction), prepared, 'of ' || owner::text, prepared, NULL
FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
ORDER BY 3 DESC
"""


# --- the extension pg_repack and what it leaves behind: https://reorg.github.io/pg_repack/

EXTENSION = """
SELECT e.extversion AS version, pg_catalog.current_setting('is_superuser')::bool AS superuser
FROM (VALUES (true)) AS one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_repack'
"""

# The tables that it can work on, by the primary key or a unique index without nulls.
KEY = "SELECT pkid IS NOT NULL AS has_key FROM repack.tables WHERE relid = %s"

# What belongs to a table with this OID (`id`): triggers on it, and in the schema repack its log, its copy and a type.
LEFTOVERS = """
SELECT id, c.oid IS NOT NULL AS there, n.nspname::text AS schema, c.relname::text AS name,
       pg_catalog.array_agg(kind ORDER BY kind)::text[] AS kinds
FROM (
    SELECT tgrelid::bigint AS id, 'trigger' AS kind FROM pg_catalog.pg_trigger WHERE tgname = 'repack_trigger'
    UNION ALL
    SELECT substr(relname, strpos(relname, '_') + 1)::bigint, split_part(relname, '_', 1)
    FROM pg_catalog.pg_class
    WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'repack')
      AND relkind = 'r' AND relname ~ '^(log|table)_[0-9]{1,10}$'
    UNION ALL
    SELECT substr(typname, 4)::bigint, 'pk'
    FROM pg_catalog.pg_type
    WHERE typnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'repack')
      AND typtype = 'c' AND typname ~ '^pk_[0-9]{1,10}$'
) AS found
LEFT JOIN pg_catalog.pg_class c ON c.oid = found.id
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
GROUP BY id, c.oid, n.nspname, c.relname
ORDER BY id
"""

# The lock that pg_repack holds from before its first change to a table until after its last one (bin/pg_repack.c).
TRY_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(16185446, (-2147483648 + %s::bigint)::int)"

UNLOCK = "SELECT pg_catalog.pg_advisory_unlock(16185446, (-2147483648 + %s::bigint)::int)"
