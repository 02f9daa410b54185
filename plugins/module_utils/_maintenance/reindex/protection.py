# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which indexes must stay although another one serves the same queries, and why. Pure.

https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .indexes import ForeignKey, Index


def reasons(indexes: Sequence[Index]) -> dict[int, str]:
    """By the OID of each index that must not be dropped: why, as a part of a sentence ("it is ...").

    A partitioned index is dropped together with the indexes of its partitions, so their reasons are its reasons, too.
    """
    parents: Mapping[int, int | None] = {each.oid: each.parent for each in indexes}
    found = {each.oid: f"it is a part of {_parent(each, indexes)}" for each in indexes if each.parent is not None}
    for each in indexes:
        reason = _own(each)
        if not reason:
            continue
        found[each.oid] = reason
        at = each.parent
        while at is not None:
            found.setdefault(at, f"its part {each.identity} must stay: {reason}")
            at = parents.get(at)
    return found


def _own(index: Index) -> str:
    if index.constraint is not None:
        return f"it backs the constraint {index.constraint}"
    if index.exclusion:
        return "it enforces an exclusion constraint"
    if index.replica_identity:
        return f"it is the replica identity of {index.table_identity}"
    if index.referenced:
        return "a foreign key references it"
    if index.clustered:
        return f"CLUSTER sorts {index.table_identity} by it"
    if index.of_extension:
        return f"{index.table_identity} belongs to an extension"
    return ""


def _parent(index: Index, indexes: Iterable[Index]) -> str:
    return next((each.identity for each in indexes if each.oid == index.parent), "a partitioned index")


def serving(indexes: Iterable[Index], keys: Iterable[ForeignKey]) -> set[int]:
    """The OIDs of the indexes by which foreign keys find their rows: one for each key, the one most likely to stay."""
    by_table: dict[int, list[Index]] = {}
    for each in indexes:
        by_table.setdefault(each.table_oid, []).append(each)
    found = set()
    for key in keys:
        fit = [index for index in by_table.get(key.table_oid, ()) if index.serves(key)]
        if fit:
            best = min(fit, key=lambda index: (not index.needed, not index.scans, index.size_bytes, index.oid))
            found.add(best.oid)
    return found
