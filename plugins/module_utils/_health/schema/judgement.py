# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judgement on a schema's traits: a finding for each kind, with how many there are and some of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._findings import Finding
from ..._units import counted, human_size

_SHOWN = 3
_ENDS_OF_BIGINT = (2**63 - 1, -(2**63))


@dataclass(frozen=True)
class SchemaPlan:
    """From when on something is too much. Those that count are numbers of objects; None: it is information only.

    Attributes:
        sequence_used_warning, sequence_used_critical: share of its values that a sequence has used, 0 to 1.
        disabled_triggers_warning, disabled_triggers_critical: triggers, rules and event triggers that are off.
        unenforced_constraints_warning, unenforced_constraints_critical: constraints whose own triggers are off.
        not_validated_constraints_warning, not_validated_constraints_critical: constraints that old rows may violate.
        not_populated_views_warning, not_populated_views_critical: materialized views that cannot be read.
        tables_without_primary_key_warning, tables_without_primary_key_critical: tables, partitioned ones once.
        duplicate_indexes_warning, duplicate_indexes_critical: indexes that are the same as another one.
        redundant_indexes_warning, redundant_indexes_critical: indexes that are the beginning of another one.
        keys_without_index_warning, keys_without_index_critical: foreign keys that no index serves.
        index_min_bytes: smaller indexes, and tables for foreign keys, are not worth a word.
        limit: how many objects of each kind to list.
    """

    sequence_used_warning: float = 0.8
    sequence_used_critical: float = 0.9
    disabled_triggers_warning: int | None = 1
    disabled_triggers_critical: int | None = None
    unenforced_constraints_warning: int | None = 1
    unenforced_constraints_critical: int | None = None
    not_validated_constraints_warning: int | None = 1
    not_validated_constraints_critical: int | None = None
    not_populated_views_warning: int | None = 1
    not_populated_views_critical: int | None = None
    tables_without_primary_key_warning: int | None = None
    tables_without_primary_key_critical: int | None = None
    duplicate_indexes_warning: int | None = 1
    duplicate_indexes_critical: int | None = None
    redundant_indexes_warning: int | None = None
    redundant_indexes_critical: int | None = None
    keys_without_index_warning: int | None = None
    keys_without_index_critical: int | None = None
    index_min_bytes: int = 1024 * 1024
    limit: int = 10


def judge(figures: Mapping[str, Any], of_indexes: Sequence[Finding], plan: SchemaPlan) -> Iterator[Finding]:
    """All findings; `of_indexes` are those that the module of indexes makes of single indexes and keys."""
    yield from _sequences(figures, plan)
    yield from _disabled(figures, plan)
    yield from _unenforced(figures, plan)
    yield from _not_validated(figures, plan)
    yield from _not_populated(figures, plan)
    yield from _without_key(figures, plan)
    yield from _indexes(figures, of_indexes, plan)


def _counted(name: str, subject: str, count: int, plan: SchemaPlan, message: str, remedy: str) -> Finding:
    """A finding whose severity is by how many there are."""
    warning, critical = getattr(plan, f"{name}_warning"), getattr(plan, f"{name}_critical")
    severity, threshold = "info", warning
    if critical is not None and count >= critical:
        severity, threshold = "critical", critical
    elif warning is not None and count >= warning:
        severity = "warning"
    return Finding(f"schema_{name}", severity, subject, count, threshold, message, remedy)


def _some(names: Sequence[str], count: int) -> str:
    """Some of the names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {count - _SHOWN:,} more" if count > min(_SHOWN, len(names)) else "")


def _sequences(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    for each in figures["fullest_sequences"]:
        share = each["used_ratio"]
        if share is None or share < plan.sequence_used_warning:
            continue
        severity, threshold = "warning", plan.sequence_used_warning
        if share >= plan.sequence_used_critical:
            severity, threshold = "critical", plan.sequence_used_critical
        where = f" of {each['table']}.{each['column']}" if each["table"] else ""
        limit = f"type {each['column_type']} of its column" if each["by_column"] else "its own limit"
        ahead = each["end"] - each["last"] if each["ascending"] else each["last"] - each["end"]
        left = int(each["left"]) if ahead > 0 else 0
        message = (
            f"The sequence {each['name']}{where} has used {share:.1%} of its values: it is at {each['last']:,}, and "
            f"the end is {each['end']:,} ({limit}). Values left: {left:,}; then each INSERT that uses it fails."
        )
        yield Finding("schema_sequence", severity, each["name"], share, threshold, message, _more_values(each))


def _more_values(sequence: Mapping[str, Any]) -> str:
    name, bound = sequence["name"], "NO MAXVALUE" if sequence["ascending"] else "NO MINVALUE"
    if sequence["by_column"]:
        return (
            f"ALTER TABLE {sequence['table']} ALTER COLUMN {sequence['column']} TYPE bigint; "
            f"ALTER SEQUENCE {name} AS bigint {bound}; The first rewrites the table under an exclusive lock: do it in "
            "a maintenance window, or fill a new bigint column in batches and exchange the two. Columns that refer to "
            "this one need the same."
        )
    if sequence["end"] in _ENDS_OF_BIGINT:
        return "See why setval() was called with such a value, and set it to the largest value in use."
    wide = " AS bigint" if not sequence["table"] or sequence["column_type"] == "bigint" else ""
    return f"ALTER SEQUENCE {name}{wide} {bound};"


def _disabled(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    count, rows = figures["disabled_triggers"], figures["disabled_trigger_list"]
    if not count:
        return
    names = [f"{each['kind']} {each['name']}" + (f" on {each['table']}" if each["table"] else "") for each in rows]
    first = rows[0]
    if first["kind"] == "event trigger":
        command = f"ALTER EVENT TRIGGER {first['name']} ENABLE;"
    else:
        command = f"ALTER TABLE {first['table']} ENABLE {first['kind'].upper()} {first['name']};"
    verb = "is" if count == 1 else "are"
    message = f"{counted(count, 'trigger or rule', 'triggers and rules')} {verb} disabled: {_some(names, count)}."
    remedy = f"If this is not intended: {command}"
    yield _counted("disabled_triggers", names[0], count, plan, message, remedy)


def _unenforced(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    count, rows = figures["unenforced_constraints"], figures["unenforced_constraint_list"]
    if not count:
        return
    names = [f"{each['name']} of {each['table']}" for each in rows]
    table, name = rows[0]["table"], rows[0]["name"]
    message = (
        f"{counted(count, 'constraint is', 'constraints are')} not enforced because internal triggers are disabled "
        f"(DISABLE TRIGGER ALL, or an interrupted load with --disable-triggers): {_some(names, count)}."
    )
    remedy = (
        f"As a superuser: ALTER TABLE {table} ENABLE TRIGGER ALL; on the referenced table as well. Rows written "
        f"in the meantime were not checked: drop {name} and add it again as NOT VALID; VALIDATE CONSTRAINT finds them."
    )
    yield _counted("unenforced_constraints", names[0], count, plan, message, remedy)


def _not_validated(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    count, rows = figures["not_validated_constraints"], figures["not_validated_constraint_list"]
    if not count:
        return
    names = [f"{each['name']} of {each['table']}" for each in rows]
    first = rows[0]
    message = (
        f"{counted(count, 'constraint was', 'constraints were')} never validated: {_some(names, count)}. Existing "
        "rows may violate what new rows must satisfy."
    )
    remedy = f"ALTER {first['kind']} {first['table']} VALIDATE CONSTRAINT {first['name']};"
    if first["kind"] == "TABLE":
        remedy += " It reads the table, and does not block writes."
    yield _counted("not_validated_constraints", names[0], count, plan, message, remedy)


def _not_populated(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    count, rows = figures["not_populated_views"], figures["not_populated_view_list"]
    if not count:
        return
    names = [each["name"] for each in rows]
    have = "has" if count == 1 else "have"
    message = (
        f"{counted(count, 'materialized view', 'materialized views')} {have} never been populated, and each query of "
        f"{'it' if count == 1 else 'one'} fails: {_some(names, count)}."
    )
    remedy = f"REFRESH MATERIALIZED VIEW {names[0]};"
    yield _counted("not_populated_views", names[0], count, plan, message, remedy)


def _without_key(figures: Mapping[str, Any], plan: SchemaPlan) -> Iterator[Finding]:
    count, rows = figures["tables_without_primary_key"], figures["tables_without_primary_key_list"]
    if not count:
        return
    names = [each["name"] for each in rows]
    have = "has" if count == 1 else "have"
    message = f"{counted(count, 'table', 'tables')} {have} no primary key, the largest first: {_some(names, count)}."
    remedy = (
        f"Where a column is unique: ALTER TABLE {names[0]} ADD PRIMARY KEY (...). Without one, logical replication and "
        "pg_repack cannot tell rows apart."
    )
    yield _counted("tables_without_primary_key", names[0], count, plan, message, remedy)


def _indexes(figures: Mapping[str, Any], of_indexes: Sequence[Finding], plan: SchemaPlan) -> Iterator[Finding]:
    kinds = (
        ("duplicate_indexes", "index_duplicate", "index is a duplicate", "indexes are duplicates"),
        (
            "redundant_indexes",
            "index_redundant",
            "index is redundant",
            "indexes are redundant",
        ),
        ("keys_without_index", "index_missing_for_key", "foreign key has no index", "foreign keys have no index"),
    )
    for name, check, one, many in kinds:
        found = [each for each in of_indexes if each.check == check]
        if not found:
            continue
        size = sum(each.value for each in found if isinstance(each.value, int))
        subjects = [each.subject for each in found]
        told = f" ({human_size(size)})" if check != "index_missing_for_key" else ""
        message = f"{counted(len(found), one, many)}{told}: {_some(subjects, len(found))}. {found[0].message}"
        more = " The module pg_index_info gives a remedy for each of them." if len(found) > 1 else ""
        yield _counted(name, subjects[0], len(found), plan, message, found[0].remedy + more)
