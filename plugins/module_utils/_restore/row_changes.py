# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables a restore would change, by counting the rows of production, which works meanwhile: for a short time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from .._errors import ConnectionFailed, QueryFailed
from .._fingerprint.figures import Fingerprint
from .._fingerprint.sql import content as sql
from .._postgres.connection import Server

_IN_ALL_S = 60.0
_EACH_S = 20.0
_SETTINGS = {
    "search_path": "",
    "row_security": "off",
    "lock_timeout": "2s",
    "max_parallel_workers_per_gather": "0",
}
_NAMED = 5


@dataclass(frozen=True)
class RowChange:
    """A table whose number of rows the restore would change; None for none of the kind."""

    table: str
    now: int | None
    restored: int | None


def find(server: Server, db: str, source: Fingerprint | None, notes: list[str]) -> list[RowChange]:
    """The tables whose number of rows differs now. Counting does not show rows that were only updated.

    `notes` names the tables that cannot be counted in time.
    """
    if source is None:
        return []
    try:
        now = _count(server, db)
    except (QueryFailed, ConnectionFailed) as exc:
        notes.append(f"The rows of production could not be counted: {exc.why}")
        return []
    uncounted = [name for name, rows in now.items() if rows is None]
    if uncounted:
        more = f" and {len(uncounted) - _NAMED} more" if len(uncounted) > _NAMED else ""
        notes.append(
            f"The rows of these production tables were not counted because the tables are locked or large: "
            f"{', '.join(uncounted[:_NAMED])}{more}."
        )
    found = []
    for name in sorted(now.keys() | source.tables.keys()):
        restored = source.tables[name].rows if name in source.tables else None
        if name in now and now[name] is None:
            continue
        if now.get(name) != restored:
            found.append(RowChange(name, now.get(name), restored))
    return found


def _count(server: Server, db: str) -> Mapping[str, int | None]:
    """The rows of each table, the small ones first; None where there was no time, or a session has it locked."""
    deadline = time.monotonic() + _IN_ALL_S
    found: dict[str, int | None] = {}
    with server.connect(db, settings=_SETTINGS, timeout_s=_EACH_S) as session:
        for row in reversed(session.query(sql.TABLES)):
            name = row.counts_for or row.identity
            before = found.get(name, 0)
            rows = None
            if before is not None and time.monotonic() < deadline:
                try:
                    # A name that the server has quoted, and what an extension gave pg_dump to select its rows by.
                    rows = session.value(f"SELECT count(*) FROM ONLY {row.identity} AS t {row.condition}")  # noqa: S608
                except QueryFailed as exc:
                    if exc.details.get("lost"):
                        raise
            found[name] = None if before is None or rows is None else before + rows
    return found
