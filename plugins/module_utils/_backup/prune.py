# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove the backups that no rule keeps: under the catalog's lock, checked again before each is deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .._catalog.catalog import Catalog, Entry
from .._errors import BackupNotFound, Locked, RunbookError
from .._units import human_size
from .retention import Decision, Judged, Policy, RetentionCandidate, decide

_ROUNDS = 20


@dataclass
class Pruned:
    """What was, or would be, removed. `problem` ended the work early; what had been removed until then is listed.

    Attributes:
        deleted: backups, newest first.
        kept: backups that stay, newest first.
        removed: paths of what interrupted runs had left.
        problem: why a backup could not be removed, or None.
    """

    deleted: list[Judged] = field(default_factory=list)
    kept: list[Judged] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problem: RunbookError | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was removed."""
        return bool(self.deleted or self.removed)

    @property
    def freed_bytes(self) -> int:
        """The sizes of the deleted backups, as far as their manifests tell."""
        return sum(each.backup.size_bytes or 0 for each in self.deleted)


def preview(catalog: Catalog, db: str, policy: Policy, now: datetime) -> Pruned:
    """What `prune` would do; nothing is changed, not even a lock file.

    Raises:
        Locked: another run writes or removes backups of this database.
    """
    holder = catalog.busy(db)
    if holder is not None:
        raise Locked(
            "The catalog is in use",
            subject=catalog.directory(db),
            why=holder,
            remedy="Wait for it to end, then run again.",
        )
    decision = _judge(catalog, db, policy, now)
    return Pruned(decision.deleted, decision.kept, catalog.unfinished(db))


def prune(catalog: Catalog, db: str, policy: Policy, now: datetime) -> Pruned:
    """Remove the backups of a database that no rule of the policy keeps, and what interrupted runs left.

    Raises:
        Locked: another run writes or removes backups of this database.
        FileProblem: the catalog cannot be read, or a leftover cannot be removed.
    """
    policy.check()
    if not catalog.exists(db):
        return Pruned()
    with catalog.lock(db, f"removal of old backups of {db!r}"):
        pruned = Pruned(removed=catalog.sweep(db))
        for _round in range(_ROUNDS):
            decision = _judge(catalog, db, policy, now)
            if _delete_all(catalog, db, decision, pruned) or pruned.problem is not None:
                break
        else:
            pruned.problem = Locked(
                "The backups keep changing while the old ones are removed",
                subject=catalog.directory(db),
                remedy="Run again when the running verifications have ended.",
            )
    gone = {each.backup.id for each in pruned.deleted}
    stuck = [each.backup for each in decision.deleted if each.backup.id not in gone]
    pruned.kept = decision.kept + [Judged(backup, ["could not be deleted"]) for backup in stuck]
    pruned.deleted.reverse()
    return pruned


def _judge(catalog: Catalog, db: str, policy: Policy, now: datetime) -> Decision:
    return decide((_candidate(catalog, entry) for entry in catalog.entries(db)), policy, now)


def _candidate(catalog: Catalog, entry: Entry) -> RetentionCandidate:
    return RetentionCandidate(
        id=entry.id,
        taken=entry.taken,
        verdict=entry.verdict,
        readable=entry.trouble is None,
        damaged=entry.damaged,
        size_bytes=entry.manifest.size_bytes if entry.manifest else None,
        user=catalog.user(entry),
        cluster=entry.cluster,
    )


def _delete_all(catalog: Catalog, db: str, decision: Decision, pruned: Pruned) -> bool:
    """Delete, oldest first; False when the decision is out of date because something changed meanwhile."""
    for judged in reversed(decision.deleted):
        try:
            entry = catalog.find(db, judged.backup.id)
            if _candidate(catalog, entry) != judged.backup:
                return False  # verified, or taken into use, since it was judged
            catalog.delete(entry)
        except (Locked, BackupNotFound):
            return False
        except RunbookError as exc:
            pruned.problem = exc
            if not catalog.has(db, judged.backup.id):
                pruned.deleted.append(judged)  # no backup any more, only some of its files are still there
            return False
        pruned.deleted.append(judged)
    return True


def describe(pruned: Pruned, db: str, *, check_mode: bool) -> str:
    """One sentence for people."""
    if not pruned.deleted and not pruned.kept:
        return f"The catalog has no backup of {db!r}."
    count = len(pruned.deleted)
    clusters = {each.backup.cluster for each in pruned.deleted + pruned.kept} - {None}
    if not count:
        kept = len(pruned.kept)
        return f"All {kept} backups of {db!r} are kept." if kept > 1 else f"The only backup of {db!r} is kept."
    verb = "Would delete" if check_mode else "Deleted"
    noun = "backup" if count == 1 else "backups"
    stay = "keep" if check_mode else "kept"
    text = f"{verb} {count} {noun} of {db!r} ({human_size(pruned.freed_bytes)}), {stay} {len(pruned.kept)}."
    return f"{text} They belong to {len(clusters)} clusters; the rules apply to each." if len(clusters) > 1 else text
