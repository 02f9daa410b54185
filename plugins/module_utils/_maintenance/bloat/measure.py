# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second stage: look into the pages of one relation, by the best means that the server and the budget allow.

What is read from the pages (rows, dead rows, free space) goes through the same arithmetic as the estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..._postgres.connection import Session
from ..._postgres.statements import compose
from . import layout, leaves, others, sql
from .estimate import WIDE_ROW, Estimate, with_rewritten
from .pages import SAMPLE_PAGES, Means, names, sample
from .relation import Relation

_SAMPLE_ROWS = 20_000


@dataclass(frozen=True)
class _Heap:
    """A table as its pages show it; bytes are aligned and without line pointers."""

    pages: int
    rows: float
    live_bytes: float
    dead: float
    dead_bytes: float
    free_bytes: float
    exact: bool


def measure(session: Session, found: Estimate, means: Means, method: str) -> Relation:
    """Measure one relation.

    Raises:
        QueryFailed: it was dropped, it is locked, or the time was up.
    """
    if found.figures.shape is not None:
        return others.measure(
            session,
            found.relation,
            found.figures.shape,
            found.figures.rows,
            means.schemas,
            method,
            found.figures.page_size,
        )
    if found.relation.kind == "index":
        return leaves.measure(session, found, means, method)
    return _measure_heap(session, found, means, method)


def _measure_heap(session: Session, found: Estimate, means: Means, method: str) -> Relation:
    relation, page = found.relation, found.figures.page_size
    look = {"pgstattuple": _all_rows, "pgstattuple_approx": _unseen_rows, "pageinspect": _some_pages}[method]
    heap = look(session, found, means)
    row_bytes = heap.live_bytes / heap.rows if heap.rows else 0.0
    exact, note = heap.exact, ""
    sure = method == "pgstattuple" or (method == "pageinspect" and heap.pages <= SAMPLE_PAGES)
    confidence = "high" if sure else "medium"
    if found.figures.reshaped and heap.rows:
        reshaped = _reshaped(session, found)
        if reshaped is None:
            confidence, note = (
                "low",
                "Columns were dropped or added, and its rows cannot be read, so their size after a rewrite is unknown.",
            )
        else:
            row_bytes, exact = reshaped
    rewritten = layout.heap_pages(heap.rows, row_bytes, relation.fillfactor, page, exact=exact)
    if row_bytes > WIDE_ROW and not found.figures.reshaped:
        sizes = _sizes(session, found)
        if sizes:
            rewritten = math.ceil(heap.rows / layout.rows_per_page(sizes, relation.fillfactor, page))
        elif not exact or relation.kind == "toast":
            confidence, note = "medium", "Its rows are wide and cannot be read, so it is unknown how they fit into "
            "pages."
    return replace(
        with_rewritten(replace(relation, size_bytes=heap.pages * page), rewritten, page),
        live_bytes=round(heap.live_bytes),
        dead_bytes=round(heap.dead_bytes),
        free_bytes=round(heap.free_bytes),
        live_tuples=round(heap.rows),
        dead_tuples=round(heap.dead),
        method=method,
        confidence=confidence,
        note=note,
    )


def _all_rows(session: Session, found: Estimate, means: Means) -> _Heap:
    row = session.query(compose(sql.PGSTATTUPLE, means.schemas["pgstattuple"]), (found.relation.oid,))[0]
    page = found.figures.page_size
    pages = row.table_len // page
    if not row.tuple_count:
        dead = float(row.dead_tuple_len)
        return _Heap(pages, 0, 0, row.dead_tuple_count, dead, row.free_space, exact=True)
    mean = row.tuple_len / row.tuple_count
    dead_mean = row.dead_tuple_len / row.dead_tuple_count if row.dead_tuple_count else 0.0
    dead_bytes = row.dead_tuple_count * layout.expected(dead_mean, dead_mean.is_integer())
    # What the pages hold beside headers, line pointers, dead rows and free space bounds it from above. Among that are
    # line pointers of removed rows, but no more than would fill the free space with rows again.
    pointers = layout.LINE_POINTER * (row.tuple_count + row.dead_tuple_count)
    most = (row.table_len - pages * layout.PAGE_HEADER - pointers - row.free_space - dead_bytes) / row.tuple_count
    gone = layout.LINE_POINTER * row.free_space / mean / row.tuple_count
    least, most = (min(max(mean, bound), mean + 7) for bound in (most - gone, most))
    aligned: float = layout.align(mean)
    # A mean without a fraction is that of equal rows, or, where NULLs make rows differ, a coincidence.
    exact = mean.is_integer() and (least <= aligned <= most or not found.figures.varies)
    if not exact:
        aligned = (least + most) / 2
    return _Heap(
        pages, row.tuple_count, row.tuple_count * aligned, row.dead_tuple_count, dead_bytes, row.free_space, exact
    )


def _unseen_rows(session: Session, found: Estimate, means: Means) -> _Heap:
    """By the free space map where all rows are known to be visible, and by the rows elsewhere."""
    statement = compose(sql.PGSTATTUPLE_APPROX, means.schemas["pgstattuple_approx"])
    row = session.query(statement, (found.relation.oid,))[0]
    pages = row.table_len // found.figures.page_size
    rows, dead_bytes = float(row.approx_tuple_count), float(row.dead_tuple_len)
    pointers = layout.LINE_POINTER * (rows + row.dead_tuple_count)
    live = max(0.0, row.table_len - pages * layout.PAGE_HEADER - pointers - row.approx_free_space - dead_bytes)
    return _Heap(pages, rows, live, row.dead_tuple_count, dead_bytes, row.approx_free_space, exact=found.figures.exact)


def _some_pages(session: Session, found: Estimate, means: Means) -> _Heap:
    page = found.figures.page_size
    pages = found.relation.size_bytes // page
    blocks = sample(range(pages), found.relation.oid)
    statement = compose(sql.HEAP_PAGES.replace("{0}", "{}"), *[means.schemas["get_raw_page"]] * 3)
    row = session.query(statement, (blocks, names(session, found.relation.oid).quoted))[0]
    scale = pages / max(1, row.pages)
    return _Heap(
        pages,
        row.live * scale,
        row.live_bytes * scale,
        row.dead * scale,
        row.dead_bytes * scale,
        row.free_bytes * scale,
        exact=row.longest == row.shortest,
    )


def _sizes(session: Session, found: Estimate) -> list[int]:
    """Sizes of rows in the order in which they lie there; none when they cannot be read."""
    name = names(session, found.relation.oid)
    if not name.readable or name.has_toast:
        return []
    statement = sql.CHUNK_SIZES if found.relation.kind == "toast" else sql.ROW_SIZES
    share = _share(found)
    rows = session.query(compose(statement.format(share=share, rows=_SAMPLE_ROWS), name.nspname, name.relname))
    return [row.size for row in rows]


def _share(found: Estimate) -> float:
    """How much of a table is a sample, in per cent."""
    return min(100.0, 100.0 * SAMPLE_PAGES * found.figures.page_size / max(1, found.relation.size_bytes))


def _reshaped(session: Session, found: Estimate) -> tuple[float, bool] | None:
    """The mean aligned size of a row that is formed again, and whether all are equal; None when it cannot be read."""
    columns = session.query(sql.READABLE_COLUMNS, (found.relation.oid,))
    if not columns or not all(column.readable for column in columns):
        return None
    statement = sql.REWRITTEN_ROWS.format(
        columns=", ".join(["{}"] * len(columns)),
        bitmap=8 if found.figures.dropped and len(columns) + found.figures.dropped > 8 else 0,
        share=_share(found),
        rows=_SAMPLE_ROWS,
    )
    name, attributes = names(session, found.relation.oid), [column.attname for column in columns]
    sizes = session.query(compose(statement, *attributes, *attributes, name.nspname, name.relname))[0]
    if not sizes.rows or sizes.longest > found.figures.page_size // 4:  # else some came out of TOAST
        return None
    return float(sizes.bytes) / sizes.rows, sizes.longest == sizes.shortest
