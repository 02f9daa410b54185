# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts as inline SVG: where each part of a chart lies. `templates/charts.html.j2` draws them.

Every figure of a chart is a text beside it as well. Names and figures are HTML and no part of the SVG: so they wrap on
a phone, keep their size, and can be copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from ._text import clipped

_COLOURS = 6
_WIDTH, _HEIGHT = 600.0, 90.0
_LONGEST_NAME = 90
_LONGEST_LEGEND = 40
MOST_BARS = 10


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length (0 to 1 of the whole width), the figure as text, and its severity."""

    name: str
    share: float
    told: str
    severity: str = ""

    @property
    def shown(self) -> str:
        """The name, cut if it is too long."""
        return clipped(self.name, _LONGEST_NAME)

    @property
    def width(self) -> str:
        """The length in per cent, never beyond the track."""
        return f"{100 * min(1.0, max(0.0, self.share)):.2f}%"


@dataclass(frozen=True)
class BarChart:
    """A bar for each row, as a table: so a screen reader says name and figure, and leaves the picture out."""

    title: str
    rows: Sequence[Bar]
    kind: str = "bars"


@dataclass(frozen=True)
class BarPart:
    """A part of one bar: its name, its size, and the figure as text."""

    name: str
    size: float
    told: str


@dataclass(frozen=True)
class PlacedPart:
    """A part where it is drawn, in per cent of the bar."""

    shown: str
    told: str
    colour: str
    x: str
    width: str


@dataclass(frozen=True)
class StackedBar:
    """One bar of several parts, with all figures in a legend. `rest` names what is free."""

    title: str
    parts: Sequence[PlacedPart]
    rest: str
    kind: str = "stack"


@dataclass(frozen=True)
class LineChart:
    """A line over time, in a picture of `width` by `height`. `told` says it in words."""

    title: str
    told: str
    points: str
    width: str = f"{_WIDTH:g}"
    height: str = f"{_HEIGHT:g}"
    floor: str = f"{_HEIGHT - 3:g}"
    kind: str = "line"


Chart = Union[BarChart, StackedBar, LineChart]


def bars(title: str, rows: Sequence[Bar]) -> BarChart | None:
    """Bars whose lengths are known; None when there are none."""
    return BarChart(title, rows) if rows else None


def ranked(title: str, rows: Iterable[tuple[object, float, str]]) -> BarChart | None:
    """A bar for each name, size and figure; the largest fills the track. The first ten at most."""
    few = [*rows][:MOST_BARS]
    most = max((size for dummy, size, told in few), default=0) or 1
    return bars(title, [Bar(str(name), size / most, told) for name, size, told in few])


def stack(title: str, parts: Sequence[BarPart], total: float, rest: str) -> StackedBar | None:
    """Parts of one bar side by side, as far as it is filled; None when there is nothing to show."""
    if total <= 0 or not parts:
        return None
    at = 0.0
    placed = []
    for number, part in enumerate(parts):
        width = min(100 - at, 100 * max(0.0, part.size) / total)
        colour = f"c{number % _COLOURS + 1}"
        placed.append(PlacedPart(clipped(part.name, _LONGEST_LEGEND), part.told, colour, f"{at:.2f}%", f"{width:.2f}%"))
        at += width
    return StackedBar(title, placed, rest)


def line(
    title: str, points: Sequence[tuple[float, float]], told: str, ceiling: float | None = None
) -> LineChart | None:
    """A line over time; x are seconds. It begins at 0, so that a ripple is no wave. None below three points."""
    if len(points) < 3:
        return None
    first, last = points[0][0], points[-1][0]
    top = max([*(y for dummy, y in points), ceiling or 0.0]) or 1.0
    span = (last - first) or 1.0
    placed = " ".join(
        f"{(x - first) / span * _WIDTH:.1f},{_HEIGHT - 4 - max(0.0, y) / top * (_HEIGHT - 10):.1f}" for x, y in points
    )
    return LineChart(title, told, placed)
