# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `server` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._charts import MOST_BARS, Bar, BarChart, bars
from .._text import NOTHING, percent, text
from .section import Data, Facts, Metric, OverviewColumn, SectionPage, Tile, counter, gauge

_WRAPAROUND = 2_000_000_000


def _facts(data: Data) -> dict[str, Any]:
    return {name: data.get(name) for name in ("version", "role", "uptime_s", "cache_hit_ratio", "deadlocks")}


def _tiles(facts: Facts) -> Iterator[Tile]:
    if facts["version"]:
        yield Tile("PostgreSQL", _version(facts), str(facts["role"]), judged=False)
        yield Tile("Up for", text("uptime_s", facts["uptime_s"]), judged=False)
    if facts["cache_hit_ratio"] is not None:
        yield Tile("Cache hits", percent(facts["cache_hit_ratio"], 1), judged=False)


def _version(facts: Facts) -> str:
    return str(facts["version"] or "").split(" ", maxsplit=1)[0]


def _charts(data: Data) -> Iterator[BarChart | None]:
    rows = sorted(data.get("databases") or [], key=lambda each: -(each.get("freeze_age") or 0))[:MOST_BARS]
    ages = [(each["name"], each.get("freeze_age") or 0) for each in rows]
    title = f"Age of the oldest rows, of {_WRAPAROUND:,} transactions"
    yield bars(title, [Bar(name, age / _WRAPAROUND, f"{age:,}") for name, age in ages])


SECTION = SectionPage(
    name="server",
    title="Server",
    columns={
        "databases": ["name", "freeze_age", "multixact_age", "commits", "rollbacks", "deadlocks", "checksum_failures"],
    },
    facts=_facts,
    kept=("cache_hit_ratio", "deadlocks"),
    tiles=_tiles,
    overview=[
        OverviewColumn(
            "PostgreSQL", lambda facts: f"{_version(facts)} {facts['role']}" if facts["version"] else NOTHING, "short"
        )
    ],
    charts=_charts,
    metrics=[
        gauge("uptime_seconds", "Time since the server was started.", "uptime_s"),
        gauge("cache_hit_ratio", "Share of blocks that were found in shared buffers, 0 to 1.", "cache_hit_ratio"),
        counter("commits_total", "Transactions that were committed.", "commits"),
        counter("rollbacks_total", "Transactions that were rolled back.", "rollbacks"),
        counter("deadlocks_total", "Deadlocks.", "deadlocks"),
        counter("checksum_failures_total", "Damaged pages that were read.", "checksum_failures"),
        Metric(
            "database_freeze_age",
            "Transactions since the oldest row that is not frozen.",
            lambda data, facts: [
                ({"datname": each["name"]}, each.get("freeze_age")) for each in data.get("databases") or []
            ],
        ),
    ],
)
