# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage as a section of `health`: its growth follows from the samples of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..._errors import RunbookError
from ..._postgres.connection import Session
from ..._target.base import Space, Target
from ..section import Section, Visit
from .report import StoragePlan, StorageReport, collect, describe, free_space

_NO_HISTORY = (
    "There are no earlier samples to compute growth from. Three are needed; each run with postgres_report_dir stores "
    "one."
)


def _configure(plan: StoragePlan, options: Mapping[str, Any]) -> StoragePlan:
    return replace(plan, history=options["storage_history"])


def _collect(visit: Visit, plan: StoragePlan) -> StorageReport:
    report = visit.ask(lambda session: _read(session, visit, plan))
    return report if plan.history else replace(report, forecast=replace(report.forecast, why=_NO_HISTORY))


def _read(session: Session, visit: Visit, plan: StoragePlan) -> StorageReport:
    space, note = _free_space(session, visit.target)
    return collect(session, replace(plan, space=space, space_note=note), visit.now)


def _free_space(session: Session, target: Target) -> tuple[Space | None, str]:
    try:
        return free_space(session, target)
    except RunbookError as exc:  # no right to run programs in the pod, say: the sizes are worth more than that
        if exc.details.get("lost"):
            raise
        return None, f"Free space is unknown: {exc.message}"


SECTION = Section("storage", _collect, describe, StoragePlan(), _configure)
