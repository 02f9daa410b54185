"""What is told of a server's health, once all sections are read."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.disk.report import FileSystem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._health import report
from ansible_collections.godel.postgres_runbook.plugins.module_utils._health.report import Health, HealthPlan, Section
from ansible_collections.godel.postgres_runbook.plugins.module_utils._health.schema.judgement import SchemaPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._health.schema.judgement import (
    judge as judge_schema,
)
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
    unproven = report._unproven(sections, report._subjects(plan, NOW), plan)
    assert unproven is not None
    found = Health(NOW, False, 0, 0.1, sections, unproven)
    assert (found.severity, found.findings[0]["check"]) == ("critical", "health_nothing_read")


ROW = {
    "name": "public.s", "table": "public.t", "column": "id", "type": "integer", "column_type": "integer",
    "by_column": True, "ascending": True, "last": 90, "end": 100, "left": 10, "used_share": 0.9,
}  # fmt: skip
NONE = {
    "fullest_sequences": [], "disabled_triggers": 0, "unenforced_constraints": 0, "not_validated_constraints": 0,
    "not_populated_views": 0, "tables_without_primary_key": 0, "disabled_trigger_list": [],
    "unenforced_constraint_list": [], "not_validated_constraint_list": [], "not_populated_view_list": [],
    "tables_without_primary_key_list": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("share", "severity"), [(0.79, None), (0.8, "warning"), (0.8999, "warning"), (0.9, "critical"), (1.2, "critical")]
)
def test_a_sequence_is_judged_at_its_limits(share: float, severity: str | None) -> None:
    found = list(judge_schema({**NONE, "fullest_sequences": [{**ROW, "used_share": share}]}, [], SchemaPlan()))
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_what_is_counted_has_a_severity_by_its_number_and_few_names() -> None:
    names = [{"name": f"public.t{number}"} for number in range(10)]
    figures = {**NONE, "tables_without_primary_key": 4000, "tables_without_primary_key_list": names}
    [found] = judge_schema(figures, [], SchemaPlan())
    assert (found.severity, found.value) == ("info", 4000)
    assert "public.t0, public.t1, public.t2 and 3,997 more" in found.message
    for limits, severity in (
        ({"warning": 4000}, "warning"),
        ({"warning": 4001}, "info"),
        ({"critical": 1}, "critical"),
    ):
        plan = SchemaPlan(**{f"tables_without_primary_key_{name}": value for name, value in limits.items()})
        assert [each.severity for each in judge_schema(figures, [], plan)] == [severity]


def test_a_disk_is_as_full_as_df_says() -> None:
    with_reserve = FileSystem("d", free_bytes=5, total_bytes=100, used_bytes=90, holds=[("data", "/d")])
    assert with_reserve.used_ratio == 0.9474
    assert FileSystem("d", 0, 0, 0).used_ratio == 1.0
