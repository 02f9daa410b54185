# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which indexes to rebuild: those that waste space by a figure that can be trusted, and invalid ones.

An index whose bloat was only guessed is not touched: it would be rebuilt again in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..._errors import InvalidInput, ObjectNotFound
from ..._plan import Plan
from ..._postgres.connection import Session
from ..._units import human_size
from ..bloat.relation import CONFIDENCES, Relation
from ..bloat.survey import Scope, survey
from ..work import Item
from . import indexes, leftovers, sql
from .indexes import Index
from .leftovers import Leftover
from .workers import Worker

SYSTEM_SCHEMAS = ("pg_catalog",)
OTHER_LOGIN = "Use the login of the owner or of a superuser."
_SYSTEM = ("pg_catalog", "information_schema", "pg_toast")


@dataclass(frozen=True)
class ReindexPlan(Plan):
    """What the operator wants. Times in seconds, sizes in bytes.

    Attributes:
        indexes: `name` or `schema.name`, with all partitions; `tables` likewise, with all of their indexes.
        min_bloat_ratio: the share of an index that a rebuild has to give back, and `min_bloat_bytes` how much.
        min_confidence: how well that has to be known.
        measure_budget_s: for measuring; `measure_bytes` may be read for it.
        concurrently: without it, writes to the table wait, and queries that would use the index.
        system: the system catalogs instead of other tables.
        leftovers: whether to drop or rebuild what interrupted builds have left.
        retries: how often to try again after a lock timeout.
        max_transaction_age_s: a rebuild waits for younger transactions, and is not begun beside an older one.
        wait_for_transactions_s: how long to wait for those to end.
        unused_after_s: see `advice.Standards`.
    """

    db: str
    indexes: Sequence[str] = ()
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    min_bloat_ratio: float = 0.3
    min_bloat_bytes: int = 8 * 1024 * 1024
    min_confidence: str = "medium"
    measure_budget_s: float = 60.0
    measure_bytes: int = 4 * 1024**3
    concurrently: bool = True
    system: bool = False
    leftovers: bool = True
    lock_timeout_s: float = 10.0
    statement_timeout_s: float | None = None
    retries: int = 3
    max_transaction_age_s: float = 300.0
    wait_for_transactions_s: float = 0.0
    check_space: bool = True
    unused_after_s: float = 8 * 86400.0

    @property
    def explicit(self) -> bool:
        """Whether the operator listed what to do."""
        return bool(self.indexes or self.tables)

    @property
    def patience_s(self) -> float:
        """How long a rebuild may wait for each lock once it has begun.

        A concurrent one waits for the transactions of other sessions after it has built the index, and blocks none
        of them meanwhile: to give it up then would be to build it again.
        """
        return max(self.lock_timeout_s, self.max_transaction_age_s) if self.concurrently else self.lock_timeout_s

    def check(self, *, has_window: bool) -> None:
        """Raise InvalidInput for what cannot work."""
        if self.lock_timeout_s < 0.001:
            raise InvalidInput(
                "Invalid lock_timeout",
                subject="'0'",
                why="without a timeout a rebuild may wait forever",
                remedy="Use 1s or more.",
            )
        if not self.concurrently and not has_window:
            raise InvalidInput(
                "concurrently: false needs a maintenance window",
                why="writes to the table wait until the index is built",
                remedy="Set window, or remove concurrently.",
            )
        if self.system and self.concurrently:
            raise InvalidInput(
                "Indexes of the system catalogs cannot be rebuilt concurrently",
                remedy="Set concurrently: false and window: all sessions wait for as long as a rebuild takes.",
            )
        listed = [each for each in self.schemas if each in _SYSTEM]
        if listed and not self.system:
            raise InvalidInput(
                "Indexes of the system catalogs are rebuilt on request only",
                subject=", ".join(listed),
                remedy="Set system: true to rebuild them; that is rarely useful.",
            )


@dataclass(frozen=True)
class IndexRebuild:
    """An index to rebuild, its bloat (None for an invalid one), and its size after the rebuild."""

    index: Index
    relation: Relation | None = None
    size_after_bytes: int | None = None

    @property
    def gain_bytes(self) -> int:
        """What a rebuild probably gives back."""
        return (self.relation.bloat_bytes or 0) if self.relation else 0

    @property
    def freed_bytes(self) -> int:
        """What the rebuild has given back."""
        return 0 if self.size_after_bytes is None else self.index.size_bytes - self.size_after_bytes

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        relation = self.relation
        return {
            "schema": self.index.schema,
            "name": self.index.name,
            "table": self.index.table_name,
            "bloat_bytes": relation.bloat_bytes if relation else None,
            "bloat_ratio": relation.bloat_ratio if relation else None,
            "method": relation.method if relation else None,
            "confidence": relation.confidence if relation else None,
            "size_before_bytes": self.index.size_bytes,
            "size_after_bytes": self.size_after_bytes,
        }


@dataclass(frozen=True)
class ReindexCandidates:
    """What there is to do. Of the indexes in `unknown` no figure can be relied on."""

    items: Sequence[Item[IndexRebuild]] = ()
    leftovers: Sequence[Item[Leftover]] = ()
    unknown: Sequence[Relation] = ()
    examined: int = 0


def choose(session: Session, plan: ReindexPlan, busy: Mapping[int, Worker]) -> ReindexCandidates:
    """Look at the indexes of the plan's scope; read-only.

    Raises:
        ObjectNotFound: a table or an index that is listed does not exist.
    """
    schemas = list(plan.schemas) or (list(SYSTEM_SCHEMAS) if plan.system else [])
    known = indexes.read(session, schemas)
    tables = _tables(session, plan)
    chosen = _in_scope(known, plan, None if tables is None else set(tables))
    titles = sorted({f"{each.table_schema}.{each.table_name}" for each in chosen})
    scope = Scope(schemas, titles if plan.explicit else (), plan.min_bloat_bytes)
    found: dict[int, Relation] = {}
    if chosen or not plan.explicit:
        surveyed = survey(session, scope, measure_budget_s=plan.measure_budget_s, measure_bytes=plan.measure_bytes)
        found = {each.oid: each for each in surveyed if each.kind == "index"}
    found_leftovers, items, unknown = [], [], []
    at = {each.table_oid for each in chosen}
    whole = [each for each in known if each.table_oid in at] if plan.explicit else known
    ids = {each.oid for each in chosen}
    for left in leftovers.examine(whole, busy) if plan.leftovers else []:
        if left.reason == leftovers.REBUILD and left.facts.index.oid in ids:
            items.append(_examined(Item(left.name, IndexRebuild(left.facts.index), "invalid", left.why), plan))
        elif left.reason != leftovers.REBUILD:
            found_leftovers.append(left)
    for index in chosen:
        relation = found.get(index.oid)
        if relation is None or not index.usable or index.partitioned or index.shared:
            continue
        if not _trusted(relation, plan):
            unknown.append(relation)
        elif _worth(relation, plan):
            why = (
                f"a rebuild would free about {human_size(relation.bloat_bytes or 0)}, {relation.bloat_ratio:.0%} of it"
            )
            items.append(_examined(Item(index.identity, IndexRebuild(index, relation), "bloat", why), plan))
    items.sort(key=lambda item: (item.reason != "invalid", -item.facts.gain_bytes, item.name))
    return ReindexCandidates(items, found_leftovers, unknown, len(chosen))


def _worth(relation: Relation, plan: ReindexPlan) -> bool:
    gain = relation.bloat_bytes or 0
    return (relation.bloat_ratio or 0) >= plan.min_bloat_ratio and gain >= max(1, plan.min_bloat_bytes)


def _trusted(relation: Relation, plan: ReindexPlan) -> bool:
    known = relation.bloat_ratio is not None and relation.bloat_bytes is not None
    return known and CONFIDENCES.index(relation.confidence) <= CONFIDENCES.index(plan.min_confidence)


def _examined(item: Item[IndexRebuild], plan: ReindexPlan) -> Item[IndexRebuild]:
    """The item with what is known of it beforehand."""
    index = item.facts.index
    if index.exclusion and plan.concurrently:
        why = "the index of an exclusion constraint cannot be rebuilt concurrently"
        return item.become("skipped", why, "Rebuild it with concurrently: false in a window.")
    if not index.may_maintain:
        why = "the login is not its owner and lacks the privilege to rebuild it"
        return item.become("failed", why, OTHER_LOGIN)
    return item


def _tables(session: Session, plan: ReindexPlan) -> list[int] | None:
    """The tables that are listed and their partitions, by OID; None when none is."""
    if not plan.tables:
        return None
    found: list[int] = []
    rows = session.query(sql.TABLES)
    for name in plan.tables:
        matches = [row.oid for row in rows if name in (row.name, f"{row.schema}.{row.name}")]
        if not matches:
            raise ObjectNotFound(
                "Table not found", subject=name, remedy="Write it as name or schema.name, without quotes."
            )
        found += matches
    return found + [row.oid for row in session.query(sql.LEAVES, (found,))]


def _in_scope(known: Sequence[Index], plan: ReindexPlan, tables: set[int] | None) -> list[Index]:
    chosen = set()
    for name in plan.indexes:
        matches = [each.oid for each in known if name in (each.name, f"{each.schema}.{each.name}")]
        if not matches:
            raise ObjectNotFound(
                "Index not found", subject=name, remedy="Write it as name or schema.name, without quotes."
            )
        chosen.update(matches)
    parents = {each.oid: each.parent for each in known}
    found = []
    for each in known:
        at: int | None = each.oid
        while plan.indexes and at is not None and at not in chosen:
            at = parents.get(at)
        by_name = not plan.indexes or at is not None
        if by_name and (tables is None or each.home in tables):
            found.append(each)
    return found
