# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who needs how much room, how that grows, and when the disk will be full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..._errors import FileProblem
from ..._findings import Finding
from ..._plan import Plan, no_option
from ..._postgres import directories
from ..._postgres.connection import Session
from ..._target.base import Space, Target
from ..._units import counted, from_rfc3339, human_duration, human_size, to_rfc3339
from . import sql
from .forecast import DAY_S, DiskForecast, forecast, trend

_TABLES = "Run the playbook godel.postgres_runbook.storage on this database to see its largest tables."
_ROOM = (
    "Enlarge the disk, or remove what is not needed: the playbooks godel.postgres_runbook.disk_space and "
    "godel.postgres_runbook.bloat_report show what can be removed."
)
_UNSEEN = "The server's data directory is not visible from {}, so free space is unknown."
_NO_RIGHT = "The login may not see the server's data directory, so free space is unknown. Grant it the role pg_monitor."


@dataclass(frozen=True)
class StoragePlan(Plan):
    """What to report, and by what to judge it.

    Attributes:
        top: how many tables to list.
        space: the room on the file system of the data directory, from `free_space`; None when it is not known.
        space_note: why it is not known.
        history: earlier samples, as `StorageReport.sample` has them; in any order, and nothing is taken for granted.
        full_warning_s, full_critical_s: how soon the disk may be full.
        disk_ratio_warning: from which share of the whole disk on a single database is worth a word.
        min_span_s: over how much time the samples have to be.
    """

    top: int = 50
    space: Space | None = None
    space_note: str = ""
    history: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    full_warning_s: float = 30 * DAY_S
    full_critical_s: float = 7 * DAY_S
    disk_ratio_warning: float = no_option(0.5)
    min_span_s: float = 6 * 3600.0


@dataclass(frozen=True)
class DatabaseSize:
    """One database. `size_bytes` is None when the login may not see it; `growth` in bytes a day, None if not known."""

    name: str
    current: bool
    size_bytes: int | None
    size_ratio: float | None
    growth: int | None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "name": self.name,
            "current": self.current,
            "size_bytes": self.size_bytes,
            "size_ratio": self.size_ratio,
            "growth_bytes_per_day": self.growth,
        }


@dataclass(frozen=True)
class StorageSample:
    """The sizes at one time. `free_bytes` and `total_bytes` are those of the file system, None if not known."""

    collected_at: datetime
    databases: Mapping[str, int]
    free_bytes: int | None = None
    total_bytes: int | None = None

    @property
    def size_bytes(self) -> int:
        """All databases together."""
        return sum(self.databases.values())

    def as_dict(self) -> dict[str, object]:
        """For the history."""
        return {
            "collected_at": to_rfc3339(self.collected_at),
            "databases": dict(self.databases),
            "free_bytes": self.free_bytes,
            "total_bytes": self.total_bytes,
        }


@dataclass(frozen=True)
class StorageReport:
    """The sizes, the forecast, and the findings."""

    databases: list[DatabaseSize]
    tables: list[dict[str, object]]
    table_count: int
    tablespaces: list[dict[str, object]]
    sample: StorageSample
    forecast: DiskForecast
    basis: str
    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """The return values of the module but for findings, severity and msg."""
        return {
            "databases": [each.as_dict() for each in self.databases],
            "databases_size_bytes": self.sample.size_bytes,
            "tables": self.tables,
            "table_count": self.table_count,
            "tablespaces": self.tablespaces,
            "free_bytes": self.sample.free_bytes,
            "total_bytes": self.sample.total_bytes,
            "forecast": {"basis": self.basis, **self.forecast.as_dict()},
            "sample": self.sample.as_dict(),
            "notes": self.notes,
        }


def free_space(session: Session, target: Target) -> tuple[Space | None, str]:
    """The room where the server keeps its data, and if it is not known, why. One statement."""
    if not session.value("SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')"):
        return None, _NO_RIGHT
    found = directories.places(session, target)
    if found is None:
        return None, _UNSEEN.format(target.name)
    try:
        return target.files.space(found[0]), ""
    except FileProblem as exc:
        return None, f"Free space is unknown: {exc.message}"


def collect(session: Session, plan: StoragePlan, now: datetime) -> StorageReport:
    """Read and judge, in three statements. Read-only.

    Raises:
        QueryFailed: the server went away or refused a statement.
    """
    found = session.query(sql.DATABASES)
    tables = session.query(sql.TABLES, {"top": plan.top})
    spaces = session.query(sql.TABLESPACES)
    sizes: dict[str, int] = {}
    for row in found:
        if row.size_bytes is not None:  # two names that cannot be read may look the same
            sizes[row.name] = sizes.get(row.name, 0) + int(row.size_bytes)
    space = plan.space
    sample = StorageSample(now, sizes, space.free_bytes if space else None, space.total_bytes if space else None)
    earlier, ignored = read_history(plan.history, now)
    samples = [*earlier, sample]
    points, basis = _points(samples)
    prediction = forecast(points, sample.free_bytes, now, plan.min_span_s)
    total = sum(sizes.values())
    databases = [
        DatabaseSize(
            row.name,
            row.current,
            row.size_bytes,
            round(row.size_bytes / total, 4) if row.size_bytes is not None and total else None,
            _growth(samples, row.name, plan.min_span_s),
        )
        for row in found
    ]
    return StorageReport(
        databases=databases,
        tables=[_table(row) for row in tables],
        table_count=tables[0].tables if tables else 0,
        tablespaces=[{"name": row.name, "location": row.location, "size_bytes": row.size_bytes} for row in spaces],
        sample=sample,
        forecast=prediction,
        basis=basis,
        findings=_judge(databases, prediction, plan, sample, now),
        notes=_notes(found, tables, spaces, plan, ignored),
    )


def read_history(history: Sequence[Mapping[str, Any]], now: datetime) -> tuple[list[StorageSample], int]:
    """The samples that are of use, oldest first, one for each time, and how many are not."""
    samples: dict[datetime, StorageSample] = {}
    ignored = 0
    for each in history:
        try:
            at = from_rfc3339(str(each["collected_at"]))
            databases = {str(name): int(size) for name, size in dict(each.get("databases") or {}).items()}
            free, total = each.get("free_bytes"), each.get("total_bytes")
            sample = StorageSample(
                at, databases, None if free is None else int(free), None if total is None else int(total)
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            ignored += 1
            continue
        if at < now:
            samples[at] = sample
        else:
            ignored += 1
    return [samples[at] for at in sorted(samples)], ignored


def _points(samples: Sequence[StorageSample]) -> tuple[list[tuple[datetime, float]], str]:
    """What grows: the used part of the disk, or, while that is unknown, the databases."""
    used = [each for each in samples if each.free_bytes is not None]
    if samples[-1].free_bytes is not None and len(used) >= len(samples) / 2 and len(used) > 2:
        if all(each.total_bytes for each in used):  # so that a disk that was made larger does not count
            return [
                (each.collected_at, float((each.total_bytes or 0) - (each.free_bytes or 0))) for each in used
            ], "disk"
        return [(each.collected_at, -float(each.free_bytes or 0)) for each in used], "disk"
    # A database that is not in all samples may have been hidden from the login.
    common = set(samples[-1].databases).intersection(*(each.databases for each in samples))
    return [
        (each.collected_at, float(sum(each.databases[name] for name in common))) for each in samples if common
    ], "databases"


def _growth(samples: Sequence[StorageSample], name: str, min_span_s: float) -> int | None:
    points = [(each.collected_at, float(each.databases[name])) for each in samples if name in each.databases]
    found, _reason = trend(points, min_span_s)
    return round(found.per_day) if found else None


def _table(row: Any) -> dict[str, object]:
    found: dict[str, object] = dict(row._asdict())
    return {name: value for name, value in found.items() if name not in ("oid", "locked", "tables")}


def _notes(
    databases: Sequence[Any], tables: Sequence[Any], spaces: Sequence[Any], plan: StoragePlan, ignored: int
) -> list[str]:
    notes = [plan.space_note] if plan.space_note else []
    for rows, what, right in (
        (databases, "databases", "CONNECT on them"),
        (spaces, "tablespaces", "CREATE on them"),
    ):
        hidden = [row.name for row in rows if row.size_bytes is None]
        if hidden:
            names = ", ".join(hidden[:10]) + (f" and {len(hidden) - 10} more" if len(hidden) > 10 else "")
            notes.append(f"The login may not see the size of these {what}: {names}. Grant it pg_monitor, or {right}.")
    locked = [row.identity for row in tables if row.locked]
    if locked:
        names = ", ".join(locked[:10])
        notes.append(f"Sizes are from the last VACUUM for tables with an exclusive lock, held or waited for: {names}.")
    if ignored:
        notes.append(
            f"Samples of the history that are ignored, because they are unreadable or not from the past: {ignored}."
        )
    return notes


def _judge(
    databases: Sequence[DatabaseSize], prediction: DiskForecast, plan: StoragePlan, sample: StorageSample, now: datetime
) -> list[Finding]:
    findings = []
    if prediction.full_at is not None:
        findings.append(_judge_forecast(prediction, prediction.full_at, plan, now))
    if sample.total_bytes:
        for each in databases:
            share = (each.size_bytes or 0) / sample.total_bytes
            if share > plan.disk_ratio_warning:
                message = (
                    f"The database {each.name!r} alone is as large as {share:.0%} of the disk with the server's data "
                    f"({human_size(each.size_bytes or 0)} of {human_size(sample.total_bytes)})."
                )
                value = round(share, 4)
                findings.append(
                    Finding("database_share", "info", each.name, value, plan.disk_ratio_warning, message, _TABLES)
                )
    return findings


def _judge_forecast(prediction: DiskForecast, full_at: datetime, plan: StoragePlan, now: datetime) -> Finding:
    left_s = (full_at - now).total_seconds()
    certain = prediction.trend is not None and prediction.trend.certain
    severity, threshold = "ok", plan.full_warning_s
    if left_s < plan.full_critical_s and certain:
        severity, threshold = "critical", plan.full_critical_s
    elif left_s < plan.full_warning_s:
        severity = "warning"
    message = (
        f"The disk with the server's data will be full in {human_duration(left_s)} if it keeps growing at this rate "
        f"({_range(prediction)})."
    )
    if not certain:
        message += " The samples differ so much that it may not grow at all."
    remedy = "" if severity == "ok" else _ROOM
    return Finding("disk_forecast", severity, "data directory", round(left_s), threshold, message, remedy)


def _range(prediction: DiskForecast) -> str:
    def day(moment: datetime | None) -> str:
        return "never" if moment is None else f"{moment:%Y-%m-%d}"

    return f"between {day(prediction.full_at_earliest)} and {day(prediction.full_at_latest)}"


def describe(report: StorageReport) -> str:
    """A few sentences for people."""
    text = f"{counted(len(report.databases), 'database')}, {human_size(report.sample.size_bytes)}."
    if report.tables:
        first = report.tables[0]
        size = human_size(int(str(first["total_bytes"])))
        which = "The only table" if report.table_count == 1 else f"The largest of {report.table_count:,} tables"
        text += f" {which} is {first['identity']}, {size}."
    if report.sample.free_bytes is not None:
        text += f" {human_size(report.sample.free_bytes)} are free."
    worst_ones = [each.message for each in report.findings if each.severity in ("warning", "critical")]
    if worst_ones:
        return " ".join([text, *worst_ones])
    if report.forecast.full_at is not None:
        return (
            f"{text} At this rate the disk is full on {report.forecast.full_at:%Y-%m-%d} ({_range(report.forecast)})."
        )
    return f"{text} No date can be predicted for the disk to fill up. {report.forecast.why}"
