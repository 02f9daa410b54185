# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rewriting bloated tables: which, how long they will be locked, and whether a copy fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..._postgres import directories
from ..._postgres.connection import Session
from ..._target.base import Target
from ..._units import human_size
from ..bloat.relation import Relation
from ..bloat.survey import Scope, survey
from . import sql
from .plan import VacuumPlan
from .tables import BLOAT, VacuumItem, VacuumState, VacuumTable, VacuumTask, item

# Bytes of the new table with its indexes in a second, before this run has measured its own. A moderate server's.
_ASSUMED_RATE = 40 * 1024**2
_MEASURABLE_S = 0.5  # what takes less says nothing about a rate
_ROOM = 1.1
_TRUSTED = ("high", "medium")  # no table is locked for a guess


@dataclass
class _Sum:
    """Relations together. `dead_bytes` of the bloat are of rows that no VACUUM has removed yet."""

    size_bytes: int = 0
    bloat_bytes: int = 0
    dead_bytes: int = 0
    unknown: bool = False

    def add(self, relation: Relation) -> None:
        """Add one more; what is not known well enough has no bloat."""
        known = relation.bloat_bytes if relation.confidence in _TRUSTED else None
        self.size_bytes += relation.size_bytes
        self.bloat_bytes += known or 0
        self.dead_bytes += min(known or 0, _dead_bytes(relation))
        self.unknown |= known is None and relation.size_bytes > 0

    def worth(self, plan: VacuumPlan, bloat_bytes: int) -> bool:
        """Whether so much of it is worth a rewrite."""
        enough = bloat_bytes > 0 and bloat_bytes >= plan.min_bloat_bytes
        return enough and bloat_bytes >= plan.min_bloat_ratio * self.size_bytes


@dataclass
class _ExaminedTable:
    """A table with its TOAST, by which a rewrite is chosen, and its indexes, which REINDEX can do without the lock."""

    own: _Sum = field(default_factory=_Sum)
    indexes: _Sum = field(default_factory=_Sum)


def choose(
    session: Session, plan: VacuumPlan, found: Sequence[VacuumTable], explicit: frozenset[int], notes: list[str]
) -> list[VacuumItem]:
    """The tables that a rewrite would make smaller, by as much as is asked for; the largest gain first."""
    sums: dict[tuple[str, str], _ExaminedTable] = {}
    scope = Scope(
        schemas=sorted({table.schema for table in found}) if explicit or plan.schemas else (),
        tables=[table.title for table in found] if explicit else (),
    )
    for relation in survey(session, scope, measure_budget_s=plan.measure_budget_s, measure_bytes=plan.measure_bytes):
        examined = sums.setdefault((relation.schema, relation.table), _ExaminedTable())
        (examined.indexes if relation.kind == "index" else examined.own).add(relation)
    items, unknown, indexed = [], [], []
    for table in found:
        examined = sums.get((table.schema, table.name), _ExaminedTable())
        own, indexes = examined.own, examined.indexes
        if own.worth(plan, own.bloat_bytes):
            items.append(_item(table, examined, plan, explicit=table.oid in explicit))
            continue
        if own.unknown and own.size_bytes >= plan.min_bloat_bytes:
            unknown.append(table.title)
        if indexes.worth(plan, indexes.bloat_bytes):
            indexed.append(f"{table.title} ({human_size(indexes.bloat_bytes)})")
    if unknown:
        notes.append(
            f"The bloat of these tables is not known well enough to rewrite them: {_some(unknown)}."
            " The playbook godel.postgres_runbook.bloat_report shows why."
        )
    if indexed:
        notes.append(
            f"The indexes of these tables waste space, but the tables do not: {_some(indexed)}."
            " The playbook godel.postgres_runbook.reindex frees it without locking them."
        )
    return sorted(items, key=lambda each: (-each.facts.gain_bytes, each.name))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _item(table: VacuumTable, examined: _ExaminedTable, plan: VacuumPlan, *, explicit: bool) -> VacuumItem:
    own, indexes = examined.own, examined.indexes
    share = own.bloat_bytes / own.size_bytes if own.size_bytes else 0.0
    why = f"a rewrite would free about {human_size(own.bloat_bytes)}, {share:.0%} of it"
    why += ", and there may be more" if own.unknown else ""
    why += f"; and {human_size(indexes.bloat_bytes)} of its indexes" if indexes.bloat_bytes else ""
    found = item(table, plan, BLOAT, why, explicit=explicit)
    facts = replace(
        found.facts,
        gain_bytes=own.bloat_bytes + indexes.bloat_bytes,
        size_bytes=own.size_bytes + indexes.size_bytes,
        gain_is_certain=own.worth(plan, own.bloat_bytes - own.dead_bytes),
    )
    return replace(found, facts=facts)


def _dead_bytes(relation: Relation) -> int:
    """What its dead rows take, by their number where it was not measured."""
    if relation.dead_bytes is not None:
        return relation.dead_bytes
    dead, live = relation.dead_tuples or 0, relation.live_tuples or 0
    return round(relation.size_bytes * dead / (dead + live)) if dead else 0


class RewriteForecast:
    """How long rewrites take: by an assumed rate at first, then by what this run has measured."""

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def learn(self, size_bytes: int, seconds: float) -> None:
        """A rewrite has written so much in so many seconds."""
        self._bytes += size_bytes
        self._seconds += seconds

    def seconds(self, task: VacuumTask) -> float:
        """A prediction, in seconds. From the bytes that are written."""
        return round(copy_bytes(task) / self._rate, 3)

    def explain(self, task: VacuumTask) -> str:
        """The prediction in words."""
        how = "measured in this run" if self._seconds >= _MEASURABLE_S else "assumed"
        return f"a prediction, from {human_size(copy_bytes(task))} at {human_size(self._rate)}/s, which is {how}"

    @property
    def _rate(self) -> float:
        return self._bytes / self._seconds if self._seconds >= _MEASURABLE_S else _ASSUMED_RATE


def copy_bytes(task: VacuumTask) -> int:
    """What the new table, its indexes and its TOAST will take."""
    return max(0, task.size_bytes - task.gain_bytes)


class RewriteRoom:
    """Whether a copy fits where the server keeps the table; not known everywhere."""

    def __init__(self, session: Session, target: Target) -> None:
        """Look for the server's directories."""
        settings = session.query(sql.SETTINGS)[0]
        self._target = target
        self._wal_bytes = int(settings.max_wal_bytes)
        self._places = directories.places(session, target) if settings.places else None

    @property
    def known(self) -> bool:
        """Whether the server's file systems can be seen."""
        return self._places is not None

    def missing(self, task: VacuumTask, before: VacuumState) -> str | None:
        """Why the copy does not fit, as a clause, or None."""
        if self._places is None:
            return None
        needed = int(copy_bytes(task) * _ROOM)
        if not before.place:  # the WAL of the copy lies there as well, until the next checkpoint
            needed += min(needed, self._wal_bytes)
        place = before.place or self._places[0]
        free = self._target.files.space(place).free_bytes
        if free >= needed:
            return None
        return f"a copy takes about {human_size(needed)} with its WAL, and {human_size(free)} are free in {place}"
