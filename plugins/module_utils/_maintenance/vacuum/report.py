# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a run of VACUUM beside the states of its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..._findings import Finding
from ..._units import human_duration, human_size
from ..outcome import RunReport, Words
from ..work import WorkLoop
from . import xmin_horizon
from .plan import VacuumPlan
from .tables import VacuumItem, VacuumState
from .xmin_horizon import XminHolder

WORDS = Words("VACUUM", "vacuum", "table", "tables", "vacuumed", tells_skipped=False)


@dataclass
class VacuumRecord:
    """What a run learns beside the states of its tables.

    Attributes:
        held: for each holder of dead rows, the tables and how many rows.
        cleaned: the tables from which leftovers of an interrupted pg_repack were dropped.
        wraparound: findings on databases that near it.
        rejuvenated: how much younger a database that neared wraparound has become, as a part of a sentence; else empty.
        ages: of the database, when the run has ended.
        examined: how many tables were looked at.
    """

    held: dict[XminHolder, dict[str, int]] = field(default_factory=dict)
    cleaned: list[str] = field(default_factory=list)
    wraparound: list[Finding] = field(default_factory=list)
    rejuvenated: str = ""
    ages: dict[str, int] = field(default_factory=dict)
    examined: int = 0

    def hold(self, holder: XminHolder, table: str, dead: int) -> None:
        """Note that these dead rows cannot be removed."""
        known = next((each for each in self.held if each.identity == holder.identity), holder)
        self.held.setdefault(known, {})[table] = dead


def report(work: WorkLoop, plan: VacuumPlan, items: Sequence[VacuumItem], record: VacuumRecord) -> RunReport:
    """The report."""
    freed = sum(each.facts.freed_bytes for each in items)
    found = RunReport(items, examined=record.examined, explicit=bool(plan.tables))
    found.changed = bool(record.cleaned or record.rejuvenated)
    found.values = {"freed_bytes": freed, "cleaned": record.cleaned, **record.ages}
    holders = ((each, sorted(rows), sum(rows.values())) for each, rows in record.held.items())
    found.findings = [*(xmin_horizon.finding(*each) for each in holders), *record.wraparound]
    if freed:
        found.details.append(f"{human_size(freed)} freed")
    if record.cleaned:
        found.details.append(f"leftovers of pg_repack dropped from {', '.join(record.cleaned)}")
    predicted = sum(each.facts.predicted_lock_s or 0 for each in items if each.state == "due")
    if work.check_mode and predicted:
        found.details.append(f"locked for a predicted {human_duration(predicted)} in all")
    if record.rejuvenated:
        found.sentences.append(f"{record.rejuvenated[0].upper()}{record.rejuvenated[1:]}.")
    found.sentences += [each.message for each in record.wraparound if each.severity != "info"]
    for each in items:
        if each.facts.before and (each.changed or each.state in ("due", "done")):
            found.before.append(f"{each.name}: {_describe(each.facts.before)}")
            found.after.append(f"{each.name}: {_describe(each.facts.after) if each.facts.after else each.facts.action}")
    return found


def _describe(state: VacuumState) -> str:
    return f"{human_size(state.total_bytes)}, {state.dead_tuples:,} dead rows"
