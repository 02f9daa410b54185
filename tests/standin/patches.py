"""The patches that the API server takes: merge, strategic merge, JSON patch, and apply as a merge."""

from __future__ import annotations

import copy
from typing import Any

from tests.standin import errors

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TYPES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)

# Lists that are merged by a key, by the name of the field that holds them; all others are replaced.
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "conditions": "type",
    "ownerReferences": "uid",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
PRIMITIVES = ("finalizers",)


def _key_of(field: str, entries: list[Any]) -> str | None:
    if field == "ports":
        return "containerPort" if all("containerPort" in entry for entry in entries) else "port"
    if field == "secrets":
        return "name"
    return KEYS.get(field)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, dictionaries merge, all else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Any) -> Any:
    """Merge as `merge` does, but lists of named things by their key, with the directives of kubectl."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {name: copy.deepcopy(value) for name, value in patch.items() if name != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {name: value for name, value in result.items() if name in patch["$retainKeys"]}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            result[field] = [entry for entry in result.get(field) or [] if entry not in value]
        elif name.startswith("$"):
            continue  # the order of elements: kept as it is
        elif value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            result[name] = _strategic_list(name, result.get(name) or [], value)
        else:
            result[name] = strategic(result.get(name), value)
    return result


def _strategic_list(field: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if field in PRIMITIVES:
        return target + [entry for entry in patch if entry not in target]
    entries = [entry for entry in [*target, *patch] if isinstance(entry, dict) and "$patch" not in entry]
    key = _key_of(field, entries)
    if key is None:
        return copy.deepcopy(patch)
    if any(isinstance(entry, dict) and entry.get("$patch") == "replace" for entry in patch):
        return [copy.deepcopy(entry) for entry in patch if entry.get("$patch") != "replace"]
    result = {entry[key]: entry for entry in target}
    for entry in patch:
        if entry.get("$patch") == "delete":
            result.pop(entry.get(key), None)
        else:
            result[entry[key]] = strategic(result.get(entry[key]), entry)
    return list(result.values())


# --- JSON patch


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *way, last = _steps(path)
    for step in way:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document, last


def _read(document: Any, path: str) -> Any:
    for step in _steps(path):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _add(document: Any, path: str, value: Any) -> None:
    place, last = _parent(document, path)
    if isinstance(place, list):
        place.insert(len(place) if last == "-" else int(last), value)
    else:
        place[last] = value


def _remove(document: Any, path: str) -> None:
    place, last = _parent(document, path)
    del place[int(last) if isinstance(place, list) else last]


def _apply(document: Any, operation: dict[str, Any]) -> None:
    kind, path = operation["op"], operation["path"]
    if kind == "test":
        if _read(document, path) != operation.get("value"):
            raise ValueError(f"testing value {path} failed: test failed")
    elif kind == "remove":
        _remove(document, path)
    elif kind == "add":
        _add(document, path, copy.deepcopy(operation["value"]))
    elif kind == "replace":
        _remove(document, path)
        _add(document, path, copy.deepcopy(operation["value"]))
    elif kind in ("move", "copy"):
        value = copy.deepcopy(_read(document, operation["from"]))
        if kind == "move":
            _remove(document, operation["from"])
        _add(document, path, value)
    else:
        raise ValueError(f"unexpected kind: {kind}")


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902; raises 422 when an operation cannot be done."""
    if not isinstance(operations, list):
        raise errors.bad_request("error decoding patch: json: cannot unmarshal object into []jsonPatchOp")
    result = copy.deepcopy(target)
    for operation in operations:
        try:
            _apply(result, operation)
        except (KeyError, IndexError, TypeError) as error:
            message = f"the server rejected our request due to an error in our request: {error}"
            raise errors.failure(422, "Invalid", message, {}) from error
        except ValueError as error:
            raise errors.failure(422, "Invalid", str(error), {}) from error
    return result


def patched(content_type: str, target: Any, patch: Any) -> Any:
    """Return the target with a patch of this media type applied; raises 415 for another type."""
    if content_type == JSON_PATCH:
        return json_patch(target, patch)
    if content_type == MERGE:
        return merge(target, patch)
    if content_type in (STRATEGIC, APPLY):
        return strategic(target, patch)
    raise errors.unsupported_media_type()
