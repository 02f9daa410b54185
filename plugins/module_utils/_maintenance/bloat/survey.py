# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Survey a database's bloat: estimate every relation cheaply, then measure the suspects within a budget.

Memory does not grow with the number of relations: they are read in batches and yielded at once, but for the suspects.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ..._errors import QueryFailed
from ..._postgres import sqlstate
from ..._postgres.connection import Session
from . import estimate, measure, pages, sql
from .estimate import Estimate
from .pages import Means
from .relation import Relation

_BATCH = 2000
_SMALLEST_BATCH = 50
_MOST_SUSPECTS = 2000
_LOCK_TIMEOUT_MS = 500
# Batches are found by index, however old the statistics of the catalogs are, and are too small to be compiled.
_PLANNING = {"jit": "off", "max_parallel_workers_per_gather": "0", "enable_hashjoin": "off", "enable_mergejoin": "off"}
_CLOCK_SLACK_S = 0.05
_SHORTEST_MS = 100  # of time for one measurement; with less there is no point in beginning
_TRIES = 5
_TIMEOUT, _LOCKED, _NO_RIGHT = sqlstate.QUERY_CANCELED, sqlstate.LOCK_NOT_AVAILABLE, sqlstate.INSUFFICIENT_PRIVILEGE
_THERE = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE oid = %s"
_TIMEOUT_MS = "SELECT setting::pg_catalog.int4 FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'"


@dataclass(frozen=True)
class Scope:
    """Which relations.

    Attributes:
        schemas: names; empty for all but the system's.
        tables: `name` or `schema.name`; their indexes and TOAST tables come with them. Empty for all.
        min_size_bytes: smaller relations are left out.
    """

    schemas: Sequence[str] = ()
    tables: Sequence[str] = ()
    min_size_bytes: int = 0


@dataclass(frozen=True)
class Budget:
    """What measuring may cost.

    Attributes:
        seconds: for all measurements together; 0 for none.
        size_bytes: pages read, for all of them together.
        min_ratio: a relation whose estimate is below it is not measured, if the estimate is a good one.
    """

    seconds: float
    size_bytes: int
    min_ratio: float = 0.02


def survey(session: Session, scope: Scope, *, measure_budget_s: float, measure_bytes: int) -> Iterator[Relation]:
    """Yield every relation of the scope, in no order; read-only.

    Raises:
        QueryFailed: the connection was lost, or the catalogs cannot be read.
    """
    budget = Budget(measure_budget_s, measure_bytes)
    suspects: list[tuple[float, int, Estimate]] = []
    means = pages.means(session)
    with _settings(session, lock_timeout=f"{_LOCK_TIMEOUT_MS}ms", **_PLANNING):
        for found in _estimates(session, scope):
            if not _is_suspect(found.relation, budget):
                yield found.relation
                continue
            heapq.heappush(suspects, (_gain(found.relation), found.relation.oid, found))
            if len(suspects) > _MOST_SUSPECTS:
                yield heapq.heappop(suspects)[2].relation
        yield from _measured(session, [each for dummy, dummy, each in suspects], means, budget)


def _is_suspect(relation: Relation, budget: Budget) -> bool:
    """Whether measuring is worth its cost: it may be bloated, or the estimate cannot tell."""
    if budget.seconds <= 0 or not relation.size_bytes or relation.access_method in ("brin", "spgist"):
        return False
    return relation.confidence in ("low", "none") or (relation.bloat_ratio or 0.0) >= budget.min_ratio


def _gain(relation: Relation) -> float:
    """What measuring could find, in bytes."""
    if relation.bloat_bytes is None or relation.confidence == "low":
        return float(relation.size_bytes)
    return float(relation.bloat_bytes)


# --- estimates


def _estimates(session: Session, scope: Scope) -> Iterator[Estimate]:
    page_size = int(session.value("SELECT pg_catalog.current_setting('block_size')"))
    for statement, kinds, examine in (
        (sql.HEAPS, ["r", "m", "t"], estimate.heap),
        (sql.INDEXES, ["i"], estimate.index),
    ):
        for row in _rows(session, statement, scope, kinds):
            if row.size_bytes is not None and row.size_bytes >= scope.min_size_bytes:  # else it was dropped just now
                yield examine(row, page_size)


def _rows(session: Session, statement: str, scope: Scope, kinds: list[str]) -> Iterator[Any]:
    after, limit, tries = 0, _BATCH, 0
    timeout_s = session.value(_TIMEOUT_MS) / 1000
    about = {"schemas": list(scope.schemas), "tables": list(scope.tables), "kinds": kinds}
    while True:
        started = time.monotonic()
        try:
            batch = session.query(statement, {**about, "after": after, "limit": limit})
        except QueryFailed as exc:
            # A session locked a relation between two looks at it, or the login has a short statement_timeout.
            tries += 1
            if exc.details.get("sqlstate") == _LOCKED and tries < _TRIES:
                continue
            too_long = (
                timeout_s and time.monotonic() - started > timeout_s - _CLOCK_SLACK_S
            )  # else a session cancelled it
            if exc.details.get("sqlstate") == _TIMEOUT and too_long and limit > _SMALLEST_BATCH:
                limit //= 4
                continue
            raise
        tries = 0
        yield from batch
        if len(batch) < limit:
            return
        after = batch[-1].oid


# --- measurements


def _measured(session: Session, suspects: Sequence[Estimate], means: Means, budget: Budget) -> Iterator[Relation]:
    """The tables where most can be found first, each followed by its own indexes, whose dead entries it knows."""
    deadline = time.monotonic() + budget.seconds
    bytes_left = float(budget.size_bytes)
    tables: dict[int, Relation] = {}
    for found in _in_order(suspects):
        visible = _visible_share(session, found) if means.have("pgstattuple_approx") else 0.0
        method, cost = pages.method_for(found, means, bytes_left, visible)
        left_ms = int((deadline - time.monotonic()) * 1000)
        if method == "none" or left_ms < _SHORTEST_MS:
            yield _unmeasured(found, means, "Not measured: the budget is used up.")
            continue
        try:
            with _settings(session, statement_timeout=str(left_ms)):
                relation = _measure(session, found, means, method, tables.get(found.table_oid))
        except QueryFailed as exc:
            cancelled = exc.details.get("sqlstate") == _TIMEOUT and time.monotonic() < deadline - _CLOCK_SLACK_S
            if exc.details.get("lost") or cancelled:  # another session cancelled it, to end the run
                raise
            if not session.value(_THERE, (found.relation.oid,)):
                continue
            yield _unmeasured(found, means, _why(exc))
            continue
        bytes_left -= cost
        if relation.kind != "index":
            tables[relation.oid] = relation
        yield relation


def _in_order(suspects: Sequence[Estimate]) -> list[Estimate]:
    most: dict[int, float] = {}
    for each in suspects:
        most[each.table_oid] = max(most.get(each.table_oid, 0.0), _gain(each.relation))
    return sorted(
        suspects,
        key=lambda each: (-most[each.table_oid], each.table_oid, each.relation.kind == "index", -_gain(each.relation)),
    )


def _measure(session: Session, found: Estimate, means: Means, method: str, table: Relation | None) -> Relation:
    if found.relation.kind == "index" and table is not None and table.live_tuples is not None:
        found = estimate.with_table(found, table.live_tuples, table.dead_tuples or 0)
    return measure.measure(session, found, means, method)


def _visible_share(session: Session, found: Estimate) -> float:
    if found.relation.kind not in ("table", "materialized view"):
        return 0.0
    rows = session.query(sql.VISIBLE_PAGES, (found.relation.oid,))
    return rows[0].relallvisible / rows[0].relpages if rows and rows[0].relpages else 0.0


def _unmeasured(found: Estimate, means: Means, why: str) -> Relation:
    why = means.missing or why
    note = f"{found.relation.note} {why}".strip()
    return replace(found.relation, note=note)


def _why(exc: QueryFailed) -> str:
    state = exc.details.get("sqlstate")
    if state == _TIMEOUT:
        return "Not measured: the time budget is used up."
    if state == _LOCKED:
        return "Not measured: it is locked exclusively."
    if state == _NO_RIGHT:
        return f"Not measured: the login lacks a privilege to read its pages ({exc.why})."
    return f"Not measured: {exc.why}."


@contextmanager
def _settings(session: Session, **settings: str) -> Iterator[None]:
    """The session's settings for a while."""
    before: Mapping[str, str] = {
        name: session.value("SELECT pg_catalog.current_setting(%s)", (name,)) for name in settings
    }
    _set(session, settings)
    try:
        yield
    finally:
        _set(session, before)


def _set(session: Session, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        session.query("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
