"""How names, keys and values of labels, and the like have to look.

k8s.io/apimachinery/pkg/util/validation and pkg/api/validation, release 1.32. Each function returns the messages of the
API server, none for what is right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.standin.causes import Cause, duplicate, invalid, too_long

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_KEY = r"[-._a-zA-Z0-9]+"
_ENDS = "and must start and end with an alphanumeric character"
_ANNOTATIONS_BYTES = 256 * 1024


def _rule(message: str, pattern: str, *examples: str) -> str:
    told = " or ".join(f"'{each}', " for each in examples)
    return f"{message} (e.g. {told}regex used for validation is '{pattern}')"


def _longer(value: str, most: int) -> list[str]:
    return [f"must be no more than {most} characters"] if len(value) > most else []


def label(value: str) -> list[str]:
    """A DNS label (RFC 1123): of namespaces, containers and volumes."""
    found = _longer(value, 63)
    if not re.fullmatch(_LABEL, value):
        if re.fullmatch(_SUBDOMAIN, value):
            return [*found, "must not contain dots"]
        told = f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_ENDS}"
        found.append(_rule(told, _LABEL, "my-name", "123-abc"))
    return found


def subdomain(value: str) -> list[str]:
    """A DNS subdomain (RFC 1123): of most objects."""
    found = _longer(value, 253)
    if not re.fullmatch(_SUBDOMAIN, value):
        told = f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_ENDS}"
        found.append(_rule(told, _SUBDOMAIN, "example.com"))
    return found


def label_1035(value: str) -> list[str]:
    """A DNS label that begins with a letter (RFC 1035): of services."""
    found = _longer(value, 63)
    if not re.fullmatch(_LABEL_1035, value):
        told = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
            "character, and end with an alphanumeric character"
        )
        found.append(_rule(told, _LABEL_1035, "my-name", "abc-123"))
    return found


def path_segment(value: str) -> list[str]:
    """A segment of a path: of roles and their bindings."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in value]


def qualified(value: str) -> list[str]:
    """A key of labels and annotations: a name, perhaps with a subdomain in front."""
    prefix, slash, name = value.rpartition("/")
    told = f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
    rule = _rule(told, _QUALIFIED, "MyName", "my.name", "123-abc")
    if value.count("/") > 1:
        return [f"a qualified name {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    found: list[str] = []
    if slash:
        told_of = subdomain(prefix) if prefix else ["must be non-empty"]
        found += [f"prefix part {each}" for each in told_of]
    if not name:
        found.append("name part must be non-empty")
    found += [f"name part {each}" for each in _longer(name, 63)]
    if not re.fullmatch(_QUALIFIED, name):
        found.append(f"name part {rule}")
    return found


def label_value(value: str) -> list[str]:
    """The value of a label."""
    found = _longer(value, 63)
    if not re.fullmatch(_VALUE, value):
        told = f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS}"
        found.append(_rule(told, _VALUE, "MyValue", "my_value", "12345"))
    return found


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or a Secret."""
    found = _longer(value, 253)
    if not re.fullmatch(_KEY, value):
        told = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        found.append(_rule(told, _KEY, "key.name", "KEY_NAME", "key-name"))
    if value.startswith(".."):
        found.append("must not be '..'" if value == ".." else "must not start with '..'")
    elif value == ".":
        found.append("must not be '.'")
    return found


def environment_variable(value: str) -> list[str]:
    """The name of an environment variable, as relaxed since 1.32."""
    if re.fullmatch(r"[\x20-\x3c\x3e-\x7e]+", value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(value: str) -> list[str]:
    """The name of a port."""
    found = _longer(value, 15)
    if not re.fullmatch("[-a-z0-9]+", value):
        found.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        found.append("must contain at least one letter (a-z)")
    if "--" in value:
        found.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        found.append("must not begin or end with a hyphen")
    return found


def labels(field: str, found: Mapping[str, Any] | None) -> Iterator[Cause]:
    """What is wrong with labels."""
    for key, value in (found or {}).items():
        yield from (invalid(field, key, each) for each in qualified(key))
        yield from (invalid(field, value, each) for each in label_value(value))


def annotations(field: str, found: Mapping[str, Any] | None) -> Iterator[Cause]:
    """What is wrong with annotations: case does not matter in their keys."""
    size = 0
    for key, value in (found or {}).items():
        yield from (invalid(field, key, each) for each in qualified(key.lower()))
        size += len(key.encode()) + len(str(value).encode())
    if size > _ANNOTATIONS_BYTES:
        yield too_long(field, _ANNOTATIONS_BYTES)


def once(field: str, names: list[str]) -> Iterator[Cause]:
    """Names that occur twice; ``{}`` in the field is the index."""
    for index, name in enumerate(names):
        if name and name in names[:index]:
            yield duplicate(field.format(index), name)
