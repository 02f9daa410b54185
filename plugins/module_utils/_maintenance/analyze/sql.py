# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL that tells which planner statistics are stale or missing.

https://www.postgresql.org/docs/current/sql-analyze.html
https://www.postgresql.org/docs/current/catalog-pg-statistic.html
"""

from __future__ import annotations

_FIRST_USER_OID = 16384  # FirstNormalObjectId, src/include/access/transam.h

# Only superusers may read the statistics themselves; the views show others what they may read.
READS_STATISTICS = """
SELECT pg_catalog.has_table_privilege('pg_catalog.pg_statistic', 'SELECT')
       AND pg_catalog.has_table_privilege('pg_catalog.pg_statistic_ext_data', 'SELECT')
"""

_RAW = """EXISTS (SELECT FROM pg_catalog.pg_statistic s
                  WHERE s.starelid = a.attrelid AND s.staattnum = a.attnum AND s.stainherit = {inherited})"""
_SEEN = """(NOT pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') OR pg_catalog.row_security_active(c.oid)
            OR EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = {relation}.relname
                       AND s.attname = a.attname AND s.inherited = {inherited}))"""
# A column that ANALYZE makes statistics of: its target is not 0, and it is stored. The functions of extensions' types
# may decide that there is nothing to say, so that theirs are never called missing.
_COUNTS = f"""a.attnum > 0 AND NOT a.attisdropped AND coalesce(a.attstattarget, -1) <> 0 AND a.attgenerated <> 'v'
        AND t.typanalyze::pg_catalog.oid < {_FIRST_USER_OID}"""


def _columns(known: str, inherited: str, wanted: str) -> str:
    has = known.format(inherited=inherited, relation="c")
    return f"""coalesce((SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE {wanted} AND a.attrelid = c.oid AND {_COUNTS} AND NOT {has}), '{{}}')"""


def _expressions(known: str) -> str:
    # A partial index may have no row in the sample, and then has no statistics.
    has = known.format(inherited="false", relation="ic")
    return f"""coalesce((SELECT pg_catalog.array_agg(ic.relname::pg_catalog.text ORDER BY ic.relname)
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indexprs IS NOT NULL AND i.indpred IS NULL AND i.indisvalid AND i.indisready
      AND ic.relkind = 'i' AND EXISTS (
        SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = i.indexrelid AND i.indkey[a.attnum - 1] = 0 AND {_COUNTS} AND NOT {has})), '{{}}')"""


def _extended(raw: bool, before_15: bool, inherited: str, wanted: str) -> str:
    # Before 15 there is a row from the beginning, and only of n-distinct it is known that ANALYZE fills it in.
    if raw:
        source = "pg_catalog.pg_statistic_ext_data d WHERE d.stxoid = e.oid"
        filled = "d.stxdndistinct IS NOT NULL" if before_15 else f"d.stxdinherit = {inherited}"
    else:
        source = (
            "pg_catalog.pg_stats_ext d WHERE d.statistics_schemaname = en.nspname AND d.statistics_name = e.stxname"
        )
        filled = "d.n_distinct IS NOT NULL" if before_15 else f"d.inherited = {inherited}"
    kinds = "AND 'd' = ANY (e.stxkind)" if before_15 else ""
    seen = (
        "" if raw else "AND pg_catalog.pg_has_role(c.relowner, 'USAGE') AND NOT pg_catalog.row_security_active(c.oid)"
    )
    return f"""coalesce((SELECT pg_catalog.array_agg(e.stxname::pg_catalog.text ORDER BY e.stxname)
    FROM pg_catalog.pg_statistic_ext e JOIN pg_catalog.pg_namespace en ON en.oid = e.stxnamespace
    WHERE {wanted} AND e.stxrelid = c.oid AND coalesce(e.stxstattarget, -1) <> 0 {kinds} {seen}
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (e.stxkeys)
                      AND coalesce(a.attstattarget, -1) = 0)
      AND NOT EXISTS (SELECT FROM {source} AND {filled})), '{{}}')"""


def tables(server_version: int, *, raw: bool) -> str:
    """The statement that reads all tables; `raw`: the login may read the statistics themselves.

    pg_relation_size() waits for a session that holds an exclusive lock: such tables have the size of the last VACUUM.
    """
    known = _RAW if raw else _SEEN
    before_15 = server_version < 150000
    # Before 15 a parent that is not partitioned has extended statistics of its own rows only.
    parents = "c.relkind = 'p'" if before_15 else "(c.relkind = 'p' OR c.relhassubclass)"
    maintain = "pg_catalog.has_table_privilege(c.oid, 'MAINTAIN')" if server_version >= 170000 else "false"
    return f"""
WITH locked AS MATERIALIZED (
    SELECT DISTINCT l.relation AS oid FROM pg_catalog.pg_locks l
    WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
      AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
)
SELECT c.oid::pg_catalog.int8 AS oid, n.nspname::pg_catalog.text AS schema, c.relname::pg_catalog.text AS name,
       pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS identity, c.relkind::pg_catalog.text AS kind,
       CASE WHEN c.relkind = 'p' THEN 0 WHEN locked.oid IS NULL THEN pg_catalog.pg_relation_size(c.oid)
            ELSE c.relpages * pg_catalog.current_setting('block_size')::pg_catalog.int8 END AS size_bytes,
       c.reltuples::pg_catalog.float8 AS counted, {STATE_COLUMNS},
       pg_catalog.pg_has_role(c.relowner, 'USAGE') OR {maintain}
       OR NOT c.relisshared AND pg_catalog.pg_has_role(d.datdba, 'USAGE') AS allowed,
       {_columns(known, "false", "c.relkind <> 'p'")} AS columns_missing,
       {_columns(known, "true", "(c.relkind = 'p' OR c.relhassubclass)")} AS inherited_missing,
       {_expressions(known)} AS expressions_missing,
       {_extended(raw, before_15, "false", "c.relkind <> 'p'")} AS extended_missing,
       {_extended(raw, before_15, "true", parents)} AS extended_inherited_missing
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN locked ON locked.oid = c.oid
WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't'
  AND (c.relkind <> 'm' OR c.relispopulated)
  AND CASE WHEN pg_catalog.cardinality(%(schemas)s::pg_catalog.text[]) > 0 THEN n.nspname = ANY (%(schemas)s::pg_catalog.text[])
           ELSE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%%' END
ORDER BY c.oid
"""


# What ANALYZE changes. https://www.postgresql.org/docs/current/monitoring-stats.html
STATE_COLUMNS = """pg_catalog.pg_stat_get_live_tuples(c.oid) AS live, pg_catalog.pg_stat_get_mod_since_analyze(c.oid) AS changes,
       pg_catalog.pg_stat_get_last_analyze_time(c.oid) AS by_hand, pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid) AS by_itself"""
STATES = f"""
SELECT c.oid::pg_catalog.int8 AS oid, {STATE_COLUMNS}
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s::pg_catalog.oid[])
"""

# Which table is whose partition or child.
CHILDREN = """
SELECT i.inhparent::pg_catalog.int8 AS parent, i.inhrelid::pg_catalog.int8 AS child
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent AND c.relkind IN ('r', 'p')
"""

# Tables whose statistics have so few values, where there are many, that they were made with a target of 10 or less: by
# the first two stages of a run that was stopped. Only columns with the default target tell.
COARSE = """
SELECT c.oid::pg_catalog.int8 AS oid
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.inherited = (c.relkind = 'p')
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = s.attname AND coalesce(a.attstattarget, -1) = -1
WHERE c.oid = ANY (%s::pg_catalog.oid[]) AND s.histogram_bounds IS NOT NULL AND s.avg_width < 256
  AND CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * c.reltuples ELSE s.n_distinct END > 40
GROUP BY c.oid
HAVING max(pg_catalog.array_length(s.histogram_bounds, 1) + coalesce(pg_catalog.array_length(s.most_common_vals, 1), 0)) <= 21
"""
TARGET = "SELECT pg_catalog.current_setting('default_statistics_target')::int"
