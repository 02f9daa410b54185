# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges the catalog: age, verdicts, clusters of backups, and unfinished backups. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .._catalog.verifications import CLOCK_SKEW_S
from .._findings import Finding
from .._plan import Plan
from .._postgres.cluster_id import ClusterIdentity
from .._units import counted, from_rfc3339, human_duration, human_size
from .status import DatabaseState

_BACKUP = "Run the playbook godel.postgres_runbook.backup."
_VERIFY = "Run the playbook godel.postgres_runbook.backup_verify."
_INCOMPLETE = (
    "The report of the playbook godel.postgres_runbook.backup_verify lists what it lacks. "
    "The playbook godel.postgres_runbook.restore accepts it with restore_accept: [definitions]."
)
_FAILED = f"Do not restore it. {_BACKUP} Then run the playbook godel.postgres_runbook.backup_verify."
_APART = "Give each cluster its own postgres_backup_dir, and take a backup of each there."
_MOST_NAMES = 10


@dataclass(frozen=True)
class BackupStandards(Plan):
    """By what a catalog is judged, in seconds; None: not judged by this."""

    rpo_s: float | None = None
    verified_within_s: float | None = None


def judge(
    states: Sequence[DatabaseState],
    standards: BackupStandards,
    now: datetime,
    root: str,
    server: ClusterIdentity | None = None,
) -> list[Finding]:
    """Every judged fact, database by database. A catalog in which nothing is of the server is critical, never well.

    Args:
        root: the catalog.
        server: the server whose backups count; None when it was not asked.
    """
    if not states:
        findings = [_no_catalog(root, standards.rpo_s)]
    else:
        findings = [finding for state in states for finding in _judge_state(state, standards, now)]
        if not any(_counts(state) for state in states):
            findings.insert(0, _nothing_own(states, root, standards.rpo_s))
    if server is not None and server.note:
        remedy = "Check the connection options, or set ask_server: false to do without the server."
        findings.append(Finding("backup_server", "info", root, None, None, server.note, remedy))
    if server is not None and server.databases is not None and not any(state.named for state in states):
        findings += _judge_missing(server.databases - {state.database for state in states}, root)
    return findings


def _judge_state(state: DatabaseState, standards: BackupStandards, now: datetime) -> list[Finding]:
    findings = []
    if _counts(state):
        for part in state.parts():
            findings.append(_judge_rpo(part, state, standards.rpo_s))
            if any(not each.problem for each in part.own):
                findings.append(_judge_verification(part, state, standards.verified_within_s, now))
    findings += _judge_clusters(state)
    findings += _judge_entries(state)
    return findings


def _counts(state: DatabaseState) -> bool:
    """Whether a database is the server's business. With all databases of a shared catalog, some are of others."""
    return bool(state.own) or state.named or state.on_server is not False


def _nothing_own(states: Sequence[DatabaseState], root: str, rpo_s: float | None) -> Finding:
    count, cluster = sum(len(state.foreign) for state in states), states[0].cluster
    message = (
        f"There is no backup of this server (cluster {cluster}) in {root}, but {_backups(count)} of other clusters."
    )
    return Finding("backup_rpo", "critical", root, None, rpo_s, message, _BACKUP)


def _judge_missing(names: Iterable[str], root: str) -> list[Finding]:
    """Databases of the server without a place in the catalog. `postgres` is there for connecting."""
    missing = sorted(set(names) - {"postgres"})
    if not missing:
        return []
    some = ", ".join(missing[:_MOST_NAMES]) + (", ..." if len(missing) > _MOST_NAMES else "")
    databases = counted(len(missing), "database")
    message = f"The server has {databases} without any backup in {root}: {some}."
    remedy = "Take a backup of each that matters: run the playbook godel.postgres_runbook.backup with postgres_db."
    return [Finding("backup_missing", "info", root, len(missing), 0, message, remedy)]


def _no_catalog(root: str, rpo_s: float | None) -> Finding:
    """The finding for a catalog that is empty or not there."""
    message = f"There is no backup of any database in {root}."
    return Finding("backup_rpo", "critical", root, None, rpo_s, message, _BACKUP)


def _whose(part: DatabaseState, whole: DatabaseState) -> str:
    """Which cluster is meant, where several have backups here and the server did not report its own."""
    return f" of cluster {part.cluster}" if whole.cluster is None and part.cluster is not None else ""


def _subject(part: DatabaseState, whole: DatabaseState) -> str:
    return f"{part.database}{_whose(part, whole)}" if whole.side_by_side else part.database


def _judge_rpo(part: DatabaseState, whole: DatabaseState, rpo_s: float | None) -> Finding:
    newest, subject, whose = part.newest_usable, _subject(part, whole), _whose(part, whole)
    if newest is None:
        message = f"There is no usable backup of {part.database!r}{whose}."
        if part.foreign:
            others = ", ".join(name for name in part.clusters if name != part.cluster)
            message = (
                f"There is no usable backup of {part.database!r} of this server (cluster {part.cluster}). "
                f"{_backups(len(part.foreign))} here {'is' if len(part.foreign) == 1 else 'are'} of cluster {others}."
            )
        return Finding("backup_rpo", "critical", subject, None, rpo_s, message, _BACKUP)
    age = human_duration(max(0, newest.age_s))
    told = newest.id if whole.cluster or whose or not newest.cluster else f"{newest.id}, of cluster {newest.cluster}"
    message = f"The newest usable backup of {part.database!r}{whose} is {age} old ({told})"
    if rpo_s is None:
        return Finding("backup_rpo", "ok", subject, newest.age_s, None, f"{message}.")
    if newest.age_s > rpo_s:
        message += f"; at most {human_duration(rpo_s)} are allowed."
        return Finding("backup_rpo", "critical", subject, newest.age_s, rpo_s, message, _BACKUP)
    return Finding("backup_rpo", "ok", subject, newest.age_s, rpo_s, f"{message}, within {human_duration(rpo_s)}.")


def _backups(count: int) -> str:
    return "1 backup" if count == 1 else f"{count} backups"


def _judge_verification(state: DatabaseState, whole: DatabaseState, within_s: float | None, now: datetime) -> Finding:
    """The newest backup's verdict; while it has none, the last one that any backup got. `value` is the verdict."""
    readable = [each for each in state.own if not each.problem]
    newest = readable[0]
    judged = [(each.verification, each.id) for each in readable if each.verification is not None]
    value: str | None = None
    whose = _whose(state, whole)

    def finding(severity: str, message: str, remedy: str = _VERIFY) -> Finding:
        return Finding("backup_verified", severity, _subject(state, whole), value, within_s, message, remedy)

    if not judged:
        return finding("warning", f"No backup of {state.database!r}{whose} was ever verified.")
    # RFC 3339 in UTC: the order of the texts is the order of the times.
    last, id_ = judged[0] if newest.verification else max(judged, key=lambda each: each[0].checked_at)
    value = last.verdict
    said = f"at {last.checked_at}: {last.why}".rstrip(": .")
    if value == "failed":
        return finding("critical", f"Backup {id_} failed its verification {said}.", _FAILED)
    if value == "inconclusive":
        return finding("warning", f"The verification of backup {id_} was inconclusive {said}.")
    if value == "incomplete":
        return finding("warning", f"Backup {id_} restores all rows, but not all definitions {said}.", _INCOMPLETE)
    if within_s is None:
        if newest.verification is None:
            return finding(
                "warning", f"The newest backup of {state.database!r}{whose} was never verified ({newest.id})."
            )
    else:
        proven = max(each.checked_at for each, _id in judged if each.verdict == "verified")
        since = (now - from_rfc3339(proven)).total_seconds()
        if since > within_s:
            ages = f"{human_duration(since)} ago; at most {human_duration(within_s)} are allowed"
            return finding("warning", f"A backup of {state.database!r}{whose} was last verified {ages}.")
    return finding("ok", f"Backup {id_} was verified at {last.checked_at}.", "")


def _judge_clusters(state: DatabaseState) -> list[Finding]:
    """Whether all are of one cluster. One after the other is a move; side by side, each is judged by itself."""
    newest = {name: found[0].id for name, found in state.clusters.items()}
    if state.cluster is not None:
        return _judge_foreign(state) if state.foreign else []
    if len(newest) < 2:
        return []
    listed = ", ".join(f"{id_} of {its}" for its, id_ in newest.items())
    message = f"{len(newest)} clusters have backups of a database {state.database!r} here; their newest are {listed}."
    if state.side_by_side:
        message += (
            " All of them get new backups. Each is checked separately, because the server did not report its cluster."
        )
        return [Finding("backup_clusters", "critical", state.database, len(newest), 1, message, _APART)]
    remedy = "If the cluster was replaced, delete the backups of the old one when they are no longer needed."
    return [Finding("backup_clusters", "warning", state.database, len(newest), 1, message, remedy)]


def _judge_foreign(state: DatabaseState) -> list[Finding]:
    """Backups of other clusters beside those of the server, for which they do not count."""
    others = ", ".join(name for name in state.clusters if name != state.cluster)
    count = len(state.foreign)
    message = (
        f"{_backups(count)} of {state.database!r} here {'is' if count == 1 else 'are'} of cluster {others}, and "
        f"{'does' if count == 1 else 'do'} not count for this server (cluster {state.cluster})."
    )
    severity, remedy = "info", ""
    if state.side_by_side:
        severity, remedy = "warning", _APART
    return [Finding("backup_clusters", severity, state.database, len(state.clusters), 1, message, remedy)]


def _judge_entries(state: DatabaseState) -> list[Finding]:
    findings = []
    for each in state.backups:
        if each.problem:
            message = f"Backup {each.id} cannot be used: {each.problem}"
            remedy = f"Examine {each.path}, and do not restore from it. {_BACKUP}"
            severity = "info" if each in state.foreign else "critical"
            findings.append(Finding("backup_unreadable", severity, each.id, None, None, message, remedy))
        elif each.age_s < -CLOCK_SKEW_S:
            message = f"Backup {each.id} is dated in the future, so it does not count."
            remedy = "Correct the clock of the host that took it, then take another backup."
            findings.append(Finding("backup_clock", "warning", each.id, each.age_s, -CLOCK_SKEW_S, message, remedy))
    for left in state.incomplete:
        if left.in_progress:
            message, remedy, severity = f"{left.path} is in use: {state.busy}.", "", "info"
        else:
            message, severity = f"An interrupted run left {left.path}. It is not a backup.", "warning"
            remedy = "The next run of godel.postgres_runbook.backup or backup_retention removes it."
        findings.append(Finding("backup_incomplete", severity, left.path, left.age_s, None, message, remedy))
    return findings


def describe(states: Sequence[DatabaseState], findings: Sequence[Finding], root: str) -> str:
    """One or a few sentences for people: the sum, and the problems."""
    count = sum(len(each.backups) for each in states)
    size = sum(backup.size_bytes for each in states for backup in each.backups)
    sums = f"{_backups(count)} in {root}, {human_size(size)}."
    bad = [finding.message for finding in findings if finding.severity in ("warning", "critical")]
    more = f" And {len(bad) - 3} more." if len(bad) > 3 else ""
    return " ".join([sums, *bad[:3]]) + more
