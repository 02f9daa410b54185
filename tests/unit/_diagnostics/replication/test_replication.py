"""Decisions about replication without a server: the standbys that a setting requires, the stage with lag, silent replicas."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.replication.facts import (
    ReplicationFacts,
    Standby,
    required_standbys,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.replication.judgement import (
    judge,
    name_of,
    worst_stage,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.replication.plan import (
    Levels,
    ReplicationPlan,
)

MIB = 1024**2


def replica(**over: Any) -> dict[str, Any]:
    """A replica that misses nothing."""
    lags = {f"{stage}_lag_{unit}": 0 for stage in ("sent", "written", "flushed", "replayed") for unit in ("bytes", "s")}
    known = {"pid": 7, "application": "a", "client": "", "kind": "replica", "state": "streaming", "sync_state": "async"}
    return {**known, **lags, "reply_age_s": 0.1, **over}


def facts(*replicas: dict[str, Any], standby: Standby | None = None, **settings: str) -> ReplicationFacts:
    """A server with these replicas and settings."""
    server = {"sees_statistics": True, "waiting": 0, "longest_wait_s": None, "settings": settings}
    return ReplicationFacts(server, standby, replicas)


def standby(**over: Any) -> Standby:
    """One that receives, and has replayed all."""
    settings = over.pop("settings", {})
    left = over.pop("left_bytes", None)
    row = {
        "receiver_pid": 5,
        "receiver_status": "streaming",
        "behind_bytes": 0,
        "replayed_age_s": 9000.0,
        "uptime_s": 9e4,
    }
    return Standby(
        {**row, "pause_state": "not paused", "heard_age_s": 1.0, "conflicts": {}, "settings": settings, **over}, left
    )


@pytest.mark.parametrize(
    ("names", "wanted"),
    [("", 0), (" ", 0), ("a", 1), ("a, b", 1), ("*", 1), ("2 (a, b)", 2), ("FIRST 3 (*)", 3), ("any 2(a,b,c)", 2)],
)
def test_how_many_standbys_a_setting_wants(names: str, wanted: int) -> None:
    assert required_standbys(names) == wanted


def test_lag_is_traced_to_the_stage_where_it_arises() -> None:
    assert (
        worst_stage(replica(**{f"{stage}_lag_bytes": 9 for stage in ("sent", "written", "flushed", "replayed")}))
        == "sent"
    )
    assert worst_stage(replica(written_lag_bytes=5, flushed_lag_bytes=5, replayed_lag_bytes=6)) == "written"
    assert worst_stage(replica(flushed_lag_bytes=5, replayed_lag_bytes=6)) == "flushed"
    assert worst_stage(replica(replayed_lag_bytes=6)) == "replayed"


def test_levels() -> None:
    levels = Levels(10, 100)
    assert [levels.judge(value) for value in (None, 9, 10, 99, 100)] == ["ok", "ok", "warning", "warning", "critical"]
    assert Levels(100, 10).judge(50) == "critical", "limits that are given the wrong way round still judge by the lower"


def test_replicas_of_one_name_are_told_apart() -> None:
    one, two = replica(client="10.0.0.1"), replica(client="10.0.0.2", pid=8)
    assert name_of(one, [one]) == "a"
    assert name_of(one, [one, two]) == "a (10.0.0.1)"
    assert name_of(replica(), [replica(), replica(pid=8)]) == "a (process 7)"


@pytest.mark.parametrize(
    ("missing", "age", "timeout", "told"),
    [
        (1, 50, "60000", True),
        (0, 50, "60000", False),
        (1, 40, "60000", False),
        (1, 50, "0", True),
        (1, None, "0", False),
    ],
)
def test_a_replica_that_does_not_answer_is_told_if_it_misses_anything(
    missing: int, age: float | None, timeout: str, told: bool
) -> None:
    seen = facts(replica(replayed_lag_bytes=missing, reply_age_s=age), wal_sender_timeout=timeout)
    assert any(each.check == "replication_silent" for each in judge(seen, ReplicationPlan())) is told


def test_the_worse_of_bytes_and_seconds_counts() -> None:
    [bytes_] = judge(facts(replica(replayed_lag_bytes=2048 * MIB, replayed_lag_s=40.0)), ReplicationPlan())
    assert (bytes_.check, bytes_.severity, bytes_.threshold) == ("replication_lag_bytes", "critical", 1024 * MIB)
    [seconds] = judge(facts(replica(replayed_lag_bytes=65 * MIB, replayed_lag_s=400.0)), ReplicationPlan())
    assert (seconds.check, seconds.severity, seconds.threshold) == ("replication_lag_time", "critical", 300)


def test_an_idle_primary_makes_no_lag_on_a_standby() -> None:
    assert standby().lag_s == 0
    assert standby(behind_bytes=50, left_bytes=0).lag_s == 0, "it was only on its way"
    assert standby(behind_bytes=50, left_bytes=50).lag_s == 9000
    assert standby(receiver_pid=None, receiver_status=None).lag_s == 9000, "the standby cannot know what it lacks"
    assert standby(behind_bytes=50, replayed_age_s=None).lag_s is None
    assert judge(facts(standby=standby()), ReplicationPlan()) == []


@pytest.mark.parametrize(
    ("source", "archive", "check", "severity"),
    [
        (False, True, "replication_lag_time", "warning"),
        (True, True, "replication_receiver", "critical"),
        (False, False, "replication_receiver", "critical"),
        (None, None, "replication_receiver", "warning"),
    ],
)
def test_a_standby_without_a_receiver_is_fine_only_if_it_lives_on_an_archive(
    source: bool | None, archive: bool | None, check: str, severity: str
) -> None:
    row = standby(receiver_pid=None, receiver_status=None, behind_bytes=None, has_source=source, has_archive=archive)
    assert [(each.check, each.severity) for each in judge(facts(standby=row), ReplicationPlan())] == [(check, severity)]
    calm = [each.check for each in judge(facts(standby=row), ReplicationPlan(archive_lag_warning_s=9001))]
    assert calm == ([] if check == "replication_lag_time" else [check])


@pytest.mark.parametrize(
    ("age", "delay", "value", "threshold"), [(9000.0, "60000", 9000, 3660), (None, "0", 9e4, 3600)]
)
def test_an_archive_that_brings_nothing_is_told(age: float | None, delay: str, value: float, threshold: float) -> None:
    row = standby(
        receiver_pid=None, receiver_status=None, behind_bytes=None, has_source=False, has_archive=True,
        replayed_age_s=age, settings={"recovery_min_apply_delay": delay},
    )  # fmt: skip
    [finding] = judge(facts(standby=row), ReplicationPlan())
    assert (finding.severity, finding.value, finding.threshold) == ("warning", value, threshold)
    assert "restore_command" in finding.remedy


@pytest.mark.parametrize(
    ("behind", "delay", "severity"),
    [(50, "0", "warning"), (65 * MIB, "0", "critical"), (50, "3600000", "info"), (65 * MIB, "3600000", "warning")],
)
def test_time_on_a_standby_is_an_upper_bound(behind: int, delay: str, severity: str) -> None:
    row = standby(behind_bytes=behind, settings={"recovery_min_apply_delay": delay})
    [finding] = judge(facts(standby=row), ReplicationPlan())
    assert (finding.check, finding.severity) == ("replication_lag_time", severity)
    assert "at most 2 h 30 min" in finding.message
