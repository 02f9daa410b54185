# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the pod that a workload means: one that is ready, and not on its way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._errors import InvalidInput, ObjectNotFound, WorkloadProblem
from .cluster import Cluster
from .shell import Container

_KINDS = {"deployment": "deployments", "deploy": "deployments", "statefulset": "statefulsets", "sts": "statefulsets"}
_WORKLOAD = re.compile(r"(?:(?P<kind>[a-z]+)/)?(?P<name>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)")

_SELECTOR = re.compile(r"[=!]|\s(?:not)?in\s*\(")


def find_container(cluster: Cluster, workload: str, container: str | None) -> Container:
    """The container to work in.

    `workload` is `deployment/NAME`, `statefulset/NAME`, `pod/NAME`, or a label selector such as `app=postgres`.

    Raises:
        InvalidInput: the workload cannot be read, or several containers and none is named.
        ObjectNotFound: there is no such workload.
        WorkloadProblem: no pod of it is ready, or more than one is.
    """
    pods = _pods(cluster, workload)
    where = f"{workload} in namespace {cluster.namespace}"
    if not pods:
        raise ObjectNotFound(
            "There is no such pod",
            subject=where,
            remedy="Check the workload and the namespace, and whether the workload is scaled to 0.",
        )
    ready = [pod for pod in pods if is_ready(pod)]
    if not ready:
        states = "; ".join(f"{pod['metadata']['name']}: {pod_state(pod)}" for pod in pods)
        raise WorkloadProblem(
            "No pod is ready", subject=where, why=states, remedy="See kubectl describe pod, then run again."
        )
    if len(ready) > 1:
        names = ", ".join(pod["metadata"]["name"] for pod in ready)
        raise WorkloadProblem(
            "More than one pod is ready", subject=where, why=names, remedy="Select one of them with pod/NAME."
        )
    return container_of(ready[0], container)


def refuse_another(cluster: Cluster, container: Container) -> None:
    """Raise WorkloadProblem unless the container is still the same one: not deleted, not ended, not restarted."""
    where = f"pod {cluster.namespace}/{container.pod}, container {container.name}"
    again = "Run this again: it creates a new one." if container.is_throwaway else ""
    what = "throwaway pod" if container.is_throwaway else "pod"
    try:
        pod = cluster.get(cluster.path("pods", container.pod))
    except ObjectNotFound:
        pod = {}
    if not pod or pod["metadata"]["uid"] != container.pod_uid:
        raise WorkloadProblem(
            f"The {what} no longer exists",
            subject=where,
            why="it was deleted during this run",
            remedy=again or "See kubectl get events for the reason. Once another pod is ready, run this again.",
        )
    status = pod.get("status", {})
    if status.get("phase") in ("Failed", "Succeeded"):
        raise WorkloadProblem(
            f"The {what} has ended",
            subject=where,
            why=": ".join(filter(None, (status.get("reason"), status.get("message")))) or _end(pod, container.name),
            remedy=again or "See kubectl describe pod for the reason, then run this again.",
        )
    found = container_of(pod, container.name)
    replaced = bool(container.id and found.id and container.id != found.id)
    if found.restarts != container.restarts or replaced:
        raise WorkloadProblem(
            "The container was restarted",
            subject=where,
            why=_end(pod, container.name),
            remedy="See kubectl describe pod for the reason, then run this again.",
        )


def _end(pod: Mapping[str, Any], container: str) -> str:
    """How the container ended the last time, as the kubelet tells it; empty when it does not."""
    for each in pod.get("status", {}).get("containerStatuses") or []:
        if each["name"] == container:
            for state in (each.get("state") or {}, each.get("lastState") or {}):
                ended = state.get("terminated")
                if ended:
                    reason = f" ({ended['reason']})" if ended.get("reason") else ""
                    at = f" at {ended['finishedAt']}" if ended.get("finishedAt") else ""
                    return f"its process ended with exit code {ended.get('exitCode')}{reason}{at}"
    return ""


def read_workload(workload: str) -> tuple[str | None, str | None]:
    """The plural of its kind and its name: None and a name for a pod, None and None for a label selector.

    Raises:
        InvalidInput: it is none of these.
    """
    if _SELECTOR.search(workload):
        return None, None
    match = _WORKLOAD.fullmatch(workload)
    if not match or (match["kind"] or "pod") not in (*_KINDS, "pod", "pods", "po"):
        raise InvalidInput(
            "Invalid kubernetes.workload",
            subject=repr(workload),
            why="it names neither a workload nor a pod",
            remedy="Use deployment/NAME, statefulset/NAME, pod/NAME or a label selector such as app=postgres.",
        )
    return _KINDS.get(match["kind"] or "pod"), match["name"]


def _pods(cluster: Cluster, workload: str) -> list[dict[str, Any]]:
    plural, name = read_workload(workload)
    if name is None:
        return _listed(cluster, workload)
    if plural is None:
        return [cluster.get(cluster.path("pods", name))]
    found = cluster.get(cluster.path(plural, name, api="apis/apps/v1"))
    return _listed(cluster, selector_text(found["spec"]["selector"]))


def _listed(cluster: Cluster, selector: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = cluster.get(cluster.path("pods"), {"labelSelector": selector}).get("items") or []
    return items


def selector_text(selector: Mapping[str, Any]) -> str:
    """A selector of labels as kubectl writes it."""
    parts = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    for rule in selector.get("matchExpressions") or []:
        values = f" ({','.join(rule.get('values') or [])})"
        parts.append(
            {
                "In": f"{rule['key']} in{values}",
                "NotIn": f"{rule['key']} notin{values}",
                "Exists": rule["key"],
                "DoesNotExist": f"!{rule['key']}",
            }[rule["operator"]]
        )
    return ",".join(parts)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready, and not on its way out."""
    # A terminating pod still says Running and Ready: only its deletionTimestamp tells.
    conditions = {item["type"]: item["status"] for item in pod.get("status", {}).get("conditions") or []}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def pod_state(pod: Mapping[str, Any]) -> str:
    """What a pod that is not ready is doing, for people."""
    if "deletionTimestamp" in pod["metadata"]:
        return "terminating"
    status = pod.get("status", {})
    waiting = [
        state["waiting"].get("reason", "")
        for item in status.get("containerStatuses") or []
        if "waiting" in (state := item.get("state") or {})
    ]
    return f"{status.get('phase', 'unknown')}, not ready" + (f" ({', '.join(waiting)})" if waiting else "")


def container_of(pod: Mapping[str, Any], wanted: str | None) -> Container:
    """A container of a pod; the only one when none is named. Raises InvalidInput."""
    specs = {item["name"]: item for item in pod["spec"]["containers"]}
    subject = f"pod {pod['metadata']['name']}"
    if wanted is None and len(specs) > 1:
        raise InvalidInput(
            "The pod has several containers", subject=subject, why=", ".join(specs), remedy="Name one in container."
        )
    if wanted is not None and wanted not in specs:
        raise InvalidInput(
            f"The pod has no container {wanted}",
            subject=subject,
            why=f"it has {', '.join(specs)}",
            remedy="Name one of these.",
        )
    name = wanted or next(iter(specs))
    states = pod["status"].get("containerStatuses") or []
    state: Mapping[str, Any] = next((item for item in states if item["name"] == name), {})
    return Container(
        pod=pod["metadata"]["name"],
        name=name,
        pod_uid=pod["metadata"]["uid"],
        restarts=state.get("restartCount", 0),
        id=state.get("containerID", ""),
        image=specs[name].get("image", ""),
    )
