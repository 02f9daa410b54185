"""What a feature of the zoo is, and what a server must have for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

#: What a feature can need beyond a version, and the query that tells (an error means no).
PROBES = {
    "icu": "SELECT count(*) > 10 FROM pg_collation WHERE collprovider = 'i'",
    "xml": "SELECT xmlparse(CONTENT '<a/>') IS NOT NULL",
    "lz4": "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'",
}
EXTENSION_PROBE = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = %s)"


@dataclass(frozen=True)
class Feature:
    """Something that a backup must carry over: statements, and where they work."""

    name: str
    sql: str | tuple[str, ...]
    min_version: int = 14
    needs: str = ""
    """A key of PROBES, or ``extension:<name>``; several are separated by spaces."""

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements; those in one string run together, in one transaction."""
        return (self.sql,) if isinstance(self.sql, str) else self.sql


class Availability:
    """Answers whether this server can have a feature; asks each question once."""

    def __init__(self, connection: Connection) -> None:
        """Use an autocommit connection."""
        self._connection = connection
        self._known: dict[str, bool] = {}

    def reason_against(self, feature: Feature) -> str:
        """Return why this server cannot have it, or nothing."""
        major = self._connection.server_version // 10000
        if major < feature.min_version:
            return f"needs PostgreSQL {feature.min_version}"
        lacking = [need for need in feature.needs.split() if not self._has(need)]
        return f"lacks {', '.join(lacking)}" if lacking else ""

    def _has(self, need: str) -> bool:
        if need not in self._known:
            kind, dummy, name = need.partition(":")
            with self._connection.cursor() as cursor:
                try:
                    if kind == "extension":
                        cursor.execute(EXTENSION_PROBE, (name,))
                    else:
                        cursor.execute(PROBES[need])
                except psycopg2.Error:
                    self._known[need] = False
                else:
                    row = cursor.fetchone()
                    self._known[need] = bool(row and row[0])
        return self._known[need]


def identifier(name: str) -> str:
    """Quote an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote an SQL string, whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
