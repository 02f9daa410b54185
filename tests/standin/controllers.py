"""What looks at changed objects, a moment after the change, and does the next step."""

from __future__ import annotations

import asyncio
import math

from tests.standin import garbage, jobs, kinds, workloads
from tests.standin.kinds import Kind
from tests.standin.matching import Object
from tests.standin.node import Timing
from tests.standin.stateful import StatefulSet
from tests.standin.store import Event, Store

Key = tuple[Kind, str, str]

_BY_KIND = {
    kind.kind: kind for kind in (kinds.REPLICA_SET, kinds.DEPLOYMENT, kinds.STATEFUL_SET, kinds.JOB, kinds.CRON_JOB)
}


class Controllers:
    """Every controller. A change is looked at after `controller_s`, so every step can be seen from outside."""

    def __init__(self, store: Store, timing: Timing) -> None:
        self._store = store
        self._timing = timing
        self._jobs = jobs.Jobs(store, timing)
        self._planned: set[Key] = set()
        self._timers: set[Key] = set()
        self._closed = False
        store.observe(self._see)

    def close(self) -> None:
        """Do nothing any more."""
        self._closed = True

    def _see(self, event: Event) -> None:
        if self._closed:
            return
        garbage.collect(self._store, event)
        garbage.finish_owners(self._store, event)
        item = event.after or event.before
        assert item is not None
        namespace = item["metadata"].get("namespace", "")
        if event.kind is kinds.POD and event.after is None:
            self._finish_namespace(namespace)
        if event.after is not None and event.kind.kind in _BY_KIND:
            self._plan((event.kind, namespace, item["metadata"]["name"]))
        for owner in item["metadata"].get("ownerReferences") or []:
            if owner.get("controller") and owner["kind"] in _BY_KIND:
                self._plan((_BY_KIND[owner["kind"]], namespace, owner["name"]))
                if owner["kind"] == "ReplicaSet":
                    self._plan_owner_of(namespace, owner["name"])

    def _plan_owner_of(self, namespace: str, name: str) -> None:
        """A Deployment that recreates waits for the pods of its ReplicaSets."""
        replica_set = self._store.find(kinds.REPLICA_SET, namespace, name)
        for owner in (replica_set or {"metadata": {}})["metadata"].get("ownerReferences") or []:
            self._plan((kinds.DEPLOYMENT, namespace, owner["name"]))

    def _finish_namespace(self, name: str) -> None:
        namespace = self._store.find(kinds.NAMESPACE, "", name)
        if namespace is not None:
            garbage.finish_namespace(self._store, namespace)

    def _plan(self, key: Key, after_s: float | None = None) -> None:
        if key not in self._planned:
            self._planned.add(key)
            delay = self._timing.controller_s if after_s is None else after_s
            asyncio.get_running_loop().call_later(delay, self._look, key)

    def _look(self, key: Key) -> None:
        self._planned.discard(key)
        kind, namespace, name = key
        item = self._store.find(kind, namespace, name)
        if self._closed or item is None or "deletionTimestamp" in item["metadata"]:
            return
        self._reconcile(kind, item, key)

    def _reconcile(self, kind: Kind, item: Object, key: Key) -> None:
        if kind is kinds.REPLICA_SET:
            workloads.reconcile_replica_set(self._store, item)
        elif kind is kinds.DEPLOYMENT:
            self._deployment(item, key)
        elif kind is kinds.STATEFUL_SET:
            StatefulSet(self._store, item).reconcile()
        elif kind is kinds.JOB:
            self._jobs.reconcile(item)
        else:
            jobs.reconcile_cron_job(self._store, item)

    def _deployment(self, item: Object, key: Key) -> None:
        workloads.Deployment(self._store, item).reconcile()
        newest = self._store.find(*key)
        if newest is None or key in self._timers:
            return
        left = workloads.Deployment(self._store, newest).overdue_in()
        if left < math.inf:
            self._timers.add(key)
            asyncio.get_running_loop().call_later(max(0.05, left + 0.05), self._look_again, key)

    def _look_again(self, key: Key) -> None:
        self._timers.discard(key)
        self._look(key)
