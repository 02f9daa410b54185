# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about traits of one database's objects that hurt later: a statement that opens no table. PostgreSQL 13 and later."""

from __future__ import annotations


def _identity(alias: str) -> str:
    """A name as SQL wants it. It costs more than all else here: it is made for the few objects that are shown."""
    return f"pg_catalog.format('%%I.%%I', {alias}.nspname, {alias}.relname)"


# Objects that people made. Members of extensions are the extension's business.
_NAMED = """
named AS MATERIALIZED (
    SELECT c.oid, c.relkind, c.relpersistence, c.relispartition, c.relispopulated, c.relpages, n.nspname, c.relname
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'S', 'v') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'repack')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
)"""

# Sequences with the largest value that they can reach: their own, or that of the type of a column that they fill, as its
# owner or by its default. pg_sequence_last_value() needs a privilege, waits for exclusive locks, and before 17 refuses
# unlogged sequences of a standby. Domains over domains are followed two levels deep.
# https://www.postgresql.org/docs/current/view-pg-sequences.html
_SEQUENCES = """
locked AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
), fills (sequence, relation, number) AS (
    SELECT d.objid, d.refobjid, d.refobjsubid::pg_catalog.int2 FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
      AND d.objid IN (SELECT s.seqrelid FROM pg_catalog.pg_sequence s)
    UNION
    SELECT d.refobjid, ad.adrelid, ad.adnum FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_attrdef ad ON ad.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refobjid IN (SELECT s.seqrelid FROM pg_catalog.pg_sequence s)
), columns AS (
    SELECT DISTINCT ON (f.sequence) f.sequence, f.relation, a.attname, a.atttypid, limits.top
    FROM fills f
    JOIN named t ON t.oid = f.relation
    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.relation AND a.attnum = f.number AND NOT a.attisdropped
    JOIN pg_catalog.pg_type own ON own.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_type base ON base.oid = own.typbasetype
    JOIN (VALUES (21::pg_catalog.oid, 32767::pg_catalog.numeric), (23, 2147483647), (20, 9223372036854775807)) AS limits (oid, top)
      ON limits.oid IN (own.oid, base.oid, base.typbasetype)
    ORDER BY f.sequence, limits.top, f.relation
), sequences AS MATERIALIZED (
    SELECT n.oid, n.nspname, n.relname, s.seqtypid, s.seqincrement AS increment, s.seqcycle AS cycles,
           s.seqmin::pg_catalog.numeric AS low, s.seqmax::pg_catalog.numeric AS high, c.relation, c.attname, c.atttypid, c.top,
           pg_catalog.has_sequence_privilege(n.oid, 'SELECT') OR pg_catalog.has_sequence_privilege(n.oid, 'USAGE') AS readable,
           CASE WHEN locked.oid IS NULL AND NOT (n.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
                 AND (pg_catalog.has_sequence_privilege(n.oid, 'SELECT') OR pg_catalog.has_sequence_privilege(n.oid, 'USAGE'))
                THEN pg_catalog.pg_sequence_last_value(n.oid) END AS last
    FROM (SELECT * FROM pg_catalog.pg_sequence ORDER BY seqmax, seqrelid LIMIT %(most_sequences)s) AS s
    JOIN named n ON n.oid = s.seqrelid
    LEFT JOIN columns c ON c.sequence = s.seqrelid
    LEFT JOIN locked ON locked.oid = s.seqrelid
), reach AS (
    SELECT s.*, CASE WHEN s.increment > 0 THEN least(s.high, s.top) ELSE greatest(s.low, -s.top - 1) END AS "end",
           CASE WHEN s.increment > 0 THEN s.low ELSE s.high END AS start
    FROM sequences s
), used AS MATERIALIZED (
    SELECT r.oid, r.nspname, r.relname, r.seqtypid, r.last, r."end", r.relation, r.attname, r.atttypid, r.increment > 0 AS ascending,
           r.top < 9223372036854775807 AND CASE WHEN r.increment > 0 THEN r.top <= r.high ELSE -r.top - 1 >= r.low END AS by_column,
           pg_catalog.trunc(pg_catalog.abs(r."end" - r.last) / pg_catalog.abs(r.increment)) AS left,
           round((r.last - r.start) / nullif(r."end" - r.start, 0), 4)::pg_catalog.float8 AS used_ratio
    FROM reach r
    WHERE r.last IS NOT NULL AND (NOT r.cycles OR r."end" NOT IN (r.high, r.low))
)"""

# Triggers, rules and event triggers that are off, and constraints whose own triggers are: those do not hold any more. Of
# a partition's trigger only what differs from its parent's counts.
_DISABLED = f"""
disabled AS MATERIALIZED (
    SELECT 'trigger' AS kind, {_identity("t")} AS "table", pg_catalog.quote_ident(g.tgname) AS name
    FROM pg_catalog.pg_trigger g JOIN named t ON t.oid = g.tgrelid
    WHERE g.tgenabled = 'D' AND NOT g.tgisinternal
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger p WHERE p.oid = g.tgparentid AND p.tgenabled = 'D')
    UNION ALL
    SELECT 'rule', {_identity("t")}, pg_catalog.quote_ident(r.rulename)
    FROM pg_catalog.pg_rewrite r JOIN named t ON t.oid = r.ev_class WHERE r.ev_enabled = 'D'
    UNION ALL
    SELECT 'event trigger', '', pg_catalog.quote_ident(e.evtname) FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled = 'D'
), unenforced AS MATERIALIZED (
    SELECT DISTINCT {_identity("t")} AS "table", pg_catalog.quote_ident(k.conname) AS name, k.contype::pg_catalog.text AS type
    FROM pg_catalog.pg_trigger g
    JOIN pg_catalog.pg_constraint k ON k.oid = g.tgconstraint
    JOIN named t ON t.oid = k.conrelid
    WHERE g.tgenabled = 'D' AND g.tgisinternal AND k.conparentid = 0
)"""

# Constraints whose old rows were never checked; those that are NOT ENFORCED (18) are meant so.
_NOT_VALIDATED = f"""
not_validated AS MATERIALIZED (
    SELECT coalesce(CASE WHEN t.oid IS NOT NULL THEN {_identity("t")} END,
                    pg_catalog.format('%%I.%%I', dn.nspname, d.typname)) AS "table",
           pg_catalog.quote_ident(k.conname) AS name,
           CASE WHEN k.conrelid = 0 THEN 'DOMAIN' ELSE 'TABLE' END AS kind
    FROM pg_catalog.pg_constraint k
    LEFT JOIN named t ON t.oid = k.conrelid
    LEFT JOIN pg_catalog.pg_type d ON d.oid = k.contypid
    LEFT JOIN pg_catalog.pg_namespace dn ON dn.oid = d.typnamespace
    WHERE NOT k.convalidated AND k.conparentid = 0 AND k.coninhcount = 0 AND (t.oid IS NOT NULL OR k.conrelid = 0)
      AND coalesce(pg_catalog.to_jsonb(k) ->> 'conenforced', 'true') = 'true'
)"""

# Tables whose indexes are worth a closer look: two of them begin alike, or none serves a foreign key. One that was never
# vacuumed has no size here, and is looked at.
_SUSPECTS = """
alike AS (
    SELECT i.indrelid AS oid FROM pg_catalog.pg_index i WHERE i.indisvalid AND i.indisready
    GROUP BY i.indrelid, i.indkey[0], i.indclass[0] HAVING count(*) > 1
), bare AS (
    SELECT k.conrelid AS oid FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = k.conrelid AND i.indisvalid AND i.indpred IS NULL AND c.relam IN (403, 405)
          AND (i.indkey::pg_catalog.int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey)
), suspects AS (
    SELECT t.oid, t.relpages FROM named t
    WHERE t.oid IN (SELECT a.oid FROM alike a UNION SELECT b.oid FROM bare b)
      AND (t.relpages <= 0 OR t.relkind = 'p'
           OR t.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 * 4 >= %(min_bytes)s)
)"""


def _examples(source: str, order: str, columns: str = "few.*") -> str:
    """The first rows of a source as JSON, with columns that are made for these alone."""
    return f"""(SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(shown)) FROM (
           SELECT {columns} FROM (SELECT * FROM {source} ORDER BY {order} LIMIT %(limit)s) AS few) AS shown)"""


_OF_SEQUENCE = f"""{_identity("few")} AS name, pg_catalog.format_type(few.seqtypid, NULL) AS type, few.last, few."end", few."left",
           (SELECT {_identity("t")} FROM named t WHERE t.oid = few.relation) AS "table", pg_catalog.quote_ident(few.attname) AS "column",
           pg_catalog.format_type(few.atttypid, NULL) AS column_type, few.ascending, few.by_column, few.used_ratio"""

SCHEMA = f"""
WITH {_NAMED}, {_SEQUENCES}, {_DISABLED}, {_NOT_VALIDATED}, {_SUSPECTS}, bare_tables AS MATERIALIZED (
    SELECT t.nspname, t.relname, t.relpages FROM named t
    WHERE t.relkind IN ('r', 'p') AND NOT t.relispartition
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisprimary)
), not_populated AS MATERIALIZED (
    SELECT t.nspname, t.relname FROM named t WHERE t.relkind = 'm' AND NOT t.relispopulated
)
SELECT (SELECT count(*) FROM named t WHERE t.relkind IN ('r', 'p') AND NOT t.relispartition) AS tables,
       (SELECT count(*) FROM pg_catalog.pg_sequence) AS sequences,
       (SELECT count(*) FROM sequences s WHERE NOT s.readable) AS sequences_hidden,
       (SELECT count(*) FROM used u WHERE u.used_ratio >= %(used_ratio)s) AS sequences_near_end,
       {_examples("used", "used_ratio DESC NULLS LAST, oid", _OF_SEQUENCE)} AS fullest_sequences,
       (SELECT count(*) FROM disabled) AS disabled_triggers, {_examples("disabled", '"table", name')} AS disabled_trigger_list,
       (SELECT count(*) FROM unenforced) AS unenforced_constraints,
       {_examples("unenforced", '"table", name')} AS unenforced_constraint_list,
       (SELECT count(*) FROM not_validated) AS not_validated_constraints,
       {_examples("not_validated", '"table", name')} AS not_validated_constraint_list,
       (SELECT count(*) FROM bare_tables) AS tables_without_primary_key,
       {_examples("bare_tables", "relpages DESC, nspname, relname", _identity("few") + " AS name")} AS tables_without_primary_key_list,
       (SELECT count(*) FROM not_populated) AS not_populated_views,
       {_examples("not_populated", "nspname, relname", _identity("few") + " AS name")} AS not_populated_view_list,
       (SELECT count(*) FROM suspects) AS suspects,
       ARRAY(SELECT s.oid::pg_catalog.int8 FROM suspects s ORDER BY s.relpages DESC, s.oid LIMIT %(most_tables)s) AS suspect_tables
"""
