# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences and the columns that they number."""

from __future__ import annotations

# Columns are found by ownership (serial, identity) and by their default; partitions are seen with their parent. `indexed`
# says whether the ends of the column are known without reading the table.
NUMBERED = """
WITH used AS (
    SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS number
    FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION
    SELECT d.refobjid, f.adrelid, f.adnum
    FROM pg_catalog.pg_attrdef f
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype = 'n'
)
SELECT pg_catalog.format('%I.%I', sn.nspname, s.relname) AS sequence,
       pg_catalog.format('%I.%I', tn.nspname, t.relname) AS relation,
       pg_catalog.quote_ident(a.attname) AS attribute, q.seqincrement AS increment,
       EXISTS (
           SELECT FROM pg_catalog.pg_index i
           WHERE i.indrelid = t.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum
       ) AS indexed
FROM used u
JOIN pg_catalog.pg_class s ON s.oid = u.sequence AND s.relkind = 'S'
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid AND NOT q.seqcycle
JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_catalog.pg_class t ON t.oid = u.relation AND t.relkind IN ('r', 'p') AND NOT t.relispartition
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.number AND NOT a.attisdropped
  AND a.atttypid IN ('pg_catalog.int2'::pg_catalog.regtype, 'pg_catalog.int4'::pg_catalog.regtype,
                     'pg_catalog.int8'::pg_catalog.regtype, 'pg_catalog.numeric'::pg_catalog.regtype)
ORDER BY 1, 2, 3
"""
# Where the next value of a sequence lies before the end of its column, in the direction in which it counts.
BEHIND = """
SELECT {number} AS number, s.last_value AS stands_at, e.last AS goes_to
FROM {sequence} s, (SELECT {farthest}({attribute}) AS last FROM {relation}) e
WHERE (s.last_value + CASE WHEN s.is_called THEN {increment} ELSE 0 END - e.last) * {increment} <= 0
"""
