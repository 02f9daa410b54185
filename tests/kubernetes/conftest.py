"""What the tests of pods share; each file has its own fixture `place`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kubernetes.place import Place
from tests.kubernetes.standin import Standin


@pytest.fixture
def standin(request: pytest.FixtureRequest, place: Place) -> Iterator[Standin]:
    """The stand-in, for what no real cluster can be made to do; a test that takes it is skipped on one."""
    if place.standin is None:
        pytest.skip(f"only the stand-in can be made to do this: {request.node.name}")
    yield place.standin
    place.standin.faults.clear()
