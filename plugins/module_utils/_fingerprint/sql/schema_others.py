# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions of all that is no relation and hangs on none, as far as pg_dump carries them."""

from __future__ import annotations

from collections.abc import Mapping

from .schema_words import (
    BYTEWISE,
    EXPRESSION,
    FIRST_USER_OID,
    Statement,
    acl,
    carried,
    granted,
    in_order,
    no_extension,
    opclass,
)

_NAME = "format('%I.%I', n.nspname, {})".format

_SCHEMAS = f"""
SELECT 'schema' AS kind, quote_ident(n.nspname) AS identity, n.nspowner::regrole AS owner,
       {acl("n.nspacl", "n", "n.nspowner")} AS privileges
FROM pg_namespace n
WHERE (n.oid >= {FIRST_USER_OID} OR n.nspname = 'public') AND {carried("n.nspname")} AND {no_extension("pg_namespace", "n.oid")}"""

_AGGREGATES = f"""
SELECT 'aggregate' AS kind, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS identity,
       p.proowner::regrole AS owner, {acl("p.proacl", "f", "p.proowner")} AS privileges,
       pg_get_function_arguments(p.oid) AS arguments,
       concat_ws(' ', pg_get_function_result(p.oid), p.proparallel, g.aggkind, g.aggnumdirectargs, g.aggtransfn, g.aggtransspace,
         g.aggfinalfn, g.aggfinalextra, g.aggfinalmodify, g.aggcombinefn, g.aggserialfn, g.aggdeserialfn, g.aggmtransfn,
         g.aggmtransspace, g.aggminvtransfn, g.aggmfinalfn, g.aggmfinalextra, g.aggmfinalmodify, g.aggsortop::regoper,
         g.aggtranstype::regtype, g.aggmtranstype::regtype) AS definition,
       g.agginitval AS "initial condition", g.aggminitval AS "initial condition of a moving aggregate"
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_aggregate g ON g.aggfnoid = p.oid
WHERE p.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_proc", "p.oid")}"""


def _types(major: int) -> str:
    subscript = "nullif(t.typsubscript::oid, 0)::regproc" if major >= 14 else "NULL"
    multirange = "(r.rngmultitypid::regtype)" if major >= 14 else "NULL"
    not_null = "CASE WHEN t.typnotnull THEN 'NOT NULL' END"
    if major >= 18:  # before, the name of this constraint is not carried
        not_null = """CASE WHEN t.typnotnull THEN 'NOT NULL ' || coalesce((
             SELECT quote_ident(k.conname) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'n'), '') END"""
    return f"""
SELECT 'type' AS kind, {_NAME("t.typname")} AS identity, t.typowner::regrole AS owner,
       {acl("t.typacl", "T", "t.typowner")} AS privileges,
       concat_ws(' ', t.typtype, CASE WHEN NOT t.typisdefined THEN 'shell' END) AS sort,
       CASE WHEN t.typtype = 'e' THEN
         (SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid)
         END AS labels,
       CASE WHEN t.typtype = 'd' THEN concat_ws(' ', format_type(t.typbasetype, t.typtypmod), {not_null},
              CASE WHEN t.typcollation <> 0 THEN 'COLLATE ' || t.typcollation::regcollation END) END AS domain,
       CASE WHEN t.typtype = 'd' THEN pg_get_expr(t.typdefaultbin, 0) END AS "default",
       CASE WHEN t.typtype = 'b' THEN t.typdefault END AS "initial value",
       CASE WHEN t.typtype = 'b' THEN concat_ws(' ', t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout,
              t.typanalyze, {subscript}, t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory, t.typispreferred,
              quote_literal(t.typdelim::text), nullif(t.typelem, 0)::regtype, t.typcollation <> 0) END AS definition,
       (SELECT concat_ws(' ', r.rngsubtype::regtype, {opclass("r.rngsubopc")},
                 CASE WHEN r.rngcollation <> 0 THEN r.rngcollation::regcollation END, r.rngcanonical, r.rngsubdiff, {multirange})
          FROM pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid) AS range
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.oid >= {FIRST_USER_OID} AND (t.typtype IN ('b', 'd', 'e', 'r') OR (t.typtype = 'p' AND NOT t.typisdefined))
  AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) AND {carried("n.nspname")}
  AND {no_extension("pg_type", "t.oid")}"""


# A dump names no version: a restore gets the one that is current there.
_EXTENSIONS = """
SELECT 'extension' AS kind, quote_ident(x.extname) AS identity, n.nspname AS schema
FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace"""

_OPERATORS = f"""
SELECT 'operator' AS kind, o.oid::regoperator::text AS identity, o.oprowner::regrole AS owner,
       concat_ws(' ', o.oprcode, o.oprcom::regoperator, o.oprnegate::regoperator, o.oprcanmerge, o.oprcanhash, o.oprrest,
                 o.oprjoin) AS definition
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid >= {FIRST_USER_OID} AND o.oprcode <> 0 AND {carried("n.nspname")} AND {no_extension("pg_operator", "o.oid")}"""


def _members(of: str, oid: str) -> str:
    """The operators and functions that belong to an operator class or to a family."""

    def where(catalog: str, member: str) -> str:
        return (
            f"EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{catalog}'::regclass AND d.objid = {member}.oid"
            f" AND d.refclassid = '{of}'::regclass AND d.refobjid = {oid})"
        )

    return f"""concat_ws(E'\\n',
         (SELECT string_agg(concat_ws(' ', 'operator', w.amopstrategy, w.amopopr::regoperator, w.amoplefttype::regtype,
                   w.amoprighttype::regtype, w.amoppurpose, (SELECT f.opfname FROM pg_opfamily f WHERE f.oid = w.amopsortfamily)),
                   ', ' ORDER BY w.amopstrategy, w.amopopr::regoperator::text{BYTEWISE})
            FROM pg_amop w WHERE {where("pg_amop", "w")}),
         (SELECT string_agg(concat_ws(' ', 'function', w.amprocnum, w.amproc::regprocedure, w.amproclefttype::regtype,
                   w.amprocrighttype::regtype), ', ' ORDER BY w.amprocnum, w.amproc::regprocedure::text{BYTEWISE},
                   w.amproclefttype::regtype::text{BYTEWISE}, w.amprocrighttype::regtype::text{BYTEWISE})
            FROM pg_amproc w WHERE {where("pg_amproc", "w")}))"""


_OPERATOR_CLASSES = f"""
SELECT 'operator class' AS kind, format('%I.%I using %I', n.nspname, o.opcname, m.amname) AS identity,
       o.opcowner::regrole AS owner,
       concat_ws(' ', o.opcintype::regtype, CASE WHEN o.opcdefault THEN 'DEFAULT' END, nullif(o.opckeytype, 0)::regtype,
         (SELECT format('%I.%I', fn.nspname, f.opfname) FROM pg_opfamily f JOIN pg_namespace fn ON fn.oid = f.opfnamespace
          WHERE f.oid = o.opcfamily)) AS definition,
       {_members("pg_opclass", "o.oid")} AS members
FROM pg_opclass o JOIN pg_namespace n ON n.oid = o.opcnamespace JOIN pg_am m ON m.oid = o.opcmethod
WHERE o.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_opclass", "o.oid")}"""
_OPERATOR_FAMILIES = f"""
SELECT 'operator family' AS kind, format('%I.%I using %I', n.nspname, o.opfname, m.amname) AS identity,
       o.opfowner::regrole AS owner, {_members("pg_opfamily", "o.oid")} AS members
FROM pg_opfamily o JOIN pg_namespace n ON n.oid = o.opfnamespace JOIN pg_am m ON m.oid = o.opfmethod
WHERE o.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_opfamily", "o.oid")}"""

_CASTS = f"""
SELECT 'cast' AS kind, format('%s as %s', c.castsource::regtype, c.casttarget::regtype) AS identity,
       concat_ws(' ', nullif(c.castfunc, 0)::regprocedure, c.castcontext, c.castmethod) AS definition
FROM pg_cast c WHERE c.oid >= {FIRST_USER_OID} AND {no_extension("pg_cast", "c.oid")}"""
_COLLATIONS = f"""
SELECT 'collation' AS kind, c.oid::regcollation::text AS identity, c.collowner::regrole AS owner,
       concat_ws(' ', c.collprovider, CASE WHEN NOT c.collisdeterministic THEN 'not deterministic' END, c.collcollate, c.collctype,
         to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'collicurules') AS definition
FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
WHERE c.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_collation", "c.oid")}"""
_CONVERSIONS = f"""
SELECT 'conversion' AS kind, {_NAME("c.conname")} AS identity, c.conowner::regrole AS owner,
       concat_ws(' ', c.conforencoding, c.contoencoding, c.conproc, CASE WHEN c.condefault THEN 'DEFAULT' END) AS definition
FROM pg_conversion c JOIN pg_namespace n ON n.oid = c.connamespace
WHERE c.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_conversion", "c.oid")}"""
_TRANSFORMS = f"""
SELECT 'transform' AS kind, format('for %s language %I', f.trftype::regtype, l.lanname) AS identity,
       concat_ws(' ', 'from', nullif(f.trffromsql::oid, 0)::regprocedure, 'to', nullif(f.trftosql::oid, 0)::regprocedure)
         AS definition
FROM pg_transform f JOIN pg_language l ON l.oid = f.trflang
WHERE f.oid >= {FIRST_USER_OID} AND {no_extension("pg_transform", "f.oid")}"""

_CONFIGURATIONS = f"""
SELECT 'text search configuration' AS kind, {_NAME("c.cfgname")} AS identity, c.cfgowner::regrole AS owner,
       (SELECT format('%I.%I', pn.nspname, p.prsname) FROM pg_ts_parser p JOIN pg_namespace pn ON pn.oid = p.prsnamespace
        WHERE p.oid = c.cfgparser) AS parser,
       (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapseqno, m.mapdict::regdictionary), ', '
               ORDER BY m.maptokentype, m.mapseqno) FROM pg_ts_config_map m WHERE m.mapcfg = c.oid) AS mapping
FROM pg_ts_config c JOIN pg_namespace n ON n.oid = c.cfgnamespace
WHERE c.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_ts_config", "c.oid")}"""
_DICTIONARIES = f"""
SELECT 'text search dictionary' AS kind, {_NAME("d.dictname")} AS identity, d.dictowner::regrole AS owner,
       (SELECT format('%I.%I', tn.nspname, t.tmplname) FROM pg_ts_template t JOIN pg_namespace tn ON tn.oid = t.tmplnamespace
        WHERE t.oid = d.dicttemplate) AS template,
       regexp_replace(d.dictinitoption, '(^|, )"([a-z_][a-z0-9_]*)" = ', '\\1\\2 = ', 'g') AS options  -- as `unquoted`
FROM pg_ts_dict d JOIN pg_namespace n ON n.oid = d.dictnamespace
WHERE d.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_ts_dict", "d.oid")}"""
_PARSERS = f"""
SELECT 'text search parser' AS kind, {_NAME("p.prsname")} AS identity,
       concat_ws(' ', p.prsstart, p.prstoken, p.prsend, p.prsheadline, p.prslextype) AS definition
FROM pg_ts_parser p JOIN pg_namespace n ON n.oid = p.prsnamespace
WHERE p.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_ts_parser", "p.oid")}"""
_TEMPLATES = f"""
SELECT 'text search template' AS kind, {_NAME("t.tmplname")} AS identity,
       concat_ws(' ', t.tmplinit, t.tmpllexize) AS definition
FROM pg_ts_template t JOIN pg_namespace n ON n.oid = t.tmplnamespace
WHERE t.oid >= {FIRST_USER_OID} AND {carried("n.nspname")} AND {no_extension("pg_ts_template", "t.oid")}"""

_WRAPPERS = f"""
SELECT 'foreign-data wrapper' AS kind, quote_ident(w.fdwname) AS identity, w.fdwowner::regrole AS owner,
       {acl("w.fdwacl", "F", "w.fdwowner")} AS privileges,
       concat_ws(' ', 'handler', nullif(w.fdwhandler, 0)::regproc, 'validator', nullif(w.fdwvalidator, 0)::regproc) AS definition,
       {in_order("w.fdwoptions")} AS options
FROM pg_foreign_data_wrapper w WHERE w.oid >= {FIRST_USER_OID} AND {no_extension("pg_foreign_data_wrapper", "w.oid")}"""
_SERVERS = f"""
SELECT 'foreign server' AS kind, quote_ident(s.srvname) AS identity, s.srvowner::regrole AS owner,
       {acl("s.srvacl", "S", "s.srvowner")} AS privileges,
       (SELECT quote_ident(w.fdwname) FROM pg_foreign_data_wrapper w WHERE w.oid = s.srvfdw) AS wrapper,
       s.srvtype AS type, s.srvversion AS version, {in_order("s.srvoptions")} AS options
FROM pg_foreign_server s WHERE s.oid >= {FIRST_USER_OID} AND {no_extension("pg_foreign_server", "s.oid")}"""
# Passwords are among them: only their digest leaves the server. It is hidden from the logins that pg_dump hides them from.
_USER_MAPPINGS = f"""
SELECT 'user mapping' AS kind, format('%I on %I', u.usename, u.srvname) AS identity,
       (SELECT string_agg(format('%s (%s)', split_part(o, '=', 1), left(encode(sha256(convert_to(o, 'UTF8')), 'hex'), 16)), ', '
                          ORDER BY o{BYTEWISE}) FROM unnest(u.umoptions) o) AS options
FROM pg_user_mappings u WHERE u.umid >= {FIRST_USER_OID}"""

_EVENT_TRIGGERS = f"""
SELECT 'event trigger' AS kind, quote_ident(v.evtname) AS identity, v.evtowner::regrole AS owner,
       concat_ws(' ', v.evtevent, v.evtfoid::regprocedure, {in_order("v.evttags")}) AS definition,
       nullif(v.evtenabled, 'O') AS enabled
FROM pg_event_trigger v WHERE v.oid >= {FIRST_USER_OID} AND {no_extension("pg_event_trigger", "v.oid")}"""
_LANGUAGES = f"""
SELECT 'language' AS kind, quote_ident(l.lanname) AS identity, l.lanowner::regrole AS owner,
       {acl("l.lanacl", "l", "l.lanowner")} AS privileges,
       concat_ws(' ', CASE WHEN l.lanpltrusted THEN 'TRUSTED' END, nullif(l.lanplcallfoid, 0)::regprocedure,
         'inline', nullif(l.laninline, 0)::regprocedure, 'validator', nullif(l.lanvalidator, 0)::regprocedure) AS definition
FROM pg_language l WHERE l.oid >= {FIRST_USER_OID} AND {no_extension("pg_language", "l.oid")}"""
_ACCESS_METHODS = f"""
SELECT 'access method' AS kind, quote_ident(m.amname) AS identity, concat_ws(' ', m.amhandler, m.amtype) AS definition
FROM pg_am m WHERE m.oid >= {FIRST_USER_OID} AND {no_extension("pg_am", "m.oid")}"""
_DEFAULT_PRIVILEGES = f"""
SELECT 'default privileges' AS kind,
       concat_ws(' ', d.defaclrole::regrole, d.defaclobjtype, nullif(d.defaclnamespace, 0)::regnamespace) AS identity,
       {granted("d.defaclacl")} AS privileges
FROM pg_default_acl d"""


def _publications(major: int) -> str:
    generated = "'generated columns ' || nullif(b.pubgencols::text, 'n')" if major >= 18 else "NULL"
    return f"""
SELECT 'publication' AS kind, quote_ident(b.pubname) AS identity, b.pubowner::regrole AS owner,
       concat_ws(' ', CASE WHEN b.puballtables THEN 'ALL TABLES' END, CASE WHEN b.pubinsert THEN 'insert' END,
         CASE WHEN b.pubupdate THEN 'update' END, CASE WHEN b.pubdelete THEN 'delete' END,
         CASE WHEN b.pubtruncate THEN 'truncate' END, CASE WHEN b.pubviaroot THEN 'via the root' END, {generated}) AS definition
FROM pg_publication b WHERE b.oid >= {FIRST_USER_OID}"""


def _published_tables(major: int) -> str:
    columns = (
        f"""(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname{BYTEWISE}) FROM pg_attribute a
          WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))"""
        if major >= 15
        else "NULL"
    )
    return f"""
SELECT 'publication' AS kind, quote_ident(b.pubname) AS identity, format('table %s', r.prrelid::regclass) AS label,
       concat_ws(' ', 'published', {columns}) AS text
FROM pg_publication b JOIN pg_publication_rel r ON r.prpubid = b.oid
WHERE b.oid >= {FIRST_USER_OID} AND {no_extension("pg_class", "r.prrelid")}"""


_PUBLISHED_ROWS = f"""
SELECT 'publication' AS kind, quote_ident(b.pubname) AS identity, r.prrelid::regclass::text AS context,
       format('rows of %s', r.prrelid::regclass) AS label, pg_get_expr(r.prqual, r.prrelid) AS text
FROM pg_publication b JOIN pg_publication_rel r ON r.prpubid = b.oid
WHERE b.oid >= {FIRST_USER_OID} AND r.prqual IS NOT NULL AND {no_extension("pg_class", "r.prrelid")}"""
_PUBLISHED_SCHEMAS = f"""
SELECT 'publication' AS kind, quote_ident(b.pubname) AS identity, format('schema %s', s.pnnspid::regnamespace) AS label,
       'published' AS text
FROM pg_publication b JOIN pg_publication_namespace s ON s.pnpubid = b.oid WHERE b.oid >= {FIRST_USER_OID}"""


def _only(one: str, other: str) -> str:
    """What one ACL of `c` grants and the other does not, to roles that there are."""
    return f"""(SELECT string_agg(coalesce(r.rolname::text, 'PUBLIC') || '=' || x.privilege_type
            || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY r.rolname{BYTEWISE}, x.privilege_type, x.is_grantable)
     FROM (SELECT a.grantee, a.privilege_type, a.is_grantable FROM aclexplode(c.{one}) AS a
           EXCEPT SELECT a.grantee, a.privilege_type, a.is_grantable FROM aclexplode(c.{other}) AS a) AS x
     LEFT JOIN pg_roles r ON r.oid = x.grantee WHERE x.grantee = 0 OR r.oid IS NOT NULL)"""


# Members of extensions and what is in pg_catalog: only what was granted or revoked since they were made is carried.
_PRIVILEGES = f"""
WITH known AS (
  SELECT 'pg_class'::regclass AS classid, c.oid AS objid, 0 AS subid, c.relacl AS acl, c.relnamespace AS namespace,
         acldefault((CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", c.relowner) AS initial
  FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
  UNION ALL
  SELECT 'pg_class'::regclass, c.oid, a.attnum, a.attacl, c.relnamespace, acldefault('c', c.relowner)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
  WHERE NOT a.attisdropped AND c.relpersistence <> 't'
    AND (a.attacl IS NOT NULL OR (a.attrelid, a.attnum) IN (SELECT i.objoid, i.objsubid FROM pg_init_privs i
                                                            WHERE i.classoid = 'pg_class'::regclass AND i.objsubid <> 0))
  UNION ALL
  SELECT 'pg_proc'::regclass, p.oid, 0, p.proacl, p.pronamespace, acldefault('f', p.proowner) FROM pg_proc p
  UNION ALL
  SELECT 'pg_type'::regclass, t.oid, 0, t.typacl, t.typnamespace, acldefault('T', t.typowner) FROM pg_type t
  UNION ALL
  SELECT 'pg_namespace'::regclass, n.oid, 0, n.nspacl, n.oid, acldefault('n', n.nspowner) FROM pg_namespace n
  UNION ALL
  SELECT 'pg_language'::regclass, l.oid, 0, l.lanacl, 11, acldefault('l', l.lanowner) FROM pg_language l WHERE l.lanispl
  UNION ALL
  SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, 0, w.fdwacl, 0, acldefault('F', w.fdwowner) FROM pg_foreign_data_wrapper w
  UNION ALL
  SELECT 'pg_foreign_server'::regclass, s.oid, 0, s.srvacl, 0, acldefault('S', s.srvowner) FROM pg_foreign_server s
), changed AS (
  SELECT k.classid, k.objid, k.subid, coalesce(k.acl, k.initial) AS now, coalesce(i.initprivs, k.initial) AS initial
  FROM known k LEFT JOIN pg_init_privs i ON i.classoid = k.classid AND i.objoid = k.objid AND i.objsubid = k.subid
  WHERE k.acl IS DISTINCT FROM i.initprivs
    AND ((k.objid < {FIRST_USER_OID} AND k.namespace = 'pg_catalog'::regnamespace)
         OR EXISTS (SELECT FROM pg_depend e WHERE e.classid = k.classid AND e.objid = k.objid AND e.deptype = 'e'))
), told AS (
  SELECT o.type, o.identity, {_only("now", "initial")} AS granted, {_only("initial", "now")} AS revoked
  FROM changed c CROSS JOIN LATERAL pg_identify_object(c.classid, c.objid, c.subid) AS o
)
SELECT 'privileges' AS kind, concat_ws(' ', type, identity) AS identity, granted, revoked
FROM told WHERE granted IS NOT NULL OR revoked IS NOT NULL"""

# What the object of a comment or of a label needs to be for pg_dump to carry it.
_COMMENTED = f"""o.identity IS NOT NULL AND o.identity !~ '(^|[ (,])pg_temp(_[0-9]+)?[.]'
  AND d.classoid <> 'pg_subscription'::regclass AND (d.classoid <> 'pg_extension'::regclass OR o.identity <> 'plpgsql')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
  AND NOT EXISTS (SELECT FROM pg_statistic_ext x JOIN pg_class c ON c.oid = x.stxrelid
                  WHERE d.classoid = 'pg_statistic_ext'::regclass AND x.oid = d.objoid AND c.relpersistence = 't')
  AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
                  WHERE d.classoid = 'pg_class'::regclass AND x.indexrelid = d.objoid AND (NOT x.indisready
                    OR NOT (x.indisvalid OR c.relkind = 'p') OR NOT {no_extension("pg_class", "c.oid")}))
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE d.classoid = 'pg_constraint'::regclass AND k.oid = d.objoid
                    AND (k.conparentid <> 0 OR (k.conrelid <> 0 AND NOT k.conislocal)
                         OR NOT {no_extension("pg_class", "k.conrelid")} OR NOT {no_extension("pg_type", "k.contypid")}))
  AND NOT EXISTS (SELECT FROM pg_trigger g WHERE d.classoid = 'pg_trigger'::regclass AND g.oid = d.objoid
                    AND (g.tgparentid <> 0 OR NOT {no_extension("pg_class", "g.tgrelid")}))
  AND NOT EXISTS (SELECT FROM pg_policy p WHERE d.classoid = 'pg_policy'::regclass AND p.oid = d.objoid
                    AND NOT {no_extension("pg_class", "p.polrelid")})
  AND NOT EXISTS (SELECT FROM pg_rewrite r WHERE d.classoid = 'pg_rewrite'::regclass AND r.oid = d.objoid
                    AND (r.rulename = '_RETURN' OR NOT {no_extension("pg_class", "r.ev_class")}))
  AND NOT EXISTS (SELECT FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
                  WHERE d.classoid = 'pg_type'::regclass AND t.oid = d.objoid
                    AND (t.typtype = 'm' OR c.relkind <> 'c' OR EXISTS (SELECT FROM pg_type a WHERE a.typarray = t.oid)))"""
# initdb makes the schema public, whose comment is carried, and the extension plpgsql, whose comment is not.
_COMMENTS = f"""
SELECT 'comment' AS kind, concat_ws(' ', o.type, o.identity) AS identity, d.description AS text
FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE (d.objoid >= {FIRST_USER_OID} OR d.classoid = 'pg_largeobject'::regclass
       OR (d.classoid = 'pg_namespace'::regclass AND d.objoid = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'public')))
  AND {_COMMENTED}"""
_LABELS = f"""
SELECT 'security label' AS kind, concat_ws(' ', o.type, o.identity, d.provider) AS identity, d.label AS text
FROM pg_seclabel d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) AS o
WHERE (d.objoid >= {FIRST_USER_OID} OR d.classoid = 'pg_largeobject'::regclass) AND {_COMMENTED}"""


def statements(major: int) -> Mapping[str, Statement]:
    """The statements for a server of this major, by what they are about."""
    return {
        "schemas": Statement(_SCHEMAS),
        "aggregates": Statement(_AGGREGATES),
        "types": Statement(_types(major), {"default": EXPRESSION}),
        "extensions": Statement(_EXTENSIONS),
        "operators": Statement(_OPERATORS),
        "operator classes": Statement(_OPERATOR_CLASSES),
        "operator families": Statement(_OPERATOR_FAMILIES),
        "casts": Statement(_CASTS),
        "collations": Statement(_COLLATIONS),
        "conversions": Statement(_CONVERSIONS),
        "transforms": Statement(_TRANSFORMS),
        "text search configurations": Statement(_CONFIGURATIONS),
        "text search dictionaries": Statement(_DICTIONARIES),
        "text search parsers": Statement(_PARSERS),
        "text search templates": Statement(_TEMPLATES),
        "foreign-data wrappers": Statement(_WRAPPERS),
        "foreign servers": Statement(_SERVERS),
        "user mappings": Statement(_USER_MAPPINGS),
        "event triggers": Statement(_EVENT_TRIGGERS),
        "languages": Statement(_LANGUAGES),
        "access methods": Statement(_ACCESS_METHODS),
        "default privileges": Statement(_DEFAULT_PRIVILEGES),
        "publications": Statement(_publications(major)),
        "published tables": Statement(_published_tables(major)),
        "published rows": Statement(_PUBLISHED_ROWS, {"text": EXPRESSION}, since=15),
        "published schemas": Statement(_PUBLISHED_SCHEMAS, since=15),
        "privileges": Statement(_PRIVILEGES),
        "comments": Statement(_COMMENTS),
        "security labels": Statement(_LABELS),
    }
