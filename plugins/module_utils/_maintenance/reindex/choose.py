# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which indexes to rebuild: those that waste space by a figure that can be trusted, and invalid ones.

What cannot be known is not touched: an index whose bloat was only guessed would be rebuilt again in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..._errors import InvalidInput, ObjectNotFound
from ..._findings import Finding
from ..._postgres.connection import Session
from ..._units import human_size
from ..bloat.relation import CONFIDENCES, Relation
from ..bloat.survey import Scope, survey
from . import indexes, leftovers, sql
from .indexes import Index
from .leftovers import Leftover, Worker

SYSTEM_SCHEMAS = ("pg_catalog",)
_SYSTEM = ("pg_catalog", "information_schema", "pg_toast")
_UNKNOWN_SHOWN = 50


@dataclass(frozen=True)
class ReindexPlan:
    """What the operator wants.

    Attributes:
        indexes: `name` or `schema.name`; of a partitioned one all partitions. So `tables`, with all their indexes.
        min_ratio: the share of an index that a rebuild has to give back, and `min_bytes` how much.
        min_confidence: how well that has to be known.
        measure_budget_s: seconds for measuring; `measure_bytes` how much may be read for it.
        concurrently: without it, writes to the table wait, and queries that would use the index.
        system: the system's catalogs instead of people's tables.
        remains: whether to see to what interrupted builds have left.
        retries: how often to try again when a lock is not to be had.
        max_transaction_s: a concurrent rebuild waits for younger transactions, and is not begun beside an older one.
        wait_s: how long to wait for those to end.
    """

    db: str
    indexes: Sequence[str] = ()
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    min_ratio: float = 0.3
    min_bytes: int = 8 * 1024 * 1024
    min_confidence: str = "medium"
    measure_budget_s: float = 60.0
    measure_bytes: int = 4 * 1024**3
    concurrently: bool = True
    system: bool = False
    remains: bool = True
    lock_timeout_s: float = 10.0
    statement_timeout_s: float | None = None
    retries: int = 3
    max_transaction_s: float = 300.0
    wait_s: float = 0.0
    check_space: bool = True

    @property
    def patience_s(self) -> float:
        """How long a rebuild may wait for each lock once it has begun.

        A concurrent one waits for the transactions of others after it has built the index, and keeps nobody waiting
        meanwhile: to give it up then would be to build it again.
        """
        return max(self.lock_timeout_s, self.max_transaction_s) if self.concurrently else self.lock_timeout_s

    def check(self, *, has_window: bool) -> None:
        """Raise InvalidInput for what cannot work."""
        if not 0 <= self.min_ratio <= 1:
            raise InvalidInput("min_bloat_ratio is no share", subject=str(self.min_ratio), remedy="Use 0 to 1.")
        if not 0 <= self.retries <= 100:
            raise InvalidInput("retries is out of range", subject=str(self.retries), remedy="Use 0 to 100.")
        if self.lock_timeout_s < 0.001:
            raise InvalidInput("lock_timeout is 0", remedy="Without one, a rebuild may wait for ever: use 1s or more.")
        if not self.concurrently and not has_window:
            raise InvalidInput(
                "A rebuild that keeps others waiting needs a window",
                why="with concurrently: false, writes to the table wait until the index is built",
                remedy="Give a window, or leave concurrently out.",
            )
        if self.system and self.concurrently:
            raise InvalidInput(
                "Indexes of the system's catalogs cannot be rebuilt concurrently",
                remedy="Say concurrently: false, with a window: everybody waits for as long as it takes.",
            )
        named = [each for each in self.schemas if each in _SYSTEM]
        if named and not self.system:
            raise InvalidInput(
                "The system's catalogs are rebuilt on request only",
                subject=", ".join(named),
                remedy="Say system: true if that is what you want; it is seldom of use.",
            )


@dataclass(frozen=True)
class Item:
    """An index to rebuild, and what came of it.

    Attributes:
        reason: `bloat` or `invalid`.
        relation: its bloat; None for an invalid one.
        state: `due`, `rebuilt`, `skipped`, `failed` or `left`.
        why: for the last three, one sentence without a full stop. `remedy` is the safe next step.
        attempts: how often it was tried.
    """

    index: Index
    reason: str
    relation: Relation | None = None
    state: str = "due"
    why: str = ""
    remedy: str = ""
    size_after_bytes: int | None = None
    duration_s: float | None = None
    attempts: int = 0

    @property
    def gain_bytes(self) -> int:
        """What a rebuild probably gives back."""
        return (self.relation.bloat_bytes or 0) if self.relation else 0

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        relation = self.relation
        return {
            "schema": self.index.schema,
            "name": self.index.name,
            "table": self.index.table_name,
            "reason": self.reason,
            "state": self.state,
            "bloat_bytes": relation.bloat_bytes if relation else None,
            "bloat_ratio": relation.bloat_ratio if relation else None,
            "method": relation.method if relation else None,
            "confidence": relation.confidence if relation else None,
            "size_before_bytes": self.index.size_bytes,
            "size_after_bytes": self.size_after_bytes,
            "duration_s": self.duration_s,
            "attempts": self.attempts,
            "why": self.why,
        }


@dataclass(frozen=True)
class ReindexCandidates:
    """What there is to do. `unknown` are indexes that nobody can say anything of that could be relied on."""

    items: Sequence[Item]
    remains: Sequence[Leftover]
    unknown: Sequence[Relation]
    judged: int


@dataclass
class Reindexed:
    """What was done. `stopped_by` is the reason to stop early, a sentence; `broken`: that is a failure."""

    items: list[Item] = field(default_factory=list)
    remains: list[Leftover] = field(default_factory=list)
    unknown: Sequence[Relation] = ()
    judged: int = 0
    named: bool = False
    stopped_by: str | None = None
    broken: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return any(each.state == "rebuilt" for each in self.items) or any(
            each.state == "dropped" for each in self.remains
        )

    def all(self) -> list[Item | Leftover]:
        """Every piece of work."""
        return [*self.items, *self.remains]

    @property
    def due(self) -> bool:
        """Whether anything would be done."""
        return any(each.state == "due" for each in self.all())

    def left(self) -> list[str]:
        """What is not done, by name."""
        return [each.index.identity for each in self.all() if each.state in ("left", "failed")]


def choose(session: Session, plan: ReindexPlan, busy: Mapping[int, Worker]) -> ReindexCandidates:
    """Look at the indexes of the plan's scope; read-only.

    Raises:
        ObjectNotFound: a table or an index that is named is not there.
    """
    schemas = list(plan.schemas) or (list(SYSTEM_SCHEMAS) if plan.system else [])
    known = indexes.read(session, schemas)
    tables = _tables(session, plan)
    chosen = _in_scope(known, plan, None if tables is None else set(tables))
    named = sorted({f"{each.table_schema}.{each.table_name}" for each in chosen})
    scope = Scope(schemas, named if plan.indexes or plan.tables else (), plan.min_bytes)
    found: dict[int, Relation] = {}
    if chosen or not (plan.indexes or plan.tables):
        judged = survey(session, scope, measure_budget_s=plan.measure_budget_s, measure_bytes=plan.measure_bytes)
        found = {each.oid: each for each in judged if each.kind == "index"}
    remains, items, unknown = [], [], []
    at = {each.table_oid for each in chosen}
    whole = [each for each in known if each.table_oid in at] if plan.tables or plan.indexes else known
    ids = {each.oid for each in chosen}
    for left in leftovers.judge(whole, busy) if plan.remains else []:
        if left.fate == "rebuild" and left.index.oid in ids:
            items.append(_judged(Item(left.index, "invalid"), plan))
        elif left.fate != "rebuild":
            remains.append(left)
    for index in chosen:
        relation = found.get(index.oid)
        if relation is None or not index.usable or index.partitioned or index.shared:
            continue
        if not _trusted(relation, plan):
            unknown.append(relation)
        elif (relation.bloat_ratio or 0) >= plan.min_ratio and (relation.bloat_bytes or 0) >= max(1, plan.min_bytes):
            items.append(_judged(Item(index, "bloat", relation), plan))
    items.sort(key=lambda item: (item.reason != "invalid", -item.gain_bytes, item.index.identity))
    return ReindexCandidates(items, remains, unknown, len(chosen))


def _trusted(relation: Relation, plan: ReindexPlan) -> bool:
    known = relation.bloat_ratio is not None and relation.bloat_bytes is not None
    return known and CONFIDENCES.index(relation.confidence) <= CONFIDENCES.index(plan.min_confidence)


def _judged(item: Item, plan: ReindexPlan) -> Item:
    """The item with what is known of it beforehand."""
    if item.index.exclusion and plan.concurrently:
        why = "the index of an exclusion constraint cannot be rebuilt concurrently"
        remedy = "Rebuild it with concurrently: false in a window."
        return replace(item, state="skipped", why=why, remedy=remedy)
    if not item.index.may_maintain:
        why = "the login may not rebuild it: it is not its owner"
        return replace(item, state="failed", why=why, remedy="Use the owner's login, or a superuser's.")
    return item


def _tables(session: Session, plan: ReindexPlan) -> list[int] | None:
    """The tables that are named and their partitions, by OID; None when none is named."""
    if not plan.tables:
        return None
    found: list[int] = []
    rows = session.query(sql.TABLES)
    for name in plan.tables:
        matches = [row.oid for row in rows if name in (row.name, f"{row.schema}.{row.name}")]
        if not matches:
            raise ObjectNotFound("There is no such table", subject=name, remedy="Write it as name or schema.name.")
        found += matches
    return found + [row.oid for row in session.query(sql.LEAVES, (found,))]


def _in_scope(known: Sequence[Index], plan: ReindexPlan, tables: set[int] | None) -> list[Index]:
    chosen = set()
    for name in plan.indexes:
        matches = [each.oid for each in known if name in (each.name, f"{each.schema}.{each.name}")]
        if not matches:
            raise ObjectNotFound("There is no such index", subject=name, remedy="Write it as name or schema.name.")
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


def findings(done: Reindexed) -> list[Finding]:
    """What somebody has to know of: what failed, what is left, what is not known."""
    found = [
        Finding(f"reindex_{each.state}", "warning" if each.state == "failed" else "info", each.index.identity,
                each.state, None, _sentence(each.index, each.why), each.remedy)
        for each in done.items
        if each.state in ("failed", "skipped") and each.why
    ]  # fmt: skip
    found += [
        Finding("index_invalid", "warning", each.index.identity, each.index.size_bytes, None,
                f"{each.index.identity} is invalid, and still there: {each.why}.",
                f"When nobody works on its table: DROP INDEX CONCURRENTLY {each.index.identity};")
        for each in done.remains
        if each.state in ("left", "failed")
    ]  # fmt: skip
    waiting = [each.index.identity for each in done.items if each.state == "left"]
    if waiting or done.stopped_by:
        text = done.stopped_by or next(each.why for each in done.items if each.state == "left") + "."
        found.append(
            Finding("reindex_left", "warning", ", ".join(waiting) or "nothing", len(waiting), 0,
                    f"{len(waiting)} indexes are left to be rebuilt. {text}", "Run it again; it goes on from there.")
        )  # fmt: skip
    if done.unknown:
        size = human_size(sum(each.size_bytes for each in done.unknown))
        notes = list(dict.fromkeys(each.note for each in done.unknown if each.note))
        message = f"Of {len(done.unknown)} indexes ({size}) the bloat is not known well enough to act on it."
        found.append(
            Finding("reindex_unknown", "info", ", ".join(each.name for each in done.unknown[:5]), len(done.unknown),
                    None, " ".join([message, *notes[:3]]),
                    "Allow more in measure_budget, or CREATE EXTENSION pgstattuple.")
        )  # fmt: skip
    return found


def _sentence(index: Index, why: str) -> str:
    return f"{index.identity} was not rebuilt: {why.rstrip('.')}."


def values(done: Reindexed) -> dict[str, object]:
    """The values of a module's result."""
    finished = [each for each in done.items if each.state == "rebuilt" and each.size_after_bytes is not None]
    return {
        "indexes": [each.as_dict() for each in done.items],
        "leftovers": [each.as_dict() for each in done.remains],
        "unknown": [
            {"schema": each.schema, "name": each.name, "size_bytes": each.size_bytes, "confidence": each.confidence,
             "note": each.note}
            for each in done.unknown[:_UNKNOWN_SHOWN]
        ],
        "judged": done.judged,
        "freed_bytes": sum(each.index.size_bytes - (each.size_after_bytes or 0) for each in finished)
        + sum(each.index.size_bytes for each in done.remains if each.state == "dropped"),
        "left": done.left(),
        "stopped_by": done.stopped_by,
        "notes": done.notes,
    }  # fmt: skip


def describe(done: Reindexed, *, rehearsal: bool) -> str:
    """One sentence for people."""
    state, dropped_state = ("due", "due") if rehearsal else ("rebuilt", "dropped")
    rebuilt = [each for each in done.items if each.state == state]
    dropped = [each for each in done.remains if each.state == dropped_state]
    would = "would be " if rehearsal else ""
    parts = []
    if dropped:
        parts.append(f"{len(dropped)} leftovers {would}dropped")
    if rebuilt:
        gain = sum(
            each.gain_bytes if rehearsal else each.index.size_bytes - (each.size_after_bytes or 0) for each in rebuilt
        )
        parts.append(f"{len(rebuilt)} indexes {would}rebuilt ({human_size(gain)} less)")
    text = f"{', '.join(parts)}." if parts else f"Nothing to do for {done.judged} indexes."
    failed = [each.index.identity for each in done.all() if each.state == "failed"]
    if failed:
        text += f" Failed: {', '.join(failed)}."
    waiting = [each.index.identity for each in done.all() if each.state == "left"]
    if waiting:
        text += f" Left: {', '.join(waiting)}."
    return f"{text} {done.stopped_by}" if done.stopped_by else text


def failure(done: Reindexed) -> str | None:
    """Why the task fails although it did what it could; None if it does not."""
    failed = [f"{each.index.identity} ({each.why.rstrip('.')})" for each in done.items if each.state == "failed"]
    failed += [f"{each.index.identity} ({each.why.rstrip('.')})" for each in done.remains if each.state == "failed"]
    if not failed or not (done.broken or done.named or not done.changed):
        return done.stopped_by if done.broken else None
    remedies = dict.fromkeys(each.remedy for each in done.items if each.state == "failed" and each.remedy)
    text = [f"{len(failed)} indexes could not be put right: {'; '.join(failed)}.", *remedies]
    return " ".join([*text, done.stopped_by] if done.broken and done.stopped_by else text)


def difference(done: Reindexed) -> dict[str, str]:
    """What is, or would be, other than before, for people: `before` and `after`."""
    before, after = [], []
    for item in done.items:
        if item.state in ("due", "rebuilt"):
            size = item.index.size_bytes
            smaller = size - item.gain_bytes if item.size_after_bytes is None else item.size_after_bytes
            invalid = ", invalid" if item.reason == "invalid" else ""
            before.append(f"{item.index.identity}: {human_size(size)}{invalid}")
            after.append(f"{item.index.identity}: {human_size(smaller)}")
    before += [f"{left.index.identity}: invalid" for left in done.remains if left.state in ("due", "dropped")]
    return {"before": "\n".join([*before, ""]), "after": "\n".join([*after, ""])}
