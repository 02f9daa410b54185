"""A scratch instance in a pod finds a port of its own."""

from __future__ import annotations

import random

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import SCRATCH, find
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target import work_directory
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify import scratch_instance
from tests.kubernetes import place as places

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_a_port_that_is_taken_is_only_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = random.sample(range(16_000, 20_000), 2)  # below what clients get
    ports = [taken, taken, free]
    monkeypatch.setattr(scratch_instance, "_any_port", lambda: ports.pop(0))
    with places.chosen("prt") as place, place.target() as target:
        programs = find(target, place.major(), bin_dir=None, needed=SCRATCH, purpose="to test")
        with (
            work_directory.work_directory(target, "/var/tmp") as first,
            scratch_instance.instance(target, programs, first, superuser="first", jobs=1) as other,
            work_directory.work_directory(target, "/var/tmp") as home,
            scratch_instance.instance(target, programs, home, superuser="boss", jobs=1) as made,
            made[0].connect("postgres") as session,
        ):
            assert session.value("SELECT current_user::text") == "boss"
            assert (other[0].login.port, made[0].login.port, ports) == (taken, free, [])
            assert session.value("SHOW listen_addresses") == "127.0.0.1"
        assert target.files.info(home) is None
        assert made[1] == []
