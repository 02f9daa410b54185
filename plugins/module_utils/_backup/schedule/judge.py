# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule of the backups as a CronJob, and the judgement on it. Reading is apart from judging, which is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from ..._errors import InvalidInput
from ..._findings import Finding
from ..._kube.cluster import Cluster
from ..._kube.jobs import KubeJob, find_cron_job, jobs_of, log_tail, telling, why_waiting
from ..._units import from_rfc3339, human_duration, read_zone, to_rfc3339
from .cron import Cron

# The controller checks every ten seconds; a busy one may need longer to start what is due.
PUNCTUAL_S = 120
_MOST_LOGS = 3
_MOST_MISSED = 100
_MAKE = "Run the playbook godel.postgres_runbook.backup_schedule."
_NOW = "Run the playbook godel.postgres_runbook.backup now, with backup_from_schedule to try the schedule's own Job."


@dataclass(frozen=True)
class Run:
    """A Job of the schedule, with the end of its log when it failed, and what keeps it from starting when it runs."""

    job: KubeJob
    log: Sequence[str] = ()
    waiting: str = ""

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For a module's result; the log stands elsewhere."""
        return {**self.job.as_dict(now), "waiting": self.waiting}


@dataclass(frozen=True)
class Schedule:
    """A CronJob. Runs are newest first; `judged_since` is from when on it was what it is now."""

    name: str
    namespace: str
    cron: str
    time_zone: str | None
    suspended: bool
    created: datetime
    judged_since: datetime
    last_scheduled: datetime | None
    last_success: datetime | None
    runs: Sequence[Run]

    @property
    def command(self) -> str:
        """How to name it to kubectl."""
        return f"-n {self.namespace} cronjob/{self.name}"

    @property
    def failed_log(self) -> Sequence[str]:
        """The log of the newest Job that is over, if it failed."""
        newest = next((run for run in self.runs if run.job.is_over), None)
        return newest.log if newest and newest.job.state == "failed" else ()

    def following(self, now: datetime) -> datetime | None:
        """When it is due next; None when it is suspended, or cannot be read here."""
        try:
            return None if self.suspended else Cron.parse(self.cron).following(now, read_zone(self.time_zone))
        except InvalidInput:
            return None

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For a module's result."""
        following = self.following(now)
        return {
            "name": self.name,
            "namespace": self.namespace,
            "cron": self.cron,
            "time_zone": self.time_zone,
            "suspended": self.suspended,
            "last_scheduled": to_rfc3339(self.last_scheduled) if self.last_scheduled else None,
            "last_success": to_rfc3339(self.last_success) if self.last_success else None,
            "last_success_age_s": int((now - self.last_success).total_seconds()) if self.last_success else None,
            "next": to_rfc3339(following) if following else None,
        }


def survey(cluster: Cluster, name: str) -> Schedule | None:
    """Read the CronJob, its Jobs, and the ends of the logs of those that failed last; None when there is none."""
    found = find_cron_job(cluster, name)
    if found is None:
        return None
    runs, logs = [], 0
    for job in jobs_of(cluster, found):
        with_log = job.state == "failed" and logs < _MOST_LOGS
        logs += with_log
        runs.append(
            Run(
                job,
                log_tail(cluster, job) if with_log else (),
                why_waiting(cluster, job) if job.state == "running" else "",
            )
        )
    return read_schedule(found, runs)


def read_schedule(found: Mapping[str, Any], runs: Sequence[Run]) -> Schedule:
    """The schedule from what the cluster says of the CronJob."""
    meta, spec, status = found["metadata"], found["spec"], found.get("status") or {}
    edited = [
        each["time"] for each in meta.get("managedFields") or [] if each.get("time") and not each.get("subresource")
    ]
    successes = [run.job.ended for run in runs if run.job.state == "complete" and run.job.ended]
    if status.get("lastSuccessfulTime"):
        successes.append(from_rfc3339(status["lastSuccessfulTime"]))
    return Schedule(
        name=meta["name"],
        namespace=meta["namespace"],
        cron=spec["schedule"],
        time_zone=spec.get("timeZone"),
        suspended=bool(spec.get("suspend")),
        created=from_rfc3339(meta["creationTimestamp"]),
        # RFC 3339 in UTC: the order of the texts is the order of the times.
        judged_since=from_rfc3339(max([meta["creationTimestamp"], *edited])),
        last_scheduled=from_rfc3339(status["lastScheduleTime"]) if status.get("lastScheduleTime") else None,
        last_success=max(successes, default=None),
        runs=runs,
    )


def missing(name: str, namespace: str) -> Finding:
    """The finding for a CronJob that is not there."""
    message = f"There is no CronJob {name!r} in namespace {namespace}: no backups are taken automatically."
    return Finding("schedule_exists", "critical", name, None, None, message, _MAKE)


def judge(schedule: Schedule, rpo_s: float | None, now: datetime) -> list[Finding]:
    """Every judged fact about a schedule."""
    findings = [_judge_success(schedule, rpo_s, now)]
    if schedule.suspended:
        message = f"CronJob {schedule.name} is suspended: no backups are taken automatically."
        remedy = "Set backup_schedule_suspend to false and run the playbook godel.postgres_runbook.backup_schedule."
        findings.append(Finding("schedule_suspended", "warning", schedule.name, None, None, message, remedy))
    else:
        findings.append(_judge_punctuality(schedule, now))
    return findings + _judge_failures(schedule) + _judge_running(schedule, rpo_s, now)


def _judge_success(schedule: Schedule, rpo_s: float | None, now: datetime) -> Finding:
    name, last = schedule.name, schedule.last_success
    since = last or schedule.created
    age_s = int((now - since).total_seconds())
    age = human_duration(max(0, age_s))
    message = f"The last Job of CronJob {name} that succeeded ended {age} ago"
    if last is None:
        message = f"No Job of CronJob {name} has succeeded since the CronJob was created {age} ago"
    if rpo_s is not None and age_s > rpo_s:
        message += f"; at most {human_duration(rpo_s)} are allowed."
        return Finding("schedule_success", "critical", name, age_s, rpo_s, message, _NOW)
    return Finding("schedule_success", "info" if last is None else "ok", name, age_s, rpo_s, f"{message}.")


def _judge_punctuality(schedule: Schedule, now: datetime) -> Finding:
    name = schedule.name
    try:
        cron, zone = Cron.parse(schedule.cron), read_zone(schedule.time_zone)
    except InvalidInput as exc:
        message = f"It is unknown whether CronJob {name} has missed a run. {exc.what} ({exc.subject})."
        return Finding("schedule_missed", "info", name, None, 0, message, exc.remedy)
    since = max(schedule.judged_since, schedule.last_scheduled or schedule.judged_since)
    until = now - timedelta(seconds=PUNCTUAL_S)
    missed = list(islice(cron.times(since, until, zone), _MOST_MISSED))
    if not missed:
        return Finding("schedule_missed", "ok", name, 0, 0, f"CronJob {name} has missed no run.")
    more = f" and {len(missed) - 1} more since then" if len(missed) > 1 else ""
    if len(missed) == _MOST_MISSED:
        more = f" and {_MOST_MISSED - 1} or more since then"
    message = f"CronJob {name} ({schedule.cron}) has missed its run at {to_rfc3339(missed[0])}{more}."
    running = [run.job.name for run in schedule.runs if not run.job.is_over]
    if running:
        message += f" Job {running[0]} is still running, and no second Job starts while it runs."
    remedy = f"See kubectl describe {schedule.command}. {_NOW}"
    return Finding("schedule_missed", "warning", name, len(missed), 0, message, remedy)


def _judge_failures(schedule: Schedule) -> list[Finding]:
    """A failure that a success has followed is only news."""
    findings, succeeded = [], False
    for run in schedule.runs:
        job = run.job
        succeeded |= job.state == "complete"
        if job.state != "failed":
            continue
        when = f" at {to_rfc3339(job.ended)}" if job.ended else ""
        message = f"Job {job.name} failed{when} ({job.reason or 'no reason given'})"
        message += f": {telling(run.log)}" if run.log else "; there is no log of it."
        remedy = "" if succeeded else f"See kubectl logs -n {schedule.namespace} job/{job.name}. {_NOW}"
        severity = "info" if succeeded else "warning"
        findings.append(Finding("schedule_failed", severity, job.name, job.reason, None, message, remedy))
    return findings


def _judge_running(schedule: Schedule, rpo_s: float | None, now: datetime) -> list[Finding]:
    findings = []
    for run in schedule.runs:
        job = run.job
        if job.is_over:
            continue
        look = f"See kubectl describe -n {schedule.namespace} job/{job.name}."
        if job.state == "suspended":
            message = f"Job {job.name} is suspended."
            findings.append(Finding("schedule_running", "warning", job.name, None, None, message, look))
            continue
        age_s = int((now - (job.started or job.created)).total_seconds())
        limit_s = job.deadline_s if job.deadline_s is not None else rpo_s
        message, severity, remedy = f"Job {job.name} has been running for {human_duration(max(0, age_s))}", "info", ""
        if run.waiting and age_s > PUNCTUAL_S:
            severity, remedy = "warning", look
            message = f"Job {job.name} has been unable to start for {human_duration(age_s)}: {run.waiting}"
        elif limit_s is not None and age_s > limit_s:
            severity, remedy = "warning", look
            message += f"; at most {human_duration(limit_s)} are allowed"
        findings.append(Finding("schedule_running", severity, job.name, age_s, limit_s, f"{message}.", remedy))
    return findings


def describe(schedule: Schedule | None, findings: Sequence[Finding], now: datetime) -> str:
    """One or a few sentences for people: when it ran, when it will, and its problems."""
    bad = [finding.message for finding in findings if finding.severity in ("warning", "critical")]
    if schedule is None:
        return " ".join(bad)
    last = (
        f"{human_duration(max(0, (now - schedule.last_success).total_seconds()))} ago" if schedule.last_success else ""
    )
    following = schedule.following(now)
    text = f"CronJob {schedule.namespace}/{schedule.name} ({schedule.cron}): last success {last or 'never'}"
    text += f", due next at {to_rfc3339(following)}." if following else "."
    more = f" And {len(bad) - 3} more." if len(bad) > 3 else ""
    return " ".join([text, *bad[:3]]) + more
