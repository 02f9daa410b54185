# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a CronJob is due: its five fields read as Kubernetes reads them.

https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax, which is the parser of
https://github.com/robfig/cron: `?` is `*`, Sunday is 0 and never 7, `5/15` begins at 5, and a day that is given in both
ways has to fit only one of them. What falls into the hour that a change of clocks leaves out does not come; what falls
into the hour that comes twice, comes twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from ..._errors import InvalidInput
from ..._units import counted

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (  # name, least, most, names of the values
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(?P<start>\*|\?|\w+)(-(?P<end>\w+))?(/(?P<step>\d+))?")
# A 29 February comes within eight years, over a century without one as well.
_HORIZON = timedelta(days=8 * 366 + 1)


@dataclass(frozen=True)
class Cron:
    """A schedule. The `any_` flags: the field is `*`, so that only the other one decides about the day."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Read a schedule.

        Raises:
            InvalidInput: Kubernetes would refuse it, or it never comes.
        """
        fields = _MACROS.get(text.strip().lower(), text).split()
        if len(fields) != len(_FIELDS):
            raise _refusal(text, f"it has {counted(len(fields), 'field')} instead of {len(_FIELDS)}")
        read = [_field(text, number, field) for number, field in enumerate(fields)]
        (minutes, dummy), (hours, dummy), (days, any_day), (months, dummy), (weekdays, any_weekday) = read
        found = cls(text, minutes, hours, days, months, weekdays, any_day, any_weekday)
        start = datetime(2000, 1, 1, tzinfo=timezone.utc)
        if found.following(start, timezone.utc) is None:
            raise _refusal(text, "no month has such a day")
        return found

    def following(self, after: datetime, zone: tzinfo) -> datetime | None:
        """The first time after this one, in UTC."""
        return next(self.times(after, after + _HORIZON, zone), None)

    def times(self, after: datetime, until: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Every time after the first moment and not after the second, in UTC and in order."""
        day, last = after.astimezone(zone).date() - timedelta(days=1), until.astimezone(zone).date()
        while day <= last:
            if self._fits(day):
                yield from (each for each in self._on(day, zone) if after < each <= until)
            day += timedelta(days=1)

    def _fits(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        either = not (self.any_day or self.any_weekday)
        return day.month in self.months and (in_month or in_week if either else in_month and in_week)

    def _on(self, day: date, zone: tzinfo) -> list[datetime]:
        found = set()
        for hour in self.hours:
            for minute in self.minutes:
                wall = datetime.combine(day, time(hour, minute))
                for fold in (0, 1):
                    moment = wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc)
                    if moment.astimezone(zone).replace(tzinfo=None) == wall:  # else the clocks leave it out
                        found.add(moment)
        return sorted(found)


def _field(text: str, number: int, field: str) -> tuple[frozenset[int], bool]:
    """The values of a field, and whether it is `*`."""
    values: set[int] = set()
    is_any = False
    for part in field.split(","):
        start, end, step = _range(text, number, part)
        values.update(range(start, end + 1, step))
        is_any |= part[:1] in ("*", "?") and step == 1
    return frozenset(values), is_any


def _range(text: str, number: int, part: str) -> tuple[int, int, int]:
    name, least, most, dummy = _FIELDS[number]
    match = _PART.fullmatch(part)
    step = int(match["step"] or 1) if match else 0
    if match is None or step == 0 or (match["start"] in ("*", "?") and match["end"]):
        raise _refusal(text, f"{part!r} is invalid as {name}")
    if match["start"] in ("*", "?"):
        return least, most, step
    start = _value(text, number, match["start"])
    last = most if match["step"] else start
    end = _value(text, number, match["end"]) if match["end"] else last
    if start > end:
        raise _refusal(text, f"{part!r} ends before it begins")
    return start, end, step


def _value(text: str, number: int, word: str) -> int:
    name, least, most, names = _FIELDS[number]
    value = names.get(word.lower(), int(word) if word.isascii() and word.isdigit() else -1)
    if not least <= value <= most:
        raise _refusal(text, f"{word!r} is invalid as {name}, {least} to {most}")
    return value


def _refusal(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        "Invalid cron",
        subject=repr(text),
        why=why,
        remedy="Write minute, hour, day of the month, month and day of the week: '0 2 * * *' is 02:00 every day.",
    )
