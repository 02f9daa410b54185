# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `storage` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...module_utils._units import human_size
from .._charts import BarChart, ranked
from .._text import text
from .section import Data, Facts, HistoryEntry, Metric, OverviewColumn, SectionPage, Tile, TrendChart, gauge


def _facts(data: Data) -> dict[str, Any]:
    return {"databases_size_bytes": data.get("databases_size_bytes")}


def _tiles(facts: Facts) -> Iterator[Tile]:
    if facts["databases_size_bytes"] is not None:
        yield Tile("Databases", human_size(facts["databases_size_bytes"]), "in total")


def _charts(data: Data) -> Iterator[BarChart | None]:
    for key, title, name, size in (
        ("databases", "Databases by size", "name", "size_bytes"),
        ("tables", "Largest tables, with indexes and TOAST", "identity", "total_bytes"),
    ):
        rows = sorted((each for each in data.get(key) or [] if each.get(size)), key=lambda each: -each[size])
        yield ranked(title, [(each[name], each[size], human_size(each[size])) for each in rows])


def _history(data: Data) -> HistoryEntry | None:
    return HistoryEntry("storage", data["sample"]) if data.get("sample") else None


SECTION = SectionPage(
    name="storage",
    title="Storage",
    columns={
        "databases": ["name", "size_bytes", "size_ratio", "growth_bytes_per_day"],
        "tables": ["identity", "total_bytes", "heap_bytes", "index_bytes", "toast_bytes", "rows_estimate"],
        "tablespaces": [],
        "sample": [],
    },
    facts=_facts,
    kept=("databases_size_bytes",),
    tiles=_tiles,
    overview=[OverviewColumn("Databases", lambda facts: text("size_bytes", facts["databases_size_bytes"]))],
    charts=_charts,
    trend=TrendChart("databases_size_bytes", "Size of all databases over time", human_size),
    metrics=[
        gauge("databases_size_bytes", "Size of all databases together.", "databases_size_bytes"),
        Metric(
            "database_size_bytes",
            "Size of a database.",
            lambda data, facts: [
                ({"datname": each["name"]}, each.get("size_bytes")) for each in data.get("databases") or []
            ],
        ),
    ],
    history=_history,
)
