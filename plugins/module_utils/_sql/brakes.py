# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that tells when long work has to stop: replicas, WAL and the transactions of others."""

from __future__ import annotations

# What this login may see. Without pg_read_all_stats the views show others' sessions with all that matters left out.
# https://www.postgresql.org/docs/current/predefined-roles.html
RIGHTS = """
SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sessions,
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE') AS wal,
       pg_catalog.pg_has_role(current_user, 'pg_read_all_settings', 'USAGE') AS places
"""

BACKEND_PID = "SELECT pg_catalog.pg_backend_pid()"

# Replicas that apply WAL, and how far each is behind. A fresh one, or one that only stores WAL, has no position.
# `replay_lag_s` is the last measurement: it stays as it is while a replica stands still.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
REPLICAS = """
SELECT coalesce(nullif(application_name, ''), pg_catalog.host(client_addr), pid::text) AS name,
       pg_catalog.pg_wal_lsn_diff(replay_lsn, '0/0')::bigint AS replayed,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::bigint AS written,
       greatest(0, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn))::bigint AS lag_bytes,
       extract(epoch FROM replay_lag)::float8 AS replay_lag_s
FROM pg_catalog.pg_stat_replication
WHERE state IN ('streaming', 'catchup') AND replay_lsn IS NOT NULL
"""
# The furthest behind of them, in bytes.
LAG = f"SELECT coalesce(max(lag_bytes), 0)::bigint FROM ({REPLICAS}) AS replica"

# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-GENFILE
WAL_BYTES = "SELECT coalesce(sum(size), 0)::bigint FROM pg_catalog.pg_ls_waldir()"

# The oldest transaction of somebody else in this database.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
OLDEST_TRANSACTION = """
SELECT who, extract(epoch FROM pg_catalog.clock_timestamp() - since)::float8 AS age_s
FROM (
    SELECT pg_catalog.format('process %%s of %%s%%s, %%s', pid, coalesce(usename::text, 'nobody'),
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

# Where the server keeps data and WAL, and what proves that a postmaster.pid is its own: port and start.
PLACES = """
SELECT pg_catalog.current_setting('data_directory') AS data_directory, pg_catalog.current_setting('port')::int AS port,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::float8 AS started,
       ARRAY(SELECT location FROM (SELECT pg_catalog.pg_tablespace_location(oid) AS location
                                   FROM pg_catalog.pg_tablespace) AS known WHERE location <> '') AS tablespaces
"""
