# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of all hosts on one page, a row for each, the worst on top."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from ..module_utils._findings import SEVERITIES
from ._files import one_part
from ._health import SCHEMA_VERSION, HostHealth
from ._health_page import ShownTile
from ._health_sections.all_sections import SECTIONS
from ._report import ReportTable
from ._templates import render
from ._text import NOTHING, clipped

_LONGEST_FINDING = 240


@dataclass(frozen=True)
class HostRow:
    """A row of the overview; `cells` are those of the sections' columns."""

    severity: str
    host: str
    link: str
    worst: str
    cells: Sequence[str]


@dataclass(frozen=True)
class FleetPage:
    """Everything that the overview shows. `kinds` are the CSS classes of the columns."""

    title: str
    time: str
    severity: str
    message: str
    tiles: Sequence[ShownTile]
    headings: Sequence[str]
    kinds: Sequence[str]
    rows: Sequence[HostRow]

    @property
    def table(self) -> ReportTable:
        """The rows as one table of texts."""
        head = ["Severity", "Host", "Worst finding", *self.headings]
        return ReportTable("", head, [[row.severity, row.host, row.worst, *row.cells] for row in self.rows])


def sort(hosts: Sequence[HostHealth]) -> list[HostHealth]:
    """The worst first, then those with most findings of that kind, then by name."""
    return sorted(
        hosts,
        key=lambda host: (
            -SEVERITIES.index(host.severity),
            -sum(each["severity"] == host.severity for each in host.findings),
            host.host,
        ),
    )


def severity(hosts: Sequence[HostHealth]) -> str:
    """The worst of all; critical without a host, since nothing is known."""
    return max((host.severity for host in hosts), key=SEVERITIES.index, default="critical")


def message(hosts: Sequence[HostHealth]) -> str:
    """How many hosts have critical findings, and how many more have warnings."""
    if not hosts:
        return "No host was checked, so the state of all servers is unknown."
    total = f"{len(hosts):,} {'host' if len(hosts) == 1 else 'hosts'}"
    critical = sum(host.severity == "critical" for host in hosts)
    warning = sum(host.severity == "warning" for host in hosts)
    parts = [f"{critical:,} critical"] if critical else []
    parts += [f"{warning:,} with warnings"] if warning else []
    return f"{total}: {', '.join(parts)}." if parts else f"No problems found on {total}."


def _json(hosts: Sequence[HostHealth], now: str) -> str:
    """All rows for programs, and all findings that are more than a hint, each with its host."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "playbook": "health",
        "title": "Health of all hosts",
        "time": now,
        "collected_at": now,
        "severity": severity(hosts),
        "message": message(hosts),
        "findings": [
            {**each, "host": host.host}
            for word in ("critical", "warning")
            for host in hosts
            for each in host.findings
            if each["severity"] == word
        ],
        "sections": {
            "hosts": [
                {
                    "host": host.host,
                    "database": host.database,
                    "severity": host.severity,
                    "message": host.message,
                    "reachable": host.reachable,
                    "collected_at": host.collected_at,
                    "worst": dict(host.worst) if host.worst else None,
                    "page": _page(host),
                    **host.facts,
                }
                for host in hosts
            ]
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def _page(host: HostHealth) -> str:
    """A link, from the overview: a name may have any character."""
    return quote(one_part(host.host), errors="surrogateescape") + "/health.html"


def texts(hosts: Sequence[HostHealth], now: str) -> dict[str, str]:
    """The overview: `json`, `md` and `html`."""
    page = _fleet(hosts, now)
    return {
        "json": _json(hosts, now),
        "md": render("health/fleet.md.j2", page=page),
        "html": render("health/fleet.html.j2", page=page),
    }


def _fleet(hosts: Sequence[HostHealth], now: str) -> FleetPage:
    counted = [(word, sum(host.severity == word for host in hosts)) for word in reversed(SEVERITIES)]
    columns = [column for section in SECTIONS for column in section.overview]
    return FleetPage(
        title=f"{severity(hosts)}: health of {len(hosts):,} {'host' if len(hosts) == 1 else 'hosts'}",
        time=now,
        severity=severity(hosts),
        message=message(hosts),
        tiles=[ShownTile(word.capitalize(), f"{count:,}", "", word if count else "ok") for word, count in counted],
        headings=[column.heading for column in columns],
        kinds=[column.kind for column in columns],
        rows=[
            HostRow(
                severity=host.severity,
                host=host.host,
                link=_page(host),
                worst=clipped(str(host.worst["message"]), _LONGEST_FINDING) if host.worst else NOTHING,
                cells=[column.cell(host.facts) for column in columns],
            )
            for host in hosts
        ],
    )
