"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.standin.errors import bad_request

Object = dict[str, Any]
Predicate = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<how>==|=|!=)\s*(?P<value>\S*)$")
_EXISTS = re.compile(r"^(?P<absent>!?)\s*(?P<key>[^=!\s()]+)$")


def split(text: str) -> list[str]:
    """Split at the commas that are not inside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _label_test(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(term):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["how"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALITY.match(term):
        key, value = found["key"], found["value"]
        if found["how"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(term):
        key, wanted = found["key"], not found["absent"]
        return lambda labels: (key in labels) is wanted
    raise bad_request(f"unable to parse requirement: {term}")


def by_labels(text: str) -> Predicate:
    """Return a test for a label selector as it stands in a query."""
    tests = [_label_test(term) for term in split(text)]

    def matches(item: Object) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def by_fields(text: str) -> Predicate:
    """Return a test for a field selector; any path of plain fields is allowed."""
    terms = []
    for term in split(text):
        found = _EQUALITY.match(term)
        if not found:
            raise bad_request(f"invalid field selector: {term}")
        terms.append((found["key"].split("."), found["how"] != "!=", found["value"]))

    def matches(item: Object) -> bool:
        return all((_at(item, path) == value) is wanted for path, wanted, value in terms)

    return matches


def _at(item: Any, path: list[str]) -> str:
    for step in path:
        item = item.get(step) if isinstance(item, dict) else None
    return "" if item is None else str(item)


def named(text: str) -> str:
    """Return the name that a field selector pins, or ''; RBAC takes it for the name of the request."""
    for term in split(text):
        found = _EQUALITY.match(term)
        if found and found["key"] == "metadata.name" and found["how"] != "!=":
            return found["value"]
    return ""


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Tell whether a selector object (matchLabels, matchExpressions) matches these labels."""
    labels = labels or {}
    selector = selector or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or []:
        value, values = labels.get(term["key"]), term.get("values") or []
        verdict = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not verdict[term["operator"]]:
            return False
    return True


def as_text(selector: Mapping[str, Any] | None) -> str:
    """Return a selector object as a scale subresource shows it."""
    pairs = ((selector or {}).get("matchLabels") or {}).items()
    return ",".join(f"{key}={value}" for key, value in sorted(pairs))
