# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables are worth a VACUUM, why, and in what order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..._errors import ObjectNotFound
from ..._postgres.connection import Session
from ..work import Item
from ..wraparound import SHARE
from . import sql
from .plan import VacuumPlan

_MAINTAIN = 170000
# Why a table is chosen, also in results.
FREEZE, DEAD, EXPLICIT, BLOAT = "freeze", "dead", "explicit", "bloat"
# Pages that are not all-visible although nothing was written since: some are empty, some were in use just then.
_INVISIBLE_SHARE = 0.1
_INVISIBLE_PAGES = 64


@dataclass(frozen=True)
class VacuumTable:
    """A table with what the server's statistics say of it; `freeze_limit` is the age that counts as old.

    `system`: it is a catalog, or of the information_schema. Of those, only what nears wraparound is worked on, unless
    their schema is listed.
    """

    oid: int
    schema: str
    name: str
    pages: int
    visible_pages: int
    has_rows: bool
    age: int
    mxid_age: int
    freeze_limit: int
    mxid_limit: int
    live: int
    dead: int
    toast_pages: int
    toast_live: int
    toast_dead: int
    inserted: int
    modified: int
    vacuums: int
    analyzes: int
    vacuumed: datetime | None
    allowed: bool
    system: bool = False

    @property
    def title(self) -> str:
        """For people: `schema.name`."""
        return f"{self.schema}.{self.name}"

    @property
    def aged(self) -> bool:
        """Whether its oldest row should be frozen now."""
        return self.age >= self.freeze_limit or self.mxid_age >= self.mxid_limit

    @property
    def aged_by_multixacts_alone(self) -> bool:
        """Whether only the age of its multixacts calls for it. Transactions that hold rows do not matter then."""
        return self.mxid_age >= self.mxid_limit and self.age < self.freeze_limit

    @property
    def dead_pages(self) -> float:
        """Roughly what its dead rows take."""
        return self.pages * _share(self.dead, self.live) + self.toast_pages * _share(self.toast_dead, self.toast_live)

    @property
    def stale(self) -> bool:
        """Whether its statistics do not describe all of its rows."""
        return self.modified > 0 or (self.analyzes == 0 and self.has_rows)

    @property
    def untouched(self) -> bool:
        """Whether the last VACUUM left nothing to do: no dead rows, no new ones, all pages all-visible."""
        hidden = self.pages - self.visible_pages
        return not (
            self.dead
            or self.toast_dead
            or self.inserted
            or (self.vacuums == 0 and hidden > 0)
            or hidden > max(_INVISIBLE_PAGES, self.pages * _INVISIBLE_SHARE)
        )


def _share(dead: int, live: int) -> float:
    return dead / (dead + live) if dead else 0.0


@dataclass(frozen=True)
class VacuumState:
    """A table's sizes in bytes, its dead rows, and the traces of VACUUM and ANALYZE, at one moment."""

    heap_bytes: int
    toast_bytes: int
    index_bytes: int
    dead_tuples: int
    freeze_age: int
    mxid_age: int
    visible_pages: int
    vacuums: int
    analyzes: int
    file: int
    place: str

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.heap_bytes + self.toast_bytes + self.index_bytes

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        internal = ("visible_pages", "vacuums", "analyzes", "file", "place")
        return {name: value for name, value in asdict(self).items() if name not in internal}


@dataclass(frozen=True)
class VacuumTask:
    """One table to work on, and what came of it.

    Attributes:
        database: the one that it is in.
        explicit: the operator listed it.
        action: `vacuum`, `vacuum full` or `repack`.
        gain_bytes: what a rewrite probably gives back, of `size_bytes`; with its indexes and TOAST.
        gain_is_certain: a rewrite would be worth it although no dead row could be removed.
        analyzed: whether its statistics were gathered.
        before: right before the work; `after` right after it.
        predicted_lock_s: how long it will be locked exclusively; None if it will not.
    """

    table: VacuumTable
    database: str
    explicit: bool
    action: str
    gain_bytes: int = 0
    size_bytes: int = 0
    gain_is_certain: bool = True
    analyzed: bool = False
    before: VacuumState | None = None
    after: VacuumState | None = None
    predicted_lock_s: float | None = None

    @property
    def freed_bytes(self) -> int:
        """What went back to the file system."""
        return max(0, self.before.total_bytes - self.after.total_bytes) if self.before and self.after else 0

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "database": self.database,
            "schema": self.table.schema,
            "name": self.table.name,
            "action": self.action,
            "analyzed": self.analyzed,
            "before": self.before.as_dict() if self.before else None,
            "after": self.after.as_dict() if self.after else None,
            "predicted_lock_s": self.predicted_lock_s,
        }


VacuumItem = Item[VacuumTask]


def item(table: VacuumTable, plan: VacuumPlan, reason: str, why: str, *, explicit: bool) -> VacuumItem:
    """An item of work."""
    return Item(table.title, VacuumTask(table, plan.db, explicit, plan.action), reason, why)


def state(session: Session, oid: int) -> VacuumState | None:
    """A table's state now; None if it does not exist any more. Waits for an exclusive lock on it."""
    for row in session.query(sql.STATE, (oid,)):
        if row.heap_bytes is not None:  # else it was dropped this very moment
            return VacuumState(*row)
    return None


def read(session: Session, plan: VacuumPlan) -> tuple[list[VacuumTable], frozenset[int]]:
    """The tables in question, and the OIDs of those that are listed.

    Raises:
        ObjectNotFound: a listed table does not exist, or is nothing that VACUUM works on.
    """
    values: dict[str, object] = {"oids": None, "schemas": list(plan.schemas)}
    explicit: frozenset[int] = frozenset()
    if plan.tables:
        explicit = _resolve(session, plan)
        values["oids"] = sorted(explicit)
    statement = sql.TABLES_17 if session.server_version >= _MAINTAIN else sql.TABLES
    return [_table(row._asdict(), plan) for row in session.query(statement, values)], explicit


def _resolve(session: Session, plan: VacuumPlan) -> frozenset[int]:
    found: dict[str, set[int]] = {name: set() for name in plan.tables}
    for row in session.query(sql.NAMED, {"tables": list(plan.tables), "schemas": list(plan.schemas)}):
        if row.oid is not None and row.fits:
            found[row.wanted].update(row.leaves)
            found[row.wanted].add(0)  # a partitioned table without partitions is there, too
    missing = sorted(name for name, oids in found.items() if not oids)
    if missing:
        raise ObjectNotFound(
            "Table not found",
            subject=", ".join(missing),
            remedy="Write tables and materialized views as name or schema.name, case-sensitive and without quotes.",
        )
    return frozenset(oid for oids in found.values() for oid in oids if oid)


def _table(row: Mapping[str, Any], plan: VacuumPlan) -> VacuumTable:
    figures = {name: value for name, value in row.items() if name in VacuumTable.__dataclass_fields__}
    figures["freeze_limit"] = _limit(plan, row["freeze_max_age"], system=row["system"])
    figures["mxid_limit"] = _limit(plan, row["mxid_freeze_max_age"], system=row["system"])
    return VacuumTable(**figures)


def _limit(plan: VacuumPlan, longest: int, *, system: bool) -> int:
    """The age that counts as old. An operator's lower limit is one for tables; and `freeze` is never without effect."""
    usual = int(longest * SHARE)
    if plan.max_freeze_age is None or (plan.freeze and plan.max_freeze_age > usual):
        return usual
    return max(usual, plan.max_freeze_age) if system else plan.max_freeze_age


def choose(
    found: Sequence[VacuumTable], explicit: frozenset[int], plan: VacuumPlan, freeze_min_age: int
) -> list[VacuumItem]:
    """What to do: the oldest first where wraparound threatens, then by what dead rows take."""
    wanted = [each for each in found if not each.system or each.aged or plan.schemas or plan.tables]
    items = [
        each for table in wanted if (each := _choose(table, table.oid in explicit, plan, freeze_min_age)) is not None
    ]
    frozen = [each for each in items if each.reason == FREEZE]
    others = [each for each in items if each.reason != FREEZE]
    frozen.sort(key=lambda each: (-max(each.facts.table.age, each.facts.table.mxid_age), each.name))
    others.sort(key=lambda each: (-each.facts.table.dead_pages, each.name))
    return frozen + others


def _choose(table: VacuumTable, explicit: bool, plan: VacuumPlan, freeze_min_age: int) -> VacuumItem | None:
    def chosen(reason: str, why: str) -> VacuumItem:
        return item(table, plan, reason, why, explicit=explicit)

    if table.aged:
        which, age, limit = "transactions", table.age, table.freeze_limit
        if age < limit:
            which, age, limit = "multixacts", table.mxid_age, table.mxid_limit
        return chosen(FREEZE, f"its oldest row is {age:,} {which} old, and the limit is {limit:,}")
    for dead, live, what in (
        (table.dead, table.live, "rows"),
        (table.toast_dead, table.toast_live, "values in TOAST"),
    ):
        share = _share(dead, live)
        if dead and dead >= plan.min_dead_tuples and share >= plan.min_dead_ratio:
            return chosen(DEAD, f"{share:.0%} of its {what} ({dead:,}) are dead")
    if explicit and not table.untouched:
        return chosen(EXPLICIT, "it is listed, and was written to since the last VACUUM")
    if explicit and plan.freeze and table.age > freeze_min_age:
        return chosen(FREEZE, f"it is listed, and its oldest row is {table.age:,} transactions old")
    if explicit and plan.analyze and table.stale:
        return chosen(EXPLICIT, "it is listed, and its statistics are out of date")
    return None
