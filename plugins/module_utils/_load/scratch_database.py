# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway database on the server itself, for places that have no programs to start a scratch instance with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from .._catalog.manifest import SourceDatabase
from .._errors import ConnectionFailed, QueryFailed
from .._postgres.connection import Server, Session
from .._postgres.statements import compose
from . import databases, source_database

PREFIX = "pg_runbook_verify_"
_KEY = "SELECT {} (hashtextextended(%s, 0))"

# Ours, without sessions: what a killed run left. Its advisory lock ended with it.
_LEFT = """
SELECT d.datname FROM pg_catalog.pg_database d
WHERE starts_with(d.datname, %s) AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid)
"""

_SUBSCRIPTIONS = """
SELECT s.subname::text AS name FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = %s
"""
# Without its slot, which is another server's, a subscription goes without a connection to there.
# https://www.postgresql.org/docs/current/logical-replication-subscription.html#LOGICAL-REPLICATION-SUBSCRIPTION-SLOT
_LET_GO = ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}")


@contextmanager
def created(
    server: Server, like: SourceDatabase | None, encoding: str | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A new, uniquely named database; yields its name and notes, and drops it whatever happens.

    While it is in use, this session holds an advisory lock on its name; databases whose lock is free are swept first.
    """
    with databases.connect_admin(server) as session:
        sweep(server, session)
        name = f"{PREFIX}{uuid4().hex[:12]}"
        session.query(_KEY.format("pg_catalog.pg_advisory_lock"), (name,))
        try:
            notes = source_database.create_database(session, name, like, encoding)
            yield name, notes
        finally:
            _drop(server, name)


def sweep(server: Server, session: Session) -> list[str]:
    """Drop the databases that killed runs left, as far as they can be. Returns their names."""
    dropped = []
    for row in session.query(_LEFT, (PREFIX,)):
        if session.value(_KEY.format("pg_catalog.pg_try_advisory_lock"), (row.datname,)):
            with suppress(QueryFailed, ConnectionFailed):  # one that cannot be dropped does no harm
                _drop_subscriptions(server, session, row.datname)
                session.execute(compose("DROP DATABASE IF EXISTS {}", row.datname))
                dropped.append(row.datname)
            session.query(_KEY.format("pg_catalog.pg_advisory_unlock"), (row.datname,))
    return dropped


def _drop(server: Server, name: str) -> None:
    with databases.connect_admin(server) as session:  # the one above may be lost by now
        _drop_subscriptions(server, session, name)
        session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


def _drop_subscriptions(server: Server, session: Session, name: str) -> None:
    """Drop what keeps a database from being dropped: a script may have created some."""
    found = session.query(_SUBSCRIPTIONS, (name,))
    if found:
        with databases.connect_admin(server, name) as inside:
            for row in found:
                for statement in _LET_GO:
                    inside.execute(compose(statement, row.name))
