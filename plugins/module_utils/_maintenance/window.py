# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows: pure arithmetic on the clock of a time zone; `now` is an argument.

A window is open when the clocks of its zone show a time from its start until before its end. What falls into the hour
that a change of clocks leaves out counts as the moment of the change; of a time that comes twice the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

from .._errors import InvalidInput, RunbookError
from .._units import read_zone, to_rfc3339

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_PRECISION = timedelta(seconds=1)


class OutsideWindow(RunbookError):
    """The maintenance window is closed. Nothing was done."""


@dataclass(frozen=True)
class Opening:
    """One time in which the window is open, from `start` until before `end`, in UTC."""

    start: datetime
    end: datetime

    def as_dict(self) -> dict[str, str]:
        """For a module's result."""
        return {"start": to_rfc3339(self.start), "end": to_rfc3339(self.end)}


@dataclass(frozen=True)
class Window:
    """A maintenance window.

    Attributes:
        days: on which days it opens, 0 for Monday.
        start: when.
        end: until when; on the next day, if it is not after `start`.
        zone: whose clocks count.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: tzinfo

    @classmethod
    def parse(cls, words: Mapping[str, Any]) -> Window:
        """Read a module's option: `days`, `start`, `end`, `timezone`.

        Raises:
            InvalidInput: it is none.
        """
        return cls(
            days=_read_days(words.get("days") or DAYS),
            start=_read_time(words["start"], "window.start"),
            end=_read_time(words["end"], "window.end"),
            zone=_read_zone(words.get("timezone")),
        )

    def at(self, now: datetime) -> Opening | None:
        """The opening that holds this moment; one that the next one continues is one with it, for up to a week."""
        openings = self._openings(now)
        for number, opening in enumerate(openings):
            if opening.start <= now < opening.end:
                end = opening.end
                for later in openings[number + 1 :]:
                    if later.start > end:
                        break
                    end = max(end, later.end)
                return Opening(opening.start, end)
        return None

    def following(self, now: datetime) -> Opening:
        """The first opening that begins after this moment."""
        return next(opening for opening in self._openings(now) if opening.start > now)

    def require(self, now: datetime) -> Opening:
        """The opening that holds this moment.

        Raises:
            OutsideWindow: there is none; it says when the next one is.
        """
        found = self.at(now)
        if found is None:
            following = self.following(now)
            raise OutsideWindow(
                "The maintenance window is closed",
                why=f"it is {to_rfc3339(now)}",
                remedy=f"It opens at {to_rfc3339(following.start)} until {to_rfc3339(following.end)}."
                " Nothing was done.",
                details={"opens": to_rfc3339(following.start), "closes": to_rfc3339(following.end)},
            )
        return found

    def _openings(self, now: datetime) -> list[Opening]:
        """Those from the day before until more than a week later, in order; at least one begins after `now`."""
        today = now.astimezone(self.zone).date()
        found = []
        for number in range(-2, 17):  # two weeks: a change of clocks may leave out the only one of a week
            day = today + timedelta(days=number)
            if day.weekday() in self.days:
                start = _moment(day, self.start, self.zone)
                after = day if self.end > self.start else day + timedelta(days=1)
                end = _moment(after, self.end, self.zone)
                if start < end:
                    found.append(Opening(start, end))
        return found


def _moment(day: date, at: time, zone: tzinfo) -> datetime:
    """When the zone's clocks show this time, in UTC; if they skip it, when they do so."""
    wall = datetime.combine(day, at)
    moment = wall.replace(tzinfo=zone).astimezone(timezone.utc)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    early, late = wall.replace(tzinfo=zone, fold=1).astimezone(timezone.utc), moment
    after = late.astimezone(zone).utcoffset()
    while late - early > _PRECISION:
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == after:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)


def _read_days(names: Sequence[str]) -> frozenset[int]:
    unknown = [name for name in names if str(name).lower()[:3] not in DAYS]
    if unknown:
        raise InvalidInput("Invalid window.days", subject=", ".join(unknown), remedy=f"Use {', '.join(DAYS)}.")
    return frozenset(DAYS.index(name.lower()[:3]) for name in names)


def _read_time(text: object, option: str) -> time:
    match = _TIME.fullmatch(str(text).strip())
    if match:
        return time(int(match[1]), int(match[2]))
    if str(text).strip() == "24:00":
        return time(0, 0)
    raise InvalidInput(
        f"Invalid {option}",
        subject=repr(text),
        why="it is not a time of day",
        remedy='Write hours and minutes in quotes, "22:00": without quotes YAML reads it as the number 1320.',
    )


def _read_zone(name: str | None) -> tzinfo:
    try:
        return read_zone(name or None)
    except InvalidInput:
        from zoneinfo import available_timezones

        if available_timezones():
            why, remedy = "this time zone does not exist", "Use a name of the IANA database, for example Europe/Berlin."
        else:
            why = "the host that the module runs on has no time zones"
            remedy = "Install the package tzdata there, or use UTC."
        raise InvalidInput("Invalid window.timezone", subject=repr(name), why=why, remedy=remedy) from None
