# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a restored copy. Pure.

What decides is what came out. A statement that was refused decides nothing where the copy equals its source. Where it
does not, the refused statements tell whether this place is to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .._catalog.manifest import Manifest
from .._findings import Finding
from .._fingerprint.figures import Difference, Fingerprint, definitions_comparable
from .._load.load import Loaded
from .._load.refusals import Circumstances, Refusal, blamed, harmless, told
from .._units import counted
from .sequences import Behind

_TABLES_SHOWN = 20
_DIFFERENCES_SHOWN = 200
_DIFFERENCES_NAMED = 5
_VERIFY = "Remove the cause, then run the playbook godel.postgres_runbook.backup_verify again."
_TAKE = "Do not rely on this backup: take a new one with godel.postgres_runbook.backup, and verify it."
_MEND = "Do not rely on this backup. A new backup would have the same problem: correct it in the source first."
_ACCEPT = (
    "It has all rows and sequences. A new backup would lack the same definitions. Restore it with restore_accept: "
    "[definitions], "
    "and create manually what it lacks, or correct that in the source first."
)
_READ = "Correct in the source what prevents these tables from being read, then take a new backup and verify it."
_PROVE = "Take a backup with the playbook godel.postgres_runbook.backup: it records what a verification needs."
_PROVE_OURS = "Take a backup with backup_fingerprint: content, and verify it."
_SEVERITIES = {"verified": "ok", "failed": "critical", "inconclusive": "warning", "incomplete": "warning"}


@dataclass(frozen=True)
class CopyLoading:
    """How a copy came to be.

    Attributes:
        lacks: how its database could not be made like the source's.
        loaded: the statements that were refused.
        around: where it was loaded.
    """

    lacks: Sequence[str]
    loaded: Loaded
    around: Circumstances

    def notes(self) -> list[str]:
        """For people."""
        if not self.loaded.refusals:
            return [*self.lacks]
        count = counted(self.loaded.count, "statement was", "statements were")
        return [*self.lacks, f"{count} refused: {told(self.loaded.refusals, self.loaded.count)}."]

    def serious(self) -> list[Refusal]:
        """The refused statements of a dump without a fingerprint that something may be missing for."""
        return [each for each in self.loaded.refusals if not harmless(each)]


@dataclass(frozen=True)
class Restored:
    """A restored copy: its figures, how it differs from its source, and its sequences that are behind their columns."""

    figures: Fingerprint
    loading: CopyLoading
    differences: list[Difference] = field(default_factory=list)
    behind: Sequence[Behind] = ()


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    Attributes:
        verdict: `verified`, `incomplete` (rows and sequences are equal, definitions are not), `failed` or
            `inconclusive`; empty where nothing was judged.
        why: one or more sentences.
        differences: how the copy or a file differs.
        notes: for people.
        restored: what the copy held.
        remedy: the safe next step.
        findings: further findings on the copy.
    """

    verdict: str
    why: str
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restored: Mapping[str, object] | None = None
    remedy: str = ""
    findings: Sequence[Finding] = ()

    def as_dict(self) -> dict[str, object]:
        """For a module's result and for the catalog; at most 200 differences, and how many there are."""
        return {
            "differences": [difference.as_dict() for difference in self.differences[:_DIFFERENCES_SHOWN]],
            "difference_count": len(self.differences),
            "notes": self.notes,
            "restored": self.restored,
        }

    def finding(self, name: str) -> Finding:
        """The verdict on a backup of this name as a finding."""
        remedies = {"failed": _TAKE, "inconclusive": _VERIFY, "incomplete": _ACCEPT}
        return Finding(
            check="backup_verification",
            severity=_SEVERITIES[self.verdict],
            subject=name,
            value=self.verdict,
            threshold="verified",
            message=self.why,
            remedy=self.remedy or remedies.get(self.verdict, ""),
        )


def _held(figures: Fingerprint) -> dict[str, object]:
    """What a copy held, for people and auditors: its summary, and rows and digest of its largest tables."""
    largest = sorted(figures.tables.items(), key=lambda each: (-each[1].rows, each[0]))[:_TABLES_SHOWN]
    tables = [{"table": name, "rows": figure.rows, "digest": figure.digest} for name, figure in largest]
    return {**figures.summary(), "largest_tables": tables}


def judge(manifest: Manifest, copy: Restored) -> Verdict:
    """The verdict on the copy of a backup of the catalog."""
    source, how = manifest.fingerprint, copy.loading
    notes = [*how.notes(), *(f"{each}. The source may be the same." for each in copy.behind)]
    held = _held(copy.figures)
    if source is None:
        return _unproven(copy, "but it has no fingerprint to compare with", _PROVE_OURS)
    differences = copy.differences
    if differences:
        rows = any(each.group != "definitions" for each in differences)
        return _of_different(source, copy, notes, rows=rows)
    unread = _unread(source, copy.figures)
    definitions = ""
    if source.server_major != copy.figures.server_major:
        definitions = " (their names, not their definitions)"
        majors = f"the source is PostgreSQL {source.server_major}, the copy {copy.figures.server_major}"
        notes = [
            *notes,
            f"Definitions were not compared, because another major version may print them differently: {majors}.",
        ]
    elif not definitions_comparable(source, copy.figures):
        definitions = " (their names, not their definitions)"
        notes = [*notes, "Definitions were not compared: this backup was taken by an older version of this collection."]
    extent = f"{counted(source.rows, 'row')} in {counted(len(source.tables), 'table')}"
    if source.mode == "counts":
        why = f"All rows are there ({extent}); their content was not compared because the fingerprint has only counts."
    else:
        extent += (
            f", {counted(len(source.sequences), 'sequence')}, {counted(len(source.objects), 'object')}{definitions}"
        )
        why = f"The restored copy equals the source: {extent}."
    blame = blamed(how.loaded.refusals, how.around, rows=False) if definitions else None
    if blame:  # what the statement would have defined was not compared
        return Verdict("inconclusive", f"{why} But: {blame}", [], notes, held, blame.remedy)
    if how.lacks:
        return Verdict("inconclusive", f"{why} But: {how.lacks[0]}", [], notes, held)
    if unread:
        return Verdict("inconclusive", f"{why} But: {unread}", [], notes, held, _READ)
    return Verdict("verified", why, [], notes, held)


def _of_different(source: Fingerprint, copy: Restored, notes: list[str], *, rows: bool) -> Verdict:
    """The verdict on a copy that differs; with `rows` not only in definitions."""
    differences, how, held = copy.differences, copy.loading, _held(copy.figures)
    loaded = how.loaded
    why = f"The restored copy differs from the source: {name_differences(differences, 1)}."
    if how.lacks:
        why = f"{why} {how.lacks[0]}, which may be why."
        return Verdict("inconclusive", why, differences, notes, held)
    blame = blamed(loaded.refusals, how.around, rows=rows)
    if blame:
        return Verdict("inconclusive", f"{why} {blame}", differences, notes, held, blame.remedy)
    if rows:
        refused = f" Refused: {told(loaded.refusals, loaded.count)}." if loaded.refusals else ""
        return Verdict("failed", why + refused, differences, notes, held, _MEND if refused else _TAKE)
    if unread := _unread(source, copy.figures):
        return Verdict("inconclusive", f"{why} {unread}", differences, notes, held, _READ)
    count = counted(len(differences), "definition differs", "definitions differ")
    why = (
        f"All rows and sequences are there ({counted(source.rows, 'row')} in {counted(len(source.tables), 'table')}, "
        f"{counted(len(source.sequences), 'sequence')}), but {count}: "
        f"{name_differences(differences, _DIFFERENCES_NAMED)}."
    )
    return Verdict("incomplete", why, differences, notes, held, _ACCEPT)


def judge_external(copy: Restored) -> Verdict:
    """The verdict on the copy of a dump that this collection has not taken."""
    why = "but it has no record of the content of its source, so it cannot be verified"
    verdict = _unproven(copy, f"{why}. Backups by godel.postgres_runbook.backup have this record", _PROVE)
    findings = [each.finding() for each in copy.behind]
    rows_by_table = {name: figure.rows for name, figure in sorted(copy.figures.tables.items())}
    return replace(verdict, findings=findings, restored={**_held(copy.figures), "rows_by_table": rows_by_table})


def _unproven(copy: Restored, but: str, remedy: str) -> Verdict:
    """The verdict on a copy with nothing to compare it with: whether it loads as a whole."""
    figures, how = copy.figures, copy.loading
    notes, held = how.notes(), _held(figures)
    serious = how.serious()
    if serious:
        refused = f"Refused: {told(serious, len(serious))}."
        blame = blamed(serious, how.around, rows=False)
        if blame or how.lacks:
            why = f"{blame} {refused}" if blame else f"{how.lacks[0]}, which may be why it does not load. {refused}"
            return Verdict("inconclusive", why, [], notes, held, blame.remedy if blame else "")
        return Verdict("failed", f"It does not restore completely. {refused}", [], notes, held, remedy)
    why = f"It restores, to {counted(figures.rows, 'row')} in {counted(len(figures.tables), 'table')}, {but}."
    return Verdict("inconclusive", why, [], notes, held, remedy)


def _unread(source: Fingerprint, copy: Fingerprint) -> str:
    """A sentence on tables whose content was not compared, as it cannot be read in the source or in the copy."""
    found = {**source.unread_tables, **copy.unread_tables}
    tables = "; ".join(f"{name} ({why.rstrip('.')})" for name, why in sorted(found.items()))
    return f"The content of these tables could not be read, and was not compared: {tables}." if found else ""


def name_differences(differences: Sequence[Difference], most: int) -> str:
    """The first differences in words, and how many more there are."""
    more = len(differences) - most
    return "; ".join(map(str, differences[:most])) + (f", and {more} more" if more > 0 else "")
