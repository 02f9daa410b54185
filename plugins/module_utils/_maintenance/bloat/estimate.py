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

from ..._units import to_rfc3339
from . import layout, others
from .layout import BloatColumn, Group
from .relation import Relation

_KINDS = {"r": "table", "m": "materialized view", "t": "toast", "i": "index"}
_STALE_SHARE = 0.1  # of the rows changed since ANALYZE, above which widths and frequencies are doubted
_NEW_SHARE = 0.5  # of the rows that came since then, above which there is no figure at all
_NEW = "Most of its rows were added after ANALYZE, so their width is unknown."
WIDE_ROW = 400  # bytes; above it what is left over at the ends of pages depends on the order of the rows
_LONG_KEY, _LONGEST_KEY = 127, 400  # bytes of a key that an index may compress; above the second there is no figure
_SIGHTINGS = 2  # of each key by ANALYZE, on average, from which on their number is well known
_PADDING = 3.5  # bytes by which the padding of a row may differ from the mean one
_TOAST_SHARE = 0.05  # of an index's size, below which what lies in TOAST cannot change its figure much
NOTICEABLE = 0.05  # of a relation's size, by which two figures for it may differ
_LOST = "the server has counted no activity of it since its statistics were reset or lost"


@dataclass(frozen=True)
class RewriteFigures:
    """What a rewrite is reckoned from, beside the relation itself.

    Attributes:
        page_size: in bytes.
        rows: live rows of the table or entries of the index, as the statistics tell; None when they do not.
        dead: dead rows; of an index, those that it may have entries for. For `least_dead` of them it has.
        row_bytes: mean aligned size of a row or entry, None without statistics.
        exact: whether all rows have that size.
        reshaped: columns were dropped, or added with a default: a rewrite forms other rows than lie there now.
        dropped: how many columns were.
        varies: some rows may have NULLs that others have not.
        groups: of an index: how often keys repeat, as far as that is certain.
        hoped: of an index: the same if they repeat as often as its statistics guess, or could guess; empty without any.
        certain: of an index: whether these two are one, since ANALYZE has seen each key several times.
        share: of an index: whether equal keys share entries.
        is_partial: of an index.
        lost: the rows were not counted since the counters were reset or lost.
        seen: the rows were counted just now, in the table itself.
        locked: a session holds an exclusive lock on it.
        shape: of an index that is no B-tree.
    """

    page_size: int
    rows: float | None
    dead: float
    row_bytes: float | None
    exact: bool
    varies: bool = False
    least_dead: float = 0.0
    reshaped: bool = False
    dropped: int = 0
    groups: tuple[Group, ...] = ()
    hoped: tuple[Group, ...] = ()
    certain: bool = False
    share: bool = False
    is_partial: bool = False
    lost: bool = False
    seen: bool = False
    locked: bool = False
    shape: others.Shape | None = None


@dataclass(frozen=True)
class Estimate:
    """A relation with the estimate of its bloat, and what to measure it with."""

    relation: Relation
    figures: RewriteFigures
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
        BloatColumn(row.lengths[i], row.aligns[i], row.widths[i], row.null_shares[i] or 0.0, row.storages[i] == "p")
        for i in kept
    ]
    dropped = len(row.dropped or []) - len(kept)
    known = all(column.size is not None for column in columns)
    rows = _rows(row)
    size = layout.row_size(columns, some_dropped=dropped > 0) if known else None
    exact = all(column.length >= 0 and not column.null_share for column in columns)
    figures = RewriteFigures(
        page_size,
        rows,
        float(row.dead_tuples or 0),
        size,
        exact,
        varies=any(row.null_shares[i] is None or 0 < row.null_shares[i] < 1 for i in kept),
        reshaped=dropped > 0 or row.some_missing,
        dropped=dropped,
        lost=_is_lost(row),
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
    return Estimate(_examine_heap(relation, figures, row), figures, row.table_oid)


def _examine_heap(relation: Relation, figures: RewriteFigures, row: Any) -> Relation:
    if relation.size_bytes == 0:
        return replace(relation, bloat_bytes=0, bloat_ratio=0.0, method="estimate", confidence="high")
    if relation.kind == "toast":
        return replace(relation, note="The statistics do not include the sizes of TOAST chunks.")
    if figures.rows is None or figures.row_bytes is None:
        never = row.last_analyze is None
        why = "It was never analyzed" if never else "Its statistics are missing or hidden from this login"
        return replace(relation, note=f"{why}, so the width of its rows is unknown.")
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
    if any(share is None and not dropped for share, dropped in zip(row.null_shares, row.dropped)):
        doubts.append("the number of its NULL values is unknown")
    if figures.row_bytes > WIDE_ROW and not figures.exact:
        doubts.append("its rows are wide, and it is unknown how much their width varies")
    if not figures.exact and _padding(figures.row_bytes) * (1 - (found.bloat_ratio or 0.0)) > NOTICEABLE:
        doubts.append("its rows are narrow, and the amount of padding in them is unknown")
    return _with_doubts(found, doubts)


def _padding(row_bytes: float) -> float:
    """By which share of it the size of a row may be wrong, as padding is reckoned in the mean."""
    return _PADDING / (row_bytes + layout.LINE_POINTER)


def index(row: Any, page_size: int) -> Estimate:
    """Estimate an index, from a row of `INDEXES`. Of the rows that a partial one chooses no statistics tell NULLs."""
    lengths: Sequence[int] = row.lengths or []
    nullable = any(row.null_shares or ())
    nulls = [0.0 if row.is_partial else (each or 0.0) for each in row.null_shares or ()]
    columns = [BloatColumn(lengths[i], row.aligns[i], row.widths[i], nulls[i]) for i in range(len(lengths))]
    known = all(column.size is not None for column in columns) and bool(columns)
    table_rows = _rows(row)
    rows = table_rows
    if row.is_partial:
        rows = float(row.reltuples) if row.reltuples >= 0 else None
    size = layout.entry_size(columns) if known else None
    figures = RewriteFigures(
        page_size,
        rows,
        _dead_entries(row),
        size,
        least_dead=0.0 if row.is_partial or not (row.updates or row.deletes) else _dead_entries(row),
        exact=all(column.length >= 0 for column in columns) and not nullable,
        share=bool(row.can_share) and not row.is_unique,
        is_partial=row.is_partial,
        lost=_is_lost(row),
        locked=row.is_locked,
    )
    if size is not None and rows is not None and not figures.share:
        figures = replace(figures, groups=(Group(rows, 1, size),), hoped=(Group(rows, 1, size),), certain=True)
    elif size is not None and rows is not None:
        figures = _with_groups(figures, row, columns, table_rows or rows)
    if row.access_method != "btree":
        figures = replace(figures, shape=others.shape(row))
    relation = replace(_relation(row), live_tuples=None if rows is None else round(rows))
    examined = _examine_index(relation, figures, row)
    return Estimate(examined, figures, row.table_oid, table_rows, float(row.dead_tuples or 0))


def _examine_index(relation: Relation, figures: RewriteFigures, row: Any) -> Relation:
    if not row.is_valid:
        return replace(relation, note="The index is invalid: rebuild or drop it.")
    if figures.shape is not None:
        why = _with_doubts(relation, _doubts(row, figures)).note
        return others.estimate(relation, figures.shape, figures.rows, figures.page_size, why)
    why = _unknown(relation, figures, row)
    if why or figures.rows is None or figures.row_bytes is None:
        return replace(relation, note=why)

    def rebuilt(groups: Sequence[Group]) -> Relation:
        pages = layout.btree_pages(
            groups, relation.fillfactor, figures.page_size, share=figures.share, exact=figures.exact
        )
        return with_rewritten(relation, pages, figures.page_size)

    found, hoped = rebuilt(figures.groups), rebuilt(figures.hoped)
    doubts = _doubts(row, figures)
    if row.is_partial and row.changes > _STALE_SHARE * max(1.0, figures.rows):
        doubts.append("the rows that match its predicate were not counted since they changed")
    if row.is_partial and any(row.null_shares):
        doubts.append("the number of NULLs among the rows that match its predicate is unknown")
    if _longest(row) > _LONG_KEY:
        doubts.append("long keys may be compressed in it")
    if (hoped.bloat_ratio or 0.0) - (found.bloat_ratio or 0.0) > NOTICEABLE:
        doubts.append("it is unknown how often its keys repeat")
    live = round(figures.rows * figures.row_bytes)
    return _with_doubts(replace(found, live_bytes=live, method="estimate"), doubts)


def _unknown(relation: Relation, figures: RewriteFigures, row: Any) -> str:
    """Why there is no figure for a B-tree; empty when there is one."""
    if figures.rows is None or figures.row_bytes is None:
        return "Statistics of its keys are missing or hidden from this login."
    if _is_new(row, figures.rows) and not figures.exact:
        return _NEW
    if _may_be_toasted(row):
        return "Some of its keys may be in TOAST, and the statistics do not include their length."
    if _longest(row) > _LONGEST_KEY:
        return "Its keys are long, and it is unknown how much an index compresses them."
    if -2 in row.lengths:  # a C string
        return "An index stores values of the type name in less space than a table, and the difference is unknown."
    return ""


def _may_be_toasted(row: Any) -> bool:
    return bool((row.toast_bytes or 0) > _TOAST_SHARE * row.size_bytes)


def _longest(row: Any) -> int:
    """The mean size of the longest keys that an index may compress."""
    return max((row.widths[i] or 0 for i, storage in enumerate(row.storages) if storage in "xm"), default=0)


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


def _is_lost(row: Any) -> bool:
    """Whether the running counts are of a part of the rows only: fewer were counted than the last VACUUM has found."""
    counted = float(row.live_tuples or 0) + float(row.dead_tuples or 0)
    return not row.counted_since and (not _was_counted(row) or counted < (1 - _STALE_SHARE) * row.table_reltuples)


def _rows(row: Any) -> float | None:
    """Live rows: the running count, or, where it was lost or never begun, that of the last VACUUM or ANALYZE."""
    if not _is_lost(row):
        return float(row.live_tuples)
    counted = float(row.table_reltuples)
    return counted if counted > 0 or (counted == 0 and not row.size_bytes) else None


def _dead_entries(row: Any) -> float:
    """Dead rows that an index has entries for: a HOT update makes none."""
    ended = row.updates + row.deletes
    return float(row.dead_tuples or 0) * (1 - min(1.0, row.hot_updates / ended) if ended else 1.0)


def _with_groups(
    figures: RewriteFigures, row: Any, columns: Sequence[BloatColumn], table_rows: float
) -> RewriteFigures:
    """How often keys repeat. Of several columns it is known only that they repeat no more than each."""
    rows, size = figures.rows or 0.0, figures.row_bytes or 0.0
    if any(each is None for each in row.distincts):
        return replace(figures, groups=(Group(rows, 1, size),))
    is_single = len(columns) == 1
    nulls = columns[0].null_share if is_single else 0.0
    plain = layout.entry_size([replace(columns[0], null_share=0.0)]) if is_single else size
    keys = 1.0
    for each, column in zip(row.distincts, columns):
        keys = max(keys, each if each > 0 else -each * table_rows or rows * (1 - column.null_share))
    groups = [Group(1, rows * share, plain) for share in (row.common or []) if not row.is_partial]
    if nulls:
        groups.append(Group(1, rows * nulls, 16))
    left_rows = rows - sum(group.each for group in groups)
    left_keys = max(1.0, min(keys, rows * (1 - nulls)) - len(groups) + (nulls > 0))
    trusted = not row.is_partial and not _is_stale(row, rows) and _longest(row) <= _LONG_KEY
    trusted = trusted and not _may_be_toasted(row) and -2 not in row.lengths
    if left_rows < 0.5:
        return replace(figures, groups=tuple(groups), hoped=tuple(groups), certain=trusted)
    hoped = (*groups, Group(left_keys, max(1.0, left_rows / left_keys), plain))
    seen = min(rows, row.sampled) * left_rows / rows / left_keys
    certain = is_single and trusted and (left_keys <= 1 or seen > _SIGHTINGS)
    groups.append(Group(left_rows, 1, plain))
    return replace(figures, groups=hoped if certain else tuple(groups), hoped=hoped, certain=certain)


def _doubts(row: Any, figures: RewriteFigures) -> list[str]:
    doubts = []
    if figures.locked:
        doubts.append("it is locked exclusively, so its size is from the last VACUUM")
    if _is_stale(row, figures.rows or 0.0):
        doubts.append("many rows changed since ANALYZE")
    if figures.lost:
        doubts.append(_LOST)
    return doubts


def _is_stale(row: Any, rows: float) -> bool:
    return bool(row.changes > _STALE_SHARE * max(1.0, rows))


def _with_doubts(relation: Relation, doubts: Sequence[str]) -> Relation:
    if not doubts:
        return replace(relation, confidence="medium")
    text = "; ".join(doubts)
    return replace(relation, confidence="low", note=f"{text[0].upper()}{text[1:]}.")


def with_table(found: Estimate, live: int, dead: int) -> Estimate:
    """The estimate of an index, now that its table's rows were counted; a partial index keeps its own count.

    Running counts can be far off: a session may report a DELETE after the VACUUM that followed it.
    """
    figures = replace(found.figures, lost=False, seen=not found.figures.is_partial)
    rows, counted = figures.rows, found.table_rows
    if figures.is_partial and not (rows and counted):
        return replace(found, figures=replace(figures, dead=float(dead), least_dead=0.0))
    if rows is None or not counted:
        return replace(found, figures=replace(figures, rows=float(live), dead=float(dead), least_dead=0.0))
    factor = live / counted

    def scaled(groups: Sequence[Group]) -> tuple[Group, ...]:
        if figures.share:
            return tuple(replace(group, each=group.each * factor) for group in groups)
        return tuple(replace(group, keys=group.keys * factor) for group in groups)

    ended = dead / found.table_dead if found.table_dead else None
    return replace(
        found,
        figures=replace(
            figures,
            rows=rows * factor,
            dead=float(dead) if ended is None else figures.dead * ended,
            least_dead=0.0 if ended is None else figures.least_dead * ended,
            groups=scaled(figures.groups),
            hoped=scaled(figures.hoped),
        ),
    )
