"""What is told of a server's health, once all sections are read."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops.health import Health, Section

NOW = datetime.datetime(2026, 2, 6, tzinfo=datetime.UTC)


def finding(check: str, severity: str, subject: str) -> Finding:
    return Finding(check, severity, subject, 1, 1, f"{check} of {subject}.", "Do this.")


@pytest.mark.parametrize(
    ("severity", "subject", "told"),
    [
        ("critical", "archive", {"replication_slot_inactive"}),
        ("warning", "archive", {"replication_slot_inactive"}),
        ("info", "archive", {"wal_slot", "replication_slot_inactive"}),  # the disk is more urgent
        ("critical", "other", {"wal_slot", "replication_slot_inactive"}),
    ],
)
def test_a_slot_is_told_once_and_as_urgently_as_it_is(severity: str, subject: str, told: set[str]) -> None:
    sections = [
        Section("disk", "ok", "", [finding("wal_slot", "warning", "archive")]),
        Section("replication", "ok", "", [finding("replication_slot_inactive", severity, subject)]),
    ]
    health = Health(NOW, True, 1, 0.1, sections)
    assert {str(each["check"]) for each in health.findings} == told


def test_the_worst_comes_first_and_what_two_say_alike_once() -> None:
    same = finding("server_lost", "critical", "server")
    sections = [
        Section("activity", "ok", "", [finding("idle", "info", "x"), same]),
        Section("queries", "failed", "", [same]),
    ]
    found = Health(NOW, True, 1, 0.1, sections).findings
    assert [(each["check"], each["section"]) for each in found] == [("server_lost", "activity"), ("idle", "activity")]
