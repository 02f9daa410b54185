# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a connection failed: one reason of a list, whatever language the server and the libraries speak."""

from __future__ import annotations

import difflib
import errno
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._errors import ConnectionFailed
from . import sqlstate

# What pg_isready says of a server. https://www.postgresql.org/docs/current/app-pg-isready.html
ACCEPTING, REJECTING, NO_RESPONSE, NO_ATTEMPT = "accepting", "rejecting", "no response", "no attempt"


@dataclass(frozen=True)
class Reason:
    """Why a connection failed.

    Attributes:
        word: a stable word; `details["reason"]` of the error has it.
        headline: the same for people, in a few words.
        remedy: the next step; `{user}`, `{account}` and `{guess}` are filled in.
        status: `accepting`, `rejecting` or `no response`.
        cause: the group of reasons that results of modules name.
        passes: whether it may pass without a change to the login or the server.
    """

    word: str
    headline: str
    remedy: str
    status: str = ACCEPTING
    cause: str = "other"
    passes: bool = False


_WHERE = "Check that the server runs and that login_host, login_port and login_unix_socket are right."
_BECOME = (
    "The task ran as the account {account}. Set ansible_become: true and ansible_become_user to the account of "
    "the role {user}, which usually has the same name."
)
_MORE = (
    "Log in as a superuser, for whom connections are reserved, and run the playbook "
    "godel.postgres_runbook.terminate_sessions"
)

ROLE = Reason(
    "role",
    "the role does not exist or may not log in",
    "Check login_user: the role must exist and have the attribute LOGIN.",
    cause="login_refused",
)
PASSWORD = Reason(
    "password",
    "the server rejects the password",
    "Check login_user and login_password. The server answers the same where the role does not exist or its password "
    "has expired; its log has the reason.",
    cause="login_refused",
)
NO_PASSWORD = Reason(
    "no_password",
    "the server asks for a password",
    "Set login_password, or another method than a password for this login in pg_hba.conf on the server.",
    cause="login_refused",
)
PEER = Reason(
    "peer",
    "the account of the task may not log in as this role",
    f"{_BECOME} Or log in over TCP, with login_host, login_user and login_password.",
    cause="login_refused",
)
AUTHENTICATION = Reason(
    "authentication",
    "authentication failed",
    "Check login_user and login_password, and the method in pg_hba.conf on the server.",
    cause="login_refused",
)
HBA = Reason(
    "pg_hba",
    "pg_hba.conf does not accept this login",
    "Check pg_hba.conf on the server: it needs an entry for this host, database, role and kind of encryption "
    "(ssl_mode, ssl_cert).",
    cause="login_refused",
)
NO_DATABASE = Reason(
    "no_database",
    "the database does not exist",
    "{guess}Check the name in postgres_db (db of the module); names are case-sensitive.",
    cause="no_database",
)
DATABASE_CLOSED = Reason(
    "database_closed",
    "the database accepts no connections",
    "If it should, run ALTER DATABASE ... ALLOW_CONNECTIONS true in another database. A database that an interrupted "
    "DROP DATABASE left is invalid, and can only be dropped.",
    passes=True,  # a restore closes a database for a moment
)
NO_CONNECT = Reason(
    "no_connect_privilege",
    "the role lacks the privilege CONNECT",
    "Run GRANT CONNECT ON DATABASE ... TO {user}, or log in as another role.",
    cause="login_refused",
)
SERVER_FULL = Reason(
    "server_full",
    "the server has no free connection",
    f"{_MORE}, or raise max_connections (needs a restart).",
    cause="too_many_connections",
    passes=True,
)
DATABASE_FULL = Reason(
    "database_full",
    "the database has reached its connection limit",
    f"{_MORE}, or raise the limit: ALTER DATABASE ... CONNECTION LIMIT.",
    cause="too_many_connections",
    passes=True,
)
ROLE_FULL = Reason(
    "role_full",
    "the role has reached its connection limit",
    f"{_MORE}, or raise the limit: ALTER ROLE ... CONNECTION LIMIT.",
    cause="too_many_connections",
    passes=True,
)
NOT_READY = Reason(
    "not_ready",
    "the server is starting, recovering or shutting down",
    "Wait until the server accepts connections, then run again; its log says what it does.",
    status=REJECTING,
    cause="starting_up",
    passes=True,
)
LIBRARY = Reason(
    "library",
    "the server cannot load a library that each session needs",
    "Install that library on the server, or take it out of session_preload_libraries and local_preload_libraries: see "
    "pg_db_role_setting for the database and the role, and ALTER SYSTEM.",
)
SETTINGS = Reason(
    "settings",
    "the server refuses a setting of the session",
    "Check options in connect_params, and PGOPTIONS in the environment of the task.",
)
REFUSED = Reason("refused", "no server accepts connections there", _WHERE, NO_RESPONSE, "refused", passes=True)
NO_SOCKET = Reason("no_socket", "there is no such socket", _WHERE, NO_RESPONSE, "refused", passes=True)
SOCKET_DENIED = Reason(
    "socket_denied", "the account of the task may not use the socket", _BECOME, NO_RESPONSE, "refused"
)
UNKNOWN_HOST = Reason(
    "unknown_host",
    "the host name cannot be resolved",
    "Check login_host, and the name servers of the host that the task runs on.",
    NO_RESPONSE,
    "refused",
    passes=True,
)
NO_ROUTE = Reason(
    "no_route",
    "there is no network route to it",
    "Check login_host, and routes and firewalls in between.",
    NO_RESPONSE,
    "refused",
    passes=True,
)
CLOSED = Reason(
    "closed",
    "the connection was closed without an answer",
    f"{_WHERE} The log of the server, or of a pooler in between, has the reason.",
    NO_RESPONSE,
    "refused",
    passes=True,
)
TIMEOUT = Reason(
    "timeout",
    "there was no answer in time",
    "See on the server's host whether it is overloaded or stopped, and whether a firewall drops packets.",
    NO_RESPONSE,
    "timeout",
    passes=True,
)
TLS = Reason(
    "tls",
    "no TLS connection can be made",
    "Check ssl_mode, ca_cert, ssl_cert and ssl_key, and whether the server offers SSL.",
    cause="tls",
    passes=True,  # a connection that is cut may look like it
)
NOT_POSTGRES = Reason(
    "not_postgres",
    "a program other than PostgreSQL answers there",
    "Check login_host and login_port.",
    NO_RESPONSE,
)
PASSED = Reason(
    "passed",
    "it failed once, and another attempt succeeded",
    "Run this again. If it happens again, see the server's log.",
    passes=True,
)
OTHER = Reason("other", "", f"{_WHERE} The server's log has more.", NO_RESPONSE, passes=True)
REFUSED_OTHERWISE = Reason(
    "refused_otherwise",
    "the server refuses the session",
    "See the server's log for the reason.",
    passes=True,
)
NOT_PASSED_ON = Reason(
    "not_passed_on",
    "a proxy in front of the server cannot reach it",
    f"{_WHERE} Through a port-forward or a pooler, check that, too.",
    NO_RESPONSE,
    passes=True,
)
REASONS: Mapping[str, Reason] = {each.word: each for each in list(globals().values()) if isinstance(each, Reason)}

# By SQLSTATE, and the C function that raised it; "" is any other one, and that of a pooler.
_BY_REFUSAL: Mapping[str, Mapping[str, Reason]] = {
    sqlstate.INVALID_AUTHORIZATION_SPECIFICATION: {
        "InitializeSessionUserId": ROLE,
        "ClientAuthentication": HBA,
        "": AUTHENTICATION,
    },
    sqlstate.INVALID_PASSWORD: {"": PASSWORD},
    sqlstate.INVALID_CATALOG_NAME: {"": NO_DATABASE},
    sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE: {"CheckMyDatabase": DATABASE_CLOSED, "InitPostgres": DATABASE_CLOSED},
    sqlstate.INSUFFICIENT_PRIVILEGE: {"CheckMyDatabase": NO_CONNECT, "": SETTINGS},
    sqlstate.TOO_MANY_CONNECTIONS: {
        "CheckMyDatabase": DATABASE_FULL,
        "InitializeSessionUserId": ROLE_FULL,
        "": SERVER_FULL,
    },
    sqlstate.CANNOT_CONNECT_NOW: {"": NOT_READY},
    sqlstate.UNDEFINED_FILE: {"": LIBRARY},
    sqlstate.INVALID_PARAMETER_VALUE: {"": SETTINGS},
    sqlstate.UNDEFINED_OBJECT: {"": SETTINGS},
}
_NOT_OF_THE_SERVER = "08"  # connection exceptions: of our port-forward (`_kube/port_forward.py`) and of poolers
_LOADS_LIBRARIES = ("internal_load_library", "incompatible_module_error", "load_libraries")
_BY_ERRNO: Sequence[tuple[int, Reason]] = (
    (errno.ECONNREFUSED, REFUSED),
    (errno.ENOENT, NO_SOCKET),
    (errno.EACCES, SOCKET_DENIED),
    (errno.EHOSTUNREACH, NO_ROUTE),
    (errno.ENETUNREACH, NO_ROUTE),
    (errno.ETIMEDOUT, TIMEOUT),
    (errno.ECONNRESET, CLOSED),
    (errno.EPIPE, CLOSED),
)
# What libpq says of itself, in English as `login_probe` has it (src/interfaces/libpq).
_BY_LIBPQ: Sequence[tuple[tuple[str, ...], Reason]] = (
    (("could not translate host name",), UNKNOWN_HOST),
    (("timeout expired",), TIMEOUT),
    (("invalid response to", "expected authentication request"), NOT_POSTGRES),
    (("server closed the connection unexpectedly", "SSL SYSCALL error", "SSL negotiation packet"), CLOSED),
    (("SSL", "certificate", "private key"), TLS),
)


@dataclass(frozen=True)
class LoginRefusal:
    """What a server answered: an SQLSTATE, and the C function that raised it; empty where a pooler answered."""

    sqlstate: str
    function: str = ""


@dataclass(frozen=True)
class Answer:
    """How another attempt to log in ended.

    Attributes:
        text: what libpq says, its own part in English; empty if that attempt did not end in time.
        refusals: what servers answered, in the order of the attempts; none if the failure is on the way there.
        errnos: the errors of the operating system.
        password_missing: the server asked for a password, and there was none.
        password_used: the server asked for a password, and got one.
        succeeded: this attempt did not fail.
    """

    text: str = ""
    refusals: tuple[LoginRefusal, ...] = ()
    errnos: frozenset[int] = frozenset()
    password_missing: bool = False
    password_used: bool = False
    succeeded: bool = False


@dataclass(frozen=True)
class LoginFailure:
    """A failed connection: the text of libpq, why, and the SQLSTATE if a server answered."""

    text: str
    reason: Reason
    sqlstate: str = ""


def classify(answer: Answer, *, socket: bool = False) -> Reason:
    """Why a connection failed.

    Args:
        answer: how another attempt ended.
        socket: the server is reached through a Unix socket.
    """
    if answer.succeeded:
        return PASSED
    if answer.refusals:
        found = [_by_refusal(each, answer, socket) for each in answer.refusals]
        # With sslmode=prefer libpq tries twice; the attempt that pg_hba.conf has an entry for tells more.
        return next((reason for reason in found if reason is not HBA), HBA)
    if answer.password_missing:
        return NO_PASSWORD
    # The key and the certificates are files, whose errors have numbers, too.
    for words, reason in _BY_LIBPQ:
        if any(word in answer.text for word in words):
            return reason
    return next((reason for number, reason in _BY_ERRNO if number in answer.errnos), OTHER)


def _by_refusal(refusal: LoginRefusal, answer: Answer, socket: bool) -> Reason:
    if refusal.function in _LOADS_LIBRARIES:
        return LIBRARY
    if refusal.sqlstate.startswith(_NOT_OF_THE_SERVER):
        return NOT_PASSED_ON
    known = _BY_REFUSAL.get(refusal.sqlstate, {})
    reason = known.get(refusal.function) or known.get("") or REFUSED_OTHERWISE
    # The methods over a socket that ask for no password ask for the account.
    return PEER if reason is AUTHENTICATION and socket and not answer.password_used else reason


def not_connected(
    subject: str, db: str, user: str, failure: LoginFailure, names: Sequence[str] = ()
) -> ConnectionFailed:
    """The error for a failed connection, with the step that helps.

    Args:
        names: the databases that the server has, if it could be asked.
    """
    reason = failure.reason
    near = difflib.get_close_matches(db, names, 1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return ConnectionFailed(
        "Cannot connect to PostgreSQL" + (f": {reason.headline}" if reason.headline else ""),
        subject=subject,
        why=" ".join(failure.text.split()),
        remedy=reason.remedy.format(user=user, account=_account(), guess=guess),
        details={"sqlstate": failure.sqlstate, "reason": reason.word},
    )


def reason_of(error: ConnectionFailed) -> Reason:
    """Why the connection failed, as the error knows it."""
    return REASONS.get(str(error.details.get("reason")), OTHER)


def _account() -> str:
    """The account that the task runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"
