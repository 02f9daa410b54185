# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which cluster a server runs, to tell its backups from those of another one that share their directory."""

from __future__ import annotations

from .._db import Server
from .._errors import ConnectionFailed, QueryFailed
from .._sql import fingerprint as sql

_SETTINGS = {"statement_timeout": "10000"}


def cluster_of(server: Server, db: str) -> str:
    """Its system identifier.

    Raises:
        ConnectionFailed, QueryFailed: it does not say.
    """
    with server.connect(db, settings=_SETTINGS) as session:
        return str(session.value(sql.SYSTEM_IDENTIFIER))


def cluster_if_known(server: Server, db: str, notes: list[str]) -> str | None:
    """The same where the work can be done without the server; then a note says what nobody looked at."""
    try:
        return cluster_of(server, db)
    except (ConnectionFailed, QueryFailed) as exc:
        notes.append(f"The server could not be asked whether this backup is one of its own: {exc.why.splitlines()[0]}")
        return None
