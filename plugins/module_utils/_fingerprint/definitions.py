# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the definition of every object, keep the texts with a backup, and compare them with those of a restored copy.

A manifest has a digest of each definition; the texts lie beside it, in `definitions.json.gz`. Objects with equal
digests are equal. For the others both texts are compared, part by part, after the same round trip through the server
that holds the copy (`round_trip.py`), because PostgreSQL may print what it parsed from its own text in another form.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._postgres.connection import Server
from .figures import Difference, Fingerprint, compare
from .round_trip import RoundTrip
from .sql import schema
from .sql.content import PINNED_SETTINGS

FILE_NAME = "definitions.json.gz"
# pg_dump 15 is the first to carry the owner and the comment of the schema public.
# https://www.postgresql.org/docs/15/release-15.html
_CARRIES_PUBLIC = 15
_SHOWN = 300  # characters of a text in a difference


class DefinitionPart(NamedTuple):
    """A text of a definition; `carrier` and `context` say how it is loaded once more, if it can be."""

    text: str
    carrier: str = ""
    context: str = ""


# By label, for example `owner` or `default of column b`.
Definition = Mapping[str, DefinitionPart]
# The texts of definitions, by kind and name as in `Fingerprint.objects`, then by label.
Texts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Original:
    """What a backup knows of its source.

    Attributes:
        fingerprint: the figures.
        texts: reads the texts of the definitions; they are rarely needed.
        tool_major: the major version of the pg_dump that wrote the backup.
    """

    fingerprint: Fingerprint
    texts: Callable[[], Texts]
    tool_major: int = 99


def read(ask: Callable[[str, str], list[dict[str, Any]]], server_version: int) -> dict[str, dict[str, DefinitionPart]]:
    """The definition of every object, by kind and name.

    Args:
        ask: runs a statement, the second argument; the first says what it is about.
    """
    found: dict[str, dict[str, DefinitionPart]] = {}
    for about, statement in schema.statements(server_version).items():
        for values in ask(about, statement.sql):
            definition = found.setdefault(f"{values.pop('kind')} {values.pop('identity')}", {})
            context = values.pop("context", None) or ""
            label = values.pop("label", None)
            for name, value in values.items():
                if value is not None and value != "":
                    part = DefinitionPart(str(value), statement.printed.get(name, ""), context)
                    definition[label or name] = part
    return found


def digest(definition: Definition) -> str:
    """The digest of a definition for the manifest."""
    text = json.dumps({label: part.text for label, part in definition.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def packed(definitions: Mapping[str, Definition]) -> bytes:
    """The file of a backup; `unpacked` reads it back."""
    texts = {name: {label: part.text for label, part in parts.items()} for name, parts in definitions.items()}
    return gzip.compress(json.dumps(texts, sort_keys=True).encode(), compresslevel=6, mtime=0)


def unpacked(data: bytes) -> Texts:
    """Read what `packed` wrote."""
    found: Texts = json.loads(gzip.decompress(data))
    return found


def differences(server: Server, db: str, source: Original, copy: Fingerprint) -> list[Difference]:
    """Every difference between a source and its restored copy, which is the database `db` of the server.

    Raises:
        QueryFailed, ConnectionFailed: the copy cannot be read.
    """
    found = compare(source.fingerprint, copy)
    if source.tool_major < _CARRIES_PUBLIC:
        found = [each for each in found if each.subject != "comment schema public"]
    if not any(each.kind == "definition of" for each in found):
        return found
    texts = source.texts()
    with server.connect(db, settings=PINNED_SETTINGS) as session:
        now = read(lambda dummy, statement: session.texts(statement), session.server_version)
        with RoundTrip(session) as round_trip:
            judged = (
                _judged(each, texts.get(each.subject, {}), now.get(each.subject, {}), round_trip, source.tool_major)
                if each.kind == "definition of"
                else each
                for each in found
            )
            return [each for each in judged if each is not None]


def _judged(
    known: Difference, expected: Mapping[str, str], found: Definition, round_trip: RoundTrip, tool_major: int
) -> Difference | None:
    """The difference with the texts that differ; None if they mean the same."""
    labels = [
        label
        for label in dict.fromkeys((*expected, *found))
        if not _same(label, expected.get(label), found, round_trip)
        and not (known.subject == "schema public" and label == "owner" and tool_major < _CARRIES_PUBLIC)
    ]
    if not labels:
        return None
    first = found.get(labels[0])
    before, after = shortened(expected.get(labels[0], ""), first.text if first else "")
    also = f" (and {', '.join(labels[1:])})" if labels[1:] else ""
    return Difference(
        known.kind, known.subject, f"{labels[0]} {before or 'nothing'}{also}", f"{after or 'nothing'}{also}"
    )


def _same(label: str, expected: str | None, found: Definition, round_trip: RoundTrip) -> bool:
    part = found.get(label)
    if part is None or expected is None:
        return False
    if part.text == expected:
        return True
    if not part.carrier:
        return False
    others = {name: each.text for name, each in found.items()}
    return round_trip.makes_equal(part.carrier, expected, part.text, part.context, others)


def shortened(one: str, other: str) -> tuple[str, str]:
    """Two texts, cut to the lines and the places where they differ."""
    ours, theirs = one.splitlines(), other.splitlines()
    if len(ours) > 1 or len(theirs) > 1:
        one, other = "\n".join(_only_in(ours, theirs)), "\n".join(_only_in(theirs, ours))
    one, other = " ".join(one.split()) or one, " ".join(other.split()) or other
    if max(len(one), len(other)) <= _SHOWN:
        return one, other
    same = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    begin = max(0, same - _SHOWN // 3)
    return _cut(one, begin), _cut(other, begin)


def _only_in(lines: list[str], others: list[str]) -> list[str]:
    known = set(others)
    return [line for line in lines if line not in known] or lines


def _cut(text: str, begin: int) -> str:
    end = begin + _SHOWN
    return ("..." if begin else "") + text[begin:end] + ("..." if end < len(text) else "")
