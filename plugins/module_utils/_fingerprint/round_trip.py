# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load printed definitions once more and print them again, so that only what differs in meaning stays different.

PostgreSQL prints a definition from its parsed form. Parsed again, that text may get another form of the same meaning:
a literal of an inner query gets its type, nested operators lose brackets, an alias gets the columns that its type has.
The source's text and the copy's go the same way, on the server that holds the copy: parsed as a view, a trigger, a
rule or a function, and printed. Nothing stays, as the transaction is rolled back, and nothing is planned or run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple

from .._errors import QueryFailed
from .._postgres.connection import Session
from .._postgres.statements import compose
from .sql import round_trip as sql
from .sql import schema_words as words

_PASSES = 4


class _Printed(NamedTuple):
    """A text as it came back, and the types of what it returns."""

    text: str
    types: str


class RoundTrip:
    """Compares printed texts in a session that may change the copy; use it as a context manager. Leaves nothing."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._works = False

    def __enter__(self) -> RoundTrip:
        self._session.query("BEGIN READ WRITE")
        try:
            self._session.query(sql.SETTINGS)
            for row in self._session.query(sql.EVENT_TRIGGERS):
                self._session.query(compose("ALTER EVENT TRIGGER {} DISABLE", row.evtname))
            self._works = True
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise  # else this login may not silence them: then texts are compared as they are
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(QueryFailed):
            self._session.query("ROLLBACK")

    def makes_equal(self, carrier: str, one: str, other: str, context: str, definition: Mapping[str, str]) -> bool:
        """Whether two texts are one after the same round trip. What cannot be loaded is not.

        Args:
            carrier: how they are loaded, see `_fingerprint/sql/schema_words.py`.
            context: where an expression is to be read; how a trigger or a rule is dropped; the name of a function.
            definition: the other texts of the object.
        """
        if not self._works:
            return False
        load = self._loader(carrier, context, definition)
        if carrier == words.EXPRESSION:
            one, other = sql.as_query(one, context), sql.as_query(other, context)
        for dummy in range(_PASSES):
            ours, theirs = self._attempt(load, one), self._attempt(load, other)
            if ours is None or theirs is None or ours.types != theirs.types:
                return False
            if ours.text == theirs.text or ours.text == other or theirs.text == one:
                return True
            if (ours.text, theirs.text) == (one, other):
                return False
            one, other = ours.text, theirs.text
        return False

    def _attempt(self, load: Callable[[str], list[_Printed]], text: str) -> _Printed | None:
        self._session.query("SAVEPOINT pg_runbook")
        try:
            rows = load(text)
            return _Printed(_trimmed(rows[0].text), rows[0].types) if len(rows) == 1 else None
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise
            return None
        finally:
            with suppress(QueryFailed):
                self._session.query("ROLLBACK TO SAVEPOINT pg_runbook")

    def _loader(self, carrier: str, context: str, definition: Mapping[str, str]) -> Callable[[str], list[_Printed]]:
        def query(text: str) -> list[_Printed]:
            self._session.query(f"CREATE TEMP VIEW {sql.CARRIER} AS {_trimmed(text)}")
            return self._session.query(sql.VIEW)

        def statement(printed: str) -> Callable[[str], list[_Printed]]:
            def load(text: str) -> list[_Printed]:
                self._session.query(context)
                self._session.query(text)
                return self._session.query(printed, (context,))

            return load

        def function(printed: str, make: Callable[[str], tuple[str, str]]) -> Callable[[str], list[_Printed]]:
            result = definition.get("result")

            def load(text: str) -> list[_Printed]:
                arguments, body = make(text)
                kind, returns = ("FUNCTION", f"RETURNS {result}") if result else ("PROCEDURE", "")
                self._session.query(f"CREATE {kind} pg_temp.{context}({arguments}) {returns} LANGUAGE sql {body}")
                return self._session.query(printed)

            return load

        loaders: Mapping[str, Callable[[str], list[_Printed]]] = {
            words.QUERY: query,
            words.EXPRESSION: query,
            words.TRIGGER: statement(sql.TRIGGER),
            words.RULE: statement(sql.RULE),
            words.ARGUMENTS: function(sql.ARGUMENTS, lambda text: (text, "AS ''")),
            words.BODY: function(sql.BODY, lambda text: (definition.get("arguments", ""), text)),
        }
        return loaders[carrier]


def _trimmed(text: str) -> str:
    return text.strip().removesuffix(";").rstrip()
