"""Which majors a test runs on: a few in `make test`, all the others in `make test-majors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import Installation, installations
from tests.support.servers import default_installation

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def usual_majors(found: Sequence[Installation]) -> set[int]:
    """The oldest and the newest of these, between which features come and go, and the one that all other tests use."""
    return {found[0].major, found[-1].major, default_installation().major} if found else set()


def per_major(found: Sequence[Installation] | None = None) -> list[ParameterSet]:
    """A parameter for each installation, by default for all at hand; the unusual ones have the marker `majors`."""
    found = installations() if found is None else found
    usual = usual_majors(found)
    marks = {each.major: [] if each.major in usual else [pytest.mark.majors] for each in found}
    return [pytest.param(each, id=f"pg{each.major}", marks=marks[each.major]) for each in found]
