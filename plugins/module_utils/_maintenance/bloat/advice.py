# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about a relation's bloat, if anything, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..._findings import Finding
from ..._units import human_size
from .relation import Relation

# Of autovacuum_freeze_max_age: from the first on `vacuum` freezes a table, and autovacuum should have come at 1.0.
_FREEZE_DUE, _FREEZE_WARNING, _FREEZE_CRITICAL = 0.75, 1.2, 2.0
_REMEDIES = {
    "vacuum": "Run the playbook godel.postgres_runbook.vacuum.",
    "repack": "Run the playbook godel.postgres_runbook.vacuum with vacuum_full in a maintenance window.",
    "reindex": "Run the playbook godel.postgres_runbook.reindex.",
    "analyze": "Run the playbook godel.postgres_runbook.analyze.",
}


@dataclass(frozen=True)
class Thresholds:
    """From where on something is to be done.

    Attributes:
        min_bloat_ratio: share of a relation that a rewrite would give back; both this and the next must be reached.
        min_bloat_bytes: the same in bytes.
        min_dead_ratio: share of dead rows; both this and the next must be reached.
        min_dead_tuples: their number.
        freeze_max_age: the server's autovacuum_freeze_max_age.
    """

    min_bloat_ratio: float = 0.3
    min_bloat_bytes: int = 8 * 1024 * 1024
    min_dead_ratio: float = 0.2
    min_dead_tuples: int = 1000
    freeze_max_age: int = 200_000_000


def advise(relation: Relation, limits: Thresholds) -> Relation:
    """The relation with a recommendation, and why.

    A VACUUM comes before a rewrite: what is dead becomes free, and may be enough.
    """
    what, why = _recommend(relation, limits)
    return replace(relation, recommendation=what, why=why)


def _recommend(relation: Relation, limits: Thresholds) -> tuple[str, str]:
    if _is_old(relation, limits):
        return "vacuum", f"Its oldest row is {relation.freeze_age:,} transactions old: it must be frozen."
    if relation.kind != "index" and _is_dead(relation, limits):
        share = _dead_share(relation)
        return "vacuum", f"{relation.dead_tuples:,} rows are dead, {share:.0%} of all. Run VACUUM before a rewrite."
    if relation.bloat_ratio is None:
        if relation.kind != "index" and relation.last_analyze is None and "analyzed" in relation.note:
            return "analyze", "It was never analyzed: the planner and this report have no statistics."
        return "nothing", "Its bloat is unknown."
    bloat = relation.bloat_bytes or 0
    if relation.bloat_ratio >= limits.min_bloat_ratio and bloat >= limits.min_bloat_bytes:
        if relation.confidence == "low":
            return "nothing", f"{human_size(bloat)} may be wasted, but the estimate is too uncertain to act on."
        if relation.kind == "index":
            return "reindex", f"A rebuilt index would be {human_size(bloat)} smaller ({relation.bloat_ratio:.0%})."
        return "repack", f"A rewritten table would be {human_size(bloat)} smaller ({relation.bloat_ratio:.0%})."
    kept = 100 - relation.fillfactor
    if relation.kind != "index" and kept:
        return "nothing", f"Its fillfactor of {relation.fillfactor} keeps {kept} % free on purpose."
    return "nothing", "A rewrite would free too little."


def _is_old(relation: Relation, limits: Thresholds) -> bool:
    return (relation.freeze_age or 0) >= limits.freeze_max_age * _FREEZE_DUE


def _dead_share(relation: Relation) -> float:
    dead = relation.dead_tuples or 0
    return dead / max(1, dead + (relation.live_tuples or 0))


def _is_dead(relation: Relation, limits: Thresholds) -> bool:
    return (relation.dead_tuples or 0) >= limits.min_dead_tuples and _dead_share(relation) >= limits.min_dead_ratio


def finding(relation: Relation, limits: Thresholds) -> Finding | None:
    """What a report says of a relation that something is to be done about."""
    if relation.recommendation == "nothing":
        return None
    subject = f"{relation.schema}.{relation.name}" + (" (TOAST)" if relation.kind == "toast" else "")
    severity = "warning"
    value: object = relation.bloat_ratio
    threshold: object = limits.min_bloat_ratio
    check = "bloat"
    if relation.recommendation == "analyze":
        check, severity, value, threshold = "statistics", "info", None, None
    elif relation.recommendation == "vacuum" and _is_old(relation, limits):
        check, value, threshold = "freeze_age", relation.freeze_age, limits.freeze_max_age
        share = (relation.freeze_age or 0) / limits.freeze_max_age
        severity = "critical" if share > _FREEZE_CRITICAL else "warning" if share > _FREEZE_WARNING else "info"
    elif relation.recommendation == "vacuum":
        check, value, threshold = "dead_tuples", round(_dead_share(relation), 4), limits.min_dead_ratio
    message = f"{subject}: {relation.why}"
    return Finding(check, severity, subject, value, threshold, message, _REMEDIES[relation.recommendation])
