# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running procedures, as sessions show them: what runs, since when, and what to do while it does. Pure.

A kind is what `_postgres/sql.py` tells of a session: the first words of its name after `pg_runbook`, or `backup`,
`restore` and `rewrite` for programs of PostgreSQL and others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._units import human_duration

# Procedures that only look at a server: they hold nothing, and are not worth a word.
LOOKS = frozenset(
    [
        *(
            "activity info",
            "backup info",
            "bloat report",
            "disk info",
            "health",
            "index info",
            "log cleanup",
            "query info",
        ),
        *("query stats reset", "replication info", "slot drop", "storage info", "terminate", "wal switch"),
    ]
)
_WAIT = (
    "Wait until it ends. If it has to end earlier, stop its run where it was started: it then cleans up, and its "
    "sessions end with it."
)
_NAMES = {
    "analyze": "An analyze run",
    "backup": "A backup",
    "discard": "A discard of an old database",
    "procedure": "A procedure of this collection",
    "reindex": "A reindex",
    "restore": "A restore",
    "rewrite": "A rewrite by pg_repack",
    "swap": "A swap of databases",
    "vacuum": "A vacuum run",
    "verify": "A verification",
}


def name(kind: str) -> str:
    """The kind as the subject of a sentence."""
    return _NAMES.get(kind, f"The procedure {kind!r} of this collection")


@dataclass(frozen=True)
class RunningProcedure:
    """One procedure that works in one database. `since` and `age_s` are None when the login may not see them."""

    kind: str
    database: str
    since: str | None
    age_s: float | None
    pids: Sequence[int]

    def __str__(self) -> str:
        """What runs since when, without a full stop."""
        where = f" of {self.database!r}" if self.database else " of the cluster"
        since = f"since {self.since}" if self.since else "(this login may not see since when)"
        age = f", {human_duration(self.age_s)}" if self.age_s is not None else ""
        return f"{name(self.kind)}{where} is running {since}{age}"

    @property
    def wait(self) -> str:
        """What to do while it runs."""
        return _WAIT

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "procedure": self.kind,
            "database": self.database,
            "since": self.since,
            "age_s": self.age_s,
            "pids": list(self.pids),
        }


def running(rows: Sequence[Mapping[str, Any]]) -> list[RunningProcedure]:
    """The procedures that these sessions belong to, the oldest first. Rows are as `activity_facts.as_row` has them."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["procedure"], row["database"]), []).append(row)
    found = []
    for (kind, database), sessions in groups.items():
        starts = [row["backend_start"] for row in sessions if row["backend_start"]]
        ages = [row["session_age_s"] for row in sessions if row["session_age_s"] is not None]
        since = min(starts, default=None)
        found.append(
            RunningProcedure(
                kind=kind,
                database=database,
                since=f"{since[:19]}Z" if since else None,
                age_s=max(ages, default=None),
                pids=sorted(row["pid"] for row in sessions),
            )
        )
    return sorted(found, key=lambda each: (each.since or "", each.kind, each.database))
