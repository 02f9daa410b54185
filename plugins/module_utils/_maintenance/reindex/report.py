# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a run of REINDEX beside the states of its indexes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..._errors import QueryFailed
from ..._findings import Finding
from ..._units import human_size
from ..bloat.relation import Relation
from ..outcome import RunReport, Words
from ..work import Item, WorkLoop
from . import advice
from .choose import IndexRebuild, ReindexCandidates, ReindexPlan
from .leftovers import Leftover

WORDS = Words("REINDEX", "reindex", "index", "indexes", "rebuilt")
_UNKNOWN_SHOWN = 50


def report(
    work: WorkLoop,
    plan: ReindexPlan,
    found: ReindexCandidates,
    items: Sequence[Item[IndexRebuild]],
    leftovers: Sequence[Item[Leftover]],
    now: datetime,
) -> RunReport:
    """The report. Unless the run was broken off, other findings on the indexes are looked for."""
    dropped = [each for each in leftovers if each.state == ("due" if work.check_mode else "done")]
    gain = sum(each.facts.gain_bytes if work.check_mode else each.facts.freed_bytes for each in items)
    freed = sum(each.facts.freed_bytes for each in items)
    freed += sum(each.facts.index.size_bytes for each in dropped if not work.check_mode)
    result = RunReport(items, leftovers, found.examined, explicit=plan.explicit)
    result.values = {
        "indexes": [{**each.as_dict(), "attempts": each.attempts} for each in items],
        "leftovers": [each.as_dict() for each in leftovers],
        "unknown": [_unknown(each) for each in found.unknown[:_UNKNOWN_SHOWN]],
        "freed_bytes": freed,
    }
    result.findings = [
        *(_invalid(each) for each in leftovers if each.state in ("left", "failed")),
        *_not_known(found.unknown),
        *(_advice(work, plan, now) if not work.failed else ()),
    ]
    if any(each.state in ("due", "done") for each in items):
        result.details.append(f"{human_size(gain)} {'less' if work.check_mode else 'freed'}")
    if dropped:
        noun = "leftover" if len(dropped) == 1 else "leftovers"
        result.details.append(f"{len(dropped)} {noun} {'would be ' if work.check_mode else ''}dropped")
    for each in items:
        if each.state in ("due", "done"):
            result.before.append(f"{each.name}: {human_size(each.facts.index.size_bytes)}, {each.reason}")
            result.after.append(f"{each.name}: {human_size(_size_after(each.facts))}")
    result.before += [f"{each.name}: invalid" for each in dropped]
    return result


def _size_after(rebuild: IndexRebuild) -> int:
    expected = rebuild.index.size_bytes - rebuild.gain_bytes
    return expected if rebuild.size_after_bytes is None else rebuild.size_after_bytes


def _unknown(relation: Relation) -> dict[str, object]:
    names = ("schema", "name", "size_bytes", "confidence", "note")
    return {name: getattr(relation, name) for name in names}


def _invalid(item: Item[Leftover]) -> Finding:
    return Finding(
        check="index_invalid",
        severity="warning",
        subject=item.name,
        value=item.facts.index.size_bytes,
        threshold=None,
        message=f"{item.name} is invalid and was not dropped: {item.why}.",
        remedy=f"When no session works on its table: DROP INDEX CONCURRENTLY {item.name};",
    )


def _not_known(unknown: Sequence[Relation]) -> list[Finding]:
    if not unknown:
        return []
    count = "1 index" if len(unknown) == 1 else f"{len(unknown)} indexes"
    size = human_size(sum(each.size_bytes for each in unknown))
    notes = list(dict.fromkeys(each.note for each in unknown if each.note))
    return [
        Finding(
            check="reindex_unknown",
            severity="info",
            subject=", ".join(each.name for each in unknown[:5]),
            value=len(unknown),
            threshold=None,
            message=" ".join([f"The bloat of {count} ({size}) is not known well enough to act on.", *notes[:3]]),
            remedy="Raise measure_budget, or CREATE EXTENSION pgstattuple.",
        )
    ]


def _advice(work: WorkLoop, plan: ReindexPlan, now: datetime) -> list[Finding]:
    """Unused, duplicate and missing indexes. Invalid ones have been dealt with."""
    standards = advice.IndexStandards(unused_after_s=plan.unused_after_s)
    try:
        found = advice.look(work.control, plan.schemas, standards, now).findings
    except QueryFailed as exc:  # what was done is reported all the same
        work.notes.append(f"Unused, duplicate and missing indexes could not be checked: {exc.why or exc.what}.")
        return []
    return [each for each in found if each.check != "index_invalid"]
