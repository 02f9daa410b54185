# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reset query statistics, and return what they were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ..._errors import InvalidInput
from ..._plan import Plan
from ..._postgres.connection import Session
from ..._postgres.statements import compose
from ..._units import counted, human_duration, to_rfc3339
from . import sql
from .report import QueriesPlan, QueriesReport, collect

FEW_CALLS = 100  # where it is unknown since when a database is counted


@dataclass(frozen=True)
class ResetPlan(Plan):
    """What the operator wants: whether to reset all databases, or this one, if they are counted for `min_age_s`.

    `top` and `sample_size` are those of the report on what was counted until then, see `QueriesPlan`.
    """

    all_databases: bool
    min_age_s: float
    top: int
    sample_size: int


@dataclass(frozen=True)
class ResetReport:
    """What was counted until now, and whether that is over."""

    before: QueriesReport
    changed: bool
    why: str
    signature: str


def reset(session: Session, plan: ResetPlan, now: datetime) -> ResetReport:
    """Read, and reset when it is due. In check mode the session sends no reset.

    Raises:
        InvalidInput: there are no statistics, or this login may not reset them.
    """
    read = QueriesPlan(all_databases=plan.all_databases, top=plan.top, sample_size=plan.sample_size)
    before = collect(session, read, now)
    facts = before.facts
    if not before.available:
        problem = before.findings[0]
        raise InvalidInput(
            "There are no query statistics to reset",
            subject=facts.database,
            why=problem.message,
            remedy=problem.remedy,
        )
    [(allowed, arguments, signature)] = session.query(sql.MAY_RESET)
    if not plan.all_databases and not arguments:
        raise InvalidInput(
            "The statistics of one database cannot be reset",
            subject=facts.database,
            why=f"the extension has version {facts.version}",
            remedy="ALTER EXTENSION pg_stat_statements UPDATE; or use all_databases.",
        )
    if not allowed:
        raise InvalidInput(
            "The login lacks the privilege to reset query statistics",
            subject=facts.login,
            remedy=f"GRANT EXECUTE ON FUNCTION {signature} TO the login.",
        )
    why = _not_due(before, plan, now)
    if not why:
        session.execute(compose(sql.RESET_ALL if plan.all_databases else sql.RESET_DATABASE, facts.schema or ""))
    return ResetReport(before, not why, why, signature)


def _not_due(before: QueriesReport, plan: ResetPlan, now: datetime) -> str:
    """Why everything stays as it is; empty when the reset is due."""
    statistics = before.statistics
    if not statistics.statement_count:
        return "Nothing was counted."
    began = statistics.stats_reset if plan.all_databases else None
    if statistics.oldest is not None:  # a database that is quiet since its reset may have none
        began = max(began, statistics.oldest) if began else statistics.oldest
    if began is not None:
        age_s = max(0.0, (now - began).total_seconds())
        if age_s < plan.min_age_s:
            age = f"{human_duration(age_s)} ago"
            return f"They begin at {to_rfc3339(began)}, {age}; min_age is {human_duration(plan.min_age_s)}."
        return ""
    if plan.min_age_s > 0 and statistics.call_count < FEW_CALLS:
        return f"Fewer than {FEW_CALLS} calls were counted ({statistics.call_count})."
    return ""


def describe(report: ResetReport, check_mode: bool) -> str:
    """For people."""
    statistics = report.before.statistics
    what = f"{counted(statistics.statement_count, 'statement')} with {counted(statistics.call_count, 'call')}"
    if not report.changed:
        return f"Query statistics were not reset ({what}). {report.why}"
    if check_mode:
        return f"Query statistics would be reset. Discarded: {what}."
    return f"Query statistics were reset. Discarded: {what}."
