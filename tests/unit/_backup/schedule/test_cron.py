"""When a CronJob is due: the fields as Kubernetes reads them, and the days on which clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.schedule.cron import Cron
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import read_zone

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)  # a Sunday


def following(text: str, count: int = 3, after: datetime = START) -> list[str]:
    """The next times in UTC, in words."""
    found, cron = [], Cron.parse(text)
    for dummy in range(count):
        moment = cron.following(after, UTC)
        assert moment is not None
        found.append(moment.strftime("%a %d %b %Y %H:%M"))
        after = moment
    return found


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("0 2 * * *", ["Mon 16 Mar 2026 02:00", "Tue 17 Mar 2026 02:00", "Wed 18 Mar 2026 02:00"]),
        ("*/20 * * * *", ["Sun 15 Mar 2026 12:20", "Sun 15 Mar 2026 12:40", "Sun 15 Mar 2026 13:00"]),
        ("5/25 12-13 * * *", ["Sun 15 Mar 2026 12:05", "Sun 15 Mar 2026 12:30", "Sun 15 Mar 2026 12:55"]),
        ("30 1,13 * * ?", ["Sun 15 Mar 2026 13:30", "Mon 16 Mar 2026 01:30", "Mon 16 Mar 2026 13:30"]),
        ("0 2 * * MON-fri", ["Mon 16 Mar 2026 02:00", "Tue 17 Mar 2026 02:00", "Wed 18 Mar 2026 02:00"]),
        ("0 2 * * 0", ["Sun 22 Mar 2026 02:00", "Sun 29 Mar 2026 02:00", "Sun 05 Apr 2026 02:00"]),
        ("0 2 1 * *", ["Wed 01 Apr 2026 02:00", "Fri 01 May 2026 02:00", "Mon 01 Jun 2026 02:00"]),
        ("0 2 29 feb *", ["Tue 29 Feb 2028 02:00", "Sun 29 Feb 2032 02:00", "Fri 29 Feb 2036 02:00"]),
        # Both days given: either will do. With a step from the star, too, but `*/1` is the star.
        ("0 2 17 * 1", ["Mon 16 Mar 2026 02:00", "Tue 17 Mar 2026 02:00", "Mon 23 Mar 2026 02:00"]),
        ("0 2 */31 * 1", ["Mon 16 Mar 2026 02:00", "Mon 23 Mar 2026 02:00", "Mon 30 Mar 2026 02:00"]),
        ("0 2 */1 * 1", ["Mon 16 Mar 2026 02:00", "Mon 23 Mar 2026 02:00", "Mon 30 Mar 2026 02:00"]),
        ("0 2 10-11/1 * */3", ["Wed 18 Mar 2026 02:00", "Sat 21 Mar 2026 02:00", "Sun 22 Mar 2026 02:00"]),
        ("@daily", ["Mon 16 Mar 2026 00:00", "Tue 17 Mar 2026 00:00", "Wed 18 Mar 2026 00:00"]),
        ("@Hourly", ["Sun 15 Mar 2026 13:00", "Sun 15 Mar 2026 14:00", "Sun 15 Mar 2026 15:00"]),
    ],
)
def test_a_schedule_comes_when_kubernetes_lets_it_come(text: str, times: list[str]) -> None:
    assert following(text) == times


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it has 0 fields instead of 5"),
        ("0 2 * *", "it has 4 fields instead of 5"),
        ("0 0 2 * * *", "it has 6 fields instead of 5"),
        ("@every 1h", "it has 2 fields"),
        ("TZ=UTC 0 2 * * *", "it has 6 fields"),
        ("60 2 * * *", "'60' is invalid as minute, 0 to 59"),
        ("0 24 * * *", "'24' is invalid as hour"),
        ("0 2 0 * *", "'0' is invalid as day of the month, 1 to 31"),
        ("0 2 * 13 *", "'13' is invalid as month"),
        ("0 2 * * 7", "'7' is invalid as day of the week, 0 to 6"),
        ("0 2 * * monday", "'monday' is invalid as day of the week"),
        ("0-5-7 2 * * *", "'0-5-7' is invalid as minute"),
        ("*-5 2 * * *", "'*-5' is invalid as minute"),
        ("*/0 2 * * *", "'*/0' is invalid as minute"),
        ("-1 2 * * *", "'-1' is invalid as minute"),
        ("9-3 2 * * *", "'9-3' ends before it begins"),
        ("1, 2 * * *", "'' is invalid as minute"),
        ("٣ 2 * * *", "is invalid as minute"),
        ("0 2 30 2 *", "no month has such a day"),
    ],
)
def test_what_kubernetes_refuses_or_what_never_comes_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid cron") as caught:
        Cron.parse(text)
    assert told in caught.value.why


def test_what_falls_into_the_hour_that_is_left_out_does_not_come() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)  # in the night after it clocks go from 02:00 to 03:00
    assert Cron.parse("30 2 * * *").following(before, BERLIN) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_what_falls_into_the_hour_that_comes_twice_comes_twice() -> None:
    before = datetime(2026, 10, 24, 12, 0, tzinfo=UTC)
    times = Cron.parse("30 2 * * *").times(before, before + timedelta(days=1), BERLIN)
    assert list(times) == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)]


@given(
    st.integers(0, 59),
    st.integers(0, 23),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_the_next_time_is_the_first_and_never_the_moment_itself(minute: int, hour: int, after: datetime) -> None:
    cron = Cron.parse(f"{minute} {hour} * * *")
    found = cron.following(after, UTC)
    assert found is not None
    assert after < found <= after + timedelta(days=1)
    assert (found.minute, found.hour, found.second) == (minute, hour, 0)
    assert list(cron.times(after, found, UTC)) == [found]


def test_a_zone_is_known_or_refused_and_none_is_utc() -> None:
    assert read_zone(None) is read_zone("Etc/UTC")
    assert read_zone("Europe/Berlin") == BERLIN
    for wrong in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(InvalidInput, match="Invalid time_zone"):
            read_zone(wrong)
