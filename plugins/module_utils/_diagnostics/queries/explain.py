# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generic plans of counted statements. Their texts come from other roles: unsafe ones are left out.

EXPLAIN without ANALYZE executes nothing, but planning may call functions that are not volatile, with the rights of this
login; and a text with a second statement in it would run that. Neither is left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..._errors import QueryFailed
from ..._postgres.connection import Session
from ..._postgres.query_texts import is_planned
from . import sql
from .statistics import Query, StatisticsFacts

_FIRST_MAJOR = 16  # https://www.postgresql.org/docs/16/release-16.html: EXPLAIN (GENERIC_PLAN)


@dataclass(frozen=True)
class Explained:
    """The plan of one statement, or why there is none."""

    query: Query
    plan: Sequence[str]
    why: str

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "queryid": self.query.queryid,
            "query": self.query.text,
            "plan": list(self.plan),
            "why": self.why,
        }


def explain(
    session: Session, facts: StatisticsFacts, queries: Sequence[Query], timeout_ms: int
) -> tuple[list[Explained], list[str]]:
    """The generic plans of statements of this database, and notes on all of them."""
    if facts.server_major < _FIRST_MAJOR:
        return [], [
            f"PostgreSQL {facts.server_major} cannot explain a statement without its parameters: 16 or later is needed."
        ]
    foreign = session.query(sql.FOREIGN_FUNCTIONS)
    if foreign:
        note = (
            "No query was explained: planning may call functions with the privileges of this login, and this database"
            f" has functions that belong neither to the login nor to a superuser, for example {foreign[0].name}."
            " To explain queries, log in as their owner."
        )
        return [], [note]
    explained = []
    for query in queries:
        reason = left_out(query, facts)
        explained.append(Explained(query, [], reason) if reason else _explained(session, query, timeout_ms))
    return explained, []


def left_out(query: Query, facts: StatisticsFacts) -> str:
    """Why a statement must not be explained; empty when it may."""
    text = query.text or ""
    if query.queryid is None or not text:
        return "Its text is unknown."
    if query.database != facts.database:
        return "It belongs to another database."
    if query.cut:
        return "Its text is longer than query_length."
    if ";" in text:  # with none there is one statement at most, whatever the quotes mean to the server
        return "Its text contains a semicolon, which might begin a second statement."
    if not is_planned(text):
        return "It has no plan."
    return ""


def _explained(session: Session, query: Query, timeout_ms: int) -> Explained:
    session.query("BEGIN TRANSACTION READ ONLY")
    try:
        session.query(f"SET LOCAL statement_timeout = {timeout_ms}")
        session.query("SET LOCAL lock_timeout = 1000")
        rows = session.query(f"EXPLAIN (GENERIC_PLAN) {query.text}")
        return Explained(query, [str(row[0]) for row in rows], "")
    except QueryFailed as exc:
        if exc.details["lost"]:
            raise
        return Explained(query, [], f"The server cannot plan it: {exc.why}.")
    finally:
        _roll_back(session)


def _roll_back(session: Session) -> None:
    try:
        session.query("ROLLBACK")
    except QueryFailed as exc:
        if not exc.details["lost"]:  # then the transaction has ended as well
            raise
