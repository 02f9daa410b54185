"""The controllers of ReplicaSets and Deployments."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from typing import Any

from tests.standin import defaults, garbage, kinds
from tests.standin.kinds import Kind
from tests.standin.matching import Object
from tests.standin.store import LETTERS, Store, now, suffix

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
LARGEST = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"


def owner_reference(kind: Kind, owner: Object) -> Object:
    """Return the reference of a controller to put into what it creates."""
    meta = owner["metadata"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def pod_from(template: Object, kind: Kind, owner: Object, name: str = "") -> Object:
    """Return a new pod of a template."""
    meta = template["metadata"]
    prefix = f"{owner['metadata']['name']}-"
    identity = {"name": name} if name else {"name": prefix + suffix(), "generateName": prefix}
    item = {
        "metadata": {
            **identity,
            "namespace": owner["metadata"]["namespace"],
            "labels": dict(meta.get("labels") or {}),
            "annotations": dict(meta.get("annotations") or {}),
            "ownerReferences": [owner_reference(kind, owner)],
        },
        "spec": template["spec"],
    }
    return defaults.admit(kinds.POD, item)


def template_hash(template: Object) -> str:
    """Return a name for the content of a pod template."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(LETTERS[byte % len(LETTERS)] for byte in digest[:9])


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts: it neither has ended nor is about to."""
    ended = pod["status"]["phase"] in ("Succeeded", "Failed")
    return not ended and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _set_status(store: Store, kind: Kind, item: Object, status: Object) -> None:
    def write(edited: Object) -> None:
        edited["status"] = status

    store.change(kind, item, write)


# --- ReplicaSets


def reconcile_replica_set(store: Store, replica_set: Object) -> None:
    """Create or delete pods, and report what was found before that."""
    active = [pod for pod in store.owned(kinds.POD, replica_set) if is_active(pod)]
    ready = sum(is_ready(pod) for pod in active)
    status: Object = {"replicas": len(active)}
    if active:
        status["fullyLabeledReplicas"] = len(active)
    if ready:
        status |= {"readyReplicas": ready, "availableReplicas": ready}
    status["observedGeneration"] = replica_set["metadata"]["generation"]
    _set_status(store, kinds.REPLICA_SET, replica_set, status)
    wanted = replica_set["spec"]["replicas"]
    for dummy in range(wanted - len(active)):
        store.create(kinds.POD, pod_from(replica_set["spec"]["template"], kinds.REPLICA_SET, replica_set))
    surplus = max(0, len(active) - wanted)
    for pod in sorted(active, key=lambda pod: (is_ready(pod), pod["metadata"]["name"]))[:surplus]:
        garbage.end_pod(store, pod)


# --- Deployments


def _share(value: int | str, total: int, rounding: Any) -> int:
    if isinstance(value, str):
        return int(rounding(total * int(value.rstrip("%")) / 100))
    return value


class Deployment:
    """One look at a Deployment and what it owns."""

    def __init__(self, store: Store, item: Object) -> None:
        self._store = store
        self._item = item
        self._hash = template_hash(item["spec"]["template"])
        owned = store.owned(kinds.REPLICA_SET, item)
        self._new = next((each for each in owned if each["metadata"]["labels"][HASH] == self._hash), None)
        self._old = [each for each in owned if each is not self._new]
        self._replicas: int = item["spec"]["replicas"]
        strategy = item["spec"]["strategy"]
        self._recreate = strategy["type"] == "Recreate"
        rolling = strategy.get("rollingUpdate") or {}
        self._surge = 0 if self._recreate else _share(rolling["maxSurge"], self._replicas, math.ceil)
        spare = 0 if self._recreate else _share(rolling["maxUnavailable"], self._replicas, math.floor)
        self._spare = spare if self._surge or spare else 1

    def reconcile(self) -> None:
        """Do the next step of a rollout or a scaling, and report."""
        if self._is_scaled() and not self._item["spec"].get("paused"):
            self._scale_only()
        elif not self._item["spec"].get("paused"):
            self._roll_out()
            self._clean_up()
        self._report()

    def _is_scaled(self) -> bool:
        """Tell whether only the number of replicas has changed since the last look."""
        for each in [self._new, *self._old]:
            if each is not None and each["spec"]["replicas"]:
                desired = each["metadata"]["annotations"].get(DESIRED)
                if desired is not None and int(desired) != self._replicas:
                    return True
        return False

    def _scale_only(self) -> None:
        active = [each for each in [self._new, *self._old] if each is not None and each["spec"]["replicas"]]
        if len(active) == 1:
            self._scale(active[0], self._replicas)
            return
        for each in active:  # in the middle of a rollout: the new one takes the difference
            self._scale(each, each["spec"]["replicas"])

    def _roll_out(self) -> None:
        if self._recreate:
            if any(each["spec"]["replicas"] for each in self._old):
                for each in self._old:
                    self._scale(each, 0)
                return
            if any(self._has_running_pods(each) for each in self._old):
                return
            self._create(self._replicas)
            return
        self._create(0)
        new = self._new
        assert new is not None
        room = self._replicas + self._surge - self._total("spec", "replicas")
        wanted = min(self._replicas, new["spec"]["replicas"] + max(0, room))
        if wanted != new["spec"]["replicas"]:
            self._scale(new, wanted)
            return
        self._scale_down_old()

    def _scale_down_old(self) -> None:
        """Take away from the old ones what the minimum of available pods allows, broken pods first."""
        new = self._new
        assert new is not None
        missing = new["spec"]["replicas"] - new["status"].get("availableReplicas", 0)
        can_go = self._total("spec", "replicas") - (self._replicas - self._spare) - missing
        for each in sorted(self._old, key=lambda item: item["metadata"]["creationTimestamp"]):
            replicas = each["spec"]["replicas"]
            broken = replicas - each["status"].get("availableReplicas", 0)
            if broken > 0 and can_go > 0:
                self._scale(each, replicas - min(broken, can_go))
                can_go -= min(broken, can_go)
        surplus = self._total("status", "availableReplicas") - (self._replicas - self._spare)
        for each in self._old:
            step = min(surplus, each["spec"]["replicas"], max(0, can_go))
            if step > 0:
                self._scale(each, each["spec"]["replicas"] - step)
                surplus -= step
                can_go -= step

    def _has_running_pods(self, replica_set: Object) -> bool:
        pods = self._store.owned(kinds.POD, replica_set)
        return any(pod["status"]["phase"] not in ("Succeeded", "Failed") for pod in pods)

    def _create(self, replicas: int) -> None:
        """Make the ReplicaSet of the present template if there is none; set its scale with Recreate."""
        if self._new is not None:
            if self._recreate:
                self._scale(self._new, replicas)
            self._mark_revision(self._new["metadata"]["annotations"][REVISION])
            return
        template = json.loads(json.dumps(self._item["spec"]["template"]))
        template["metadata"].setdefault("labels", {})[HASH] = self._hash
        selector = json.loads(json.dumps(self._item["spec"]["selector"]))
        selector.setdefault("matchLabels", {})[HASH] = self._hash
        revisions = [int(each["metadata"]["annotations"][REVISION]) for each in self._old]
        revision = str(max(revisions, default=0) + 1)
        meta = self._item["metadata"]
        if not self._recreate:
            replicas = max(0, min(self._replicas, self._replicas + self._surge - self._total("spec", "replicas")))
        item = {
            "metadata": {
                "name": f"{meta['name']}-{self._hash}",
                "namespace": meta["namespace"],
                "labels": template["metadata"]["labels"],
                "annotations": self._annotations(revision),
                "ownerReferences": [owner_reference(kinds.DEPLOYMENT, self._item)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        }
        self._new = self._store.create(kinds.REPLICA_SET, defaults.admit(kinds.REPLICA_SET, item))
        self._mark_revision(revision)
        self._tell_created(self._new["metadata"]["name"])

    def _tell_created(self, name: str) -> None:
        """Say at once that there is a new ReplicaSet; the counts follow later."""

        def write(item: Object) -> None:
            told = ("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
            _set_condition(item["status"], "Progressing", *told, renew=True)

        self._item = self._store.change(kinds.DEPLOYMENT, self._item, write) or self._item

    def _annotations(self, revision: str) -> dict[str, str]:
        return {
            DESIRED: str(self._replicas),
            LARGEST: str(self._replicas + self._surge),
            REVISION: revision,
        }

    def _mark_revision(self, revision: str) -> None:
        def mark(item: Object) -> None:
            annotations = item["metadata"].get("annotations") or {}
            item["metadata"]["annotations"] = {**annotations, REVISION: revision}

        self._item = self._store.change(kinds.DEPLOYMENT, self._item, mark) or self._item

    def _scale(self, replica_set: Object, replicas: int) -> None:
        def write(item: Object) -> None:
            item["spec"]["replicas"] = replicas
            revision = item["metadata"]["annotations"][REVISION]
            item["metadata"]["annotations"].update(self._annotations(revision))

        changed = self._store.change(kinds.REPLICA_SET, replica_set, write)
        if changed is None:
            return
        if replica_set is self._new:
            self._new = changed
        else:
            self._old = [changed if each is replica_set else each for each in self._old]

    def _total(self, part: str, field: str) -> int:
        return sum(each[part].get(field, 0) for each in [self._new, *self._old] if each is not None)

    def _clean_up(self) -> None:
        """Forget old ReplicaSets beyond the history limit."""
        empty = [each for each in self._old if not each["spec"]["replicas"] and not each["status"]["replicas"]]
        empty.sort(key=lambda each: int(each["metadata"]["annotations"][REVISION]))
        surplus = len(empty) - self._item["spec"]["revisionHistoryLimit"]
        for each in empty[: max(0, surplus)]:
            self._store.remove(kinds.REPLICA_SET, each)

    # --- the status

    def _report(self) -> None:
        available = self._total("status", "availableReplicas")
        counts = {
            "observedGeneration": self._item["metadata"]["generation"],
            "replicas": self._total("status", "replicas"),
            "updatedReplicas": self._new["status"].get("replicas", 0) if self._new else 0,
            "readyReplicas": self._total("status", "readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(0, self._total("spec", "replicas") - available),
        }
        status: Object = {name: count for name, count in counts.items() if count}
        before = self._item.get("status") or {}
        status["conditions"] = list(before.get("conditions") or [])
        enough = available >= self._replicas - self._spare if not self._recreate else available >= self._replicas
        if enough:
            told = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        else:
            told = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        _set_condition(status, "Available", *told)
        self._report_progress(before, status)
        _set_status(self._store, kinds.DEPLOYMENT, self._item, status)

    def _report_progress(self, before: Object, status: Object) -> None:
        named = self._new["metadata"]["name"] if self._new else ""
        current = _condition(status, "Progressing")
        done = current is not None and current["reason"] == "NewReplicaSetAvailable"
        if done and status.get("replicas", 0) == status.get("updatedReplicas", 0):
            return
        if self._is_complete(status):
            told = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{named}" has successfully progressed.')
        elif _progressed(before, status) and self._new is not None:
            told = ("True", "ReplicaSetUpdated", f'ReplicaSet "{named}" is progressing.')
            _set_condition(status, "Progressing", *told, renew=True)
            return
        elif self.overdue_in(status) <= 0:
            told = ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{named}" has timed out progressing.')
        else:
            return
        _set_condition(status, "Progressing", *told)

    def _is_complete(self, status: Object) -> bool:
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        return self._new is not None and all(status.get(name, 0) == self._replicas for name in counts)

    def overdue_in(self, status: Object | None = None) -> float:
        """Return after how many seconds without progress the deadline is missed; infinite when no deadline applies."""
        current = _condition(status or self._item.get("status") or {}, "Progressing")
        if current is None or current["status"] == "False" or current["reason"] == "NewReplicaSetAvailable":
            return math.inf
        since = datetime.datetime.fromisoformat(current["lastUpdateTime"])
        deadline: int = self._item["spec"]["progressDeadlineSeconds"]
        elapsed = (datetime.datetime.now(datetime.UTC) - since).total_seconds()
        return deadline + 1 - elapsed  # the time of the condition is cut to whole seconds


def _progressed(before: Object, after: Object) -> bool:
    if after.get("updatedReplicas", 0) > before.get("updatedReplicas", 0):
        return True
    if after.get("availableReplicas", 0) > before.get("availableReplicas", 0):
        return True
    old = [state.get("replicas", 0) - state.get("updatedReplicas", 0) for state in (before, after)]
    return bool(old[1] < old[0])


def _condition(status: Object, kind: str) -> Object | None:
    return next((each for each in status.get("conditions") or [] if each["type"] == kind), None)


def _set_condition(status: Object, kind: str, value: str, reason: str, message: str, *, renew: bool = False) -> None:
    """Set a condition; one that has changed goes to the end, as the controller writes them."""
    current = _condition(status, kind)
    if current is not None and (current["status"], current["reason"]) == (value, reason) and not renew:
        return
    since = current["lastTransitionTime"] if current and current["status"] == value else now()
    told = {
        "type": kind,
        "status": value,
        "lastUpdateTime": now(),
        "lastTransitionTime": since,
        "reason": reason,
        "message": message,
    }
    status["conditions"] = [each for each in status.get("conditions") or [] if each["type"] != kind] + [told]
