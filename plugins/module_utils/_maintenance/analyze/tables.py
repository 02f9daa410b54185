# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables have stale statistics, or lack some. Choosing is pure, and apart from reading."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..._errors import InvalidInput, ObjectNotFound
from ..._plan import Plan
from ..._postgres.connection import Session
from ..._units import to_rfc3339
from ..work import Item
from . import sql

_FINE_TARGET = 50  # below it, coarse statistics cannot be distinguished from others


@dataclass(frozen=True)
class AnalyzePlan(Plan):
    """What the operator wants. Times in seconds, sizes in bytes.

    Attributes:
        tables: `name` or `schema.name`; with the partitions of a partitioned one. They are done if anything changed.
        min_changed_ratio: share of the live rows that have to be changed, and `min_changes` how many at least.
        in_stages: coarse statistics of all tables that have none first, then finer ones.
        missing_only: only tables that lack statistics.
    """

    db: str
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    min_changed_ratio: float = 0.1
    min_changes: int = 50
    in_stages: bool = False
    missing_only: bool = False
    skip_locked: bool = False
    lock_timeout_s: float = 10.0
    statement_timeout_s: float | None = None
    buffer_usage_limit_bytes: int | None = None

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        if self.lock_timeout_s < 0.001:
            raise InvalidInput(
                "Invalid lock_timeout",
                subject="'0'",
                why="without a timeout ANALYZE may wait forever",
                remedy="Use 1s or more.",
            )


@dataclass(frozen=True)
class AnalyzeState:
    """What the server has counted of a table. `changes` are rows changed since its last ANALYZE."""

    live: int
    changes: int
    by_hand: datetime | None
    by_itself: datetime | None

    @property
    def last(self) -> datetime | None:
        """The last ANALYZE, that of autovacuum included."""
        return max((at for at in (self.by_hand, self.by_itself) if at is not None), default=None)

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        last = self.last
        return {"last_analyze": to_rfc3339(last) if last else None, "changes": self.changes, "rows": self.live}


@dataclass(frozen=True)
class AnalyzeTable:
    """A table, materialized view or partitioned table, and which statistics it lacks.

    The inherited ones are those of it together with its partitions or children, the others of its own rows.
    """

    oid: int
    schema: str
    name: str
    identity: str
    kind: str
    size_bytes: int
    counted: float
    state: AnalyzeState
    allowed: bool
    columns_missing: tuple[str, ...] = ()
    inherited_missing: tuple[str, ...] = ()
    expressions_missing: tuple[str, ...] = ()
    extended_missing: tuple[str, ...] = ()
    extended_inherited_missing: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many live, by the better of the two counts: the running one is lost in a crash and by pg_upgrade."""
        return max(self.state.live, round(self.counted), 0)

    @property
    def has_rows(self) -> bool:
        """Whether there is anything to make statistics of: rows, or pages if its rows were never counted."""
        return self.rows > 0 or (self.counted < 0 and self.size_bytes > 0)


@dataclass(frozen=True)
class AnalyzeTask:
    """A table to analyze, and what came of it. `covers` are its partitions, which the same statement analyzes."""

    table: AnalyzeTable
    covers: tuple[int, ...] = ()
    after: AnalyzeState | None = None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "schema": self.table.schema,
            "name": self.table.name,
            "partitions": len(self.covers),
            "before": self.table.state.as_dict(),
            "after": self.after.as_dict() if self.after else None,
        }


def _item(table: AnalyzeTable, reason: str, why: str) -> Item[AnalyzeTask]:
    return Item(table.identity, AnalyzeTask(table), reason, why)


def read(session: Session, schemas: Sequence[str]) -> list[AnalyzeTable]:
    """All tables but temporary ones; those of the system's schemas only if these are named."""
    raw = bool(session.value(sql.READS_STATISTICS))
    rows = session.query(sql.tables(session.server_version, raw=raw), {"schemas": list(schemas)})
    return [_table(row) for row in rows]


def _table(row: Any) -> AnalyzeTable:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row._asdict().items()
    }
    state = AnalyzeState(values.pop("live"), values.pop("changes"), values.pop("by_hand"), values.pop("by_itself"))
    return AnalyzeTable(state=state, **values)


def read_children(session: Session) -> dict[int, list[int]]:
    """All tables below each partitioned or inherited one, however deep."""
    below: dict[int, list[int]] = defaultdict(list)
    for row in session.query(sql.CHILDREN):
        below[row.parent].append(row.child)
    return {parent: _descendants(parent, below) for parent in list(below)}


def _descendants(parent: int, below: Mapping[int, Sequence[int]]) -> list[int]:
    found: list[int] = []
    waiting = list(below.get(parent, ()))
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.append(each)
            waiting += below.get(each, ())
    return found


def choose(
    tables: Sequence[AnalyzeTable],
    below: Mapping[int, Sequence[int]],
    plan: AnalyzePlan,
    *,
    only: bool,
    coarse: Iterable[int] = (),
) -> list[Item[AnalyzeTask]]:
    """What is due, missing statistics first and then by the share that changed. Pure.

    Args:
        below: all tables below each parent.
        only: whether the server can analyze a partitioned table without its partitions (18).
        coarse: tables whose statistics an interrupted run in stages has left coarse.
    """
    by_oid = {each.oid: each for each in tables}
    explicit = _explicit(tables, below, plan)
    rough = set(coarse)
    found: dict[int, tuple[float, Item[AnalyzeTask]]] = {}
    for table in tables:
        if explicit is not None and table.oid not in explicit:
            continue
        leaves = [by_oid[oid] for oid in below.get(table.oid, ()) if oid in by_oid and by_oid[oid].kind != "p"]
        lacks = _lacks(table, leaves)
        changes, rows = _changes(table, leaves)
        least = 1.0 if explicit is not None else max(1.0, plan.min_changes, plan.min_changed_ratio * rows)
        if lacks:
            found[table.oid] = (2.0 + rows, _item(table, "missing", lacks))
        elif plan.missing_only:
            continue
        elif changes >= least:
            about = f"about {changes:,} of {rows:,} rows changed since the last ANALYZE"
            found[table.oid] = (min(1.0, changes / max(1, rows)), _item(table, "changed", about))
        elif table.oid in rough:
            found[table.oid] = (0.0, _item(table, "coarse", "an interrupted run in stages left coarse statistics"))
    if not only:
        found = _without_covered(found, below, by_oid)
    ranked = sorted(found.values(), key=lambda pair: (-pair[0], pair[1].name))
    items = [item if item.facts.table.allowed else _refused(item) for dummy, item in ranked]
    # A parent's own statistics come after its partitions', so that they are the younger ones.
    return sorted(items, key=lambda item: bool(only and item.facts.table.oid in below))


def _refused(item: Item[AnalyzeTask]) -> Item[AnalyzeTask]:
    why = "the login lacks the privilege to analyze it: it owns neither the table nor the database"
    return item.become("failed", why, "Use the login of the owner or of a superuser.")


def _explicit(tables: Sequence[AnalyzeTable], below: Mapping[int, Sequence[int]], plan: AnalyzePlan) -> set[int] | None:
    if not plan.tables:
        return None
    found: set[int] = set()
    for name in plan.tables:
        matches = [each.oid for each in tables if name in (each.name, f"{each.schema}.{each.name}")]
        if not matches:
            raise ObjectNotFound(
                "Table not found", subject=name, remedy="Write it as name or schema.name, without quotes."
            )
        found.update(matches)
        found.update(oid for each in matches for oid in below.get(each, ()))
    return found


def _lacks(table: AnalyzeTable, leaves: Sequence[AnalyzeTable]) -> str:
    """Which statistics are missing, in words."""
    parts = []
    below = any(leaf.has_rows for leaf in leaves)
    if table.has_rows and table.kind != "p":
        if table.columns_missing and table.state.last is None:
            parts.append("it was never analyzed, or its statistics were lost")
        elif table.columns_missing:
            parts.append(f"no statistics of {_some(table.columns_missing)}")
        if table.expressions_missing:
            parts.append(f"no statistics of the expressions of {_some(table.expressions_missing)}")
    if below and table.inherited_missing:
        whole = "no statistics of all its partitions together"
        parts.append(whole if table.kind == "p" else "no statistics that include its child tables")
    extended = (
        *(table.extended_missing if table.has_rows else ()),
        *(table.extended_inherited_missing if below else ()),
    )
    if extended:
        parts.append(f"no data for the statistics object {_some(tuple(dict.fromkeys(extended)))}")
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _changes(table: AnalyzeTable, leaves: Sequence[AnalyzeTable]) -> tuple[int, int]:
    """How many rows changed since the table's last ANALYZE, about, of how many.

    Autovacuum never analyzes a parent, and forgets the changes of a child that it analyzes: then all rows of the child
    count. So do rows that came or went, by the count that the parent's last ANALYZE has made.
    """
    if not leaves:
        return table.state.changes, table.rows
    last = table.state.last
    rows = sum(leaf.rows for leaf in leaves) + (table.rows if table.kind != "p" else 0)
    changes = table.state.changes
    for leaf in leaves:
        since = last is not None and leaf.state.by_itself is not None and leaf.state.by_itself > last
        changes += leaf.rows if since else leaf.state.changes
    if table.kind == "p" and table.counted >= 0:
        changes = max(changes, abs(rows - round(table.counted)))
    return (min(changes, rows) if rows else changes), rows


def _without_covered(
    found: Mapping[int, tuple[float, Item[AnalyzeTask]]],
    below: Mapping[int, Sequence[int]],
    by_oid: Mapping[int, AnalyzeTable],
) -> dict[int, tuple[float, Item[AnalyzeTask]]]:
    """Without the partitions that ANALYZE of their parent analyzes anyway, which each such parent names instead."""
    parents = [oid for oid in found if by_oid[oid].kind == "p"]
    covered = {oid for parent in parents for oid in below.get(parent, ())}
    kept = {oid: pair for oid, pair in found.items() if oid not in covered}
    return {
        oid: (rank, _covering(item, tuple(each for each in below.get(oid, ()) if each in by_oid)))
        if item.facts.table.kind == "p"
        else (rank, item)
        for oid, (rank, item) in kept.items()
    }


def _covering(item: Item[AnalyzeTask], covers: tuple[int, ...]) -> Item[AnalyzeTask]:
    return replace(item, facts=replace(item.facts, covers=covers))


def coarse(session: Session, tables: Sequence[AnalyzeTable]) -> list[int]:
    """Tables that a run in stages has left coarse, when it was stopped before its last stage."""
    if session.value(sql.TARGET) < _FINE_TARGET:
        return []
    return [row.oid for row in session.query(sql.COARSE, ([each.oid for each in tables],))]
