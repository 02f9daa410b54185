# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be said of the statistics of queries, and of the queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..._findings import Finding
from ..._plan import Plan, no_option
from ..._units import counted, human_duration, human_size, to_rfc3339
from .comparison import Comparison
from .statistics import Query, Statistics, StatisticsFacts

_SHOWN = 80
_CREATE = "CREATE EXTENSION pg_stat_statements;"
_SEE_PLAN = (
    "Run the playbook godel.postgres_runbook.query_performance with query_performance_explain=true to see its plan"
)


@dataclass(frozen=True)
class QueriesPlan(Plan):
    """What to read, and what counts as too much.

    Attributes:
        all_databases: whether to look at the queries of all databases, or of this one.
        sort: by what the queries are sorted, one of `_diagnostics.queries.sql.SORTS`.
        top: how many to list.
        query_length: how many characters of each text.
        sample_size: how many go into the sample, and are judged.
        min_calls, min_time_ratio: smaller ones are not judged; the share is one of the time.
        slower_factor: how many times as long a call may take as it did.
        deviation: how many times the mean the standard deviation may be.
        hit_ratio: which share of its pages a query has to find in the cache, if it reads `read_bytes`.
        read_bytes, temp_bytes: what a query may read from outside the cache, and what it may have in temporary files.
        dominating_ratio: which share of the time one query may have, if it is at least `dominating_s`.
        evictions_per_h: how often statements may be dropped.
        most_findings: how many of them at most.
    """

    all_databases: bool = False
    sort: str = "total"
    top: int = 20
    query_length: int = 1000
    sample_size: int = 500
    min_calls: int = 20
    min_time_ratio: float = 0.01
    slower_factor: float = 1.5
    deviation: float = no_option(5.0)
    hit_ratio: float = no_option(0.9)
    read_bytes: int = no_option(1024**3)
    temp_bytes: int = no_option(1024**3)
    dominating_ratio: float = no_option(0.5)
    dominating_s: float = no_option(60.0)
    evictions_per_h: float = no_option(1.0)
    most_findings: int = no_option(50)


def of_extension(facts: StatisticsFacts) -> Iterator[Finding]:
    """A finding when queries are not counted, with the commands that enable it; or when the extension is old."""
    where = "on the primary, " if facts.standby else ""
    create = f"{where}in the database {facts.database}: {_CREATE}"
    if not facts.preloaded:
        have = (
            ""
            if facts.available
            else "Install PostgreSQL's contrib modules (packages called postgresql-contrib), then "
        )
        remedy = f"{have}{_preload(facts)} Then restart the server"
        remedy += "." if facts.schema else f", and {create}"
        pending = " A change of shared_preload_libraries waits for a restart." if facts.pending_restart else ""
        yield _of_server(
            "query_stats_missing",
            facts,
            f"Queries are not counted: the server has not loaded pg_stat_statements.{pending}",
            remedy,
        )
        return
    if facts.schema is None:
        text = (
            f"The server counts queries, but the database {facts.database} lacks the extension to read the statistics."
        )
        yield _of_server("query_stats_missing", facts, text, create[:1].upper() + create[1:])
        return
    if facts.outdated:
        yield Finding(
            check="query_stats_outdated",
            severity="info",
            subject=facts.database,
            value=facts.version,
            threshold=facts.available,
            message=f"The extension pg_stat_statements has version {facts.version};"
            f" the server provides {facts.available}.",
            remedy=f"{where}ALTER EXTENSION pg_stat_statements UPDATE;",
        )
    track = facts.settings.get("pg_stat_statements.track")
    if track == "none" or facts.settings.get("compute_query_id") == "off":
        setting = "pg_stat_statements.track" if track == "none" else "compute_query_id"
        value = "top" if track == "none" else "auto"
        yield _of_server(
            "query_stats_off",
            facts,
            f"{setting} prevents the server from counting queries.",
            f"ALTER SYSTEM SET {setting} = '{value}'; SELECT pg_reload_conf();",
        )
    if not facts.sees_all:
        yield Finding(
            check="query_texts_hidden",
            severity="info",
            subject=facts.login,
            value=None,
            threshold=None,
            message=f"{facts.login} lacks the privilege to see queries of other users; only their figures are shown.",
            remedy=f"GRANT pg_read_all_stats TO {_quoted(facts.login)};",
        )


def _of_server(check: str, facts: StatisticsFacts, message: str, remedy: str) -> Finding:
    return Finding(check, "warning", facts.database, None, None, message, remedy)


def _preload(facts: StatisticsFacts) -> str:
    """The command, with what is loaded already. Each library is a literal of its own: one for all would be one name."""
    known = facts.settings.get("shared_preload_libraries")
    if known is None:
        return (
            "add pg_stat_statements to the libraries that SHOW shared_preload_libraries lists, each in its own quotes:"
            " ALTER SYSTEM SET shared_preload_libraries = ..., 'pg_stat_statements';"
        )
    names = [name.strip().strip('"') for name in known.split(",") if name.strip()]
    literals = ", ".join("'" + name.replace("'", "''") + "'" for name in [*names, "pg_stat_statements"])
    return f"ALTER SYSTEM SET shared_preload_libraries = {literals};"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def of_statistics(
    facts: StatisticsFacts, statistics: Statistics, plan: QueriesPlan, now: datetime
) -> Iterator[Finding]:
    """Evicted statements, because there was no room for them."""
    if not statistics.evictions or statistics.stats_reset is None:
        return
    since = to_rfc3339(statistics.stats_reset)
    hours = max(1.0, (now - statistics.stats_reset).total_seconds() / 3600)
    rate = statistics.evictions / hours
    yield Finding(
        check="query_stats_evicted",
        severity="warning" if rate > plan.evictions_per_h else "info",
        subject="pg_stat_statements.max",
        value=statistics.evictions,
        threshold=None,
        message=f"pg_stat_statements evicted rarely used statements {counted(statistics.evictions, 'time')}"
        f" since {since}; it has room for {facts.settings.get('pg_stat_statements.max')}."
        " Their figures are lost, and the sums are too small.",
        remedy="Raise pg_stat_statements.max (needs a restart), and have applications use parameters, not literals.",
    )


def of_queries(queries: Sequence[Query], plan: QueriesPlan) -> Iterator[Finding]:
    """Conspicuous figures of single queries. Queries that are hidden from this login are left out."""
    for query in queries:
        if query.queryid is None or query.total_time_s <= 0:
            continue
        if query.toplevel and query.time_ratio >= plan.dominating_ratio and query.total_time_s >= plan.dominating_s:
            yield _of(
                query,
                "query_dominates",
                "info",
                round(query.time_ratio, 4),
                plan.dominating_ratio,
                f"takes {query.time_ratio:.0%} of the time of all queries ({human_duration(query.total_time_s)},"
                f" {counted(query.calls, 'call')})",
                f"{_SEE_PLAN}: an improvement there has the largest effect.",
            )
        if query.temp_bytes >= plan.temp_bytes:
            yield _of(
                query,
                "query_temp_files",
                "warning",
                query.temp_bytes,
                plan.temp_bytes,
                f"wrote and read {human_size(query.temp_bytes)} of temporary files in {counted(query.calls, 'call')}",
                f"{_SEE_PLAN}; an index in the required order, or a larger work_mem for its role, avoids them.",
            )
        if query.calls < plan.min_calls or query.time_ratio < plan.min_time_ratio:
            continue
        ratio = query.hit_ratio
        if ratio is not None and ratio < plan.hit_ratio and query.read_bytes >= plan.read_bytes:
            yield _of(
                query,
                "query_cache",
                "info",
                ratio,
                plan.hit_ratio,
                f"found only {ratio:.0%} of its pages in the cache, and read {human_size(query.read_bytes)}",
                f"{_SEE_PLAN}; it may lack an index, or shared_buffers may be too small for it.",
            )
        if query.stddev_time_s >= plan.deviation * query.mean_time_s:
            yield _of(
                query,
                "query_deviation",
                "info",
                round(query.stddev_time_s / query.mean_time_s, 2),
                plan.deviation,
                f"takes {human_duration(query.mean_time_s)} on average, and up to {human_duration(query.max_time_s)}",
                "Check whether it waits for locks (the playbook godel.postgres_runbook.connections) or has plans that"
                " suit only some of its parameters.",
            )


def of_comparison(comparison: Comparison, plan: QueriesPlan) -> Iterator[Finding]:
    """What got slower."""
    if comparison.since is None:
        return
    for change in comparison.changes:
        factor = change.factor
        if factor is None or factor < plan.slower_factor:
            continue
        if change.calls < plan.min_calls or change.time_ratio < plan.min_time_ratio:
            continue
        yield _of(
            change.query,
            "query_slower",
            "warning",
            round(factor, 3),
            plan.slower_factor,
            f"takes {human_duration(change.mean_time_s)} per call since {to_rfc3339(comparison.since)},"
            f" and took {human_duration(change.mean_before_s)} before"
            f" ({factor:.1f} times as long, {counted(change.calls, 'call')})",
            f"{_SEE_PLAN}; run the playbook godel.postgres_runbook.analyze if its tables have grown.",
        )


def _of(query: Query, check: str, severity: str, value: float, limit: float, what: str, remedy: str) -> Finding:
    return Finding(check, severity, query.queryid or "", value, limit, f"{brief(query)} {what}.", remedy)


def brief(query: Query) -> str:
    """The beginning of its text on one line, for a sentence."""
    words = " ".join("".join(char if char.isprintable() else " " for char in query.text or "").split())
    short = words[:_SHOWN] + ("..." if len(words) > _SHOWN or query.cut else "")
    return f"Query {query.queryid}" + (f" of {query.user}" if query.user else "") + (f" ({short})" if short else "")
