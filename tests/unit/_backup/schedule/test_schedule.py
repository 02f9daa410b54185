"""How a schedule is judged: each finding, on both sides of its threshold. And the objects that make one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.filter.merge_results import merge_results
from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.schedule.judge import (
    PUNCTUAL_S,
    Run,
    Schedule,
    describe,
    judge,
    missing,
    read_schedule,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.schedule.manifests import (
    PASSWORD_VARIABLE,
    inventory_of,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._findings import Finding
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.jobs import (
    KubeJob,
    instance_of,
    read_job,
    telling,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339
from tests.conftest import ROOT

NOW = datetime(2026, 3, 15, 12, 0, tzinfo=UTC)
HOUR_S = 3600
DAY = timedelta(days=1)
RECORDINGS = ROOT / "tests" / "standin" / "recordings" / "http"


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(state: str, began_s: float = 600, **over: Any) -> KubeJob:
    ended = ago(began_s - 60) if state in ("complete", "failed") else None
    reason = "BackoffLimitExceeded" if state == "failed" else ""
    values: dict[str, Any] = {
        "name": f"nightly-{began_s:.0f}",
        "uid": "u",
        "state": state,
        "created": ago(began_s),
        "started": ago(began_s),
        "ended": ended,
        "deadline_s": None,
        "manual": False,
        "going": False,
        "reason": reason,
    }
    return KubeJob(**{**values, **over})


def schedule(*runs: Run, **over: Any) -> Schedule:
    """A CronJob of 02:00, made ten days ago, that ran this morning."""
    base = Schedule(
        name="nightly",
        namespace="godel",
        cron="0 2 * * *",
        time_zone=None,
        suspended=False,
        created=NOW - 10 * DAY,
        judged_since=NOW - 10 * DAY,
        last_scheduled=datetime(2026, 3, 15, 2, 0, tzinfo=UTC),
        last_success=datetime(2026, 3, 15, 2, 5, tzinfo=UTC),
        runs=runs,
    )
    return replace(base, **over)


def finding(check: str, found: Schedule, rpo_s: float | None = None) -> Finding:
    """The one finding of this kind."""
    (only,) = [each for each in judge(found, rpo_s, NOW) if each.check == check]
    return only


def test_a_schedule_that_comes_is_well() -> None:
    findings = judge(schedule(Run(job("complete"))), 26 * HOUR_S, NOW)
    assert {each.check: each.severity for each in findings} == {"schedule_success": "ok", "schedule_missed": "ok"}
    assert describe(schedule(), findings, NOW) == (
        "CronJob godel/nightly (0 2 * * *): last success 9 h 55 min ago, due next at 2026-03-16T02:00:00Z."
    )


def test_no_schedule_is_critical() -> None:
    found = missing("nightly", "godel")
    assert (found.check, found.severity) == ("schedule_exists", "critical")
    assert "backup_schedule" in found.remedy
    assert describe(None, [found], NOW) == found.message


@pytest.mark.parametrize(("age_s", "severity"), [(HOUR_S - 1, "ok"), (HOUR_S, "ok"), (HOUR_S + 1, "critical")])
def test_the_rpo_is_broken_only_past_it(age_s: int, severity: str) -> None:
    found = finding("schedule_success", schedule(last_success=ago(age_s)), HOUR_S)
    assert (found.severity, found.value, found.threshold) == (severity, age_s, HOUR_S)


@pytest.mark.parametrize(("age_s", "severity"), [(HOUR_S, "info"), (HOUR_S + 1, "critical")])
def test_a_new_schedule_has_the_time_of_the_rpo(age_s: int, severity: str) -> None:
    found = finding("schedule_success", schedule(last_success=None, created=ago(age_s)), HOUR_S)
    assert (found.severity, found.value) == (severity, age_s)
    assert "No Job of CronJob nightly has succeeded since" in found.message


def test_without_an_rpo_no_age_is_critical() -> None:
    assert finding("schedule_success", schedule(last_success=NOW - 400 * DAY)).severity == "ok"
    assert finding("schedule_success", schedule(last_success=None)).severity == "info"


@pytest.mark.parametrize(("late_s", "severity"), [(PUNCTUAL_S - 1, "ok"), (PUNCTUAL_S, "warning")])
def test_a_time_is_missed_when_the_controller_has_had_its_time(late_s: int, severity: str) -> None:
    due = ago(late_s)
    found = schedule(cron=f"{due.minute} {due.hour} * * *", last_scheduled=due.replace(second=0) - DAY)
    now = due.replace(second=0) + timedelta(seconds=late_s)
    (missed,) = [each for each in judge(found, None, now) if each.check == "schedule_missed"]
    assert missed.severity == severity


@pytest.mark.parametrize(
    ("over", "value", "told"),
    [
        ({"last_scheduled": NOW - 3 * DAY}, 3, "at 2026-03-13T02:00:00Z and 2 more since then."),
        ({"last_scheduled": None}, 10, "at 2026-03-06T02:00:00Z and 9 more"),
        ({"last_scheduled": NOW - 3 * DAY, "judged_since": NOW - DAY}, 1, "at 2026-03-15T02:00:00Z."),
        ({"cron": "* * * * *", "last_scheduled": NOW - 9 * DAY}, 100, "and 99 or more since then."),
        # 02:00 in Sydney is 15:00 in UTC, the day before.
        ({"time_zone": "Australia/Sydney", "last_scheduled": NOW - DAY}, 1, "at 2026-03-14T15:00:00Z."),
    ],
)
def test_missed_times_are_counted_from_the_last_start_or_change(over: dict[str, Any], value: int, told: str) -> None:
    found = finding("schedule_missed", schedule(**over))
    assert (found.severity, found.value) == ("warning", value)
    assert told in found.message
    assert "kubectl describe -n godel cronjob/nightly" in found.remedy


def test_a_job_that_is_not_over_explains_a_missed_time() -> None:
    found = finding("schedule_missed", schedule(Run(job("running", 90_000)), last_scheduled=NOW - DAY))
    assert "Job nightly-90000 is still running, and no second Job starts while it runs." in found.message


def test_a_suspended_schedule_is_a_warning_and_misses_nothing() -> None:
    found = schedule(suspended=True, last_scheduled=NOW - 9 * DAY)
    assert finding("schedule_suspended", found).severity == "warning"
    assert not [each for each in judge(found, None, NOW) if each.check == "schedule_missed"]
    assert found.following(NOW) is None


@pytest.mark.parametrize("over", [{"cron": "@every 1h"}, {"time_zone": "Mars/Olympus"}])
def test_what_cannot_be_read_here_is_said_and_not_guessed(over: dict[str, str]) -> None:
    found = finding("schedule_missed", schedule(last_scheduled=NOW - 9 * DAY, **over))
    assert (found.severity, found.value) == ("info", None)
    assert "It is unknown whether" in found.message


def test_a_failure_counts_until_a_success_follows() -> None:
    log = ["begun", "fatal: [db]: no space", "PLAY RECAP"]
    last = finding("schedule_failed", schedule(Run(job("failed"), log), Run(job("complete", 900))))
    assert last.severity == "warning"
    assert last.message.endswith("(BackoffLimitExceeded): fatal: [db]: no space")
    assert "kubectl logs -n godel job/nightly-600" in last.remedy
    old = finding("schedule_failed", schedule(Run(job("complete")), Run(job("failed", 900), log)))
    assert (old.severity, old.remedy) == ("info", "")
    assert "there is no log of it" in finding("schedule_failed", schedule(Run(job("failed")))).message


@pytest.mark.parametrize(("age_s", "severity"), [(HOUR_S, "info"), (HOUR_S + 1, "warning")])
def test_a_job_may_run_until_its_deadline_or_else_the_rpo(age_s: int, severity: str) -> None:
    own = schedule(Run(job("running", age_s, deadline_s=HOUR_S)))
    assert finding("schedule_running", own, 60).severity == severity
    assert finding("schedule_running", schedule(Run(job("running", age_s))), HOUR_S).severity == severity
    assert finding("schedule_running", schedule(Run(job("running", age_s)))).severity == "info"


@pytest.mark.parametrize(("age_s", "severity"), [(PUNCTUAL_S, "info"), (PUNCTUAL_S + 1, "warning")])
def test_a_job_that_cannot_start_is_told_after_a_moment(age_s: int, severity: str) -> None:
    found = finding("schedule_running", schedule(Run(job("running", age_s), waiting="ErrImagePull: no such image")))
    assert found.severity == severity
    assert ("ErrImagePull: no such image" in found.message) == (severity == "warning")


def test_a_suspended_job_is_told() -> None:
    assert finding("schedule_running", schedule(Run(job("suspended")))).severity == "warning"


def test_only_the_log_of_a_failure_that_counts_is_shown() -> None:
    failed, fine = Run(job("failed"), ["why"]), Run(job("complete"))
    assert schedule(Run(job("running")), failed, fine).failed_log == ["why"]
    assert schedule(fine, failed).failed_log == ()


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["a", "fatal: [x]: no", "fatal: [y]: no ", "PLAY RECAP"], "fatal: [y]: no"),
        (["[ERROR]: no", "b"], "[ERROR]: no"),
        (["a", "b "], "b"),
        ([], ""),
    ],
)
def test_the_telling_line_of_a_log_is_the_last_error(lines: list[str], line: str) -> None:
    assert telling(lines) == line


# --- what a cluster says


def recorded(name: str) -> Any:
    return json.loads((RECORDINGS / f"{name}.json").read_text())


def test_recorded_jobs_are_read() -> None:
    failed = read_job(recorded("job-get-failed")["response"]["body"])
    assert (failed.state, failed.reason, failed.manual) == ("failed", "BackoffLimitExceeded", True)
    assert failed.ended == datetime(2026, 11, 22, 7, 7, 47, tzinfo=UTC)
    complete = read_job(recorded("job-get-complete")["response"]["body"])
    assert (complete.state, complete.is_over) == ("complete", True)
    assert complete.ended


def test_a_recorded_cronjob_is_read_and_its_job_is_what_kubectl_makes() -> None:
    found = recorded("cronjob-get")["response"]["body"]
    read = read_schedule(found, [])
    assert (read.cron, read.suspended, read.last_success, read.created) == (
        "0 3 * * *", False, None, datetime(2026, 11, 22, 7, 5, 7, tzinfo=UTC),
    )  # fmt: skip
    made = instance_of(found, "manual-1")
    made["metadata"].pop("labels")
    assert made == recorded("job-create-from-cronjob")["request"]["body"]


def test_a_schedule_is_judged_from_its_last_change_on() -> None:
    found = recorded("cronjob-get")["response"]["body"]
    meta = found["metadata"]
    meta["managedFields"] = [
        {"manager": "kubectl", "time": "2026-12-01T00:00:00Z"},
        {"manager": "kube-controller-manager", "subresource": "status", "time": "2026-12-24T03:00:00Z"},
    ]
    found["status"] = {"lastScheduleTime": "2026-12-24T03:00:00Z", "lastSuccessfulTime": "2026-12-24T03:04:00Z"}
    run = Run(job("complete", ended=datetime(2026, 12, 25, tzinfo=UTC)))
    read = read_schedule(found, [run])
    assert to_rfc3339(read.judged_since) == "2026-12-01T00:00:00Z"
    assert read.last_success == datetime(2026, 12, 25, tzinfo=UTC)


# --- the inventory of a Job


class Loader(yaml.SafeLoader):
    """YAML with the tag of Ansible; a text under it comes out as (text,)."""


Loader.add_constructor("!unsafe", lambda loader, node: (loader.construct_scalar(node),))


def host_of(text: str) -> dict[str, Any]:
    found = yaml.load(text, Loader)
    [host] = found["postgres"]["hosts"].values()
    return dict(host)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.booleans(), st.integers())
def test_every_text_of_the_inventory_is_data(text: str, flag: bool, number: int) -> None:
    words = {"postgres_db": text, "postgres_kubernetes": {"namespace": text}}
    host = host_of(inventory_of(words, {"connect_params": {text: number}}, {"backup_x": [text, flag, number, None]}))
    assert host["postgres_db"] == (text,)
    assert host["postgres_kubernetes"] == {"namespace": (text,)}
    assert host["backup_x"] == [(text,), flag, number, None]
    assert host["postgres_login"]["connect_params"] == {text: number}


def test_the_password_comes_from_the_environment_and_files_of_this_host_stay_out() -> None:
    login = {
        "login_user": "godel",
        "login_password": "secret",
        "ca_cert": "/here",
        "ssl_mode": "require",
        "login_host": "",
    }
    text = inventory_of({"postgres_db": "app"}, login, {"backup_max_age": "1h"})
    host = host_of(text)
    assert host["postgres_login"] == {
        "login_user": ("godel",),
        "ssl_mode": ("require",),
        "login_password": f"{{{{ lookup('ansible.builtin.env', '{PASSWORD_VARIABLE}') }}}}",
    }
    assert host["backup_max_age"] == ("1h",)
    assert "secret" not in text
    assert host_of(inventory_of({}, {}, {}))["backup_max_age"] == ("0",)


def test_a_secret_among_the_parameters_of_the_connection_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"Invalid connect_params \(sslPassword\)"):
        inventory_of({}, {"connect_params": {"sslPassword": "x"}}, {})


# --- several results as one


def result(severity: str, **over: Any) -> dict[str, Any]:
    return {"changed": False, "severity": severity, "msg": f"{severity}.", "findings": [{"severity": severity}], **over}


def test_results_are_joined_with_the_worst_severity() -> None:
    merged = merge_results(
        [
            result("warning", backups=[1], notes=["a"]),
            result("critical", jobs=[2], notes=["b"]),
            {"skipped": True, "msg": "no"},
            {},
        ]
    )
    assert (merged["severity"], merged["msg"], merged["failed"]) == ("critical", "warning. critical.", False)
    assert [each["severity"] for each in merged["findings"]] == ["warning", "critical"]
    assert (merged["backups"], merged["jobs"], merged["notes"]) == ([1], [2], ["a", "b"])
    assert "skipped" not in merged


def test_a_failure_among_results_is_kept() -> None:
    merged = merge_results([result("ok"), {"failed": True, "msg": "No right.", "error": {"remedy": "Apply it."}}])
    assert (merged["failed"], merged["msg"], merged["error"]) == (True, "ok. No right.", {"remedy": "Apply it."})


@pytest.mark.parametrize("results", [[], [{}], [{"skipped": True}], [{"unreachable": True, "msg": "No route."}]])
def test_what_was_not_looked_at_is_never_well(results: list[dict[str, Any]]) -> None:
    merged = merge_results(results)
    assert merged["severity"] == "critical"
    assert merged["msg"] in ("No result: no module has run.", "No route.")
