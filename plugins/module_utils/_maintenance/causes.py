# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed statement has really met.

An SQLSTATE alone is no cause. ANALYZE, REINDEX and VACUUM FULL call the functions of indexes and of statistics, which
can fail with any of them: 42P01 may be a table that such a function does not find, since these commands run with the
search_path pg_catalog, pg_temp (PostgreSQL 17: https://www.postgresql.org/docs/17/release-17.html#RELEASE-17-MIGRATION).
Therefore the catalogs and pg_locks are asked; what they do not confirm is reported with the server's own reason.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._errors import RunbookError
from .._postgres import sqlstate
from .._postgres.connection import Session
from . import sql

BLOCK_VACUUM = (
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
BLOCK_REWRITE = ("AccessShareLock", "RowShareLock", "RowExclusiveLock", *BLOCK_VACUUM)
_SAFE_SEARCH_PATH = 170000
# What a name that the search_path does not lead to ends in: of a schema, a table, a function, an operator or a type.
_NOT_FOUND = (
    sqlstate.INVALID_SCHEMA_NAME,
    sqlstate.UNDEFINED_TABLE,
    sqlstate.UNDEFINED_FUNCTION,
    sqlstate.UNDEFINED_OBJECT,
)


def state_of(exc: RunbookError) -> str:
    """The SQLSTATE, or nothing where a function of the database chose it: RAISE may take any."""
    return "" if exc.details.get("raised") else str(exc.details.get("sqlstate") or "")


def in_function(exc: RunbookError) -> bool:
    """Whether the statement failed in a function that it had called."""
    return bool(exc.details.get("context"))


def reason(exc: RunbookError) -> str:
    """The server's reason, and the function in which it failed; without a full stop."""
    text = (exc.why or exc.message).rstrip(".")
    context = exc.details.get("context")
    return f"{text} (in {context})" if context else text


def remedy(exc: RunbookError, server_version: int) -> str:
    """The next step, where the failure tells one."""
    if in_function(exc) and server_version >= _SAFE_SEARCH_PATH and exc.details.get("sqlstate") in _NOT_FOUND:
        return (
            "Since PostgreSQL 17 maintenance commands run with the search_path pg_catalog, pg_temp. Write schema-"
            "qualified names in the function, or set its search_path: ALTER FUNCTION ... SET search_path = ..."
        )
    return exc.remedy


def absent(session: Session, oid: int, schema: str, name: str) -> str:
    """Why a relation is not there any more under its name, as a sentence without a full stop; empty if it is there."""
    rows = session.query(sql.RELATION, {"oid": oid, "schema": schema, "name": name})
    same = next((row for row in rows if row.same), None)
    if same is not None:
        return "" if same.named else f"it was renamed to {same.identity} in the meantime"
    return "another one with the same name replaced it" if rows else "it was dropped in the meantime"


def asked_for(names: Sequence[str], schema: str, name: str) -> bool:
    """Whether a relation is one of those that were named, as `name` or `schema.name`."""
    return name in names or f"{schema}.{name}" in names


def holders(session: Session, oid: int, modes: Sequence[str] = BLOCK_VACUUM) -> str:
    """Who holds a lock of these modes on a table, three at most; empty if no session does."""
    rows = session.query(sql.LOCKED_BY, {"oid": oid, "modes": list(modes)})
    return "; ".join(row[0] for row in rows[:3])


def counts(session: Session) -> bool:
    """Whether the server counts what VACUUM and ANALYZE do (track_counts)."""
    return bool(session.value(sql.COUNTS))
