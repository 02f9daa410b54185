# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections that are compared with earlier runs: how storage grows, what got slower, how many deadlocks are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._diagnostics.queries import report as queries
from .._diagnostics.storage import report as storage
from .._errors import InvalidInput, RunbookError
from .._plan import Plan
from .._postgres.connection import Session
from .._target.base import Space, Target
from . import server as health_server

_NONE_OF_STORAGE = (
    "There are no earlier samples to tell how it grows. A run that keeps its reports adds one, and it takes three."
)
_NONE_OF_QUERIES = (
    "What got slower is not known: there is no earlier sample to compare with. A run that keeps its reports adds one."
)


@dataclass(frozen=True)
class Past(Plan):
    """What earlier runs have kept. Nothing of it is taken for granted.

    Attributes:
        storage_history: samples as `StorageReport.sample` has them.
        queries_baseline: one as `QueriesReport.sample` has it; None when there is none.
        server_baseline: one of the health page's own; None when there is none.
    """

    storage_history: Sequence[Mapping[str, Any]] = ()
    queries_baseline: Mapping[str, Any] | None = None
    server_baseline: Mapping[str, Any] | None = None


def look_at_server(
    session: Session, plan: health_server.ServerPlan, past: Past, now: datetime
) -> health_server.ServerReport:
    """As `health_server.collect`, in one statement."""
    return health_server.collect(session, replace(plan, earlier=health_server.Earlier.parse(past.server_baseline)), now)


def look_at_storage(
    session: Session, target: Target, plan: storage.StoragePlan, past: Past, now: datetime
) -> storage.StorageReport:
    """As the module of storage does it, in five statements."""
    space, note = _free_space(session, target)
    report = storage.collect(session, replace(plan, space=space, space_note=note, history=past.storage_history), now)
    if past.storage_history:
        return report
    return replace(report, forecast=replace(report.forecast, reason=_NONE_OF_STORAGE))


def _free_space(session: Session, target: Target) -> tuple[Space | None, str]:
    try:
        return storage.free_space(session, target)
    except RunbookError as exc:  # no right to run programs in the pod, say: the sizes are worth more than that
        if exc.details.get("lost"):
            raise
        return None, f"It is not known how much is free: {exc.message}"


def look_at_queries(session: Session, plan: queries.QueriesPlan, past: Past, now: datetime) -> queries.QueriesReport:
    """As the module of queries does it, in four statements."""
    note, baseline = _NONE_OF_QUERIES, None
    if past.queries_baseline:
        try:
            note, baseline = "", queries.Baseline.parse(past.queries_baseline)
        except InvalidInput as exc:  # a damaged file is no reason to show nothing
            note = f"Nothing was compared: {exc.message}"
    report = queries.collect(session, plan, now, baseline)
    return replace(report, notes=[*report.notes, note]) if note and report.available else report
