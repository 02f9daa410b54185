"""The filter that tells whether a window is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.filter import in_window


def hours_from_now(start: int, end: int) -> dict[str, str]:
    now = datetime.now(UTC)
    return {name: f"{now + timedelta(hours=hours):%H:%M}" for name, hours in (("start", start), ("end", end))}


def test_it_is_open_or_closed_and_without_one_there_is_no_limit() -> None:
    assert in_window.in_window(hours_from_now(-1, 1))
    assert not in_window.in_window(hours_from_now(2, 3))
    for none in (None, "", {}):
        assert in_window.in_window(none)


@pytest.mark.parametrize("words", ["always", ["22:00"], {"start": "22:00"}, {"start": "2200", "end": "05:00"}])
def test_what_is_no_window_is_refused(words: object) -> None:
    with pytest.raises(AnsibleFilterError, match="window"):
        in_window.in_window(words)


def test_it_is_found_under_the_name_of_its_file() -> None:
    assert in_window.FilterModule().filters() == {"in_window": in_window.in_window}
