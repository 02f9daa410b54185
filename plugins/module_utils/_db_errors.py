# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What psycopg2 raises, as the errors of the collection."""

from __future__ import annotations

from ._errors import QueryFailed

_LONGEST_CONTEXT = 300
# The server's C functions by which code in a database raises an error with an SQLSTATE of its own choice.
_RAISING = ("exec_stmt_raise", "exec_stmt_assert", "PLy_elog_impl", "PLy_elog", "PLy_output")
# By SQLSTATE. https://www.postgresql.org/docs/current/errcodes-appendix.html
_REMEDIES = {
    "22021": "A name in a database of the encoding SQL_ASCII is not UTF-8: rename it.",
    "42501": "Give the login the right, or use another login.",
    "53200": "The server is short of memory, or of locks: then raise max_locks_per_transaction (needs a restart).",
    "53300": "The server has too few connections: lower jobs.",
    "57014": "If no session cancelled it, it took longer than statement_timeout: see pg_locks, or raise that.",
    "55P03": "It waited for a lock for longer than lock_timeout: see pg_locks, wait, or raise lock_timeout.",
}


def refused(exc: Exception) -> QueryFailed:
    """The error for what psycopg2 has raised for a statement (a `psycopg2.Error`)."""
    diagnostics = getattr(exc, "diag", None)
    code: str = getattr(exc, "pgcode", None) or ""
    primary = getattr(diagnostics, "message_primary", None) or str(exc).strip() or type(exc).__name__
    hint = getattr(diagnostics, "message_hint", None)
    # 25P03, 25P04: a transaction was idle, or took, for longer than a setting of the server allows.
    lost = not code or code.startswith(("57P", "08", "25P03", "25P04"))
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


def _function(context: str) -> str:
    """The function in which a statement failed, as the server names it; empty if it failed in none.

    In any language of messages such a line names SQL or the PL, unlike "parallel worker" or "while scanning block 1".
    """
    lines = [line.strip() for line in context.splitlines() if "SQL" in line or "PL/" in line]
    return lines[-1][:_LONGEST_CONTEXT] if lines else ""
