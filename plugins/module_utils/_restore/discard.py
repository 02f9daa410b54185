# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop the databases that restores have replaced, once their time is over, and the stages of interrupted runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from .._errors import QueryFailed
from .._load import databases
from .._load.databases import Database
from .._postgres.connection import Server
from .._units import from_rfc3339
from . import waits
from .plan import DiscardPlan


@dataclass(frozen=True)
class Discarded:
    """What became of the databases beside production.

    Attributes:
        dropped: their names.
        kept: those that stay for now; the mark of each says until when.
        notes: sentences on those that are marked, and were renamed.
        failures: why others could not be dropped.
    """

    dropped: Sequence[str]
    kept: Sequence[Database]
    notes: Sequence[str]
    failures: Sequence[str] = ()

    def kept_values(self) -> list[dict[str, object]]:
        """The databases that stay, for a module's result."""
        return [
            {
                "name": item.name,
                "state": item.mark.state if item.mark else None,
                "keep_until": item.mark.keep_until if item.mark else None,
            }
            for item in self.kept
        ]

    def message(self) -> str:
        """What was dropped, and what is kept and until when, for people."""
        said = [f"Dropped: {', '.join(self.dropped)}." if self.dropped else "No database was dropped."]
        for item in self.kept:
            said.append(_why_kept(item))
        if not self.dropped and not self.kept:
            said = ["There is no previous database to drop."]
        return " ".join([*said, *self.notes])


def discard(server: Server, plan: DiscardPlan, now: datetime) -> Discarded:
    """Drop what was replaced, once its time is over, and stages that died; or at once all that is not in production."""
    with (
        databases.connect_admin(server) as session,
        databases.exclusive_lock(session, plan.db),
        waits.bounded(server, session),
    ):
        beside = databases.find_marked(session, plan.db, "staging", "loaded", "replaced", "staged")
        chosen = [item for item in beside if not plan.due_only or _is_due(item, now)]
        notes = databases.renamed(session, plan.db)
        dropped, failures = [], []
        for item in chosen:
            try:
                databases.drop(session, item.name)
                dropped.append(item.name)
            except QueryFailed as exc:
                if exc.details.get("lost"):
                    raise
                failures.append(f"{item.name} could not be dropped: {exc.why}.")
        return Discarded(dropped, [item for item in beside if item not in chosen], notes, failures)


def _why_kept(item: Database) -> str:
    mark = item.mark
    if mark and mark.keep_until:
        return f"{item.name} is kept until {mark.keep_until}."
    done = "was staged but is not in production"
    if mark and mark.state == "loaded":
        done = f"is loaded but not verified; the next restore of {mark.backup} continues with it"
    return f"{item.name} {done}; restore_discard_due_only=false drops it."


def _is_due(item: Database, now: datetime) -> bool:
    mark = item.mark
    if mark is None or mark.state == "staging":
        return mark is not None
    return mark.state == "replaced" and mark.keep_until is not None and from_rfc3339(mark.keep_until) <= now
