"""What is in every table of a database, to compare a database with its restored copy.

Slow and simple on purpose: it is what the collection's own fingerprint is measured against.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tests.support.definitions import PINNED_SETTINGS, differences
from tests.support.zoo.feature import identifier

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

__all__ = ["contents", "differences", "large_objects"]

TABLES = """
    SELECT nspname, relname, array(
        SELECT attname::text FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped ORDER BY attname
    )
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'm') AND relispopulated AND nspname NOT IN ('pg_catalog', 'information_schema')
"""


class _Digest:
    """Takes the lines of a COPY; their order does not count."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._rest = b""

    def write(self, data: bytes) -> int:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += [hashlib.sha256(line).digest() for line in lines]
        return len(data)

    def __str__(self) -> str:
        return f"{len(self.lines)} rows, {hashlib.sha256(b''.join(sorted(self.lines))).hexdigest()[:16]}"


def contents(connection: Connection) -> dict[str, str]:
    """Return rows and digest of each table and materialized view, columns taken by name."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute(PINNED_SETTINGS)
        cursor.execute(TABLES)
        for schema, table, columns in cursor.fetchall():
            name = f"{identifier(schema)}.{identifier(table)}"
            digest = _Digest()
            chosen = ", ".join(identifier(column) for column in columns)
            cursor.copy_expert(f"COPY (SELECT {chosen} FROM ONLY {name}) TO STDOUT", digest)
            found[name] = str(digest)
    return found


def large_objects(connection: Connection) -> dict[int, str]:
    """Return size and digest of each large object; a hole counts as zeros."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT oid, length(lo_get(oid)) || ' bytes, ' || md5(lo_get(oid)) FROM pg_largeobject_metadata")
        return dict(cursor.fetchall())
