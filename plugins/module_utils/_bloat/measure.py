# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second stage: look into the pages of one relation, by the best means that the server and the budget allow.

What is read from the pages (rows, dead rows, free space) goes through the same arithmetic as the estimate.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._db import Session, compose
from .._sql import bloat as sql
from . import layout
from .estimate import WIDE_ROW, Estimate, with_rewritten
from .layout import Group
from .relation import Relation

_SAMPLE_PAGES = 2000
_SAMPLE_ROWS = 20_000
_WORTH_SKIPPING = 0.5  # of the pages all-visible: then pgstattuple_approx reads less than half of the table


@dataclass(frozen=True)
class Means:
    """Which functions the login may call, and in which schema each is."""

    schemas: Mapping[str, str]

    def have(self, *functions: str) -> bool:
        """Whether all of them are there."""
        return all(each in self.schemas for each in functions)

    @property
    def can_sample(self) -> bool:
        """Whether single pages can be read."""
        return self.have("get_raw_page", "heap_page_items", "page_header", "bt_page_stats")

    @property
    def missing(self) -> str:
        """What would allow more, as advice; empty when all is there."""
        if self.have("pgstattuple", "pgstatindex"):
            return ""
        return (
            "Only estimated: CREATE EXTENSION pgstattuple, and GRANT pg_stat_scan_tables to the login, allow measuring."
        )


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


def means(session: Session) -> Means:
    """Ask which functions are at hand."""
    return Means({row.proname: row.nspname for row in session.query(sql.MEANS)})


def method_for(found: Estimate, means_: Means, bytes_left: float, visible_share: float) -> tuple[str, float]:
    """The method to measure a relation with and the bytes that it reads, or `none`."""
    relation, size = found.relation, found.relation.size_bytes
    sample = min(size, _SAMPLE_PAGES * found.figures.page_size)
    if found.figures.locked or not size:
        return "none", 0
    whole = "pgstatindex" if relation.kind == "index" else "pgstattuple"
    if means_.have(whole) and size <= bytes_left:
        return whole, size
    if means_.can_sample and sample <= bytes_left:
        return "pageinspect", sample
    unseen = size * (1 - visible_share)
    is_table = relation.kind != "index" and relation.kind != "toast"
    if is_table and means_.have("pgstattuple_approx") and visible_share >= _WORTH_SKIPPING and unseen <= bytes_left:
        return "pgstattuple_approx", unseen
    return "none", 0


def measure(session: Session, found: Estimate, means_: Means, method: str, live_share: float | None) -> Relation:
    """Measure one relation. `live_share` is, of an index, the share of its entries whose rows live, when it is known.

    Raises:
        QueryFailed: it was dropped, it is locked, or the time was up.
    """
    if found.relation.kind == "index":
        return _measure_index(session, found, means_, method, live_share)
    return _measure_heap(session, found, means_, method)


# --- tables


def _measure_heap(session: Session, found: Estimate, means_: Means, method: str) -> Relation:
    relation, page = found.relation, found.figures.page_size
    look = {"pgstattuple": _all_rows, "pgstattuple_approx": _unseen_rows, "pageinspect": _some_pages}[method]
    heap = look(session, found, means_)
    row_bytes = heap.live_bytes / heap.rows if heap.rows else 0.0
    exact, note = heap.exact, ""
    sure = method == "pgstattuple" or (method == "pageinspect" and heap.pages <= _SAMPLE_PAGES)
    confidence = "high" if sure else "medium"
    if found.figures.reshaped and heap.rows:
        reshaped = _reshaped(session, found)
        if reshaped is None:
            confidence, note = (
                "low",
                "Columns were dropped or added, and its rows cannot be read to see what they become.",
            )
        else:
            row_bytes, exact = reshaped
    rewritten = layout.heap_pages(heap.rows, row_bytes, relation.fillfactor, page, exact=exact)
    if row_bytes > WIDE_ROW and not found.figures.reshaped:
        sizes = _sizes(session, found)
        if sizes:
            rewritten = math.ceil(heap.rows / layout.rows_per_page(sizes, relation.fillfactor, page))
        elif not exact or relation.kind == "toast":
            confidence, note = "medium", "Its rows are wide, and cannot be read to see how they fit into pages."
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


def _all_rows(session: Session, found: Estimate, means_: Means) -> _Heap:
    row = session.query(compose(sql.PGSTATTUPLE, means_.schemas["pgstattuple"]), (found.relation.oid,))[0]
    page = found.figures.page_size
    pages = row.table_len // page
    if not row.tuple_count:
        dead = float(row.dead_tuple_len)
        return _Heap(pages, 0, 0, row.dead_tuple_count, dead, row.free_space, exact=True)
    mean = row.tuple_len / row.tuple_count
    exact = row.tuple_len % row.tuple_count == 0
    aligned = layout.expected(mean, exact)
    dead_mean = row.dead_tuple_len / row.dead_tuple_count if row.dead_tuple_count else 0.0
    dead_bytes = row.dead_tuple_count * layout.expected(dead_mean, dead_mean.is_integer())
    # What the pages hold beside headers, line pointers, dead rows and free space bounds it from above.
    pointers = layout.LINE_POINTER * (row.tuple_count + row.dead_tuple_count)
    most = (row.table_len - pages * layout.PAGE_HEADER - pointers - row.free_space - dead_bytes) / row.tuple_count
    if mean <= most < aligned:
        aligned = most
    return _Heap(
        pages, row.tuple_count, row.tuple_count * aligned, row.dead_tuple_count, dead_bytes, row.free_space, exact
    )


def _unseen_rows(session: Session, found: Estimate, means_: Means) -> _Heap:
    """By the free space map where all rows are known to be visible, and by the rows elsewhere."""
    statement = compose(sql.PGSTATTUPLE_APPROX, means_.schemas["pgstattuple_approx"])
    row = session.query(statement, (found.relation.oid,))[0]
    pages = row.table_len // found.figures.page_size
    rows, dead_bytes = float(row.approx_tuple_count), float(row.dead_tuple_len)
    pointers = layout.LINE_POINTER * (rows + row.dead_tuple_count)
    live = max(0.0, row.table_len - pages * layout.PAGE_HEADER - pointers - row.approx_free_space - dead_bytes)
    return _Heap(pages, rows, live, row.dead_tuple_count, dead_bytes, row.approx_free_space, exact=found.figures.exact)


def _some_pages(session: Session, found: Estimate, means_: Means) -> _Heap:
    page = found.figures.page_size
    pages = found.relation.size_bytes // page
    blocks = _sample(range(pages), found.relation.oid)
    statement = compose(sql.HEAP_PAGES.replace("{0}", "{}"), *[means_.schemas["get_raw_page"]] * 3)
    row = session.query(statement, (blocks, _quoted(session, found.relation.oid)))[0]
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
    oid = found.relation.oid
    if not session.value(sql.CAN_READ, (oid,)):
        return []
    statement = sql.CHUNK_SIZES if found.relation.kind == "toast" else sql.ROW_SIZES
    share = _share(found)
    rows = session.query(compose(statement.format(share=share, rows=_SAMPLE_ROWS), *_name(session, oid)))
    sizes = [row.size for row in rows]
    toasted = found.figures.can_toast and max(sizes, default=0) > found.figures.page_size // 4
    return [] if toasted else sizes


def _share(found: Estimate) -> float:
    """How much of a table is a sample, in per cent."""
    return min(100.0, 100.0 * _SAMPLE_PAGES * found.figures.page_size / max(1, found.relation.size_bytes))


def _reshaped(session: Session, found: Estimate) -> tuple[float, bool] | None:
    """The mean aligned size of a row that is formed anew, and whether all are equal; None when it cannot be read."""
    columns = session.query(sql.READABLE_COLUMNS, (found.relation.oid,))
    if not columns or not all(column.readable for column in columns):
        return None
    statement = sql.REWRITTEN_ROWS.format(
        columns=", ".join(["{}"] * len(columns)),
        bitmap=8 if found.figures.dropped and len(columns) + found.figures.dropped > 8 else 0,
        share=_share(found),
        rows=_SAMPLE_ROWS,
    )
    names = [column.attname for column in columns]
    sizes = session.query(compose(statement, *names, *names, *_name(session, found.relation.oid)))[0]
    if not sizes.rows or sizes.longest > found.figures.page_size // 4:  # else some came out of TOAST
        return None
    return float(sizes.bytes) / sizes.rows, sizes.longest == sizes.shortest


# --- indexes


def _measure_index(session: Session, found: Estimate, means_: Means, method: str, live_share: float | None) -> Relation:
    relation, figures, page = found.relation, found.figures, found.figures.page_size
    usable = page - layout.PAGE_HEADER - 16
    if method == "pgstatindex":
        row = session.query(compose(sql.PGSTATINDEX, means_.schemas["pgstatindex"]), (relation.oid,))[0]
        size, leaves = int(row.index_size), float(row.leaf_pages)
        density = float(row.avg_leaf_density)
        used = leaves * usable * density / 100 if leaves and not math.isnan(density) else 0.0
    else:
        pages = relation.size_bytes // page
        blocks = _sample(range(1, pages), relation.oid)
        statement = compose(sql.BTREE_PAGES.replace("{0}", "{}"), means_.schemas["bt_page_stats"])
        row = session.query(statement, (pages <= 2, blocks, _quoted(session, relation.oid)))[0]
        scale = len(range(1, pages)) / max(1, row.pages)
        size, leaves = relation.size_bytes, row.leaves * scale
        used = (row.leaf_bytes - (page - usable) * row.leaves) * scale
    entries = (figures.rows or 0.0) + figures.dead
    groups, exact = _groups_from_pages(found, used, leaves, entries, live_share)
    rewritten = layout.btree_pages(groups, relation.fillfactor, page, share=figures.share, exact=exact)
    sure = method == "pgstatindex" or relation.size_bytes <= _SAMPLE_PAGES * page
    return replace(
        with_rewritten(replace(relation, size_bytes=size), rewritten, page),
        live_bytes=round(used * (1.0 if live_share is None else live_share)),
        dead_bytes=round(used * (0.0 if live_share is None else 1 - live_share)),
        free_bytes=round(leaves * usable - used),
        method=method,
        confidence="high" if sure else "medium",
        note="",
    )


def _groups_from_pages(
    found: Estimate, used: float, leaves: float, entries: float, live_share: float | None
) -> tuple[list[Group], bool]:
    """What a rebuild would have to place, as the leaves show it; every leaf but the last has a high key besides."""
    figures = found.figures
    if used <= 0 or entries <= 0:
        return [], True
    living = figures.rows or 0.0
    mean = used / (entries + max(0.0, leaves - 1))  # with its line pointer
    data = used - max(0.0, leaves - 1) * mean
    share = living / entries if live_share is None else live_share
    exact = figures.exact and figures.row_bytes is not None
    if not figures.share:
        size = float(figures.row_bytes) if exact and figures.row_bytes else mean - layout.LINE_POINTER
        return [Group(data * share / (size + layout.LINE_POINTER), 1, size)], exact or _is_whole(size)
    groups = list(figures.groups)
    if figures.row_bytes is not None and not figures.exact and mean >= figures.row_bytes:
        # Keys hardly repeat: the pages know their width better than the statistics do.
        groups = [replace(each, entry_bytes=mean - layout.LINE_POINTER) for each in groups]
    reckoned = layout.shared_bytes(groups, figures.page_size)
    if not groups or reckoned > data:
        # Entries share more than the statistics expect; dead ones do not count, but they may be what is shared.
        factor = data / reckoned if groups else 0.0
        if not groups:
            size = mean - layout.LINE_POINTER
            return [Group(data * share / mean, 1, size)], _is_whole(size)
        return [replace(each, keys=each.keys * factor) for each in groups], exact
    return groups, exact


def _is_whole(size: float) -> bool:
    return abs(size - round(size / 8) * 8) < 0.25


# --- names and samples


def _sample(blocks: range, seed: int) -> list[int]:
    """All pages, or so many of them by chance; the same ones each time, so that two reports agree."""
    if len(blocks) <= _SAMPLE_PAGES:
        return list(blocks)
    return sorted(random.Random(seed).sample(blocks, _SAMPLE_PAGES))  # noqa: S311 - a sample, no secret


def _name(session: Session, oid: int) -> tuple[str, str]:
    row = session.query(sql.NAME, (oid,))[0]
    return row.nspname, row.relname


def _quoted(session: Session, oid: int) -> Any:
    return session.value(sql.QUOTED_NAME, (oid,))
