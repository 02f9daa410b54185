# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages and Prometheus show of one section of `health`: one object for each, in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._charts import Chart

Data = Mapping[str, Any]
Facts = Mapping[str, Any]
LabelledValue = tuple[Mapping[str, object], object]


@dataclass(frozen=True)
class Tile:
    """A figure at a glance: its name, the figure and a word about it. `judged`: it is as bad as its section."""

    name: str
    figure: str
    small: str = ""
    judged: bool = True


@dataclass(frozen=True)
class OverviewColumn:
    """A column of the overview of all hosts: its heading and the cell of a host. `kind` is its class in the CSS."""

    heading: str
    cell: Callable[[Facts], str]
    kind: str = "n"


@dataclass(frozen=True)
class TrendChart:
    """A fact over time: its title, how to write a value, and what the top of the chart is, a fact or a number."""

    fact: str
    title: str
    say: Callable[[float], str]
    ceiling: str | float | None = None


@dataclass(frozen=True)
class Metric:
    """A metric for Prometheus: its name without the prefix, its help, and its samples of one host."""

    name: str
    help: str
    samples: Callable[[Data, Facts], Iterable[LabelledValue]]
    kind: str = "gauge"


@dataclass(frozen=True)
class HistoryEntry:
    """A sample for the history of another playbook.

    Attributes:
        name: of the history.
        sample: what to add.
        apart_s: how old the newest sample must be before another one is added.
        most: how many are kept at most, if that is less than for other histories.
    """

    name: str
    sample: Mapping[str, Any]
    apart_s: float = 0.0
    most: int | None = None


@dataclass(frozen=True)
class SectionPage:
    """One section.

    Attributes:
        name: as the module's result has it.
        title: its heading.
        columns: those of a table, by the name of the value; a value with none is not shown.
        facts: the figures at a glance, from the section's data. None when unknown, as all are when there are no data.
        kept: the facts that the history of the page keeps.
        tiles: the figures on top of the page, from the facts.
        overview: its columns in the overview of all hosts.
        charts: from the section's data; None when there is nothing to draw.
        trend: a fact over time.
        metrics: for Prometheus.
        history: what another playbook's history keeps of the data; None when there is nothing.
    """

    name: str
    title: str
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Callable[[Data], dict[str, Any]] = lambda data: {}
    kept: Sequence[str] = ()
    tiles: Callable[[Facts], Iterator[Tile]] = lambda facts: iter(())
    overview: Sequence[OverviewColumn] = ()
    charts: Callable[[Data], Iterator[Chart | None]] = lambda data: iter(())
    trend: TrendChart | None = None
    metrics: Sequence[Metric] = ()
    history: Callable[[Data], HistoryEntry | None] = lambda data: None


def gauge(name: str, text: str, fact: str) -> Metric:
    """A metric that is one of the facts."""
    return Metric(name, text, lambda data, facts: [({}, facts[fact])])


def counter(name: str, text: str, key: str) -> Metric:
    """A metric that only grows, from the section's data."""
    return Metric(name, text, lambda data, facts: [({}, data.get(key))], "counter")
