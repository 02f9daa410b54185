# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples over time: one JSON document a line, oldest first, each with `collected_at`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from ..module_utils._units import counted, from_rfc3339, to_rfc3339

HistorySample = dict[str, Any]


def parse(content: bytes) -> tuple[list[HistorySample], list[str]]:
    """The samples, oldest first, and what there is to say of the lines that are none."""
    samples: list[HistorySample] = []
    damaged: list[int] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
            from_rfc3339(sample["collected_at"])
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged.append(number)
        else:
            samples.append(sample)
    samples.sort(key=moment)
    if not damaged:
        return samples, []
    lines = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
    return samples, [f"{counted(len(damaged), 'damaged line')} of the history left out: {lines}."]


def moment(sample: Mapping[str, Any]) -> datetime:
    """When it was collected."""
    return from_rfc3339(sample["collected_at"])


def dump(samples: Sequence[Mapping[str, Any]]) -> str:
    """The content of the file."""
    return "".join(json.dumps(sample, separators=(",", ":"), default=str) + "\n" for sample in samples)


def append(
    samples: Sequence[HistorySample], sample: Mapping[str, Any], keep: int, now: datetime
) -> list[HistorySample]:
    """All samples with one more, at most `keep`. It has the time that it says of itself, or else `now`.

    One that says its time, and is there already, is not added again: a batch of a play with `serial` tells of the hosts
    before it, too.

    Raises:
        ValueError: its `collected_at` is no time.
    """
    added = {**sample, "collected_at": sample.get("collected_at") or to_rfc3339(now)}
    moment(added)
    known = "collected_at" in sample and added in samples
    grown = sorted(samples if known else [*samples, added], key=moment)
    while len(grown) > max(1, keep):
        del grown[_least_missed(grown)]
    return grown


def _least_missed(samples: Sequence[HistorySample]) -> int:
    """Which one to drop: in the older half the one closest to its neighbours, so that the past grows coarse."""
    if len(samples) < 3:
        return 0
    half = range(1, max(2, len(samples) // 2))
    return min(half, key=lambda at: moment(samples[at + 1]) - moment(samples[at - 1]))


def spread(samples: Sequence[HistorySample], most: int) -> list[HistorySample]:
    """Not more than so many of them, spread evenly, the oldest and the newest included."""
    if len(samples) <= most:
        return list(samples)
    step = (len(samples) - 1) / max(1, most - 1)
    return [samples[-1 - round(number * step)] for number in range(most)][::-1]


def baseline(samples: Sequence[HistorySample], older_than_s: float, now: datetime) -> HistorySample | None:
    """What to compare with: the newest sample that is so old, or else the oldest there is."""
    before = now - timedelta(seconds=older_than_s)
    old = [sample for sample in samples if moment(sample) <= before]
    if old:
        return old[-1]
    return samples[0] if samples else None
