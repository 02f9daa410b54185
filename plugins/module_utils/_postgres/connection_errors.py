# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of psycopg2, as the errors of the collection."""

from __future__ import annotations

import difflib
import os
import pwd
import re
from collections.abc import Sequence

from .._errors import ConnectionFailed, QueryFailed
from . import sqlstate

_LONGEST_CONTEXT = 300
# The server's C functions by which code in a database raises an error with an SQLSTATE of its own choice.
_RAISING = ("exec_stmt_raise", "exec_stmt_assert", "PLy_elog_impl", "PLy_elog", "PLy_output")
# A library that each session is to load, and that the server does not have.
_NO_LIBRARY = re.compile("could not (?:access file|load library)")
_REMEDIES = {
    sqlstate.CHARACTER_NOT_IN_REPERTOIRE: "A name in a database of the encoding SQL_ASCII is not UTF-8: rename it.",
    sqlstate.SERIALIZATION_FAILURE: (
        "On a standby, replay needed what the statement was reading: run it on the primary, or set"
        " hot_standby_feedback or a longer max_standby_streaming_delay on the standby."
    ),
    sqlstate.INSUFFICIENT_PRIVILEGE: (
        "Log in as the owner or as a superuser, or GRANT the login what is missing. From PostgreSQL 17 on,"
        " MAINTAIN is enough for VACUUM, ANALYZE and REINDEX."
    ),
    sqlstate.OUT_OF_MEMORY: (
        "The server is short of memory, or of locks: then raise max_locks_per_transaction (needs a restart)."
    ),
    sqlstate.TOO_MANY_CONNECTIONS: "The server has too few connections: lower jobs.",
    sqlstate.QUERY_CANCELED: (
        "If no session cancelled it, it took longer than statement_timeout: see pg_locks, or raise that."
    ),
    sqlstate.LOCK_NOT_AVAILABLE: (
        "It waited for a lock for longer than lock_timeout: see pg_locks, wait, or raise lock_timeout."
    ),
}
# A transaction was idle, or took, for longer than a setting of the server allows: the server ends the session.
_ENDS_THE_SESSION = ("57P", "08", sqlstate.IDLE_IN_TRANSACTION_SESSION_TIMEOUT, sqlstate.TRANSACTION_TIMEOUT)


def refused(exc: Exception, *, relayed: bool = False) -> QueryFailed:
    """The error for what psycopg2 has raised for a statement (a `psycopg2.Error`).

    Args:
        relayed: the connection leads through the API server of a cluster. When it ends without a word of the server,
            libpq's guess that the server "terminated abnormally" is mostly wrong.
    """
    diagnostics = getattr(exc, "diag", None)
    code: str = getattr(exc, "pgcode", None) or ""
    primary = getattr(diagnostics, "message_primary", None) or str(exc).strip() or type(exc).__name__
    hint = getattr(diagnostics, "message_hint", None)
    lost = not code or code.startswith(_ENDS_THE_SESSION)
    if relayed and not code:
        return QueryFailed(
            "The connection through the API server was lost",
            why="the API server, the kubelet or the network was interrupted, or the server stopped",
            remedy="Run this again. If it happens again, see the pod's events and the server's log.",
            details={"sqlstate": "", "lost": True, "context": "", "raised": False},
        )
    return QueryFailed(
        "The connection to the server was lost" if lost else "The server refused a statement",
        why=primary + (f" ({hint})" if hint else ""),
        remedy="See the server's log for the reason, then run again." if lost else _REMEDIES.get(code, ""),
        details={
            "sqlstate": code,
            "lost": lost,
            "context": _function(getattr(diagnostics, "context", None) or ""),
            "raised": getattr(diagnostics, "source_function", None) in _RAISING,
        },
    )


def locked(exc: QueryFailed) -> QueryFailed:
    """The error as it should read if a read has failed: only ACCESS EXCLUSIVE locks, held or waited for, stop one."""
    if exc.details.get("sqlstate") != sqlstate.LOCK_NOT_AVAILABLE:
        return exc
    return QueryFailed(
        "A table stays locked",
        why=exc.why,
        remedy="Another session holds, or waits for, an exclusive lock: see pg_locks, wait, or raise lock_timeout.",
        details=exc.details,
    )


def _function(context: str) -> str:
    """The function in which a statement failed, as the server names it; empty if it failed in none.

    In any language of messages such a line names SQL or the PL, unlike "parallel worker" or "while scanning block 1".
    """
    lines = [line.strip() for line in context.splitlines() if "SQL" in line or "PL/" in line]
    return lines[-1][:_LONGEST_CONTEXT] if lines else ""


def database_is_missing(text: str) -> bool:
    """Whether libpq says so: a failed connection has no SQLSTATE. False in another language than English."""
    return "does not exist" in text and "database" in text


def not_connected(subject: str, db: str, user: str, text: str, names: Sequence[str]) -> ConnectionFailed:
    """The error for a failed connection, with the step that helps.

    Args:
        text: as libpq says it.
        names: the databases that the server has, if it could be asked.
    """
    remedy = "Check that the server runs and that login_host, login_port and login_unix_socket are right."
    if "peer" in text.lower():  # the method of pg_hba.conf, in every language
        remedy = f"{_account(user)} Or log in over TCP, with login_host, login_user and login_password."
    elif "socket" in text and "Permission denied" in text:
        remedy = _account(user)
    elif database_is_missing(text):
        near = difflib.get_close_matches(db, names, 1)
        guess = f"Did you mean {near[0]!r}? " if near else ""
        remedy = f"{guess}Check the name in postgres_db (db of the module); names are case-sensitive."
    elif _NO_LIBRARY.search(text):
        remedy = (
            "Install that library on the server, or take it out of session_preload_libraries and "
            "local_preload_libraries: see pg_db_role_setting for the database and the role, and ALTER SYSTEM."
        )
    elif any(word in text for word in ("authentication", "no password supplied", "pg_hba.conf", "role")):
        remedy = "Check login_user and login_password, and pg_hba.conf on the server."
    elif "SSL" in text or "certificate" in text:
        remedy = "Check ssl_mode, ca_cert, ssl_cert and ssl_key, and whether the server offers SSL."
    elif "starting up" in text or "shutting down" in text or "recovery" in text:
        remedy = "Wait until the server accepts connections, then run again."
    return ConnectionFailed("Cannot connect to PostgreSQL", subject=subject, why=" ".join(text.split()), remedy=remedy)


def _account(user: str) -> str:
    """How to become the account that the server lets in as this role."""
    try:
        account = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        account = f"uid {os.geteuid()}"
    return (
        f"The task ran as the account {account}. Set ansible_become: true and ansible_become_user to the account of "
        f"the role {user}, which usually has the same name."
    )
