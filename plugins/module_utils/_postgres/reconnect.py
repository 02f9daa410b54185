# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on after a connection was lost while the server lives, as it is behind a port-forward.

A port-forward ends with the API server, the kubelet or the network, be it for a second. Then the same work is done once
more on a new connection. Where the server itself went away, that is said, and nothing is repeated: a statement that
crashes the server would crash it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .._errors import ConnectionFailed, QueryFailed
from .connection import Server
from .login_failure import NOT_READY, reason_of

# How long a connection may stay away, and how often one may be lost in the same work.
PATIENCE_S = 300.0
_MOST_LOSSES = 5
_RETRY_S = 1.0
_T = TypeVar("_T")


class LostConnections:
    """The connections that one piece of work has lost: whether another attempt makes sense."""

    def __init__(self, server: Server, patience_s: float = PATIENCE_S) -> None:
        self._target = server.target
        self._patience_s = patience_s if server.target.connections_may_break else 0.0
        self._number = 0
        self._away_since: float | None = None

    def weigh(self, exc: QueryFailed | ConnectionFailed) -> None:
        """Wait a moment before another attempt, or raise the error with the reason why there is none.

        Raises:
            WorkloadProblem: the pod or its container is another one by now.
            QueryFailed, ConnectionFailed: the server itself has restarted; or the error as it is.
        """
        if not self._patience_s or not is_loss(exc):
            raise exc
        now = time.monotonic()
        if isinstance(exc, QueryFailed):
            self._number += 1
            self._away_since = now  # until then it was there
        elif self._away_since is None:
            self._away_since = now
        reason = reason_of(exc) if isinstance(exc, ConnectionFailed) else None
        if reason is not None and not reason.passes:
            raise exc
        if self._number and reason is NOT_READY:
            raise QueryFailed(
                "The server restarted while this run had a session there",
                subject=self._target.name,
                why=exc.why,
                remedy="See the server's log for the reason. Run this again once it accepts connections.",
                details=exc.details,
            ) from None
        if self._number > _MOST_LOSSES or now - self._away_since > self._patience_s:
            raise exc
        self._target.refuse_replaced()
        time.sleep(_RETRY_S)


def is_loss(exc: Exception) -> bool:
    """Whether an error says that a connection was lost, or could not be made."""
    return isinstance(exc, ConnectionFailed) or (isinstance(exc, QueryFailed) and bool(exc.details.get("lost")))


def persist(server: Server, work: Callable[[], _T]) -> _T:
    """Do what may be done twice, and do it again after a connection was lost, where one may break by itself.

    Raises:
        WorkloadProblem, QueryFailed, ConnectionFailed: as `LostConnections.weigh`.
    """
    losses = LostConnections(server)
    while True:
        try:
            return work()
        except (QueryFailed, ConnectionFailed) as exc:
            losses.weigh(exc)
