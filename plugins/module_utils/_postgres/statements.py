# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that are put together: quoted names and strings, settings, several statements as one text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # _db says that it is missing
    from psycopg2 import sql


def compose(template: str, *identifiers: str, **literals: str) -> Any:
    """A statement with quoted names for its `{}` and quoted strings for its `{word}`; for what cannot be bound."""
    values = {word: sql.Literal(value) for word, value in literals.items()}
    return sql.SQL(template).format(*(sql.Identifier(name) for name in identifiers), **values)


def local_settings(settings: Mapping[str, str]) -> Any:
    values = (f"pg_catalog.set_config({{{at}}}, {{{at + 1}}}, true)" for at in range(0, 2 * len(settings), 2))
    words = (sql.Literal(word) for pair in settings.items() for word in pair)
    return sql.SQL(f"SELECT {', '.join(values)};\n").format(*words)


def with_values(statement: Any, connection: Any) -> Any:
    """The statement as it has to be when values are bound to it: a per cent sign in a name is two then."""
    if not isinstance(statement, sql.Composed):
        return statement
    return sql.Composed(
        part if isinstance(part, sql.SQL) else sql.SQL(part.as_string(connection).replace("%", "%%"))
        for part in statement.seq
    )


def together(statements: Sequence[Any]) -> Any:
    """Several statements as one text, which takes one way to the server and back."""
    return sql.SQL("; ").join(statements)
