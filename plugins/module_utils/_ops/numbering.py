# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequences that stand behind the column that they number: the next insert fails, or takes a number twice."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from .._db import Server, Session
from .._errors import QueryFailed
from .._findings import Finding
from .._sql import sequences as sql

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
            f"Sequence {self.sequence} stands at {self.stands_at}, and {self.relation}.{self.attribute} goes {way} to"
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


def behind(server: Server, db: str) -> list[Behind]:
    """The sequences of a database that stand behind their column, as far as each can be read within a minute."""
    found = []
    with server.connect(db, settings=_SETTINGS) as session:
        for row in session.query(sql.NUMBERED):
            with suppress(QueryFailed):
                found += _behind(session, row.sequence, row.relation, row.attribute, row.increment)
    return found


def _behind(session: Session, sequence: str, relation: str, attribute: str, increment: int) -> list[Behind]:
    statement = sql.BEHIND.format(
        sequence=sequence,
        relation=relation,
        attribute=attribute,
        increment=increment,
        farthest="max" if increment > 0 else "min",
    )
    return [
        Behind(sequence, relation, attribute, increment, row.stands_at, row.goes_to) for row in session.query(statement)
    ]
