"""Objects that go with their owners."""

from __future__ import annotations

from tests.standin import kinds
from tests.standin.kinds import Kind
from tests.standin.matching import Object
from tests.standin.store import Event, Store, now

DEPENDENTS = (kinds.REPLICA_SET, kinds.JOB, kinds.POD)


def _dependents(store: Store, uid: str) -> list[tuple[Kind, Object]]:
    found = []
    for kind in DEPENDENTS:
        for item in store.select(kind):
            owners = item["metadata"].get("ownerReferences") or []
            if any(owner["uid"] == uid for owner in owners):
                found.append((kind, item))
    return found


def collect(store: Store, event: Event) -> None:
    """Remove what the object of this event owned, if it has just gone."""
    if event.after is None and event.before is not None and event.kind in (*DEPENDENTS, *_OWNERS):
        delete_dependents(store, event.before)


_OWNERS = (kinds.DEPLOYMENT, kinds.STATEFUL_SET, kinds.CRON_JOB)


def delete_dependents(store: Store, owner: Object) -> None:
    """Delete what an object owns; pods take their grace period."""
    for kind, item in _dependents(store, owner["metadata"]["uid"]):
        if kind is kinds.POD:
            end_pod(store, item)
        else:
            store.remove(kind, item)


def orphan_dependents(store: Store, owner: Object) -> None:
    """Let what an object owns stay, without an owner."""
    uid = owner["metadata"]["uid"]

    def disown(item: Object) -> None:
        owners = item["metadata"].get("ownerReferences") or []
        item["metadata"]["ownerReferences"] = [each for each in owners if each["uid"] != uid]

    for kind, item in _dependents(store, uid):
        store.change(kind, item, disown)


def finish(store: Store, kind: Kind, item: Object) -> None:
    """Remove an object that is marked for deletion and waits for nothing any more."""
    meta = item["metadata"]
    if kind is kinds.POD or "deletionTimestamp" not in meta:
        return
    waiting = set(meta.get("finalizers") or [])
    if waiting == {"foregroundDeletion"} and not _dependents(store, meta["uid"]):
        waiting.clear()
    if not waiting:
        store.remove(kind, item)


def finish_owners(store: Store, event: Event) -> None:
    """After a dependent was removed: remove its owner, if that has waited for it."""
    if event.after is not None or event.before is None:
        return
    for owner in event.before["metadata"].get("ownerReferences") or []:
        for kind in (*DEPENDENTS, *_OWNERS):
            item = store.find(kind, event.before["metadata"].get("namespace", ""), owner["name"])
            if item is not None and item["metadata"]["uid"] == owner["uid"]:
                finish(store, kind, item)


def empty_namespace(store: Store, namespace: Object) -> Object:
    """Begin to end a namespace: everything in it is deleted, then itself."""

    def mark(item: Object) -> None:
        item["metadata"].setdefault("deletionTimestamp", now())
        item["status"]["phase"] = "Terminating"

    marked = store.change(kinds.NAMESPACE, namespace, mark) or namespace
    for kind in kinds.KINDS:
        if kind.namespaced:
            for item in store.select(kind, namespace["metadata"]["name"]):
                if kind is kinds.POD:
                    end_pod(store, item)
                else:
                    store.remove(kind, item)
    finish_namespace(store, marked)
    return marked


def finish_namespace(store: Store, namespace: Object) -> None:
    """Remove a namespace that is terminating once its last pod was removed."""
    terminating = namespace["status"]["phase"] == "Terminating"
    if terminating and not store.select(kinds.POD, namespace["metadata"]["name"]):
        store.remove(kinds.NAMESPACE, namespace)


def end_pod(store: Store, item: Object, grace: int | None = None) -> Object:
    """Begin to end a pod: the kubelet removes it when its processes have ended; grace 0 does not wait."""
    if grace is None:
        grace = item["spec"].get("terminationGracePeriodSeconds", 30)
    if "nodeName" not in item["spec"] or item["status"]["phase"] in ("Succeeded", "Failed"):
        grace = 0

    def mark(edited: Object) -> None:
        meta = edited["metadata"]
        already = meta.get("deletionGracePeriodSeconds")
        if already is None or grace < already:
            meta["deletionTimestamp"] = now(grace)
            meta["deletionGracePeriodSeconds"] = grace

    marked = store.change(kinds.POD, item, mark) or item
    if grace == 0:
        store.remove(kinds.POD, marked)
    return marked
