"""Misspelt words and their nearest right ones."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._words import distance, misspelt, nearest

WORDS = ["backup", "jobs", "top", "db", "max_age", "kubernetes", "keep_last", "login_host"]


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [
        ("a", "a", 0),
        ("", "ab", 2),
        ("backup", "bakcup", 1),  # codespell:ignore
        ("backup", "bakup", 1),  # codespell:ignore
        ("abc", "cba", 2),
        ("ab", "xyz", 3),
    ],
)
def test_the_distance_counts_letters_and_swaps(one: str, other: str, steps: int) -> None:
    assert distance(one, other, 9) == distance(other, one, 9) == steps
    assert distance(one, other, steps) == steps
    if steps:
        assert distance(one, other, steps - 1) == steps  # one more than asked for


@pytest.mark.parametrize(
    ("word", "right"),
    [
        ("bakcup", "backup"), ("backupp", "backup"), ("Backup", "backup"), ("job", "jobs"), ("tpo", "top"),  # codespell:ignore
        ("bd", "db"), ("age_max", "max_age"), ("max-age", "max_age"), ("maxage", "max_age"), ("kube", "kubernetes"),
        ("kubernets", "kubernetes"), ("login_hots", "login_host"),  # codespell:ignore
    ],
)  # fmt: skip
def test_a_misspelt_word_is_told(word: str, right: str) -> None:
    assert misspelt(word, WORDS) == right
    assert nearest(word, WORDS) == right


@pytest.mark.parametrize("word", ["dbs", "dir", "host", "user", "stop", "keep", "login", "kub", "age", ""])
def test_another_word_is_not_taken_for_a_misspelt_one(word: str) -> None:
    assert misspelt(word, WORDS) is None


def test_a_guess_goes_further() -> None:
    assert nearest("host", WORDS) == "login_host"
    assert nearest("keep_laster", WORDS) == "keep_last"
    assert nearest("colour", WORDS) is None
