"""The controllers of Jobs and CronJobs."""

from __future__ import annotations

import asyncio
import copy
import datetime

from tests.standin import defaults, garbage, kinds
from tests.standin.matching import Object
from tests.standin.node import Timing
from tests.standin.store import Store, now
from tests.standin.workloads import is_active, is_ready, owner_reference, pod_from

BACKOFF = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")
DONE = ("CompletionsReached", "Reached expected number of succeeded pods")


def finished(job: Object) -> str:
    """Return 'Complete', 'Failed' or ''."""
    for each in job["status"].get("conditions") or []:
        if each["type"] in ("Complete", "Failed") and each["status"] == "True":
            return str(each["type"])
    return ""


class Jobs:
    """Every Job: its pods, and the counting of their ends."""

    def __init__(self, store: Store, timing: Timing) -> None:
        self._store = store
        self._timing = timing
        self._counted: set[str] = set()
        self._to_count: set[str] = set()
        self._not_before: dict[str, float] = {}

    def reconcile(self, job: Object) -> None:
        """Do the next step of a Job, and report."""
        if finished(job):
            self._after_the_end(job)
            return
        loop = asyncio.get_running_loop()
        pods = self._store.owned(kinds.POD, job)
        ended = [pod for pod in pods if pod["status"]["phase"] in ("Succeeded", "Failed")]
        uncounted = [pod for pod in ended if pod["metadata"]["uid"] not in self._counted]
        for pod in uncounted:
            if pod["metadata"]["uid"] not in self._to_count:
                self._to_count.add(pod["metadata"]["uid"])
                loop.call_later(self._timing.job_end_s, self._count, job, pod)
        active = [pod for pod in pods if is_active(pod)]
        if job["spec"].get("suspend"):
            self._suspend(job, active)
            return
        if self._overdue(job) <= 0:
            self._end(job, "Failed", *DEADLINE)
            return
        status = job["status"]
        missing = job["spec"]["completions"] - status.get("succeeded", 0) - len(uncounted) - len(active)
        wait = self._not_before.get(job["metadata"]["uid"], 0) - loop.time()
        if missing > 0 and wait > 0:
            loop.call_later(wait, self._again, job)
        elif missing > 0:
            for dummy in range(min(missing, job["spec"]["parallelism"] - len(active))):
                pod = pod_from(job["spec"]["template"], kinds.JOB, job)
                active.append(self._store.create(kinds.POD, pod))
        if self._restarted_too_often(job, active):
            self._end(job, "Failed", *BACKOFF)
            return
        self._report(job, len(active) + len(uncounted), active)

    def _again(self, job: Object) -> None:
        newest = self._store.find(kinds.JOB, job["metadata"]["namespace"], job["metadata"]["name"])
        if newest is not None and newest["metadata"]["uid"] == job["metadata"]["uid"]:
            self.reconcile(newest)

    def _restarted_too_often(self, job: Object, active: list[Object]) -> bool:
        restarts = sum(each["restartCount"] for pod in active for each in pod["status"].get("containerStatuses") or [])
        return bool(restarts > job["spec"]["backoffLimit"])

    def _overdue(self, job: Object) -> float:
        limit, start = job["spec"].get("activeDeadlineSeconds"), job["status"].get("startTime")
        if limit is None or start is None:
            return float("inf")
        since = datetime.datetime.fromisoformat(start)
        left: float = limit - (datetime.datetime.now(datetime.UTC) - since).total_seconds()
        if left > 0:
            asyncio.get_running_loop().call_later(left + 0.01, self._again, job)
        return left

    def _suspend(self, job: Object, active: list[Object]) -> None:
        for pod in active:
            garbage.end_pod(self._store, pod)

        def write(item: Object) -> None:
            item["status"] = {"terminating": 0, "uncountedTerminatedPods": {}, "ready": 0}
            item["status"]["conditions"] = [_condition("Suspended", "JobSuspended", "Job suspended")]

        self._store.change(kinds.JOB, job, write)

    def _report(self, job: Object, active: int, pods: list[Object]) -> None:
        ready = sum(is_ready(pod) for pod in pods)

        def write(item: Object) -> None:
            before = item["status"]
            status: Object = {"startTime": before.get("startTime") or now()}
            counts = (
                ("active", active),
                ("succeeded", before.get("succeeded")),
                ("failed", before.get("failed")),
            )
            status |= {name: count for name, count in counts if count}
            item["status"] = status | {"terminating": 0, "uncountedTerminatedPods": {}, "ready": ready}

        self._store.change(kinds.JOB, job, write)

    def _count(self, job: Object, pod: Object) -> None:
        """Count a pod that has ended; the Job may be over by that."""
        self._counted.add(pod["metadata"]["uid"])
        field = "succeeded" if pod["status"]["phase"] == "Succeeded" else "failed"

        def write(item: Object) -> None:
            item["status"][field] = item["status"].get(field, 0) + 1

        counted = self._store.change(kinds.JOB, job, write)
        if counted is None or finished(counted):
            return
        if counted["status"].get("succeeded", 0) >= counted["spec"]["completions"]:
            self._end(counted, "Complete", *DONE)
        elif counted["status"].get("failed", 0) > counted["spec"]["backoffLimit"]:
            self._end(counted, "Failed", *BACKOFF)
        elif field == "failed":
            pause = self._timing.restart_s * 2 ** min(counted["status"]["failed"], 6)
            loop = asyncio.get_running_loop()
            self._not_before[counted["metadata"]["uid"]] = loop.time() + pause
            self._again(counted)

    def _end(self, job: Object, verdict: str, reason: str, message: str) -> None:
        for pod in self._store.owned(kinds.POD, job):
            if is_active(pod):
                garbage.end_pod(self._store, pod)
        first = "SuccessCriteriaMet" if verdict == "Complete" else "FailureTarget"

        def write(item: Object) -> None:
            before = item["status"]
            conditions = [_condition(first, reason, message), _condition(verdict, reason, message)]
            status: Object = {"conditions": conditions, "startTime": before.get("startTime") or now()}
            if verdict == "Complete":
                status["completionTime"] = now()
            status |= {name: before[name] for name in ("succeeded", "failed") if before.get(name)}
            item["status"] = status | {"terminating": 0, "uncountedTerminatedPods": {}, "ready": 0}

        self._store.change(kinds.JOB, job, write)

    def _after_the_end(self, job: Object) -> None:
        keep_s = job["spec"].get("ttlSecondsAfterFinished")
        if keep_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(keep_s, lambda: self._store.remove(kinds.JOB, job))


def _condition(kind: str, reason: str, message: str) -> Object:
    told = {"type": kind, "status": "True", "lastProbeTime": now(), "lastTransitionTime": now()}
    return told | {"reason": reason, "message": message}


# --- CronJobs


def fire(store: Store, cron_job: Object) -> Object | None:
    """Do what the schedule of a CronJob does when its time has come; None when it must not start now."""
    spec = cron_job["spec"]
    if spec.get("suspend"):
        return None
    running = [job for job in store.owned(kinds.JOB, cron_job) if not finished(job)]
    if running and spec["concurrencyPolicy"] == "Forbid":
        return None
    if spec["concurrencyPolicy"] == "Replace":
        for job in running:
            garbage.delete_dependents(store, job)
            store.remove(kinds.JOB, job)
    template, meta = copy.deepcopy(spec["jobTemplate"]), cron_job["metadata"]
    minutes = int(datetime.datetime.now(datetime.UTC).timestamp() // 60)
    while store.find(kinds.JOB, meta["namespace"], f"{meta['name']}-{minutes}"):
        minutes += 1  # fired twice in a minute, which a real schedule never is
    item = {
        "metadata": {
            "name": f"{meta['name']}-{minutes}",
            "namespace": meta["namespace"],
            "labels": template["metadata"].get("labels") or {},
            "annotations": {
                **(template["metadata"].get("annotations") or {}),
                "batch.kubernetes.io/cronjob-scheduled-timestamp": now(),
            },
            "ownerReferences": [owner_reference(kinds.CRON_JOB, cron_job)],
        },
        "spec": template["spec"],
    }
    job = store.create(kinds.JOB, defaults.admit(kinds.JOB, item))

    def mark(edited: Object) -> None:
        edited["status"]["lastScheduleTime"] = now()

    store.change(kinds.CRON_JOB, cron_job, mark)
    return job


def reconcile_cron_job(store: Store, cron_job: Object) -> None:
    """Report what runs and what went well last, and keep the history short."""
    jobs = store.owned(kinds.JOB, cron_job)
    active = [
        {
            "kind": "Job",
            "namespace": job["metadata"]["namespace"],
            "name": job["metadata"]["name"],
            "uid": job["metadata"]["uid"],
            "apiVersion": "batch/v1",
            "resourceVersion": job["metadata"]["resourceVersion"],
        }
        for job in jobs
        if not finished(job)
    ]
    ends = [job["status"]["completionTime"] for job in jobs if finished(job) == "Complete"]
    last = max([*ends, cron_job["status"].get("lastSuccessfulTime", "")])

    def write(item: Object) -> None:
        status = {"active": active} if active else {}
        for name, value in (("lastScheduleTime", item["status"].get("lastScheduleTime")), ("lastSuccessfulTime", last)):
            if value:
                status[name] = value
        item["status"] = status

    store.change(kinds.CRON_JOB, cron_job, write)
    for verdict, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        over = [job for job in jobs if finished(job) == verdict]
        over.sort(key=lambda job: (job["status"].get("startTime", ""), job["metadata"]["name"]))
        for job in over[: max(0, len(over) - cron_job["spec"][field])]:
            store.remove(kinds.JOB, job)
