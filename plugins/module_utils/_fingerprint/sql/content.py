# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database contains, as rows that two databases can be compared by.

Every statement runs with an empty search_path, so that all names come out qualified, and only sees what pg_dump
carries: members of extensions, invalid indexes and the contents of foreign tables and materialized views are left out.
"""

from __future__ import annotations

# Printed forms depend on these. pg_dump pins the same ones (src/bin/pg_dump/pg_dump.c, setup_connection).
# https://www.postgresql.org/docs/current/runtime-config-client.html
PINNED_SETTINGS = {
    "search_path": "",
    "standard_conforming_strings": "on",  # for the statements below
    "row_security": "off",  # an error instead of a silently filtered table
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "0",
    "exit_on_error": "off",
    "jit": "off",  # it would compile each of a thousand statements
}
# These came later (14 and 17), so they are set where they are known.
NO_TIMEOUTS = """
SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings
WHERE name IN ('idle_session_timeout', 'transaction_timeout')
"""


# Since 9.2. https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
EXPORT_SNAPSHOT = "SELECT pg_catalog.pg_export_snapshot()"
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# Types whose own extended hash tells any two different values apart, except jsonb, where 1.0 and 1.00 are one value.
# (hash_record_extended: since 14, https://www.postgresql.org/docs/14/release-14.html)
_HASHED_DIRECTLY = (
    "bool", '"char"', "name", "text", "varchar", "bytea", "int2", "int4", "int8", "oid", "date", "time",
    "timetz", "timestamp", "timestamptz", "uuid", "inet", "cidr", "macaddr", "macaddr8", "jsonb", "pg_lsn",
)  # fmt: skip
# Types whose equality is wider than identity (1.0 = 1.00, 0 = -0, 1 mon = 30 days, 'a' = 'a '): their wire form is hashed.
_HASHED_BY_WIRE_FORM = {
    "numeric": "numeric_send", "float4": "float4send", "float8": "float8send", "interval": "interval_send",
    "bpchar": "bpcharsend",
}  # fmt: skip

_WIRE_CASES = "\n".join(
    f"           WHEN '{name}'::regtype THEN format('pg_catalog.{function}(t.%I)', a.attname)"
    for name, function in _HASHED_BY_WIRE_FORM.items()
)
_DIRECT_LIST = ", ".join(f"'{name}'::regtype" for name in _HASHED_DIRECTLY)

# A standby has nothing of unlogged relations, so that they cannot be read there and pg_dump leaves their rows out.
# https://www.postgresql.org/docs/current/sql-createtable.html#SQL-CREATETABLE-UNLOGGED
_UNREAD = "c.relpersistence = 'u' AND pg_is_in_recovery()"

# Each table whose rows pg_dump carries, with the expression list of its digest. All else than the types above goes
# through its text form (an enum's hash is that of its OID, which a restore changes; json has none), that of a row where
# a user may have made a cast to text. Columns stand in
# the order of their names: a restored child of an inheritance may have them in another order. `counts_for`: where rows are
# distributed by the hash of an enum, a restore distributes them again (pg_dump loads them through the root), so that the
# partitions can only be compared as a whole. `blocks`: about how many there are, where rows can be read by
# ranges of them (not by pg_relation_size(), which waits for an exclusive lock).
TABLES = f"""
WITH RECURSIVE base AS (
  SELECT oid AS typid, oid AS baseid FROM pg_type WHERE typtype <> 'd'
  UNION ALL
  SELECT d.oid, base.baseid FROM pg_type d JOIN base ON d.typbasetype = base.typid WHERE d.typtype = 'd'
), expressions AS (
  SELECT a.attrelid,
         string_agg(CASE
           WHEN l.collisdeterministic IS FALSE THEN format('t.%I::pg_catalog.text COLLATE "C"', a.attname)
           WHEN EXISTS (SELECT FROM pg_cast k WHERE k.castsource = base.baseid AND k.casttarget = 'text'::regtype
                        AND k.castmethod = 'f' AND k.castfunc >= 16384) THEN format('ROW(t.%I)::pg_catalog.text', a.attname)
           WHEN base.baseid IN ({_DIRECT_LIST}) THEN format('t.%I', a.attname)
           ELSE CASE base.baseid
{_WIRE_CASES}
           ELSE format('t.%I::pg_catalog.text', a.attname) END END,
           ', ' ORDER BY a.attname COLLATE "C") AS list,
         string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname COLLATE "C") FILTER (WHERE a.attgenerated = '') AS columns
  FROM pg_attribute a
  JOIN base ON base.typid = a.atttypid
  LEFT JOIN pg_collation l ON l.oid = a.attcollation
  WHERE a.attnum > 0 AND NOT a.attisdropped
  GROUP BY a.attrelid
)
SELECT format('%I.%I', n.nspname, c.relname) AS identity,
       coalesce(x.list, '') AS expressions, coalesce(x.columns, '') AS columns,
       coalesce(config.condition, '') AS condition,
       (SELECT format('%I.%I', rn.nspname, r.relname) FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
        WHERE r.oid = pg_partition_root(c.oid) AND EXISTS (
          SELECT FROM pg_partition_ancestors(c.oid) AS ancestor
          JOIN pg_partitioned_table p ON p.partrelid = ancestor AND p.partstrat = 'h'
          JOIN pg_opclass o ON o.oid = ANY (p.partclass) AND o.opcname = 'enum_ops')) AS counts_for,
       {_UNREAD} AS unread,
       CASE WHEN a.amname = 'heap' AND config.condition IS NULL THEN c.relpages ELSE 0 END AS blocks
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
LEFT JOIN expressions x ON x.attrelid = c.oid
LEFT JOIN pg_depend e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
LEFT JOIN LATERAL (
  SELECT pg_extension.extcondition[array_position(pg_extension.extconfig, c.oid)] AS condition
  FROM pg_extension WHERE pg_extension.oid = e.refobjid AND c.oid = ANY (pg_extension.extconfig)
) AS config ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND (e.objid IS NULL OR config.condition IS NOT NULL)
ORDER BY c.relpages DESC, 1
"""

# Tables of the snapshot whose name has become that of another table, or of none: a lock by name did not hold them.
REPLACED = """
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND to_regclass(format('%I.%I', n.nspname, c.relname)) IS DISTINCT FROM c.oid
"""

# pg_dump carries the position of a sequence of an extension when pg_extension_config_dump() named it.
SEQUENCES = f"""
SELECT format('%I.%I', n.nspname, c.relname) AS identity, s.seqincrement AS increment, s.seqcycle AS cycles,
       {_UNREAD} AS unread
FROM pg_sequence s
JOIN pg_class c ON c.oid = s.seqrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'
WHERE c.relpersistence <> 't'
  AND (e.objid IS NULL OR EXISTS (SELECT FROM pg_extension x WHERE x.oid = e.refobjid AND c.oid = ANY (x.extconfig)))
ORDER BY 1
"""

# Large objects by content, 256 KiB at a time: holes, page borders and rights to pg_largeobject make no difference.
# https://www.postgresql.org/docs/current/lo-funcs.html
LARGE_OBJECTS = """
WITH RECURSIVE chunk AS (
  SELECT m.oid AS loid, 0::bigint AS number, d.size, d.hash
  FROM pg_largeobject_metadata m
  CROSS JOIN LATERAL (SELECT length(b) AS size, sha256(b) AS hash
                      FROM (SELECT lo_get(m.oid, 0, 262144) AS b OFFSET 0) AS read) AS d
  UNION ALL
  SELECT chunk.loid, chunk.number + 1, d.size, d.hash
  FROM chunk
  CROSS JOIN LATERAL (SELECT length(b) AS size, sha256(b) AS hash
                      FROM (SELECT lo_get(chunk.loid, (chunk.number + 1) * 262144, 262144) AS b OFFSET 0) AS read) AS d
  WHERE chunk.size = 262144
)
SELECT count(*) FILTER (WHERE number = 0) AS objects,
       coalesce(sum(hashtextextended(concat_ws(':', loid, number, hash,
         CASE WHEN number = 0 THEN m.lomowner::regrole || '|' ||
           (SELECT string_agg(coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC') || x.privilege_type || x.is_grantable, ','
                    ORDER BY x.grantee::regrole::text COLLATE "C", x.privilege_type)
              FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) AS x) END), 0)), 0)::text AS digest
FROM chunk JOIN pg_largeobject_metadata m ON m.oid = chunk.loid
"""


# Who and what a restore needs to find, and how the database was made.
SOURCE = """
SELECT d.oid::bigint AS oid, pg_get_userbyid(d.datdba) AS owner, pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate, d.datctype AS ctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') AS locale_provider,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
       to_jsonb(d) ->> 'daticurules' AS icu_rules,
       pg_database_size(d.oid)::bigint AS size_bytes,
       (SELECT rolname FROM pg_roles WHERE oid = 10) AS bootstrap_role,
       (SELECT coalesce(array_agg(rolname::text ORDER BY 1), '{}') FROM pg_roles WHERE oid >= 16384) AS roles,
       (SELECT coalesce(array_agg(rolname::text ORDER BY 1), '{}') FROM pg_roles WHERE oid >= 16384 AND rolsuper) AS superusers,
       (SELECT coalesce(array_agg(rolname::text ORDER BY 1), '{}') FROM pg_roles
        WHERE oid >= 16384 AND rolbypassrls) AS bypassrls,
       (SELECT coalesce(jsonb_object_agg(name, names), '{}') FROM (
          SELECT g.rolname::text AS name, jsonb_agg(DISTINCT u.rolname::text) AS names
          FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
          WHERE u.oid >= 16384 AND coalesce((to_jsonb(m) ->> 'inherit_option')::bool, u.rolinherit)
          GROUP BY 1) AS granted) AS members,
       (SELECT coalesce(array_agg(extname::text ORDER BY 1), '{}') FROM pg_extension) AS extensions,
       (SELECT coalesce(array_agg(DISTINCT setting ORDER BY setting), '{}') FROM pg_db_role_setting s,
               unnest(s.setconfig) AS setting WHERE s.setdatabase = d.oid AND s.setrole = 0) AS settings,
       shobj_description(d.oid, 'pg_database') AS comment, greatest(d.datconnlimit, -1) AS connection_limit,
       (SELECT coalesce(jsonb_object_agg(r.rolname, s.setconfig), '{}')
        FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = d.oid) AS role_settings,
       (SELECT coalesce(jsonb_object_agg(name, privileges), '{}') FROM (
          SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee)::text END AS name,
                 jsonb_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                   AS privileges
          FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
          GROUP BY 1) AS granted) AS grants,
       (SELECT coalesce(jsonb_object_agg(coalesce(r.rolname, ''), s.setconfig), '{}')
        FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = 0) AS login_settings,
       (SELECT t.spcname::text FROM pg_tablespace t WHERE t.oid = d.dattablespace) AS tablespace,
       (SELECT coalesce(array_agg(t.spcname::text ORDER BY 1), '{}') FROM pg_tablespace t
        WHERE t.spcname <> 'pg_global' AND t.oid <> d.dattablespace
          AND t.oid IN (SELECT reltablespace FROM pg_class)) AS tablespaces,
       d.datistemplate AS is_template,
       (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier
FROM pg_database d WHERE d.datname = current_database()
"""


# Where the server stands in its WAL; on a standby it is what has been replayed.
POSITION = """
SELECT (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn
"""

# https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-MAX-LOCKS-PER-TRANSACTION
LOCK_TABLE_SIZE = """
SELECT current_setting('max_locks_per_transaction')::int
       * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
"""

STORAGE = """
SELECT c.oid::bigint AS oid, c.relfilenode::bigint AS relfilenode
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
"""
