# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a database as figures that can be compared: pure data, no server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

_OLD = ("-1", "-2")  # how the names of algorithms end that had other definitions

Record = TypeVar("Record")
# What JSON may hold for a field of these kinds; the others are made of records, and checked with those.
_KINDS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "list[str]": (list,),
}


def checked(record: Record) -> Record:
    """A dataclass as it was read. Raises TypeError unless its simple fields have their declared types."""
    for each in fields(record):  # type: ignore[arg-type]  # a type variable cannot be bound to "any dataclass"
        kinds, value = _KINDS.get(str(each.type)), getattr(record, each.name)
        wrong = kinds and not isinstance(value, kinds)
        if wrong or (isinstance(value, bool) and each.type != "bool"):  # Python takes True for an int
            raise TypeError(f"{each.name} has a wrong type")
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            raise TypeError(f"{each.name} is not a list of texts")
    return record


@dataclass(frozen=True)
class TableFigure:
    """One table: its number of rows, and the sum of its rows' 64-bit hashes (None when only counted)."""

    rows: int
    digest: str | None = None


@dataclass(frozen=True)
class SequenceFigure:
    """Where a sequence stood: `first` before the dump began, `last` after it ended.

    Sequences know no snapshots, so on a busy server pg_dump reads a value somewhere between the two. A position counts
    the values handed out: a sequence that was never called stands one increment before its start.
    """

    first: int
    last: int
    increment: int = 1
    cycles: bool = False

    def admits(self, position: int) -> bool:
        """Whether a restored sequence may stand there."""
        if self.cycles and (self.last - self.first) * self.increment < 0:
            return True  # it wrapped around while the dump ran
        low, high = sorted((self.first, self.last))
        return low <= position <= high


@dataclass(frozen=True)
class LargeObjects:
    """How many large objects there are, and the digest of them all (None when only counted)."""

    objects: int
    digest: str | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Rows and digest of every table, every sequence's value and every object's definition, under one snapshot.

    Attributes:
        mode: `content` or `counts`.
        algorithm: how rows were hashed, see `capture.ALGORITHMS`; only equal algorithms can be compared.
        server_major: the major version that printed the definitions.
        tables: by qualified, quoted name.
        sequences: by qualified, quoted name.
        objects: digest of the definition by kind and name, for example `index public.users_pkey`.
        large_objects: all of them together.
        unread: sequences that a standby cannot read, so that the dump has no value of them.
        copied: the tables that were read by COPY, as pg_dump reads them, because no query on them can be planned.
        unread_tables: by table, why its content could not be read; its rows may be known all the same.
    """

    mode: str
    algorithm: str
    server_major: int
    tables: Mapping[str, TableFigure] = field(default_factory=dict)
    sequences: Mapping[str, SequenceFigure] = field(default_factory=dict)
    objects: Mapping[str, str] = field(default_factory=dict)
    large_objects: LargeObjects = LargeObjects(0)
    unread: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    unread_tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The rows of all tables together."""
        return sum(figure.rows for figure in self.tables.values())

    def as_dict(self) -> dict[str, Any]:
        """For the manifest; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Read what `as_dict` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            mode=str(data["mode"]),
            algorithm=str(data["algorithm"]),
            server_major=int(data["server_major"]),
            tables={name: checked(TableFigure(**figure)) for name, figure in data["tables"].items()},
            sequences={name: checked(SequenceFigure(**figure)) for name, figure in data["sequences"].items()},
            objects={str(name): str(digest) for name, digest in data["objects"].items()},
            large_objects=checked(LargeObjects(**data["large_objects"])),
            unread=[str(name) for name in data.get("unread", [])],
            copied=[str(name) for name in data.get("copied", [])],
            unread_tables={str(name): str(why) for name, why in data.get("unread_tables", {}).items()},
        )

    def summary(self) -> dict[str, object]:
        """The figures that people read first."""
        return {
            "mode": self.mode,
            "tables": len(self.tables),
            "rows": self.rows,
            "sequences": len(self.sequences),
            "objects": len(self.objects),
            "large_objects": self.large_objects.objects,
        }


# Kinds of differences that leave every row where it is.
_DEFINITIONS = ("object", "definition of")


@dataclass(frozen=True)
class Difference:
    """One way in which a restored database is not its source."""

    kind: str
    subject: str
    expected: object
    found: object

    @property
    def group(self) -> str:
        """What is hurt: `files`, `rows` (tables, sequences and large objects, too) or only `definitions`."""
        if self.kind.endswith("file"):
            return "files"
        return "definitions" if self.kind in _DEFINITIONS else "rows"

    def as_dict(self) -> dict[str, object]:
        """For a verdict."""
        return asdict(self)

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.kind} {self.subject} is missing"
        if self.expected is None:
            return f"{self.kind} {self.subject} is not in the source"
        then, now = ("when it was written", "now") if self.kind.endswith("file") else ("in the source", "in the copy")
        return f"{self.kind} {self.subject}: {self.expected} {then}, {self.found} {now}"


def compare(source: Fingerprint, copy: Fingerprint) -> list[Difference]:
    """Every difference between a source and its restored copy, in the order of kinds and names.

    Both have to be of one mode and algorithm.
    Definitions are compared only between servers of one major, since another major may print them in another way;
    between majors it still counts which objects there are. Fingerprints of before the third version of an algorithm had
    other definitions, and not of all objects: of those it counts which objects are missing.
    """
    differences = [
        *_compare_tables(source, copy),
        *_compare_sequences(source, copy),
        *_compare_objects(source, copy),
    ]
    if source.large_objects.objects != copy.large_objects.objects:
        differences.append(
            Difference("large objects", "count", source.large_objects.objects, copy.large_objects.objects)
        )
    elif source.large_objects.digest != copy.large_objects.digest:
        differences.append(
            Difference("large objects", "content", source.large_objects.digest, copy.large_objects.digest)
        )
    return differences


def _compare_tables(source: Fingerprint, copy: Fingerprint) -> list[Difference]:
    differences = []
    unread = source.unread_tables.keys() | copy.unread_tables.keys()
    for name in sorted(source.tables.keys() | copy.tables.keys()):
        expected, found = source.tables.get(name), copy.tables.get(name)
        if name in unread and (expected is None or found is None):
            continue
        if expected is None or found is None:
            rows = [figure and f"{figure.rows} rows" for figure in (expected, found)]
            differences.append(Difference("table", name, *rows))
        elif expected.rows != found.rows:
            differences.append(Difference("rows of table", name, expected.rows, found.rows))
        elif expected.digest != found.digest and name not in unread:
            differences.append(Difference("content of table", name, expected.digest, found.digest))
    return differences


def _compare_sequences(source: Fingerprint, copy: Fingerprint) -> list[Difference]:
    differences = []
    for name in sorted((source.sequences.keys() | copy.sequences.keys()) - {*source.unread, *copy.unread}):
        expected, found = source.sequences.get(name), copy.sequences.get(name)
        if expected is None or found is None:
            differences.append(Difference("sequence", name, expected and expected.first, found and found.first))
        elif not expected.admits(found.first):
            reach = str(expected.first) if expected.first == expected.last else f"{expected.first} to {expected.last}"
            differences.append(Difference("value of sequence", name, reach, found.first))
    return differences


def definitions_comparable(source: Fingerprint, copy: Fingerprint) -> bool:
    """Whether the digests of definitions say anything about each other."""
    return source.server_major == copy.server_major and not _is_old(source)


def _is_old(fingerprint: Fingerprint) -> bool:
    return fingerprint.algorithm.endswith(_OLD)


def _compare_objects(source: Fingerprint, copy: Fingerprint) -> list[Difference]:
    comparable, names = definitions_comparable(source, copy), source.objects.keys() | copy.objects.keys()
    if _is_old(source):
        names = {name for name in source.objects if not name.startswith("comment ")}
    differences = []
    for name in sorted(names):
        expected, found = source.objects.get(name), copy.objects.get(name)
        if expected is None or found is None:
            differences.append(Difference("object", name, expected and "present", found and "present"))
        elif comparable and expected != found:
            differences.append(Difference("definition of", name, expected, found))
    return differences
