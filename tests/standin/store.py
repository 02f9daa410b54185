"""The objects: versions, watches, conflicts. Used in the event loop's thread only."""

from __future__ import annotations

import asyncio
import copy
import datetime
import itertools
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.standin import errors
from tests.standin.kinds import Kind
from tests.standin.matching import Object, Predicate

HISTORY = 5_000
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def now(offset_s: float = 0) -> str:
    """Return the time as objects carry it."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def suffix(length: int = 5) -> str:
    """Return the random end of a generated name."""
    return "".join(random.choices(LETTERS, k=length))


@dataclass(frozen=True)
class Event:
    """A change: ``before`` is None for a new object, ``after`` is None for one that went."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None


class Watcher:
    """A client that follows one kind, from now on."""

    def __init__(self, kind: Kind, namespace: str | None, matches: Predicate) -> None:
        self.kind = kind
        self._namespace = namespace
        self._matches = matches
        self.events: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()

    def see(self, event: Event) -> None:
        """Take in an event if it concerns this watcher."""
        told = self.translate(event)
        if told:
            self.events.put_nowait(told)

    def translate(self, event: Event) -> tuple[str, Object] | None:
        """Return the event that the watcher gets: an object that stops matching is DELETED for it."""
        if event.kind is not self.kind:
            return None
        was = event.before is not None and self._concerns(event.before)
        is_ = event.after is not None and self._concerns(event.after)
        if is_:
            assert event.after is not None
            return ("MODIFIED" if was else "ADDED"), event.after
        if was:
            assert event.before is not None
            gone = copy.deepcopy(event.after or event.before)
            gone["metadata"]["resourceVersion"] = str(event.version)
            return "DELETED", gone
        return None

    def _concerns(self, item: Object) -> bool:
        if self._namespace is not None and item["metadata"].get("namespace") != self._namespace:
            return False
        return self._matches(item)


class Store:
    """Every object there is. What it returns is shared: copy before changing."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._watchers: set[Watcher] = set()
        self._observers: list[Callable[[Event], None]] = []
        self._versions = itertools.count(100)
        self.version = next(self._versions)
        self.oldest = 0

    # --- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return an object, or raise NotFound."""
        found = self.find(kind, namespace, name)
        if found is None:
            raise errors.not_found(kind, name)
        return found

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(kind, {}).get((namespace if kind.namespaced else "", name))

    def select(self, kind: Kind, namespace: str | None = None, matches: Predicate | None = None) -> list[Object]:
        """Return the objects of a kind, in the order of their names."""
        chosen = [
            item
            for (its_namespace, dummy), item in sorted(self._objects.get(kind, {}).items())
            if namespace is None or its_namespace == namespace
        ]
        return [item for item in chosen if matches is None or matches(item)]

    def owned(self, kind: Kind, owner: Object) -> list[Object]:
        """Return the objects of a kind that this one controls."""
        uid = owner["metadata"]["uid"]
        return self.select(kind, owner["metadata"].get("namespace"), lambda item: owner_uid(item) == uid)

    # --- writing

    def create(self, kind: Kind, item: Object) -> Object:
        """Store a new object, with its identity filled in if it has none."""
        meta = item["metadata"]
        key = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
        if key in self._objects.setdefault(kind, {}):
            raise errors.already_exists(kind, meta["name"])
        return self._put(kind, key, None, item if "uid" in meta else born(kind, item))

    def update(self, kind: Kind, item: Object) -> Object:
        """Store a new state; nothing happens when it is the same. A generation counts changes of the spec."""
        meta = item["metadata"]
        before = self.get(kind, meta.get("namespace", ""), meta["name"])
        wanted = meta.get("resourceVersion")
        if wanted and wanted != before["metadata"]["resourceVersion"]:
            raise errors.conflict(kind, meta["name"])
        item = copy.deepcopy(item)
        item["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        if item == before:
            return before
        if kind.has_generation and item.get("spec") != before.get("spec"):
            item["metadata"]["generation"] = before["metadata"].get("generation", 0) + 1
        key = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
        return self._put(kind, key, before, item)

    def change(self, kind: Kind, item: Object, edit: Callable[[Object], None]) -> Object | None:
        """Edit the newest state of an object; None when this object (by its uid) no longer exists."""
        meta = item["metadata"]
        newest = self.find(kind, meta.get("namespace", ""), meta["name"])
        if newest is None or newest["metadata"]["uid"] != meta["uid"]:
            return None
        edited = copy.deepcopy(newest)
        edit(edited)
        return self.update(kind, edited)

    def remove(self, kind: Kind, item: Object) -> None:
        """Forget an object, if it is still there."""
        meta = item["metadata"]
        key = (meta.get("namespace", "") if kind.namespaced else "", meta["name"])
        before = self._objects.get(kind, {}).get(key)
        if before is None or before["metadata"]["uid"] != meta["uid"]:
            return
        del self._objects[kind][key]
        self.version = next(self._versions)
        self._tell(Event(self.version, kind, before, None))

    def _put(self, kind: Kind, key: tuple[str, str], before: Object | None, item: Object) -> Object:
        self.version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(self.version)
        self._objects[kind][key] = item
        self._tell(Event(self.version, kind, before, item))
        return item

    # --- watching

    def observe(self, observer: Callable[[Event], None]) -> None:
        """Have a controller called for every change."""
        self._observers.append(observer)

    def watch(self, watcher: Watcher, since: int) -> Iterator[tuple[str, Object]]:
        """Register a watcher, and return what it has missed since this version; raises 410 when too old."""
        if since < self.oldest or (len(self._history) == HISTORY and since < self._history[0].version):
            raise errors.expired(since, max(self.oldest, self._history[0].version if self._history else 0))
        self._watchers.add(watcher)
        missed = [watcher.translate(event) for event in self._history if event.version > since]
        return iter([each for each in missed if each])

    def unwatch(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def compact(self) -> None:
        """Forget the history, as etcd does: older versions cannot be watched from any more."""
        self.oldest = self.version
        self._history.clear()

    def _tell(self, event: Event) -> None:
        self._history.append(event)
        for watcher in self._watchers:
            watcher.see(event)
        for observer in self._observers:
            observer(event)


_META_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)


def born(kind: Kind, item: Object) -> Object:
    """Return a copy with uid, time and generation, in the order in which the server writes them."""
    item = copy.deepcopy(item)
    meta = {name: value for name, value in item["metadata"].items() if value not in (None, {}, [])}
    meta |= {"uid": str(uuid.uuid4()), "resourceVersion": "", "creationTimestamp": now()}
    if kind.has_generation:
        meta["generation"] = 1
    ordered = {name: meta[name] for name in _META_ORDER if name in meta}
    item["metadata"] = ordered | meta
    return item


def owner_uid(item: Object) -> str | None:
    """Return the uid of the controller of an object."""
    for reference in item["metadata"].get("ownerReferences") or []:
        if reference.get("controller"):
            return str(reference["uid"])
    return None
