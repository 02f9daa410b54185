"""Growth and the day the disk is full: exact on a line, robust, and silent when nothing can be said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.storage.forecast import (
    forecast,
    trend,
)

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
GIB = 1024.0**3
HOURS_6 = 6 * 3600.0


def points(*used: float, every: timedelta = DAY) -> list[tuple[datetime, float]]:
    """Samples at equal distances, the last one now."""
    return [(NOW - every * (len(used) - 1 - at), each) for at, each in enumerate(used)]


def test_a_line_is_followed_to_its_end() -> None:
    found = forecast(points(*(number * GIB for number in range(10))), 5 * GIB, NOW, HOURS_6)
    assert found.trend is not None
    assert found.trend.per_day == found.trend.lowest == found.trend.highest == pytest.approx(GIB)
    assert found.trend.certain
    assert found.full_at == found.full_at_earliest == found.full_at_latest == NOW + 5 * DAY
    assert found.as_dict()["full_at"] == "2026-03-06T00:00:00Z"


def test_the_day_lies_between_its_limits() -> None:
    wobble = [0.0, 0.3, -0.2, 0.1, 0.4, -0.1, 0.2, -0.3, 0.0, 0.1]
    found = forecast(points(*((at + each) * GIB for at, each in enumerate(wobble))), 30 * GIB, NOW, HOURS_6)
    assert found.full_at is not None
    assert found.full_at_earliest is not None
    assert found.full_at_latest is not None
    assert found.full_at_earliest < found.full_at < found.full_at_latest
    assert abs(found.full_at - (NOW + 30 * DAY)) < 3 * DAY


def test_one_odd_sample_does_not_move_it() -> None:
    used = [number * GIB for number in range(11)]
    used[5] += 500 * GIB  # a large temporary file
    found, reason = trend(points(*used), HOURS_6)
    assert (reason, found is None) == ("", False)
    assert found is not None
    assert found.per_day == pytest.approx(GIB)
    assert found.lowest > 0


def test_the_interval_is_sens_own() -> None:
    """By hand: 5 samples have 10 slopes, C = 1.96 * sqrt(5*4*15/18) = 8.0, so ranks 1 and 9 of them, made wider."""
    found, _reason = trend(points(0, 1, 3, 2, 8), HOURS_6)
    slopes = sorted([1, 1.5, 2 / 3, 2, 2, 0.5, 7 / 3, -1, 2.5, 6])
    assert found is not None
    assert found.per_day == pytest.approx((slopes[4] + slopes[5]) / 2)
    assert slopes[0] <= found.lowest <= slopes[1]
    assert slopes[8] <= found.highest <= slopes[9]


@pytest.mark.parametrize(
    ("used", "every", "reason"),
    [
        ([], DAY, "Samples so far: 0."),
        ([1.0, 2.0], DAY, "Samples so far: 2."),
        ([1.0, 2.0, 3.0], timedelta(minutes=10), "The samples cover 0.3 h; 6.0 h are needed."),
        ([3 * GIB, 2 * GIB, GIB], DAY, "It does not grow."),
        ([GIB, GIB, GIB], DAY, "It does not grow."),
        ([0.0, 1.0, 2.0], DAY, "It will take more than 10 years."),
    ],
)
def test_why_there_is_no_day(used: list[float], every: timedelta, reason: str) -> None:
    found = forecast(points(*used, every=every), GIB, NOW, HOURS_6)
    assert reason in found.why
    assert (found.full_at, found.full_at_earliest, found.full_at_latest) == (None, None, None)


def test_without_the_free_space_there_is_growth_only() -> None:
    found = forecast(points(0, GIB, 2 * GIB), None, NOW, HOURS_6)
    assert found.trend is not None
    assert found.as_dict()["growth_bytes_per_day"] == 1024**3
    assert "Free space is unknown" in found.why


def test_growth_that_may_be_none_has_no_latest_day() -> None:
    found = forecast(points(0, 5 * GIB, 1 * GIB, 4 * GIB), GIB, NOW, HOURS_6)
    assert found.trend is not None
    assert not found.trend.certain
    assert found.full_at is not None
    assert found.full_at_latest is None


def test_thousands_of_samples_take_no_time() -> None:
    found = forecast(points(*(number * GIB for number in range(20000)), every=DAY / 24), 48 * GIB, NOW, HOURS_6)
    assert found.samples == 20000
    assert found.full_at == NOW + 2 * DAY


def test_a_full_disk_is_full_now() -> None:
    assert forecast(points(0, GIB, 2 * GIB), 0, NOW, HOURS_6).full_at == NOW
