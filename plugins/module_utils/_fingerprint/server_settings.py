# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the settings of a server that the content of a database can depend on."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from .._errors import QueryFailed
from .._postgres.connection import Session
from .._postgres.sql import IS_SUPERUSER
from .sql import server_settings as sql

_OURS = "pg_runbook."
_ELEMENT = re.compile(r'"((?:[^"]|"")*)"|[^\s,]+')


def read(session: Session) -> dict[str, Any]:
    """The fields `server_settings`, `start_settings` and `preloaded` of `SourceDatabase`.

    Needs a session of its own: a login that lacks a privilege makes single statements fail, and they are left out.
    """
    known = session.query(sql.KNOWN, {"content": list(sql.CONTENT)})
    found: dict[str, str] = {row.name: row.value for row in known if not row.at_start}
    if session.value(IS_SUPERUSER):
        for statement in (sql.IN_FILES, sql.ON_THE_COMMAND_LINE):
            with suppress(QueryFailed):
                found.update({row.name: row.value for row in session.query(statement) if row.value is not None})
    told = session.query(sql.PRELOADED)
    return {
        "server_settings": {name: value for name, value in found.items() if not name.startswith(_OURS)},
        "start_settings": {row.name: row.value for row in known if row.at_start},
        "preloaded": libraries(told[0].setting if told else ""),
    }


def libraries(value: str) -> list[str]:
    """The names in a list such as shared_preload_libraries, of which some are quoted."""
    return [
        match[0] if match[1] is None else match[1].replace('""', '"') for match in _ELEMENT.finditer(value) if match[0]
    ]
