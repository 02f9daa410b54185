# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that cost more than they are worth, and foreign keys without one. Examining is pure.

Nothing here drops anything: each finding carries the command.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..._findings import Finding
from ..._plan import Plan
from ..._postgres.connection import Session
from ..._units import human_duration, human_size
from . import protection
from .indexes import Counted, ForeignKey, Index, read, read_counted, read_keys
from .workers import workers


@dataclass(frozen=True)
class IndexStandards(Plan):
    """By what indexes are examined: smaller ones are left out; statistics younger than this say nothing of use."""

    min_size_bytes: int = 1024 * 1024
    unused_after_s: float = 8 * 86400.0


@dataclass(frozen=True)
class ExaminedIndexes:
    """All indexes of the schemas, and the findings on them."""

    indexes: Sequence[Index]
    counted: Counted
    findings: Sequence[Finding]


def look(session: Session, schemas: Sequence[str], standards: IndexStandards, now: datetime) -> ExaminedIndexes:
    """Read the indexes and examine them."""
    known = read(session, schemas)
    counted = read_counted(session, now)
    busy = workers(session, [])
    return ExaminedIndexes(known, counted, examine(known, read_keys(session, schemas), counted, standards, busy))


def examine(
    indexes: Sequence[Index],
    keys: Sequence[ForeignKey],
    counted: Counted,
    standards: IndexStandards,
    busy: Iterable[int] = (),
) -> list[Finding]:
    """All findings, by check and then the largest first. `busy` are the tables on which an index is being built."""
    building = set(busy)
    found = [*_invalid([each for each in indexes if not each.usable], building)]
    usable = [each for each in indexes if each.usable and not each.of_toast and not each.shared]
    held = protection.reasons(usable)
    twice = _same(usable, held)
    leaning = {each.oid: keeper for each, keeper in twice}
    found += _duplicates(twice, standards)
    found += _twins(usable, held, standards)
    shorter = _beginnings(usable, held, leaning)
    found += _redundant(shorter, standards)
    leaning.update({each.oid: longer for each, longer in shorter})
    stay = {*held, *protection.serving([each for each in usable if each.oid not in leaning], keys)}
    found += _unused(usable, stay, leaning, counted, standards)
    found += _missing(keys, usable, standards)
    return found


def _sized(index: Index, check: str, severity: str, message: str, remedy: str) -> Finding:
    return Finding(check, severity, index.identity, index.size_bytes, None, message, remedy)


def drop_command(index: Index) -> str:
    """How to drop an index that backs no constraint, without locking the table for long where that is possible."""
    if index.partitioned:  # CONCURRENTLY is not possible
        return f"DROP INDEX {index.identity}; (It locks the table and its partitions for a moment.)"
    return f"DROP INDEX CONCURRENTLY {index.identity};"


# --- invalid


def _invalid(indexes: Sequence[Index], busy: set[int]) -> Iterable[Finding]:
    for each in indexes:
        if each.table_oid in busy:
            continue  # it is being built or dropped just now
        size = human_size(each.size_bytes)
        if each.partitioned:
            message = f"{each.identity} is not complete: a partition of {each.table_identity} has no such index."
            remedy = (
                f"CREATE INDEX CONCURRENTLY on each such partition, then ALTER INDEX {each.identity} ATTACH PARTITION."
            )
        elif each.of_a_build or not each.live:
            message = f"{each.identity} ({size}) is a leftover of an interrupted build or removal. No query uses it."
            remedy = f"Run the playbook godel.postgres_runbook.reindex, or DROP INDEX CONCURRENTLY {each.identity};"
        else:
            message = (
                f"{each.identity} ({size}) is invalid: its build failed. No query uses it, but every write updates it."
            )
            remedy = f"Run the playbook godel.postgres_runbook.reindex, or REINDEX INDEX CONCURRENTLY {each.identity};"
        yield _sized(each, "index_invalid", "warning", message, remedy)


# --- duplicate and redundant


def _same(indexes: Sequence[Index], held: Mapping[int, str]) -> list[tuple[Index, Index]]:
    """Pairs (superfluous, the one to keep) of indexes that serve the same queries."""
    found = []
    for group in _groups(indexes):
        ranked = sorted(group, key=lambda each: (each.oid not in held, *_worth(each)))
        kept: list[Index] = []
        for each in ranked:
            keeper = next((other for other in kept if _covers(other, each)), None)
            if each.oid in held or keeper is None:
                kept.append(each)
            else:
                found.append((each, keeper))
    return sorted(found, key=lambda pair: -pair[0].size_bytes)


def _groups(indexes: Sequence[Index]) -> Iterable[Sequence[Index]]:
    groups: dict[tuple[object, ...], list[Index]] = defaultdict(list)
    for each in indexes:
        groups[each.definition].append(each)
    return (group for group in groups.values() if len(group) > 1)


def _worth(index: Index) -> tuple[object, ...]:
    """What sorts the one to keep to the front."""
    return (
        index.constraint is None,
        not index.unique,
        not index.immediate,
        -index.scans,
        index.oid,
    )


def _covers(keeper: Index, index: Index) -> bool:
    """Whether the keeper enforces all that the index does."""
    if not index.unique:
        return True
    return keeper.unique and keeper.immediate and keeper.nulls_equal == index.nulls_equal


def _duplicates(twice: Sequence[tuple[Index, Index]], standards: IndexStandards) -> Iterable[Finding]:
    for each, keeper in twice:
        if each.size_bytes < standards.min_size_bytes and not each.partitioned:
            continue
        size = human_size(each.size_bytes)
        text = f"{each.identity} ({size}) is the same as {keeper.identity}: each write updates both."
        yield _sized(each, "index_duplicate", "warning", text, drop_command(each))


def _twins(indexes: Sequence[Index], held: Mapping[int, str], standards: IndexStandards) -> Iterable[Finding]:
    """Indexes that are the same and must all stay as things are: said, and without a command."""
    for group in _groups(indexes):
        bound = sorted((each for each in group if each.oid in held and each.parent is None), key=_worth)
        for each in bound[1:]:
            if each.size_bytes < standards.min_size_bytes and not each.partitioned:
                continue
            text = (
                f"{each.identity} ({human_size(each.size_bytes)}) is the same as {bound[0].identity}: each write"
                f" updates both. Neither can be dropped: {held[each.oid]} ({each.identity}), and"
                f" {held[bound[0].oid]} ({bound[0].identity})."
            )
            yield _sized(each, "index_twin", "info", text, "Keep both until one of these reasons no longer holds.")


def _beginnings(
    usable: Sequence[Index], held: Mapping[int, str], leaning: Mapping[int, Index]
) -> list[tuple[Index, Index]]:
    """Pairs of a B-tree that may go and another one whose keys begin with its keys."""
    by_table: dict[int, list[Index]] = defaultdict(list)
    for each in usable:
        if each.access_method == "btree" and each.oid not in leaning:
            by_table[each.table_oid].append(each)
    found = []
    for each in sorted(usable, key=lambda index: -index.size_bytes):
        if each.needed or each.oid in held or each.oid in leaning or each.access_method != "btree":
            continue
        longer = [other for other in by_table[each.table_oid] if _begins_with(other, each)]
        if longer:
            best = min(longer, key=lambda other: (not other.needed, len(other.keys), other.size_bytes, other.oid))
            found.append((each, best))
    return found


def _redundant(shorter: Sequence[tuple[Index, Index]], standards: IndexStandards) -> Iterable[Finding]:
    for each, best in shorter:
        if each.size_bytes < standards.min_size_bytes and not each.partitioned:
            continue
        text = (
            f"{each.identity} ({human_size(each.size_bytes)}) is the beginning of {best.identity}"
            f" ({human_size(best.size_bytes)}), which serves the same queries, more slowly if it is much larger."
        )
        yield _sized(each, "index_redundant", "info", text, drop_command(each))


def _begins_with(longer: Index, shorter: Index) -> bool:
    return (
        len(longer.keys) > len(shorter.keys)
        and longer.keys[: len(shorter.keys)] == shorter.keys
        and longer.predicate == shorter.predicate
        and set(shorter.included) <= {*longer.columns, *longer.included}
    )


# --- unused


def _unused(
    usable: Sequence[Index], stay: set[int], leaning: Mapping[int, Index], counted: Counted, standards: IndexStandards
) -> Iterable[Finding]:
    """Indexes without a scan. One that is to serve the queries of another that may go is used as much as that one."""
    reason = _why_not_known(counted, standards)
    if reason:
        yield Finding(
            check="index_unused",
            severity="info",
            subject="statistics",
            value=counted.age_s,
            threshold=standards.unused_after_s,
            message=f"Unused indexes cannot be found: {reason}.",
            remedy="",
        )
        return
    scans, last, sizes = _sums(usable)
    age = f"for {human_duration(counted.age_s or 0)}"
    elsewhere = " Standbys may use it: each server counts its own scans." if counted.replicas or counted.standby else ""
    for oid in leaning:
        at = oid
        while at in leaning:
            at = leaning[at].oid
        scans[at] += scans[oid]
    for each in sorted(usable, key=lambda index: -sizes[index.oid]):
        if scans[each.oid] or each.needed or each.oid in stay or each.oid in leaning:
            continue
        if sizes[each.oid] < standards.min_size_bytes:
            continue
        text = f"{each.identity} ({human_size(sizes[each.oid])}) has not been used {age}."
        if last.get(each.oid):
            text = f"{text} Its last use was at {last[each.oid]}."
        if 0 in each.columns:
            text += " Dropping it also drops the statistics of its expressions, which plans may depend on."
        remedy = f"Check that no rare job needs it, then {drop_command(each)}"
        if elsewhere:
            remedy = f"Check pg_stat_user_indexes on each standby. {remedy}"
        yield Finding("index_unused", "info", each.identity, sizes[each.oid], None, text + elsewhere, remedy)


def _why_not_known(counted: Counted, standards: IndexStandards) -> str:
    if not counted.counted:
        return "track_counts is off"
    if counted.age_s is None:
        return "the start of the statistics is unknown"
    if counted.age_s < standards.unused_after_s:
        wanted = human_duration(standards.unused_after_s)
        return f"scans are counted for {human_duration(counted.age_s)} only, and unused_after requires {wanted}"
    return ""


def _sums(usable: Sequence[Index]) -> tuple[dict[int, int], dict[int, str], dict[int, int]]:
    """Scans, last use and size by index; a partitioned one has those of its partitions, however deep."""
    parents: Mapping[int, int | None] = {each.oid: each.parent for each in usable}
    scans: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    last: dict[int, str] = {}
    for each in usable:
        at: int | None = each.oid
        while at is not None:
            scans[at] += each.scans
            sizes[at] += each.size_bytes
            if each.last_scan is not None:
                last[at] = max(last.get(at, ""), each.last_scan.strftime("%Y-%m-%d"))
            at = parents.get(at)
    return scans, last, sizes


# --- missing


def _missing(keys: Sequence[ForeignKey], usable: Sequence[Index], standards: IndexStandards) -> Iterable[Finding]:
    by_table: dict[int, list[Index]] = defaultdict(list)
    for each in usable:
        by_table[each.table_oid].append(each)
    for key in keys:
        if key.size_bytes < standards.min_size_bytes or any(index.serves(key) for index in by_table[key.table_oid]):
            continue
        columns = ", ".join(key.names)
        deletes = f"{key.deletes} rows were deleted there" if key.deletes else "no rows were deleted there yet"
        yield Finding(
            check="index_missing_for_key",
            severity="warning" if key.deletes else "info",
            subject=key.table_identity,
            value=key.size_bytes,
            threshold=None,
            message=f"The foreign key {key.name} of {key.table_identity} ({human_size(key.size_bytes)}) on ({columns})"
            " has no index:"
            f" each row deleted from {key.referenced}, or whose key changes, has all of it read; {deletes}.",
            remedy=f"CREATE INDEX ON ONLY {key.table_identity} ({columns}); then on each partition"
            " CREATE INDEX CONCURRENTLY and ALTER INDEX ... ATTACH PARTITION."
            if key.partitioned
            else f"CREATE INDEX CONCURRENTLY ON {key.table_identity} ({columns});",
        )


def describe(findings: Sequence[Finding], indexes: Sequence[Index]) -> str:
    """One sentence for people."""
    told = [finding for finding in findings if finding.subject != "statistics"]
    size = human_size(sum(index.size_bytes for index in indexes))
    if not told:
        return f"{len(indexes)} indexes ({size}). No problems found."
    kinds = {
        "index_invalid": "invalid",
        "index_duplicate": "duplicate",
        "index_twin": "duplicate but needed",
        "index_redundant": "redundant",
        "index_unused": "unused",
        "index_missing_for_key": "missing for a foreign key",
    }
    counts = {words: sum(finding.check == check for finding in told) for check, words in kinds.items()}
    return (
        f"{len(indexes)} indexes ({size}): {', '.join(f'{count} {words}' for words, count in counts.items() if count)}."
    )


def superfluous_bytes(findings: Sequence[Finding]) -> int:
    """The size of the indexes that could go, each counted once."""
    sizes = {
        finding.subject: finding.value
        for finding in findings
        if finding.check not in ("index_missing_for_key", "index_twin") and finding.subject != "statistics"
    }
    return sum(size for size in sizes.values() if isinstance(size, int))
