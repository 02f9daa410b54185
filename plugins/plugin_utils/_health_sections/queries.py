# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `queries` on the pages."""

from __future__ import annotations

from collections.abc import Iterator

from .._charts import MOST_BARS, Bar, BarChart, bars
from .._text import percent
from .section import Data, HistoryEntry, SectionPage

# A sample of queries is large, and is compared with after days: half of these, which are not thinned, are of one week.
_APART_S = 6 * 3600
_MOST = 60


def _charts(data: Data) -> Iterator[BarChart | None]:
    found = [each for each in data.get("queries") or [] if each.get("time_ratio") is not None][:MOST_BARS]
    texts = [(" ".join(str(each.get("query") or "").split()), each["time_ratio"]) for each in found]
    yield bars("Share of total query time", [Bar(query, share, percent(share)) for query, share in texts])


def _history(data: Data) -> HistoryEntry | None:
    sample = data.get("sample")
    if not sample:
        return None
    scope = sample.get("scope")
    return HistoryEntry(f"query_performance_{scope}" if scope else "query_performance", sample, _APART_S, _MOST)


SECTION = SectionPage(
    name="queries",
    title="Queries",
    columns={
        "queries": [
            "query",
            "calls",
            "time_ratio",
            "total_time_s",
            "mean_time_s",
            "max_time_s",
            "cache_hit_ratio",
            "user",
        ],
        "changes": ["query", "calls", "time_ratio", "mean_time_before_s", "mean_time_s", "factor", "user"],
        "new_queries": ["query", "calls", "time_ratio", "total_time_s", "mean_time_s", "user"],
        "sample": [],
    },
    charts=_charts,
    history=_history,
)
