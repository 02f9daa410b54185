"""What holds the WAL, judged: the cases that take a day or a broken server to come about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.disk import wal_retention

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIB = 1024**2
GIB = 1024**3


def facts(**over: Any) -> SimpleNamespace:
    usual = {
        "standby": False,
        "segment_bytes": 16 * MIB,
        "max_wal_bytes": GIB,
        "min_wal_bytes": 80 * MIB,
        "keep_bytes": 0,
        "slot_limit": None,
        "checkpoint_timeout_s": 300.0,
        "archive_mode": "off",
        "archives_nothing": False,
        "since_checkpoint_bytes": MIB,
        "checkpoint_age_s": 60.0,
        "last_failed_wal": None,
        "last_failed_time": None,
        "last_archived_time": None,
    }
    return SimpleNamespace(**{**usual, **over})


def row(kind: str, **over: Any) -> SimpleNamespace:
    usual = {
        "name": "a",
        "active": True,
        "held_bytes": None,
        "type": "physical",
        "temporary": False,
        "wal_status": "reserved",
        "database": None,
        "since": None,
        "consumer": None,
    }
    return SimpleNamespace(kind=kind, **{**usual, **over})


def found(*rows: SimpleNamespace, told: SimpleNamespace | None = None, **sums: Any) -> dict[str, wal_retention.Holder]:
    sizes = SimpleNamespace(**{"wal_bytes": GIB, "ready_files": 0, "redo_idle_s": 1.0, **sums})
    return {each.kind: each for each in wal_retention.find(told or facts(), rows, sizes, GIB, NOW)}


@pytest.mark.parametrize(
    ("over", "severity", "told"),
    [
        ({"held_bytes": 2 * GIB, "consumer": "process 7, walker"}, "warning", "is used by process 7, walker"),
        ({"held_bytes": MIB}, "ok", "holds 1.0 MiB"),
        ({"held_bytes": MIB, "active": False}, "info", "has no consumer"),
        ({"held_bytes": MIB, "active": False, "since": NOW - timedelta(days=3)}, "info", "has no consumer for 3 d"),
        ({"active": False}, "ok", "no WAL yet"),
        ({"held_bytes": 2 * GIB, "active": False, "temporary": True}, "warning", "2.0 GiB"),
        ({"held_bytes": GIB, "wal_status": "unreserved"}, "critical", "about to lose WAL"),
        ({"held_bytes": None, "active": False, "wal_status": "lost"}, "critical", "has lost WAL"),
        ({"held_bytes": MIB, "database": 'O"Hara'}, "ok", "of database 'O\"Hara'"),
    ],
)
def test_slots(over: dict[str, Any], severity: str, told: str) -> None:
    slot = found(row("slot", **over))["slot"]
    assert (slot.severity, bool(slot.remedy)) == (severity, severity != "ok")
    assert told in slot.detail


def test_a_limit_for_slots_is_not_missed() -> None:
    idle = row("slot", active=False, held_bytes=2 * GIB)
    assert "Nothing limits" in found(idle)["slot"].detail
    assert "Nothing limits" not in found(idle, told=facts(slot_limit="4GB"))["slot"].detail


@pytest.mark.parametrize(
    ("over", "severity"),
    [
        ({}, "ok"),
        ({"checkpoint_age_s": 1000.0}, "ok"),
        ({"checkpoint_age_s": 1000.0, "since_checkpoint_bytes": 20 * MIB, "redo_idle_s": 950.0}, "warning"),
        # Idle for long, and writing since a moment ago: the next checkpoint is not due yet.
        ({"checkpoint_age_s": 9000.0, "since_checkpoint_bytes": 20 * MIB, "redo_idle_s": 10.0}, "ok"),
        ({"checkpoint_age_s": 9000.0, "since_checkpoint_bytes": 20 * MIB, "redo_idle_s": None}, "ok"),
        ({"since_checkpoint_bytes": 3 * GIB}, "warning"),
        ({"since_checkpoint_bytes": 3 * GIB, "standby": True}, "ok"),
    ],
)
def test_checkpoints_that_come_late(over: dict[str, Any], severity: str) -> None:
    sums = {"redo_idle_s": over.pop("redo_idle_s", 9000.0)}
    assert found(told=facts(**over), **sums)["checkpoint"].severity == severity


def test_a_base_backup_that_takes_days() -> None:
    young = found(row("base_backup", since=NOW - timedelta(hours=2), consumer="pg_basebackup"))["base_backup"]
    old = found(row("base_backup", since=NOW - timedelta(days=2)))["base_backup"]
    assert (young.severity, old.severity) == ("ok", "warning")
    assert "for 2 h" in young.detail


@pytest.mark.parametrize(
    ("over", "sums", "severity"),
    [
        ({}, {"ready_files": 3}, "ok"),
        ({}, {"ready_files": 100}, "warning"),
        ({}, {"ready_files": None}, "ok"),
        ({"last_failed_time": NOW, "last_failed_wal": "0A"}, {"ready_files": 1}, "warning"),
        ({"last_failed_time": NOW, "last_failed_wal": "0A"}, {"ready_files": 100}, "critical"),
        ({"last_failed_time": NOW, "last_archived_time": NOW + timedelta(minutes=1)}, {}, "ok"),
        ({"archives_nothing": True}, {"ready_files": 1}, "warning"),
    ],
)
def test_archivers(over: dict[str, Any], sums: dict[str, Any], severity: str) -> None:
    assert found(told=facts(archive_mode="on", **over), **sums)["archiver"].severity == severity


def test_there_is_no_archiver_on_a_standby_unless_it_is_always_on() -> None:
    assert "archiver" not in found(told=facts(archive_mode="on", standby=True))
    assert "archiver" in found(told=facts(archive_mode="always", standby=True))


def test_a_summarizer_that_stands_still() -> None:
    assert found(row("summarizer", held_bytes=MIB))["summarizer"].severity == "ok"
    assert found(row("summarizer", held_bytes=2 * GIB))["summarizer"].severity == "warning"
    assert found(row("summarizer", active=False))["summarizer"].severity == "warning"


def test_what_is_expected_is_no_finding() -> None:
    assert wal_retention.judge_size(None, facts(), []) == []
    assert wal_retention.judge_size(2 * GIB, facts(), []) == []
    [much] = wal_retention.judge_size(3 * GIB, facts(), [])
    assert "CHECKPOINT" in much.remedy
