# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about how near databases are to wraparound, and what keeps their rows from being frozen. None of it waits for a lock.

https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
"""

from __future__ import annotations

from .procedures import PROCEDURE

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

# What holds rows of any database back: shared catalogs count for each, and whoever holds those holds all. A backend that
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
# backend whose they are, or were.
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
