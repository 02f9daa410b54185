# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL for what uses disk space, and for what prevents the server from removing WAL. PostgreSQL 14 and later."""

from __future__ import annotations

from typing import Any

# What this login may see, the settings that keep WAL, the last checkpoint and the archiver. A setting or function that
# came later is NULL before. The position on a standby is that of the WAL that it has.
# https://www.postgresql.org/docs/current/wal-configuration.html
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ARCHIVER-VIEW
FACTS = """
WITH rights AS MATERIALIZED (
    SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE') AS settings,
           pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sessions,
           pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE') AS wal,
           pg_catalog.has_function_privilege('pg_catalog.pg_ls_archive_statusdir()', 'EXECUTE') AS archive,
           pg_catalog.has_function_privilege('pg_catalog.pg_ls_tmpdir(oid)', 'EXECUTE') AS temp,
           pg_catalog.has_function_privilege('pg_catalog.pg_ls_logdir()', 'EXECUTE') AS log,
           pg_catalog.pg_has_role('pg_read_server_files', 'USAGE')
             AND pg_catalog.has_function_privilege('pg_catalog.pg_ls_dir(text, boolean, boolean)', 'EXECUTE')
             AND pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE') AS files
)
SELECT r.*, pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')) AS segment_bytes,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size')) AS max_wal_bytes,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('min_wal_size')) AS min_wal_bytes,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_keep_size')) AS keep_bytes,
       nullif(pg_catalog.current_setting('max_slot_wal_keep_size'), '-1') AS slot_limit,
       extract(epoch FROM pg_catalog.current_setting('checkpoint_timeout')::pg_catalog.interval)::pg_catalog.float8
         AS checkpoint_timeout_s,
       pg_catalog.current_setting('archive_mode') AS archive_mode,
       pg_catalog.current_setting('archive_command') IN ('', '(disabled)')
         AND coalesce(pg_catalog.current_setting('archive_library', true), '') = '' AS archives_nothing,
       pg_catalog.current_setting('logging_collector')::pg_catalog.bool AS collects_logs,
       CASE WHEN r.settings THEN pg_catalog.current_setting('log_directory') END AS log_directory,
       CASE WHEN r.settings THEN pg_catalog.current_setting('data_directory') END AS data_directory,
       pg_catalog.pg_wal_lsn_diff(at.lsn, c.redo_lsn)::pg_catalog.int8 AS since_checkpoint_bytes,
       extract(epoch FROM pg_catalog.clock_timestamp() - c.checkpoint_time)::pg_catalog.float8 AS checkpoint_age_s,
       a.failed_count, a.last_failed_wal, a.last_failed_time, a.last_archived_wal, a.last_archived_time,
       t.temp_files AS temp_files_ever, t.temp_bytes AS temp_bytes_ever, t.stats_reset AS temp_since
FROM rights r
CROSS JOIN (SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                        THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                        ELSE pg_catalog.pg_current_wal_lsn() END AS lsn) AS at
CROSS JOIN pg_catalog.pg_control_checkpoint() AS c
CROSS JOIN pg_catalog.pg_stat_archiver AS a
LEFT JOIN pg_catalog.pg_stat_database AS t ON t.datname = pg_catalog.current_database()
"""

# Who needs old WAL: replication slots with their consumers, base backups that run, and from 17 on the WAL summarizer.
# {inactive_since} is there from 17 on. A base backup is seen without its figures by a login without pg_read_all_stats.
# https://www.postgresql.org/docs/current/view-pg-replication-slots.html
_HOLDERS = """
WITH at AS MATERIALIZED (
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                ELSE pg_catalog.pg_current_wal_lsn() END AS lsn)
SELECT 'slot' AS kind, s.slot_name::pg_catalog.text AS name, s.active,
       pg_catalog.pg_wal_lsn_diff(at.lsn, s.restart_lsn)::pg_catalog.int8 AS held_bytes,
       s.slot_type AS type, s.temporary, s.wal_status, s.safe_wal_size, s.database::pg_catalog.text AS database,
       {inactive_since} AS since,
       CASE WHEN s.active_pid IS NOT NULL THEN
           pg_catalog.concat_ws(', ', 'process ' || s.active_pid, nullif(a.application_name, ''),
                                pg_catalog.host(a.client_addr)) END AS consumer
FROM at, pg_catalog.pg_replication_slots s
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid
UNION ALL
SELECT 'base_backup', 'process ' || b.pid, true, NULL, b.phase, NULL, NULL, NULL, NULL, a.backend_start,
       pg_catalog.concat_ws(', ', nullif(a.application_name, ''), pg_catalog.host(a.client_addr))
FROM pg_catalog.pg_stat_progress_basebackup b
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid
{summarizer}
ORDER BY 4 DESC NULLS LAST, 1, 2
"""
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-WAL-SUMMARY
_SUMMARIZER = """
UNION ALL
SELECT 'summarizer', 'summarize_wal', w.summarizer_pid IS NOT NULL,
       CASE WHEN w.summarized_lsn <> '0/0' THEN pg_catalog.pg_wal_lsn_diff(at.lsn, w.summarized_lsn)::pg_catalog.int8 END,
       NULL, NULL, NULL, NULL, NULL, NULL, 'process ' || w.summarizer_pid
FROM at, pg_catalog.pg_get_wal_summarizer_state() w
WHERE pg_catalog.current_setting('summarize_wal', true) = 'on'
"""


def holders(server_version: int) -> str:
    """The statement that lists the consumers of old WAL, for this server."""
    later = server_version >= 170000
    return _HOLDERS.format(
        inactive_since="s.inactive_since" if later else "NULL::pg_catalog.timestamptz",
        summarizer=_SUMMARIZER if later else "",
    )


# What is in the server's own directories, as far as the login may list them.
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-GENFILE
# `redo_idle_s`: how long ago the segment in which the last checkpoint began was written to for the last time.
_WAL = """(SELECT coalesce(sum(f.size), 0)::pg_catalog.int8 AS wal_bytes, count(*)::pg_catalog.int4 AS wal_files,
                  extract(epoch FROM pg_catalog.clock_timestamp() - max(f.modification) FILTER (
                      WHERE f.name = (SELECT c.redo_wal_file FROM pg_catalog.pg_control_checkpoint() c))
                  )::pg_catalog.float8 AS redo_idle_s
           FROM pg_catalog.pg_ls_waldir() f) AS wal"""
_ARCHIVE = """(SELECT count(*)::pg_catalog.int8 AS ready_files, min(f.modification) AS ready_since
               FROM pg_catalog.pg_ls_archive_statusdir() f WHERE f.name LIKE '%%.ready') AS archive"""
_TEMP = """(SELECT coalesce(sum(f.size), 0)::pg_catalog.int8 AS temp_bytes, count(*)::pg_catalog.int4 AS temp_files
            FROM pg_catalog.pg_tablespace t CROSS JOIN LATERAL pg_catalog.pg_ls_tmpdir(t.oid) f
            WHERE t.spcname <> 'pg_global') AS temp"""
_LOG = """(SELECT coalesce(sum(f.size), 0)::pg_catalog.int8 AS log_bytes, count(*)::pg_catalog.int4 AS log_files,
                  min(f.modification) AS log_since
           FROM pg_catalog.pg_ls_logdir() f) AS log"""
_NOTHING = {
    "wal": """(SELECT NULL::pg_catalog.int8 AS wal_bytes, NULL::pg_catalog.int4 AS wal_files,
                      NULL::pg_catalog.float8 AS redo_idle_s) AS wal""",
    "archive": "(SELECT NULL::pg_catalog.int8 AS ready_files, NULL::pg_catalog.timestamptz AS ready_since) AS archive",
    "temp": "(SELECT NULL::pg_catalog.int8 AS temp_bytes, NULL::pg_catalog.int4 AS temp_files) AS temp",
    "log": """(SELECT NULL::pg_catalog.int8 AS log_bytes, NULL::pg_catalog.int4 AS log_files,
                      NULL::pg_catalog.timestamptz AS log_since) AS log""",
}


def directories(facts: Any) -> str:
    """The statement that sums up the directories that a row of FACTS lets the login list."""
    allowed = {"wal": facts.wal, "archive": facts.archive, "temp": facts.temp, "log": facts.log and facts.collects_logs}
    real = {"wal": _WAL, "archive": _ARCHIVE, "temp": _TEMP, "log": _LOG}
    parts = [real[name] if may else _NOTHING[name] for name, may in allowed.items()]
    return "SELECT * FROM " + " CROSS JOIN ".join(parts)


# Files of this database that no relation has. Young ones may belong to a transaction that goes on, so one is only listed
# when it is older than any transaction of this database, and than %(age_s)s. Dropped tables leave an empty file until
# the next checkpoint. pg_stat_file() cuts off the fraction of a second. Names are compared without their tablespaces:
# rather overlook one than call a good one orphaned.
# https://www.postgresql.org/docs/current/storage-file-layout.html
ORPHANS = r"""
WITH here AS MATERIALIZED (
    SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
), began AS MATERIALIZED (
    SELECT least((SELECT min(a.xact_start) FROM pg_catalog.pg_stat_activity a, here
                  WHERE a.datid = here.oid AND a.pid <> pg_catalog.pg_backend_pid()),
                 (SELECT min(p.prepared) FROM pg_catalog.pg_prepared_xacts p
                  WHERE p.database = pg_catalog.current_database()),
                 pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %(age_s)s)) AS oldest
), directories AS (
    SELECT CASE WHEN t.spcname = 'pg_default' THEN pg_catalog.format('base/%%s', here.oid)
                ELSE pg_catalog.format('pg_tblspc/%%s/PG_%%s_%%s/%%s', t.oid,
                                       pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000,
                                       s.catalog_version_no, here.oid) END AS path
    FROM pg_catalog.pg_tablespace t, here, pg_catalog.pg_control_system() s
    WHERE t.spcname <> 'pg_global'
), files AS MATERIALIZED (
    SELECT d.path || '/' || f.name AS path,
           pg_catalog.substring(f.name, '^([0-9]+)(?:_(?:fsm|vm|init))?(?:[.][0-9]+)?$') AS node
    FROM directories d CROSS JOIN LATERAL pg_catalog.pg_ls_dir(d.path, true, false) AS f (name)
), known AS MATERIALIZED (
    SELECT pg_catalog.pg_relation_filenode(c.oid)::pg_catalog.text AS node FROM pg_catalog.pg_class c
    WHERE c.relkind IN ('r', 'i', 'S', 't', 'm')
), unknown AS MATERIALIZED (
    SELECT f.path FROM files f
    WHERE f.node IS NOT NULL AND NOT EXISTS (SELECT FROM known k WHERE k.node = f.node)
)
SELECT u.path, s.size AS size_bytes, s.modification AS modified,
       count(*) OVER ()::pg_catalog.int8 AS files, sum(s.size) OVER ()::pg_catalog.int8 AS total_bytes
FROM unknown u CROSS JOIN began CROSS JOIN LATERAL pg_catalog.pg_stat_file(u.path, true) AS s
WHERE s.size > 0 AND NOT s.isdir AND s.modification + pg_catalog.make_interval(secs => 1) < began.oldest
ORDER BY s.size DESC, u.path
LIMIT %(most)s
"""


# --- what acts on WAL, slots and log files

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
