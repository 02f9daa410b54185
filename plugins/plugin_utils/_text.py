# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as people read them: headings from names, units from names, and no control characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ..module_utils._units import human_duration, human_size

NOTHING = "\u2013"
_UNITS = (("_bytes", human_size), ("_s", human_duration))
_ACRONYMS = {"id": "ID", "lsn": "LSN", "sha256": "SHA-256"}


def label(key: str) -> str:
    """A return value's name as a heading: `size_bytes` is `Size`, `backup_id` is `Backup ID`."""
    for suffix, dummy in _UNITS:
        key = key[: -len(suffix)] if key.endswith(suffix) else key
    words = [_ACRONYMS.get(word, word) for word in key.split("_") if word]
    return " ".join(words)[:1].upper() + " ".join(words)[1:]


def labels(keys: Iterable[str]) -> list[str]:
    """The headings of one table. Two that would be the same say what they measure: `Lag (size)` and `Lag (time)`."""
    plain = {key: label(key) for key in keys}
    twice = {name for name, count in Counter(plain.values()).items() if count > 1}
    measures = {"_bytes": "size", "_s": "time"}
    found = []
    for key, name in plain.items():
        measure = next((word for suffix, word in measures.items() if key.endswith(suffix)), None)
        found.append(f"{name} ({measure})" if name in twice and measure else name)
    return found


def text(key: str, value: object) -> str:
    """A value for people. Its name tells the unit; control characters become escapes that a terminal only shows."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        for suffix, humanise in _UNITS:
            if key.endswith(suffix):
                return humanise(value)
        return f"{value:,}"
    if isinstance(value, Mapping):
        return (
            ", ".join(f"{label(str(name)).lower()} {text(str(name), part)}" for name, part in value.items()) or NOTHING
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(text(key, part) for part in value) or NOTHING
    told = str(value)
    if told.isprintable():
        return told
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in told)


def percent(share: object, digits: int = 0) -> str:
    """A share from 0 to 1 in per cent."""
    return f"{share:.{digits}%}" if isinstance(share, (int, float)) else NOTHING


def clipped(told: str, limit: int) -> str:
    """The text, cut and marked with an ellipsis where it is longer than `limit` characters."""
    return told if len(told) <= limit else told[: limit - 1].rstrip() + "\u2026"
