# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `backups` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...module_utils._units import human_duration
from .._text import text
from .section import Data, Facts, OverviewColumn, SectionPage, Tile, gauge


def _facts(data: Data) -> dict[str, Any]:
    usable = {each.get("newest_usable") for each in data.get("databases") or []}
    ages = [each["age_s"] for each in data.get("backups") or [] if each.get("id") in usable and "age_s" in each]
    # Of several databases the one whose newest backup is the oldest.
    return {"backup_age_s": max(ages, default=None)}


def _tiles(facts: Facts) -> Iterator[Tile]:
    age = facts["backup_age_s"]
    yield Tile("Last good backup", *(("none", "") if age is None else (human_duration(age), "ago")))


SECTION = SectionPage(
    name="backups",
    title="Backups",
    columns={
        "backups": ["id", "state", "age_s", "verdict", "size_bytes", "duration_s"],
        "databases": [],
    },
    facts=_facts,
    tiles=_tiles,
    overview=[OverviewColumn("Last good backup", lambda facts: text("age_s", facts["backup_age_s"]))],
    metrics=[gauge("backup_age_seconds", "Age of the newest usable backup.", "backup_age_s")],
)
