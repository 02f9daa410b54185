# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about a server as a whole, and about the tables that maintenance has missed: one statement each. PostgreSQL 14 and later."""

from __future__ import annotations

# All of the server in one row. The counters are of all databases, the list has those with the oldest rows.
# What a login may not see of pg_settings is missing there, and no error. Since when is counted is not known from 15 on
# until the statistics are reset: they outlive a restart, and no longer say when they began.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
# https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
SERVER = """
WITH known AS MATERIALIZED (
    SELECT d.oid, d.datname::pg_catalog.text AS name, d.datallowconn AS connectable,
           pg_catalog.age(d.datfrozenxid)::pg_catalog.int8 AS freeze_age,
           pg_catalog.mxid_age(d.datminmxid)::pg_catalog.int8 AS multixact_age,
           s.xact_commit AS commits, s.xact_rollback AS rollbacks, s.blks_hit AS hits, s.blks_read AS reads,
           s.deadlocks, s.conflicts, s.temp_bytes, s.checksum_failures, s.stats_reset
    FROM pg_catalog.pg_database d
    LEFT JOIN pg_catalog.pg_stat_database s ON s.datid = d.oid
)
SELECT pg_catalog.current_setting('server_version') AS version,
       pg_catalog.pg_postmaster_start_time() AS started,
       extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.pg_postmaster_start_time())::pg_catalog.float8 AS uptime_s,
       pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.current_database()::pg_catalog.text AS db,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_statistics,
       current_user::pg_catalog.text AS login, pg_catalog.quote_ident(current_user) AS login_quoted,
       (SELECT pg_catalog.jsonb_object_agg(name, setting) FROM pg_catalog.pg_settings
        WHERE name = ANY (%(settings)s)) AS settings,
       ARRAY(SELECT name::pg_catalog.text FROM pg_catalog.pg_settings WHERE pending_restart ORDER BY 1) AS pending_restart,
       (SELECT pg_catalog.row_to_json(sums) FROM (
           SELECT count(*) AS databases, sum(commits)::pg_catalog.int8 AS commits, sum(rollbacks)::pg_catalog.int8 AS rollbacks,
                  sum(hits)::pg_catalog.int8 AS hits, sum(reads)::pg_catalog.int8 AS reads,
                  sum(deadlocks)::pg_catalog.int8 AS deadlocks, sum(temp_bytes)::pg_catalog.int8 AS temp_bytes,
                  sum(checksum_failures)::pg_catalog.int8 AS checksum_failures,
                  CASE WHEN count(*) FILTER (WHERE stats_reset IS NULL AND commits + rollbacks > 0) = 0
                       THEN extract(epoch FROM pg_catalog.clock_timestamp() - min(stats_reset))::pg_catalog.float8
                  END AS statistics_age_s,
                  CASE WHEN count(*) FILTER (WHERE stats_reset IS NULL AND deadlocks > 0) = 0
                       THEN extract(epoch FROM pg_catalog.clock_timestamp() - min(stats_reset) FILTER (WHERE deadlocks > 0)
                       )::pg_catalog.float8
                  END AS deadlocks_age_s
           FROM known) AS sums) AS sums,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(few) - 'oid' - 'stats_reset') FROM (
           SELECT * FROM known
           ORDER BY coalesce(checksum_failures, 0) DESC, greatest(freeze_age, multixact_age) DESC, name LIMIT %(limit)s) AS few
       ) AS databases
"""


# What VACUUM and ANALYZE have not seen for too long, and what no query can use, without opening a relation. Catalogs are
# not among those never analyzed: ANALYZE refuses pg_statistic, and the playbook analyze leaves the others to autovacuum. By
# functions and not by the view pg_stat_all_tables, which joins indexes: it takes ten times as long for 100,000 tables.
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-STATS-FUNCTIONS
MAINTENANCE = """
WITH counted AS MATERIALIZED (
    SELECT c.oid, pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, pg_catalog.pg_stat_get_dead_tuples(c.oid) AS dead,
           pg_catalog.pg_stat_get_mod_since_analyze(c.oid) AS modified,
           c.relnamespace, c.relname
    FROM pg_catalog.pg_class c
    WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
), worst AS (
    SELECT * FROM counted WHERE dead > 0 ORDER BY dead DESC LIMIT %(limit)s
), never AS MATERIALIZED (
    SELECT * FROM counted
    WHERE modified >= %(modified)s AND relnamespace NOT IN (
        SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('pg_catalog', 'information_schema'))
      AND coalesce(pg_catalog.pg_stat_get_last_analyze_time(oid), pg_catalog.pg_stat_get_last_autoanalyze_time(oid)) IS NULL
), broken AS MATERIALIZED (
    SELECT i.indexrelid AS oid FROM pg_catalog.pg_index i
    WHERE NOT i.indisvalid AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
      AND (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid) = 'i'
)
SELECT (SELECT count(*) FROM counted) AS tables,
       (SELECT coalesce(sum(dead), 0)::pg_catalog.int8 FROM counted) AS dead_rows,
       (SELECT coalesce(sum(live), 0)::pg_catalog.int8 FROM counted) AS live_rows,
       (SELECT count(*) FROM never) AS never_analyzed,
       (SELECT pg_catalog.jsonb_agg(names.name) FROM (
           SELECT pg_catalog.format('%%I.%%I', n.nspname, e.relname) AS name FROM never e
           JOIN pg_catalog.pg_namespace n ON n.oid = e.relnamespace ORDER BY e.modified DESC LIMIT %(limit)s) AS names
       ) AS never_analyzed_tables,
       (SELECT count(*) FROM broken) AS invalid_indexes,
       (SELECT pg_catalog.jsonb_agg(names.name) FROM (
           SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name FROM broken b
           JOIN pg_catalog.pg_class c ON c.oid = b.oid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY 1 LIMIT %(limit)s) AS names
       ) AS invalid_index_names,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(rows) ORDER BY rows.dead_rows DESC) FROM (
           SELECT pg_catalog.format('%%I.%%I', n.nspname, w.relname) AS name, w.live AS live_rows, w.dead AS dead_rows,
                  w.modified AS modified_rows,
                  extract(epoch FROM pg_catalog.now() - greatest(pg_catalog.pg_stat_get_last_vacuum_time(w.oid),
                      pg_catalog.pg_stat_get_last_autovacuum_time(w.oid)))::pg_catalog.float8 AS last_vacuum_age_s,
                  extract(epoch FROM pg_catalog.now() - greatest(pg_catalog.pg_stat_get_last_analyze_time(w.oid),
                      pg_catalog.pg_stat_get_last_autoanalyze_time(w.oid)))::pg_catalog.float8 AS last_analyze_age_s
           FROM worst w JOIN pg_catalog.pg_namespace n ON n.oid = w.relnamespace) AS rows
       ) AS most_dead
"""
