# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that are no B-trees: hash, BRIN, GiST, SP-GiST and GIN.

How large a rebuilt hash or BRIN index is can be computed from the number of rows or pages. The others are built row by
row, so that how full their pages get depends on the operator class and on the order of the rows: there the figure rests
on densities that real builds have shown, and says `low` where that could change the verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..._postgres.connection import Session
from ..._postgres.statements import compose
from . import layout, sql
from .pages import names, sample
from .relation import Relation

_SPECIAL = 16
_GIN_SPECIAL = 8
# The share of its pages that a build fills, by operator class. Seen on PostgreSQL 15, after REINDEX.
_GIST = {
    "range_ops": 0.5, "multirange_ops": 0.5, "box_ops": 0.5, "poly_ops": 0.5, "circle_ops": 0.5, "tsvector_ops": 0.82,
    "gist_trgm_ops": 0.62, "point_ops": 0.66,
}  # fmt: skip
_GIST_USUAL, _SPGIST, _GIN = 0.6, 0.75, 0.51
_DOUBT = 0.8  # a build may fill its pages less, down to this share of what is usual
_SPGIST_DOUBT = 0.66
_SURE = 0.1  # of an index's size: if the doubts are about more, they are worth `low`
_GROWS = 1.08
_FAR = 0.25  # of an index's size, between what its pages show and what its rows let one think
_WORTH = 0.3
# https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/access/hash/hashpage.c (_hash_init)
_HASH_ITEM, _HASH_FILLFACTOR, _HASH_ONE_PHASE = 20, 75, 10
# https://github.com/postgres/postgres/blob/REL_15_STABLE/src/include/access/brin_page.h (REVMAP_PAGE_MAXITEMS)
_REVMAP_ITEM, _BRIN_PAGES_PER_RANGE = 6, 128


@dataclass(frozen=True)
class Shape:
    """What the size of a rebuilt index depends on beside its rows.

    Attributes:
        opclass: the operator class of its first key.
        width: of the first key in bytes, or None without statistics. `keys`: how many keys it has.
        null_share: of the first key, 0 to 1. Hash indexes have no entries for NULLs.
        largest_share: of the rows, that have the most common key.
        table_pages: of its table. `pages_per_range`: of a BRIN index.
    """

    opclass: str
    width: int | None
    keys: int
    null_share: float
    largest_share: float
    table_pages: int
    pages_per_range: int


def shape(row: Any) -> Shape:
    """From a row of `INDEXES`."""
    length = (row.lengths or [0])[0]
    width = length if length > 0 else (row.widths or [None])[0]
    return Shape(
        opclass=row.opclass or "",
        width=width,
        keys=len(row.lengths or []),
        null_share=(row.null_shares or [0.0])[0] or 0.0,
        largest_share=max(row.common or [0.0]),
        table_pages=row.table_pages or 0,
        pages_per_range=row.pages_per_range or _BRIN_PAGES_PER_RANGE,
    )


# --- how large a rebuilt index is, in pages


def hash_pages(rows: float, fillfactor: int, largest_share: float, page_size: int) -> int:
    """Meta page, buckets, a bitmap, and the overflow pages of a key that fills more than its bucket."""
    per_bucket = max(10, page_size * fillfactor // 100 // _HASH_ITEM)
    wanted = max(2, math.ceil(rows / per_bucket))
    group = (wanted - 1).bit_length()
    buckets = 1 << group
    if group >= _HASH_ONE_PHASE:  # beyond 512 buckets they come by quarters
        half = 1 << (group - 1)
        buckets = half + (half // 4) * (((wanted - 1) >> (group - 3)) % 4 + 1)
    to_a_page = (page_size - layout.PAGE_HEADER - _SPECIAL) // _HASH_ITEM
    return 2 + buckets + int(rows * largest_share) // to_a_page


def brin_pages(shaped: Shape, page_size: int) -> int:
    """Meta page, the map of ranges, and a summary of two values for each range."""
    ranges = math.ceil(shaped.table_pages / shaped.pages_per_range)
    room = page_size - layout.PAGE_HEADER - _SPECIAL
    summary = layout.align(8 + shaped.keys * 2 * layout.align(shaped.width or 8)) + layout.LINE_POINTER
    return 1 + max(1, math.ceil(ranges / (room // _REVMAP_ITEM))) + max(1, math.ceil(ranges / (room // summary)))


def _grown_pages(used: float, density: float, page_size: int) -> float:
    return used / density / (page_size - layout.PAGE_HEADER - _SPECIAL)


def _gist_density(shaped: Shape) -> float:
    return _GIST.get(shaped.opclass, _GIST_USUAL)


# --- verdicts


def _examined(
    relation: Relation, pages: float, most_pages: float, page_size: int, method: str, *, seen: bool = False
) -> Relation:
    """The relation with its bloat, if a rebuild leaves `pages`, and `most_pages` at most.

    Args:
        seen: how full its pages are is known, and not only how many rows there are.
    """
    size_pages = relation.size_bytes / page_size
    rewritten = min(size_pages, max(1, math.ceil(pages)))
    bloat = relation.size_bytes - round(rewritten) * page_size
    doubt = (min(size_pages, most_pages) - rewritten) / size_pages if size_pages else 0.0
    note = ""
    if seen and pages > size_pages * _GROWS:
        note = "A rebuild would make it larger: its pages are fuller than after a rebuild."
    elif doubt > _SURE:
        least = max(0.0, 1 - most_pages / size_pages)
        note = f"It may be only {least:.0%}: the fill of the pages after a rebuild varies."
    return replace(
        relation,
        bloat_bytes=max(0, bloat),
        bloat_ratio=round(max(0, bloat) / relation.size_bytes, 4) if relation.size_bytes else 0.0,
        method=method,
        confidence="low" if doubt > _SURE else "medium",
        note=note,
    )


def estimate(relation: Relation, shaped: Shape, rows: float | None, page_size: int, doubts: str) -> Relation:
    """From statistics alone. Where the number of rows is doubted, the confidence is low."""
    if relation.access_method == "brin":
        pages = brin_pages(shaped, page_size)
        found = _examined(relation, pages, pages, page_size, "estimate")
    elif rows is None:
        return replace(relation, note="The number of rows of its table is unknown.")
    elif relation.access_method == "hash":
        pages = hash_pages(rows * (1 - shaped.null_share), relation.fillfactor, shaped.largest_share, page_size)
        found = _examined(relation, pages, pages, page_size, "estimate")
    elif shaped.width is None:
        return replace(relation, note="Statistics of its keys are missing or hidden from this login.")
    else:
        found = _from_rows(relation, shaped, rows, page_size)
    return replace(found, confidence="low", note=f"{doubts} {found.note}".strip()) if doubts else found


def _from_rows(relation: Relation, shaped: Shape, rows: float, page_size: int) -> Relation:
    width = float(shaped.width or 0)
    if relation.access_method == "spgist":
        pages = _grown_pages(rows * (20 + layout.align(width)), _SPGIST, page_size)
        return _examined(relation, pages, pages / _SPGIST_DOUBT, page_size, "estimate")
    if relation.access_method == "gist":
        pages = _grown_pages(rows * (12 + layout.align(width)), _gist_density(shaped), page_size)
    elif relation.access_method == "gin":  # a value has several entries, which share what they have in common
        pages = _grown_pages(rows * (0.75 * width + 8), _GIN, page_size)
    else:
        return replace(relation, note=f"The size of a rebuilt {relation.access_method} index is unknown.")
    found = _examined(relation, pages, pages, page_size, "estimate")
    if found.note:
        return replace(found, confidence="low")
    return replace(found, confidence="low", note="Estimated only from the number and the width of the values.")


# --- measurements


def measure(
    session: Session, relation: Relation, shaped: Shape, rows: float | None, schemas: Any, method: str, page_size: int
) -> Relation:
    """By what lies in its pages.

    Raises:
        QueryFailed: it was dropped, it is locked, or the time was up.
    """
    if method == "pgstathashindex":
        row = session.query(compose(sql.PGSTATHASHINDEX, schemas["pgstathashindex"]), (relation.oid,))[0]
        pages = hash_pages(float(row.live_items), relation.fillfactor, shaped.largest_share, page_size)
        found = replace(_examined(relation, pages, pages, page_size, method), live_tuples=int(row.live_items))
        return replace(found, confidence="high")
    if method == "pgstattuple":
        row = session.query(compose(sql.PGSTATTUPLE, schemas["pgstattuple"]), (relation.oid,))[0]
        size = int(row.table_len)
        used = size * (1 - (layout.PAGE_HEADER + _SPECIAL) / page_size) - row.free_space - row.dead_tuple_len
        density = _gist_density(shaped)
        found = _examined(
            replace(relation, size_bytes=size),
            _grown_pages(used, density, page_size),
            _grown_pages(used, density * _DOUBT, page_size),
            page_size,
            method,
            seen=True,
        )
        return replace(found, free_bytes=int(row.free_space), live_bytes=round(used))
    found = _gin(session, relation, schemas, method, page_size)
    return (
        found
        if rows is None or shaped.width is None
        else _compared(found, _from_rows(relation, shaped, rows, page_size))
    )


def _compared(by_pages: Relation, by_rows: Relation) -> Relation:
    """The pages show what is certain. Where that is little, and rows suggest much more, that is the figure."""
    least, likely = by_pages.bloat_ratio or 0.0, by_rows.bloat_ratio or 0.0
    if likely - least <= _FAR:
        return by_pages
    if least >= _WORTH:
        return replace(
            by_pages,
            note=f"{by_pages.note} Estimated from the number and the width of the values, it is about {likely:.0%}.",
        )
    note = f"Estimated from the number and the width of the values; its pages show at least {least:.0%}."
    return replace(by_rows, method=by_pages.method, confidence="low", note=note)


def _gin(session: Session, relation: Relation, schemas: Any, method: str, page_size: int) -> Relation:
    """By free pages, and what the others hold. Entries of values that no row has any more stay until a rebuild."""
    pages = relation.size_bytes // page_size
    room = page_size - layout.PAGE_HEADER - _GIN_SPECIAL
    if method == "pageinspect":
        blocks = sample(range(1, pages), relation.oid)
        statement = compose(sql.GIN_PAGES.replace("{0}", "{}"), *[schemas["get_raw_page"]] * 3)
        row = session.query(statement, (blocks, names(session, relation.oid).quoted))[0]
        scale = max(0, pages - 1) / max(1, row.pages)
        used, free = float(row.used) * scale, float(row.unused) * scale
    else:
        row = session.query(compose(sql.FREE_PAGES, schemas["pg_freespace"]), (relation.oid,))[0]
        free = float(row.pages)
        used = max(0.0, pages - free) * room
    rewritten = used / _GIN / room + 1
    found = _examined(relation, rewritten, rewritten, page_size, method, seen=method == "pageinspect")
    unseen = "the fill of its pages" if method != "pageinspect" else "entries of values that no row has any more"
    note = found.note or f"The figure is a lower bound. It does not account for {unseen}."
    return replace(found, note=note, free_bytes=round(free * page_size), live_bytes=round(used))
