# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about whole databases: their properties, their sessions, and objects tied to them by OID or by name."""

from __future__ import annotations

from .._postgres.sql import PROCEDURE

# https://www.postgresql.org/docs/current/catalog-pg-database.html
DATABASES = """
SELECT d.oid::bigint AS oid, d.datname::text AS name, pg_catalog.pg_get_userbyid(d.datdba)::text AS owner,
       d.datconnlimit AS connection_limit, t.spcname::text AS tablespace, d.datistemplate AS is_template,
       pg_catalog.shobj_description(d.oid, 'pg_database') AS comment,
       (SELECT substr(setting, length(%(prefix)s) + 1)
        FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS setting
        WHERE s.setdatabase = d.oid AND s.setrole = 0 AND pg_catalog.starts_with(setting, %(prefix)s)) AS mark
FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
"""

# ALTER DATABASE SET, and ALTER ROLE IN DATABASE SET (then `role` is not empty).
SETTINGS = """
SELECT coalesce(r.rolname::text, '') AS role, split_part(setting, '=', 1) AS name,
       substr(setting, strpos(setting, '=') + 1) AS value
FROM pg_catalog.pg_db_role_setting s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, pg_catalog.unnest(s.setconfig) AS setting
WHERE s.setdatabase = %s AND NOT pg_catalog.starts_with(setting, 'pg_runbook.')
ORDER BY 1, 2
"""

# All grants, the owner's own and the defaults among them; a null grantee is PUBLIC. Several grantors make no difference.
# https://www.postgresql.org/docs/current/ddl-priv.html
GRANTS = """
SELECT g.rolname::text AS grantee, x.privilege_type AS privilege, bool_or(x.is_grantable) AS grantable
FROM pg_catalog.pg_database d,
     pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS x
LEFT JOIN pg_catalog.pg_roles g ON g.oid = x.grantee
WHERE d.oid = %s
GROUP BY 1, 2
"""

# The location is empty for the two that every server has.
# https://www.postgresql.org/docs/current/manage-ag-tablespaces.html
TABLESPACES = """
SELECT spcname::text AS name, pg_catalog.pg_tablespace_location(oid) AS location FROM pg_catalog.pg_tablespace
"""

# https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-DBSIZE
SIZE = """
SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0)::bigint FROM pg_catalog.pg_database WHERE oid = ANY (%s)
"""

# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
SESSIONS = """
SELECT pid, usename::text AS "user", application_name AS application, state, backend_type,
       extract(epoch FROM pg_catalog.now() - xact_start)::float8 AS transaction_s
FROM pg_catalog.pg_stat_activity
WHERE datid = %s AND pid <> pg_catalog.pg_backend_pid()
"""
END_SESSIONS = f"""
SELECT *, pg_catalog.pg_terminate_backend(pid) AS told FROM ({SESSIONS}) AS session
WHERE backend_type NOT IN ('autovacuum worker', 'parallel worker')
"""

# https://www.postgresql.org/docs/current/functions-info.html
SERVER_STARTED = "SELECT pg_catalog.pg_postmaster_start_time()::text"
# https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-UNLOGGED
HAS_UNLOGGED = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relpersistence = 'u')"

ROOM = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - (SELECT count(*)::int FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend') AS free,
       (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) AS superuser,
       CASE WHEN current_setting('is_superuser')::bool THEN current_setting('data_directory') END AS data_directory,
       pg_catalog.pg_is_in_recovery() AS standby
"""

# What a rename takes away from its users; each by the database's OID ($1) or name ($2). `blocks`: it would break.
# https://www.postgresql.org/docs/current/logicaldecoding-explanation.html#LOGICALDECODING-REPLICATION-SLOTS
DEPENDENTS = f"""
SELECT 'prepared_transaction' AS kind, gid AS subject, true AS blocks
FROM pg_catalog.pg_prepared_xacts WHERE database = %(name)s
UNION ALL
SELECT 'replication_slot', slot_name::text, true
FROM pg_catalog.pg_replication_slots WHERE database = %(name)s
UNION ALL
SELECT 'subscription', subname::text, true FROM pg_catalog.pg_subscription WHERE subdbid = %(oid)s
UNION ALL
SELECT 'running_procedure', pg_catalog.format('%%s, since %%s', kind,
           pg_catalog.to_char(pg_catalog.min(began) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')), false
FROM (SELECT {PROCEDURE} AS kind, a.backend_start AS began
      FROM pg_catalog.pg_stat_activity a WHERE a.datname = %(name)s) AS sessions
WHERE kind IN ('analyze', 'backup', 'reindex', 'rewrite', 'vacuum')
GROUP BY kind
"""
# Inside of the database itself.
DEPENDENTS_INSIDE = """
SELECT 'publication' AS kind, pubname::text AS subject, false AS blocks FROM pg_catalog.pg_publication
UNION ALL
SELECT 'event_trigger', evtname::text, false FROM pg_catalog.pg_event_trigger
"""
# In each other database: foreign servers that lead here by name, of postgres_fdw and dblink_fdw.
DEPENDENTS_ELSEWHERE = """
SELECT 'foreign_server' AS kind, pg_catalog.current_database() || ': ' || srvname AS subject, false AS blocks
FROM pg_catalog.pg_foreign_server
WHERE ('dbname=' || %(name)s) = ANY (srvoptions)
"""

# What ANALYZE reads, largest first.
# https://www.postgresql.org/docs/current/sql-analyze.html
ANALYZABLE = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS identity
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND n.nspname <> 'information_schema' AND c.relpersistence <> 't'
ORDER BY c.relpages DESC, 1
"""


# --- settings

# The values that a new session of this login begins with.
HERE = "SELECT name, reset_val AS value FROM pg_catalog.pg_settings"

MAY_GIVE_TO = """
SELECT current_setting('is_superuser')::bool OR pg_catalog.pg_has_role(oid, 'USAGE')
FROM pg_catalog.pg_roles WHERE rolname = %s
"""

# Objects that ask for the name of their database, by the texts that PostgreSQL prints and keeps. Members of extensions are those
# of the source's server, and some name the database where it does not matter (geometry_columns of PostGIS).
_ASKS = "~* 'current_database|current_catalog'"

_OWN = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{0}'::regclass AND e.objid = {1}.oid AND e.deptype = 'e')"
)

_FUNCTIONS = f"""
SELECT p.oid FROM pg_proc p
WHERE p.oid >= 16384 AND {_OWN.format("pg_proc", "p")}
  AND CASE WHEN p.prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) {_ASKS} ELSE false END
"""

_VIEWS = f"""
SELECT c.oid FROM pg_class c
WHERE c.oid >= 16384 AND c.relkind IN ('v', 'm') AND {_OWN.format("pg_class", "c")} AND pg_get_viewdef(c.oid) {_ASKS}
"""

ASK_FOR_THE_NAME = f"""
SELECT EXISTS ({_FUNCTIONS}) OR EXISTS ({_VIEWS}) OR EXISTS (
  SELECT FROM pg_constraint x WHERE x.oid >= 16384 AND x.contype = 'c' AND pg_get_constraintdef(x.oid) {_ASKS})
"""

# Materialized views that are computed from it: in their own text, in that of a view or of a function below them.
COMPUTED_FROM_THE_NAME = f"""
WITH RECURSIVE asking AS ({_VIEWS}), functions AS ({_FUNCTIONS}), used AS (
  SELECT c.oid AS materialized, c.oid AS relation FROM pg_class c WHERE c.relkind = 'm' AND c.relispopulated
  UNION
  SELECT used.materialized, d.refobjid FROM used
  JOIN pg_rewrite r ON r.ev_class = used.relation
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
)
SELECT DISTINCT used.materialized::regclass::text AS identity
FROM used
WHERE used.relation IN (SELECT oid FROM asking) OR EXISTS (
  SELECT FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_proc'::regclass
  WHERE r.ev_class = used.relation AND d.refobjid IN (SELECT oid FROM functions))
ORDER BY 1
"""

OWNERS = "SELECT DISTINCT pg_get_userbyid(relowner)::text AS owner FROM pg_class WHERE oid >= 16384"

# Whether anything in a database may depend on lc_monetary, lc_numeric or lc_time.
# https://www.postgresql.org/docs/current/functions-formatting.html
USE_THE_LOCALE = f"""
SELECT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
               WHERE a.attrelid >= 16384 AND 'money'::regtype IN (t.oid, t.typbasetype, t.typelem))
  OR EXISTS (SELECT FROM pg_proc p WHERE p.oid >= 16384 AND {_OWN.format("pg_proc", "p")}
             AND p.prosrc ~* 'money|to_char|to_number|to_date|to_timestamp')
  OR EXISTS (SELECT FROM pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('v', 'm')
             AND pg_get_viewdef(c.oid) ~* 'money|to_char|to_number|to_date|to_timestamp')
"""
