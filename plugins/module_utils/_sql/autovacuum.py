# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about what autovacuum does just now."""

from __future__ import annotations

# The workers of autovacuum that hold one of these tables, with `toast` or its TOAST table, and whether each is in VACUUM
# rather than in ANALYZE. Everybody sees pg_locks, and that a worker has no user; its type needs pg_read_all_stats.
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
