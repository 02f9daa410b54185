# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What got slower since an earlier sample: mean times of the interval against those before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from ..._errors import InvalidInput
from ..._units import counted, from_rfc3339, to_rfc3339
from .statistics import Query, Statistics, StatisticsFacts

_SPARE_S = 1e-6  # samples are rounded
_SECOND = timedelta(seconds=1)  # and their times cut


@dataclass(frozen=True)
class Baseline:
    """An earlier sample, checked."""

    collected_at: datetime
    stats_reset: str | None
    evictions: int | None
    server_major: int | None
    scope: str | None
    total_time_s: float | None
    queries: Mapping[str, tuple[int, float]]

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Baseline:
        """From what a module returned as `sample`.

        Raises:
            InvalidInput: it is something else.
        """
        try:
            return cls(
                collected_at=from_rfc3339(given["collected_at"]),
                stats_reset=given.get("stats_reset") or None,
                evictions=_number(given.get("evictions")),
                server_major=_number(given.get("server_major")),
                scope=given.get("scope"),
                total_time_s=None if given.get("total_time_s") is None else float(given["total_time_s"]),
                queries={
                    str(key): (int(each["calls"]), float(each["total_time_s"]))
                    for key, each in given["queries"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
            raise InvalidInput(
                "Invalid baseline",
                why=f"it is not a sample of queries ({type(exc).__name__}: {exc})",
                remedy="Give the value of sample that this module returned earlier, or leave it out.",
            ) from None


def _number(given: Any) -> int | None:
    return None if given is None else int(given)


@dataclass(frozen=True)
class QueryChange:
    """One statement in the interval between two samples."""

    query: Query
    calls: int
    total_time_s: float
    mean_before_s: float
    restarted: bool
    time_ratio: float = 0.0

    @property
    def mean_time_s(self) -> float:
        """Per call, in the interval."""
        return self.total_time_s / self.calls

    @property
    def factor(self) -> float | None:
        """How many times as long a call takes; None when it took no time before."""
        return self.mean_time_s / self.mean_before_s if self.mean_before_s > 0 else None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "queryid": self.query.queryid,
            "query": self.query.text,
            "user": self.query.user,
            "database": self.query.database,
            "calls": self.calls,
            "total_time_s": round(self.total_time_s, 6),
            "time_ratio": round(self.time_ratio, 4),
            "mean_time_s": round(self.mean_time_s, 6),
            "mean_time_before_s": round(self.mean_before_s, 6),
            "factor": None if self.factor is None else round(self.factor, 3),
            "counters_restarted": self.restarted,
        }


@dataclass(frozen=True)
class Comparison:
    """What changed since `since`, those first that took most of the interval's time."""

    since: datetime | None = None
    reset: bool = False
    changes: list[QueryChange] = field(default_factory=list)
    new: list[Query] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(facts: StatisticsFacts, statistics: Statistics, scope: str, baseline: Baseline) -> Comparison:
    """The interval since the baseline. What cannot be compared is said instead."""
    since = to_rfc3339(baseline.collected_at)
    if baseline.scope is not None and baseline.scope != scope:
        return _incomparable(since, "belongs to another database or to all databases")
    if baseline.server_major is not None and baseline.server_major != facts.server_major:
        return _incomparable(since, f"was taken on PostgreSQL {baseline.server_major}, whose query ids differ")
    now_reset = to_rfc3339(statistics.stats_reset) if statistics.stats_reset else None
    reset = bool(baseline.stats_reset and now_reset and now_reset != baseline.stats_reset)
    notes = []
    if reset:
        notes.append(
            f"The statistics were reset at {now_reset}, after the baseline of {since}:"
            " the interval begins at the reset, and the baseline gives the figures before it."
        )
    begun = _begun_anew(statistics, baseline)
    changes, new = _changes(statistics.queries, baseline, reset, begun)
    restarted = sum(each.restarted for each in changes)
    if restarted and not reset:
        notes.append(
            f"The counters of {counted(restarted, 'query', 'queries')} restarted after the baseline of {since},"
            " because of a reset or an eviction: they are counted from that time on."
        )
    if not reset and baseline.evictions is not None and (statistics.evictions or 0) > baseline.evictions:
        notes.append(
            f"pg_stat_statements evicted statements {counted((statistics.evictions or 0) - baseline.evictions, 'time')}"
            " since the baseline: the difference may be wrong for statements that came back."
        )
    known = sum(each.total_time_s for each in changes if each.query.toplevel)
    began_at = 0.0 if reset or baseline.total_time_s is None else baseline.total_time_s
    total = max(known, statistics.total_time_s - began_at if baseline.total_time_s is not None or reset else 0.0)
    shared = [_with_ratio(each, total) for each in changes]
    shared.sort(key=lambda each: -each.total_time_s)
    return Comparison(baseline.collected_at, reset, shared, new, notes)


def _incomparable(since: str, why: str) -> Comparison:
    return Comparison(notes=[f"No comparison is possible: the baseline of {since} {why}."])


def _begun_anew(statistics: Statistics, baseline: Baseline) -> set[int]:
    """The databases that were reset by themselves, which the extension does not report before version 1.11.

    Without an eviction nothing else makes counters go backwards, or statements vanish. A database that is taken for one
    although only a few of its statements were reset looks steadier than it is, and never slower.
    """
    if statistics.oldest is not None or statistics.evictions is None or statistics.evictions != baseline.evictions:
        return set()
    found = {query.key: query for query in statistics.queries}
    all_read = not statistics.hidden_count and statistics.statement_count <= len(found)
    begun: set[int] = set()
    for key, before in baseline.queries.items():
        query = found.get(key)
        if all_read if query is None else _backwards(query, before):
            database = key.split("/")[2:3]
            begun.update(int(each) for each in database if each.isdigit())
    return begun


def _backwards(query: Query, before: tuple[int, float]) -> bool:
    calls, total_s = before
    return query.calls < calls or query.total_time_s + _SPARE_S < total_s


def _changes(
    queries: Sequence[Query], baseline: Baseline, reset: bool, begun: Collection[int]
) -> tuple[list[QueryChange], list[Query]]:
    changes: list[QueryChange] = []
    new: list[Query] = []
    for query in queries:
        if query.queryid is None:
            continue
        before = baseline.queries.get(query.key)
        if before is None:
            new.append(query)
            continue
        calls, total_s = before
        young = query.since is not None and query.since > baseline.collected_at + _SECOND
        restarted = reset or young or query.dbid in begun or _backwards(query, before)
        made = query.calls - (0 if restarted else calls)
        spent = query.total_time_s - (0.0 if restarted else total_s)
        if made > 0 and calls > 0:
            changes.append(QueryChange(query, made, max(0.0, spent), total_s / calls, restarted))
    return changes, new


def _with_ratio(change: QueryChange, total_s: float) -> QueryChange:
    ratio = change.total_time_s / total_s if total_s > 0 else 0.0
    return replace(change, time_ratio=min(1.0, ratio))
