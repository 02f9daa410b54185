# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `disk` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...module_utils._units import human_size
from .._charts import Bar, BarChart, bars, ranked
from .._text import percent
from .section import Data, Facts, LabelledValue, Metric, OverviewColumn, SectionPage, Tile, TrendChart, gauge


def _facts(data: Data) -> dict[str, Any]:
    fullest = max(data.get("file_systems") or [], key=lambda each: each["used_ratio"], default=None)
    return {
        "disk_used_ratio": fullest["used_ratio"] if fullest else None,
        "disk_free_bytes": fullest["free_bytes"] if fullest else None,
    }


def _tiles(facts: Facts) -> Iterator[Tile]:
    if facts["disk_used_ratio"] is not None:
        free = f"{human_size(facts['disk_free_bytes'])} free"
        yield Tile("Fullest disk", f"{percent(facts['disk_used_ratio'])} used", free)


def _charts(data: Data) -> Iterator[BarChart | None]:
    rows = []
    for each in data.get("file_systems") or []:
        kinds = ", ".join(dict.fromkeys(str(held["kind"]) for held in each["holds"]))
        severity = "critical" if each["used_ratio"] >= 0.9 else "warning" if each["used_ratio"] >= 0.8 else ""
        told = f"{percent(each['used_ratio'])} used, {human_size(each['free_bytes'])} free"
        rows.append(Bar(kinds, each["used_ratio"], told, severity))
    yield bars("File systems", rows)
    holders = [each for each in (data.get("wal") or {}).get("holders") or [] if each.get("held_bytes")]
    sizes = [(each["name"], each["held_bytes"], human_size(each["held_bytes"])) for each in holders]
    yield ranked("WAL retained, by holder", sizes)


def _file_systems(data: Data, facts: Facts) -> Iterator[LabelledValue]:
    for each in data.get("file_systems") or []:
        yield {"holds": ", ".join(sorted({str(held["kind"]) for held in each["holds"]}))}, each["used_ratio"]


SECTION = SectionPage(
    name="disk",
    title="Disks",
    columns={
        "file_systems": ["used_ratio", "free_bytes", "total_bytes", "holds"],
        "wal": ["size_bytes", "files", "ready_files", "max_wal_size_bytes"],
        "orphans": ["files", "size_bytes"],
    },
    facts=_facts,
    kept=("disk_used_ratio",),
    tiles=_tiles,
    overview=[OverviewColumn("Disk used", lambda facts: percent(facts["disk_used_ratio"]))],
    charts=_charts,
    trend=TrendChart("disk_used_ratio", "Fullest file system over time", percent, 1.0),
    metrics=[
        gauge("disk_used_ratio", "Used share of the server's fullest file system, 0 to 1.", "disk_used_ratio"),
        gauge("disk_free_bytes", "Free space on the server's fullest file system.", "disk_free_bytes"),
        Metric("file_system_used_ratio", "Used share of a file system, 0 to 1.", _file_systems),
    ],
)
