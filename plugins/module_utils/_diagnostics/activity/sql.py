# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about sessions: their number by role, old sessions, and lock waits.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
"""

from __future__ import annotations

from ..._postgres.sql import PROCEDURE


def raw(expression: str) -> str:
    """A text as its bytes, whatever they are: one of another database need not be valid in the encoding of ours."""
    backslash = "pg_catalog.chr(92)"
    return (
        f"pg_catalog.replace({expression}, {backslash}, pg_catalog.repeat({backslash}, 2))::pg_catalog.text"
        "::pg_catalog.bytea"
    )


def _age(expression: str) -> str:
    """An age in seconds; all rows of a statement are compared with one moment, so that their order is right."""
    return f"extract(epoch FROM (SELECT pg_catalog.clock_timestamp()) - {expression})::pg_catalog.float8"


# Sessions of clients. The kind of another role's session is hidden from logins without the privilege, but not its role.
CLIENTS = """(a.backend_type = 'client backend' OR a.backend_type IS NULL AND a.usesysid IS NOT NULL AND a.datid IS NOT NULL)"""

# One session as results show it. Query texts are cut here: there may be megabytes of them.
SESSION = f"""a.pid, {raw("a.usename::pg_catalog.text")} AS "user", {raw("a.application_name")} AS application,
       coalesce(pg_catalog.host(a.client_addr), CASE WHEN a.client_port = -1 THEN 'local' ELSE '' END) AS client,
       {raw("a.datname::pg_catalog.text")} AS database, a.backend_type, a.state, a.wait_event_type, a.wait_event, a.backend_start,
       {_age("a.backend_start")} AS session_age_s, {_age("a.xact_start")} AS transaction_age_s,
       {_age("a.state_change")} AS state_age_s, {_age("a.query_start")} AS query_age_s,
       pg_catalog.substr({raw("a.query")}, 1, %(query_length)s) AS query, {PROCEDURE} AS procedure"""

# The limits, what this login may see, and transactions prepared and not ended. reserved_connections: 16 and later.
# https://www.postgresql.org/docs/current/runtime-config-connection.html
# https://www.postgresql.org/docs/current/view-pg-prepared-xacts.html
SERVER = f"""
SELECT pg_catalog.current_setting('max_connections')::pg_catalog.int4 AS max_connections,
       pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int4 AS superuser_reserved,
       coalesce(pg_catalog.current_setting('reserved_connections', true)::pg_catalog.int4, 0) AS reserved,
       pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_backend_pid() AS pid,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       (SELECT count(*)::pg_catalog.int4 FROM pg_catalog.pg_prepared_xacts) AS prepared_count,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(p) ORDER BY p.age_s DESC)
        FROM (SELECT pg_catalog.encode({raw("x.gid")}, 'hex') AS gid,
                     pg_catalog.encode({raw("x.owner::pg_catalog.text")}, 'hex') AS "user",
                     pg_catalog.encode({raw("x.database::pg_catalog.text")}, 'hex') AS database, {_age("x.prepared")} AS age_s
              FROM pg_catalog.pg_prepared_xacts x ORDER BY x.prepared LIMIT %(top)s) AS p) AS prepared
"""

# How many sessions of each state, role, application, client, database and wait event; the row 'all' has the sums.
# `pooled`: what a pooler between the clients and the server leaves behind. Running procedures are not judged by their age.
COUNTS = f"""
WITH seen AS MATERIALIZED (
    SELECT coalesce(a.state, CASE WHEN a.backend_type IS NULL THEN 'hidden' ELSE 'starting' END) AS state,
           {raw("a.usename::pg_catalog.text")} AS "user", {raw("a.application_name")} AS application,
           CASE WHEN a.backend_type IS NULL THEN 'hidden' ELSE coalesce(pg_catalog.host(a.client_addr), 'local') END AS client,
           {raw("a.datname::pg_catalog.text")} AS database,
           coalesce(a.state = 'active', false) AS active, coalesce(a.state LIKE 'idle in transaction%%', false) AS in_transaction,
           CASE WHEN a.state = 'active' THEN coalesce(a.wait_event_type || ':' || a.wait_event, 'running') END AS wait,
           {_age("a.state_change")} AS state_age_s, {_age("a.query_start")} AS query_age_s, {_age("a.xact_start")} AS transaction_age_s,
           {PROCEDURE} IS NULL AS judged,
           a.state = 'idle' AND a.query = 'DISCARD ALL' OR a.application_name ~* '^(pgbouncer|odyssey|pgcat|supavisor)' AS pooled
    FROM pg_catalog.pg_stat_activity a WHERE {CLIENTS}
), counted AS (
    SELECT d.kind, d.key, count(*)::pg_catalog.int4 AS sessions, (count(*) FILTER (WHERE active))::pg_catalog.int4 AS active,
           (count(*) FILTER (WHERE state = 'idle'))::pg_catalog.int4 AS idle,
           (count(*) FILTER (WHERE in_transaction))::pg_catalog.int4 AS idle_in_transaction,
           (count(*) FILTER (WHERE wait LIKE 'Lock:%%'))::pg_catalog.int4 AS waiting,
           (count(*) FILTER (WHERE pooled))::pg_catalog.int4 AS pooled,
           (count(*) FILTER (WHERE judged AND in_transaction AND state_age_s > %(idle_in_transaction_warning_s)s))::pg_catalog.int4
             AS idle_too_long,
           (count(*) FILTER (WHERE judged AND active AND query_age_s > %(query_warning_s)s))::pg_catalog.int4 AS queries_too_long,
           (count(*) FILTER (WHERE judged AND transaction_age_s > %(transaction_warning_s)s))::pg_catalog.int4 AS transactions_too_long
    FROM seen CROSS JOIN LATERAL (VALUES
        ('all', ''::pg_catalog.bytea), ('state', {raw("seen.state")}), ('user', seen."user"), ('application', seen.application),
        ('client', {raw("seen.client")}), ('database', seen.database), ('wait', {raw("seen.wait")})) AS d (kind, key)
    WHERE d.key IS NOT NULL GROUP BY d.kind, d.key
), ranked AS (
    SELECT *, pg_catalog.row_number() OVER (PARTITION BY kind ORDER BY sessions DESC, key) AS rank FROM counted
)
SELECT * FROM ranked WHERE rank <= %(top)s ORDER BY kind, rank
"""

# The sessions that are idle in a transaction for longest, those with the oldest transactions, the longest queries, and
# those of running procedures, walsenders of base backups among them.
OLDEST = f"""
WITH every AS MATERIALIZED (
    SELECT {SESSION}, {CLIENTS} AS client_session FROM pg_catalog.pg_stat_activity a WHERE a.pid <> pg_catalog.pg_backend_pid()
), seen AS MATERIALIZED (
    SELECT *, procedure IS NULL AND state LIKE 'idle in transaction%%' AS idles, procedure IS NULL AND state = 'active' AS works,
           procedure IS NULL AND transaction_age_s IS NOT NULL AS open
    FROM every WHERE procedure IS NOT NULL OR client_session AND (transaction_age_s IS NOT NULL OR state = 'active')
), ranked AS (
    SELECT *,
           CASE WHEN idles THEN pg_catalog.row_number() OVER (PARTITION BY idles ORDER BY state_age_s DESC NULLS LAST, pid) END AS idle_rank,
           CASE WHEN open THEN pg_catalog.row_number() OVER (PARTITION BY open ORDER BY transaction_age_s DESC NULLS LAST, pid) END
             AS transaction_rank,
           CASE WHEN works THEN pg_catalog.row_number() OVER (PARTITION BY works ORDER BY query_age_s DESC NULLS LAST, pid) END AS query_rank,
           CASE WHEN procedure IS NOT NULL
                THEN pg_catalog.row_number() OVER (PARTITION BY procedure IS NULL
                                                   ORDER BY transaction_age_s DESC NULLS LAST, backend_start, pid) END AS procedure_rank
    FROM seen
)
SELECT * FROM ranked WHERE idle_rank <= %(top)s OR transaction_rank <= %(top)s OR query_rank <= %(top)s OR procedure_rank <= %(procedures)s
"""

# Sessions that wait for a lock, since when (waitstart: 14 and later), and the sessions that block them. A session that waits for
# a row has a lock on the row's place, which tells the table. pg_blocking_pids() stops the lock manager for a moment: hence
# only those that have waited longest. 0 stands for a prepared transaction.
# https://www.postgresql.org/docs/current/view-pg-locks.html
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION-TABLE
BLOCKING = f"""
WITH locks AS MATERIALIZED (
    SELECT l.pid, l.locktype, l.mode, l.granted, l.relation, l.database, l.waitstart
    FROM pg_catalog.pg_locks l WHERE NOT l.granted OR l.locktype = 'tuple'
), waiting AS MATERIALIZED (
    SELECT * FROM (SELECT DISTINCT ON (l.pid) l.* FROM locks l WHERE NOT l.granted AND l.pid IS NOT NULL
                   ORDER BY l.pid, l.waitstart) AS first
    ORDER BY waitstart NULLS LAST, pid LIMIT %(waiters)s
), blocked AS MATERIALIZED (
    SELECT w.*, pg_catalog.pg_blocking_pids(w.pid) AS blocked_by FROM waiting w
), involved AS (
    SELECT pid FROM blocked UNION SELECT pg_catalog.unnest(blocked_by) FROM blocked
)
SELECT {SESSION.replace("a.pid,", "i.pid,", 1)},
       coalesce(b.blocked_by, '{{}}') AS blocked_by, b.locktype AS lock_type, b.mode AS lock_mode,
       CASE WHEN b.pid IS NOT NULL THEN greatest(coalesce({_age("b.waitstart")}, 0), 0) END AS wait_s,
       CASE WHEN place.relation IS NULL THEN NULL
            WHEN c.oid IS NOT NULL THEN pg_catalog.format('%%I.%%I', n.nspname, c.relname)
            ELSE 'OID ' || place.relation || ' of the database with OID ' || place.database END AS relation
FROM involved i
LEFT JOIN blocked b ON b.pid = i.pid
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = i.pid
LEFT JOIN LATERAL (SELECT l.relation, l.database FROM locks l WHERE l.pid = b.pid AND l.relation IS NOT NULL
                   ORDER BY l.granted LIMIT 1) AS place ON true
LEFT JOIN pg_catalog.pg_class c ON c.oid = place.relation AND (place.database = 0 OR place.database =
    (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY i.pid
"""
