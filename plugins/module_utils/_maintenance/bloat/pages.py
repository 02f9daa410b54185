# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How pages are looked into: by which functions, which pages, and under which name a relation is there."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..._errors import QueryFailed
from ..._postgres import sqlstate
from ..._postgres.connection import Session
from . import sql

if TYPE_CHECKING:  # which imports us
    from .estimate import Estimate

SAMPLE_PAGES = 2000
_WORTH_SKIPPING = 0.5  # of the pages all-visible: then pgstattuple_approx reads less than half of the table
_UNDEFINED_TABLE = sqlstate.UNDEFINED_TABLE


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
    def can_see_keys(self) -> bool:
        """Whether the keys on a page of an index can be read."""
        return self.can_sample and self.have("bt_page_items")

    @property
    def missing(self) -> str:
        """What would allow more, as advice; empty when all is there."""
        if self.have("pgstattuple", "pgstatindex"):
            return ""
        return (
            "Only estimated: CREATE EXTENSION pgstattuple, and GRANT pg_stat_scan_tables to the login, allow measuring."
        )


def means(session: Session) -> Means:
    """Ask which functions are at hand."""
    return Means({row.proname: row.nspname for row in session.query(sql.MEANS)})


def method_for(found: Estimate, means_: Means, bytes_left: float, visible_share: float) -> tuple[str, float]:
    """The method to measure a relation with and the bytes that it reads, or `none`."""
    relation, size = found.relation, found.relation.size_bytes
    sampled = min(size, SAMPLE_PAGES * found.figures.page_size)
    if found.figures.locked or not size:
        return "none", 0
    if found.figures.shape is not None:
        return _method_for_other(relation.access_method, size, sampled, means_, bytes_left)
    whole = "pgstatindex" if relation.kind == "index" else "pgstattuple"
    if means_.have(whole) and size <= bytes_left:
        return whole, size
    if means_.can_sample and sampled <= bytes_left:
        return "pageinspect", sampled
    unseen = size * (1 - visible_share)
    is_table = relation.kind != "index" and relation.kind != "toast"
    if is_table and means_.have("pgstattuple_approx") and visible_share >= _WORTH_SKIPPING and unseen <= bytes_left:
        return "pgstattuple_approx", unseen
    return "none", 0


def _method_for_other(
    access_method: str, size: float, sampled: float, means_: Means, bytes_left: float
) -> tuple[str, float]:
    """The same for an index that is no B-tree."""
    whole = {"hash": "pgstathashindex", "gist": "pgstattuple"}.get(access_method, "")
    if whole and means_.have(whole) and size <= bytes_left:
        return whole, size
    if access_method == "gin":
        if means_.have("get_raw_page", "page_header", "gin_page_opaque_info") and sampled <= bytes_left:
            return "pageinspect", sampled
        if means_.have("pg_freespace"):
            return "pg_freespacemap", 0
    return "none", 0


def sample(blocks: range, seed: int, most: int = SAMPLE_PAGES) -> list[int]:
    """All pages, or so many of them by chance; the same ones each time, so that two reports agree."""
    if len(blocks) <= most:
        return list(blocks)
    return sorted(random.Random(seed).sample(blocks, most))  # noqa: S311 - a sample, no secret


def names(session: Session, oid: int) -> Any:
    """A relation's `nspname` and `relname`, the two `quoted` together, whether it is `readable`, and `has_toast`.

    Raises:
        QueryFailed: it was dropped, with the SQLSTATE that the server has for that.
    """
    rows = session.query(sql.NAMES, (oid,))
    if not rows or rows[0].readable is None:
        raise QueryFailed("The relation no longer exists", details={"sqlstate": _UNDEFINED_TABLE})
    return rows[0]
