# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about what a session of ours waits for."""

from __future__ import annotations

# https://www.postgresql.org/docs/current/monitoring-stats.html#WAIT-EVENT-TABLE
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION (pg_blocking_pids)
WAIT = """
SELECT a.wait_event_type AS kind, a.wait_event AS event, a.query_start,
       (SELECT string_agg(pg_catalog.format('session %%s of %%s (%%s, %%s, database %%s)', b.pid,
                                            coalesce(b.usename::text, b.backend_type),
                                            coalesce(nullif(b.application_name, ''), 'no application_name'),
                                            coalesce(b.state, b.backend_type), coalesce(b.datname::text, 'none')), '; ')
        FROM pg_catalog.pg_stat_activity b
        WHERE b.pid = ANY (pg_catalog.pg_blocking_pids(a.pid))) AS holders
FROM pg_catalog.pg_stat_activity a
WHERE a.pid = %s AND a.state = 'active' AND a.wait_event_type IN ('Lock', 'IPC', 'BufferPin')
"""

CANCEL = "SELECT pg_catalog.pg_cancel_backend(%s)"

# Commits wait for a standby that is not there. Quorum or priority: at least as many as `num_sync` have to be there.
# https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
SYNCHRONOUS = """
SELECT pg_catalog.current_setting('synchronous_standby_names') AS names,
       (SELECT count(*)::int FROM pg_catalog.pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS there,
       (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE wait_event = 'SyncRep') AS waiting
"""
