# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How PostgreSQL fills pages: pure arithmetic, in bytes of one page and in pages.

https://www.postgresql.org/docs/current/storage-page-layout.html
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAGE_HEADER = 24
LINE_POINTER = 4
_TUPLE_HEADER = 23
_ALIGNMENTS = {"c": 1, "s": 2, "i": 4, "d": 8}
_SHORT_VARLENA = 127  # longer ones have a header of four bytes, which is aligned
_TID = 6
_BTREE_SPECIAL = 16
_DEFAULT_FILLFACTORS = {"heap": 100, "btree": 90, "hash": 75, "gist": 90, "spgist": 80}
_INNER_FILLFACTOR = 70  # of the pages above the leaves


def align(size: float, to: int = 8) -> int:
    """The next multiple."""
    return math.ceil(size / to) * to


def expected(size: float, exact: bool) -> float:
    """The expected aligned size of things of this mean size, whose sizes vary unless `exact` says that they do not."""
    return align(size) if exact else size + 3.5


def default_fillfactor(access_method: str) -> int:
    """In per cent."""
    return _DEFAULT_FILLFACTORS.get(access_method, 100)


@dataclass(frozen=True)
class BloatColumn:
    """One column of a row or an index entry: what `pg_attribute` and `pg_stats` tell.

    `length` is that of the type, negative when it varies; `width` the mean stored size, or None without statistics.
    """

    length: int
    align: str
    width: int | None
    null_share: float = 0.0
    plain: bool = False  # stored with a header of four bytes even when it is short

    @property
    def size(self) -> float | None:
        """The mean size of a value that is there."""
        return self.length if self.length >= 0 else self.width

    @property
    def alignment(self) -> int:
        """Short values of varying length are not aligned."""
        short = self.length == -1 and not self.plain and (self.width or 0) < _SHORT_VARLENA
        return 1 if short else _ALIGNMENTS[self.align]


def _data_size(columns: Iterable[BloatColumn]) -> float:
    """The mean size of the columns one after the other, padding between them included."""
    at = 0.0
    for column in columns:
        share = 1 - column.null_share
        if share > 0:
            step = column.alignment
            padding = -at % step if at == int(at) else (step - 1) / 2
            at += share * (padding + (column.size or 0.0))
    return at


def _is_exact(columns: Sequence[BloatColumn]) -> bool:
    return all(column.length >= 0 and column.null_share in (0.0, 1.0) for column in columns)


def row_size(columns: Sequence[BloatColumn], *, some_dropped: bool = False) -> float:
    """The mean aligned size of a row, its header included, its line pointer not.

    A dropped column is a NULL in every new row, and with a NULL comes the bitmap of all columns.
    """
    bitmap = math.ceil(len(columns) / 8)
    with_nulls = 1.0 if some_dropped else 1 - math.prod(1 - column.null_share for column in columns)
    header = with_nulls * align(_TUPLE_HEADER + bitmap) + (1 - with_nulls) * align(_TUPLE_HEADER)
    return header + expected(_data_size(columns), _is_exact(columns))


def entry_size(columns: Sequence[BloatColumn]) -> float:
    """The mean aligned size of an entry of a B-tree, its line pointer not included; a bitmap of NULLs takes 8 bytes."""
    with_nulls = 1 - math.prod(1 - column.null_share for column in columns)
    return 8 + 8 * with_nulls + expected(_data_size(columns), _is_exact(columns))


def heap_pages(rows: float, row_bytes: float, fillfactor: int, page_size: int, *, exact: bool) -> int:
    """Pages of a table that was rewritten: each row goes where the one before went, or begins a new page.

    `exact` says that all rows have this aligned size; otherwise half a row's room is left at the end of a page.
    https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/access/heap/rewriteheap.c (raw_heap_insert)
    """
    if rows < 0.5:
        return 0
    room = page_size - PAGE_HEADER - page_size * (100 - fillfactor) // 100
    item = row_bytes + LINE_POINTER
    if exact:
        return math.ceil(round(rows) / max(1, room // item))
    return math.ceil(rows / max(1.0, room / item - 0.5))


def rows_per_page(sizes: Sequence[int], fillfactor: int, page_size: int) -> float:
    """How many rows of these sizes a page holds when they are written one after the other."""
    room = left = page_size - PAGE_HEADER - page_size * (100 - fillfactor) // 100
    pages = 0
    for size in sizes:
        item = align(size) + LINE_POINTER
        if item > left and left < room:
            pages += 1
            left = room
        left -= item
    return len(sizes) / (pages + (room - left) / room)


@dataclass(frozen=True)
class Group:
    """Keys of a B-tree that occur equally often: how many, how often each, and the aligned size of an entry."""

    keys: float
    each: float
    entry_bytes: float


def _entries_per_page(item: float, rest: float, free_wanted: float, page_size: int, *, exact: bool) -> float:
    """How many items with their line pointers stay on a page of a B-tree that is built.

    A page is full when less than `free_wanted` would be left; then its last item moves on and leaves its key as the
    high key. `rest` is what that truncation gives back: the row pointers of a shared entry.
    https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/access/nbtree/nbtsort.c (_bt_buildadd)
    """
    room = page_size - PAGE_HEADER - _BTREE_SPECIAL - 2 * LINE_POINTER
    fits = (room - item - 8 + LINE_POINTER) / item + 1  # as long as another one and a row pointer have room
    count = math.floor(fits) if exact else fits
    if rest < free_wanted:
        full = (room + rest - free_wanted) / item
        count = min(count, math.ceil(full - 1e-9) if exact else full + 0.5)
    return max(1.0, count - 1)


def _longest_list(page_size: int) -> int:
    return (page_size // 10 // 8 * 8 - LINE_POINTER) // 8 * 8


def shared_group(group: Group, page_size: int) -> tuple[float, float]:
    """Of one key whose entries are shared: how many full lists of rows, and the bytes of the entry for what remains.

    https://github.com/postgres/postgres/blob/REL_15_STABLE/src/backend/access/nbtree/nbtdedup.c
    """
    per_list = max(1, (_longest_list(page_size) - math.ceil(group.entry_bytes)) // _TID)
    full, over = divmod(group.each, per_list)
    if over < 1e-9:
        return full, 0.0
    whole = math.floor(over)
    sizes = [
        (align(group.entry_bytes + _TID * many) if many > 1 else group.entry_bytes) + LINE_POINTER if many else 0.0
        for many in (whole, whole + 1)
    ]
    return full, sizes[0] + (sizes[1] - sizes[0]) * (over - whole)


def shared_bytes(groups: Iterable[Group], page_size: int) -> float:
    """The bytes of all entries with their line pointers when equal keys share entries as far as they can."""
    total = 0.0
    for group in groups:
        full, over = shared_group(group, page_size)
        total += group.keys * (full * (_longest_list(page_size) + LINE_POINTER) + over)
    return total


def btree_pages(groups: Sequence[Group], fillfactor: int, page_size: int, *, share: bool, exact: bool) -> int:
    """Pages of a B-tree that was rebuilt, its meta page included.

    `share` says whether equal keys share entries, `exact` that all entries have one size.
    """
    free_wanted = page_size * (100 - fillfactor) // 100
    leaves = 0.0
    for group in groups:
        item = group.entry_bytes + LINE_POINTER
        per_page = _entries_per_page(item, 0, free_wanted, page_size, exact=exact)
        if not share or group.each <= 1:
            leaves += group.keys * group.each / per_page
            continue
        full, over = shared_group(group, page_size)
        if full:
            longest = _longest_list(page_size) + LINE_POINTER
            rest = longest - LINE_POINTER - group.entry_bytes
            leaves += group.keys * full / _entries_per_page(longest, rest, free_wanted, page_size, exact=True)
        leaves += group.keys * over / (per_page * item)
    if leaves < 1e-9:
        return 1
    level = pages = math.ceil(leaves - 1e-6)
    free_wanted = page_size * (100 - _INNER_FILLFACTOR) // 100
    # Above the leaves stand keys of the leaves; the first item of a page there has none.
    entry = sum(each.keys * each.entry_bytes for each in groups) / sum(each.keys for each in groups)
    per_inner = max(2, 1 + int(_entries_per_page(entry + LINE_POINTER, 0, free_wanted, page_size, exact=False)))
    while level > 1:
        level = math.ceil(level / per_inner)
        pages += level
    return pages + 1
