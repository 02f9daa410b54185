"""Maintenance windows: nights, changes of clocks, and what cannot be understood."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance import window as _window
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.window import OutsideWindow, Window

ALWAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(start: str, end: str, days: list[str] | None = None, zone: str = "Europe/Berlin") -> Window:
    return Window.parse({"start": start, "end": end, "days": days, "timezone": zone})


def opening(of: Window, moment: str) -> tuple[str, str] | None:
    found = of.at(at(moment))
    return (found.start.isoformat()[:16], found.end.isoformat()[:16]) if found else None


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-02-07T20:59:59", None),  # Saturday, in Berlin 21:59:59
        ("2026-02-07T21:00:00", ("2026-02-07T21:00", "2026-02-08T03:00")),
        ("2026-02-08T02:59:59", ("2026-02-07T21:00", "2026-02-08T03:00")),
        ("2026-02-08T03:00:00", None),
        ("2026-02-08T22:00:00", ("2026-02-08T21:00", "2026-02-09T03:00")),
        ("2026-02-10T22:00:00", None),  # Tuesday
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_opens(
    moment: str, expected: tuple[str, str] | None
) -> None:
    assert opening(window("22:00", "04:00", ["sat", "sun"]), moment) == expected


def test_when_it_opens_next_is_told_by_the_refusal() -> None:
    with pytest.raises(OutsideWindow, match="opens at 2026-02-07T21:00:00Z until 2026-02-08T03:00:00Z") as caught:
        window("22:00", "04:00", ["sat"]).require(at("2026-02-02T12:00"))
    assert caught.value.details["opens"] == "2026-02-07T21:00:00Z"
    following = window("22:00", "04:00", ["sat"]).following(at("2026-02-07T21:00"))
    assert following.start == at("2026-02-14T21:00")  # the one that is open is not the next one


@pytest.mark.parametrize(
    ("start", "end", "day", "expected"),
    [
        # 2026-03-29 02:00 becomes 03:00, at 01:00 UTC; 2026-10-25 03:00 becomes 02:00, at 01:00 UTC
        ("01:00", "04:00", "2026-03-29", ("2026-03-29T00:00", "2026-03-29T02:00")),
        ("01:00", "04:00", "2026-10-25", ("2026-10-24T23:00", "2026-10-25T03:00")),
        ("02:30", "04:00", "2026-03-29", ("2026-03-29T01:00", "2026-03-29T02:00")),
        ("01:00", "02:30", "2026-03-29", ("2026-03-29T00:00", "2026-03-29T01:00")),
        ("01:00", "02:30", "2026-10-25", ("2026-10-24T23:00", "2026-10-25T00:30")),
        ("22:00", "02:30", "2026-10-24", ("2026-10-24T20:00", "2026-10-25T00:30")),
    ],
)
def test_clocks_that_change(start: str, end: str, day: str, expected: tuple[str, str]) -> None:
    of = window(start, end)
    found = of.following(at(f"{day}T00:00") - timedelta(hours=3))
    assert (found.start.isoformat()[:16], found.end.isoformat()[:16]) == expected


def test_a_window_in_the_hour_that_does_not_come_does_not_open_that_day() -> None:
    found = window("02:15", "02:45", ["sun"]).following(at("2026-03-28T00:00"))
    assert found.start == at("2026-04-05T00:15")


def test_one_that_the_next_one_continues_is_one() -> None:
    of = window("00:00", "24:00", ["sat", "sun"], "UTC")
    assert opening(of, "2026-02-07T10:00") == ("2026-02-07T00:00", "2026-02-09T00:00")
    always = window("06:00", "06:00", None, "UTC").at(at("2026-02-07T10:00"))
    assert always is not None
    assert always.end - at("2026-02-07T10:00") > timedelta(days=6)


def test_other_zones_have_other_days() -> None:
    of = window("08:00", "09:00", ["mon"], "Pacific/Auckland")  # 13 hours ahead in February
    assert opening(of, "2026-02-08T19:30") == ("2026-02-08T19:00", "2026-02-08T20:00")


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    st.times(),
    st.times(),
    st.sets(st.sampled_from(ALWAYS), min_size=1),
)
def test_open_is_what_the_clock_shows(now: datetime, start: Any, end: Any, days: set[str]) -> None:
    """Away from the changes of clocks, by definition: of the days that it opens on, from start until before end."""
    of = window(f"{start:%H:%M}", f"{end:%H:%M}", sorted(days))
    wall = now.astimezone(of.zone)
    if abs((wall + timedelta(days=1)).utcoffset() - (wall - timedelta(days=2)).utcoffset()):  # type: ignore[operator]
        return
    time_now, today, yesterday = wall.time(), wall.weekday() in of.days, (wall.weekday() - 1) % 7 in of.days
    if of.start < of.end:
        expected = today and of.start <= time_now < of.end
    else:
        expected = (today and time_now >= of.start) or (yesterday and time_now < of.end)
    assert (of.at(now) is not None) == expected
    following = of.following(now)
    assert following.start > now
    assert of.at(following.start) is not None
    found = of.at(now)
    if found is not None:
        assert found.start <= now < found.end
        assert of.at(found.end) is None or found.end > now + timedelta(days=7)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"start": "1320", "end": "04:00"}, "in quotes"),
        ({"start": "22:00", "end": "25:00"}, "window.end"),
        ({"start": "22:00", "end": "04:00", "days": ["sat", "someday"]}, "someday"),
        ({"start": "22:00", "end": "04:00", "timezone": "Europe/Atlantis"}, "this time zone does not exist"),
        ({"start": "22:00", "end": "04:00", "timezone": "../../etc/passwd"}, "this time zone does not exist"),
    ],
)
def test_what_cannot_be_understood_is_named(words: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        Window.parse(words)


def test_a_host_without_time_zones_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(InvalidInput, match="Install the package tzdata"):
        window("22:00", "04:00", zone="Europe/Atlantis")
    assert _window.Window.parse({"start": "1:00", "end": "2:00"}).zone is UTC
