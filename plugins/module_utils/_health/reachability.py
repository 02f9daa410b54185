# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server can be reached, with the states of pg_isready, and if not, why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from .._errors import (
    ClusterRefused,
    ClusterUnreachable,
    ConnectionFailed,
    InvalidInput,
    ObjectNotFound,
    RunbookError,
    WorkloadProblem,
)
from .._findings import Finding
from .._postgres.connection import Server, Session
from .._postgres.login_failure import ACCEPTING, NO_ATTEMPT, NO_RESPONSE, REJECTING, reason_of

_NO_POD = "Check why the workload has no running pod: kubectl describe the workload."


@dataclass(frozen=True)
class Reachability:
    """What pg_isready would say, and why there is no session.

    Attributes:
        status: `accepting`, `rejecting`, `no response` or `no attempt`.
        cause: a stable word, empty when there is a session: `starting_up`, `login_refused`, `no_database`,
            `too_many_connections`, `refused`, `timeout`, `tls`, `pod` or `other`.
        why: the message of the server or the library.
    """

    status: str
    cause: str = ""
    why: str = ""

    def finding(self, subject: str, remedy: str) -> Finding:
        """For a server without a session."""
        said = {
            ACCEPTING: "The server accepts connections, but not this login",
            REJECTING: "The server does not accept connections now",
            NO_RESPONSE: "The server does not answer",
            NO_ATTEMPT: "The pod cannot be reached",
        }[self.status]
        return Finding(
            check="server_unreachable",
            severity="critical",
            subject=subject,
            value=self.status,
            threshold=ACCEPTING,
            message=f"{said} ({self.cause.replace('_', ' ')}): {self.why.rstrip('.')}.",
            remedy=_NO_POD if self.cause == "pod" else remedy,
        )


class Unreachable(ConnectionFailed):
    """The server cannot be reached; `reachability` has the details."""

    def __init__(self, error: RunbookError, reachability: Reachability) -> None:
        super().__init__(
            error.what,
            subject=error.subject,
            why=error.why,
            remedy=error.remedy,
            details={**error.details, "reachability": reachability.status, "cause": reachability.cause},
        )
        self.reachability = reachability

    def as_values(self) -> dict[str, object]:
        """For the result of a module that accepts this as an answer."""
        state = self.reachability
        finding = state.finding(self.subject or "server", self.remedy)
        return {
            "reachability": state.status,
            "connected": False,
            "unreachable_cause": state.cause,
            "unreachable_why": state.why,
            "findings": [finding.as_dict()],
            "severity": finding.severity,
            "msg": f"{finding.message} {finding.remedy}",
        }


@contextlib.contextmanager
def pod_needed() -> Iterator[None]:
    """Takes a cluster or a pod that is not available for a server that cannot be reached.

    Raises:
        Unreachable: in place of the cluster's own errors.
    """
    try:
        yield
    except (WorkloadProblem, ObjectNotFound, ClusterUnreachable, ClusterRefused) as error:
        raise Unreachable(error, Reachability(NO_ATTEMPT, "pod", error.message)) from None


@contextlib.contextmanager
def reach(server: Server, db: str, statement_timeout_s: float) -> Iterator[Session]:
    """A session for reading, in which no statement takes longer than this.

    Raises:
        Unreachable: there is none, and how the server stands.
    """
    with contextlib.ExitStack() as stack:
        try:
            with pod_needed():
                session = stack.enter_context(server.connect(db, timeout_s=statement_timeout_s))
        except Unreachable:
            raise
        except ConnectionFailed as error:
            raise Unreachable(error, _diagnose(server, db, error)) from None
        yield session


def _diagnose(server: Server, db: str, error: ConnectionFailed) -> Reachability:
    reason = reason_of(error)
    found = Reachability(reason.status, reason.cause, error.why)
    if reason.status != NO_RESPONSE or not server.target.connections_may_break:
        return found
    parameters = server.login.parameters(db)
    try:  # the pod may have gone
        with server.target.endpoint(parameters.get("host"), int(parameters["port"])):
            return found
    except (InvalidInput, WorkloadProblem, ObjectNotFound, ClusterUnreachable, ClusterRefused) as problem:
        return Reachability(NO_ATTEMPT, "pod", problem.message)
