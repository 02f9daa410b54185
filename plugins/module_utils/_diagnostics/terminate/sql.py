# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that finds sessions by name or by rule, and signals them in the same statement.

https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SIGNAL
"""

from __future__ import annotations

from ..activity.sql import SESSION

# The sessions that match the parameters, never our own. With `pids` those, whatever they do; otherwise all conditions of the rule that are
# not null. A blocker is at the root: it does not wait for a lock itself. waitstart: 14 and later. pg_blocking_pids() is called for
# those alone that have waited long enough.
_MEANT = f"""
WITH waiters AS MATERIALIZED (
    SELECT l.pid, min(l.waitstart) AS since FROM pg_catalog.pg_locks l
    WHERE %(blocking_over_s)s::pg_catalog.float8 IS NOT NULL AND NOT l.granted AND l.pid IS NOT NULL GROUP BY l.pid
), blockers AS MATERIALIZED (
    SELECT DISTINCT late.pid
    FROM (SELECT pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS pid FROM waiters w
          WHERE extract(epoch FROM pg_catalog.clock_timestamp() - w.since) > %(blocking_over_s)s::pg_catalog.float8) AS late
    WHERE late.pid NOT IN (SELECT w.pid FROM waiters w)
), meant AS MATERIALIZED (
    SELECT {SESSION}, a.query_start, a.usesysid,
           a.backend_type = 'autovacuum worker' AND a.query LIKE '%%to prevent wraparound%%' AS wraparound
    FROM pg_catalog.pg_stat_activity a
    WHERE a.pid <> pg_catalog.pg_backend_pid()
      AND CASE WHEN %(pids)s::pg_catalog.int4[] IS NOT NULL THEN a.pid = ANY (%(pids)s::pg_catalog.int4[]) ELSE
          (%(user)s::pg_catalog.text IS NULL OR a.usename::pg_catalog.text = %(user)s::pg_catalog.text)
      AND (%(database)s::pg_catalog.text IS NULL OR a.datname::pg_catalog.text = %(database)s::pg_catalog.text)
      AND (%(application)s::pg_catalog.text IS NULL OR a.application_name = %(application)s::pg_catalog.text)
      AND CASE WHEN %(client_addr)s::pg_catalog.text IS NULL THEN true
               WHEN %(client_addr)s::pg_catalog.text = 'local' THEN a.client_port = -1
               ELSE a.client_addr OPERATOR(pg_catalog.<<=) nullif(%(client_addr)s::pg_catalog.text, 'local')::pg_catalog.inet END
      AND (%(idle_in_transaction_over_s)s::pg_catalog.float8 IS NULL OR a.state LIKE 'idle in transaction%%'
           AND extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change) > %(idle_in_transaction_over_s)s::pg_catalog.float8)
      AND (%(query_over_s)s::pg_catalog.float8 IS NULL OR a.state = 'active'
           AND extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start) > %(query_over_s)s::pg_catalog.float8)
      AND (%(blocking_over_s)s::pg_catalog.float8 IS NULL OR a.pid IN (SELECT b.pid FROM blockers b)) END
)
"""

# Whether this login sees what other roles' sessions do.
SEES_ALL = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')"

# The sessions, and whether this login may signal them: as pg_signal_backend() in the server decides.
FIND = f"""
{_MEANT}
SELECT m.*, coalesce(r.rolsuper, false) AS superuser,
       coalesce(me.rolsuper OR NOT r.rolsuper AND (pg_catalog.pg_has_role(m.usesysid, 'USAGE')
                                                   OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')), false) AS allowed
FROM meant m
LEFT JOIN pg_catalog.pg_roles r ON r.oid = m.usesysid
JOIN pg_catalog.pg_roles me ON me.rolname = current_user
ORDER BY m.backend_start, m.pid LIMIT %(most)s
"""

# Decide once more and signal, in one statement: a session that has moved on, or another one with its pid, does not match. A
# session of a running procedure is never signalled unless that was asked for.
_SIGNAL = f"""
{_MEANT}
SELECT m.pid, {{signal}}(m.pid) AS sent
FROM meant m JOIN unnest(%(chosen)s::pg_catalog.int4[], %(starts)s::pg_catalog.timestamptz[]) AS chosen (pid, start)
  ON chosen.pid = m.pid AND chosen.start = m.backend_start
WHERE (m.procedure IS NULL OR %(procedures)s)
"""
CANCEL = _SIGNAL.format(signal="pg_catalog.pg_cancel_backend") + "AND m.state = 'active'"
TERMINATE = _SIGNAL.format(signal="pg_catalog.pg_terminate_backend")

# Which of them still exist.
THERE = """
SELECT a.pid, a.state, a.query_start
FROM pg_catalog.pg_stat_activity a
JOIN unnest(%(chosen)s::pg_catalog.int4[], %(starts)s::pg_catalog.timestamptz[]) AS chosen (pid, start)
  ON chosen.pid = a.pid AND chosen.start = a.backend_start
"""
