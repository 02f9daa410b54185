"""The load of a stage waits for replicas that are too far behind, and gives up in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import stage_load
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.plan import StagePlan

PLAN = StagePlan(
    db="shop",
    backup="latest",
    force=False,
    jobs=1,
    scratch_dir="/var/tmp",
    bin_dir=None,
    check_space=True,
    keep_failed=False,
    accept_unproven=False,
    analyze=True,
    nice=0,
    max_replica_lag_bytes=1000,
)


class _Replicas:
    """A session that tells how far behind they are, time after time."""

    def __init__(self, *lags: int) -> None:
        self.lags = list(lags)

    def value(self, dummy: object) -> int:
        return self.lags.pop(0) if len(self.lags) > 1 else self.lags[0]


def brake(replicas: _Replicas, plan: StagePlan = PLAN) -> Any:
    return stage_load._brake(cast("Any", replicas), plan)


def test_it_waits_until_they_have_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_load, "_LAG_EVERY_S", 0.0)
    replicas = _Replicas(5000, 3000, 1001, 1000, 9999)
    brake(replicas)()
    assert replicas.lags == [9999]


def test_it_gives_up_when_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_load, "_LAG_EVERY_S", 0.0)
    monkeypatch.setattr(stage_load, "_LAG_PATIENCE_S", 0.05)
    with pytest.raises(InvalidInput, match="does not catch up"):
        brake(_Replicas(5000))()


def test_without_a_bound_there_is_none() -> None:
    assert brake(_Replicas(5000), replace(PLAN, max_replica_lag_bytes=None)) is None
