"""Why an object is invalid, as the API server words it.

k8s.io/apimachinery/pkg/util/validation/field/errors.go. Each cause is a reason, a message and a field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

Cause = tuple[str, str, str]


def required(field: str, message: str = "") -> Cause:
    return "FieldValueRequired", f"Required value{': ' if message else ''}{message}", field


def invalid(field: str, value: object, message: str) -> Cause:
    return "FieldValueInvalid", f"Invalid value: {_as_go(value)}: {message}", field


def unsupported(field: str, value: object, *supported: str) -> Cause:
    known = ", ".join(json.dumps(each) for each in supported)
    return "FieldValueNotSupported", f"Unsupported value: {_as_go(value)}: supported values: {known}", field


def duplicate(field: str, value: object) -> Cause:
    return "FieldValueDuplicate", f"Duplicate value: {_as_go(value)}", field


def not_found(field: str, value: object) -> Cause:
    return "FieldValueNotFound", f"Not found: {_as_go(value)}", field


def forbidden(field: str, message: str) -> Cause:
    return "FieldValueForbidden", f"Forbidden: {message}", field


def too_long(field: str, limit: int) -> Cause:
    return "FieldValueTooLong", f"Too long: may not be more than {limit} bytes", field


def negative(field: str, value: object) -> list[Cause]:
    """A number that must not be below zero; one that is absent is fine."""
    if isinstance(value, int) and value < 0:
        return [invalid(field, value, "must be greater than or equal to 0")]
    return []


def outside(field: str, value: object, low: int, high: int) -> list[Cause]:
    """A number that has to be in a range; one that is absent is fine."""
    if isinstance(value, int) and not low <= value <= high:
        return [invalid(field, value, f"must be between {low} and {high}, inclusive")]
    return []


def _as_go(value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(name)}:{_as_go(each)}" for name, each in value.items())
        return f"map[string]string{{{inner}}}"
    return json.dumps(value, ensure_ascii=False)
