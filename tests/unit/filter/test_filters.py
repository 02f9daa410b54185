"""The filters for sizes and durations."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.filter import human_duration, human_size


@pytest.mark.parametrize(("raw", "told"), [(0, "0 B"), (1536, "1.5 KiB"), ("2147483648", "2.0 GiB"), (1.0, "1 B")])
def test_a_size_is_told_in_binary_units(raw: object, told: str) -> None:
    assert human_size.human_size(raw) == told


@pytest.mark.parametrize(("raw", "told"), [(0.45, "450 ms"), ("12.34", "12.3 s"), (12000, "3 h 20 min")])
def test_a_duration_is_told_in_its_largest_units(raw: object, told: str) -> None:
    assert human_duration.human_duration(raw) == told


@pytest.mark.parametrize("raw", [None, "much", [], {}])
def test_what_is_no_number_is_refused(raw: object) -> None:
    with pytest.raises(AnsibleFilterError, match="takes a number"):
        human_size.human_size(raw)
    with pytest.raises(AnsibleFilterError, match="takes a number"):
        human_duration.human_duration(raw)


def test_filters_are_found_under_the_names_of_their_files() -> None:
    for module in (human_size, human_duration):
        name = module.__name__.rpartition(".")[2]
        assert list(module.FilterModule().filters()) == [name]
