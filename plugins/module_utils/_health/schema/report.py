# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traits of one database's objects that hurt later: sequences near their end, constraints that do not hold ...

Others check them as well: check_postgres (sequence, disabled_triggers), check_pgactivity (sequences_exhausted), PgHero
(sequence_danger, invalid_constraints, duplicate_indexes). Reading is apart from judging, which is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..._diagnostics.section import Section, by_session
from ..._findings import Finding
from ..._maintenance.reindex import advice, indexes
from ..._postgres.connection import Session
from ..._units import counted
from . import sql
from .judgement import SchemaPlan, judge

__all__ = ["SECTION", "SchemaPlan", "SchemaReport", "collect", "describe"]

_MOST_SEQUENCES = 20_000
_MOST_TABLES = 200
_OF_INDEXES = {
    "index_duplicate": "duplicate_indexes",
    "index_redundant": "redundant_indexes",
    "index_missing_for_key": "keys_without_index",
}


@dataclass(frozen=True)
class SchemaReport:
    """What was read, and what is to be said of it."""

    figures: Mapping[str, object]
    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """For a module's result."""
        return dict(self.figures)


def collect(session: Session, plan: SchemaPlan, now: datetime) -> SchemaReport:
    """Three statements at most. Indexes are read of those tables alone that may have something to say."""
    values = {
        "limit": plan.limit,
        "used_ratio": plan.sequence_used_warning,
        "most_sequences": _MOST_SEQUENCES,
        "min_bytes": plan.index_min_bytes,
        "most_tables": _MOST_TABLES,
    }
    row: Mapping[str, Any] = session.query(sql.SCHEMA, values)[0]._asdict()
    told = _of_indexes(session, row["suspect_tables"], plan)
    figures: dict[str, object] = {
        name: _rounded(value) if name == "fullest_sequences" else value if value is not None else []
        for name, value in row.items()
        if name not in ("suspects", "suspect_tables")
    }
    for check, name in _OF_INDEXES.items():
        found = [each for each in told if each.check == check]
        figures[name] = len(found)
        figures[f"{name}_list"] = [{"name": each.subject, "size_bytes": each.value} for each in found[: plan.limit]]
    return SchemaReport(figures, [*judge(figures, told, plan)], list(_notes(row)))


def _of_indexes(session: Session, tables: Sequence[int], plan: SchemaPlan) -> list[Finding]:
    """What the module of indexes says of these tables, as far as it is about what they are and not about their use."""
    if not tables:
        return []
    known = indexes.read(session, tables=tables)
    keys = indexes.read_keys(session, tables=tables)
    standards = advice.IndexStandards(min_size_bytes=plan.index_min_bytes)
    unknown = indexes.Counted(None, standby=False, replicas=0)
    return [each for each in advice.examine(known, keys, unknown, standards) if each.check in _OF_INDEXES]


def _rounded(rows: Any) -> list[dict[str, object]]:
    return [
        {**each, "last": int(each["last"]), "end": int(each["end"]), "left": int(each["left"])} for each in rows or []
    ]


def _notes(row: Mapping[str, Any]) -> Iterator[str]:
    hidden = row["sequences_hidden"]
    if hidden:
        which = counted(hidden, "sequence")
        yield f"This login may not read {which}, so the check is incomplete: grant it USAGE, or pg_read_all_data."
    if row["sequences"] > _MOST_SEQUENCES:
        yield f"Only the {_MOST_SEQUENCES:,} sequences with the smallest maximum values are checked."
    if row["suspects"] > _MOST_TABLES:
        yield f"Indexes are checked on only the {_MOST_TABLES} largest of {row['suspects']:,} tables that may need it."


def describe(report: SchemaReport) -> str:
    """One sentence for people."""
    figures = report.figures
    bad = [each.message for each in report.findings if each.severity in ("warning", "critical")]
    more = f" And {len(bad) - 2} more." if len(bad) > 2 else ""
    head = f"{counted(int(str(figures['tables'])), 'table')} and {counted(int(str(figures['sequences'])), 'sequence')}."
    return " ".join([head, *bad[:2]]) + more


SECTION = Section("schema", by_session(collect), describe, SchemaPlan())
