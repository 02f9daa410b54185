# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A subject as a section of `health`: how it is read, by which plan, and how it is summed up.

Each subject declares its own `SECTION`, in its own package. `_health/sections.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from .._findings import Finding
from .._postgres.connection import Login, Session
from .._target.base import Target

T = TypeVar("T")


class SectionReport(Protocol):
    """What every subject returns."""

    @property
    def findings(self) -> list[Finding]:
        """The findings."""

    @property
    def notes(self) -> list[str]:
        """What could not be read, and how to interpret the figures."""

    def values(self) -> dict[str, object]:
        """The figures, as the subject's own module returns them."""


class Ask(Protocol):
    """Calls a function with a session of the server, and returns its result."""

    def __call__(self, work: Callable[[Session], T], /) -> T:
        """Do it. It raises RunbookError when there is no session, or what the function raises."""


@dataclass(frozen=True)
class Visit:
    """One look at one server: what a section may use.

    Attributes:
        ask: calls a function with a session of the server, and returns its result.
        target: where the files and programs of the server are.
        login: how the session logs in.
        db: the database that the session is in.
        now: the caller's time, in UTC.
    """

    ask: Ask
    target: Target
    login: Login
    db: str
    now: datetime


def _unchanged(plan: Any, options: Mapping[str, Any]) -> Any:
    del options
    return plan


@dataclass(frozen=True)
class Section:
    """One section.

    Attributes:
        name: as the option `sections` and the results have it.
        collect: reads and judges by a plan. It raises RunbookError.
        describe: a report in a few sentences.
        plan: the default plan; its numbers are what the option `thresholds` may set. None if there is nothing to set.
        configure: the plan with what other options of the module say, such as earlier samples. None when the section
            cannot be read by them.
        asks: whether it needs the server, and is not read without it.
    """

    name: str
    collect: Callable[[Visit, Any], SectionReport]
    describe: Callable[[Any], str]
    plan: Any = None
    configure: Callable[[Any, Mapping[str, Any]], Any] = _unchanged
    asks: bool = True


def by_session(collect: Callable[[Session, Any, datetime], SectionReport]) -> Callable[[Visit, Any], SectionReport]:
    """How to collect what takes no more than a session, a plan and the time."""

    def collected(visit: Visit, plan: Any) -> SectionReport:
        return visit.ask(lambda session: collect(session, plan, visit.now))

    return collected
