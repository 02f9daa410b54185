# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations, sizes and times as people write them and as results carry them."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone, tzinfo

from ._errors import InvalidInput

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_S = 1000 * 365 * 86400
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB)?", re.IGNORECASE)
_SIZES = "bkmgt"
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhdw])")


def parse_duration(text: object, option: str) -> float:
    """Seconds of a duration such as `90`, `90s`, `15m`, `1d12h` or `2w`.

    Raises:
        InvalidInput: the text is not a duration; the message names the option.
    """
    cleaned = str(text).strip().lower()
    seconds = math.inf
    if re.fullmatch(r"\d+(\.\d+)?", cleaned):
        seconds = float(cleaned)
    elif cleaned and not _PART.sub("", cleaned).strip():
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(cleaned))
    if seconds <= _LONGEST_S:
        return seconds
    raise InvalidInput(
        f"Invalid {option}",
        subject=repr(text),
        why="it is not a duration",
        remedy="Write seconds, or numbers with the units s, m, h, d or w, for example 90s, 15m or 1d12h.",
    )


def human_duration(seconds: float) -> str:
    """A duration for people, its two largest units: `450 ms`, `12.3 s`, `2 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 0.9995:  # above it would be rounded to 1000 ms
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, small, small_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 index`, `2,000 indexes`. `many` is `one` with an `s` if left out."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def parse_size(text: object, option: str) -> int:
    """Bytes of a size such as `65536`, `64kB`, `16MB` or `1.5GB`, in the binary units of PostgreSQL.

    Raises:
        InvalidInput: the text is not a size; the message names the option.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match:
        return int(float(match[1]) * 1024 ** _SIZES.index((match[2] or "b").lower()[:1]))
    raise InvalidInput(
        f"Invalid {option}",
        subject=repr(text),
        why="it is not a size",
        remedy="Write bytes, or a number with the unit kB, MB, GB or TB, for example 64MB.",
    )


def human_size(size_bytes: float) -> str:
    """A size for people, in binary units: `512 B`, `1.5 KiB`, `2.1 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size_bytes) < 1023.95:  # above it would be rounded to 1024.0
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} PiB"


def utc_now() -> datetime:
    """The time now, in UTC, to the second. Only callers at the edge ask; decisions take `now` as an argument."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def to_rfc3339(moment: datetime) -> str:
    """`2026-02-06T03:04:05Z`."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_rfc3339(text: str) -> datetime:
    """The moment that `to_rfc3339` wrote. Raises ValueError for anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def read_zone(name: str | None) -> tzinfo:
    """The time zone of a CronJob; without a name, UTC, which is what the clusters' controllers have.

    Raises:
        InvalidInput: this host knows no such zone.
    """
    if name is None or name in ("UTC", "Etc/UTC"):
        return timezone.utc
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            "Invalid time_zone",
            subject=repr(name),
            why="this host has no such time zone",
            remedy="Use a name of the IANA database, for example Europe/Berlin; the package tzdata has them.",
        ) from None
