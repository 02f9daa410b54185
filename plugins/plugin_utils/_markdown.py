# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A report as Markdown (the tables of GitHub and GitLab)."""

from __future__ import annotations

import re

from ._report import Report, Table, tables, text

# An underscore inside a word emphasises nothing and is left readable.
_SPECIAL = re.compile(r"[\\`*|<>\[\]~&#$]|(?<![^\W_])_|_(?![^\W_])")


def render(report: Report) -> str:
    """The whole document."""
    about = report.about
    lines = [
        f"# {escape(about.title)}",
        "",
        f"**{report.severity.upper()}** {escape(report.message)}".rstrip(),
        "",
        f"- Playbook: {escape(about.playbook)}",
        f"- Host: {escape(about.host)}",
        *([f"- Database: {escape(about.database)}"] if about.database else []),
        f"- Time: {escape(about.time)}",
        f"- Changed: {text('changed', report.changed)}",
    ]
    for table in tables(report):
        lines += ["", f"## {escape(table.title)}", "", *as_table(table)]
    return "\n".join(lines) + "\n"


def as_table(table: Table) -> list[str]:
    """The lines of a table, or of a list if it has one column without a head."""
    width = len(table.head) or max((len(row) for row in table.rows), default=0)
    if width == 1 and not table.head:
        return [f"- {escape(row[0])}" for row in table.rows]
    head = table.head or [""] * width  # Markdown has no table without a head
    lines = [head, ["---"] * width, *([escape(cell) for cell in row] for row in table.rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def escape(raw: str) -> str:
    """Text that Markdown shows as it is: in a table, too, and without any HTML coming through."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], text("", raw))
