"""Read objects that kubectl sends as Protocol Buffers (typed clients do since 1.32) into what JSON would say.

``protobuf.json`` holds the fields of the messages, by number, as ``name type`` with ``*`` for repeated and
``%`` for a map; they are the numbers in the ``generated.proto`` files of k8s.io/api.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"
# Parts of a message that JSON has in the object itself.
INLINE = ("volumeSource", "handler", "localObjectReference", "ephemeralContainerCommon")
# Go leaves these out of JSON when they are zero; other zeros were set on purpose.
ABSENT_WHEN_ZERO = {
    *("readOnly", "stdin", "stdinOnce", "tty", "hostNetwork", "hostPID", "hostIPC", "hostPort", "generation"),
    *("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"),
    *("minReadySeconds", "paused", "kind"),
}


@cache
def _messages() -> dict[str, dict[int, tuple[str, str]]]:
    text = Path(__file__).with_name("protobuf.json").read_text()
    return {
        name: {int(number): tuple(field.split()) for number, field in fields.items()}
        for name, fields in json.loads(text).items()
    }


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a body; raises ValueError for one that is not known."""
    if not body.startswith(MAGIC):
        raise ValueError("no Kubernetes object")
    parts = dict(_fields(body[len(MAGIC) :]))
    words = dict(_fields(parts[1]))
    kind = words[2].decode()
    if kind not in _messages():
        raise ValueError(f"no field numbers for {kind}")
    return {"kind": kind, "apiVersion": words[1].decode(), **_message(kind, parts[2])}


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value): an integer, or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        else:
            length = {1: 8, 5: 4}[kind]
        yield tag >> 3, data[position : position + length]
        position += length


def _message(name: str, data: bytes) -> Any:
    if name == "Quantity":
        return dict(_fields(data)).get(1, b"").decode()
    if name == "IntOrString":
        parts = dict(_fields(data))
        return parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
    result: dict[str, Any] = {}
    for number, raw in _fields(data):
        if number not in _messages()[name]:
            continue
        field, kind = _messages()[name][number]
        if field in INLINE:
            result |= _message(kind, raw)
        elif kind.startswith("*"):
            result.setdefault(field, []).append(_value(kind[1:], raw))
        elif kind.startswith("%"):
            pair = dict(_fields(raw))
            result.setdefault(field, {})[pair.get(1, b"").decode()] = _value(kind[1:], pair.get(2, b""))
        else:
            value = _value(kind, raw)
            if value != "" and not (field in ABSENT_WHEN_ZERO and not value):
                result[field] = value
    return result


def _value(kind: str, raw: Any) -> Any:
    if kind == "string":
        return raw.decode()
    if kind == "bytes":
        return base64.b64encode(raw).decode()
    if kind == "bool":
        return bool(raw)
    if isinstance(raw, int):
        return raw - (1 << 64) if raw >> 63 else raw
    return _message(kind, raw)
