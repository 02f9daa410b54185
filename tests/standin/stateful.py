"""The controller of StatefulSets."""

from __future__ import annotations

import json

from tests.standin import defaults, garbage, kinds
from tests.standin.matching import Object
from tests.standin.store import Store
from tests.standin.workloads import is_active, is_ready, pod_from, template_hash

REVISION = "controller-revision-hash"


class StatefulSet:
    """One look at a StatefulSet and its pods."""

    def __init__(self, store: Store, item: Object) -> None:
        self._store = store
        self._item = item
        self._name: str = item["metadata"]["name"]
        self._replicas: int = item["spec"]["replicas"]
        self._revision = f"{self._name}-{template_hash(item['spec']['template'])}"
        self._pods = {pod["metadata"]["name"]: pod for pod in store.owned(kinds.POD, item)}

    def reconcile(self) -> None:
        """Do the next step, one pod at a time unless the policy says otherwise, and report."""
        self._report()
        in_parallel = self._item["spec"]["podManagementPolicy"] == "Parallel"
        for number in range(self._replicas):
            pod = self._pods.get(f"{self._name}-{number}")
            if pod is None:
                self._create(number)
            elif not is_active(pod) and "deletionTimestamp" not in pod["metadata"]:
                self._store.remove(kinds.POD, pod)
            if not in_parallel and (pod is None or not is_ready(pod) or not is_active(pod)):
                return
        surplus = sorted((name for name in self._pods if self._number(name) >= self._replicas), key=self._number)
        for name in reversed(surplus):
            if is_active(self._pods[name]):
                garbage.end_pod(self._store, self._pods[name])
            if not in_parallel:
                return
        self._update()

    def _number(self, name: str) -> int:
        return int(name.rpartition("-")[2])

    def _update(self) -> None:
        """Replace the last pod of an old revision."""
        for name in sorted(self._pods, key=self._number, reverse=True):
            pod = self._pods[name]
            if pod["metadata"]["labels"][REVISION] != self._revision:
                garbage.end_pod(self._store, pod)
                return
            if not is_ready(pod):
                return

    def _create(self, number: int) -> None:
        name = f"{self._name}-{number}"
        template = json.loads(json.dumps(self._item["spec"]["template"]))
        labels = template["metadata"].setdefault("labels", {})
        labels |= {
            "apps.kubernetes.io/pod-index": str(number),
            REVISION: self._revision,
            "statefulset.kubernetes.io/pod-name": name,
        }
        for claim in self._item["spec"].get("volumeClaimTemplates") or []:
            claimed = f"{claim['metadata']['name']}-{name}"
            self._claim(claimed, claim)
            source = {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claimed}}
            template["spec"].setdefault("volumes", []).append(source)
        pod = pod_from(template, kinds.STATEFUL_SET, self._item, name)
        self._store.create(kinds.POD, pod)

    def _claim(self, name: str, template: Object) -> None:
        kind = kinds.BY_PATH["", "v1", "persistentvolumeclaims"]
        namespace = self._item["metadata"]["namespace"]
        if self._store.find(kind, namespace, name) is None:
            meta = {"name": name, "namespace": namespace}
            self._store.create(kind, defaults.admit(kind, {"metadata": meta, "spec": template["spec"]}))

    def _report(self) -> None:
        active = [pod for pod in self._pods.values() if is_active(pod)]
        ready = sum(is_ready(pod) for pod in active)
        updated = sum(pod["metadata"]["labels"][REVISION] == self._revision for pod in active)
        before = self._item.get("status") or {}
        done = updated == len(active) == self._replicas
        current = self._revision if done else before.get("currentRevision", self._revision)
        status: Object = {"observedGeneration": self._item["metadata"]["generation"], "replicas": len(active)}
        counts = {
            "readyReplicas": ready,
            "currentReplicas": updated if current == self._revision else len(active) - updated,
            "updatedReplicas": updated,
        }
        status |= {name: count for name, count in counts.items() if count}
        status |= {
            "currentRevision": current,
            "updateRevision": self._revision,
            "collisionCount": 0,
            "availableReplicas": ready,
        }

        def write(item: Object) -> None:
            item["status"] = status

        self._store.change(kinds.STATEFUL_SET, self._item, write)
