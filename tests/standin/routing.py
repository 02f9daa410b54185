"""From a request to what it is about: the object, the verb, the body, the selectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml
from aiohttp import web

from tests.standin import errors, kinds, patches
from tests.standin.errors import ApiError
from tests.standin.faults import Request
from tests.standin.matching import Object, Predicate, by_fields, by_labels, named
from tests.standin.rbac import Wish
from tests.standin.rest import Place

TRUE = ("true", "1", "True")
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def record_of(request: web.Request) -> Request:
    """Return what is written down of a request: all but its credentials."""
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    return Request(request.method, request.path, list(request.query.items()), headers)


def place_of(path: str) -> Place:
    """Return what a path is about; raises 404 for a path that cannot be."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2 and parts[1] == "v1":
        group, version, rest_of = "", "v1", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest_of = parts[1], parts[2], parts[3:]
    else:
        raise ApiError(404, "404 page not found\n")
    namespace = ""
    if rest_of[0] == "namespaces" and len(rest_of) > 2 and rest_of[2] not in ("status", "finalize"):
        namespace, rest_of = rest_of[1], rest_of[2:]
    kind = kinds.BY_PATH.get((group, version, rest_of[0]))
    name, subresource = (*rest_of[1:3], "", "")[:2]
    known = kind is not None and (not subresource or subresource in kind.subresources) and len(rest_of) < 4
    if kind is None or not known or (bool(namespace) != kind.namespaced and (name or namespace)):
        if (group, version) not in (*kinds.GROUPS, ("", "v1")):
            raise ApiError(404, "404 page not found\n")
        raise errors.no_such_path()
    return Place(kind, namespace, name, subresource)


def wish_of(place: Place, record: Request) -> Wish:
    """Return what RBAC is asked about; raises 405 for what cannot be done there."""
    verb = VERBS.get(record.method, "")
    name = place.name
    allowed = place.kind.subresources[place.subresource].verbs if place.subresource else place.kind.verbs
    if not place.name:
        name = named(record.asked("fieldSelector"))
        watching = record.asked("watch") in TRUE
        verb = {"get": "watch" if watching else "list", "delete": "deletecollection"}.get(verb, verb)
    if verb not in allowed or (place.name and verb == "create" and not place.subresource):
        raise errors.method_not_allowed()
    if not place.name and verb in ("update", "patch"):
        raise errors.method_not_allowed()
    if verb == "create" and place.kind.namespaced and not place.namespace:
        raise errors.method_not_allowed()
    return Wish(verb, place.kind.group, place.kind.plural, place.subresource, name, place.namespace)


def body_of(record: Request) -> Any:
    """Return the object in the body of a request; raises 400."""
    try:
        return json.loads(record.body)
    except ValueError as error:
        raise errors.bad_request(f"the object provided is unrecognized: {error}") from error


def patch_of(request: web.Request, record: Request) -> Any:
    """Return the patch in the body of a request; raises 415 for a type that is no patch."""
    if request.content_type not in patches.TYPES:
        raise errors.unsupported_media_type()
    if request.content_type == patches.APPLY:
        return yaml.safe_load(record.body)
    return body_of(record)


def matcher_of(record: Request) -> Predicate | None:
    """Return the test that the selectors of a request make, or None."""
    tests: list[Callable[[Object], bool]] = []
    if record.asked("labelSelector"):
        tests.append(by_labels(record.asked("labelSelector")))
    if record.asked("fieldSelector"):
        tests.append(by_fields(record.asked("fieldSelector")))
    if not tests:
        return None
    return lambda item: all(test(item) for test in tests)


def delete_options_of(record: Request) -> dict[str, Any]:
    """Return how to delete, from the body and the query."""
    options: dict[str, Any] = body_of(record) if record.body else {}
    if record.asked("propagationPolicy"):
        options["propagationPolicy"] = record.asked("propagationPolicy")
    if record.asked("gracePeriodSeconds"):
        options["gracePeriodSeconds"] = int(record.asked("gracePeriodSeconds"))
    if record.asked("dryRun"):
        options["dryRun"] = [record.asked("dryRun")]
    return options
