# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore takes: a proven copy, and what the operator accepts knowingly."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .._catalog.catalog import Entry
from .._errors import ProofFailed
from .._findings import Finding
from .._fingerprint.figures import Difference
from .._load.refusals import told
from .._verify.verdict import Restored, Verdict

DEFINITIONS = "definitions"
_LOST_SHOWN, _LOST_CHARS = 50, 200  # they go into a setting of the database
_UNTOUCHED = "Production was not touched."
_ANOTHER = f"Name another backup. {_UNTOUCHED}"
_SAY_SO = (
    "Restore it with restore_accept: [definitions] (accept of the module), and create manually what it lacks; "
    f"or name another backup. {_UNTOUCHED}"
)


def refuse_unfit(entry: Entry, accept: Collection[str]) -> None:
    """Raise ProofFailed for a backup whose last verification speaks against it."""
    known = entry.verification
    if known is None or known.verdict not in ("failed", "incomplete"):
        return
    if known.verdict == "failed":
        raise ProofFailed("This backup failed its verification", subject=entry.id, why=known.why, remedy=_ANOTHER)
    if DEFINITIONS not in accept:
        raise ProofFailed(
            "This backup is incomplete",
            subject=entry.id,
            why=known.why,
            remedy=_SAY_SO,
            details={"lost": lost_of(known.details)},
        )


def known_loss(entry: Entry) -> list[Finding]:
    """What a backup lacks by its last verification, before it is loaded."""
    known = entry.verification
    if known is None or known.verdict != "incomplete":
        return []
    return [loss(entry.id, known.why, lost_of(known.details))]


def lost_of(details: Mapping[str, object]) -> list[str]:
    """What a recorded verification found to be different, in words; at most 50."""
    found = details.get("differences")
    known = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return lost(
        [
            Difference(str(each.get("kind")), str(each.get("subject")), each.get("expected"), each.get("found"))
            for each in known
        ]
    )


def lost(differences: Sequence[Difference]) -> list[str]:
    """Differences in words; at most 50."""
    return [str(each)[:_LOST_CHARS] for each in differences[:_LOST_SHOWN]]


def loss(name: str, why: str, what: Sequence[str]) -> Finding:
    """The finding on a backup whose definitions are not all there."""
    return Finding(
        check="restore_incomplete",
        severity="warning",
        subject=name,
        value=len(what),
        threshold=0,
        message=why,
        remedy=f"Create manually after the swap: {'; '.join(what)}." if what else "",
    )


def refuse_unproven(
    verdict: Verdict, copy: Restored, name: str, *, has_proof: bool, accept: Collection[str], accept_unproven: bool
) -> None:
    """Raise ProofFailed for a restored copy that may not get into production.

    `has_proof` says whether the backup has a fingerprint to compare with.
    """
    serious = copy.loading.serious()
    rows = any(each.group != "definitions" for each in copy.differences)
    what, remedy = "The staged copy is not verified", _ANOTHER
    if not has_proof:
        if not serious:
            return
        what = "The backup does not restore completely"
    elif verdict.verdict == "verified" or (verdict.verdict == "inconclusive" and _may_be(copy, accept_unproven)):
        return
    elif copy.differences and not rows:
        if DEFINITIONS in accept:
            return
        remedy = _SAY_SO
    why = verdict.why if has_proof else f"refused: {told(serious, len(serious))}"
    if verdict.verdict == "inconclusive" and verdict.remedy:
        remedy = f"{verdict.remedy} {_UNTOUCHED}"
    raise ProofFailed(what, subject=name, why=why, remedy=remedy, details=verdict.as_dict())


def _may_be(copy: Restored, accept_unproven: bool) -> bool:
    """Whether an inconclusive copy is accepted: one that differs only if this server cannot make it like its source."""
    return accept_unproven and (not copy.differences or bool(copy.loading.lacks))
