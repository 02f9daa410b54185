# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `activity` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .._charts import BarPart, Chart, ranked, stack
from .._text import percent
from .section import Data, Facts, OverviewColumn, SectionPage, Tile, TrendChart, gauge


def _facts(data: Data) -> dict[str, Any]:
    return {
        "connections": data.get("connection_count"),
        "max_connections": data.get("max_connections"),
        "connections_ratio": data.get("connections_ratio"),
    }


def _tiles(facts: Facts) -> Iterator[Tile]:
    if facts["connections"] is not None:
        used = f"{facts['connections']:,} of {facts['max_connections']:,}"
        yield Tile("Connections", used, f"{percent(facts['connections_ratio'])} of usable")


def _charts(data: Data) -> Iterator[Chart | None]:
    total = float(data.get("usable_connections") or 0)
    parts = [
        BarPart(str(each["state"]), each["sessions"], f"{each['sessions']:,}") for each in data.get("by_state") or []
    ]
    free = max(0, round(total - sum(part.size for part in parts)))
    yield stack(f"Connections by state, of {total:,.0f}", parts, total, f"free {free:,}")
    counted = sorted(data.get("by_user") or [], key=lambda each: -each["sessions"])
    yield ranked("Connections by user", [(each["user"], each["sessions"], f"{each['sessions']:,}") for each in counted])


SECTION = SectionPage(
    name="activity",
    title="Connections",
    columns={
        "blockers": ["pid", "user", "application", "database", "state", "held_up", "longest_wait_s", "query"],
        "blocking": ["pid", "blocked_by", "user", "database", "wait_s", "lock_mode", "relation", "query"],
        "idle_in_transaction": ["pid", "user", "application", "database", "transaction_age_s", "state_age_s", "query"],
        "oldest_transactions": ["pid", "user", "application", "database", "state", "transaction_age_s", "query"],
        "longest_queries": ["pid", "user", "application", "database", "query_age_s", "wait_event", "query"],
        "pool": [],
        "pooler": [],
        "wait_events": [],
        "by_state": [],
        "by_user": [],
    },
    facts=_facts,
    kept=("connections", "max_connections"),
    tiles=_tiles,
    overview=[OverviewColumn("Connections", lambda facts: percent(facts["connections_ratio"]))],
    charts=_charts,
    trend=TrendChart("connections", "Connections over time", lambda value: f"{value:,.0f}", "max_connections"),
    metrics=[
        gauge("connections", "Sessions of clients.", "connections"),
        gauge("max_connections", "The setting max_connections.", "max_connections"),
        gauge(
            "connections_ratio",
            "Sessions as a share of those that ordinary roles may have, 0 to 1.",
            "connections_ratio",
        ),
    ],
)
