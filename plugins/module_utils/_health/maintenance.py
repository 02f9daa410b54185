# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead rows, missing statistics and invalid indexes of one database, by its counters alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._diagnostics.section import Section, by_session
from .._findings import Finding
from .._postgres.connection import Session
from .._units import counted
from . import sql


@dataclass(frozen=True)
class MaintenancePlan:
    """From when on something is too much.

    Attributes:
        dead_rows: fewer dead rows of a table are not judged.
        dead_ratio: share of a table's rows that are dead.
        modified_rows: a table with fewer new rows needs no statistics.
        limit: how many tables and indexes to name.
    """

    dead_rows: int = 10_000
    dead_ratio: float = 0.2
    modified_rows: int = 1000
    limit: int = 10


@dataclass(frozen=True)
class MaintenanceReport:
    """Facts, findings and notes."""

    figures: Mapping[str, object]
    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """For a module's result."""
        return dict(self.figures)


def collect(session: Session, plan: MaintenancePlan, now: datetime) -> MaintenanceReport:
    """One statement, which opens no table."""
    del now
    row = session.query(sql.MAINTENANCE, {"limit": plan.limit, "modified": plan.modified_rows})[0]
    most_dead = [_with_ratio(each) for each in row.most_dead or []]
    figures: dict[str, object] = {
        "tables": row.tables,
        "live_rows": row.live_rows,
        "dead_rows": row.dead_rows,
        "never_analyzed": row.never_analyzed,
        "never_analyzed_tables": row.never_analyzed_tables or [],
        "invalid_indexes": row.invalid_indexes,
        "invalid_index_names": row.invalid_index_names or [],
        "most_dead": most_dead,
    }
    notes = ["Dead rows are counted by the server since its statistics began. Bloat is not measured here."]
    return MaintenanceReport(figures, [*_judge(figures, most_dead, plan)], notes)


def describe(report: MaintenanceReport) -> str:
    """One sentence for people."""
    figures = report.figures
    return (
        f"{counted(_number(figures, 'tables'), 'table')} with {counted(_number(figures, 'dead_rows'), 'dead row')}, "
        f"{figures['never_analyzed']:,} never analyzed, "
        f"{counted(_number(figures, 'invalid_indexes'), 'invalid index', 'invalid indexes')}."
    )


def _number(figures: Mapping[str, object], name: str) -> int:
    return int(str(figures[name]))


def _with_ratio(row: Mapping[str, Any]) -> dict[str, Any]:
    rows = row["live_rows"] + row["dead_rows"]
    found = {**row, "dead_ratio": round(row["dead_rows"] / rows, 4) if rows else 0.0}
    for name in ("last_vacuum_age_s", "last_analyze_age_s"):
        found[name] = None if row[name] is None else round(row[name], 1)
    return found


def _judge(figures: Mapping[str, Any], most_dead: list[dict[str, Any]], plan: MaintenancePlan) -> Iterator[Finding]:
    for each in most_dead:
        if each["dead_rows"] >= plan.dead_rows and each["dead_ratio"] >= plan.dead_ratio:
            yield Finding(
                "maintenance_dead_rows", "warning", each["name"], each["dead_ratio"], plan.dead_ratio,
                f"{each['name']} has {counted(each['dead_rows'], 'dead row')} ({each['dead_ratio']:.0%} of its rows).",
                "Run the playbook godel.postgres_runbook.vacuum.",
            )  # fmt: skip
    if figures["never_analyzed"]:
        first = ", ".join(figures["never_analyzed_tables"][:3])
        yield Finding(
            "maintenance_never_analyzed", "info", first, figures["never_analyzed"], 0,
            f"{counted(figures['never_analyzed'], 'table')} with new rows and no statistics: {first}.",
            "Run the playbook godel.postgres_runbook.analyze.",
        )  # fmt: skip
    if figures["invalid_indexes"]:
        first = ", ".join(figures["invalid_index_names"][:3])
        told = f"{counted(figures['invalid_indexes'], 'invalid index', 'invalid indexes')}: {first}"
        yield Finding(
            "maintenance_invalid_indexes", "warning", first, figures["invalid_indexes"], 0,
            f"{told}. Queries cannot use an invalid index, and writes still update it.",
            "Run the playbook godel.postgres_runbook.reindex.",
        )  # fmt: skip


SECTION = Section("maintenance", by_session(collect), describe, MaintenancePlan())
