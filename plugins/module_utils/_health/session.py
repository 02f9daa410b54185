# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a server for many questions: a session that is lost is replaced, at most twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from .._errors import QueryFailed, RunbookError
from .._postgres.connection import Login, Server, Session
from .._target.base import Target

_LOCK_TIMEOUT_S = 1.0
# libpq's own floor for connect_timeout.
_CONNECT_FLOOR_S = 2
_MAX_LOST = 2
T = TypeVar("T")


class _Watched(Session):
    """Counts its statements, and remembers that the connection was lost."""

    def __init__(self, session: Session) -> None:
        self.__dict__.update(vars(session))
        self.statements = 0
        self.lost = False

    def _run(self, statement: Any, params: Any) -> list[Any]:
        self.statements += 1
        try:
            return super()._run(statement, params)
        except QueryFailed as exc:
            self.lost = self.lost or bool(exc.details.get("lost"))
            raise


@dataclass
class ReconnectingSession:
    """The way to one server: a session when first needed, and another one after it was lost, at most twice."""

    target: Target
    login: Login
    db: str
    timeout_s: float
    statements: int = 0
    lost: int = 0
    failure: RunbookError | None = None
    _session: _Watched | None = field(default=None, repr=False)
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def use(self, work: Callable[[Session], T], /) -> T:
        """Do something with a session.

        Raises:
            RunbookError: there is none, or the work failed.
        """
        session = self._connected()
        before = session.statements
        try:
            return work(session)
        finally:
            self.statements += session.statements - before
            if session.lost:
                self.lost += 1
                self.close()

    def _connected(self) -> _Watched:
        if self.failure is not None:
            raise self.failure
        if self.lost >= _MAX_LOST:
            self.failure = QueryFailed("The connection to the server was lost repeatedly")
            raise self.failure
        if self._session is None:
            settings = {
                "lock_timeout": str(round(min(self.timeout_s, _LOCK_TIMEOUT_S) * 1000)),
                "transaction_read_only": "on",
            }
            server = Server(self.target, _patient(self.login, self.timeout_s), check_mode=True)
            try:
                opened = server.connect(self.db, settings=settings, timeout_s=self.timeout_s)
                self._session = _Watched(self._stack.enter_context(opened))
            except RunbookError as exc:
                self.failure = exc
                raise
        return self._session

    def close(self) -> None:
        """End the session, if there is one."""
        self._session = None
        self._stack.close()


@contextmanager
def line(target: Target, login: Login, db: str, timeout_s: float) -> Iterator[ReconnectingSession]:
    """The way to a server; closed on exit."""
    way = ReconnectingSession(target, login, db, timeout_s)
    try:
        yield way
    finally:
        way.close()


def _patient(login: Login, timeout_s: float) -> Login:
    """The login, waiting for a connection as long as for a statement, unless it says otherwise itself."""
    wait_s = max(_CONNECT_FLOOR_S, round(timeout_s))
    return replace(login, connect_params={"connect_timeout": str(wait_s), **login.connect_params})
