# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL about the extension pg_repack and what it leaves behind. https://reorg.github.io/pg_repack/"""

from __future__ import annotations

EXTENSION = """
SELECT e.extversion AS version, pg_catalog.current_setting('is_superuser')::bool AS superuser
FROM (VALUES (true)) AS one LEFT JOIN pg_catalog.pg_extension e ON e.extname = 'pg_repack'
"""

# The tables that it can work on, by the primary key or a unique index without nulls.
KEY = "SELECT pkid IS NOT NULL AS has_key FROM repack.tables WHERE relid = %s"

# What belongs to a table with this OID (`id`): triggers on it, and in the schema repack its log, its copy and a type.
LEFTOVERS = """
SELECT id, c.oid IS NOT NULL AS there, n.nspname::text AS schema, c.relname::text AS name,
       pg_catalog.array_agg(kind ORDER BY kind)::text[] AS kinds
FROM (
    SELECT tgrelid::bigint AS id, 'trigger' AS kind FROM pg_catalog.pg_trigger WHERE tgname = 'repack_trigger'
    UNION ALL
    SELECT substr(relname, strpos(relname, '_') + 1)::bigint, split_part(relname, '_', 1)
    FROM pg_catalog.pg_class
    WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'repack')
      AND relkind = 'r' AND relname ~ '^(log|table)_[0-9]{1,10}$'
    UNION ALL
    SELECT substr(typname, 4)::bigint, 'pk'
    FROM pg_catalog.pg_type
    WHERE typnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'repack')
      AND typtype = 'c' AND typname ~ '^pk_[0-9]{1,10}$'
) AS found
LEFT JOIN pg_catalog.pg_class c ON c.oid = found.id
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
GROUP BY id, c.oid, n.nspname, c.relname
ORDER BY id
"""

# The lock that pg_repack holds from before its first change to a table until after its last one (bin/pg_repack.c).
TRY_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(16185446, (-2147483648 + %s::bigint)::int)"
UNLOCK = "SELECT pg_catalog.pg_advisory_unlock(16185446, (-2147483648 + %s::bigint)::int)"
