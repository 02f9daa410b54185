# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheap stage: what a relation would weigh after a rewrite, from the server's statistics alone.

It says `low` where statistics cannot know, and gives no figure where there is nothing to reckon with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._units import to_rfc3339
from . import layout
from .layout import Column, Group
from .relation import Relation

_KINDS = {"r": "table", "m": "materialized view", "t": "toast", "i": "index"}
_STALE_SHARE = 0.1  # of the rows changed since ANALYZE, above which widths and frequencies are doubted
_NEW_SHARE = 0.5  # of the rows that came since then, above which there is no figure at all
_NEW = "Most of its rows came after ANALYZE, so that their width is not known."
WIDE_ROW = 400  # bytes; above it what is left over at the ends of pages depends on the order of the rows


@dataclass(frozen=True)
class Figures:
    """What a rewrite is reckoned from, beside the relation itself.

    Attributes:
        page_size: in bytes.
        rows: live rows of the table or entries of the index, as the statistics tell; None when they do not.
        dead: dead rows; of an index, those that it has entries for.
        row_bytes: mean aligned size of a row or entry, None without statistics.
        exact: whether all rows have that size.
        reshaped: columns were dropped, or added with a default: a rewrite forms other rows than lie there now.
        dropped: how many columns were.
        groups: of an index: how often keys repeat.
        share: of an index: whether equal keys share entries.
        can_toast: long values of it may lie in a TOAST table.
        locked: somebody holds an exclusive lock on it.
    """

    page_size: int
    rows: float | None
    dead: float
    row_bytes: float | None
    exact: bool
    reshaped: bool = False
    dropped: int = 0
    groups: tuple[Group, ...] = ()
    share: bool = False
    can_toast: bool = False
    locked: bool = False


@dataclass(frozen=True)
class Estimate:
    """A relation with the estimate of its bloat, and what to measure it with."""

    relation: Relation
    figures: Figures
    table_oid: int
    table_rows: float | None = None
    table_dead: float = 0.0


def with_rewritten(relation: Relation, rewritten_pages: int, page_size: int) -> Relation:
    """The relation with its bloat, now that it is known what a rewrite would leave. It never is below nothing."""
    bloat = max(0, relation.size_bytes - rewritten_pages * page_size)
    ratio = bloat / relation.size_bytes if relation.size_bytes else 0.0
    return replace(relation, bloat_bytes=bloat, bloat_ratio=round(ratio, 4))


def heap(row: Any, page_size: int) -> Estimate:
    """Estimate a table, a TOAST table or a materialized view, from a row of `HEAPS`."""
    kept = [index for index, dropped in enumerate(row.dropped or []) if not dropped]
    columns = [
        Column(row.lengths[i], row.aligns[i], row.widths[i], row.null_shares[i] or 0.0, row.storages[i] == "p")
        for i in kept
    ]
    dropped = len(row.dropped or []) - len(kept)
    known = all(column.size is not None for column in columns)
    rows = _rows(row)
    size = layout.row_size(columns, some_dropped=dropped > 0) if known else None
    exact = all(column.length >= 0 and not column.null_share for column in columns)
    figures = Figures(
        page_size,
        rows,
        float(row.dead_tuples or 0),
        size,
        exact,
        reshaped=dropped > 0 or row.some_missing,
        dropped=dropped,
        can_toast=any(row.storages[i] != "p" for i in kept),
        locked=row.is_locked,
    )
    relation = replace(
        _relation(row),
        live_tuples=None if rows is None else round(rows),
        dead_tuples=row.dead_tuples,
        freeze_age=row.freeze_age,
        last_vacuum=_moment(row.last_vacuum),
        last_analyze=_moment(row.last_analyze),
    )
    return Estimate(_judge_heap(relation, figures, row), figures, row.table_oid)


def _judge_heap(relation: Relation, figures: Figures, row: Any) -> Relation:
    if relation.size_bytes == 0:
        return replace(relation, bloat_bytes=0, bloat_ratio=0.0, method="estimate", confidence="high")
    if relation.kind == "toast":
        return replace(relation, note="No statistics tell how large the pieces of TOAST values are.")
    if figures.rows is None or figures.row_bytes is None:
        never = row.last_analyze is None
        why = "It was never analyzed" if never else "Its statistics are not there, or not for this login"
        return replace(relation, note=f"{why}, so that the width of its rows is not known.")
    if _is_new(row, figures.rows):
        return replace(relation, note=_NEW)
    pages = layout.heap_pages(
        figures.rows, figures.row_bytes, relation.fillfactor, figures.page_size, exact=figures.exact
    )
    live = round(figures.rows * figures.row_bytes)
    found = replace(with_rewritten(relation, pages, figures.page_size), live_bytes=live, method="estimate")
    doubts = _doubts(row, figures)
    if figures.reshaped:
        doubts.append("columns were dropped or added since it was written")
    if figures.row_bytes > WIDE_ROW and not figures.exact:
        doubts.append("its rows are wide and of unknown variety")
    return _with_doubts(found, doubts)


def index(row: Any, page_size: int) -> Estimate:
    """Estimate an index, from a row of `INDEXES`."""
    lengths: Sequence[int] = row.lengths or []
    columns = [Column(lengths[i], row.aligns[i], row.widths[i], row.null_shares[i] or 0.0) for i in range(len(lengths))]
    known = all(column.size is not None for column in columns) and bool(columns)
    rows = _rows(row)
    if row.is_partial:
        rows = float(row.reltuples) if row.reltuples >= 0 else None
    share = bool(row.can_share) and not row.is_unique
    size = layout.entry_size(columns) if known else None
    exact = all(column.length >= 0 and not column.null_share for column in columns)
    groups: tuple[Group, ...] = ()
    if size is not None and rows is not None:
        groups = tuple(_groups(row, columns, rows, size)) if share else (Group(rows, 1, size),)
    figures = Figures(
        page_size, rows, _dead_entries(row), size, exact, groups=groups, share=share, locked=row.is_locked
    )
    relation = replace(_relation(row), live_tuples=None if rows is None else round(rows))
    judged = _judge_index(relation, figures, row)
    return Estimate(judged, figures, row.table_oid, _rows(row), float(row.dead_tuples or 0))


def _judge_index(relation: Relation, figures: Figures, row: Any) -> Relation:
    if relation.access_method != "btree":
        return replace(
            relation, note=f"How large a rebuilt {relation.access_method} index is cannot be told without building it."
        )
    if not row.is_valid:
        return replace(relation, note="The index is invalid: rebuild or drop it.")
    if figures.rows is None or figures.row_bytes is None:
        return replace(relation, note="Its table has no statistics for its keys, or not for this login.")
    if _is_new(row, figures.rows) and not figures.exact:
        return replace(relation, note=_NEW)
    pages = layout.btree_pages(
        figures.groups, relation.fillfactor, figures.page_size, share=figures.share, exact=figures.exact
    )
    found = replace(
        with_rewritten(relation, pages, figures.page_size),
        live_bytes=round(figures.rows * figures.row_bytes),
        method="estimate",
    )
    doubts = _doubts(row, figures)
    if row.is_partial and row.changes > _STALE_SHARE * max(1.0, figures.rows):
        doubts.append("how many rows its predicate chooses was not counted since they changed")
    if figures.share and len(row.lengths) > 1 and any(each not in (-1.0, None) for each in row.distincts):
        doubts.append("how often its keys repeat together is not known")
    return _with_doubts(found, doubts)


def _relation(row: Any) -> Relation:
    is_toast = row.relkind == "t"
    return Relation(
        oid=row.oid,
        schema=row.owner_schema if is_toast else row.schema,
        name=row.owner_name if is_toast else row.relname,
        table=row.owner_name,
        kind=_KINDS[row.relkind],
        access_method=row.access_method or "heap",
        size_bytes=row.size_bytes or 0,
        fillfactor=row.fillfactor or layout.default_fillfactor(row.access_method or "heap"),
    )


def _moment(at: datetime | None) -> str | None:
    return None if at is None else to_rfc3339(at)


def _is_new(row: Any, rows: float) -> bool:
    """Whether most rows came after ANALYZE, which then says nothing of their width."""
    return bool(min(row.changes, row.inserts) > _NEW_SHARE * max(1.0, rows))


def _was_counted(row: Any) -> bool:
    return bool(row.live_tuples or row.dead_tuples or row.changes or row.counted_since)


def _rows(row: Any) -> float | None:
    """Live rows: the running count, or, where it was lost or never begun, that of the last VACUUM or ANALYZE."""
    if _was_counted(row):
        return float(row.live_tuples)
    counted = float(row.reltuples)
    return counted if counted > 0 or (counted == 0 and not row.size_bytes) else None


def _dead_entries(row: Any) -> float:
    """Dead rows that an index has entries for: a HOT update makes none."""
    ended = row.updates + row.deletes
    return float(row.dead_tuples or 0) * (1 - min(1.0, row.hot_updates / ended) if ended else 1.0)


def _groups(row: Any, columns: Sequence[Column], rows: float, size: float) -> list[Group]:
    """How often keys repeat. Of several columns only their product is known."""
    nulls = columns[0].null_share if len(columns) == 1 else 0.0
    with_value = rows * (1 - nulls)
    distinct = 1.0
    for each, column in zip(row.distincts, columns):
        keys = each if each is None or each > 0 else -each * rows
        distinct *= max(1.0, keys or rows * (1 - column.null_share))
    distinct = max(1.0, min(distinct, with_value))
    plain = layout.entry_size([replace(column, null_share=0.0) for column in columns]) if len(columns) == 1 else size
    groups = [Group(1, rows * share, plain) for share in (row.common or [])]
    left_rows = with_value - sum(group.each for group in groups)
    left_keys = distinct - len(groups)
    if left_rows > 0.5 and left_keys > 0.5:
        groups.append(Group(left_keys, max(1.0, left_rows / left_keys), plain))
    elif left_rows > 0.5:
        groups.append(Group(1, left_rows, plain))
    if nulls:
        groups.append(Group(1, rows * nulls, 16))
    return groups


def _doubts(row: Any, figures: Figures) -> list[str]:
    doubts = []
    if figures.locked:
        doubts.append("it is locked exclusively, so that its size is that of the last VACUUM")
    if row.changes > _STALE_SHARE * max(1.0, figures.rows or 0.0):
        doubts.append("many rows changed since ANALYZE")
    if not _was_counted(row):
        doubts.append("the server has counted nothing of it since its statistics were reset or lost")
    return doubts


def _with_doubts(relation: Relation, doubts: Sequence[str]) -> Relation:
    if not doubts:
        return replace(relation, confidence="medium")
    text = "; ".join(doubts)
    return replace(relation, confidence="low", note=f"{text[0].upper()}{text[1:]}.")


def with_table(found: Estimate, live: int, dead: int) -> Estimate:
    """The estimate of an index, now that its table's rows were counted; a partial index keeps its own count."""
    figures = found.figures
    rows, counted = figures.rows, found.table_rows
    if rows is None or not counted:
        return replace(found, figures=replace(figures, rows=float(live), dead=float(dead)))
    factor = live / counted
    dead_entries = figures.dead * dead / found.table_dead if found.table_dead else float(dead)
    groups = tuple(
        replace(group, each=group.each * factor) if figures.share else replace(group, keys=group.keys * factor)
        for group in figures.groups
    )
    return replace(found, figures=replace(figures, rows=rows * factor, dead=dead_entries, groups=groups))
