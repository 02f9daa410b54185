# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about who keeps VACUUM from removing dead rows."""

from __future__ import annotations

from .procedures import PROCEDURE

# Everybody who may still need rows that are dead to all others, the oldest first. `since`: a moment at which the
# snapshot was there already; null when nobody knows. `began`: when its transaction did. Backends that run VACUUM
# themselves hold nothing back.
# https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-SPACE-RECOVERY
HOLDERS = f"""
SELECT 'session' AS kind, a.pid::text AS subject,
       greatest(pg_catalog.age(a.backend_xmin), pg_catalog.age(a.backend_xid)) AS age,
       CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END AS since,
       pg_catalog.format('%s%s, %s, transaction of %s s', coalesce(a.usename::text, 'nobody'),
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
       CASE WHEN active THEN 'in use' ELSE 'nobody uses it' END, NULL, NULL
FROM pg_catalog.pg_replication_slots WHERE xmin IS NOT NULL
UNION ALL
SELECT 'prepared', gid, pg_catalog.age(transaction), prepared, 'of ' || owner::text, prepared, NULL
FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()
ORDER BY 3 DESC
"""
