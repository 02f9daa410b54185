# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about replication: replicas of this server, its own upstream, and what waits for them. PostgreSQL 14 and later.

Columns that came later are read through to_jsonb(), so that one statement fits each major.
https://www.postgresql.org/docs/current/monitoring-stats.html
https://www.postgresql.org/docs/current/view-pg-replication-slots.html
"""

from __future__ import annotations

# Where the WAL of this server is: what it wrote itself, or what it has from another server. It can pass on both.
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-BACKUP
_POSITION = """
here AS MATERIALIZED (
    SELECT CASE WHEN pg_catalog.pg_is_in_recovery()
                THEN greatest(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                ELSE pg_catalog.pg_current_wal_lsn() END AS lsn
)"""

# One row about the server. The text of primary_conninfo is not read: it may have a password. pg_settings leaves out what
# the login may not see, where current_setting() would fail. The receiver's columns but `pid` are hidden without
# pg_read_all_stats. `waiting` are sessions whose COMMIT waits for a synchronous standby.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-WAL-RECEIVER-VIEW
# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-RECOVERY-CONTROL
SERVER = f"""
WITH {_POSITION},
setting AS MATERIALIZED (
    SELECT s.name, s.setting FROM pg_catalog.pg_settings s
    WHERE s.name IN ('wal_level', 'max_wal_senders', 'max_replication_slots', 'max_slot_wal_keep_size', 'wal_sender_timeout',
                     'wal_receiver_timeout', 'synchronous_standby_names', 'synchronous_commit', 'hot_standby_feedback',
                     'recovery_min_apply_delay', 'max_standby_streaming_delay', 'primary_slot_name')
)
SELECT pg_catalog.pg_is_in_recovery() AS standby, here.lsn::pg_catalog.text AS lsn, pg_catalog.current_database()::pg_catalog.text AS db,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_statistics,
       (SELECT pg_catalog.jsonb_object_agg(setting.name, setting.setting) FROM setting) AS settings,
       (SELECT s.setting <> '' FROM pg_catalog.pg_settings s WHERE s.name = 'primary_conninfo') AS has_source,
       (SELECT s.setting <> '' FROM pg_catalog.pg_settings s WHERE s.name = 'restore_command') AS has_archive,
       pg_catalog.pg_last_wal_receive_lsn()::pg_catalog.text AS received_lsn, pg_catalog.pg_last_wal_replay_lsn()::pg_catalog.text AS replayed_lsn,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())::pg_catalog.int8 AS behind_bytes,
       pg_catalog.pg_last_xact_replay_timestamp() AS replayed_at,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp())::pg_catalog.float8 AS replayed_age_s,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.pg_postmaster_start_time())::pg_catalog.float8 AS uptime_s,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() END AS pause_state,
       w.pid AS receiver_pid, w.status AS receiver_status, w.flushed_lsn::pg_catalog.text AS flushed_lsn,
       w.received_tli AS timeline, w.latest_end_lsn::pg_catalog.text AS latest_end_lsn, w.latest_end_time, w.last_msg_receipt_time AS heard_at,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - w.last_msg_receipt_time)::pg_catalog.float8 AS heard_age_s,
       w.slot_name::pg_catalog.text AS receiver_slot, w.sender_host, w.sender_port,
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN
           (SELECT pg_catalog.jsonb_object_agg(sums.key, sums.total)
            FROM (SELECT cause.key, sum(cause.value::pg_catalog.int8)::pg_catalog.int8 AS total
                  FROM pg_catalog.pg_stat_database_conflicts c
                  CROSS JOIN LATERAL pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(c) - 'datid' - 'datname') AS cause
                  GROUP BY cause.key) AS sums) END AS conflicts,
       waiting.sessions AS waiting, waiting.longest_s AS longest_wait_s
FROM here
LEFT JOIN pg_catalog.pg_stat_wal_receiver w ON true
CROSS JOIN (
    SELECT count(*)::pg_catalog.int4 AS sessions,
           EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - min(a.query_start))::pg_catalog.float8 AS longest_s
    FROM pg_catalog.pg_stat_activity a WHERE a.wait_event = 'SyncRep') AS waiting
"""

# Who is sent WAL. Lag in bytes counts from the position here; the seconds are those that the server measured last, and
# null when nothing happened for a while. A slot shows whether it is a logical one. Without pg_read_all_stats there
# are only process, role, and application, and the rest is null: greatest() passes over nulls, so that it stands inside.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
SENDERS = f"""
WITH {_POSITION}
SELECT r.pid, r.usename::pg_catalog.text AS "user", r.application_name AS application,
       coalesce(pg_catalog.host(r.client_addr), '') AS client, r.state, r.sync_state, r.sync_priority,
       s.slot_name::pg_catalog.text AS slot, coalesce(s.slot_type = 'logical', false) AS logical,
       r.sent_lsn::pg_catalog.text AS sent_lsn, r.write_lsn::pg_catalog.text AS written_lsn, r.flush_lsn::pg_catalog.text AS flushed_lsn,
       r.replay_lsn::pg_catalog.text AS replayed_lsn,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, r.sent_lsn), r.sent_lsn)::pg_catalog.int8 AS sent_lag_bytes,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, r.write_lsn), r.write_lsn)::pg_catalog.int8 AS written_lag_bytes,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, r.flush_lsn), r.flush_lsn)::pg_catalog.int8 AS flushed_lag_bytes,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, r.replay_lsn), r.replay_lsn)::pg_catalog.int8 AS replayed_lag_bytes,
       EXTRACT(EPOCH FROM r.write_lag)::pg_catalog.float8 AS written_lag_s,
       EXTRACT(EPOCH FROM r.flush_lag)::pg_catalog.float8 AS flushed_lag_s,
       EXTRACT(EPOCH FROM r.replay_lag)::pg_catalog.float8 AS replayed_lag_s,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - r.reply_time)::pg_catalog.float8 AS reply_age_s,
       r.backend_start AS connected_at, pg_catalog.age(r.backend_xmin) AS xmin_age
FROM pg_catalog.pg_stat_replication r
CROSS JOIN here
LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
ORDER BY replayed_lag_bytes DESC NULLS LAST, r.application_name, r.pid
LIMIT %(limit)s
"""

# Every role may see slots. On a standby, `here` is what it has.
# since 16: conflicting. since 17: inactive_since, invalidation_reason, failover, synced.
SLOTS = f"""
WITH {_POSITION}
SELECT s.slot_name::pg_catalog.text AS name, s.slot_type AS type, s.plugin::pg_catalog.text AS plugin, s.database::pg_catalog.text AS database,
       s.temporary, s.active, s.active_pid, s.wal_status, s.safe_wal_size AS safe_wal_size_bytes,
       s.restart_lsn::pg_catalog.text AS restart_lsn, s.confirmed_flush_lsn::pg_catalog.text AS confirmed_flush_lsn,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, s.restart_lsn), s.restart_lsn)::pg_catalog.int8 AS held_bytes,
       pg_catalog.pg_wal_lsn_diff(greatest(here.lsn, s.confirmed_flush_lsn), s.confirmed_flush_lsn)::pg_catalog.int8 AS unconfirmed_bytes,
       greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin)) AS xmin_age, s.two_phase,
       (row.columns ->> 'conflicting')::pg_catalog.bool AS conflicting,
       (row.columns ->> 'inactive_since')::pg_catalog.timestamptz AS inactive_since,
       EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - (row.columns ->> 'inactive_since')::pg_catalog.timestamptz)::pg_catalog.float8
           AS inactive_s,
       row.columns ->> 'invalidation_reason' AS invalidation_reason,
       (row.columns ->> 'failover')::pg_catalog.bool AS failover, (row.columns ->> 'synced')::pg_catalog.bool AS synced
FROM pg_catalog.pg_replication_slots s
CROSS JOIN here
CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(s) AS columns) AS row
ORDER BY held_bytes DESC NULLS LAST, s.slot_name
LIMIT %(limit)s
"""

# Subscriptions of the whole server and publications of this database, each as one document of columns that any role may
# see, and once more how far the replay is: what was received at the first look may only have been on its way.
# {errors}: pg_stat_subscription_stats is there from 15 on.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-SUBSCRIPTION
# https://www.postgresql.org/docs/current/catalog-pg-subscription.html
_LOGICAL = """
(SELECT 'subscription' AS kind, pg_catalog.jsonb_build_object(
       'name', p.subname, 'database', d.datname, 'owner', pg_catalog.pg_get_userbyid(p.subowner), 'enabled', p.subenabled,
       'slot', p.subslotname, 'publications', p.subpublications, 'pid', w.pid, 'sync_workers', w.sync_workers,
       'received_lsn', w.received_lsn, 'reported_lsn', w.latest_end_lsn,
       'heard_age_s', EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - w.last_msg_receipt_time)::pg_catalog.float8,
       'reported_age_s', EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - w.latest_end_time)::pg_catalog.float8,
       'apply_errors', {apply_errors}, 'sync_errors', {sync_errors},
       'tables', t.tables, 'tables_not_ready', t.not_ready) AS columns
 FROM pg_catalog.pg_subscription p
 JOIN pg_catalog.pg_database d ON d.oid = p.subdbid
 {errors}
 LEFT JOIN LATERAL (
     SELECT max(s.pid) FILTER (WHERE s.relid IS NULL) AS pid, count(s.pid) FILTER (WHERE s.relid IS NOT NULL) AS sync_workers,
            max(s.received_lsn) FILTER (WHERE s.relid IS NULL) AS received_lsn,
            max(s.latest_end_lsn) FILTER (WHERE s.relid IS NULL) AS latest_end_lsn,
            max(s.last_msg_receipt_time) FILTER (WHERE s.relid IS NULL) AS last_msg_receipt_time,
            max(s.latest_end_time) FILTER (WHERE s.relid IS NULL) AS latest_end_time
     FROM pg_catalog.pg_stat_subscription s
     WHERE s.subid = p.oid AND pg_catalog.to_jsonb(s) ->> 'leader_pid' IS NULL) AS w ON true
 LEFT JOIN LATERAL (
     SELECT count(*) AS tables, count(*) FILTER (WHERE r.srsubstate NOT IN ('r', 's')) AS not_ready
     FROM pg_catalog.pg_subscription_rel r WHERE r.srsubid = p.oid) AS t ON d.datname = pg_catalog.current_database()
 ORDER BY d.datname, p.subname LIMIT %(limit)s)
UNION ALL
(SELECT 'publication', pg_catalog.jsonb_build_object(
       'name', p.pubname, 'database', pg_catalog.current_database(), 'owner', pg_catalog.pg_get_userbyid(p.pubowner),
       'all_tables', p.puballtables,
       'tables', (SELECT count(*) FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid),
       'schemas', {schemas},
       'operations', pg_catalog.array_to_json(pg_catalog.array_remove(
           ARRAY[CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                 CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END], NULL)))
 FROM pg_catalog.pg_publication p ORDER BY p.pubname LIMIT %(limit)s)
UNION ALL
SELECT 'replay', pg_catalog.jsonb_build_object(
       'left_bytes', pg_catalog.pg_wal_lsn_diff(%(received)s::pg_catalog.pg_lsn, pg_catalog.pg_last_wal_replay_lsn()))
"""


def logical(server_version: int) -> str:
    """The statement about logical replication, for this server."""
    counted = server_version >= 150000
    return _LOGICAL.format(
        errors="LEFT JOIN pg_catalog.pg_stat_subscription_stats e ON e.subid = p.oid" if counted else "",
        apply_errors="e.apply_error_count" if counted else "NULL::pg_catalog.int8",
        sync_errors="e.sync_error_count" if counted else "NULL::pg_catalog.int8",
        schemas="(SELECT count(*) FROM pg_catalog.pg_publication_namespace n WHERE n.pnpubid = p.oid)"
        if counted
        else "0",
    )
