# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the catalog, and the judgement on it. Reading is apart from judging, which is pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from .._catalog.catalog import Catalog, Entry
from .._catalog.verifications import CLOCK_SKEW_S, Verification
from .._errors import InvalidInput
from .._findings import Finding
from .._target.base import Files
from .._units import from_rfc3339, human_duration, human_size, to_rfc3339

_BACKUP = "Run the playbook godel.postgres_runbook.backup."
_VERIFY = "Run the playbook godel.postgres_runbook.backup_verify."
_FAILED = f"Do not restore it. {_BACKUP} Then run the playbook godel.postgres_runbook.backup_verify."


@dataclass(frozen=True)
class Standards:
    """By what a catalog is judged, in seconds; None: not judged by this."""

    rpo_s: float | None = None
    verified_within_s: float | None = None

    def check(self) -> None:
        """Raise InvalidInput for a standard that nothing can meet."""
        for option, value in (("rpo", self.rpo_s), ("verified_within", self.verified_within_s)):
            if value is not None and value <= 0:
                raise InvalidInput(f"{option} is 0", remedy="Use a longer time, or leave it out.")


@dataclass(frozen=True)
class Backup:
    """One backup without the lists that grow with the database; `summary` is empty when it is unreadable.

    `cluster` is the system identifier of the cluster that it is of, if it says so.
    """

    id: str
    database: str
    path: str
    taken: datetime
    age_s: int
    summary: Mapping[str, object]
    problem: str
    verification: Verification | None
    cluster: str | None = None

    @property
    def verdict(self) -> str | None:
        """The latest verdict, or None if it was never verified."""
        return self.verification.verdict if self.verification else None

    @property
    def usable(self) -> bool:
        """Whether it counts: readable, all there, not proven bad, and not dated in the future."""
        return not self.problem and self.verdict != "failed" and self.age_s >= -CLOCK_SKEW_S

    @property
    def size_bytes(self) -> int:
        """Size of its files; 0 when it is unreadable."""
        size = self.summary.get("size_bytes", 0)
        return size if isinstance(size, int) else 0

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        found = self.verification
        return {
            "id": self.id,
            "database": self.database,
            "started": to_rfc3339(self.taken),
            **self.summary,
            "path": self.path,
            "state": "unreadable" if self.problem else "complete",
            "age_s": self.age_s,
            "verdict": self.verdict,
            "verified_at": found.checked_at if found else None,
            "verdict_reason": found.reason if found else None,
            "problem": self.problem,
        }


@dataclass(frozen=True)
class Incomplete:
    """What looks half done. `in_progress` when somebody works in the database's directory just now."""

    path: str
    database: str
    age_s: int
    in_progress: bool

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "path": self.path,
            "database": self.database,
            "age_s": self.age_s,
            "in_progress": self.in_progress,
        }


@dataclass(frozen=True)
class DatabaseState:
    """One database's part of the catalog; backups are newest first. `busy` says who writes there just now."""

    database: str
    backups: Sequence[Backup]
    incomplete: Sequence[Incomplete]
    busy: str | None

    @property
    def newest_usable(self) -> Backup | None:
        """The newest backup that counts."""
        return next((each for each in self.backups if each.usable), None)

    @property
    def newest_verified(self) -> Backup | None:
        """The newest backup that is proven good."""
        return next((each for each in self.backups if each.usable and each.verdict == "verified"), None)

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        usable, verified = self.newest_usable, self.newest_verified
        return {
            "database": self.database,
            "backups": len(self.backups),
            "total_size_bytes": sum(each.size_bytes for each in self.backups),
            "newest": self.backups[0].id if self.backups else None,
            "newest_usable": usable.id if usable else None,
            "newest_verified": verified.id if verified else None,
            "busy": self.busy,
        }


def survey(files: Files, catalog: Catalog, db: str | None, now: datetime) -> list[DatabaseState]:
    """Read the catalog, entry by entry: one database, or all that have a place in it.

    Raises:
        FileProblem: a directory cannot be read.
        InvalidInput: the catalog is not a directory.
    """
    root = files.info(catalog.root)
    if root is not None and not root.is_dir:
        raise InvalidInput(
            "backup_dir is not a directory", subject=catalog.root, remedy="Name the directory of the catalog."
        )
    if db is not None:
        return [_survey(files, catalog, db, now)]
    found = (_survey(files, catalog, name, now) for name in catalog.databases())
    # Somebody's other directory has none of these; one of ours that lost its backups still has its lock file.
    return [each for each in found if each.backups or each.incomplete or catalog.was_used(each.database)]


def _survey(files: Files, catalog: Catalog, db: str, now: datetime) -> DatabaseState:
    backups = [_backup(entry, now) for entry in catalog.entries(db)]
    unfinished = catalog.unfinished(db)
    busy = catalog.busy(db)
    incomplete = []
    for path in unfinished:
        info = files.info(path)
        if info is not None:  # else it was finished or removed since the first look
            incomplete.append(Incomplete(path, db, max(0, int(now.timestamp() - info.modified)), busy is not None))
    return DatabaseState(db, backups, incomplete, busy)


def _backup(entry: Entry, now: datetime) -> Backup:
    trouble = entry.trouble
    return Backup(
        id=entry.id,
        database=entry.database,
        path=entry.path,
        taken=entry.taken,
        age_s=int((now - entry.taken).total_seconds()),
        summary=entry.manifest.summary() if entry.manifest and trouble is None else {},
        problem=trouble.message if trouble else "",
        verification=entry.verification,
        cluster=entry.cluster,
    )


def judge(states: Iterable[DatabaseState], standards: Standards, now: datetime) -> list[Finding]:
    """Every judged fact, database by database."""
    findings = []
    for state in states:
        findings.append(_judge_rpo(state, standards.rpo_s))
        if any(not each.problem for each in state.backups):
            findings.append(_judge_verification(state, standards.verified_within_s, now))
        findings += _judge_clusters(state)
        findings += _judge_entries(state)
    return findings


def no_catalog(root: str, rpo_s: float | None) -> Finding:
    """The finding for a catalog that is empty or not there."""
    message = f"There is no backup of any database in {root}."
    return Finding("backup_rpo", "critical", root, None, rpo_s, message, _BACKUP)


def _judge_rpo(state: DatabaseState, rpo_s: float | None) -> Finding:
    newest, subject = state.newest_usable, state.database
    if newest is None:
        message = f"There is no usable backup of {subject!r}."
        return Finding("backup_rpo", "critical", subject, None, rpo_s, message, _BACKUP)
    age = human_duration(max(0, newest.age_s))
    message = f"The newest usable backup of {subject!r} is {age} old ({newest.id})"
    if rpo_s is None:
        return Finding("backup_rpo", "ok", subject, newest.age_s, None, f"{message}.")
    if newest.age_s > rpo_s:
        message += f"; at most {human_duration(rpo_s)} are allowed."
        return Finding("backup_rpo", "critical", subject, newest.age_s, rpo_s, message, _BACKUP)
    return Finding("backup_rpo", "ok", subject, newest.age_s, rpo_s, f"{message}, within {human_duration(rpo_s)}.")


def _judge_verification(state: DatabaseState, within_s: float | None, now: datetime) -> Finding:
    """The newest backup's verdict; while it has none, the last one that any backup got. `value` is the verdict."""
    readable = [each for each in state.backups if not each.problem]
    newest = readable[0]
    judged = [(each.verification, each.id) for each in readable if each.verification is not None]
    value: str | None = None

    def finding(severity: str, message: str, remedy: str = _VERIFY) -> Finding:
        return Finding("backup_verified", severity, state.database, value, within_s, message, remedy)

    if not judged:
        return finding("warning", f"No backup of {state.database!r} was ever verified.")
    # RFC 3339 in UTC: the order of the texts is the order of the times.
    last, id_ = judged[0] if newest.verification else max(judged, key=lambda each: each[0].checked_at)
    value = last.verdict
    said = f"at {last.checked_at}: {last.reason}".rstrip(": .")
    if value == "failed":
        return finding("critical", f"Backup {id_} failed its verification {said}.", _FAILED)
    if value == "inconclusive":
        return finding("warning", f"The verification of backup {id_} proved nothing {said}.")
    if within_s is None:
        if newest.verification is None:
            return finding("warning", f"The newest backup of {state.database!r} was never verified ({newest.id}).")
    else:
        proven = max(each.checked_at for each, _id in judged if each.verdict == "verified")
        since = (now - from_rfc3339(proven)).total_seconds()
        if since > within_s:
            ages = f"{human_duration(since)} ago; at most {human_duration(within_s)} are allowed"
            return finding("warning", f"A backup of {state.database!r} was last verified {ages}.")
    return finding("ok", f"Backup {id_} was verified at {last.checked_at}.", "")


def _judge_clusters(state: DatabaseState) -> list[Finding]:
    """Whether all are of one cluster. One after the other is a move; side by side, nobody knows whose the newest is."""
    known = [each for each in state.backups if each.cluster is not None]
    periods = [its for its, group in itertools.groupby(each.cluster for each in known)]
    newest = {each.cluster: each.id for each in reversed(known)}
    if len(newest) < 2:
        return []
    mixed = len(periods) > len(newest)
    listed = ", ".join(f"{id_} of {its}" for its, id_ in sorted(newest.items(), key=lambda each: each[1], reverse=True))
    message = f"{len(newest)} clusters have backups of a database {state.database!r} here; their newest are {listed}."
    if mixed:
        message += " They go on side by side, so that what is said of the newest one may be said of another cluster's."
        remedy = "Give each cluster a postgres_backup_dir of its own, and take a backup of each there."
    else:
        remedy = "If the cluster was replaced, delete the backups of the old one when nobody needs them any more."
    severity = "critical" if mixed else "warning"
    return [Finding("backup_clusters", severity, state.database, len(newest), 1, message, remedy)]


def _judge_entries(state: DatabaseState) -> list[Finding]:
    findings = []
    for each in state.backups:
        if each.problem:
            message = f"Backup {each.id} cannot be used: {each.problem}"
            remedy = f"Look at {each.path}, and do not restore from it. {_BACKUP}"
            findings.append(Finding("backup_unreadable", "critical", each.id, None, None, message, remedy))
        elif each.age_s < -CLOCK_SKEW_S:
            message = f"Backup {each.id} is dated in the future, so it does not count."
            remedy = "Correct the clock of the host that took it, then take another backup."
            findings.append(Finding("backup_clock", "warning", each.id, each.age_s, -CLOCK_SKEW_S, message, remedy))
    for left in state.incomplete:
        if left.in_progress:
            message, remedy, severity = f"{left.path} is being worked on: {state.busy}.", "", "info"
        else:
            message, severity = f"A run that died left {left.path}. It is no backup.", "warning"
            remedy = "The next run of godel.postgres_runbook.backup or backup_retention removes it."
        findings.append(Finding("backup_incomplete", severity, left.path, left.age_s, None, message, remedy))
    return findings


def describe(states: Sequence[DatabaseState], findings: Sequence[Finding], root: str) -> str:
    """One or a few sentences for people: the sum, and what is not well."""
    count = sum(len(each.backups) for each in states)
    size = sum(backup.size_bytes for each in states for backup in each.backups)
    sums = f"{count} {'backup' if count == 1 else 'backups'} in {root}, {human_size(size)}."
    bad = [finding.message for finding in findings if finding.severity in ("warning", "critical")]
    more = f" And {len(bad) - 3} more." if len(bad) > 3 else ""
    return " ".join([sums, *bad[:3]]) + more
