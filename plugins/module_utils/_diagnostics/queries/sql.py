# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about the statistics of queries. The extension may be older than the server: its columns are looked up, not assumed.

https://www.postgresql.org/docs/current/pgstatstatements.html
"""

from __future__ import annotations

from collections.abc import Collection

# Whether the extension exists and counts, its version and schema, and what this login may see. Its settings exist
# only when the library was preloaded. shared_preload_libraries is seen with pg_read_all_settings only.
FACTS = """
SELECT e.extversion::pg_catalog.text AS version, v.schema, coalesce(v.columns, '{}'::pg_catalog.text[]) AS columns,
       EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
               WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
                 AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.relname = 'pg_stat_statements_info') AS has_info,
       (SELECT a.default_version::pg_catalog.text FROM pg_catalog.pg_available_extensions a
        WHERE a.name = 'pg_stat_statements') AS available,
       settings.known AS settings, coalesce(settings.pending, false) AS pending_restart,
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
       pg_catalog.pg_is_in_recovery() AS standby, current_user::pg_catalog.text AS login,
       pg_catalog.current_database()::pg_catalog.text AS database, pg_catalog.getdatabaseencoding()::pg_catalog.text AS encoding,
       pg_catalog.current_setting('block_size')::pg_catalog.int8 AS block_size
FROM (SELECT pg_catalog.jsonb_object_agg(s.name, s.setting) AS known,
             bool_or(s.pending_restart) FILTER (WHERE s.name = 'shared_preload_libraries') AS pending
      FROM pg_catalog.pg_settings s
      WHERE s.name IN ('pg_stat_statements.max', 'pg_stat_statements.track', 'track_io_timing', 'compute_query_id',
                       'shared_preload_libraries')) AS settings
LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_stat_statements'
LEFT JOIN LATERAL (
    SELECT n.nspname::pg_catalog.text AS schema,
           ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relname = 'pg_stat_statements'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
      AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS v ON true
"""

# From version 1.9 of the extension on. Resetting one database leaves `stats_reset` as it is.
INFO = "SELECT i.dealloc AS evictions, i.stats_reset FROM {}.pg_stat_statements_info AS i"

# The figures of all statements, without their texts: the server would read all of those. The worst are chosen here.
# Sums are over top-level statements, since the time of a nested one is part of its caller's.
_NUMBERS = """
WITH counted AS MATERIALIZED (
    SELECT s.queryid, s.userid::pg_catalog.int8 AS userid, s.dbid::pg_catalog.int8 AS dbid, s.calls, s.rows, {figures}
    FROM {{}}.pg_stat_statements(false) AS s
    WHERE %(all_databases)s
       OR s.dbid = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
), ranked AS (
    SELECT c.*, row_number() OVER (ORDER BY c.total_ms DESC, c.queryid, c.userid, c.dbid, c.toplevel) AS by_total,
           row_number() OVER (ORDER BY {order}, c.total_ms DESC, c.queryid, c.userid, c.dbid, c.toplevel) AS by_sort,
           (sum(c.total_ms) FILTER (WHERE c.toplevel) OVER ())::pg_catalog.float8 AS all_ms,
           (sum(c.calls) FILTER (WHERE c.toplevel) OVER ())::pg_catalog.int8 AS all_calls,
           count(*) OVER () AS statement_count, min(c.stats_since) OVER () AS oldest,
           count(*) FILTER (WHERE c.queryid IS NULL) OVER () AS hidden
    FROM counted c
)
SELECT r.*, u.rolname::pg_catalog.text AS "user", d.datname::pg_catalog.text AS database
FROM ranked r
LEFT JOIN pg_catalog.pg_roles u ON u.oid = r.userid
LEFT JOIN pg_catalog.pg_database d ON d.oid = r.dbid
WHERE r.by_total <= %(sample)s OR r.by_sort <= %(top)s
ORDER BY r.by_sort
"""

# What each figure is made of, by the columns that hold it: the first set that is all there counts, and nothing else is
# lost. 1.8 (PostgreSQL 13) told planning from execution, 1.10 (15) added temporary blocks, 1.11 (17) local ones.
_FIGURES: dict[str, tuple[tuple[str, ...], ...]] = {
    "total_ms": (("total_exec_time",), ("total_time",)),
    "mean_ms": (("mean_exec_time",), ("mean_time",)),
    "stddev_ms": (("stddev_exec_time",), ("stddev_time",)),
    "max_ms": (("max_exec_time",), ("max_time",)),
    "plan_ms": (("total_plan_time",),),
    "hit": (("shared_blks_hit",),),
    "read": (("shared_blks_read",),),
    "dirtied": (("shared_blks_dirtied",),),
    "written": (("shared_blks_written",),),
    "temp_read": (("temp_blks_read",),),
    "temp_written": (("temp_blks_written",),),
    "wal_bytes": (("wal_bytes",),),
    "io_ms": (
        (
            *("shared_blk_read_time", "shared_blk_write_time", "local_blk_read_time", "local_blk_write_time"),
            *("temp_blk_read_time", "temp_blk_write_time"),
        ),
        ("blk_read_time", "blk_write_time", "temp_blk_read_time", "temp_blk_write_time"),
        ("blk_read_time", "blk_write_time"),
    ),
}

_ORDERS = {
    "total": "c.total_ms DESC",
    "mean": "c.mean_ms DESC",
    "calls": "c.calls DESC",
    "io": "c.io_ms DESC, c.read + c.written + c.temp_read + c.temp_written DESC",
    "wal": "c.wal_bytes DESC",
    "temp": "c.temp_read + c.temp_written DESC",
}
SORTS = tuple(_ORDERS)


def numbers(columns: Collection[str], sort: str) -> str:
    """The statement that reads the figures, for an extension with these columns; its schema is to be filled in."""
    figures = [f"{_figure(options, columns)} AS {name}" for name, options in _FIGURES.items()]
    figures.append(("s.toplevel" if "toplevel" in columns else "true") + " AS toplevel")
    since = "s.stats_since" if "stats_since" in columns else "NULL::pg_catalog.timestamptz"
    figures.append(f"{since} AS stats_since")
    return _NUMBERS.format(figures=", ".join(figures), order=_ORDERS[sort])


def _figure(options: tuple[tuple[str, ...], ...], columns: Collection[str]) -> str:
    for names in options:
        if all(name in columns for name in names):
            return f"({' + '.join(f's.{name}' for name in names)})::pg_catalog.float8"
    return "0::pg_catalog.float8"


# The texts of some statements, cut here so that long ones do not travel, as bytes: one of a database with the encoding
# SQL_ASCII may be in none at all.
TEXTS = """
SELECT s.queryid, s.userid::pg_catalog.int8 AS userid, s.dbid::pg_catalog.int8 AS dbid, pg_catalog.length(s.query) > %(length)s AS cut,
       pg_catalog.convert_to(pg_catalog."left"(s.query, %(length)s), %(encoding)s) AS query
FROM {}.pg_stat_statements(true) AS s
WHERE (s.queryid, s.userid::pg_catalog.int8, s.dbid::pg_catalog.int8) IN (
    SELECT * FROM unnest(%(queryids)s::pg_catalog.int8[], %(userids)s::pg_catalog.int8[], %(dbids)s::pg_catalog.int8[]))
"""

# Functions that planning a statement may call, whose owners are neither superusers nor this login. Planning would
# run them with the rights of the login. https://www.postgresql.org/docs/current/xfunc-volatility.html
FOREIGN_FUNCTIONS = """
SELECT pg_catalog.format('%I.%I', n.nspname, p.proname) AS name
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
WHERE p.provolatile <> 'v' AND NOT r.rolsuper AND r.rolname <> current_user
ORDER BY p.oid LIMIT 1
"""

# Whether this login may reset, and all of the extension's ways to do so: with arguments from version 1.7 on, and with
# a fourth from 1.11 on.
MAY_RESET = """
SELECT pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS allowed, p.pronargs::pg_catalog.int4 AS arguments,
       p.oid::pg_catalog.regprocedure::pg_catalog.text AS signature
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_depend d ON d.objid = p.oid AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
WHERE e.extname = 'pg_stat_statements' AND p.proname = 'pg_stat_statements_reset'
ORDER BY p.pronargs DESC LIMIT 1
"""

RESET_ALL = "SELECT {}.pg_stat_statements_reset()"
RESET_DATABASE = (
    "SELECT {}.pg_stat_statements_reset("
    "0::pg_catalog.oid, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()), 0::pg_catalog.int8)"
)
