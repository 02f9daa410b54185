# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CronJobs and their Jobs: what the cluster says of them, and what their pods have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._errors import ClusterRefused, ObjectNotFound
from .._units import from_rfc3339, to_rfc3339
from .access import Right
from .cluster import Cluster

BATCH = "apis/batch/v1"
INSTANTIATE = "cronjob.kubernetes.io/instantiate"
_TAIL_LINES = 40
_LINE_CHARACTERS = 1000
# The server cuts the end off, and an end is what is wanted: so this is far more than forty lines have.
_LOG_BYTES = 1024 * 1024
_ON_THEIR_WAY = ("ContainerCreating", "PodInitializing")


def reading_rights(cron_job: str) -> list[Right]:
    """What it takes to look at a CronJob, its Jobs and their logs."""
    return [
        Right(("get",), "cronjobs", "batch", cron_job),
        Right(("list",), "jobs", "batch"),
        Right(("list",), "pods"),
        Right(("get",), "pods/log"),
    ]


@dataclass(frozen=True)
class KubeJob:
    """One Job. `state` is `running`, `complete`, `failed` or `suspended`; why it failed is in the last two."""

    name: str
    uid: str
    state: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    deadline_s: int | None
    manual: bool
    going: bool
    reason: str = ""
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in ("complete", "failed")

    def as_dict(self, now: datetime) -> dict[str, object]:
        """For a module's result."""
        end = self.ended or (None if self.is_over else now)
        return {
            "name": self.name,
            "state": self.state,
            "manual": self.manual,
            "started": to_rfc3339(self.started) if self.started else None,
            "ended": to_rfc3339(self.ended) if self.ended else None,
            "duration_s": int((end - self.started).total_seconds()) if self.started and end else None,
            "reason": self.reason,
            "message": self.message,
        }


def find_cron_job(cluster: Cluster, name: str) -> dict[str, Any] | None:
    """The CronJob as the cluster has it, or None."""
    try:
        found: dict[str, Any] = cluster.get(cluster.path("cronjobs", name, api=BATCH))
    except ObjectNotFound:
        return None
    return found


def jobs_of(cluster: Cluster, cron_job: Mapping[str, Any]) -> list[KubeJob]:
    """The Jobs that a CronJob owns, those that an operator created from it included, newest first."""
    uid = cron_job["metadata"]["uid"]
    items = cluster.get(cluster.path("jobs", api=BATCH)).get("items") or []
    owned = [
        item for item in items if any(each["uid"] == uid for each in item["metadata"].get("ownerReferences") or [])
    ]
    return sorted(map(read_job, owned), key=lambda job: (job.created, job.name), reverse=True)


def read_job(item: Mapping[str, Any]) -> KubeJob:
    """A Job from what the cluster says of it."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or [] if each["status"] == "True"}
    verdict = conditions.get("Failed") or conditions.get("Complete")
    failed = conditions.get("Failed") or {}
    state = "suspended" if spec.get("suspend") else "running"
    if verdict:
        state = "failed" if failed else "complete"
    return KubeJob(
        name=meta["name"],
        uid=meta["uid"],
        state=state,
        created=from_rfc3339(meta["creationTimestamp"]),
        started=_moment(status.get("startTime")),
        ended=_moment(status.get("completionTime") or (verdict or {}).get("lastTransitionTime")),
        deadline_s=spec.get("activeDeadlineSeconds"),
        manual=(meta.get("annotations") or {}).get(INSTANTIATE) == "manual",
        going="deletionTimestamp" in meta,
        reason=failed.get("reason", ""),
        message=failed.get("message", ""),
    )


def instance_of(cron_job: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The Job that `kubectl create job NAME --from=cronjob/...` makes."""
    template, meta = cron_job["spec"]["jobTemplate"], cron_job["metadata"]
    own = template.get("metadata") or {}
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": dict(own.get("labels") or {}),
            "annotations": {**(own.get("annotations") or {}), INSTANTIATE: "manual"},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


def why_waiting(cluster: Cluster, job: KubeJob) -> str:
    """What keeps the pod of a running Job from starting, in words; empty when it runs, or is on its way."""
    pods = _pods(cluster, job)
    if not pods:
        return "no pod of it was created; does its service account exist?"
    status = pods[0].get("status") or {}
    for each in status.get("conditions") or []:
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return _joined(each)
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _ON_THEIR_WAY:
            return _joined(waiting)
    return ""


def log_tail(cluster: Cluster, job: KubeJob) -> list[str]:
    """The last lines that the newest pod of a Job has written; none when there is no pod, or it never ran."""
    for pod in _pods(cluster, job)[:1]:
        meta, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
        query = {"container": container, "tailLines": str(_TAIL_LINES), "limitBytes": str(_LOG_BYTES)}
        try:
            text = cluster.get_text(cluster.path("pods", meta["name"]) + "/log", query)
        except ObjectNotFound:
            return []  # it was deleted meanwhile
        except ClusterRefused as exc:
            if exc.details.get("status") == 400:
                return []  # it has not begun
            raise
        return [line[:_LINE_CHARACTERS] for line in text.splitlines() if line.strip()]
    return []


def telling(lines: Sequence[str]) -> str:
    """The line of a log that says what went wrong: Ansible's last error, which others follow, or the last one."""
    errors = [line for line in lines if line.startswith(("fatal:", "[ERROR]", "ERROR!"))]
    return (errors or list(lines) or [""])[-1].strip()


def _pods(cluster: Cluster, job: KubeJob) -> list[dict[str, Any]]:
    """Its pods, newest first."""
    items = cluster.get(cluster.path("pods"), {"labelSelector": f"job-name={job.name}"}).get("items") or []
    return sorted(items, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), reverse=True)


def _joined(told: Mapping[str, Any]) -> str:
    return ": ".join(str(told[name]) for name in ("reason", "message") if told.get(name))


def _moment(text: str | None) -> datetime | None:
    return from_rfc3339(text) if text else None
