"""Durations, sizes and times: what people may write, and what results carry."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import (
    from_rfc3339,
    human_duration,
    human_size,
    parse_duration,
    parse_size,
    to_rfc3339,
    utc_now,
)

# --- durations that people write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        (90, 90),
        (1.5, 1.5),
        ("90s", 90),
        ("500ms", 0.5),
        ("15m", 900),
        ("15min", 900),
        ("1h", 3600),
        ("1.5h", 5400),
        ("2d", 172800),
        ("2w", 1209600),
        ("1d12h", 129600),
        ("1d 12h", 129600),
        (" 1 H ", 3600),
        ("1w1d1h1m1s1ms", 694861.001),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_duration(text, "rpo") == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "h", "1x", "1h!", "-1h", "-5", "+5", "1h-2m", "1,5h", "1..5h", ".5h", "1 hour", "1e3"),
        *("inf", "nan", "one day", "1h\x00", "9" * 400, "9" * 400 + "w", "99999999999w"),
        *(True, None, [], {}),
    ],
)
def test_what_is_no_duration_is_refused_by_the_options_name(text: object) -> None:
    with pytest.raises(InvalidInput, match="Invalid min_age") as caught:
        parse_duration(text, "min_age")
    assert "1d12h" in caught.value.remedy


@given(st.text())
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        assert 0 <= parse_duration(text, "rpo") < 4e10
    except InvalidInput:
        assert not re.fullmatch(r"[0-9]{1,9}[smhd]?", text)


@given(st.integers(0, 10**9))
def test_a_bare_number_is_seconds(seconds: int) -> None:
    assert parse_duration(str(seconds), "rpo") == seconds == parse_duration(f"{seconds}s", "rpo")


# --- durations for people -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.45, "450 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (1, "1.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (60, "1 min"),
        (125, "2 min 5 s"),
        (3599.6, "1 h"),
        (3600, "1 h"),
        (3659, "1 h"),
        (12000, "3 h 20 min"),
        (86399, "23 h 59 min"),
        (86400, "1 d"),
        (187200, "2 d 4 h"),
        (31536000, "365 d"),
    ],
)
def test_a_duration_is_told(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@given(st.floats(0, 10**9))
def test_what_is_told_can_be_read_again(seconds: float) -> None:
    told = parse_duration(human_duration(seconds), "rpo")
    coarsest = 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1
    assert abs(told - seconds) <= coarsest


# --- sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1.0 MiB"),
        (1048576, "1.0 MiB"),
        (2254857830, "2.1 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5 * 1024**5, "5.0 PiB"),
        (5 * 1024**6, "5120.0 PiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_a_size_is_told(size_bytes: float, text: str) -> None:
    assert human_size(size_bytes) == text


@given(st.integers(0, 1024**5))
def test_a_told_size_is_near_the_real_one(size_bytes: int) -> None:
    number, unit = human_size(size_bytes).split()
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)
    assert float(number) < 1024
    assert abs(float(number) * factor - size_bytes) <= 0.06 * factor


# --- times --------------------------------------------------------------------------------------------


def test_a_time_is_rfc_3339_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert to_rfc3339(datetime(2026, 2, 6, 3, 4, 5, 999999, tzinfo=UTC)) == "2026-02-06T03:04:05Z"
    assert to_rfc3339(datetime(2026, 2, 6, 3, 4, 5, tzinfo=east)) == "2026-02-05T21:34:05Z"


@given(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_a_time_comes_back_to_the_second(moment: datetime) -> None:
    assert from_rfc3339(to_rfc3339(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-02-06",
        "2026-02-06T03:04:05",
        "2026-02-06T03:04:05+00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
    ],
)
def test_any_other_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|out of range"):
        from_rfc3339(text)


def test_now_is_in_utc_and_whole_seconds() -> None:
    now = utc_now()
    assert (now.utcoffset(), now.microsecond) == (timedelta(0), 0)
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (65536, 65536),
        ("64kB", 65536),
        ("16MB", 16 * 1024**2),
        ("1.5 GB", 3 * 512 * 1024**2),
        ("2TB", 2 * 1024**4),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert parse_size(text, "max_replica_lag") == size


@pytest.mark.parametrize("text", ["", "much", "-1", "1XB", "1 kB more", None])
def test_what_is_no_size_is_told(text: object) -> None:
    with pytest.raises(InvalidInput, match="Invalid max_replica_lag"):
        parse_size(text, "max_replica_lag")
