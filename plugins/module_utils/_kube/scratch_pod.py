# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway pod that sees what a pod sees at one path, and is deleted afterwards.

It has the image, the accounts and the tolerations of the other one, the volume of the path (read-only, at the same
place), a disk of its own, limits, and neither labels nor ports that a service could choose. It ends by itself soon
after no run works in it any more; the next run deletes what is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from .._errors import ClusterRefused, InvalidInput, ObjectNotFound, RunbookError, WorkloadProblem
from .._plan import Plan
from .._units import from_rfc3339
from .cluster import Cluster, patiently
from .shell import Container
from .workload import container_of

CONTAINER = "scratch"
SCRATCH_DIR = "/pg_runbook"  # also the value of TMPDIR
SELECTOR = "app.kubernetes.io/managed-by=godel.postgres_runbook,app.kubernetes.io/component=scratch"
LABELS = dict(pair.split("=") for pair in SELECTOR.split(",")) | {"sidecar.istio.io/inject": "false"}
_ANNOTATIONS = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
_FORGOTTEN = timedelta(hours=1)  # a pod that still waits for a node then has no run that waits for it
_POLL_S = 0.3
_GRACE_S = 5
_GONE_TICKS = 10  # of two seconds; between two uses of one pod there are none
_CONFLICT = 409
_HOPELESS = ("InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull")
# A pod that is scheduled beside it can also mount them; other kinds end with their pod, or are not ours to share.
_SHARED = ("persistentVolumeClaim", "hostPath", "nfs", "cephfs", "glusterfs", "azureFile")
_BOUND_TO_A_NODE = ("persistentVolumeClaim", "hostPath")
_REQUESTS, _LIMITS = {"cpu": "100m", "memory": "512Mi"}, {"cpu": "2", "memory": "2Gi"}
_MIB = 1024 * 1024

# $1 how many ticks of two seconds a lease may stay as it is. A missing one was let go, or has lapsed for those that
# watch it: then some seconds will do. A shell as process 1 takes every orphan's leave.
_LIVE = f"""
trap 'exit 0' TERM
last= idle=0 limit=$1
until [ "$idle" -ge "$limit" ]; do
    sleep 2 & wait $!
    idle=$((idle + 1))
    now=$(cat "$TMPDIR"/.pg_runbook_*/lease 2>/dev/null)
    if [ -n "$now" ] && [ "$now" != "$last" ]; then idle=0 last=$now limit=$1; fi
    if [ -z "$now" ] && [ -n "$last" ] && [ "$limit" -gt {_GONE_TICKS} ]; then idle=0 limit={_GONE_TICKS}; fi
done
exit 0
"""


@dataclass(frozen=True)
class ScratchPodOptions(Plan):
    """What the operator says about the pod, named as in Kubernetes.

    Args:
        image: None means that of the other pod.
        resources: `requests` and `limits`, which go before ours.
        volume: the source of the volume for the scratch instance; None is an emptyDir.
        timeout_s: how long it may take to start, in seconds.
    """

    image: str | None = None
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    volume: Mapping[str, Any] | None = None
    timeout_s: float = 300.0


@dataclass(frozen=True)
class ScratchPodWork:
    """What is to be done in it: `path` is read, and `space_bytes` (None: unknown) are written."""

    path: str
    space_bytes: int | None


def manifest(
    pod: Mapping[str, Any], container: str, work: ScratchPodWork, wanted: ScratchPodOptions, idle_s: float
) -> dict[str, Any]:
    """The pod that sees `work.path` as that container of this pod does, and ends `idle_s` seconds after the last lease.

    Raises:
        InvalidInput: the path is on no volume that another pod can mount.
    """
    spec = pod["spec"]
    model = next(item for item in spec["containers"] if item["name"] == container)
    volume, mount = _shared(pod, model, work.path)
    disk, resources = _disk(work, wanted)
    found: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        **{key: spec[key] for key in ("securityContext", "tolerations", "imagePullSecrets") if spec.get(key)},
        "containers": [
            {
                "name": CONTAINER,
                "image": wanted.image or model["image"],
                "command": ["sh", "-c", _LIVE, "sh", str(max(1, int(idle_s / 2)))],
                "env": [{"name": "TMPDIR", "value": SCRATCH_DIR}],
                "resources": resources,
                "volumeMounts": [{"name": "scratch", "mountPath": SCRATCH_DIR}, mount],
                **({"securityContext": model["securityContext"]} if model.get("securityContext") else {}),
            }
        ],
        "volumes": [{"name": "scratch", **disk}, volume],
    }
    if any(kind in volume for kind in _BOUND_TO_A_NODE) and spec.get("nodeName"):
        node = {"key": "metadata.name", "operator": "In", "values": [spec["nodeName"]]}
        terms = {"nodeSelectorTerms": [{"matchFields": [node]}]}
        found["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    meta = {"name": f"pg-runbook-scratch-{uuid4().hex[:10]}", "labels": LABELS, "annotations": _ANNOTATIONS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": found}


def rehearse(cluster: Cluster, made: Mapping[str, Any]) -> None:
    """Let the API server judge the pod (quota, admission, rights), and make nothing."""
    patiently(lambda: cluster.request("POST", cluster.path("pods"), query={"dryRun": "All"}, body=made))


@contextmanager
def running(cluster: Cluster, made: Mapping[str, Any], timeout_s: float) -> Iterator[Container]:
    """Such a pod, once its container runs; deleted whatever happens. What earlier runs have left is deleted, too.

    Raises:
        ClusterRefused: a quota, an admission or a missing right.
        WorkloadProblem: it does not start within `timeout_s` seconds; says why.
    """
    path = cluster.path("pods", made["metadata"]["name"])
    try:
        _create(cluster, made, path)
        yield replace(container_of(_started(cluster, path, timeout_s), CONTAINER), is_throwaway=True)
    except BaseException:
        with suppress(RunbookError):  # what comes now has its own reason, and the next run deletes it
            _delete(cluster, path)
        raise
    _delete(cluster, path)


def sweep(cluster: Cluster, now: str) -> list[str]:
    """Delete such pods as have ended, or wait for a node since an hour before `now` (RFC 3339)."""
    removed = []
    for pod in cluster.get(cluster.path("pods"), {"labelSelector": SELECTOR}).get("items") or []:
        phase, meta = pod.get("status", {}).get("phase"), pod["metadata"]
        waited = from_rfc3339(now) - from_rfc3339(meta["creationTimestamp"])
        if phase in ("Succeeded", "Failed") or (phase == "Pending" and waited > _FORGOTTEN):
            _delete(cluster, cluster.path("pods", meta["name"]))
            removed.append(meta["name"])
    return removed


def _create(cluster: Cluster, made: Mapping[str, Any], path: str) -> None:
    def attempt() -> Any:
        try:
            return cluster.request("POST", cluster.path("pods"), body=made)
        except ClusterRefused as exc:
            if exc.details.get("status") != _CONFLICT:
                raise
            return cluster.get(path)  # an attempt whose answer was lost

    sweep(cluster, patiently(attempt)["metadata"]["creationTimestamp"])


def _delete(cluster: Cluster, path: str) -> None:
    with suppress(ObjectNotFound):
        patiently(lambda: cluster.request("DELETE", path, body={"gracePeriodSeconds": _GRACE_S}))


def _started(cluster: Cluster, path: str, timeout_s: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        pod: Mapping[str, Any] = cluster.get(path)
        status = pod.get("status", {})
        states = [
            item.get("state") or {} for item in status.get("containerStatuses") or [] if item["name"] == CONTAINER
        ]
        if any("running" in state for state in states):
            return pod
        waiting = [state["waiting"] for state in states if "waiting" in state]
        ended = status.get("phase") in ("Failed", "Succeeded") or "deletionTimestamp" in pod["metadata"]
        hopeless = any(state.get("reason") in _HOPELESS for state in waiting)
        if ended or hopeless or time.monotonic() > deadline:
            raise WorkloadProblem(
                "The scratch pod does not start",
                subject=f"pod {cluster.namespace}/{pod['metadata']['name']}",
                why=_reasons(status, waiting) or f"it is {status.get('phase', 'unknown')} after {timeout_s:g} s",
                remedy="It is deleted. Change scratch_pod (image, resources, timeout), or use scratch: pod-local.",
            )
        time.sleep(_POLL_S)


def _reasons(status: Mapping[str, Any], waiting: list[Mapping[str, Any]]) -> str:
    conditions = [item for item in status.get("conditions") or [] if item["status"] == "False"]
    found = [status, *waiting, *conditions]
    texts = [": ".join(filter(None, (item.get("reason"), item.get("message")))) for item in found]
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _shared(pod: Mapping[str, Any], model: Mapping[str, Any], path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume that holds the path, and where it is mounted, both read-only."""
    mounts = [
        item for item in model.get("volumeMounts") or [] if f"{path}/".startswith(f"{item['mountPath'].rstrip('/')}/")
    ]
    mount = max(mounts, key=lambda item: len(item["mountPath"]), default=None)
    volumes: dict[str, dict[str, Any]] = {item["name"]: item for item in pod["spec"].get("volumes") or []}
    source = volumes.get(mount["name"], {}) if mount else {}
    found = {kind: source[kind] for kind in _SHARED if kind in source}
    if (
        "ephemeral" in source
    ):  # https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#persistentvolumeclaim-naming
        found = {"persistentVolumeClaim": {"claimName": f"{pod['metadata']['name']}-{source['name']}"}}
    if mount is None or not found or mount.get("subPathExpr"):
        kind = next((key for key in source if key != "name"), "the container's own file system")
        raise InvalidInput(
            "A scratch pod cannot see the backups",
            subject=path,
            why=f"they are on {kind}, which no other pod can mount",
            remedy="Keep them on a PersistentVolumeClaim, where they also outlive the pod. Or fetch them to the"
            " controller and verify them there, or allow scratch: pod-local.",
        )
    [kind] = found
    if kind != "hostPath":
        found = {kind: {**found[kind], "readOnly": True}}
    same = {key: mount[key] for key in ("mountPath", "subPath") if mount.get(key)}
    return {"name": "backups", **found}, {"name": "backups", "readOnly": True, **same}


def _disk(work: ScratchPodWork, wanted: ScratchPodOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scratch volume's source, and the resources of the container."""
    requests: dict[str, str] = dict(_REQUESTS)
    limits: dict[str, str] = dict(_LIMITS)
    disk: dict[str, Any] = dict(wanted.volume) if wanted.volume else {"emptyDir": {}}
    if wanted.volume is None and work.space_bytes is not None:
        # The scheduler finds a node with the room; at twice of it the pod is evicted rather than production.
        requests["ephemeral-storage"] = f"{work.space_bytes // _MIB + 1}Mi"
        limits["ephemeral-storage"] = f"{2 * work.space_bytes // _MIB + 1}Mi"
        disk = {"emptyDir": {"sizeLimit": limits["ephemeral-storage"]}}
    return disk, {
        "requests": requests | dict(wanted.resources.get("requests", {})),
        "limits": limits | dict(wanted.resources.get("limits", {})),
    }
