# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the Job of a CronJob now, and wait for its end.

A Job that runs already is waited for: a second one beside it would only find the catalog locked. A caller that is cut
off may simply run again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..._catalog.catalog import Catalog, Entry
from ..._catalog.newest import newest_within
from ..._errors import ClusterRefused, JobFailed, ObjectNotFound, RunbookError
from ..._kube.access import Right, refuse_missing
from ..._kube.cluster import Cluster, patiently
from ..._kube.jobs import (
    BATCH,
    KubeJob,
    find_cron_job,
    instance_of,
    jobs_of,
    log_tail,
    read_job,
    reading_rights,
    telling,
    why_waiting,
)
from ..._plan import Plan
from ..._units import human_duration

GRANT = "backup_from_schedule"
_POLL_S = 1.0
_CLOCKS_DIFFER_S = 30
_PATIENCE_S = 300.0
_EXISTS = 409
# A name of a Job is also a label of its pods.
_LONGEST_NAME = 63


@dataclass(frozen=True)
class JobPlan(Plan):
    """What the operator wants.

    Attributes:
        schedule: the name of the CronJob.
        max_age_s: start no Job if the newest backup is younger than this; None or 0: always start one.
        wait_s: how long to wait for the end of the Job.
    """

    db: str
    schedule: str
    max_age_s: float | None
    wait_s: float


@dataclass(frozen=True)
class Start:
    """What a run begins with: the CronJob, and the Job of it that runs already."""

    cron_job: Mapping[str, Any]
    running: KubeJob | None


def look(cluster: Cluster, name: str) -> Start:
    """Find out whether a Job can be started, changing nothing.

    Raises:
        ClusterRefused: rights are missing.
        ObjectNotFound: there is no such CronJob.
    """
    rights = [Right((verb,), "jobs", "batch") for verb in ("create", "get", "delete")]
    refuse_missing(cluster, [*reading_rights(name), *rights], GRANT)
    found = find_cron_job(cluster, name)
    if found is None:
        raise ObjectNotFound(
            "There is no such CronJob",
            subject=f"{name} in namespace {cluster.namespace}",
            remedy="Check the name, or run the playbook godel.postgres_runbook.backup_schedule.",
        )
    running = [job for job in jobs_of(cluster, found) if job.state == "running" and not job.going]
    return Start(found, running[-1] if running else None)


def run(cluster: Cluster, start: Start, now: datetime, wait_s: float) -> KubeJob:
    """Start a Job, or join the one that runs, and wait until it has succeeded. An interrupt ends what this began.

    Raises:
        JobFailed: it failed, was deleted, or has not finished after `wait_s` seconds.
    """
    if start.running is not None:
        return _wait(cluster, start.running, wait_s)
    name = f"-{now:%Y%m%d%H%M%S}-{secrets.token_hex(2)}"
    name = start.cron_job["metadata"]["name"][: _LONGEST_NAME - len(name)] + name
    try:
        return _wait(cluster, _create(cluster, instance_of(start.cron_job, name)), wait_s)
    except RunbookError:
        raise  # it failed, or it goes on and can be joined
    except BaseException:  # a signal: the operator wants no backup any more
        _delete(cluster, name)
        raise


def _create(cluster: Cluster, body: Mapping[str, Any]) -> KubeJob:
    """Create the Job once, over a connection that may be cut: its name is unique."""
    name = body["metadata"]["name"]
    try:
        made = patiently(lambda: cluster.request("POST", cluster.path("jobs", api=BATCH), body=body))
    except ClusterRefused as exc:
        if exc.details.get("status") != _EXISTS:
            raise
        made = cluster.get(cluster.path("jobs", name, api=BATCH))
    return read_job(made)


def _delete(cluster: Cluster, name: str) -> None:
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    with suppress(ObjectNotFound):
        cluster.request("DELETE", cluster.path("jobs", name, api=BATCH), body=body)


def _wait(cluster: Cluster, job: KubeJob, wait_s: float) -> KubeJob:
    deadline = time.monotonic() + wait_s
    while True:
        job = _look_again(cluster, job)
        if job.state == "complete":
            return job
        if job.state == "failed":
            log = log_tail(cluster, job)
            why = ": ".join(text for text in (job.reason, telling(log)) if text)
            raise _failure(
                cluster,
                job,
                "The backup's Job failed",
                why,
                "Correct the error that the log shows, then run again.",
                log,
            )
        if time.monotonic() > deadline:
            waiting = why_waiting(cluster, job)
            why = waiting or f"it is still running after {human_duration(wait_s)}"
            end = f"kubectl delete -n {cluster.namespace} job/{job.name}"
            remedy = f"The Job continues: run again to wait for it, or delete it with {end}."
            raise _failure(cluster, job, "The backup's Job has not finished", why, remedy, log_tail(cluster, job))
        time.sleep(_POLL_S)


def _look_again(cluster: Cluster, job: KubeJob) -> KubeJob:
    try:
        path = cluster.path("jobs", job.name, api=BATCH)
        found = read_job(patiently(lambda: cluster.request("GET", path), _PATIENCE_S))
    except ObjectNotFound:
        found = None
    if found is None or found.uid != job.uid or (found.going and not found.is_over):
        raise _failure(
            cluster, job, "The backup's Job was deleted", "", "Find out what deleted it, then run again.", []
        )
    return found


def _failure(cluster: Cluster, job: KubeJob, what: str, why: str, remedy: str, log: list[str]) -> JobFailed:
    subject = f"job {cluster.namespace}/{job.name}"
    return JobFailed(what, subject=subject, why=why, remedy=remedy, details={"job": job.name, "log": log})


def backup_of(catalog: Catalog, db: str, job: KubeJob, known: Entry | None, now: datetime) -> Entry:
    """The backup that a Job has added to the catalog; `known` was the newest one before.

    Raises:
        JobFailed: there is none, so that the Job backs up something else, or nothing.
    """
    since_s = (now - job.created).total_seconds() + _CLOCKS_DIFFER_S
    found = newest_within(catalog, db, since_s, False, now)
    if found is None or (known is not None and found.id == known.id and found.taken < job.created):
        raise JobFailed(
            "The backup's Job succeeded, but there is no new backup",
            subject=f"{db} in {catalog.root}",
            why=f"job {job.name} backs up another database, or found a recent backup and took none",
            remedy="Compare what the CronJob runs with postgres_db and postgres_backup_dir.",
            details={"job": job.name},
        )
    return found
