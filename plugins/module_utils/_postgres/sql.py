# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that several subjects share: running procedures, which server this is, its directories and replicas."""

from __future__ import annotations

# --- directories and replicas

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

# Where the server keeps data and WAL, and what proves that a postmaster.pid is its own: port and start.
PLACES = """
SELECT pg_catalog.current_setting('data_directory') AS data_directory, pg_catalog.current_setting('port')::int AS port,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::float8 AS started,
       ARRAY(SELECT location FROM (SELECT pg_catalog.pg_tablespace_location(oid) AS location
                                   FROM pg_catalog.pg_tablespace) AS known WHERE location <> '') AS tablespaces
"""


# --- the cluster

# Since 9.6. initdb makes it, and standbys share it. https://www.postgresql.org/docs/current/functions-info.html
SYSTEM_IDENTIFIER = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()"


# --- which server this is

# The server's cluster id, to distinguish its backups from others in the same catalog, and its databases.
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-CONTROLDATA
IDENTITY = """
SELECT (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()) AS cluster,
       ARRAY(SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d WHERE NOT d.datistemplate AND d.datallowconn
             ORDER BY 1) AS databases
"""


# --- running procedures: sessions of this collection, and of pg_dump and its siblings

# Programs that take backups, by the application_name that they give themselves. pg_receivewal and Barman's receiver are
# not among them: they stream for good, as a replica does.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-FALLBACK-APPLICATION-NAME
_BACKUPS = "^(pg_dump|pg_dumpall|pg_basebackup|pg_back|pg_probackup|pg_rman|pgBackRest|wal-g|barman|barman_(streaming_)?backup)( |$)"

# The kind of procedure that a row `a` of pg_stat_activity belongs to; null for all other sessions. Sessions of this
# collection are named `pg_runbook backup`, and those of programs under it `pg_runbook backup (pg_dump)`. The text of a
# COPY is that of pg_dump (dumpTableData_copy in pg_dump.c), which PGAPPNAME may have given any name.
PROCEDURE = f"""CASE
        WHEN a.application_name ~ '^pg_runbook( |,|$)'
            THEN coalesce(pg_catalog.substring(a.application_name, '^pg_runbook ([a-z ]*[a-z])'), 'procedure')
        WHEN a.application_name ~ '{_BACKUPS}' THEN 'backup'
        WHEN a.application_name = 'pg_restore' THEN 'restore'
        WHEN a.application_name = 'pg_repack' THEN 'rewrite'
        WHEN a.state <> 'idle' AND a.query LIKE 'COPY %% TO stdout;' THEN 'backup'
        WHEN a.backend_type = 'walsender'
             AND EXISTS (SELECT FROM pg_catalog.pg_stat_progress_basebackup b WHERE b.pid = a.pid) THEN 'backup' END"""


# --- settings

IS_SUPERUSER = "SELECT current_setting('is_superuser')::bool"
