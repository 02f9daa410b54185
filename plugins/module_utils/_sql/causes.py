# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about what a failed statement has really met. None of it waits for a lock."""

from __future__ import annotations

# The relation by its OID, and the one that has its name now.
RELATION = """
SELECT c.oid = %(oid)s::pg_catalog.oid AS same, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity,
       n.nspname = %(schema)s AND c.relname = %(name)s AS named
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s::pg_catalog.oid OR n.nspname = %(schema)s AND c.relname = %(name)s
"""

# Who holds a lock on a table that keeps VACUUM, ANALYZE or a rewrite away.
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
