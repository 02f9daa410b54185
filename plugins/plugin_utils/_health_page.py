# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of one host as a page and as Markdown: findings and remedies on top, the figures below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import _health_findings, _health_tables
from ._health import HostHealth
from ._health_findings import MOST_FINDINGS, ShownFinding
from ._health_sections.all_sections import page_of
from ._health_tables import ShownSection
from ._templates import render
from ._text import clipped

_LONGEST_TITLE = 120


@dataclass(frozen=True)
class ShownTile:
    """A figure at a glance: its name, the figure, a word about it, and how bad the section is that it comes from."""

    name: str
    figure: str
    small: str
    severity: str


@dataclass(frozen=True)
class HostPage:
    """Everything that a page shows."""

    title: str
    host: str
    database: str
    collected_at: str
    severity: str
    message: str
    tiles: Sequence[ShownTile]
    findings: Sequence[ShownFinding]
    more_findings: int
    passed: Sequence[ShownFinding]
    sections: Sequence[ShownSection]


def texts(host: HostHealth) -> dict[str, str]:
    """The page of a host: `json`, `md` and `html`."""
    page = _page(host)
    return {
        "json": host.as_json(),
        "md": render("health/host.md.j2", page=page),
        "html": render("health/host.html.j2", page=page),
    }


def _page(host: HostHealth) -> HostPage:
    found = [_health_findings.shown(host.host, each) for each in host.findings]
    problems = [each for each in found if each.severity != "ok"]
    return HostPage(
        title=clipped(f"{host.severity}: health of {host.host}", _LONGEST_TITLE),
        host=host.host,
        database=host.database,
        collected_at=host.collected_at,
        severity=host.severity,
        message=host.message,
        tiles=[*_tiles(host)],
        findings=problems[:MOST_FINDINGS],
        more_findings=max(0, len(problems) - MOST_FINDINGS),
        passed=[each for each in found if each.severity == "ok"][:MOST_FINDINGS],
        sections=[_health_tables.shown(host, name) for name in host.sections],
    )


def _tiles(host: HostHealth) -> Iterator[ShownTile]:
    for name, section in host.sections.items():
        for tile in page_of(name).tiles(host.facts):
            severity = str(section.get("severity") or "ok") if tile.judged else "ok"
            yield ShownTile(tile.name, tile.figure, tile.small, severity)
