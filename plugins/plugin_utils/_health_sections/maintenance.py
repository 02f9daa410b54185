# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `maintenance` on the pages."""

from __future__ import annotations

from collections.abc import Iterator

from .._charts import BarChart, ranked
from .section import Data, SectionPage


def _charts(data: Data) -> Iterator[BarChart | None]:
    rows = [each for each in data.get("most_dead") or [] if each["dead_rows"]]
    yield ranked("Dead rows", [(each["name"], each["dead_rows"], f"{each['dead_rows']:,}") for each in rows])


SECTION = SectionPage(
    name="maintenance",
    title="Maintenance",
    columns={
        "most_dead": ["name", "dead_rows", "dead_ratio", "live_rows", "last_vacuum_age_s", "last_analyze_age_s"],
    },
    charts=_charts,
)
