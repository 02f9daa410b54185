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
from ..wraparound import SHARE
from . import sql
from .plan import VacuumPlan

_MAINTAIN = 170000
# Pages that are not all-visible although nothing was written since: some are empty, some were in use just then.
_INVISIBLE_SHARE = 0.1
_INVISIBLE_PAGES = 64


@dataclass(frozen=True)
class Table:
    """A table with what the server's statistics say of it; `freeze_limit` is the age that counts as old.

    `system`: it is a catalog, or of the information_schema. Of those, only what nears wraparound is worked on, unless
    their schema is named.
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
        """Whether no transaction's age asks for it. Who holds transactions back is no reason against it then."""
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
class Task:
    """One table to work on.

    Attributes:
        why: `freeze`, `dead`, `named` or `bloat`; `reason` is a sentence.
        gain_bytes: what a rewrite probably gives back, of `size_bytes`; with its indexes and TOAST.
        firm: a rewrite would be worth it although no dead row could be removed.
    """

    table: Table
    why: str
    reason: str
    named: bool
    gain_bytes: int = 0
    size_bytes: int = 0
    firm: bool = True


@dataclass(frozen=True)
class State:
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


def state(session: Session, oid: int) -> State | None:
    """What a table is like now; None if it is not there any more. Waits for an exclusive lock on it."""
    for row in session.query(sql.STATE, (oid,)):
        if row.heap_bytes is not None:  # else it was dropped this very moment
            return State(*row)
    return None


def read(session: Session, plan: VacuumPlan) -> tuple[list[Table], frozenset[int]]:
    """The tables in question, and the OIDs of those that were named.

    Raises:
        ObjectNotFound: a named table is not there, or is nothing that VACUUM works on.
    """
    values: dict[str, object] = {"oids": None, "schemas": list(plan.schemas)}
    named: frozenset[int] = frozenset()
    if plan.tables:
        named = _resolve(session, plan)
        values["oids"] = sorted(named)
    statement = sql.TABLES_17 if session.server_version >= _MAINTAIN else sql.TABLES
    return [_table(row._asdict(), plan) for row in session.query(statement, values)], named


def _resolve(session: Session, plan: VacuumPlan) -> frozenset[int]:
    found: dict[str, set[int]] = {name: set() for name in plan.tables}
    for row in session.query(sql.NAMED, {"tables": list(plan.tables), "schemas": list(plan.schemas)}):
        if row.oid is not None and row.fits:
            found[row.wanted].update(row.leaves)
            found[row.wanted].add(0)  # a partitioned table without partitions is there, too
    missing = sorted(name for name, oids in found.items() if not oids)
    if missing:
        raise ObjectNotFound(
            "There is no such table",
            subject=", ".join(missing),
            remedy="Name tables and materialized views as name or schema.name, as they are: names are case-sensitive.",
        )
    return frozenset(oid for oids in found.values() for oid in oids if oid)


def _table(row: Mapping[str, Any], plan: VacuumPlan) -> Table:
    figures = {name: value for name, value in row.items() if name in Table.__dataclass_fields__}
    figures["freeze_limit"] = _limit(plan, row["freeze_max_age"], system=row["system"])
    figures["mxid_limit"] = _limit(plan, row["mxid_freeze_max_age"], system=row["system"])
    return Table(**figures)


def _limit(plan: VacuumPlan, longest: int, *, system: bool) -> int:
    """The age that counts as old. An operator's lower limit is one for tables; and `freeze` is never without effect."""
    usual = int(longest * SHARE)
    if plan.max_freeze_age is None or (plan.freeze and plan.max_freeze_age > usual):
        return usual
    return max(usual, plan.max_freeze_age) if system else plan.max_freeze_age


def choose(found: Sequence[Table], named: frozenset[int], plan: VacuumPlan, freeze_min_age: int) -> list[Task]:
    """What to do: the oldest first where wraparound threatens, then by what dead rows take."""
    wanted = [each for each in found if not each.system or each.aged or plan.schemas or plan.tables]
    tasks = [task for table in wanted if (task := _task(table, table.oid in named, plan, freeze_min_age)) is not None]
    frozen = [task for task in tasks if task.why == "freeze"]
    others = [task for task in tasks if task.why != "freeze"]
    frozen.sort(key=lambda task: (-max(task.table.age, task.table.mxid_age), task.table.title))
    others.sort(key=lambda task: (-task.table.dead_pages, task.table.title))
    return frozen + others


def _task(table: Table, named: bool, plan: VacuumPlan, freeze_min_age: int) -> Task | None:
    if table.aged:
        which, age, limit = "transactions", table.age, table.freeze_limit
        if age < limit:
            which, age, limit = "multixacts", table.mxid_age, table.mxid_limit
        return Task(table, "freeze", f"Its oldest row is {age} {which} old, and {limit} are the limit.", named)
    for dead, live, what in (
        (table.dead, table.live, "rows"),
        (table.toast_dead, table.toast_live, "values in TOAST"),
    ):
        share = _share(dead, live)
        if dead and dead >= plan.min_dead_tuples and share >= plan.min_dead_ratio:
            return Task(table, "dead", f"{share:.0%} of its {what} ({dead}) are dead.", named)
    if named and not table.untouched:
        return Task(table, "named", "It is named, and was written to since the last VACUUM.", named)
    if named and plan.freeze and table.age > freeze_min_age:
        return Task(table, "freeze", f"It is named, and its oldest row is {table.age} transactions old.", named)
    if named and plan.analyze and table.stale:
        return Task(table, "named", "It is named, and its statistics are out of date.", named)
    return None
