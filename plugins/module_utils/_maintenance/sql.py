# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that tells when long work has to stop: standbys, WAL and the transactions of other sessions."""

from __future__ import annotations

from .._postgres.sql import PROCEDURE

# What this login may see. Without pg_read_all_stats the views show others' sessions with all that matters left out.
# https://www.postgresql.org/docs/current/predefined-roles.html
RIGHTS = """
SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sessions,
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE') AS wal,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS places
"""

# For a session that only looks: compiling its statements would take longer than running them, and none waits for long.
LOOK_SETTINGS = {"jit": "off", "lock_timeout": "10s"}

BACKEND_PID = "SELECT pg_catalog.pg_backend_pid()"


# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-GENFILE
WAL_BYTES = "SELECT coalesce(sum(size), 0)::bigint FROM pg_catalog.pg_ls_waldir()"

# The oldest transaction of another session in this database.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
OLDEST_TRANSACTION = """
SELECT who, extract(epoch FROM pg_catalog.clock_timestamp() - since)::float8 AS age_s
FROM (
    SELECT pg_catalog.format('process %%s of %%s%%s, %%s', pid, coalesce(usename::text, 'an unknown role'),
                             coalesce(' (' || nullif(application_name, '') || ')', ''), state) AS who, xact_start AS since
    FROM pg_catalog.pg_stat_activity
    WHERE datname = pg_catalog.current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
      AND pid <> pg_catalog.pg_backend_pid() AND NOT pid = ANY (%(pids)s) AND NOT application_name = ANY (%(programs)s)
    UNION ALL
    SELECT pg_catalog.format('prepared transaction %%L of %%s', gid, owner), prepared
    FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
) AS open
ORDER BY since LIMIT 1
"""


# --- what autovacuum works on

# The workers of autovacuum that hold one of these tables, with `toast` or its TOAST table, and whether each is in VACUUM
# rather than in ANALYZE. Every role sees pg_locks, and that a worker has no user; its type needs pg_read_all_stats.
# https://www.postgresql.org/docs/current/routine-vacuuming.html#AUTOVACUUM
WORKERS = """
SELECT l.pid, EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = l.pid) AS vacuums
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'ShareUpdateExclusiveLock'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND coalesce(a.backend_type = 'autovacuum worker', a.usesysid IS NULL)
  AND (l.relation = ANY (%(tables)s::pg_catalog.oid[])
       OR %(toast)s AND l.relation IN (SELECT c.reltoastrelid FROM pg_catalog.pg_class c
                                       WHERE c.oid = ANY (%(tables)s::pg_catalog.oid[])))
"""


# --- what a failed statement met: none of it waits for a lock

# The relation by its OID, and the one that has its name now.
RELATION = """
SELECT c.oid = %(oid)s::pg_catalog.oid AS same, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity,
       n.nspname = %(schema)s AND c.relname = %(name)s AS named
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s::pg_catalog.oid OR n.nspname = %(schema)s AND c.relname = %(name)s
"""

# The sessions whose lock on a table keeps VACUUM, ANALYZE or a rewrite away.
# https://www.postgresql.org/docs/current/explicit-locking.html#TABLE-LOCK-COMPATIBILITY
LOCKED_BY = """
SELECT CASE WHEN l.pid IS NULL THEN pg_catalog.format('a prepared transaction (%%s, see pg_prepared_xacts)', l.mode)
            ELSE pg_catalog.format('process %%s of %%s%%s, %%s (%%s)', l.pid, coalesce(a.usename::text, 'the server'),
                                   coalesce(' (' || nullif(a.application_name, '') || ')', ''),
                                   coalesce(a.state, 'its state is hidden from this login'), l.mode) END
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation = %(oid)s
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND l.mode = ANY (%(modes)s::pg_catalog.text[])
ORDER BY l.pid
"""

COUNTS = "SELECT pg_catalog.current_setting('track_counts')::pg_catalog.bool"


# --- how near databases are to wraparound: none of it waits for a lock

# Every database, and the limits at which autovacuum begins by itself.
DATABASES = """
SELECT d.datname::pg_catalog.text AS name, d.datname = pg_catalog.current_database() AS current,
       d.datallowconn AS connectable, d.datistemplate AS template,
       pg_catalog.age(d.datfrozenxid)::pg_catalog.int8 AS freeze_age,
       pg_catalog.mxid_age(d.datminmxid)::pg_catalog.int8 AS multixact_age,
       pg_catalog.current_setting('autovacuum_freeze_max_age')::pg_catalog.int8 AS freeze_max_age,
       pg_catalog.current_setting('autovacuum_multixact_freeze_max_age')::pg_catalog.int8 AS multixact_freeze_max_age
FROM pg_catalog.pg_database d
ORDER BY greatest(pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid)) DESC, 1
"""

# What holds rows of any database back: shared catalogs count for each, and what holds those holds all. A backend that
# runs VACUUM itself holds nothing. `lasting`: it may have begun before multixacts that are old by now.
# https://www.postgresql.org/docs/current/view-pg-replication-slots.html
HOLDERS = f"""
SELECT 'session' AS kind, a.pid::pg_catalog.text AS subject, coalesce(a.datname::pg_catalog.text, '') AS database,
       greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) AS age,
       coalesce(a.usename::pg_catalog.text, '') AS "user", coalesce(a.application_name, '') AS application,
       a.state, a.backend_start AS began, a.xact_start AS since,
       a.xact_start < pg_catalog.clock_timestamp() - interval '1 minute' AS lasting, {PROCEDURE.replace("%%", "%")} AS procedure
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.backend_type NOT IN ('autovacuum worker', 'walsender')
  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
UNION ALL
SELECT 'standby', coalesce(nullif(r.application_name, ''), r.pid::pg_catalog.text), '', pg_catalog.age(r.backend_xmin),
       coalesce(r.usename::pg_catalog.text, ''), coalesce(pg_catalog.host(r.client_addr), 'a local socket'), r.state,
       r.backend_start, NULL, false, NULL
FROM pg_catalog.pg_stat_replication r WHERE r.backend_xmin IS NOT NULL
UNION ALL
SELECT 'slot', s.slot_name::pg_catalog.text, coalesce(s.database::pg_catalog.text, ''),
       greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)), '', s.slot_type,
       CASE WHEN s.active THEN 'in use by process ' || s.active_pid ELSE 'not in use' END, NULL, NULL, false, NULL
FROM pg_catalog.pg_replication_slots s WHERE s.xmin IS NOT NULL OR s.catalog_xmin IS NOT NULL
UNION ALL
SELECT 'prepared', p.gid, p.database::pg_catalog.text, pg_catalog.age(p.transaction), p.owner::pg_catalog.text, '', '',
       NULL, p.prepared, true, NULL
FROM pg_catalog.pg_prepared_xacts p
ORDER BY age DESC NULLS LAST
"""

# Temporary tables of this database that are as old as this: no other session can vacuum them. `number` is that of the
# backend that they belong to, or belonged to.
TEMPORARY = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity,
       pg_catalog.substring(n.nspname, '[0-9]+$')::pg_catalog.int4 AS number,
       pg_catalog.age(c.relfrozenxid)::pg_catalog.int8 AS age, pg_catalog.mxid_age(c.relminmxid)::pg_catalog.int8 AS multixact_age
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relpersistence = 't' AND c.relkind = 'r'
  AND (pg_catalog.age(c.relfrozenxid) >= %(age)s OR pg_catalog.mxid_age(c.relminmxid) >= %(multixact_age)s)
ORDER BY greatest(pg_catalog.age(c.relfrozenxid), pg_catalog.mxid_age(c.relminmxid)) DESC, 1
"""

# The sessions of this database. `place` is the backend's number from 16 on; before, only where it stands in the order
# of the numbers, and `number` is known of those that are in a transaction: a lock tells it.
# https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/utils/activity/backend_status.c (pgstat_read_current_status)
BACKENDS = """
SELECT backend.place, backend.pid, a.datname = pg_catalog.current_database() AS here, lock.number,
       coalesce(a.usename::pg_catalog.text, '') AS "user", coalesce(a.application_name, '') AS application, a.state,
       a.backend_start AS began
FROM (SELECT id AS place, pg_catalog.pg_stat_get_backend_pid(id) AS pid FROM pg_catalog.pg_stat_get_backend_idset() AS id) AS backend
JOIN pg_catalog.pg_stat_activity a ON a.pid = backend.pid
LEFT JOIN (SELECT DISTINCT l.pid, pg_catalog.split_part(l.virtualtransaction, '/', 1)::pg_catalog.int4 AS number
           FROM pg_catalog.pg_locks l WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock') AS lock ON lock.pid = backend.pid
ORDER BY backend.place
"""
