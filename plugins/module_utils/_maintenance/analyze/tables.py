# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables have stale statistics, or lack some. Reading is apart from judging, which is pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ..._errors import InvalidInput, ObjectNotFound
from ..._postgres.connection import Session
from ..._units import to_rfc3339
from . import sql

_FINE_TARGET = 50  # below it, coarse statistics cannot be told from others


@dataclass(frozen=True)
class AnalyzePlan:
    """What the operator wants.

    Attributes:
        tables: `name` or `schema.name`; of a partitioned one its partitions as well. They are done if anything changed.
        share: of the live rows, that have to be changed; and `min_changes` how many at least.
        in_stages: coarse statistics of all tables that have none first, then finer ones.
        missing_only: only tables that lack statistics.
    """

    db: str
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    share: float = 0.1
    min_changes: int = 50
    in_stages: bool = False
    missing_only: bool = False
    skip_locked: bool = False
    lock_timeout_s: float = 10.0
    statement_timeout_s: float | None = None
    buffer_usage_limit_kb: int | None = None

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        if not 0 <= self.share <= 1:
            raise InvalidInput("min_share is no share", subject=str(self.share), remedy="Use 0 to 1.")
        if self.min_changes < 0:
            raise InvalidInput("min_changes is negative", subject=str(self.min_changes), remedy="Use 0 or more.")
        if self.lock_timeout_s < 0.001:
            raise InvalidInput("lock_timeout is 0", remedy="Without one, it may wait for ever: use 1s or more.")


@dataclass(frozen=True)
class State:
    """What the server has counted of a table. `changes` are rows changed since its last ANALYZE."""

    live: int
    changes: int
    by_hand: datetime | None
    by_itself: datetime | None

    @property
    def last(self) -> datetime | None:
        """The last ANALYZE, whoever did it."""
        return max((at for at in (self.by_hand, self.by_itself) if at is not None), default=None)

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        last = self.last
        return {"last_analyze": to_rfc3339(last) if last else None, "changes": self.changes, "rows": self.live}


@dataclass(frozen=True)
class Table:
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
    state: State
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
        """Whether there is anything to make statistics of; one that nobody has counted has some if it has pages."""
        return self.rows > 0 or (self.counted < 0 and self.size_bytes > 0)


@dataclass(frozen=True)
class Item:
    """A table to analyze, and what came of it.

    Attributes:
        reason: `missing`, `changed` or `coarse`. `about` says it in words.
        state: `due`, `analyzed`, `skipped`, `failed` or `left`.
        why: for the last three, one sentence without a full stop. `remedy` is what helps, if that is known.
        covers: its partitions, which the same statement analyzes.
    """

    table: Table
    reason: str
    about: str
    covers: tuple[int, ...] = ()
    state: str = "due"
    why: str = ""
    remedy: str = ""
    after: State | None = None
    duration_s: float | None = None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "schema": self.table.schema,
            "name": self.table.name,
            "reason": self.reason,
            "about": self.about,
            "state": self.state,
            "partitions": len(self.covers),
            "before": self.table.state.as_dict(),
            "after": self.after.as_dict() if self.after else None,
            "duration_s": self.duration_s,
            "why": self.why,
        }


def read(session: Session, schemas: Sequence[str]) -> list[Table]:
    """All tables but temporary ones; those of the system's schemas only if these are named."""
    raw = bool(session.value(sql.READS_STATISTICS))
    rows = session.query(sql.tables(session.server_version, raw=raw), {"schemas": list(schemas)})
    return [_table(row) for row in rows]


def _table(row: Any) -> Table:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in row._asdict().items()
    }
    state = State(values.pop("live"), values.pop("changes"), values.pop("by_hand"), values.pop("by_itself"))
    return Table(state=state, **values)


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


def judge(
    tables: Sequence[Table],
    below: Mapping[int, Sequence[int]],
    plan: AnalyzePlan,
    *,
    only: bool,
    coarse: Iterable[int] = (),
) -> list[Item]:
    """What is due, missing statistics first and then by the share that changed. Pure.

    Args:
        below: all tables below each parent.
        only: whether the server can analyze a partitioned table without its partitions (18).
        coarse: tables whose statistics an interrupted run in stages has left coarse.
    """
    by_oid = {each.oid: each for each in tables}
    named = _named(tables, below, plan)
    rough = set(coarse)
    found: dict[int, tuple[float, Item]] = {}
    for table in tables:
        if named is not None and table.oid not in named:
            continue
        leaves = [by_oid[oid] for oid in below.get(table.oid, ()) if oid in by_oid and by_oid[oid].kind != "p"]
        lacks = _lacks(table, leaves)
        changes, rows = _changes(table, leaves)
        least = 1.0 if named is not None else max(1.0, plan.min_changes, plan.share * rows)
        if lacks:
            found[table.oid] = (2.0 + rows, Item(table, "missing", lacks))
        elif plan.missing_only:
            continue
        elif changes >= least:
            about = f"about {changes} of {rows} rows changed since the last ANALYZE"
            found[table.oid] = (min(1.0, changes / max(1, rows)), Item(table, "changed", about))
        elif table.oid in rough:
            found[table.oid] = (0.0, Item(table, "coarse", "its statistics are those of an early stage"))
    if not only:
        found = _without_covered(found, below, by_oid)
    ranked = sorted(found.values(), key=lambda pair: (-pair[0], pair[1].table.identity))
    items = [item if item.table.allowed else _refused(item) for dummy, item in ranked]
    # A parent's own statistics come after its partitions', so that they are the younger ones.
    return sorted(items, key=lambda item: bool(only and item.table.oid in below))


def _refused(item: Item) -> Item:
    why = "the login may not analyze it: it owns neither the table nor the database"
    return replace(item, state="failed", why=why)


def _named(tables: Sequence[Table], below: Mapping[int, Sequence[int]], plan: AnalyzePlan) -> set[int] | None:
    if not plan.tables:
        return None
    found: set[int] = set()
    for name in plan.tables:
        matches = [each.oid for each in tables if name in (each.name, f"{each.schema}.{each.name}")]
        if not matches:
            raise ObjectNotFound("There is no such table", subject=name, remedy="Write it as name or schema.name.")
        found.update(matches)
        found.update(oid for each in matches for oid in below.get(each, ()))
    return found


def _lacks(table: Table, leaves: Sequence[Table]) -> str:
    """Which statistics are missing, in words."""
    parts = []
    below = any(leaf.has_rows for leaf in leaves)
    if table.has_rows and table.kind != "p":
        if table.columns_missing and table.state.last is None:
            parts.append("it was never analyzed, or its statistics were lost")
        elif table.columns_missing:
            parts.append(f"no statistics of {_some(table.columns_missing)}")
        if table.expressions_missing:
            parts.append(f"none of the expressions of {_some(table.expressions_missing)}")
    if below and table.inherited_missing:
        whole = "no statistics of all its partitions together"
        parts.append(whole if table.kind == "p" else "none of it with its children")
    extended = (
        *(table.extended_missing if table.has_rows else ()),
        *(table.extended_inherited_missing if below else ()),
    )
    if extended:
        parts.append(f"none for the statistics object {_some(tuple(dict.fromkeys(extended)))}")
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _changes(table: Table, leaves: Sequence[Table]) -> tuple[int, int]:
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
    found: Mapping[int, tuple[float, Item]], below: Mapping[int, Sequence[int]], by_oid: Mapping[int, Table]
) -> dict[int, tuple[float, Item]]:
    """Without the partitions that ANALYZE of their parent analyzes anyway, which each such parent names instead."""
    parents = [oid for oid in found if by_oid[oid].kind == "p"]
    covered = {oid for parent in parents for oid in below.get(parent, ())}
    kept = {oid: pair for oid, pair in found.items() if oid not in covered}
    return {
        oid: (rank, replace(item, covers=tuple(each for each in below.get(oid, ()) if each in by_oid)))
        if item.table.kind == "p"
        else (rank, item)
        for oid, (rank, item) in kept.items()
    }


def coarse(session: Session, tables: Sequence[Table]) -> list[int]:
    """Tables that a run in stages has left coarse, when it was stopped before its last stage."""
    if session.value(sql.TARGET) < _FINE_TARGET:
        return []
    return [row.oid for row in session.query(sql.COARSE, ([each.oid for each in tables],))]
