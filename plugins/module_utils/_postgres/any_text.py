# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts from a server that need not be UTF-8, as names in the shared catalogs: they come as bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

with suppress(ImportError):  # _db says that it is missing
    import psycopg2.extensions

_JSON = (114, 3802)  # json and jsonb, by their oids in pg_type


def as_bytes(connection: Any) -> None:
    """Let texts of this connection come as their bytes: one name that is not UTF-8 would spoil the whole answer."""
    psycopg2.extensions.register_type(psycopg2.extensions.BYTES, connection)
    psycopg2.extensions.register_type(psycopg2.extensions.BYTESARRAY, connection)
    connection.string_types.update(dict.fromkeys(_JSON, psycopg2.extensions.BYTES))


def readable(rows: Sequence[Any], columns: Sequence[Any] | None) -> list[Any]:
    """The rows, with texts in place of their bytes."""
    kinds = [column.type_code for column in columns or ()]
    return [row._make(_text(value, kind) for value, kind in zip(row, kinds)) for row in rows]


def _text(value: Any, kind: int) -> Any:
    if isinstance(value, list):
        return [_text(each, kind) for each in value]
    if not isinstance(value, bytes):  # a bytea is a memoryview
        return value
    text = value.decode("utf-8", "replace")
    return json.loads(text) if kind in _JSON else text


def escaped(value: Any) -> Any:
    """A text from its bytes; those that cannot be read come as lone surrogates, and can be encoded again."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
