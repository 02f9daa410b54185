# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which queries cost most, and which got slower: four statements of one session, and one more for each plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from ..._errors import QueryFailed
from ..._findings import SEVERITIES, Finding
from ..._postgres import sqlstate
from ..._postgres.connection import Session
from ..._units import counted, human_duration, to_rfc3339
from . import judgement
from .comparison import Baseline, Comparison, compare
from .judgement import QueriesPlan
from .statistics import Query, Statistics, StatisticsFacts, read, read_facts, sample, with_texts

__all__ = ["Baseline", "QueriesPlan", "QueriesReport", "collect", "describe"]

_NO_RIGHT = sqlstate.INSUFFICIENT_PRIVILEGE


@dataclass(frozen=True)
class QueriesReport:
    """Facts, findings, and notes on what could not be read."""

    facts: StatisticsFacts
    findings: list[Finding]
    notes: list[str]
    queries: list[Query] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)
    comparison: Comparison = field(default_factory=Comparison)
    sample: dict[str, object] = field(default_factory=dict)

    @property
    def available(self) -> bool:
        """Whether there are figures."""
        return bool(self.sample)

    def values(self) -> dict[str, object]:
        """For a module's result."""
        statistics = self.statistics
        return {
            "available": self.available,
            "extension_version": self.facts.version,
            "stats_reset": to_rfc3339(statistics.stats_reset) if statistics.stats_reset else None,
            "statement_count": statistics.statement_count,
            "call_count": statistics.call_count,
            "total_time_s": round(statistics.total_time_s, 6),
            "evictions": statistics.evictions,
            "queries": [query.as_dict() for query in self.queries],
            "compared_with": to_rfc3339(self.comparison.since) if self.comparison.since else None,
            "changes": [change.as_dict() for change in self.comparison.changes],
            "new_queries": [_new(query) for query in self.comparison.new],
            "sample": self.sample,
            "notes": self.notes,
        }


def _new(query: Query) -> dict[str, object]:
    names = ("queryid", "query", "user", "database", "calls", "total_time_s", "mean_time_s", "time_ratio")
    values = query.as_dict()
    return {name: values[name] for name in names}


def collect(session: Session, plan: QueriesPlan, now: datetime, baseline: Baseline | None = None) -> QueriesReport:
    """Read and judge. Without the extension the findings say how to get it.

    Raises:
        QueryFailed: the server went away, or took longer than the session allows.
    """
    facts = read_facts(session)
    of_extension = list(judgement.of_extension(facts))
    if not facts.readable:
        return QueriesReport(facts, of_extension, ["Query statistics are not available."])
    try:
        statistics = read(
            session, facts, all_databases=plan.all_databases, sort=plan.sort, top=plan.top, sample=plan.sample_size
        )
        scope = "" if plan.all_databases else facts.database
        comparison = compare(facts, statistics, scope, baseline) if baseline else Comparison()
        comparison = _shortened(comparison, plan)
        wanted = _wanted(statistics, comparison, plan)
        told, trouble = with_texts(session, facts, statistics.queries, wanted, plan.query_length)
    except QueryFailed as exc:
        if exc.details["sqlstate"] != _NO_RIGHT:
            raise
        return QueriesReport(
            facts, [*of_extension, _refused(facts)], [f"Query statistics are not available: {exc.why}."]
        )
    comparison = _with_texts(comparison, {query.key: query for query in told})
    findings = [
        *of_extension,
        *judgement.of_statistics(facts, statistics, plan, now),
        *judgement.of_comparison(comparison, plan),
        *judgement.of_queries(told, plan),
    ]
    findings.sort(key=lambda each: -SEVERITIES.index(each.severity))  # stable: the most expensive stays first
    return QueriesReport(
        facts=facts,
        findings=findings[: plan.most_findings],
        notes=[*_notes(facts, statistics, plan, trouble), *comparison.notes],
        queries=[query for query in told if query.rank <= plan.top],
        statistics=statistics,
        comparison=comparison,
        sample=sample(facts, statistics, scope, plan.sample_size, now),
    )


def _shortened(comparison: Comparison, plan: QueriesPlan) -> Comparison:
    """The changes that are worth a row: those that cost most, and all that got slower. And the new ones that cost."""
    slower = {finding.subject for finding in judgement.of_comparison(comparison, plan)}
    changes = [each for at, each in enumerate(comparison.changes) if at < plan.top or each.query.queryid in slower]
    new = sorted(comparison.new, key=lambda each: -each.total_time_s)
    new = [each for each in new if each.time_ratio >= plan.min_time_ratio]
    return replace(comparison, changes=changes[: plan.top + plan.most_findings], new=new[: plan.top])


def _wanted(statistics: Statistics, comparison: Comparison, plan: QueriesPlan) -> list[Query]:
    """Whose texts are shown: the listed ones, those that changed, and those that there is something to say of."""
    told = {finding.subject for finding in judgement.of_queries(statistics.queries, plan)}
    shown = [each for each in statistics.queries if each.rank <= plan.top or each.queryid in told]
    return [*shown, *(each.query for each in comparison.changes), *comparison.new]


def _with_texts(comparison: Comparison, told: Mapping[str, Query]) -> Comparison:
    changes = [replace(each, query=told[each.query.key]) for each in comparison.changes]
    return replace(comparison, changes=changes, new=[told[each.key] for each in comparison.new])


def _refused(facts: StatisticsFacts) -> Finding:
    return Finding(
        check="query_stats_refused",
        severity="warning",
        subject=facts.login,
        value=None,
        threshold=None,
        message=f"{facts.login} lacks the privilege to read query statistics.",
        remedy=f"GRANT pg_read_all_stats, and USAGE on the schema {facts.schema}, to the login.",
    )


def _notes(facts: StatisticsFacts, statistics: Statistics, plan: QueriesPlan, trouble: str) -> Sequence[str]:
    notes = []
    if statistics.hidden_count:
        notes.append(
            f"{facts.login} cannot see {counted(statistics.hidden_count, 'statement')} of other users. The sums "
            "include them, but they are not shown, compared or checked."
        )
    if trouble:
        notes.append(f"The texts of the queries cannot be read in this database: {trouble}.")
    if facts.settings.get("track_io_timing") == "off":
        by = " The queries are sorted by pages instead." if plan.sort == "io" else ""
        notes.append(f"track_io_timing is off, so io_time_s is 0.{by}")
    if "wal_bytes" not in facts.columns:
        notes.append(f"The extension has version {facts.version}, which does not count WAL: wal_bytes is 0.")
    if facts.standby:
        notes.append("This server is a standby: it counts its own queries, not those of the primary.")
    return notes


def describe(report: QueriesReport) -> str:
    """The sums and the worst finding, for people."""
    worst_one = f" {report.findings[0].message}" if report.findings else ""
    if not report.available:
        return f"Query statistics are not available.{worst_one}"
    statistics = report.statistics
    since = f" since {to_rfc3339(statistics.stats_reset)}" if statistics.stats_reset else ""
    where = "all databases" if report.sample["scope"] == "" else str(report.facts.database)
    text = (
        f"{counted(statistics.statement_count, 'statement')} of {where}, called "
        f"{counted(statistics.call_count, 'time')}{since},"
        f" took {human_duration(statistics.total_time_s)}."
    )
    if report.comparison.since is not None:
        slower = sum(finding.check == "query_slower" for finding in report.findings)
        which = counted(slower, "query", "queries") if slower else "No query"
        text += f" {which} got slower since {to_rfc3339(report.comparison.since)}."
    return text + worst_one
