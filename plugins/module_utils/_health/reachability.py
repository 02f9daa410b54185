# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a server can be reached, by the terms of pg_isready, and if not, why.

Only a connection that failed is looked into: the first answer to a bare startup packet carries an SQLSTATE, which is
the same in every language, and needs neither a password nor an encrypted connection.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
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

ACCEPTING, REJECTING, NO_RESPONSE, NO_ATTEMPT = "accepting", "rejecting", "no response", "no attempt"
_PING_S = 3.0
_SOCKET_FOLDERS = ("/var/run/postgresql", "/tmp")  # noqa: S108  # where libpq looks, as Debian and as others build it
# By SQLSTATE: what the server says before, or instead of, a login.
_CAUSES = {"57P03": "starting_up", "53300": "too_many_connections", "28000": "login_refused", "28P01": "login_refused"}
_REMEDIES = {
    "starting_up": "Wait until the server accepts connections; its log says what it does.",
    "too_many_connections": (
        "Log in as a superuser, for whom connections are reserved, and run the playbook "
        "godel.postgres_runbook.terminate_sessions. If the limit is that of the database or the role, raise it: "
        "ALTER DATABASE or ALTER ROLE ... CONNECTION LIMIT."
    ),
    "login_refused": "Check login_user and login_password, and pg_hba.conf on the server.",
    "no_database": "Check the name in db; names are case-sensitive.",
    "timeout": "See on the server's host whether it is overloaded or stopped, and whether a firewall drops packets.",
    "refused": "Start the server, or check login_host, login_port and login_unix_socket.",
    "tls": "Check ssl_mode, ca_cert, ssl_cert and ssl_key, and whether the server offers SSL.",
    "pod": "See why there is no pod to work in: kubectl describe the workload.",
}


@dataclass(frozen=True)
class Reachability:
    """What pg_isready would say, and why there is no session.

    Attributes:
        status: `accepting`, `rejecting`, `no response` or `no attempt`.
        cause: a stable word, empty when there is a session: `starting_up`, `login_refused`, `no_database`,
            `too_many_connections`, `refused`, `timeout`, `tls`, `pod` or `other`.
        reason: the message of the server or the library.
    """

    status: str
    cause: str = ""
    reason: str = ""

    def finding(self, subject: str, remedy: str) -> Finding:
        """For a server without a session."""
        said = {
            ACCEPTING: "The server is there, and does not let us in",
            REJECTING: "The server is there, and does not accept connections now",
            NO_RESPONSE: "The server does not answer",
            NO_ATTEMPT: "There is nothing to connect to",
        }[self.status]
        return Finding(
            "server_unreachable", "critical", subject, self.status, ACCEPTING,
            f"{said} ({self.cause.replace('_', ' ')}): {self.reason.rstrip('.')}.", _REMEDIES.get(self.cause, remedy),
        )  # fmt: skip


class Unreachable(ConnectionFailed):
    """The server cannot be reached; `reachability` says how it stands."""

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
        """For the result of a module that takes this for an answer."""
        state = self.reachability
        finding = state.finding(self.subject or "server", self.remedy)
        return {
            "reachability": state.status,
            "connected": False,
            "unreachable_cause": state.cause,
            "unreachable_reason": state.reason,
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
        began = time.monotonic()
        try:
            with pod_needed():
                session = stack.enter_context(server.connect(db, timeout_s=statement_timeout_s))
        except ConnectionFailed as error:
            raise Unreachable(error, _diagnose(server, db, error, time.monotonic() - began)) from None
        yield session


def _diagnose(server: Server, db: str, error: ConnectionFailed, took_s: float) -> Reachability:
    parameters = server.login.parameters(db)
    given_s = _seconds(parameters.get("connect_timeout", ""))
    if given_s and took_s >= given_s - 0.5:  # to ask again would take as long
        return Reachability(NO_RESPONSE, "timeout", f"{error.why.rstrip('.')} (within {given_s} s)")
    hosts, ports = parameters.get("host", ""), parameters["port"]
    if "," in hosts or "hostaddr" in parameters or "service" in parameters:  # libpq alone knows where that leads
        return Reachability(_guess(error.why), _cause(error.why), error.why)
    try:
        with server.target.endpoint(hosts or None, int(ports)) as endpoint:
            return _ping(endpoint.host or "", endpoint.port or 5432, error.why)
    except (InvalidInput, WorkloadProblem, ObjectNotFound, ClusterUnreachable, ClusterRefused) as problem:
        return Reachability(NO_ATTEMPT, "pod", problem.message)


def _seconds(text: str) -> int:
    """As libpq takes a connect_timeout: 1 is 2, and 0 is no limit."""
    try:
        number = int(text)
    except ValueError:
        return 0
    return max(number, 2) if number > 0 else 0


def _ping(host: str, port: int, why: str) -> Reachability:
    """Ask for a session as a role that need not exist, and read no more than the first answer."""
    try:
        with contextlib.closing(_dial(host, port)) as peer:
            names = b"user\0pg_isready\0database\0postgres\0\0"
            peer.sendall(struct.pack("!II", 8 + len(names), 196608) + names)
            kind = _exactly(peer, 1)
            fields = _fields(peer) if kind == b"E" else {}
    except socket.timeout:
        return Reachability(NO_RESPONSE, "timeout", f"no answer within {_PING_S:g} s; before that: {why}")
    except socket.gaierror as problem:
        return Reachability(NO_RESPONSE, "refused", f"{host!r} is no known host ({problem.strerror})")
    except (OSError, EOFError) as problem:
        return Reachability(NO_RESPONSE, "refused", why or str(problem))
    if kind not in (b"E", b"R"):
        return Reachability(NO_RESPONSE, "other", f"what answers is no PostgreSQL; {why}")
    cause = _CAUSES.get(fields.get("C", ""), "")
    if cause == "starting_up":
        return Reachability(REJECTING, cause, fields.get("M", why))
    # The login itself got further than this question, whose own name may have been refused.
    return Reachability(ACCEPTING, cause if cause == "too_many_connections" else _cause(why), why)


def _dial(host: str, port: int) -> socket.socket:
    if host and not host.startswith(("/", "@")):
        return socket.create_connection((host, port), timeout=_PING_S)
    problem: OSError | None = None
    for folder in [host] if host else _SOCKET_FOLDERS:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(_PING_S)
        try:
            peer.connect(f"{folder}/.s.PGSQL.{port}")
        except OSError as exc:
            peer.close()
            problem = exc
        else:
            return peer
    raise problem or OSError("no socket")


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = peer.recv(size - len(data))
        if not piece:
            raise EOFError("the connection was closed without an answer")
        data += piece
    return data


def _fields(peer: socket.socket) -> dict[str, str]:
    """The fields of an ErrorResponse. https://www.postgresql.org/docs/current/protocol-error-fields.html"""
    [size] = struct.unpack("!I", _exactly(peer, 4))
    if not 4 < size < 30000:
        return {}
    parts = _exactly(peer, size - 4).split(b"\0")
    return {part[:1].decode("latin-1"): part[1:].decode("utf-8", "replace") for part in parts if part}


def _cause(text: str) -> str:
    """From the text of libpq, for what only a whole login shows. In another language it is `other`."""
    for words, cause in (
        (("connection slots", "too many clients", "too many connections"), "too_many_connections"),
        (("starting up", "shutting down", "recovery mode", "not accepting", "not yet accepting"), "starting_up"),
        (("authentication", "no password supplied", "pg_hba.conf", "not permitted to log in"), "login_refused"),
        (("timeout", "timed out"), "timeout"),
        (("could not translate host", "Connection refused", "No such file", "No route"), "refused"),
        (("SSL", "certificate"), "tls"),
    ):
        if any(word in text for word in words):
            return cause
    if "does not exist" in text:
        return "no_database" if "database" in text and "role" not in text else "login_refused"
    return "other"


def _guess(text: str) -> str:
    cause = _cause(text)
    if cause == "starting_up":
        return REJECTING
    return NO_RESPONSE if cause in ("timeout", "refused", "other") else ACCEPTING
