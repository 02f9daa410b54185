# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pg_stat_statements has counted, read from an extension of any version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..._errors import QueryFailed
from ..._postgres.connection import Session
from ..._postgres.query_texts import is_planned, without_secrets
from ..._postgres.statements import compose
from ..._units import to_rfc3339
from . import sql

HIDDEN = "<insufficient privilege>"  # as the extension says it itself


@dataclass(frozen=True)
class StatisticsFacts:
    """The extension and what this login may see of it. `settings` has those that the login may read."""

    version: str | None
    schema: str | None
    columns: Sequence[str]
    has_info: bool
    available: str | None
    settings: Mapping[str, str]
    pending_restart: bool
    sees_all: bool
    standby: bool
    login: str
    database: str
    encoding: str
    block_size: int
    server_major: int

    @property
    def preloaded(self) -> bool:
        """Whether the server has loaded the library when it started."""
        return "pg_stat_statements.max" in self.settings

    @property
    def readable(self) -> bool:
        """Whether there is something to read."""
        return self.preloaded and self.schema is not None

    @property
    def outdated(self) -> bool:
        """Whether the extension is older than the library of the server."""
        return bool(self.version and self.available and _parts(self.version) < _parts(self.available))


def _parts(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split(".")]


@dataclass(frozen=True)
class Query:
    """One statement as its user ran it in one database. Times are in seconds, and sums since its counting began."""

    queryid: str | None
    userid: int
    dbid: int
    toplevel: bool
    user: str | None
    database: str | None
    calls: int
    rows: int
    total_time_s: float
    mean_time_s: float
    stddev_time_s: float
    max_time_s: float
    plan_time_s: float
    time_ratio: float
    hit_bytes: int
    read_bytes: int
    dirtied_bytes: int
    written_bytes: int
    temp_bytes: int
    wal_bytes: int
    io_time_s: float
    since: datetime | None
    rank: int
    text: str | None = None
    cut: bool = False

    @property
    def key(self) -> str:
        """What it is known by in samples."""
        return f"{self.queryid}/{self.userid}/{self.dbid}" + ("" if self.toplevel else "/nested")

    @property
    def hit_ratio(self) -> float | None:
        """Which share of its pages was in the server's cache; None when it asked for none."""
        pages = self.hit_bytes + self.read_bytes
        return round(self.hit_bytes / pages, 4) if pages else None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "queryid": self.queryid,
            "query": self.text,
            "query_cut": self.cut,
            "user": self.user,
            "database": self.database,
            "toplevel": self.toplevel,
            "calls": self.calls,
            "total_time_s": round(self.total_time_s, 6),
            "mean_time_s": round(self.mean_time_s, 6),
            "stddev_time_s": round(self.stddev_time_s, 6),
            "max_time_s": round(self.max_time_s, 6),
            "plan_time_s": round(self.plan_time_s, 6),
            "time_ratio": round(self.time_ratio, 4),
            "rows": self.rows,
            "cache_hit_ratio": self.hit_ratio,
            "shared_hit_bytes": self.hit_bytes,
            "shared_read_bytes": self.read_bytes,
            "shared_dirtied_bytes": self.dirtied_bytes,
            "temp_bytes": self.temp_bytes,
            "wal_bytes": self.wal_bytes,
            "io_time_s": round(self.io_time_s, 6),
        }


@dataclass(frozen=True)
class Statistics:
    """What was counted in the scope: some statements, and sums over all of them.

    Attributes:
        queries: those that were asked for, in the order that was asked for.
        statement_count: how many statements there are figures of.
        call_count: how often top-level ones were called.
        total_time_s: how long those took.
        hidden_count: how many statements of other users this login may not know.
        stats_reset: since when the server counts; None when it does not tell.
        oldest: since when the oldest statement of the scope is counted (extension 1.11 and later).
        evictions: how often the server has dropped statements for want of room; None when it does not tell.
    """

    queries: list[Query] = field(default_factory=list)
    statement_count: int = 0
    call_count: int = 0
    total_time_s: float = 0.0
    hidden_count: int = 0
    stats_reset: datetime | None = None
    oldest: datetime | None = None
    evictions: int | None = None


def read_facts(session: Session) -> StatisticsFacts:
    """Whether the extension is there, and at work."""
    row = session.query(sql.FACTS)[0]._asdict()
    row["settings"] = row["settings"] or {}
    return StatisticsFacts(**row, server_major=session.server_version // 10000)


def read(
    session: Session, facts: StatisticsFacts, *, all_databases: bool, sort: str, top: int, sample: int
) -> Statistics:
    """The figures: of the first `top` by `sort` and of the first `sample` by total time."""
    evictions = stats_reset = None
    if facts.has_info:
        [(evictions, stats_reset)] = session.query(compose(sql.INFO, facts.schema or ""))
    limits = {"all_databases": all_databases, "top": top, "sample": max(1, sample)}
    rows = session.query(compose(sql.numbers(facts.columns, sort), facts.schema or ""), limits)
    if not rows:
        return Statistics(stats_reset=stats_reset, evictions=evictions)
    first = rows[0]
    return Statistics(
        queries=[_query(row, facts.block_size) for row in rows],
        statement_count=first.statement_count,
        call_count=first.all_calls or 0,
        total_time_s=(first.all_ms or 0.0) / 1000,
        hidden_count=first.hidden,
        stats_reset=stats_reset,
        oldest=first.oldest,
        evictions=evictions,
    )


def _query(row: Any, block: int) -> Query:
    return Query(
        queryid=None if row.queryid is None else str(row.queryid),
        userid=row.userid,
        dbid=row.dbid,
        toplevel=row.toplevel,
        user=row.user,
        database=row.database,
        calls=row.calls,
        rows=row.rows,
        total_time_s=row.total_ms / 1000,
        mean_time_s=row.mean_ms / 1000,
        stddev_time_s=row.stddev_ms / 1000,
        max_time_s=row.max_ms / 1000,
        plan_time_s=row.plan_ms / 1000,
        time_ratio=row.total_ms / row.all_ms if row.all_ms else 0.0,
        hit_bytes=int(row.hit) * block,
        read_bytes=int(row.read) * block,
        dirtied_bytes=int(row.dirtied) * block,
        written_bytes=int(row.written) * block,
        temp_bytes=int(row.temp_read + row.temp_written) * block,
        wal_bytes=int(row.wal_bytes),
        io_time_s=row.io_ms / 1000,
        since=row.stats_since,
        rank=row.by_sort,
    )


def with_texts(
    session: Session, facts: StatisticsFacts, queries: Sequence[Query], wanted: Iterable[Query], length: int
) -> tuple[list[Query], str]:
    """The same statements, those that are wanted with the beginning of their texts; and why not, if that failed."""
    known = [each for each in wanted if each.queryid is not None]
    texts: dict[tuple[str, int, int], tuple[str | None, bool]] = {}
    trouble = ""
    if known:
        words = {
            "length": length,
            "encoding": "SQL_ASCII" if facts.encoding == "SQL_ASCII" else "UTF8",
            "queryids": [int(each.queryid or 0) for each in known],
            "userids": [each.userid for each in known],
            "dbids": [each.dbid for each in known],
        }
        try:
            for row in session.query(compose(sql.TEXTS, facts.schema or ""), words):
                text = None if row.query is None else bytes(row.query).decode("utf-8", "replace")
                # The server keeps the literals of all but planned statements.
                told = text if text is None or is_planned(text) else without_secrets(text)
                texts[str(row.queryid), row.userid, row.dbid] = (told, bool(row.cut))
        except QueryFailed as exc:
            if not str(exc.details["sqlstate"]).startswith("22"):  # a text in another encoding than it should have
                raise
            trouble = exc.why
    return [_with_text(each, texts) for each in queries], trouble


def _with_text(query: Query, texts: Mapping[tuple[str, int, int], tuple[str | None, bool]]) -> Query:
    if query.queryid is None:
        return replace(query, text=HIDDEN)
    text, cut = texts.get((query.queryid, query.userid, query.dbid), (None, False))
    return replace(query, text=text, cut=cut)


def sample(facts: StatisticsFacts, statistics: Statistics, scope: str, size: int, now: datetime) -> dict[str, object]:
    """What a later run compares with: of the first `size` by total time only the counters."""
    largest = sorted(statistics.queries, key=lambda each: -each.total_time_s)
    kept = [each for each in largest if each.queryid is not None][:size]
    reset = statistics.stats_reset
    return {
        "collected_at": to_rfc3339(now),
        "server_major": facts.server_major,
        "scope": scope,
        "stats_reset": to_rfc3339(reset) if reset else None,
        "evictions": statistics.evictions,
        "statement_count": statistics.statement_count,
        "call_count": statistics.call_count,
        "total_time_s": round(statistics.total_time_s, 6),
        "queries": {each.key: {"calls": each.calls, "total_time_s": round(each.total_time_s, 6)} for each in kept},
    }
