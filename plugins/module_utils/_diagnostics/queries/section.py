# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries as a section of `health`: compared with what an earlier run has kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..._errors import InvalidInput
from ..section import Section, Visit
from .report import Baseline, QueriesPlan, QueriesReport, collect, describe

_NOT_COMPARED = (
    "There is no earlier sample, so slower queries cannot be found. Each run with postgres_report_dir stores a sample."
)


@dataclass(frozen=True)
class _Compared:
    """The plan, and an earlier `QueriesReport.sample` as it was given; None when there is none."""

    plan: QueriesPlan
    earlier: Mapping[str, Any] | None


def _configure(plan: QueriesPlan, options: Mapping[str, Any]) -> _Compared:
    return _Compared(plan, options["queries_baseline"])


def _collect(visit: Visit, compared: _Compared) -> QueriesReport:
    note, baseline = _NOT_COMPARED, None
    if compared.earlier:
        try:
            note, baseline = "", Baseline.parse(compared.earlier)
        except InvalidInput as exc:  # a damaged file is no reason to show nothing
            note = f"No comparison is possible: {exc.message}"
    report = visit.ask(lambda session: collect(session, compared.plan, visit.now, baseline))
    return replace(report, notes=[*report.notes, note]) if note and report.available else report


SECTION = Section("queries", _collect, describe, QueriesPlan(), _configure)
