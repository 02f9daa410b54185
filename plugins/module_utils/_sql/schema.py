# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of every object that pg_dump carries, as (kind, identity, digest), so that two schemas can be compared.

Each part below selects `kind`, `identity` and `definition`. A definition names other objects and roles, never an OID.
Floor: PostgreSQL 13; columns that came later are read through to_jsonb(), which has a NULL for what is not there.
"""

from __future__ import annotations

_FIRST_USER_OID = 16384  # FirstNormalObjectId, src/include/access/transam.h
# In an identity by pg_identify_object(): `pg_temp_3.t`, `trg on pg_temp_3.t`, `public.f(pg_temp_3.t)`.
_TEMPORARY = "'(^|[ (,])pg_temp(_[0-9]+)?[.]'"

# How lists are sorted: by bytes, whatever the locale of a database makes of the same letters.
_BYTEWISE = ' COLLATE pg_catalog."C"'


def _no_extension(catalog: str, oid: str) -> str:
    return (
        f"NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{catalog}'::regclass"
        f" AND e.objid = {oid} AND e.deptype = 'e')"
    )


def _acl(acl: str, letter: str, owner: str) -> str:
    # A restored ACL may have another order and other grantors, and NULL where the default was written out.
    default = f"coalesce({acl}, acldefault('{letter}', {owner}))" if letter != "c" else acl
    return (
        "(SELECT string_agg(DISTINCT (coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC') || '=' || x.privilege_type"
        f" || CASE WHEN x.is_grantable THEN '*' ELSE '' END){_BYTEWISE}, ',') FROM aclexplode({default}) x)"
    )


def _expression(text: str) -> str:
    # A restore parses what was printed, and may print it in another form of the same meaning:
    # ARRAY['a'::varchar]::text[] as ARRAY[('a'::varchar)::text], and (a AND b) AND c as a AND b AND c.
    # Where there are such casts or operators, and only there, casts to text types, brackets and blanks do not count.
    return (
        f"(SELECT CASE WHEN d ~ '::(character varying|text)| AND | OR ' THEN regexp_replace(regexp_replace(d,"
        r" '::(character varying|text)(\(\d+\))?(\[\])?', '', 'g'), '[()\s]', '', 'g') ELSE d END"
        f" FROM (SELECT {text} AS d) AS deparsed)"
    )


def _sorted(array: str) -> str:
    return f"(SELECT string_agg(o, ',' ORDER BY o{_BYTEWISE}) FROM unnest({array}) o)"


_COLUMNS = f"""
  (SELECT string_agg(concat_ws(' ',
            quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
            CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END,
            nullif(a.attidentity, ''), nullif(a.attgenerated, ''), {_expression("pg_get_expr(f.adbin, f.adrelid)")},
            CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END,
            nullif(to_jsonb(a) ->> 'attcompression', ''), nullif(to_jsonb(a) ->> 'attstattarget', '-1'),
            {_sorted("a.attoptions")}, {_sorted("a.attfdwoptions")}, {_acl("a.attacl", "c", "c.relowner")}),
          E'\\n' ORDER BY CASE WHEN i.inherits AND NOT c.relispartition THEN 0 ELSE a.attnum END, a.attname COLLATE "C")
   FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
   LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)"""

_PARTS = {
    "schemas": f"""
SELECT 'schema', quote_ident(n.nspname), concat_ws('|', n.nspowner::regrole, {_acl("n.nspacl", "n", "n.nspowner")})
FROM pg_namespace n
WHERE (n.oid >= {_FIRST_USER_OID} OR n.nspname = 'public') AND n.nspname !~ '^pg_(temp|toast)'
  AND {_no_extension("pg_namespace", "n.oid")}""",
    "relations": f"""
SELECT CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
         WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' WHEN 'S' THEN 'sequence' ELSE 'type' END,
       format('%I.%I', n.nspname, c.relname),
       concat_ws('|', c.relpersistence, c.relowner::regrole, CASE WHEN c.relkind = 'S' THEN
                 {_acl("c.relacl", "s", "c.relowner")} ELSE {_acl("c.relacl", "r", "c.relowner")} END,
         {_sorted("c.reloptions")}, (SELECT {_sorted("tt.reloptions")} FROM pg_class tt WHERE tt.oid = c.reltoastrelid),
         c.relrowsecurity, c.relforcerowsecurity, nullif(c.relreplident, 'd'),
         (SELECT nullif(m.amname, 'heap') FROM pg_am m WHERE m.oid = c.relam),
         CASE WHEN c.relkind = 'p' THEN {_expression("pg_get_partkeydef(c.oid)")} END, pg_get_expr(c.relpartbound, c.oid), i.parents,
         CASE WHEN c.reloftype <> 0 THEN c.reloftype::regtype END,
         CASE WHEN c.relkind = 'm' THEN c.relispopulated END,
         CASE WHEN c.relkind IN ('v', 'm') THEN {_expression("pg_get_viewdef(c.oid)")} END,
         (SELECT concat_ws(' ', s.srvname, {_sorted("ft.ftoptions")}) FROM pg_foreign_table ft
            JOIN pg_foreign_server s ON s.oid = ft.ftserver WHERE ft.ftrelid = c.oid),
         (SELECT concat_ws(' ', q.seqtypid::regtype, q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle)
            FROM pg_sequence q WHERE q.seqrelid = c.oid),
         (SELECT string_agg(w.refobjid::regclass || '.' || wa.attname || ' ' || w.deptype::text, ',')
            FROM pg_depend w JOIN pg_attribute wa ON wa.attrelid = w.refobjid AND wa.attnum = w.refobjsubid
            WHERE c.relkind = 'S' AND w.classid = 'pg_class'::regclass AND w.objid = c.oid
              AND w.refclassid = 'pg_class'::regclass AND w.deptype IN ('a', 'i')),
         CASE WHEN c.relkind <> 'S' THEN {_COLUMNS} END)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT count(*) > 0 AS inherits, string_agg(h.inhparent::regclass::text, ',' ORDER BY h.inhseqno) AS parents
                    FROM pg_inherits h WHERE h.inhrelid = c.oid) AS i
WHERE c.oid >= {_FIRST_USER_OID} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relpersistence <> 't'
  AND {_no_extension("pg_class", "c.oid")}""",
    # pg_dump carries an index when it is valid, or belongs to a partitioned table (getIndexes in pg_dump.c).
    "indexes": f"""
SELECT 'index', format('%I.%I', n.nspname, c.relname),
       concat_ws('|', {_expression("pg_get_indexdef(x.indexrelid)")}, x.indisclustered, x.indisreplident,
         (SELECT h.inhparent::regclass FROM pg_inherits h WHERE h.inhrelid = x.indexrelid))
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_class r ON r.oid = x.indrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= {_FIRST_USER_OID} AND n.nspname <> 'pg_toast' AND c.relpersistence <> 't'
  AND (x.indisvalid OR r.relkind = 'p') AND x.indisready AND {_no_extension("pg_class", "r.oid")}""",
    "constraints": f"""
SELECT 'constraint', format('%I on %s', k.conname, CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text
                                                        ELSE k.contypid::regtype::text END),
       concat_ws('|', k.contype, k.convalidated, {_expression("pg_get_constraintdef(k.oid)")})
FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid
WHERE k.oid >= {_FIRST_USER_OID} AND k.contype IN ('c', 'f', 'p', 'u', 'x') AND k.conparentid = 0 AND k.conislocal
  AND coalesce(c.relpersistence, 'p') <> 't' AND k.connamespace::regnamespace::text !~ '^pg_temp'
  AND {_no_extension("pg_class", "k.conrelid")} AND {_no_extension("pg_type", "k.contypid")}""",
    "triggers": f"""
SELECT 'trigger', format('%I on %s', g.tgname, g.tgrelid::regclass),
       concat_ws('|', g.tgenabled, {_expression("pg_get_triggerdef(g.oid)")})
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
WHERE g.oid >= {_FIRST_USER_OID} AND NOT g.tgisinternal AND g.tgparentid = 0 AND c.relpersistence <> 't'
  AND {_no_extension("pg_trigger", "g.oid")}""",
    "rules": f"""
SELECT 'rule', format('%I on %s', r.rulename, r.ev_class::regclass), concat_ws('|', r.ev_enabled,
       {_expression("pg_get_ruledef(r.oid)")})
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
WHERE r.oid >= {_FIRST_USER_OID} AND r.rulename <> '_RETURN' AND c.relpersistence <> 't'
  AND {_no_extension("pg_rewrite", "r.oid")}""",
    "policies": f"""
SELECT 'policy', format('%I on %s', p.polname, p.polrelid::regclass),
       concat_ws('|', p.polcmd, p.polpermissive, {_expression("pg_get_expr(p.polqual, p.polrelid)")},
         {_expression("pg_get_expr(p.polwithcheck, p.polrelid)")},
         (SELECT string_agg(r.name, ',' ORDER BY r.name{_BYTEWISE})
            FROM (SELECT coalesce(nullif(o, 0)::regrole::text, 'PUBLIC') AS name FROM unnest(p.polroles) o) AS r))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE p.oid >= {_FIRST_USER_OID} AND c.relpersistence <> 't'""",
    "functions": f"""
SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       concat_ws('|', p.proowner::regrole, {_acl("p.proacl", "f", "p.proowner")},
         CASE WHEN p.prokind <> 'a' THEN p.prosrc || {_expression("pg_get_functiondef(p.oid)")} ELSE
           concat_ws(' ', pg_get_function_result(p.oid), p.proparallel, g.aggkind, g.aggnumdirectargs, g.aggtransfn,
             g.aggfinalfn, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn,
             g.aggsortop::regoper, g.aggtranstype::regtype, g.aggmtranstype::regtype, g.agginitval, g.aggminitval) END)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace LEFT JOIN pg_aggregate g ON g.aggfnoid = p.oid
WHERE p.oid >= {_FIRST_USER_OID} AND n.nspname !~ '^pg_temp' AND {_no_extension("pg_proc", "p.oid")}
  AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')""",
    "types": f"""
SELECT 'type', format('%I.%I', n.nspname, t.typname),
       concat_ws('|', t.typtype, t.typowner::regrole, {_acl("t.typacl", "T", "t.typowner")},
         (SELECT string_agg(quote_literal(l.enumlabel), ',' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
         CASE WHEN t.typtype = 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
                                                  t.typcollation::regcollation) END,
         CASE WHEN t.typtype = 'b' THEN concat_ws(' ', t.typinput, t.typoutput, t.typreceive, t.typsend, t.typlen, t.typbyval,
                                                  t.typalign, t.typstorage, t.typcategory) END,
         (SELECT concat_ws(' ', r.rngsubtype::regtype, r.rngcollation::regcollation, r.rngcanonical, r.rngsubdiff)
            FROM pg_range r WHERE r.rngtypid = t.oid))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= {_FIRST_USER_OID} AND t.typtype IN ('b', 'd', 'e', 'r') AND t.typcategory <> 'A' AND n.nspname !~ '^pg_temp'
  AND {_no_extension("pg_type", "t.oid")}""",
    # A dump names no version: a restore gets the one that is current there.
    "extensions": """
SELECT 'extension', quote_ident(x.extname), n.nspname
FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace""",
    "operators": f"""
SELECT 'operator', o.oid::regoperator::text, concat_ws('|', o.oprowner::regrole, o.oprcode, o.oprcom::regoperator,
       o.oprnegate::regoperator, o.oprcanmerge, o.oprcanhash, o.oprrest, o.oprjoin)
FROM pg_operator o WHERE o.oid >= {_FIRST_USER_OID} AND o.oprcode <> 0 AND {_no_extension("pg_operator", "o.oid")}
UNION ALL
SELECT 'operator class', format('%I.%I using %I', n.nspname, o.opcname, m.amname),
       concat_ws('|', o.opcowner::regrole, o.opcintype::regtype, o.opcdefault, nullif(o.opckeytype, 0)::regtype)
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE o.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_opclass", "o.oid")}
UNION ALL
SELECT 'operator family', format('%I.%I using %I', n.nspname, o.opfname, m.amname), concat_ws('|', o.opfowner::regrole,
       (SELECT string_agg(concat_ws(' ', w.amopopr::regoperator, w.amopstrategy), ',' ORDER BY w.amopstrategy,
               w.amopopr::regoperator::text{_BYTEWISE}) FROM pg_amop w WHERE w.amopfamily = o.oid),
       (SELECT string_agg(concat_ws(' ', w.amproc, w.amprocnum), ',' ORDER BY w.amprocnum, w.amproc::text{_BYTEWISE})
          FROM pg_amproc w WHERE w.amprocfamily = o.oid))
FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace JOIN pg_am m ON m.oid = o.opfmethod
WHERE o.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_opfamily", "o.oid")}""",
    "conversions": f"""
SELECT 'cast', format('%s as %s', c.castsource::regtype, c.casttarget::regtype),
       concat_ws('|', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod)
FROM pg_cast c WHERE c.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_cast", "c.oid")}
UNION ALL
SELECT 'collation', c.oid::regcollation::text, concat_ws('|', c.collowner::regrole, c.collprovider, c.collisdeterministic,
       c.collcollate, c.collctype, to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'collicurules')
FROM pg_collation c WHERE c.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_collation", "c.oid")}
UNION ALL
SELECT 'conversion', format('%I.%I', n.nspname, c.conname),
       concat_ws('|', c.conowner::regrole, c.conforencoding, c.contoencoding, c.conproc, c.condefault)
FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE c.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_conversion", "c.oid")}""",
    "text search": f"""
SELECT 'text search configuration', c.oid::regconfig::text, concat_ws('|', c.cfgowner::regrole, c.cfgparser,
       (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ','
               ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = c.oid))
FROM pg_ts_config c WHERE c.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_ts_config", "c.oid")}
UNION ALL
SELECT 'text search dictionary', d.oid::regdictionary::text, concat_ws('|', d.dictowner::regrole, d.dictinitoption)
FROM pg_ts_dict d WHERE d.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_ts_dict", "d.oid")}""",
    "foreign data": f"""
SELECT 'foreign-data wrapper', quote_ident(w.fdwname), concat_ws('|', w.fdwowner::regrole, {_sorted("w.fdwoptions")},
       {_acl("w.fdwacl", "F", "w.fdwowner")})
FROM pg_foreign_data_wrapper w WHERE w.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_foreign_data_wrapper", "w.oid")}
UNION ALL
SELECT 'foreign server', quote_ident(s.srvname), concat_ws('|', s.srvowner::regrole, s.srvtype, s.srvversion,
       {_sorted("s.srvoptions")}, {_acl("s.srvacl", "S", "s.srvowner")})
FROM pg_foreign_server s WHERE s.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_foreign_server", "s.oid")}
UNION ALL
SELECT 'user mapping', format('%I on %I', u.usename, u.srvname), ''
FROM pg_user_mappings u WHERE u.umid >= {_FIRST_USER_OID}""",
    "others": f"""
SELECT 'event trigger', quote_ident(v.evtname), concat_ws('|', v.evtowner::regrole, v.evtevent, v.evtfoid::regprocedure,
       v.evtenabled, {_sorted("v.evttags")})
FROM pg_event_trigger v WHERE v.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_event_trigger", "v.oid")}
UNION ALL
SELECT 'statistics', format('%I.%I', n.nspname, x.stxname), concat_ws('|', x.stxowner::regrole,
       {_expression("pg_get_statisticsobjdef(x.oid)")})
FROM pg_statistic_ext x JOIN pg_namespace n ON n.oid = x.stxnamespace JOIN pg_class c ON c.oid = x.stxrelid
WHERE x.oid >= {_FIRST_USER_OID} AND c.relpersistence <> 't'
UNION ALL
SELECT 'publication', quote_ident(b.pubname), concat_ws('|', b.pubowner::regrole, b.puballtables, b.pubinsert, b.pubupdate,
       b.pubdelete, b.pubtruncate, b.pubviaroot,
       (SELECT string_agg(r.prrelid::regclass::text, ',' ORDER BY r.prrelid::regclass::text{_BYTEWISE})
          FROM pg_publication_rel r WHERE r.prpubid = b.oid),
       (SELECT string_agg(concat_ws(' ', v.schemaname, v.tablename,
                 (SELECT string_agg(a, ',' ORDER BY a{_BYTEWISE}) FROM jsonb_array_elements_text(
                    CASE jsonb_typeof(to_jsonb(v) -> 'attnames') WHEN 'array' THEN to_jsonb(v) -> 'attnames' END) AS a),
                 {_expression("to_jsonb(v) ->> 'rowfilter'")}), ',' ORDER BY v.schemaname, v.tablename)
          FROM pg_publication_tables v WHERE v.pubname = b.pubname))
FROM pg_publication b WHERE b.oid >= {_FIRST_USER_OID}
UNION ALL
SELECT 'language', quote_ident(l.lanname), concat_ws('|', l.lanowner::regrole, l.lanpltrusted,
       {_acl("l.lanacl", "l", "l.lanowner")})
FROM pg_language l WHERE l.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_language", "l.oid")}
UNION ALL
SELECT 'access method', quote_ident(m.amname), concat_ws('|', m.amhandler, m.amtype)
FROM pg_am m WHERE m.oid >= {_FIRST_USER_OID} AND {_no_extension("pg_am", "m.oid")}
UNION ALL
SELECT 'default privileges', concat_ws(' ', d.defaclrole::regrole, d.defaclobjtype, nullif(d.defaclnamespace, 0)::regnamespace),
       (SELECT string_agg(DISTINCT (coalesce(nullif(x.grantee, 0)::regrole::text, 'PUBLIC') || '=' || x.privilege_type
               || CASE WHEN x.is_grantable THEN '*' ELSE '' END){_BYTEWISE}, ',') FROM aclexplode(d.defaclacl) x)
FROM pg_default_acl d""",
    "comments": f"""
SELECT 'comment', concat_ws(' ', o.type, o.identity), d.description
FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE d.objoid >= {_FIRST_USER_OID} AND o.identity IS NOT NULL AND o.identity !~ {_TEMPORARY}
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
  AND NOT EXISTS (SELECT FROM pg_statistic_ext x JOIN pg_class c ON c.oid = x.stxrelid
                  WHERE d.classoid = 'pg_statistic_ext'::regclass AND x.oid = d.objoid AND c.relpersistence = 't')
UNION ALL
SELECT 'security label', concat_ws(' ', o.type, o.identity, d.provider), d.label
FROM pg_seclabel d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE d.objoid >= {_FIRST_USER_OID} AND o.identity !~ {_TEMPORARY}""",
}

# One statement a part: the server works on small sorts, and a refused one can be named.
OBJECTS = {
    part: f"SELECT kind, identity, left(md5(coalesce(definition, '')), 16) AS digest "
    f"FROM ({statement}) AS object (kind, identity, definition)"
    for part, statement in _PARTS.items()
}
# As the first fingerprints were taken, in the order of the database's own locale.
OBJECTS_BY_LOCALE = {part: statement.replace(_BYTEWISE, "") for part, statement in OBJECTS.items()}
