# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of one host as a page and as Markdown: what is wrong and what to do on top, the figures below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import _health_html as html
from ._charts import clipped
from ._health import TITLES, HostHealth
from ._health_html import Tile, figure, percent
from ._health_sections import charts, section_tables
from ._html import safe
from ._markdown import as_table, escape
from ._report import NOTHING, Table

_MOST_ROWS = 15
_LONGEST_CELL = 300


def render(host: HostHealth, overview: bool) -> str:
    """The page. `overview`: there is one of all hosts, to lead back to."""
    parts = (host.database, host.collected_at)
    about = " \u00b7 ".join(safe(part) for part in parts if part)
    back = '<p class="about back"><a href="../health.html">All hosts</a></p>' if overview else ""
    head = [
        f"<h1>Health of {safe(host.host)}</h1>",
        f'<p class="about">{about}</p>',
        html.verdict(host.severity, host.message),
        html.tiles(_tiles(host)),
        _contents(host),
    ]
    body = ['<section aria-labelledby="findings"><h2 id="findings">' + _heading(host) + "</h2>"]
    body += [*html.findings(host.host, host.findings), "</section>"]
    for name, section in host.sections.items():
        body += _section(host, name, section)
    return html.document(
        f"{host.severity}: health of {host.host}",
        [back, *head],
        body,
        f"Read {safe(host.collected_at)}. The same for programs is in health.json beside this page.",
    )


def _heading(host: HostHealth) -> str:
    return "What is wrong, and what to do" if host.worst else "What was found"


def _tiles(host: HostHealth) -> list[Tile]:
    """What is known of the host at a glance; a figure is as bad as the section that it is of."""
    facts = host.facts
    found = []
    if facts["version"]:
        found.append(Tile("PostgreSQL", str(facts["version"]).split(" ", maxsplit=1)[0], str(facts["role"])))
        found.append(Tile("Up for", figure("uptime_s", facts["uptime_s"])))
    if facts["connections"] is not None:
        used = f"{facts['connections']:,} of {facts['max_connections']:,}"
        small = f"{percent(facts['connection_share'])} of the usable"
        found.append(Tile("Connections", used, small, _severity(host, "activity")))
    if facts["databases_size_bytes"] is not None:
        size = figure("size_bytes", facts["databases_size_bytes"])
        found.append(Tile("Databases", size, "all together", _severity(host, "storage")))
    if facts["disk_used_share"] is not None:
        free = f"{figure('free_bytes', facts['disk_free_bytes'])} free"
        found.append(Tile("Fullest disk", f"{percent(facts['disk_used_share'])} used", free, _severity(host, "disk")))
    if facts["lag_bytes"] is not None or facts["replica_count"]:
        small = "" if facts["lag_s"] is None else figure("lag_s", facts["lag_s"])
        size = figure("lag_bytes", facts["lag_bytes"])
        found.append(Tile("Replication lag", size, small, _severity(host, "replication")))
    if facts["cache_hit_ratio"] is not None:
        found.append(Tile("Cache hits", f"{facts['cache_hit_ratio']:.1%}"))
    if "backups" in host.sections:
        age = facts["backup_age_s"]
        told = ("none", "") if age is None else (figure("age_s", age), "ago")
        found.append(Tile("Last good backup", *told, _severity(host, "backups")))
    return found


def _severity(host: HostHealth, section: str) -> str:
    return str(host.sections[section].get("severity") or "ok")


def _contents(host: HostHealth) -> str:
    links = "".join(f'<li><a href="#{safe(name)}">{safe(_title(name))}</a></li>' for name in host.sections)
    return f'<nav aria-label="Sections"><ul><li><a href="#findings">Findings</a></li>{links}</ul></nav>'


def _title(name: str) -> str:
    return TITLES.get(name, name.capitalize())


def _section(host: HostHealth, name: str, section: Mapping[str, Any]) -> Iterator[str]:
    identifier = safe(name)
    yield f'<section aria-labelledby="{identifier}">'
    yield f'<h2 id="{identifier}">{safe(_title(name))} {html.badge(_word(section))}</h2>'
    yield f"<p>{safe(clipped(str(section.get('message') or ''), 600))}</p>"
    drawn = charts(host, name)
    if drawn:
        yield f'<div class="charts">{"".join(drawn)}</div>'
    for table in section_tables(host, name):
        yield from html.table(table, _MOST_ROWS)
    yield html.notes(section.get("notes") or [])
    yield "</section>"


def _word(section: Mapping[str, Any]) -> str:
    state = str(section.get("state") or "read")
    return str(section.get("severity") or "ok") if state == "read" else state


def markdown(host: HostHealth) -> str:
    """The same as text."""
    lines = [
        f"# Health of {escape(host.host)}",
        "",
        f"**{host.severity.upper()}** {escape(host.message)}",
        "",
        *([f"- Database: {escape(host.database)}"] if host.database else []),
        f"- Time: {escape(host.collected_at)}",
        *(
            f"- {tile.name}: {escape(tile.figure)}{f' ({escape(tile.small)})' if tile.small else ''}"
            for tile in _tiles(host)
        ),
        "",
        "## Findings",
        "",
    ]
    lines += as_table(findings_table(host)) if host.findings else ["Nothing was found that needs anybody."]
    for name, section in host.sections.items():
        lines += ["", f"## {escape(_title(name))}", "", escape(clipped(str(section.get("message") or NOTHING), 600))]
        for table in section_tables(host, name):
            lines += ["", f"### {escape(table.title)}", "", *as_table(_short(table))]
        if section.get("notes"):
            lines += ["", *(f"- {escape(clipped(str(note), 600))}" for note in section["notes"])]
    return "\n".join(lines) + "\n"


def findings_table(host: HostHealth) -> Table:
    """The findings, with the command of each remedy that is a playbook."""
    rows = []
    for each in host.findings:
        remedy = str(each.get("remedy") or NOTHING)
        typed = html.command(host.host, remedy)
        rows.append(
            [
                str(each["severity"]),
                str(each.get("section") or ""),
                clipped(str(each["subject"]), 120),
                clipped(str(each["message"]), 1000),
                clipped(remedy, 1000) + (f" ({typed})" if typed else ""),
            ]
        )
    return Table("Findings", ["Severity", "Section", "Subject", "Message", "Remedy"], rows)


def _short(table: Table) -> Table:
    rows = [[clipped(cell, _LONGEST_CELL) for cell in row] for row in table.rows[:_MOST_ROWS]]
    return Table(table.title, table.head, rows)
