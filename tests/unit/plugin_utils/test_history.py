"""Samples over time: what is kept, what is dropped, and what later ones are compared with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _history

NOW = datetime(2026, 2, 6, 3, 4, 5, tzinfo=UTC)


def sample(days_ago: float, **figures: Any) -> dict[str, Any]:
    """One of some days ago."""
    return {"collected_at": to_rfc3339(NOW - timedelta(days=days_ago)), **figures}


def test_what_is_written_is_read_again() -> None:
    samples = [sample(2, text="a\nb\u2028\ud800<script>"), sample(1, size_bytes=5)]
    assert _history.parse(_history.dump(samples).encode()) == (samples, [])
    assert _history.parse(b"") == ([], [])


def test_damaged_lines_are_left_out_and_told() -> None:
    good = _history.dump([sample(1)]).encode()
    lines = [
        b'{"collected_at": "2026-02-0',
        b"[1]",
        b"\xff\xfe",
        b'{"collected_at": "yesterday"}',
        b'{"size": 1}',
        b"7",
    ]
    samples, notes = _history.parse(b"\n".join([*lines, b"", good]))
    assert samples == [sample(1)]
    assert notes == ["6 damaged lines of the history left out: 1, 2, 3, 4, 5, ...."]
    assert _history.parse(b"[" * 100_000)[0] == []


def test_a_sample_gets_the_time_when_it_has_none() -> None:
    assert _history.append([], {"a": 1}, 400, NOW) == [{"a": 1, "collected_at": "2026-02-06T03:04:05Z"}]
    assert _history.append([sample(1)], sample(2), 400, NOW) == [sample(2), sample(1)]
    assert _history.append([sample(1)], sample(1), 400, NOW) == [sample(1)]  # the same again counts once
    with pytest.raises(ValueError, match="does not match"):
        _history.append([], {"collected_at": "now"}, 400, NOW)


def test_the_past_grows_coarse_and_reaches_far() -> None:
    samples: list[dict[str, Any]] = []
    for day in range(400, 0, -1):
        samples = _history.append(samples, sample(day), 40, NOW)
    assert len(samples) == 40
    assert samples[0] == sample(400)
    assert samples[-15:] == [sample(day) for day in range(15, 0, -1)]
    assert len(_history.append(samples, sample(0), 1, NOW)) == 1


def test_the_baseline_is_the_newest_that_is_old_enough_or_else_the_oldest() -> None:
    samples = [sample(30), sample(8), sample(6), sample(1)]
    week = 7 * 86400
    assert _history.baseline(samples, week, NOW) == sample(8)
    assert _history.baseline(samples[2:], week, NOW) == sample(6)
    assert _history.baseline([], week, NOW) is None


def test_some_samples_stand_for_all_from_the_oldest_to_the_newest() -> None:
    samples = [sample(day) for day in range(9, 0, -1)]
    assert _history.spread(samples, 3) == [sample(9), sample(5), sample(1)]
    assert _history.spread(samples, 1) == [sample(1)]
    assert _history.spread(samples, 9) == _history.spread(samples, 50) == samples
    assert _history.spread([], 3) == []
