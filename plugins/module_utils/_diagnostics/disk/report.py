# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of a server: how full they are, what fills them, and what holds WAL. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..._errors import FileProblem
from ..._findings import Finding
from ..._plan import Plan
from ..._postgres import directories
from ..._postgres.connection import Session
from ..._target.base import Target
from ..._units import counted, human_size, to_rfc3339
from . import sql, wal_retention
from .wal_retention import Holder

_MOST_ORPHANS = 20
_DISK_SPACE = "Run the playbook godel.postgres_runbook.disk_space"
_REMEDIES = {
    "data": "Run the playbooks godel.postgres_runbook.storage and godel.postgres_runbook.bloat_report.",
    "tablespace": "Run the playbook godel.postgres_runbook.storage to see what is large.",
    "log": f"{_DISK_SPACE} with -e disk_space_clean_logs=true.",
    "backup": "Run the playbook godel.postgres_runbook.backup_retention.",
}
_ORPHAN_ADVICE = (
    "Do not remove them manually while the server runs. They only take up space; the playbooks "
    "godel.postgres_runbook.backup and godel.postgres_runbook.restore create a copy of the database without them."
)


@dataclass(frozen=True)
class DiskPlan(Plan):
    """What to look at, and by what to judge it.

    Attributes:
        backup_dir: the catalog of backups on the target; None if it is not to be looked at.
        used_ratio_warning, used_ratio_critical: shares of a file system.
        min_free_bytes: less is critical, whatever the share; None if only the share counts.
        held_warning_bytes: how much WAL one thing may hold.
        temp_warning_bytes: how large temporary files may be just now.
        log_warning_bytes: how large the log files may be.
        orphans: whether to look for files without a relation.
        orphan_age_s: how old such a file has to be.
    """

    backup_dir: str | None = None
    used_ratio_warning: float = 0.8
    used_ratio_critical: float = 0.9
    min_free_bytes: int | None = None
    held_warning_bytes: int = 1024**3
    temp_warning_bytes: int = 1024**3
    log_warning_bytes: int = 1024**3
    orphans: bool = True
    orphan_age_s: float = 3600.0


@dataclass(frozen=True)
class FileSystem:
    """One file system, and the server's directories on it, as pairs of a kind and a path."""

    device: str
    free_bytes: int
    total_bytes: int
    used_bytes: int
    holds: list[tuple[str, str]] = field(default_factory=list)

    @property
    def used_ratio(self) -> float:
        """As `df` says it, 0 to 1: what is used of what the server may use, without the blocks reserved for root."""
        usable = self.used_bytes + self.free_bytes
        return round(self.used_bytes / usable, 4) if usable else 1.0

    @property
    def kinds(self) -> list[str]:
        """The words, each once."""
        return list(dict.fromkeys(kind for kind, _path in self.holds))

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "kinds": self.kinds,
            "path": self.holds[0][1],
            "holds": [{"kind": kind, "path": path} for kind, path in self.holds],
            "total_bytes": self.total_bytes,
            "free_bytes": self.free_bytes,
            "used_bytes": self.used_bytes,
            "used_ratio": self.used_ratio,
        }


@dataclass(frozen=True)
class DiskReport:
    """The file systems, the WAL and its holders, and other files."""

    file_systems: list[FileSystem]
    wal: dict[str, object]
    holders: list[Holder]
    temp: dict[str, object]
    orphans: dict[str, object] | None
    logs: dict[str, object]
    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """The return values of the module but for findings, severity and msg."""
        return {
            "file_systems": [each.as_dict() for each in self.file_systems],
            "wal": {**self.wal, "holders": [each.as_dict() for each in self.holders]},
            "temp": self.temp,
            "orphans": self.orphans,
            "logs": self.logs,
            "notes": self.notes,
        }


def collect(session: Session, target: Target, plan: DiskPlan, now: datetime) -> DiskReport:
    """Read and judge, in at most five statements.

    Raises:
        QueryFailed: the server went away or refused a statement.
    """
    facts = session.query(sql.FACTS)[0]
    notes = _blind_spots(facts)
    systems = _file_systems(_where(session, target, facts, plan, notes), target, notes)
    rows = session.query(sql.holders(session.server_version))
    sums = session.query(sql.directories(facts))[0]
    holders = wal_retention.find(facts, rows, sums, plan.held_warning_bytes, now)
    orphans = _orphans(session, facts, plan, notes)
    return DiskReport(
        file_systems=systems,
        wal={
            "size_bytes": sums.wal_bytes,
            "files": sums.wal_files,
            "segment_size_bytes": facts.segment_bytes,
            "max_wal_size_bytes": facts.max_wal_bytes,
            "min_wal_size_bytes": facts.min_wal_bytes,
            "ready_files": sums.ready_files,
            "advice": wal_retention.SWITCH_ADVICE,
        },
        holders=holders,
        temp={
            "size_bytes": sums.temp_bytes,
            "files": sums.temp_files,
            "written_bytes": facts.temp_bytes_ever,
            "written_files": facts.temp_files_ever,
            "since": to_rfc3339(facts.temp_since) if facts.temp_since else None,
        },
        orphans=orphans,
        logs={
            "directory": _log_directory(facts),
            "size_bytes": sums.log_bytes,
            "files": sums.log_files,
            "oldest": to_rfc3339(sums.log_since) if sums.log_since else None,
        },
        findings=[
            *_unseen(systems),
            *(finding for each in systems for finding in _judge_system(each, plan, holders)),
            *_beside_the_data(systems),
            *wal_retention.judge_size(sums.wal_bytes, facts, holders),
            *wal_retention.judge(holders, plan.held_warning_bytes),
            *_judge_files(sums, orphans, plan),
        ],
        notes=notes,
    )


def _blind_spots(facts: Any) -> list[str]:
    hidden = [
        what
        for seen, what in (
            (facts.settings, "the server's directories"),
            (facts.sessions, "the consumers of WAL"),
            (facts.wal, "the size of pg_wal"),
            (facts.archive, "the WAL files that wait for the archiver"),
            (facts.temp, "the temporary files"),
            (facts.log, "the log files"),
        )
        if not seen
    ]
    return [f"The login may not see {', '.join(hidden)}: grant it the role pg_monitor."] if hidden else []


def _where(session: Session, target: Target, facts: Any, plan: DiskPlan, notes: list[str]) -> list[tuple[str, str]]:
    """The directories to examine, each with the kind of its content."""
    found: list[tuple[str, str]] = []
    if facts.settings:
        places = directories.places(session, target)
        if places is None:
            notes.append(f"The server's directories are not visible from {target.name}, so their disks are not shown.")
        else:
            kinds = ["data", "wal", *["tablespace"] * (len(places) - 2)]
            found += zip(kinds, places)
            log = _log_directory(facts)
            if log is not None:
                found.append(("log", log))
    if plan.backup_dir:
        found.append(("backup", plan.backup_dir))
    return found


def _log_directory(facts: Any) -> str | None:
    if facts.log_directory is None or not facts.collects_logs:
        return None
    directory: str = facts.log_directory
    return directory if directory.startswith("/") else f"{facts.data_directory}/{directory}"


def _file_systems(where: Sequence[tuple[str, str]], target: Target, notes: list[str]) -> list[FileSystem]:
    systems: dict[str, FileSystem] = {}
    for kind, path in where:
        try:
            if target.files.info(path) is None:
                notes.append(f"{path} ({kind}) does not exist on {target.name}.")
                continue
            space = target.files.space(path)
        except FileProblem as exc:
            notes.append(exc.message)
            continue
        used = space.total_bytes - space.free_bytes if space.used_bytes is None else space.used_bytes
        found = FileSystem(space.device, space.free_bytes, space.total_bytes, used)
        system = systems.setdefault(space.device, found)
        system.holds.append((kind, path))
    return sorted(systems.values(), key=lambda each: -each.used_ratio)


def _orphans(session: Session, facts: Any, plan: DiskPlan, notes: list[str]) -> dict[str, object] | None:
    if not plan.orphans:
        return None
    if facts.standby:
        notes.append(
            "Files without a relation are not searched for on a standby: transactions of the primary may need them."
        )
        return None
    if not (facts.files and facts.sessions):
        notes.append("Files without a relation cannot be searched for: only a superuser may list the server's files.")
        return None
    rows = session.query(sql.ORPHANS, {"age_s": plan.orphan_age_s, "most": _MOST_ORPHANS})
    return {
        "files": int(rows[0].files) if rows else 0,
        "size_bytes": int(rows[0].total_bytes) if rows else 0,
        "largest": [
            {"path": row.path, "size_bytes": int(row.size_bytes), "modified": to_rfc3339(row.modified)} for row in rows
        ],
    }


def _unseen(systems: Sequence[FileSystem]) -> list[Finding]:
    """A finding if the server's disk is not visible: no finding would claim that it has enough space."""
    if any("data" in each.kinds for each in systems):
        return []
    message = "The file system with the server's data is not visible from here, so its free space is unknown."
    remedy = "Run this on the server's own host, or with kubernetes, and with a login that has pg_monitor."
    return [Finding("disk_unseen", "info", "data directory", None, None, message, remedy)]


def _beside_the_data(systems: Sequence[FileSystem]) -> list[Finding]:
    """Backups on the disk of what they are to replace: one fault takes both, and a growing catalog stops the server."""
    for each in systems:
        beside = [kind for kind in each.kinds if kind in ("data", "wal", "tablespace")]
        if "backup" in each.kinds and beside:
            [path] = [place for kind, place in each.holds if kind == "backup"]
            message = (
                f"The backups ({path}) are on the file system of the server's {', '.join(beside)}. If it fails, both "
                "are lost; if backups fill it, the server stops."
            )
            remedy = "Set postgres_backup_dir to a directory on another disk, or copy each backup to a second place."
            return [Finding("backup_beside_data", "warning", path, None, None, message, remedy)]
    return []


def _judge_system(system: FileSystem, plan: DiskPlan, holders: Sequence[Holder]) -> list[Finding]:
    share, low = system.used_ratio, plan.min_free_bytes
    severity, threshold = "ok", plan.used_ratio_warning
    if share >= plan.used_ratio_critical:
        severity, threshold = "critical", plan.used_ratio_critical
    elif share >= plan.used_ratio_warning:
        severity = "warning"
    short = low is not None and system.free_bytes < low
    kinds = ", ".join(system.kinds)
    free = f"{human_size(system.free_bytes)} of {human_size(system.total_bytes)} are free"
    message = f"The file system with {kinds} ({system.holds[0][1]}) is {share:.0%} full: {free}."
    if short:
        severity = "critical"
        message += f" At least {human_size(low or 0)} must be free."
    remedies = [_REMEDIES[kind] for kind in system.kinds if kind in _REMEDIES]
    if "wal" in system.kinds:
        held = [each for each in holders if each.severity != "ok" and each.remedy]
        remedies[:0] = [held[0].remedy] if held else []
    remedy = "" if severity == "ok" else " ".join(dict.fromkeys(remedies)) or f"{_DISK_SPACE}."
    return [Finding("disk_used", severity, system.holds[0][1], share, threshold, message, remedy)]


def _judge_files(sums: Any, orphans: dict[str, object] | None, plan: DiskPlan) -> list[Finding]:
    findings = []
    if sums.temp_bytes is not None and sums.temp_bytes > plan.temp_warning_bytes:
        message = (
            f"Temporary files of queries use {human_size(sums.temp_bytes)} now ({counted(sums.temp_files, 'file')})."
        )
        remedy = "Run the playbook godel.postgres_runbook.query_performance to see which queries write them."
        findings.append(
            Finding("temp_files", "warning", "pgsql_tmp", sums.temp_bytes, plan.temp_warning_bytes, message, remedy)
        )
    if sums.log_bytes is not None and sums.log_bytes > plan.log_warning_bytes:
        message = f"Log files use {human_size(sums.log_bytes)} ({counted(sums.log_files, 'file')})."
        findings.append(
            Finding("log_files", "info", "log", sums.log_bytes, plan.log_warning_bytes, message, _REMEDIES["log"])
        )
    if orphans and orphans["files"]:
        size = int(str(orphans["size_bytes"]))
        message = (
            f"{counted(int(str(orphans['files'])), 'file')} of this database without a relation, {human_size(size)}; "
            "a crash leaves such files."
        )
        findings.append(Finding("orphaned_files", "info", "base", size, None, message, _ORPHAN_ADVICE))
    return findings


def describe(report: DiskReport) -> str:
    """A few sentences for people."""
    told = []
    if report.file_systems:
        fullest = report.file_systems[0]
        count = len(report.file_systems)
        which = "The file system" if count == 1 else f"The fullest of {count} file systems"
        told.append(
            f"{which} ({', '.join(fullest.kinds)}) is {fullest.used_ratio:.0%} full, "
            f"{human_size(fullest.free_bytes)} are free."
        )
    if report.wal["size_bytes"] is not None:
        told.append(f"The size of pg_wal is {human_size(int(str(report.wal['size_bytes'])))}.")
    bad = [each.message for each in report.findings if each.severity in ("warning", "critical")]
    more = [f"And {len(bad) - 3} more."] if len(bad) > 3 else []
    return " ".join([*told, *bad[:3], *more]) or "This login cannot see the server's disks."
