# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences that are behind the column that they number: the next insert fails, or uses a number twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .._errors import QueryFailed
from .._findings import Finding
from .._postgres.connection import Server, Session
from . import sql

_AT_ONCE = 100
_SETTINGS = {"search_path": "", "statement_timeout": "60000"}


@dataclass(frozen=True)
class Behind:
    """A sequence, where it stands, and its column with the end that it goes to. Names are qualified and quoted."""

    sequence: str
    relation: str
    attribute: str
    increment: int
    stands_at: int
    goes_to: object

    def __str__(self) -> str:
        way = "up" if self.increment > 0 else "down"
        return (
            f"Sequence {self.sequence} is at {self.stands_at}, but {self.relation}.{self.attribute} goes {way} to"
            f" {self.goes_to}: the next insert fails, or uses a number twice"
        )

    def finding(self) -> Finding:
        """As a finding."""
        farthest = "max" if self.increment > 0 else "min"
        name = self.sequence.replace("'", "''")
        return Finding(
            check="sequence_position",
            severity="warning",
            subject=self.sequence,
            value=self.stands_at,
            threshold=str(self.goes_to),
            message=f"{self}.",
            remedy=f"SELECT pg_catalog.setval('{name}', (SELECT {farthest}({self.attribute}) FROM {self.relation}));",  # noqa: S608  # a text for people
        )


def behind(server: Server, db: str, *, only_indexed: bool) -> list[Behind]:
    """The sequences of a database that are behind their column, as far as each can be read within a minute.

    Args:
        only_indexed: leave out columns for which the whole table would have to be read.
    """
    found: list[Behind] = []
    with server.connect(db, settings=_SETTINGS) as session:
        rows = [row for row in session.query(sql.NUMBERED) if row.indexed or not only_indexed]
        for at in range(0, len(rows), _AT_ONCE):
            part = rows[at : at + _AT_ONCE]
            try:
                found += _behind(session, part)
            except QueryFailed:  # one of them cannot be read, or all together take too long
                for row in part:
                    with suppress(QueryFailed):
                        found += _behind(session, [row])
    return found


def _behind(session: Session, rows: Sequence[Any]) -> list[Behind]:
    statements = [
        sql.BEHIND.format(
            number=number,
            sequence=row.sequence,
            relation=row.relation,
            attribute=row.attribute,
            increment=row.increment,
            farthest="max" if row.increment > 0 else "min",
        )
        for number, row in enumerate(rows)
    ]
    return [
        Behind(
            rows[each.number].sequence,
            rows[each.number].relation,
            rows[each.number].attribute,
            rows[each.number].increment,
            each.stands_at,
            each.goes_to,
        )
        for each in session.query(" UNION ALL ".join(statements))
    ]
