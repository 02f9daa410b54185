# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report a database's bloat: survey it, examine each relation, keep the worst."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._errors import InvalidInput
from ..._findings import SEVERITIES, Finding, judged
from ..._plan import Plan
from ..._postgres.connection import Server, Session
from ..._units import counted, human_size
from . import advice, sql
from .advice import Thresholds
from .relation import Relation
from .survey import Scope, survey

_MOST_FINDINGS = 100
_ORDERS: dict[str, Callable[[Relation], float]] = {
    "bloat_bytes": lambda each: each.bloat_bytes or 0,
    "bloat_ratio": lambda each: each.bloat_ratio or 0.0,
    "size_bytes": lambda each: each.size_bytes,
    "dead_tuples": lambda each: each.dead_tuples or 0,
    "freeze_age": lambda each: each.freeze_age or 0,
}
ORDERS = tuple(_ORDERS)


@dataclass(frozen=True)
class BloatReportPlan(Plan):
    """What to report.

    Attributes:
        schemas, tables, min_size_bytes: which relations, see `Scope`.
        measure_budget_s: how long measuring may take in all; 0 for estimates only.
        measure_bytes: how much of the relations measuring may read in all.
        min_bloat_ratio, min_bloat_bytes, min_dead_ratio: see `Thresholds`.
        sort: the figure by which the worst are chosen.
        top: how many relations to list; 0 for all.
    """

    db: str
    schemas: Sequence[str]
    tables: Sequence[str]
    min_size_bytes: int
    measure_budget_s: float
    measure_bytes: int
    min_bloat_ratio: float
    min_bloat_bytes: int
    min_dead_ratio: float
    sort: str = "bloat_bytes"
    top: int = 100


@dataclass
class Totals:
    """Sums over all relations of the scope, listed or not."""

    relations: int = 0
    measured: int = 0
    unknown: int = 0
    size_bytes: int = 0
    bloat_bytes: int = 0

    def add(self, relation: Relation) -> None:
        """Count one."""
        self.relations += 1
        self.measured += relation.method not in ("estimate", "none")
        self.unknown += relation.bloat_bytes is None
        self.size_bytes += relation.size_bytes
        self.bloat_bytes += relation.bloat_bytes or 0


@dataclass(frozen=True)
class BloatReport:
    """The worst relations first, the sums of all, and what is to be done."""

    relations: list[Relation]
    totals: Totals
    findings: list[Finding] = field(default_factory=list)

    def as_result(self) -> dict[str, Any]:
        """The return values of the module."""
        return {
            "relations": [relation.as_dict() for relation in self.relations],
            "totals": vars(self.totals),
            **judged(self.findings),
            "msg": _describe(self),
        }


def report(server: Server, plan: BloatReportPlan) -> BloatReport:
    """Survey and examine. Read-only.

    Raises:
        InvalidInput: a schema or table of the scope does not exist.
        QueryFailed: the server went away, or does not let the login read the catalogs.
    """
    totals = Totals()
    key = _ORDERS[plan.sort]
    listed: list[tuple[Any, int, Relation]] = []
    found: list[tuple[int, int, int, Finding]] = []
    with server.connect(plan.db) as session:
        scope = Scope(plan.schemas, plan.tables, plan.min_size_bytes)
        _check_names(session, scope)
        max_age = int(session.value("SELECT pg_catalog.current_setting('autovacuum_freeze_max_age')"))
        limits = Thresholds(plan.min_bloat_ratio, plan.min_bloat_bytes, plan.min_dead_ratio, freeze_max_age=max_age)
        relations = survey(session, scope, measure_budget_s=plan.measure_budget_s, measure_bytes=plan.measure_bytes)
        for each in relations:
            relation = advice.advise(each, limits)
            totals.add(relation)
            _keep(listed, (key(relation), -totals.relations, relation), plan.top)
            finding = advice.finding(relation, limits)
            if finding is not None:
                weight = (SEVERITIES.index(finding.severity), relation.bloat_bytes or relation.size_bytes)
                _keep(found, (*weight, -totals.relations, finding), _MOST_FINDINGS)
    return BloatReport(
        [relation for *dummy, relation in sorted(listed, key=lambda each: each[:2], reverse=True)],
        totals,
        [finding for *dummy, finding in sorted(found, key=lambda each: each[:3], reverse=True)],
    )


def _keep(heap: list[Any], item: tuple[Any, ...], most: int) -> None:
    """Keep the largest; the number of the relation makes every item different from all others."""
    heapq.heappush(heap, item)
    if most and len(heap) > most:
        heapq.heappop(heap)


def _check_names(session: Session, scope: Scope) -> None:
    for statement, names, what in (
        (sql.MISSING_SCHEMAS, scope.schemas, "schema"),
        (sql.MISSING_TABLES, scope.tables, "table"),
    ):
        missing = [row[0] for row in session.query(statement, (list(names),))] if names else []
        if missing:
            raise InvalidInput(
                f"{what.capitalize()} not found",
                subject=", ".join(map(repr, missing)),
                remedy="Names are case-sensitive; write them without quotes.",
            )


def _describe(report_: BloatReport) -> str:
    totals = report_.totals
    noun = "relation" if totals.relations == 1 else "relations"
    text = (
        f"{totals.relations:,} {noun}, {human_size(totals.size_bytes)}: "
        f"rewriting all of them would free {human_size(totals.bloat_bytes)}."
    )
    if totals.unknown:
        text += f" The bloat of {counted(totals.unknown, 'relation')} is unknown."
    worst_one = report_.findings[0] if report_.findings else None
    return text + (f" {worst_one.message}" if worst_one else " No problems found.")
