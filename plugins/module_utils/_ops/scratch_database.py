# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway database on the server itself, for places that have no programs to start a scratch instance with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from .._catalog.manifest import Surroundings
from .._db import Server, Session, compose
from . import restore

PREFIX = "pg_runbook_verify_"
_MAINTENANCE_DB = "postgres"
_KEY = "SELECT {} (hashtextextended(%s, 0))"

# Ours, and nobody connected: what a killed run left. Its advisory lock ended with it.
_LEFT = """
SELECT d.datname FROM pg_catalog.pg_database d
WHERE starts_with(d.datname, %s) AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
"""


@contextmanager
def created(server: Server, like: Surroundings | None, encoding: str | None = None) -> Iterator[tuple[str, list[str]]]:
    """A new, uniquely named database; yields its name and notes, and drops it whatever happens.

    While it is in use, this session holds an advisory lock on its name; databases whose lock is free are swept first.
    """
    with server.connect(_MAINTENANCE_DB) as session:
        sweep(session)
        name = f"{PREFIX}{uuid4().hex[:12]}"
        session.query(_KEY.format("pg_catalog.pg_advisory_lock"), (name,))
        try:
            notes = restore.create_database(session, name, like, encoding)
            yield name, notes
        finally:
            _drop(server, name)


def sweep(session: Session) -> list[str]:
    """Drop the databases that killed runs left. Returns their names."""
    dropped = []
    for row in session.query(_LEFT, (PREFIX,)):
        if session.value(_KEY.format("pg_catalog.pg_try_advisory_lock"), (row.datname,)):
            session.execute(compose("DROP DATABASE IF EXISTS {}", row.datname))
            session.query(_KEY.format("pg_catalog.pg_advisory_unlock"), (row.datname,))
            dropped.append(row.datname)
    return dropped


def _drop(server: Server, name: str) -> None:
    with server.connect(_MAINTENANCE_DB) as session:  # the one above may be lost by now
        session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
