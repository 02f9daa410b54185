# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables and charts of a section of `health`, ready to be printed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..module_utils._units import from_rfc3339, human_duration
from ._charts import Chart, LineChart, line
from ._health import HostHealth, data_of
from ._health_sections.all_sections import page_of
from ._health_sections.section import Data, TrendChart
from ._report import ReportHeader, ReportTable, ResultReport, tables
from ._text import NOTHING, clipped

_MOST_ROWS = 15
_WIDE = 4
_LONGEST_CELL, _LONGEST_MESSAGE = 300, 600
_FIGURE = re.compile(r"-?[0-9][0-9.,]*( ?[A-Za-z%]+)?( [0-9]+ [a-z]+)?")


@dataclass(frozen=True)
class ShownTable(ReportTable):
    """A table with its first rows. `numeric` has a flag for each column, `left_out` is the number of further rows."""

    numeric: Sequence[bool]
    left_out: int

    @property
    def wide(self) -> bool:
        """Whether it is likely to scroll sideways."""
        return len(self.head) > _WIDE


@dataclass(frozen=True)
class ShownSection:
    """One section of a page. `word` is its severity, or its state if it was not read."""

    name: str
    title: str
    word: str
    message: str
    charts: Sequence[Chart]
    tables: Sequence[ShownTable]
    notes: Sequence[str]


def shown(host: HostHealth, name: str) -> ShownSection:
    """A section of a host."""
    section = host.sections[name]
    state = str(section.get("state") or "read")
    return ShownSection(
        name=name,
        title=page_of(name).title,
        word=str(section.get("severity") or "ok") if state == "read" else state,
        message=clipped(str(section.get("message") or NOTHING), _LONGEST_MESSAGE),
        charts=_charts(host, name),
        tables=_tables(host, name),
        notes=[clipped(str(each), _LONGEST_MESSAGE) for each in section.get("notes") or []],
    )


def _charts(host: HostHealth, name: str) -> list[Chart]:
    """Those with something to show."""
    page, data = page_of(name), data_of(host.sections, name)
    drawn = [*page.charts(data)] if data else []
    if page.trend is not None:
        drawn.append(_over_time(host, page.trend))
    return [each for each in drawn if each is not None]


def _over_time(host: HostHealth, trend: TrendChart) -> LineChart | None:
    """What earlier runs have seen, with this one, if that makes at least three points."""
    known = [
        (from_rfc3339(each["collected_at"]).timestamp(), float(each[trend.fact]), each)
        for each in [*host.history, host.sample]
        if isinstance(each.get(trend.fact), (int, float)) and not isinstance(each.get(trend.fact), bool)
    ]
    if len(known) < 3:
        return None
    values = [value for dummy, value, each in known]
    span, say = human_duration(known[-1][0] - known[0][0]), trend.say
    told = f"{say(values[0])} to {say(values[-1])} in {span}; lowest {say(min(values))}, highest {say(max(values))}"
    top = known[-1][2].get(trend.ceiling) if isinstance(trend.ceiling, str) else trend.ceiling
    return line(trend.title, [(at, value) for at, value, each in known], told, top)


def _tables(host: HostHealth, name: str) -> list[ShownTable]:
    """Those that are not empty, and of use to people."""
    data, columns = data_of(host.sections, name), page_of(name).columns
    chosen = {key: value for key, value in data.items() if columns.get(key) != [] and value is not None}
    about = ReportHeader("health", "", host.host, host.database, host.collected_at)
    found = tables(ResultReport(about, "ok", False, "", [], chosen, _present(chosen, columns)))
    return [
        _first_rows(_settings(each, data) if each.title == "Settings" else _plainer(each))
        for each in found
        if each.rows
    ]


def _first_rows(table: ReportTable) -> ShownTable:
    rows = [[clipped(cell, _LONGEST_CELL) for cell in row] for row in table.rows[:_MOST_ROWS]]
    numeric = [_is_numeric([row[at] for row in rows]) for at in range(len(table.head))]
    return ShownTable(table.title, table.head, rows, numeric, max(0, len(table.rows) - _MOST_ROWS))


def _is_numeric(cells: Sequence[str]) -> bool:
    known = [cell for cell in cells if cell != NOTHING]
    return bool(known) and all(_FIGURE.fullmatch(cell) for cell in known)


def _settings(table: ReportTable, data: Data) -> ReportTable:
    """Settings under the names that they have."""
    return ReportTable(table.title, (), [[str(name), str(value)] for name, value in sorted(data["settings"].items())])


def _present(data: Data, columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns that there are: a module may have none of some."""
    found = {}
    for key, names in columns.items():
        value = data.get(key)
        rows: Any = [value] if isinstance(value, Mapping) else value or []
        there = [name for name in names if any(isinstance(row, Mapping) and name in row for row in rows)]
        if there:
            found[key] = there
    return found


def _plainer(table: ReportTable) -> ReportTable:
    """Shares in per cent, and numbers that are names without commas; their headings say what they are."""
    if not table.head:
        return ReportTable(table.title, (), [[row[0], _cell(*row)] if len(row) == 2 else row for row in table.rows])
    rows = [[_cell(name, cell) for name, cell in zip(table.head, row)] for row in table.rows]
    return ReportTable(table.title, table.head, rows)


def _cell(heading: str, cell: str) -> str:
    words = heading.lower().split()
    if words[-1] in ("pid", "port"):
        return cell.replace(",", "")
    if words[-1] == "ratio":
        try:
            return f"{float(cell):.1%}"
        except ValueError:
            return cell
    return cell
