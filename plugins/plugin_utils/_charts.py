# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as inline SVG. Every figure of a chart is a text beside it as well, so that nobody needs the picture.

Names and figures are HTML and no part of the SVG: so they wrap on a phone, keep their size, and can be copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ._html import safe

_COLOURS = 6
_WIDTH, _HEIGHT = 600.0, 90.0
_LONGEST_NAME = 90


@dataclass(frozen=True)
class Bar:
    """One bar: its name, how long it is (0 to 1 of the whole width), what it says, and how bad that is."""

    name: str
    share: float
    told: str
    severity: str = ""


@dataclass(frozen=True)
class Part:
    """A part of one bar: its name, its size, and what it says."""

    name: str
    size: float
    told: str


def clipped(text: str, limit: int = _LONGEST_NAME) -> str:
    """The text, cut where it is too long, and then it says so."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "\u2026"


def bars(title: str, rows: Sequence[Bar]) -> str:
    """A bar for each row, as a table: so a screen reader says name and figure, and leaves the picture out."""
    if not rows:
        return ""
    lines = []
    for row in rows:
        kind = f"fill {safe(row.severity)}" if row.severity else "fill"
        width = 100 * min(1.0, max(0.0, row.share))
        lines.append(
            f'<tr><th scope="row">{safe(clipped(row.name))}</th><td class="told">{safe(row.told)}</td>'
            '<td class="drawn" aria-hidden="true"><svg class="bar" width="100%" height="12" focusable="false">'
            '<rect class="track" width="100%" height="12" rx="3"></rect>'
            f'<rect class="{kind}" width="{width:.2f}%" height="12" rx="3"></rect>'
            "</svg></td></tr>"
        )
    return (
        f'<figure class="chart"><table class="bars"><caption>{safe(title)}</caption>'
        f"<tbody>{''.join(lines)}</tbody></table></figure>"
    )


def stack(title: str, parts: Sequence[Part], total: float, rest: str) -> str:
    """One bar of several parts, as far as it is filled, with all figures in a legend. `rest` names what is free."""
    if total <= 0 or not parts:
        return ""
    at = 0.0
    drawn, legend = [], []
    for number, part in enumerate(parts):
        colour = f"c{number % _COLOURS + 1}"
        width = min(100 - at, 100 * max(0.0, part.size) / total)
        drawn.append(f'<rect class="{colour}" x="{at:.2f}%" width="{width:.2f}%" height="26"></rect>')
        at += width
        legend.append(
            '<li><svg class="swatch" width="12" height="12" aria-hidden="true" focusable="false">'
            f'<rect class="{colour}" width="12" height="12" rx="2"></rect></svg> '
            f"{safe(clipped(part.name, 40))} <strong>{safe(part.told)}</strong></li>"
        )
    if rest:
        legend.append(
            '<li><svg class="swatch" width="12" height="12" aria-hidden="true" focusable="false">'
            f'<rect class="track" width="12" height="12" rx="2"></rect></svg> {safe(rest)}</li>'
        )
    return (
        f'<figure class="chart"><figcaption>{safe(title)}</figcaption>'
        '<svg class="stack" width="100%" height="26" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="100%" height="26"></rect>{"".join(drawn)}</svg>'
        f'<ul class="legend">{"".join(legend)}</ul></figure>'
    )


def trend(title: str, points: Sequence[tuple[float, float]], told: str, ceiling: float | None = None) -> str:
    """A line over time; x are seconds. `told` says it in words. It begins at 0, so that a ripple is no wave."""
    if len(points) < 3:
        return ""
    first, last = points[0][0], points[-1][0]
    top = max([*(y for dummy, y in points), ceiling or 0.0]) or 1.0
    span = (last - first) or 1.0
    placed = " ".join(
        f"{(x - first) / span * _WIDTH:.1f},{_HEIGHT - 4 - max(0.0, y) / top * (_HEIGHT - 10):.1f}" for x, y in points
    )
    return (
        f'<figure class="chart"><figcaption>{safe(title)}: <span class="muted">{safe(told)}</span></figcaption>'
        f'<svg class="trend" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" preserveAspectRatio="none" role="img">'
        f"<title>{safe(title)}: {safe(told)}</title>"
        f'<line class="axis" x1="0" x2="{_WIDTH:g}" y1="{_HEIGHT - 3:g}" y2="{_HEIGHT - 3:g}"></line>'
        f'<polygon class="area" points="0,{_HEIGHT - 3:g} {placed} {_WIDTH:g},{_HEIGHT - 3:g}"></polygon>'
        f'<polyline class="line" points="{placed}"></polyline></svg></figure>'
    )
