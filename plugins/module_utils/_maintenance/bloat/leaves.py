# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a B-tree by its leaves: what lies in them is what a rebuild has to place.

How far equal keys would share entries then is read from the pages, if the login may. Statistics tell it only where
they have seen every key: an underestimated number of keys would promise what no rebuild can keep. Otherwise the figure
is what is certain, that entries share no more than they do, with a note when more may be hoped for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..._postgres.connection import Session
from ..._postgres.statements import compose
from . import layout, sql
from .estimate import NOTICEABLE, WIDE_ROW, Estimate, RewriteFigures, with_rewritten
from .layout import Group
from .pages import SAMPLE_PAGES, Means, names, sample
from .relation import Relation

_KEY_PAGES = 500
_MOST_MORE = 1.2  # times as many entries as are known of: more of them, and the counts are of something else
_SPECIAL = 16
_PLAIN_ENTRY = 16  # of one key of up to eight bytes: what is assumed where nothing is known


@dataclass(frozen=True)
class _Leaves:
    """The leaves together: their number, and the bytes in them that are used, high keys and line pointers among them.

    `keys` are how often keys stand on the same page, or empty; `all_seen` says that this is of all pages.
    """

    size_bytes: int
    count: float
    used: float
    keys: tuple[Group, ...] = ()
    all_seen: bool = True


@dataclass(frozen=True)
class _Content:
    """What a rebuild has to place. `share` says whether equal keys have still to be brought together."""

    groups: Sequence[Group]
    share: bool
    exact: bool


def measure(session: Session, found: Estimate, means: Means, method: str) -> Relation:
    """Measure one index.

    Raises:
        QueryFailed: it was dropped, it is locked, or the time was up.
    """
    usable = found.figures.page_size - layout.PAGE_HEADER - _SPECIAL
    leaves = _look(session, found, means, method, usable)
    if not found.figures.seen and _entries(found.figures, leaves) > _MOST_MORE * _expected(found.figures):
        found = replace(found, figures=replace(found.figures, rows=None, dead=0.0, least_dead=0.0, groups=(), hoped=()))
    figures = found.figures
    most, least = _live_shares(figures, leaves)
    certain = _rebuilt(found, leaves, _content(found, leaves, most))
    hoped = _rebuilt(found, leaves, _content(found, leaves, least, hoping=True))
    confidence, note = _examine(found, leaves, method, certain.bloat_ratio or 0.0, hoped.bloat_ratio or 0.0)
    return replace(
        certain,
        live_tuples=None if figures.rows is None else round(figures.rows),
        live_bytes=round(leaves.used * most),
        dead_bytes=round(leaves.used * (1 - most)),
        free_bytes=round(leaves.count * usable - leaves.used),
        method=method,
        confidence=confidence,
        note=note,
    )


def _live_shares(figures: RewriteFigures, leaves: _Leaves) -> tuple[float, float]:
    """Which share of the entries is of live rows, at most and at least."""
    if figures.rows is None or _expected(figures) <= 0:
        return 1.0, 1.0
    most = figures.rows / (figures.rows + figures.least_dead) if figures.rows else 0.0
    if (
        not figures.seen and figures.rows
    ):  # those that statistics call dead may have been removed, or never been entered
        most = 1.0
    least = figures.rows / (figures.rows + figures.dead)
    if figures.seen and (_is_fixed(figures) or leaves.keys):
        told = min(1.0, figures.rows / max(1.0, _entries(figures, leaves)))
        most = least = told if leaves.all_seen else min(most, max(least, told))
    return most, least


def _is_fixed(figures: RewriteFigures) -> bool:
    """Whether each entry is of one row, and all have the same size."""
    return figures.exact and figures.row_bytes is not None and not figures.share


def _expected(figures: RewriteFigures) -> float:
    """How many entries there are by what is known of the table."""
    return (figures.rows or 0.0) + figures.dead


def _entries(figures: RewriteFigures, leaves: _Leaves) -> float:
    """How many entries there are by what is known of the leaves: at least, if equal keys share them or sizes differ."""
    if leaves.keys:
        return sum(each.keys * each.each for each in leaves.keys)
    largest = figures.row_bytes if figures.exact and figures.row_bytes else figures.page_size / 3
    return leaves.used / (largest + layout.LINE_POINTER) - max(0.0, leaves.count - 1)


def _look(session: Session, found: Estimate, means: Means, method: str, usable: int) -> _Leaves:
    """The server reports a page's free space without the line pointer of one more entry, as if that was in use."""
    relation, figures, page = found.relation, found.figures, found.figures.page_size
    pages = relation.size_bytes // page
    name = names(session, relation.oid).quoted
    if method == "pgstatindex":
        row = session.query(compose(sql.PGSTATINDEX, means.schemas["pgstatindex"]), (relation.oid,))[0]
        density = float(row.avg_leaf_density)
        leaves = float(row.leaf_pages)
        used = leaves * (usable * density / 100 - layout.LINE_POINTER) if density > 0 else 0.0  # not a number if empty
        size = int(row.index_size)
    else:
        blocks = sample(range(1, pages), relation.oid)
        statement = compose(sql.BTREE_PAGES.replace("{0}", "{}"), means.schemas["bt_page_stats"])
        row = session.query(statement, (pages <= 2, blocks, name))[0]
        scale = len(range(1, pages)) / max(1, row.pages)
        size, leaves = relation.size_bytes, row.leaves * scale
        used = (row.leaf_bytes - (page - usable + layout.LINE_POINTER) * row.leaves) * scale
        used = max(0.0, used)
    seen = _Leaves(size, leaves, used)
    if _is_fixed(figures) or not used or not means.can_see_keys:
        return seen
    blocks = sample(range(1, pages), relation.oid, _KEY_PAGES)
    statement = compose(sql.LEAF_KEYS.replace("{0}", "{}"), *[means.schemas["bt_page_items"]] * 2)
    rows = session.query(statement, (blocks, name, pages <= 2, name))
    if not rows or not rows[0].used:
        return seen
    scale = used / rows[0].used
    groups = tuple(Group(each.keys * scale, float(each.rows), float(each.entry)) for each in rows)
    return replace(seen, keys=groups, all_seen=len(blocks) == len(range(1, pages)))


def _content(found: Estimate, leaves: _Leaves, live_share: float, *, hoping: bool = False) -> _Content:
    figures = found.figures
    if leaves.keys:
        keys = _thinned(leaves.keys, live_share)
        return _Content(keys, figures.share, exact=len({each.entry_bytes for each in keys}) == 1)
    if leaves.used <= 0:
        return _Content((), share=False, exact=True)
    size = _entry_bytes(found.figures, leaves)
    item = size + layout.LINE_POINTER
    data = leaves.used - max(0.0, leaves.count - 1) * item  # every leaf but the last has a high key besides
    live = data * live_share
    groups, hoped, exact = figures.groups, figures.hoped, figures.exact
    if figures.row_bytes is not None and not exact and item >= figures.row_bytes:
        # Keys hardly repeat: the pages know their width better than the statistics do.
        exact = _is_whole(size)
        groups, hoped = (
            tuple(replace(each, entry_bytes=size) for each in known) for known in (figures.groups, figures.hoped)
        )
    if figures.exact:  # dead entries may be what is shared
        live = max(live, min(data, layout.shared_bytes(hoped, figures.page_size)))
    told = hoped if hoping else groups
    is_told = figures.share and bool(told) and (hoping or figures.certain)
    if is_told and layout.shared_bytes(told, figures.page_size) < live:
        return _Content(told, share=True, exact=exact)
    return _Content([Group(live / item, 1, size)], share=False, exact=_is_whole(size))


def _entry_bytes(figures: RewriteFigures, leaves: _Leaves) -> float:
    """The mean size of an entry, without its line pointer: as the pages show it, unless all have the same size."""
    entries = _expected(figures)
    if figures.row_bytes is not None and (entries <= 0 or _is_fixed(figures)):
        return figures.row_bytes
    if entries <= 0:
        return float(_PLAIN_ENTRY)
    return max(1.0, leaves.used / (entries + max(0.0, leaves.count - 1)) - layout.LINE_POINTER)


def _thinned(groups: Sequence[Group], live_share: float) -> list[Group]:
    """What is left of the keys when only this share of the rows, by chance, is."""
    if live_share >= 1:
        return list(groups)
    found = []
    for group in groups:
        some_left = 1 - (1 - live_share) ** group.each
        if some_left > 0:
            found.append(Group(group.keys * some_left, group.each * live_share / some_left, group.entry_bytes))
    return found


def _rebuilt(found: Estimate, leaves: _Leaves, content: _Content) -> Relation:
    relation, page = replace(found.relation, size_bytes=leaves.size_bytes), found.figures.page_size
    pages = layout.btree_pages(content.groups, relation.fillfactor, page, share=content.share, exact=content.exact)
    return with_rewritten(relation, pages, page)


def _examine(found: Estimate, leaves: _Leaves, method: str, certain: float, hoped: float) -> tuple[str, str]:
    """How well the figure is known, and what is not."""
    figures, size = found.figures, leaves.size_bytes
    if leaves.used > 0 and _expected(figures) <= 0:
        return "low", "The number of its entries of live rows is unknown."
    if figures.lost:
        return "low", "Its table's rows were not counted since the server's statistics were reset or lost."
    if hoped - certain > NOTICEABLE:
        if figures.least_dead < figures.dead or (not figures.seen and figures.dead):
            condition = "each dead row of its table has an entry"
        else:
            condition = "its keys repeat as often as the statistics suggest"
        return (
            "low" if hoped - certain > certain else "medium",
            f"The figure is a lower bound. It would be {hoped:.0%} if {condition}.",
        )
    if method != "pgstatindex" and size > SAMPLE_PAGES * figures.page_size:
        return "medium", ""
    if figures.share and not leaves.all_seen:
        return "medium", "The number of equal keys was estimated from a sample of its pages."
    if figures.share and not leaves.keys and not figures.hoped:
        return "medium", "The figure is a lower bound. It is unknown how often its keys are equal."
    entry = _entry_bytes(figures, leaves)
    if entry > WIDE_ROW and not leaves.keys and not _is_whole(entry):
        return "medium", "Its keys are long and cannot be read, so it is unknown how they fit into pages."
    return "high", ""


def _is_whole(size: float) -> bool:
    return abs(size - round(size / 8) * 8) < 0.25
