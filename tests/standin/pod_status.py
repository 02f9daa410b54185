"""The status of a pod, as the kubelet reports it."""

from __future__ import annotations

import secrets
from typing import Any

from tests.standin import kinds
from tests.standin.matching import Object
from tests.standin.store import Store, now

HOST = "10.77.0.1"


class ContainerState:
    """One container: what it does now, what it did before."""

    def __init__(self, spec: Object) -> None:
        self.spec = spec
        self.restarts = 0
        self.ready = False
        self.started = False
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.last: dict[str, Any] = {}
        self._id = ""

    @property
    def exit_code(self) -> int | None:
        """The exit code, once it has ended."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def wait(self, reason: str, message: str = "") -> None:
        """It cannot run yet."""
        if self.exit_code is not None:
            self.last = self.state
        self.state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        self.ready = self.started = False

    def run(self) -> None:
        """It runs now."""
        if self.exit_code is not None:
            self.last = self.state
        self._id = f"containerd://{secrets.token_hex(32)}"
        self.state = {"running": {"startedAt": now()}}
        self.started = True

    def end(self, code: int, reason: str = "", message: str = "") -> None:
        """It has ended."""
        started = self.state.get("running", {}).get("startedAt", now())
        ended = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "startedAt": started,
            "finishedAt": now(),
        }
        if message:
            ended["message"] = message
        if self._id:
            ended["containerID"] = self._id
        self.state = {"terminated": ended}
        self.ready = self.started = False

    def report(self) -> Object:
        """Return what the pod's status says about it."""
        image = self.spec["image"]
        told = {
            "name": self.spec["name"],
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": image,
            "imageID": f"sha256:{'1' * 64}" if self._id else "",
        }
        if self._id:
            told["containerID"] = self._id
        told["started"] = self.started
        if self.spec.get("volumeMounts"):
            told["volumeMounts"] = [_mounted(mount) for mount in self.spec["volumeMounts"]]
        return told


def _mounted(mount: Object) -> Object:
    told = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        told |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return told


class PodStatus:
    """What is reported about one pod."""

    def __init__(self, store: Store, pod: Object, address: str) -> None:
        self._store = store
        self._pod = pod
        self._address = address
        self.phase = "Pending"
        self.scheduled = False
        self.unschedulable = ""
        self.initialized = False
        self.sandbox = False
        self.started_at = ""
        self.reason = ""
        spec = pod["spec"]
        self.containers = {each["name"]: ContainerState(each) for each in spec["containers"]}
        self.init = {each["name"]: ContainerState(each) for each in spec.get("initContainers") or []}
        self._conditions: dict[str, dict[str, Any]] = {}

    def publish(self) -> None:
        """Write the status, if the pod is still there."""
        status = self._report()

        def write(item: Object) -> None:
            item["status"] = status

        self._store.change(kinds.POD, self._pod, write)

    def remove(self) -> None:
        """Forget the pod, if it is still there."""
        self._store.remove(kinds.POD, self._pod)

    def stopped(self) -> None:
        """Every process has ended because the pod was deleted."""
        for container in self.containers.values():
            if "running" in container.state:
                container.end(137)
        codes = [container.exit_code for container in self.containers.values()]
        if any(code is not None for code in codes):
            self.phase = "Failed" if any(codes) else "Succeeded"

    def _report(self) -> Object:
        over = self.phase in ("Succeeded", "Failed")
        quality = self._pod["status"].get("qosClass", "BestEffort")
        status: Object = {"phase": self.phase, "conditions": self._all_conditions(over)}
        if self.reason:
            status["reason"] = self.reason
        if self.scheduled and self.started_at:
            status |= {"hostIP": HOST, "hostIPs": [{"ip": HOST}]}
            if self.sandbox:
                status |= {"podIP": self._address, "podIPs": [{"ip": self._address}]}
            status["startTime"] = self.started_at
            if self.init:
                status["initContainerStatuses"] = [each.report() for each in self.init.values()]
            status["containerStatuses"] = [each.report() for each in self.containers.values()]
        return {**status, "qosClass": quality}

    def _all_conditions(self, over: bool) -> list[Object]:
        if not self.scheduled:
            if not self.unschedulable:
                return []
            return [self._condition("PodScheduled", False, "Unschedulable", self.unschedulable)]
        if not self.started_at:
            return [self._condition("PodScheduled", True)]
        unready = [name for name, each in self.containers.items() if not each.ready]
        reason, message = "", ""
        if over:
            reason = "PodCompleted" if self.phase == "Succeeded" else "PodFailed"
        elif unready:
            reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
        done = "PodCompleted" if self.phase == "Succeeded" else ""
        return [
            self._condition("PodReadyToStartContainers", self.sandbox and not over),
            self._condition("Initialized", self.initialized, done),
            self._condition("Ready", not unready, reason, message),
            self._condition("ContainersReady", not unready, reason, message),
            self._condition("PodScheduled", True),
        ]

    def _condition(self, kind: str, is_true: bool, reason: str = "", message: str = "") -> Object:
        told = {"type": kind, "status": str(is_true), "lastProbeTime": None}
        before = self._conditions.get(kind)
        unchanged = before is not None and before["status"] == told["status"]
        told["lastTransitionTime"] = before["lastTransitionTime"] if before and unchanged else now()
        told |= {name: value for name, value in (("reason", reason), ("message", message)) if value}
        self._conditions[kind] = told
        return told
