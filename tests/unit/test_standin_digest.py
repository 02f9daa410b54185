"""The stand-in for a cluster is tested when it changes, and not with each run."""

from __future__ import annotations

from tests.standin.digest import NOTE, digest


def test_the_stand_in_is_as_its_own_tests_last_passed_with_it() -> None:
    assert NOTE.read_text().strip() == digest(), (
        "tests/standin has changed: run `make test-standin`, which renews tests/standin/tested.sha256 when all passes"
    )
