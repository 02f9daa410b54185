# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How something grows, and when it will be full. Pure arithmetic on samples.

The growth is the Theil-Sen estimate: the median of the slopes between any two samples. One odd sample, such as a large
temporary file, does not move it as it would move least squares. Its 95 % interval is Sen's, by ranks of these slopes:
with N = n(n-1)/2 slopes and C = 1.96 * sqrt(n(n-1)(2n+5)/18), the limits are the slopes of rank (N-C)/2 and (N+C)/2.
Of few samples that is the range of all slopes. P. K. Sen, "Estimates of the regression coefficient based on Kendall's
tau", Journal of the American Statistical Association 63 (1968), https://doi.org/10.1080/01621459.1968.10480934
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from ..._units import to_rfc3339

DAY_S = 86400.0
METHOD = "Theil-Sen slope, Sen's 95 % interval"
_LEAST_SAMPLES = 3
_MOST_SAMPLES = 200  # of more, some spread evenly: the work grows with the square
_Z_95 = 1.959964
_FAR_DAYS = 3650.0


@dataclass(frozen=True)
class GrowthTrend:
    """Growth in bytes a day: what is likely, and between which limits it probably is."""

    per_day: float
    lowest: float
    highest: float

    @property
    def certain(self) -> bool:
        """Whether it grows even by the lower limit."""
        return self.lowest > 0


@dataclass(frozen=True)
class DiskForecast:
    """When it will be full.

    Attributes:
        samples: how many the forecast was made from.
        span_s: the time between the first and the last of them.
        trend: the growth; None when nothing can be said.
        full_at: when the space is used up if it goes on so; None when it does not grow, or not within ten years.
        full_at_earliest: by the upper limit of the growth.
        full_at_latest: by the lower limit of the growth; None when that is no growth.
        why: why there is no date; empty when there is one.
    """

    samples: int
    span_s: float
    trend: GrowthTrend | None = None
    full_at: datetime | None = None
    full_at_earliest: datetime | None = None
    full_at_latest: datetime | None = None
    why: str = ""

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""

        def told(moment: datetime | None) -> str | None:
            return to_rfc3339(moment) if moment else None

        trend = self.trend
        return {
            "method": METHOD,
            "samples": self.samples,
            "span_s": self.span_s,
            "growth_bytes_per_day": round(trend.per_day) if trend else None,
            "growth_lowest_bytes_per_day": round(trend.lowest) if trend else None,
            "growth_highest_bytes_per_day": round(trend.highest) if trend else None,
            "certain": trend.certain if trend else False,
            "full_at": told(self.full_at),
            "full_at_earliest": told(self.full_at_earliest),
            "full_at_latest": told(self.full_at_latest),
            "why": self.why,
        }


def trend(points: Sequence[tuple[datetime, float]], min_span_s: float) -> tuple[GrowthTrend | None, str]:
    """The growth by points in time, oldest first, and why there is none."""
    if len(points) < _LEAST_SAMPLES:
        return None, f"Growth is computed from at least {_LEAST_SAMPLES} samples. Samples so far: {len(points)}."
    span_s = (points[-1][0] - points[0][0]).total_seconds()
    if span_s < min_span_s:
        return None, f"The samples cover {span_s / 3600:.1f} h; {min_span_s / 3600:.1f} h are needed."
    some = _thinned(points)
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0]).total_seconds() * DAY_S
        for at, later in enumerate(some)
        for earlier in some[:at]
        if later[0] > earlier[0]
    )
    count = len(some)
    spread = _Z_95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return GrowthTrend(median(slopes), slopes[low], slopes[high]), ""


def forecast(
    points: Sequence[tuple[datetime, float]], free_bytes: float | None, now: datetime, min_span_s: float
) -> DiskForecast:
    """When `free_bytes` are used up by what has grown as the points say, oldest first."""
    span_s = (points[-1][0] - points[0][0]).total_seconds() if points else 0.0
    found, why = trend(points, min_span_s)
    if found is None:
        return DiskForecast(len(points), span_s, why=why)
    if free_bytes is None:
        return DiskForecast(len(points), span_s, found, why="Free space is unknown.")
    likely = _full(free_bytes, found.per_day, now)
    if found.per_day <= 0:
        why = "It does not grow."
    elif likely is None:
        why = f"It will take more than {_FAR_DAYS / 365:.0f} years."
    return DiskForecast(
        samples=len(points),
        span_s=span_s,
        trend=found,
        full_at=likely,
        full_at_earliest=_full(free_bytes, found.highest, now) if likely else None,
        full_at_latest=_full(free_bytes, found.lowest, now) if likely else None,
        why=why,
    )


def _full(free_bytes: float, per_day: float, now: datetime) -> datetime | None:
    if per_day <= 0 or free_bytes / per_day > _FAR_DAYS:
        return None
    return now + timedelta(days=max(0.0, free_bytes) / per_day)


def _thinned(points: Sequence[tuple[datetime, float]]) -> Sequence[tuple[datetime, float]]:
    if len(points) <= _MOST_SAMPLES:
        return points
    step = (len(points) - 1) / (_MOST_SAMPLES - 1)
    return [points[round(number * step)] for number in range(_MOST_SAMPLES)]
