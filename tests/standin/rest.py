"""Reading and writing objects, apart from how requests arrive."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from tests.standin import defaults, errors, garbage, kinds, patches, validation
from tests.standin.kinds import Kind
from tests.standin.matching import Object, Predicate, as_text
from tests.standin.store import Store, now, suffix


@dataclass(frozen=True)
class Place:
    """Which object or collection a request is about."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def listed(kind: Kind, items: list[Object], version: int) -> Object:
    """Return a list as the server answers it: its items carry no kind of their own."""
    bare = [{name: value for name, value in item.items() if name not in ("kind", "apiVersion")} for item in items]
    meta = {"resourceVersion": str(version)}
    return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": meta, "items": bare}


def create(store: Store, place: Place, body: Any, dry_run: bool) -> Object:
    """Create an object and return it."""
    kind = place.kind
    validation.check_type(kind, body)
    item = copy.deepcopy(body)
    meta = item.get("metadata") or {}
    item["metadata"] = meta
    if kind.namespaced:
        if meta.get("namespace") not in (None, "", place.namespace):
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        meta["namespace"] = place.namespace
        if store.find(kinds.NAMESPACE, "", place.namespace) is None:
            raise errors.not_found(kinds.NAMESPACE, place.namespace)
    if not meta.get("name") and meta.get("generateName"):
        meta["name"] = meta["generateName"] + suffix()
    validation.check(kind, item)
    item.pop("status", None)
    item = defaults.admit(kind, item)
    if dry_run:
        if store.find(kind, place.namespace, meta["name"]) is not None:
            raise errors.already_exists(kind, meta["name"])
        return item
    return store.create(kind, item)


def replace(store: Store, place: Place, body: Any, dry_run: bool) -> Object:
    """Replace an object (or its status)."""
    validation.check_type(place.kind, body)
    before = store.get(place.kind, place.namespace, place.name)
    item = copy.deepcopy(body)
    item.setdefault("metadata", {}).setdefault("name", place.name)
    if item["metadata"]["name"] != place.name:
        raise errors.bad_request("the name of the object does not match the name on the URL")
    return _store(store, place, before, item, dry_run)


def patch(store: Store, place: Place, content_type: str, body: Any, dry_run: bool) -> tuple[Object, bool]:
    """Patch an object (or its status); tells whether it was created, as apply may do."""
    before = store.find(place.kind, place.namespace, place.name)
    if before is None:
        if content_type == patches.APPLY:
            body.setdefault("metadata", {}).setdefault("name", place.name)
            return create(store, place, body, dry_run), True
        raise errors.not_found(place.kind, place.name)
    item = patches.patched(content_type, before, body)
    if content_type == patches.APPLY:
        item["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
    return _store(store, place, before, item, dry_run), False


_FIXED = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "namespace")


def _store(store: Store, place: Place, before: Object, item: Object, dry_run: bool) -> Object:
    """Check and store a new state, whatever asked for it."""
    kind, old = place.kind, before["metadata"]
    wanted = item["metadata"].get("resourceVersion")
    if wanted and wanted != old["resourceVersion"]:
        raise errors.conflict(kind, place.name)
    if item["metadata"].get("uid") not in (None, "", old["uid"]):
        raise errors.conflict(kind, place.name)
    item = {**before, **item} if place.subresource == "status" else dict(item)
    meta = {**item["metadata"], "name": place.name, "resourceVersion": old["resourceVersion"]}
    for field in _FIXED:
        meta.pop(field, None)
        if field in old:
            meta[field] = old[field]
    item["metadata"] = {name: meta[name] for name in [*old, *meta] if meta.get(name) not in (None, {}, [])}
    if place.subresource == "status":
        item = {**before, "metadata": item["metadata"], "status": item.get("status") or {}}
    elif "status" in before:
        item["status"] = before["status"]
    validation.check_values(kind, item)
    item = defaults.complete(kind, {"kind": kind.kind, "apiVersion": kind.api_version, **item})
    validation.check(kind, item, before)
    if dry_run:
        return item
    stored = store.update(kind, item)
    garbage.finish(store, kind, stored)
    return stored


# --- scale


def scale_of(item: Object) -> Object:
    """Return the Scale of a workload."""
    meta = item["metadata"]
    replicas = item["spec"].get("replicas", 1)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": item.get("status", {}).get("replicas", 0),
            "selector": as_text(item["spec"]["selector"]),
        },
    }


def write_scale(store: Store, place: Place, content_type: str | None, body: Any, dry_run: bool) -> Object:
    """Replace (no content type) or patch the scale of a workload."""
    item = store.get(place.kind, place.namespace, place.name)
    scale = scale_of(item)
    scale["spec"].setdefault("replicas", 0)
    wanted = body if content_type is None else patches.patched(content_type, scale, body)
    version = (wanted.get("metadata") or {}).get("resourceVersion")
    if version and version != item["metadata"]["resourceVersion"]:
        raise errors.conflict(place.kind, place.name)
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    validation.check_scale(place.name, replicas)
    changed = copy.deepcopy(item)
    changed["spec"]["replicas"] = replicas
    return scale_of(changed if dry_run else store.update(place.kind, changed))


# --- delete


def delete(store: Store, place: Place, options: dict[str, Any]) -> Object:
    """Delete an object, or begin to; returns the object when it stays for a while, else a Status."""
    kind = place.kind
    item = store.get(kind, place.namespace, place.name)
    wanted = options.get("preconditions") or {}
    for field in ("uid", "resourceVersion"):
        if wanted.get(field) not in (None, item["metadata"][field]):
            raise errors.conflict(kind, place.name)
    if options.get("dryRun"):
        return _deleted(kind, item)
    if kind is kinds.POD:
        return garbage.end_pod(store, item, options.get("gracePeriodSeconds"))
    if kind is kinds.NAMESPACE:
        return garbage.empty_namespace(store, item)
    policy = options.get("propagationPolicy") or ("Orphan" if kind is kinds.JOB else "Background")
    if policy == "Foreground" or item["metadata"].get("finalizers"):
        added = ["foregroundDeletion"] if policy == "Foreground" else []

        def mark(edited: Object) -> None:
            meta = edited["metadata"]
            meta.setdefault("deletionTimestamp", now())
            meta.setdefault("deletionGracePeriodSeconds", 0)
            meta["finalizers"] = [*(meta.get("finalizers") or []), *added]

        marked = store.change(kind, item, mark) or item
        if policy == "Foreground":
            garbage.delete_dependents(store, item)
        garbage.finish(store, kind, marked)
        return marked
    if policy == "Orphan":
        garbage.orphan_dependents(store, item)
    store.remove(kind, item)
    return _deleted(kind, item)


def _deleted(kind: Kind, item: Object) -> Object:
    details = {**errors.details_of(kind, item["metadata"]["name"]), "uid": item["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def delete_all(store: Store, place: Place, matches: Predicate | None, options: dict[str, Any]) -> Object:
    """Delete a collection."""
    items = store.select(place.kind, place.namespace or None, matches)
    for item in items:
        meta = item["metadata"]
        delete(store, Place(place.kind, meta.get("namespace", ""), meta["name"]), options)
    return listed(place.kind, items, store.version)
