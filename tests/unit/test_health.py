"""What is told of a server's health, once all sections are read."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops import health
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops.health import Health, HealthPlan, Section
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _health_fleet, _prometheus
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._health import build

SOON = {"check": "x", "severity": "warning", "subject": "x", "message": "X.", "remedy": ""}
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


def test_a_host_of_which_nothing_was_read_is_critical_on_every_page() -> None:
    unread = {"state": "not read", "severity": "ok", "message": "", "notes": [], "duration_s": 0, "data": {}}
    for result in (
        None,
        {},
        {"skipped": True},
        {"reachable": True, "sections": {}, "findings": []},
        {"reachable": False, "sections": {"server": unread}, "findings": []},
        {"reachable": True, "sections": {"server": {**unread, "state": "failed"}}, "findings": [{**SOON}]},
        {"failed": True, "msg": "No.", "sections": {"server": {**unread, "state": "read"}}, "findings": []},
    ):
        host = build("db1", result, now="2026-02-06T03:04:05Z")
        assert host.severity == "critical", result
        assert "All is well" not in host.message
        assert 'health_severity{host="db1"} 3' in _prometheus.render([host]).replace('database="",', "")


def test_no_host_at_all_is_critical() -> None:
    assert _health_fleet.severity([]) == "critical"
    assert "All is well" not in _health_fleet.message([])


@pytest.mark.parametrize("states", [[], ["failed", "failed"], ["not read"]])
def test_a_server_of_which_nothing_was_read_is_critical_whatever_is_ignored(states: list[str]) -> None:
    names = ["server", "activity"][: len(states)]
    sections = [
        Section(name, state, "", [finding("health_section", "warning", name)])
        for name, state in zip(names, states, strict=True)
    ]
    plan = HealthPlan(names, ignore=["health_section", "health_nothing_read"])
    unproven = health._unproven(sections, health._subjects(plan, NOW), plan)
    assert unproven is not None
    found = Health(NOW, False, 0, 0.1, sections, unproven)
    assert (found.severity, found.findings[0]["check"]) == ("critical", "health_nothing_read")
