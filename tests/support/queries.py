"""Servers that count queries, and databases where they can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.databases import Database, new_database
from tests.support.programs import Installation, installations
from tests.support.servers import Server

PRELOADED = {"shared_preload_libraries": "pg_stat_statements", "track_io_timing": "on"}


def can_count(installation: Installation) -> bool:
    """Whether an installation has the extension; some packages leave it out."""
    root = installation.bin_dir.parent
    places = (root / "share", Path(f"/usr/share/postgresql/{installation.major}"))
    return any(next(place.rglob("pg_stat_statements.control"), None) for place in places if place.is_dir())


def counting_installations() -> list[Installation]:
    """Those that have the extension."""
    return [each for each in installations() if can_count(each)]


def quote(name: str) -> str:
    """A name as an identifier."""
    return '"' + name.replace('"', '""') + '"'


@contextlib.contextmanager
def counting_database(server: Server, name: str | None = None, schema: str = "public") -> Iterator[Database]:
    """A new database on a server with PRELOADED, where the figures can be read."""
    database = new_database(server, name)
    quoted = quote(schema)
    database.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted}", f"CREATE EXTENSION pg_stat_statements SCHEMA {quoted}")
    try:
        yield database
    finally:
        database.drop()


def repeat(database: Database, statement: str, times: int, **over: object) -> None:
    """Run a statement in one session again and again."""
    with contextlib.closing(database.connect(**over)) as connection, connection.cursor() as cursor:
        for _number in range(times):
            cursor.execute(statement)
