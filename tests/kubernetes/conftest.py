"""What the tests of pods share; each file has its own fixture `place`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.leftovers import none_left
from tests.kubernetes.link import Link
from tests.kubernetes.place import Place
from tests.standin import Standin


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a process in the pod of PostgreSQL, but for one that says when it ends by itself."""
    place = request.getfixturevalue("place") if "place" in request.fixturenames else None
    if not isinstance(place, Place) or request.node.get_closest_marker("leaves"):
        yield
        return
    with none_left(place):
        yield


@pytest.fixture
def runbook(place: Place) -> str:
    """The image that the Jobs of a schedule have; a test that takes it is skipped where there is none."""
    if not place.runbook_image:
        pytest.skip("PG_RUNBOOK_TEST_RUNBOOK_IMAGE names no execution environment with this collection")
    return place.runbook_image


@pytest.fixture
def link(place: Place) -> Iterator[Link]:
    """A way to the API server that can be cut."""
    with place.link() as link:
        yield link


@pytest.fixture
def standin(request: pytest.FixtureRequest, place: Place) -> Iterator[Standin]:
    """The stand-in, for what no real cluster can be made to do; a test that takes it is skipped on one."""
    if place.standin is None:
        pytest.skip(f"only the stand-in can be made to do this: {request.node.name}")
    yield place.standin
    place.standin.faults.clear()
