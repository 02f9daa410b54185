# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of psycopg2 for statements, as the errors of the collection."""

from __future__ import annotations

from .._errors import QueryFailed
from . import sqlstate

_LONGEST_CONTEXT = 300
# The server's C functions by which code in a database raises an error with an SQLSTATE of its own choice.
_RAISING = ("exec_stmt_raise", "exec_stmt_assert", "PLy_elog_impl", "PLy_elog", "PLy_output")
# The server's C functions that end a statement or a session on a standby because it conflicts with replay: up to 16,
# from 17 on, and for a deadlock with replay.
_FOR_REPLAY = ("ProcessInterrupts", "ProcessRecoveryConflictInterrupt", "CheckRecoveryConflictDeadlock")
_REPLAY_STATES = (sqlstate.SERIALIZATION_FAILURE, sqlstate.DEADLOCK_DETECTED)
_REMEDIES = {
    sqlstate.CHARACTER_NOT_IN_REPERTOIRE: "A name in a database of the encoding SQL_ASCII is not UTF-8: rename it.",
    sqlstate.SERIALIZATION_FAILURE: (
        "On a standby, replay conflicted with the statement: run it on the primary, or set"
        " hot_standby_feedback or a longer max_standby_streaming_delay on the standby."
    ),
    sqlstate.INSUFFICIENT_PRIVILEGE: (
        "Log in as the owner or as a superuser, or GRANT the login what is missing. From PostgreSQL 17 on,"
        " MAINTAIN is enough for VACUUM, ANALYZE and REINDEX."
    ),
    sqlstate.OUT_OF_MEMORY: (
        "The server is short of memory or of locks. For locks, raise max_locks_per_transaction (needs a restart)."
    ),
    sqlstate.TOO_MANY_CONNECTIONS: "The server has too few connections: lower jobs.",
    sqlstate.QUERY_CANCELED: (
        "If no session cancelled it, it took longer than statement_timeout: see pg_locks, or raise the timeout."
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
    function = getattr(diagnostics, "source_function", None)
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
            "raised": function in _RAISING,
            "conflict": code in _REPLAY_STATES and function in _FOR_REPLAY,
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
