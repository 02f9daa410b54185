# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes and foreign keys, as the catalogs have them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..._postgres.connection import Session
from . import sql

_EQUALITY = ("btree", "hash")
_NOT_NULL = re.compile(r"\(*(\"(?:[^\"]|\"\")+\"|[^\s()]+) IS NOT NULL\)*")
# What REINDEX CONCURRENTLY adds to the name of what it has not finished.
BUILD_SUFFIX = re.compile(r"_cc(?:new|old)\d*$")


@dataclass(frozen=True)
class Index:
    """One index, as the catalog has it.

    Attributes:
        identity: schema and name, quoted as SQL wants them. So `table_identity`.
        home: the table that people know, which owns the TOAST table if it is an index of one. `table_name` is its name.
        partitioned: it has no storage of its own, its partitions have.
        parent: the partitioned index that it is a partition of.
        size_bytes: of its main fork.
        ready: whether it is kept up to date. `live`: false once a session has begun to drop it.
        immediate: false for that of a deferrable constraint.
        constraint: the primary key, unique or exclusion constraint that it is made for.
        referenced: a foreign key rests on it.
        of_extension: it, or its table, is a member of an extension.
        keys: each of what it is made of, with operator class, collation and order.
        columns: their numbers in the table, 0 for an expression. `included`: those of INCLUDE.
        key_texts: the keys as SQL.
        scans: how many there were since the statistics began; `last_scan` is known from PostgreSQL 16 on.
        owned: whether the login may drop it; `may_maintain`: whether it may rebuild it.
    """

    oid: int
    identity: str
    schema: str
    name: str
    table_oid: int
    table_identity: str
    table_schema: str
    table_name: str
    home: int
    access_method: str
    of_toast: bool
    partitioned: bool
    parent: int | None
    size_bytes: int
    valid: bool
    ready: bool
    live: bool
    unique: bool
    exclusion: bool
    replica_identity: bool
    clustered: bool
    immediate: bool
    nulls_equal: bool
    constraint: str | None
    referenced: bool
    of_extension: bool
    keys: tuple[str, ...]
    columns: tuple[int, ...]
    included: tuple[int, ...]
    key_texts: tuple[str, ...]
    predicate: str | None
    scans: int
    last_scan: datetime | None
    system: bool
    shared: bool
    owned: bool
    may_maintain: bool
    tablespace: int

    @property
    def usable(self) -> bool:
        """Whether queries may use it."""
        return self.valid and self.ready and self.live

    @property
    def needed(self) -> bool:
        """Whether more than queries depends on it: uniqueness, a constraint, replication, CLUSTER, an extension."""
        return (
            self.unique
            or self.constraint is not None
            or self.exclusion
            or self.replica_identity
            or self.referenced
            or self.clustered
            or self.of_extension
        )

    @property
    def definition(self) -> tuple[object, ...]:
        """What two indexes have in common that serve the same queries."""
        return (self.table_oid, self.access_method, self.keys, frozenset(self.included), self.predicate)

    def serves(self, key: ForeignKey) -> bool:
        """Whether a foreign key finds its rows by it: it begins with the key's columns, in any order, of each row."""
        if self.access_method not in _EQUALITY or set(self.columns[: len(key.columns)]) != set(key.columns):
            return False
        if self.predicate is None:
            return True
        conditions = self.predicate.split(" AND ")
        matches = [_NOT_NULL.fullmatch(condition.strip()) for condition in conditions]
        return all(match is not None and match[1] in key.names for match in matches)

    @property
    def of_a_build(self) -> bool:
        """Whether it is called as REINDEX CONCURRENTLY calls what it has not finished."""
        return BUILD_SUFFIX.search(self.name) is not None


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key; `size_bytes` is of the referencing table, `deletes` are rows deleted from the referenced one."""

    name: str
    table_oid: int
    table_identity: str
    partitioned: bool
    referenced: str
    columns: tuple[int, ...]
    names: tuple[str, ...]
    size_bytes: int
    deletes: int


@dataclass(frozen=True)
class Counted:
    """Since when scans are counted, in seconds, None if not known; and how many servers count for themselves."""

    age_s: float | None
    standby: bool
    replicas: int
    counted: bool = True


def read(session: Session, schemas: Sequence[str] = (), tables: Sequence[int] | None = None) -> list[Index]:
    """All indexes but temporary ones; those of the system's schemas only if these are named.

    Args:
        tables: the OIDs of the only tables to look at; None for all.
    """
    values = {"schemas": list(schemas), "tables": None if tables is None else list(tables)}
    rows = session.query(sql.indexes(session.server_version), values)
    return [Index(**{name: _frozen(value) for name, value in row._asdict().items()}) for row in rows]


def read_keys(session: Session, schemas: Sequence[str] = (), tables: Sequence[int] | None = None) -> list[ForeignKey]:
    """All foreign keys, the largest tables first; `tables` as for `read`."""
    values = {"schemas": list(schemas), "tables": None if tables is None else list(tables)}
    rows = session.query(sql.FOREIGN_KEYS, values)
    return [ForeignKey(**{name: _frozen(value) for name, value in row._asdict().items()}) for row in rows]


def read_counted(session: Session, now: datetime) -> Counted:
    """How far the statistics can be relied on."""
    row = session.query(sql.STATISTICS)[0]
    age_s = None if row.since is None else max(0.0, (now - row.since).total_seconds())
    return Counted(age_s, row.standby, row.replicas, row.counted)


def _frozen(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value
