# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster a server runs, to distinguish its backups from those of another one in the same directory."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from .._errors import ConnectionFailed, QueryFailed, RunbookError
from . import sql
from . import sql as health_sql
from .connection import Server, Session

_SETTINGS = {"statement_timeout": "10000"}
_CONNECT_TIMEOUT_S = "5"
_QUICK_S = 2.0  # a server that refuses a database does so at once; one that is away would take as long for each


@dataclass(frozen=True)
class ClusterIdentity:
    """Which server is meant, when it could be asked.

    Attributes:
        cluster: its system identifier; None when it is not known.
        databases: the names of its databases but templates; None when they are not known.
        note: why it is not known; empty when it is, or when it was not asked.
    """

    cluster: str | None = None
    databases: frozenset[str] | None = None
    note: str = ""


def read_identity(session: Session) -> ClusterIdentity:
    """Which server a session is with. One statement."""
    [row] = session.query(health_sql.IDENTITY)
    return ClusterIdentity(str(row.cluster), frozenset(row.databases))


def identify(server: Server, db: str | None) -> ClusterIdentity:
    """Which server that is. No error: a catalog can be judged while its server is down."""
    login = server.login
    wait = {"connect_timeout": _CONNECT_TIMEOUT_S, **login.connect_params}
    patient = Server(server.target, replace(login, connect_params=wait), check_mode=True)
    why = ""
    started = time.monotonic()
    for name in dict.fromkeys(filter(None, (db, "postgres", "template1"))):
        try:
            with patient.connect(name, settings=_SETTINGS) as session:
                return read_identity(session)
        except RunbookError as exc:
            why = why or " ".join((exc.why or exc.message).split())
            if time.monotonic() - started > _QUICK_S or not isinstance(exc, ConnectionFailed):
                break
    return ClusterIdentity(note=unasked(why))


def unasked(why: str) -> str:
    """The note when the server did not report its cluster id."""
    return (
        f"The server did not report its cluster id ({why.rstrip('.')}). Backups of another cluster in "
        "the same directory would count as well; clusters shows to which cluster they belong."
    )


def cluster_of(server: Server, db: str) -> str:
    """Its system identifier.

    Raises:
        ConnectionFailed, QueryFailed: it does not say.
    """
    with server.connect(db, settings=_SETTINGS) as session:
        return str(session.value(sql.SYSTEM_IDENTIFIER))


def cluster_if_known(server: Server, db: str, notes: list[str]) -> str | None:
    """The same where the work can be done without the server; then a note says what was not checked."""
    try:
        return cluster_of(server, db)
    except (ConnectionFailed, QueryFailed) as exc:
        notes.append(f"The server did not report whether this backup belongs to it: {exc.why.splitlines()[0]}")
        return None
