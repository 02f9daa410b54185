# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as one HTML file: no script, no font, no picture and nothing else to load."""

from __future__ import annotations

from html import escape

from ..module_utils._findings import SEVERITIES
from ._report import Report, Table, tables, text

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .25rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.about { color: GrayText; margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
thead th { border-bottom-width: 2px; } tbody tr:hover { background: var(--soft); }
tbody th { font-weight: 500; white-space: nowrap; width: 1%; padding-right: 2rem; }
.severity { font-weight: 600; padding: .1rem .5rem; border-radius: .6rem; white-space: nowrap; color: #fff; }
.ok { background: #1a7f37; } .info { background: #0969da; }
.warning { background: #9a6700; } .critical { background: #cf222e; }
@media print { body { margin: 0; max-width: none; } .scroll { overflow: visible; } }
"""


def render(report: Report) -> str:
    """The whole document."""
    about = report.about
    parts = (about.host, about.database, about.time, f"playbook {about.playbook}")
    where = " \u00b7 ".join(safe(part) for part in parts if part)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Should anything ever slip through the escaping, it still cannot run or call home.
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{safe(about.title)} \u2013 {safe(about.host)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            f"<h1>{safe(about.title)}</h1>",
            f'<p class="about">{where}</p>',
            f"<p>{_severity(report.severity)} {safe(report.message)}</p>"
            if report.message
            else _severity(report.severity),
            *(_table(table) for table in tables(report)),
            "</body>",
            "</html>",
            "",
        ]
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in table.head)
    judged = bool(table.head) and table.head[0] == "Severity"
    lines = [f"<h2>{safe(table.title)}</h2>", '<div class="scroll"><table>']
    if head:
        lines.append(f"<thead><tr>{head}</tr></thead>")
    lines.append("<tbody>")
    for row in table.rows:
        cells = [f"<td>{safe(cell)}</td>" for cell in row]
        if judged:
            cells[0] = f"<td>{_severity(row[0])}</td>"
        elif not head and len(row) > 1:
            cells[0] = f'<th scope="row">{safe(row[0])}</th>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table></div>"])


def _severity(word: str) -> str:
    known = word if word in SEVERITIES else "info"
    return f'<span class="severity {known}">{safe(word)}</span>'


def safe(raw: str) -> str:
    """Text as a page shows it: no markup, and no control characters."""
    return escape(text("", raw), quote=True)
