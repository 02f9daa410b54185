# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stop an application by scaling its workload to 0, and start it with as many replicas as it had.

That number is an annotation of the workload: a run from anywhere can start what another run has stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .._errors import Interrupted, InvalidInput, WorkloadProblem
from .._units import human_duration
from .access import Right, refuse_missing
from .cluster import Cluster, patiently
from .workload import is_ready, pod_state, read_workload, selector_text

ANNOTATION = "godel.postgres-runbook/replicas"
_GRANT = "restore"
_KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
_LOOK_EVERY_S = 0.5
_NAMED = 10


@dataclass(frozen=True)
class Replicas:
    """How a workload is scaled.

    Attributes:
        kind: `Deployment` or `StatefulSet`.
        replicas: how many it is scaled to.
        selector: how its pods are selected by their labels.
        remembered: how many it had before it was stopped; None if it was not, or was started since.
    """

    kind: str
    name: str
    replicas: int
    selector: str
    remembered: int | None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ScalableWorkload:
    """A Deployment or a StatefulSet, `deployment/NAME` or `statefulset/NAME`.

    Raises:
        InvalidInput: it is named in another way.
    """

    def __init__(self, cluster: Cluster, workload: str) -> None:
        plural, name = read_workload(workload)
        if plural is None or name is None:
            raise InvalidInput(
                f"Invalid workload: {workload!r}",
                why="it cannot be scaled",
                remedy="Use deployment/NAME or statefulset/NAME.",
            )
        self._cluster = cluster
        self._plural = plural
        self._name = name
        self._path = cluster.path(plural, name, api="apis/apps/v1")

    def refuse_missing_rights(self) -> None:
        """Raise ClusterRefused unless all rights are there to stop and to start it."""
        own = Right(("get", "patch"), self._plural, "apps", self._name)
        scale = Right(("patch",), f"{self._plural}/scale", "apps", self._name)
        refuse_missing(self._cluster, [own, scale, Right(("list",), "pods")], _GRANT)

    def read(self) -> Replicas:
        """How it is scaled now."""
        return self._replicas(self._cluster.get(self._path))

    def stop(self, timeout_s: float) -> tuple[Replicas, Replicas]:
        """Scale it to 0, and wait until its pods have ended. How it was, and how it is.

        Raises:
            WorkloadProblem: pods are left after `timeout_s` seconds. It stays scaled to 0.
        """
        before = self.read()
        # Before it is scaled: a run that finds it at 0 then knows how many there were.
        if before.remembered is None:
            self._patch(self._path, {"metadata": {"annotations": {ANNOTATION: str(before.replicas)}}})
        if before.replicas:
            self._scale(0)
        try:
            left = _wait(lambda: self._running(before), timeout_s)
        except Interrupted as exc:
            exc.left = f"{before} is scaled to 0. Its annotation {ANNOTATION} has the number of its replicas."
            raise
        if left:
            raise WorkloadProblem(
                f"{before} was scaled to 0 replicas, and after {human_duration(timeout_s)} pods still run",
                why=_some(left),
                remedy="See kubectl describe pod for the reason, or raise timeout.",
            )
        return before, self.read()

    def start(self, timeout_s: float) -> tuple[Replicas, Replicas]:
        """Scale it to what is remembered, if anything is, and wait until its pods are ready. How it was, and how it is.

        Raises:
            WorkloadProblem: they are not after `timeout_s` seconds. The number stays remembered.
        """
        before = self.read()
        if before.remembered is None:
            return before, before
        if before.replicas != before.remembered:
            self._scale(before.remembered)
        missing = _wait(lambda: self._missing(before.remembered or 0), timeout_s)
        if missing:
            pods = [f"{_pod_name(pod)}: {pod_state(pod)}" for pod in self._pods(before) if not is_ready(pod)]
            raise WorkloadProblem(
                f"{before} is not ready after {human_duration(timeout_s)}",
                why="; ".join([*missing, *pods[:_NAMED]]),
                remedy="See kubectl describe pod for the reason, or raise timeout.",
            )
        self._patch(self._path, {"metadata": {"annotations": {ANNOTATION: None}}})
        return before, self.read()

    def _running(self, workload: Replicas) -> list[str]:
        """Names of its pods that have not ended. Counts of a status leave out those that are terminating."""
        # An evicted pod stays until it is deleted, and runs nothing.
        ended = {"fieldSelector": "status.phase!=Failed,status.phase!=Succeeded"}
        return [_pod_name(pod) for pod in self._pods(workload, ended)]

    def _missing(self, wanted: int) -> list[str]:
        """What it lacks until as many replicas as `wanted` are ready; empty when nothing is."""
        found = self._cluster.get(self._path)
        status = found.get("status") or {}
        if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
            return ["its controller has not seen the new number of replicas yet"]
        counts = ["replicas", "readyReplicas", *(["availableReplicas"] if self._plural == "deployments" else [])]
        if any((status.get(count) or 0) != wanted for count in counts):
            return [f"{status.get('readyReplicas') or 0} of {wanted} replicas are ready"]
        return []

    def _pods(self, workload: Replicas, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        asked = {"labelSelector": workload.selector, **(query or {})}
        items: list[dict[str, Any]] = self._cluster.get(self._cluster.path("pods"), asked).get("items") or []
        return items

    def _scale(self, replicas: int) -> None:
        self._patch(f"{self._path}/scale", {"spec": {"replicas": replicas}})

    def _patch(self, path: str, body: Mapping[str, Any]) -> None:
        patiently(lambda: self._cluster.request("PATCH", path, body=body))  # twice does the same as once

    def _replicas(self, found: Mapping[str, Any]) -> Replicas:
        remembered = str((found["metadata"].get("annotations") or {}).get(ANNOTATION, ""))
        return Replicas(
            _KINDS[self._plural],
            self._name,
            found["spec"].get("replicas", 1),
            selector_text(found["spec"]["selector"]),
            int(remembered) if remembered.isdigit() else None,
        )


def _wait(look: Callable[[], list[str]], timeout_s: float) -> list[str]:
    """Wait until `look` finds nothing any more; what it has found last."""
    deadline = time.monotonic() + timeout_s
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return found


def _pod_name(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
