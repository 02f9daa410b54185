# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The session that holds the lock on a database's name for as long as a restore takes.

Its connection is idle while the dump is loaded, and behind a port-forward it may be lost meanwhile, and the lock with
it. Then there is a new one, which takes the lock again before anything else is done.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from .._errors import Locked, QueryFailed, RunbookError
from .._load import databases
from .._postgres.connection import Server, Session
from .._postgres.reconnect import is_loss, persist

_LOCK_PATIENCE_S = 60.0
_RETRY_S = 0.5
_OWN = "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
# The server may not have noticed yet that the connection was lost. A process id is used again, with another start.
_END = """
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity WHERE pid = %s AND backend_start = %s
"""


@contextmanager
def exclusive(server: Server, database: str) -> Iterator[Session]:
    """A session for changes that is alone at this database, as `databases.working` and `databases.alone` make it.

    Where connections may break while the server lives, a lost one is replaced before the next statement. What only
    reads is repeated when it is lost in the middle; what changes something is not, and says so.

    Raises:
        Locked: another run works on this database, or has begun while the connection was away.
    """
    if not server.target.connections_may_break:
        with databases.connect_admin(server) as session, databases.exclusive_lock(session, database):
            yield session
        return
    lasting = _Lasting(server, database)
    try:
        yield lasting
    finally:
        lasting.close()


class _Lasting(Session):
    """A session that is another one after a loss."""

    def __init__(self, server: Server, database: str) -> None:
        self._server = server
        self._database = database
        self._stack = ExitStack()
        self._open()

    def _open(self) -> None:
        with ExitStack() as stack:
            session = stack.enter_context(databases.connect_admin(self._server))
            stack.enter_context(databases.exclusive_lock(session, self._database))
            own = session.query(_OWN)[0]
            self._stack = stack.pop_all()
        self.__dict__.update(vars(session))
        self._own = own

    def close(self) -> None:
        """Let go of the lock and end the session."""
        self._stack.close()

    def query(self, statement: Any, params: Any = None) -> list[Any]:
        return self._read(statement, params)

    def value(self, statement: Any, params: Any = None) -> Any:
        return self._read(statement, params)[0][0]

    def _read(self, statement: Any, params: Any) -> list[Any]:
        try:
            return self._run(statement, params)
        except QueryFailed as exc:
            if not is_loss(exc):
                raise
        self._again()
        return self._run(statement, params)

    def _run(self, statement: Any, params: Any) -> list[Any]:
        if self._is_cut():
            self._again()
        return super()._run(statement, params)

    def _is_cut(self) -> bool:
        """Whether the connection has ended while nothing was asked, as far as this host knows."""
        if self._connection.closed:
            return True
        with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            return line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) in (b"", b"E")  # its end, or why it ends
        return False

    def _again(self) -> None:
        """A new connection with the lock."""
        with suppress(RunbookError):
            self._stack.close()
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                persist(self._server, self._end_former)
                persist(self._server, self._open)
                return
            except Locked as exc:
                if time.monotonic() > deadline:
                    raise Locked(
                        exc.what,
                        subject=exc.subject,
                        why="the connection through the API server was lost, and with it the lock on this database",
                        remedy=exc.remedy,
                    ) from None
            time.sleep(_RETRY_S)

    def _end_former(self) -> None:
        """Our own former session keeps its lock until the server sees that its connection has ended."""
        with databases.connect_admin(self._server) as session:
            session.execute(_END, self._own)
