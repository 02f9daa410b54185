# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database has and pg_dump does not carry, as `subject` and `statement` (what makes it once more, if that is known).

Read off src/bin/pg_dump/pg_dump.c of PostgreSQL 13 to 18, and each kind was tried. Floor: 13; what came later is read
through to_jsonb(). Every statement runs with an empty search_path, so that all names come out qualified.
"""

from __future__ import annotations

_FIRST_USER_OID = 16384  # FirstNormalObjectId, src/include/access/transam.h

# Members of an extension: pg_dump carries their privileges and nothing else. What was added to them, and the rows, can be
# told from what the extension's script made, which comes back with it, by the transaction alone: an index or a trigger is no
# member by pg_depend. pg_upgrade makes the members one by one, so that they cannot be distinguished (`known` is false).
_EXTENSIONS = """
WITH scripts AS (
  -- Since 17 a table brings its row type with it.
  SELECT e.refobjid AS extension, e.xmin::text AS script,
         greatest(count(*) FILTER (WHERE e.classid <> 'pg_type'::regclass), 1) AS made FROM pg_depend e
  WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' GROUP BY 1, 2
), extensions AS (
  SELECT x.oid, x.extname, x.extowner, x.extconfig, x.extcondition,
         EXISTS (SELECT FROM scripts s WHERE s.extension = x.oid AND (s.made > 1 OR s.script = x.xmin::text)) AS known
  FROM pg_extension x
), members AS (
  SELECT c.oid, c.relkind, c.reltuples, c.relowner, x.oid AS extension, x.extname, x.known,
         format('%I.%I', n.nspname, c.relname) AS identity,
         coalesce(c.oid = ANY (x.extconfig), false) AS configures, x.extcondition[array_position(x.extconfig, c.oid)] AS condition
  FROM pg_depend e JOIN extensions x ON x.oid = e.refobjid JOIN pg_class c ON c.oid = e.objid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE e.classid = 'pg_class'::regclass AND e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
)
"""


def _added(catalog: str, oid: str) -> str:
    """Whether an object on a member was not made by the script of the member's extension `m`."""
    return (
        f"m.known AND NOT EXISTS (SELECT FROM pg_depend own WHERE own.classid = '{catalog}'::regclass AND own.objid = {oid}"
        " AND (own.deptype = 'e' OR own.xmin::text IN (SELECT script FROM scripts s WHERE s.extension = m.extension)))"
    )


def _changed(acl: str, granted: str) -> str:
    """Whether an ACL is not that of initdb, which grants this privilege to PUBLIC (and keeps no list of its own there)."""
    return (
        f"{acl} IS NOT NULL AND (SELECT count(*) FILTER (WHERE x.grantee NOT IN (0, 10) OR x.grantee = 0 AND"
        f" x.privilege_type <> '{granted}') > 0 OR count(*) FILTER (WHERE x.grantee = 0) = 0 FROM aclexplode({acl}) AS x)"
    )


# Tables of extensions whose rows, or some of them, are not carried. `scripts` are the transactions of the extension's
# script; rows that these inserted come back with it. Empty where that is not known.
MEMBER_TABLES = f"""{_EXTENSIONS}
SELECT m.extname::text AS extension, m.identity, m.configures, coalesce(m.condition, '') AS condition,
       pg_relation_size(m.oid)::bigint AS size_bytes, greatest(m.reltuples, 0)::bigint AS estimate,
       CASE WHEN m.known THEN ARRAY(SELECT script FROM scripts s WHERE s.extension = m.extension) ELSE '{{}}' END AS scripts
FROM members m
WHERE m.relkind = 'r' AND (NOT m.configures OR m.condition <> '')
ORDER BY 2
"""

MEMBER_SEQUENCES = f"""{_EXTENSIONS}
SELECT m.extname::text AS extension, m.identity, q.seqstart AS start
FROM members m JOIN pg_sequence q ON q.seqrelid = m.oid
WHERE NOT m.configures AND (pg_has_role(m.relowner, 'USAGE') OR has_sequence_privilege(m.oid, 'SELECT'))
ORDER BY 2
"""

_OWNER = "ALTER %s OWNER TO %I;"

# By kind. `_backup/losses.py` says what each is.
STATEMENTS = {
    "member_object": f"""{_EXTENSIONS}
SELECT format('index %s on %s of the extension %I', i.indexrelid::regclass, m.identity, m.extname) AS subject,
       pg_get_indexdef(i.indexrelid) || ';' AS statement
FROM members m JOIN pg_index i ON i.indrelid = m.oid
WHERE {_added("pg_class", "i.indexrelid")}
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = m.oid)
UNION ALL
SELECT format('constraint %I on %s of the extension %I', k.conname, m.identity, m.extname),
       format('ALTER TABLE %s ADD CONSTRAINT %I %s;', m.identity, k.conname, pg_get_constraintdef(k.oid))
FROM members m JOIN pg_constraint k ON k.conrelid = m.oid
WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND {_added("pg_constraint", "k.oid")}
UNION ALL
SELECT format('trigger %I on %s of the extension %I', g.tgname, m.identity, m.extname), pg_get_triggerdef(g.oid) || ';'
FROM members m JOIN pg_trigger g ON g.tgrelid = m.oid
WHERE NOT g.tgisinternal AND {_added("pg_trigger", "g.oid")}
UNION ALL
SELECT format('rule %I on %s of the extension %I', r.rulename, m.identity, m.extname), pg_get_ruledef(r.oid)
FROM members m JOIN pg_rewrite r ON r.ev_class = m.oid
WHERE r.rulename <> '_RETURN' AND {_added("pg_rewrite", "r.oid")}
UNION ALL
SELECT format('policy %I on %s of the extension %I', p.polname, m.identity, m.extname), ''
FROM members m JOIN pg_policy p ON p.polrelid = m.oid
WHERE {_added("pg_policy", "p.oid")}
UNION ALL
SELECT format('statistics %I on %s of the extension %I', s.stxname, m.identity, m.extname),
       pg_get_statisticsobjdef(s.oid) || ';'
FROM members m JOIN pg_statistic_ext s ON s.stxrelid = m.oid
WHERE {_added("pg_statistic_ext", "s.oid")}
ORDER BY 1""",
    # What was added in a transaction of its own: by ALTER EXTENSION ADD, or by an update of the extension.
    "member_added": f"""{_EXTENSIONS}
SELECT format('%s of the extension %I', pg_describe_object(e.classid, e.objid, 0), x.extname) AS subject,
       '' AS statement
FROM pg_depend e JOIN extensions x ON x.oid = e.refobjid
JOIN scripts s ON s.extension = x.oid AND s.script = e.xmin::text
WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND x.known AND s.made = 1
  AND NOT EXISTS (SELECT FROM pg_type t WHERE e.classid = 'pg_type'::regclass AND t.oid = e.objid
                  AND (t.typrelid <> 0 OR t.typelem <> 0))
  AND s.script <> (SELECT g.xmin::text FROM pg_extension g WHERE g.oid = x.oid)
ORDER BY 1""",
    "member_unknown": f"""{_EXTENSIONS}
SELECT DISTINCT format('extension %I', m.extname) AS subject, '' AS statement FROM members m
WHERE NOT m.known AND m.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1""",
    # An extension's objects come back as the restoring superuser's; only a changed owner is worth a word.
    "member_owner": f"""{_EXTENSIONS}
SELECT format('%s of the extension %I', pg_describe_object(o.classid, o.oid, 0), x.extname) AS subject,
       format('{_OWNER}', CASE o.kind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
              WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'routine' THEN 'ROUTINE' WHEN 'schema' THEN 'SCHEMA' ELSE 'TABLE' END
              || ' ' || o.name, pg_get_userbyid(o.owner)) AS statement
FROM pg_depend e JOIN extensions x ON x.oid = e.refobjid
JOIN (SELECT 'pg_class'::regclass AS classid, oid, relowner AS owner, relkind::text AS kind, oid::regclass::text AS name
      FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      UNION ALL SELECT 'pg_proc'::regclass, oid, proowner, 'routine', oid::regprocedure::text FROM pg_proc
      UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner, 'schema', quote_ident(nspname) FROM pg_namespace) AS o
  ON o.classid = e.classid AND o.oid = e.objid
WHERE e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e' AND o.owner NOT IN (10, x.extowner)
ORDER BY 1""",
    "extension_owner": """
SELECT format('extension %I of %I', x.extname, pg_get_userbyid(x.extowner)) AS subject,
       format('SET ROLE %I; CREATE EXTENSION %I;', pg_get_userbyid(x.extowner), x.extname) AS statement
FROM pg_extension x WHERE x.extowner <> 10 ORDER BY 1""",
    "extension_version": """
SELECT format('extension %I %s (%s here without a version)', x.extname, x.extversion, a.default_version) AS subject,
       format('CREATE EXTENSION %I VERSION %L;', x.extname, x.extversion) AS statement
FROM pg_extension x JOIN pg_available_extensions a ON a.name = x.extname
WHERE a.default_version <> x.extversion ORDER BY 1""",
    "member_publication": f"""{_EXTENSIONS}
SELECT format('table %s of the extension %I in the publication %I', m.identity, m.extname, p.pubname) AS subject,
       format('ALTER PUBLICATION %I ADD TABLE ONLY %s;', p.pubname, m.identity) AS statement
FROM members m JOIN pg_publication_rel r ON r.prrelid = m.oid JOIN pg_publication p ON p.oid = r.prpubid
ORDER BY 1""",
    "comment": f"""
SELECT pg_describe_object(d.classoid, d.objoid, d.objsubid) AS subject,
       format('COMMENT ON %s IS %L;', CASE
         WHEN k.oid IS NOT NULL THEN format('CONSTRAINT %I ON %s', k.conname, k.conrelid::regclass)
         WHEN g.oid IS NOT NULL THEN format('TRIGGER %I ON %s', g.tgname, g.tgrelid::regclass)
         WHEN r.oid IS NOT NULL THEN format('RULE %I ON %s', r.rulename, r.ev_class::regclass)
         ELSE format('TYPE %s', t.oid::regtype) END, d.description) AS statement
FROM pg_description d
LEFT JOIN pg_constraint k ON d.classoid = 'pg_constraint'::regclass AND k.oid = d.objoid AND k.conrelid <> 0
LEFT JOIN pg_trigger g ON d.classoid = 'pg_trigger'::regclass AND g.oid = d.objoid
LEFT JOIN pg_rewrite r ON d.classoid = 'pg_rewrite'::regclass AND r.oid = d.objoid
LEFT JOIN pg_type t ON d.classoid = 'pg_type'::regclass AND t.oid = d.objoid
LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE d.objoid >= {_FIRST_USER_OID} AND d.objsubid = 0
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
  AND (k.contype IN ('c', 'n') AND NOT k.conislocal OR k.contype = 'f' AND k.conparentid <> 0
       OR g.tgparentid <> 0 OR r.rulename = '_RETURN'
       OR t.typtype = 'm' OR c.relkind <> 'c' OR EXISTS (SELECT FROM pg_type a WHERE a.typarray = t.oid))
  AND pg_describe_object(d.classoid, d.objoid, 0) !~ 'pg_temp'
ORDER BY 1""",
    "invalid_index": """
SELECT format('index %s on %s', i.indexrelid::regclass, i.indrelid::regclass) AS subject,
       pg_get_indexdef(i.indexrelid) || ';' AS statement
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE NOT i.indisvalid AND t.relkind <> 'p' AND t.relpersistence <> 't' AND n.nspname <> 'pg_toast' ORDER BY 1""",
    "detach_pending": """
SELECT format('%s of %s', h.inhrelid::regclass, h.inhparent::regclass) AS subject,
       format('ALTER TABLE %s DETACH PARTITION %s FINALIZE;', h.inhparent::regclass, h.inhrelid::regclass) AS statement
FROM pg_inherits h WHERE (to_jsonb(h) ->> 'inhdetachpending')::bool ORDER BY 1""",
    "disabled_constraint": """
SELECT DISTINCT format('%s on %s', quote_ident(k.conname), g.tgrelid::regclass) AS subject,
       format('ALTER TABLE %s DISABLE TRIGGER ALL;', g.tgrelid::regclass) AS statement
FROM pg_trigger g JOIN pg_constraint k ON k.oid = g.tgconstraint
WHERE g.tgisinternal AND g.tgenabled <> 'O' AND g.tgparentid = 0 ORDER BY 1""",
    # Others' options come as NULL to a login without rights (pg_user_mappings), and pg_dump writes none then.
    "user_mapping": """
SELECT format('%s on %I', u.usename, u.srvname) AS subject,
       format('ALTER USER MAPPING FOR %s SERVER %I OPTIONS (ADD ...);',
              CASE u.umuser WHEN 0 THEN 'PUBLIC' ELSE quote_ident(u.usename) END, u.srvname) AS statement
FROM pg_user_mappings u JOIN pg_foreign_server s ON s.oid = u.srvid
WHERE u.umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND NOT (u.umuser = 0 AND pg_has_role(s.srvowner, 'USAGE'))
  AND NOT (u.umuser <> 0 AND u.usename = current_user
           AND (pg_has_role(s.srvowner, 'USAGE') OR has_server_privilege(s.oid, 'USAGE')))
ORDER BY 1""",
    "system_relation": f"""
SELECT format('%s (%s)', c.oid::regclass, pg_size_pretty(pg_relation_size(c.oid))) AS subject, '' AS statement
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= {_FIRST_USER_OID} AND n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'p', 'm', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY 1""",
    "system_object": f"""
SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0) AS subject,
       CASE p.prokind WHEN 'a' THEN '' ELSE pg_get_functiondef(p.oid) || ';' END AS statement
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid >= {_FIRST_USER_OID} AND n.nspname IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype IN ('e', 'i'))
UNION ALL
SELECT format('view %s', c.oid::regclass), format('CREATE VIEW %s AS %s', c.oid::regclass, pg_get_viewdef(c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= {_FIRST_USER_OID} AND n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind = 'v'
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
UNION ALL
SELECT format('type %s', t.oid::regtype), ''
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= {_FIRST_USER_OID} AND n.nspname IN ('pg_catalog', 'information_schema') AND t.typtype IN ('d', 'e', 'r')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
UNION ALL
SELECT format('operator %s', o.oid::regoperator), ''
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= {_FIRST_USER_OID} AND n.nspname IN ('pg_catalog', 'information_schema') AND o.oprcode <> 0
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_operator'::regclass AND e.objid = o.oid AND e.deptype = 'e')
ORDER BY 1""",
    # Built-in objects: pg_dump carries the privileges on those in pg_catalog, and nothing else.
    "built_in": f"""
SELECT format('owner %I of the built-in %s', pg_get_userbyid(o.owner), pg_describe_object(o.classid, o.oid, 0)) AS subject,
       '' AS statement
FROM (SELECT 'pg_proc'::regclass AS classid, oid, proowner AS owner FROM pg_proc
      UNION ALL SELECT 'pg_class'::regclass, oid, relowner FROM pg_class WHERE relkind IN ('r', 'v')
      UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE nspname <> 'public') AS o
WHERE o.oid < {_FIRST_USER_OID} AND o.owner <> 10
UNION ALL
SELECT format('mapping of %s to %s in the built-in text search configuration %s',
              string_agg(DISTINCT m.maptokentype::text, ', '), m.mapdict::regdictionary, m.mapcfg::regconfig), ''
FROM pg_ts_config_map m WHERE m.mapcfg < {_FIRST_USER_OID} AND m.mapdict >= {_FIRST_USER_OID}
GROUP BY m.mapdict, m.mapcfg
UNION ALL
SELECT format('%s in the built-in operator family %I', pg_describe_object('pg_amop'::regclass, o.oid, 0), f.opfname), ''
FROM pg_amop o JOIN pg_opfamily f ON f.oid = o.amopfamily
WHERE o.oid >= {_FIRST_USER_OID} AND f.oid < {_FIRST_USER_OID}
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_amop'::regclass AND e.objid = o.oid
                  AND (e.deptype = 'e' OR e.refclassid = 'pg_opclass'::regclass AND e.deptype = 'i'))
UNION ALL
SELECT format('security label of the built-in %s', pg_describe_object(l.classoid, l.objoid, l.objsubid)), ''
FROM pg_seclabel l WHERE l.objoid < {_FIRST_USER_OID} AND l.objoid <> 'public'::regnamespace
ORDER BY 1""",
    "privilege": f"""
SELECT format('privileges on the language %I', l.lanname) AS subject, '' AS statement
FROM pg_language l WHERE l.oid < {_FIRST_USER_OID} AND NOT l.lanispl AND l.lanacl IS NOT NULL
UNION ALL
SELECT format('privileges on the type %s', t.oid::regtype), ''
FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid WHERE c.relkind <> 'c' AND t.typacl IS NOT NULL
UNION ALL
SELECT format('privileges on %s', c.oid::regclass), ''
FROM pg_class c
WHERE c.oid < {_FIRST_USER_OID} AND c.relnamespace = 'information_schema'::regnamespace AND c.relkind IN ('r', 'v')
  AND {_changed("c.relacl", "SELECT")}
UNION ALL
SELECT 'privileges on the schema information_schema', ''
FROM pg_namespace n WHERE n.nspname = 'information_schema' AND {_changed("n.nspacl", "USAGE")}
ORDER BY 1""",
    "security_label": """
SELECT format('security label of %s for the database', l.provider) AS subject,
       format('SECURITY LABEL FOR %I ON DATABASE %I IS %L;', l.provider, d.datname, l.label) AS statement
FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
WHERE l.classoid = 'pg_database'::regclass AND d.datname = current_database() ORDER BY 1""",
    # Restores of this collection leave them out, as a copy would take the changes that wait for the source.
    "subscription": """
SELECT format('subscription %I', s.subname) AS subject, '' AS statement
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() ORDER BY 1""",
    "prepared_transaction": """
SELECT format('%L of %s', gid, owner) AS subject, format('COMMIT PREPARED %L;', gid) AS statement
FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1""",
    "foreign_rows": f"""
SELECT c.oid::regclass::text AS subject, '' AS statement
FROM pg_class c WHERE c.relkind = 'f' AND c.oid >= {_FIRST_USER_OID} ORDER BY 1""",
    "unlogged_rows": """
SELECT c.oid::regclass::text AS subject, '' AS statement
FROM pg_class c WHERE c.relkind IN ('r', 'S') AND c.relpersistence = 'u' AND pg_is_in_recovery() ORDER BY 1""",
    "tablespace": """
SELECT format('%I: %s', t.spcname, CASE count(*) WHEN 1 THEN '1 table, index or materialized view'
              ELSE count(*) || ' tables, indexes and materialized views' END) AS subject,
       min(CASE WHEN c.relkind IN ('i', 'I') THEN format('ALTER INDEX %s SET TABLESPACE %I;', c.oid::regclass, t.spcname)
                ELSE format('ALTER TABLE %s SET TABLESPACE %I;', c.oid::regclass, t.spcname) END) AS statement
FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'i', 'I') GROUP BY t.spcname ORDER BY 1""",
}
# The first major of pg_dump that carries a kind.
CARRIED_SINCE = {"member_publication": 18}

# Large objects that this login may not read: pg_dump fails on the first one.
# https://www.postgresql.org/docs/current/lo-implementation.html
LARGE_OBJECTS_UNREADABLE = """
SELECT count(*) AS number, min(m.oid)::bigint AS first, (SELECT pg_get_userbyid(l.lomowner)::text FROM pg_largeobject_metadata l
                                                          WHERE l.oid = min(m.oid)) AS owner
FROM pg_largeobject_metadata m
WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND current_setting('lo_compat_privileges') = 'off'
  AND NOT EXISTS (SELECT FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) AS x
                  WHERE x.privilege_type = 'SELECT' AND (x.grantee = 0 OR pg_has_role(x.grantee, 'USAGE')))
"""


# --- the cluster

# What a database or a role may be set to and pg_dump or pg_dumpall do not set themselves: they would be ended, or wait.
SETTINGS_IN_THE_WAY = """
SELECT name, value
FROM (VALUES ('statement_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0'),
             ('transaction_timeout', '0'), ('default_transaction_isolation', 'read committed'),
             ('default_transaction_deferrable', 'off'), ('exit_on_error', 'off'), ('lc_messages', 'C')) AS wanted (name, value)
JOIN pg_catalog.pg_settings USING (name)
WHERE reset_val <> value
  -- Messages are read, and only a superuser may choose their language.
  AND (name <> 'lc_messages' OR current_setting('is_superuser')::bool AND reset_val !~ '^(|C|POSIX|C[.].*|en_.*)$')
"""

# How a server runs: since when; since when the processes that a crash of another one ends (NULL without the right to see
# them); and how many sessions with the database others have terminated (since 14).
# https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
LIFE = """
SELECT date_trunc('second', pg_postmaster_start_time())::text AS since,
       (SELECT max(a.backend_start)::text FROM pg_stat_activity a WHERE a.backend_type = 'checkpointer') AS processes,
       (SELECT (to_jsonb(d) ->> 'sessions_killed')::bigint FROM pg_stat_database d WHERE d.datname = current_database()) AS killed
"""

# What pg_dump will have to write, before compression: heaps and their TOAST, not the indexes.
DUMP_SIZE = """
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::bigint + pg_table_size('pg_catalog.pg_largeobject') AS size_bytes,
       count(*) AS tables
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

# Tables and sequences that a dump by this login would stumble over.
# https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-ACCESS
UNREADABLE = """
SELECT format('%I.%I', n.nspname, c.relname) AS identity,
       CASE WHEN row_security_active(c.oid) THEN 'row-level security hides rows' ELSE 'no privilege to read it' END AS why
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
  AND (NOT has_schema_privilege(n.oid, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT') OR row_security_active(c.oid))
ORDER BY 1
LIMIT 20
"""
