# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL of what acts on WAL, slots and log files. PostgreSQL 14 and later."""

from __future__ import annotations

# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
# How far the current WAL file is written. After a switch that is the header of a file, before anything else is written.
# Behind CASE, since there is no position to write at on a standby.
WAL_POSITION = """
SELECT pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.current_setting('archive_mode') AS archive_mode,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END AS file,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery()
            THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')
                 % pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) END::pg_catalog.int8 AS written_bytes
"""
WAL_SWITCH = "SELECT pg_catalog.pg_switch_wal()"

# One slot by its name. https://www.postgresql.org/docs/current/view-pg-replication-slots.html
SLOT = """
SELECT s.slot_name::pg_catalog.text AS name, s.slot_type AS type, s.database::pg_catalog.text AS database, s.active,
       s.active_pid, s.temporary, s.wal_status, nullif(a.application_name, '') AS application,
       pg_catalog.pg_wal_lsn_diff(
           CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::pg_catalog.int8 AS held_bytes
FROM pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
WHERE s.slot_name = %s
"""
DROP_SLOT = "SELECT pg_catalog.pg_drop_replication_slot(%s)"

# Where the server logs to. Which files are current is in the file current_logfiles of the data directory: before 16
# pg_monitor may not ask pg_current_logfile() about a format. Settings that the login may not see are NULL.
# https://www.postgresql.org/docs/current/runtime-config-logging.html
LOG_SETTINGS = """
SELECT r.sees, pg_catalog.current_setting('logging_collector')::pg_catalog.bool AS collects,
       CASE WHEN r.sees THEN pg_catalog.current_setting('log_directory') END AS directory,
       CASE WHEN r.sees THEN pg_catalog.current_setting('log_filename') END AS filename,
       CASE WHEN r.sees THEN pg_catalog.current_setting('data_directory') END AS data_directory
FROM (SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') AS sees OFFSET 0) AS r
"""
