# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What prevents the server from removing or reusing WAL, how much it holds, and the remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from ..._findings import Finding
from ..._units import human_duration, human_size, to_rfc3339

SWITCH_ADVICE = (
    "Switching the WAL file (pg_switch_wal) frees no space: it ends a file early, so that it can be archived, "
    "and starts a new one. A checkpoint removes WAL that is no longer held."
)
_DISK_SPACE = "godel.postgres_runbook.disk_space"
_REPLICATION = "Run the playbook godel.postgres_runbook.replication."
_LONG_BACKUP_S = 86400.0
_LATE = 3  # so many times checkpoint_timeout without a checkpoint


@dataclass(frozen=True)
class Holder:
    """One thing that holds WAL.

    Attributes:
        kind: `slot`, `archiver`, `wal_keep_size`, `base_backup`, `checkpoint`, `min_wal_size` or `summarizer`.
        name: which one.
        held_bytes: how much it holds; None when that is not known. What several hold is counted for each of them.
        active: whether it is at work; None when that is no question.
        severity: how bad it is.
        detail: one sentence for people.
        remedy: what releases it; empty when there is no problem.
    """

    kind: str
    name: str
    held_bytes: int | None
    active: bool | None
    severity: str
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return asdict(self)


def find(facts: Any, rows: Iterable[Any], sums: Any, warning_bytes: int, now: datetime) -> list[Holder]:
    """All holders, the one that holds most first. The rows are those of `_diagnostics/disk/sql.py`."""
    holders = [
        *(_of_row(row, facts, warning_bytes, now) for row in rows),
        *_archiver(facts, sums, warning_bytes),
        *_settings(facts, sums),
        _checkpoint(facts, sums.redo_idle_s),
    ]
    return sorted(holders, key=lambda each: -(each.held_bytes or 0))


def judge(holders: Iterable[Holder], warning_bytes: int) -> list[Finding]:
    """A finding for each that the operator must know."""
    return [
        Finding(f"wal_{each.kind}", each.severity, each.name, each.held_bytes, warning_bytes, each.detail, each.remedy)
        for each in holders
        if each.severity != "ok"
    ]


def judge_size(size_bytes: int | None, facts: Any, holders: Sequence[Holder]) -> list[Finding]:
    """Whether there is much more WAL than the settings let one expect, and what holds most of it."""
    if size_bytes is None:
        return []
    expected = max(facts.max_wal_bytes, facts.keep_bytes) + 2 * facts.segment_bytes
    if size_bytes <= expected + facts.max_wal_bytes:
        return []
    message = (
        f"The size of pg_wal is {human_size(size_bytes)}; by max_wal_size and wal_keep_size it should be about "
        f"{human_size(expected)}."
    )
    culprit = next((each for each in holders if (each.held_bytes or 0) > expected), None)
    if culprit is not None:
        message += f" {culprit.detail}"
    remedy = (
        culprit.remedy
        if culprit and culprit.remedy
        else "Nothing seems to hold the WAL: run CHECKPOINT; then check again."
    )
    return [Finding("wal_size", "warning", "pg_wal", size_bytes, expected + facts.max_wal_bytes, message, remedy)]


def _of_row(row: Any, facts: Any, warning_bytes: int, now: datetime) -> Holder:
    if row.kind == "slot":
        return _slot(row, facts, warning_bytes, now)
    if row.kind == "base_backup":
        return _base_backup(row, now)
    held = row.held_bytes or 0
    severity = "warning" if held > warning_bytes or not row.active else "ok"
    detail = f"The WAL summarizer ({'runs' if row.active else 'does not run'}) is {human_size(held)} behind."
    remedy = "See the server's log for its errors; summarize_wal = off releases the WAL, and ends incremental backups."
    return Holder(
        "summarizer", row.name, row.held_bytes, row.active, severity, detail, remedy if severity != "ok" else ""
    )


def _slot(row: Any, facts: Any, warning_bytes: int, now: datetime) -> Holder:
    held = row.held_bytes
    drop = f"Run the playbook {_DISK_SPACE} with -e disk_space_drop_slot={row.name}"
    what = f"The {row.type} replication slot {row.name!r}" + (f" of database {row.database!r}" if row.database else "")
    if row.wal_status == "lost":
        detail = f"{what} has lost WAL that its consumer still needs, and no longer holds any."
        remedy = f"Set up its consumer again. {drop} if it is no longer needed."
        return Holder("slot", row.name, 0, row.active, "critical", detail, remedy)
    amount = "no WAL yet" if held is None else human_size(held)
    since = f" for {human_duration((now - row.since).total_seconds())}" if row.since and row.since < now else ""
    state = f"is used by {row.consumer}" if row.active else f"has no consumer{since}"
    detail = f"{what} holds {amount}; it {state}."
    severity, remedy = "ok", ""
    if held is not None and held > warning_bytes:
        severity = "warning"
    elif not row.active and not row.temporary and held is not None:
        severity = "info"
    if row.wal_status == "unreserved":
        severity = "critical"
        detail += " It is about to lose WAL that its consumer needs (max_slot_wal_keep_size)."
    if severity != "ok":
        if not row.active and facts.slot_limit is None:
            detail += " Nothing limits how much it may hold (max_slot_wal_keep_size is -1)."
        remedy = _REPLICATION if row.active else f"Start its consumer. {drop} if it is no longer needed."
    return Holder("slot", row.name, held, row.active, severity, detail, remedy)


def _base_backup(row: Any, now: datetime) -> Holder:
    age_s = (now - row.since).total_seconds() if row.since else None
    phase = f", {row.type}" if row.type else ""
    consumer = f" ({row.consumer})" if row.consumer else ""
    age = f", for {human_duration(max(0.0, age_s))}" if age_s is not None else ""
    detail = f"A base backup runs: {row.name}{consumer}{phase}{age}. It may hold the WAL since its start."
    if age_s is not None and age_s > _LONG_BACKUP_S:
        remedy = "Check whether it makes progress (pg_stat_progress_basebackup). If not, stop it where it was started."
        return Holder("base_backup", row.name, None, True, "warning", detail, remedy)
    return Holder("base_backup", row.name, None, True, "ok", detail)


def _archiver(facts: Any, sums: Any, warning_bytes: int) -> list[Holder]:
    if facts.archive_mode == "off" or (facts.standby and facts.archive_mode != "always"):
        return []
    held = None if sums.ready_files is None else int(sums.ready_files) * int(facts.segment_bytes)
    waiting = "unknown" if sums.ready_files is None else f"{sums.ready_files:,}"
    last, failed = facts.last_archived_time, facts.last_failed_time
    much = held is not None and held > warning_bytes
    fails = failed is not None and (last is None or failed > last)
    if facts.archives_nothing:
        detail = f"archive_mode is {facts.archive_mode}, but neither archive_command nor archive_library is set: "
        detail += f"all WAL is kept. Files so far: {waiting}."
        remedy = (
            "Set archive_command and run SELECT pg_reload_conf(); or set archive_mode = off and restart the server."
        )
        return [Holder("archiver", "archiver", held, False, "critical" if much else "warning", detail, remedy)]
    if fails:
        detail = f"The archiver fails: {facts.last_failed_wal} at {to_rfc3339(failed)}. Files that wait: {waiting}."
        remedy = (
            "See in the server's log why archive_command fails, and correct it. Never delete files in pg_wal manually."
        )
        return [Holder("archiver", "archiver", held, True, "critical" if much else "warning", detail, remedy)]
    detail = f"WAL files that wait for the archiver: {waiting}."
    remedy = "The archiver does not keep up: check whether the archive is slow, or use a faster archive_command."
    return [Holder("archiver", "archiver", held, True, "warning" if much else "ok", detail, remedy if much else "")]


def _settings(facts: Any, sums: Any) -> list[Holder]:
    found = []
    for name, bytes_, why in (
        ("wal_keep_size", facts.keep_bytes, "for replicas without a slot"),
        ("min_wal_size", facts.min_wal_bytes, "for reuse, which is faster than creating new files"),
    ):
        if bytes_:
            held = bytes_ if sums.wal_bytes is None else min(bytes_, sums.wal_bytes)
            found.append(Holder(name, name, held, None, "ok", f"{name} keeps {human_size(bytes_)} of WAL {why}."))
    return found


def _checkpoint(facts: Any, redo_idle_s: float | None) -> Holder:
    """Whether the next checkpoint is late.

    A server that writes nothing makes none. So the time counts from when WAL of the next segment was begun: then the
    segment in which the last checkpoint began was written to for the last time, `redo_idle_s` ago. None is not known.
    """
    held, age_s = max(0, facts.since_checkpoint_bytes or 0), max(0.0, facts.checkpoint_age_s or 0.0)
    limit = f"max_wal_size is {human_size(facts.max_wal_bytes)}"
    age, size = human_duration(age_s), human_size(held)
    detail = f"Since the start of the last checkpoint, {age} ago, {size} of WAL was written; {limit}."
    late = min(age_s, redo_idle_s or 0.0) > _LATE * facts.checkpoint_timeout_s and held > facts.segment_bytes
    if not facts.standby and (late or held > 2 * facts.max_wal_bytes):
        remedy = "Check the server's log for checkpoints that fail or take long, then run CHECKPOINT;"
        return Holder("checkpoint", "checkpoint", held, None, "warning", detail, remedy)
    return Holder("checkpoint", "checkpoint", held, None, "ok", detail)
