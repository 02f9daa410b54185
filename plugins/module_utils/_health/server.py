# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server as a whole: version, uptime, dangerous settings, and how near each database is to wraparound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .._diagnostics.section import Section, by_session
from .._findings import Finding
from .._maintenance import wraparound
from .._maintenance.wraparound import DatabaseAge
from .._postgres.connection import Session
from .._units import counted, from_rfc3339, human_duration, to_rfc3339
from . import sql

_SETTINGS = [
    *("autovacuum", "fsync", "full_page_writes", "data_checksums", "track_counts", "max_connections", "shared_buffers"),
    *(
        "autovacuum_freeze_max_age",
        "autovacuum_multixact_freeze_max_age",
        "zero_damaged_pages",
        "ignore_checksum_failure",
    ),
]
_RELOAD = "ALTER SYSTEM SET {name} = {value}; SELECT pg_reload_conf();"


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has counted."""

    collected_at: datetime
    deadlocks: int

    @classmethod
    def parse(cls, sample: Mapping[str, Any] | None) -> Earlier | None:
        """From a sample as the health page keeps it; None when it does not say."""
        try:
            given = sample or {}
            return cls(from_rfc3339(given["collected_at"]), int(given["deadlocks"]))
        except (KeyError, OverflowError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class ServerPlan:
    """From when on something is too much.

    Attributes:
        freeze_factor: the share of autovacuum_freeze_max_age at which a database is named; twice that is a warning.
        min_hit_ratio: share of blocks that were found in shared buffers.
        max_rollback_ratio: share of transactions that were rolled back.
        deadlocks_per_day: from this rate on they are a finding.
        restarted_s: a server that is younger has just been started.
        limit: how many databases to list.
        earlier: what to compare with; None when there is nothing.
    """

    freeze_factor: float = wraparound.SHARE
    min_hit_ratio: float = 0.9
    max_rollback_ratio: float = 0.2
    deadlocks_per_day: float = 1
    restarted_s: float = 900
    limit: int = 50
    earlier: Earlier | None = None


@dataclass(frozen=True)
class ServerReport:
    """What was read, and what is to be said of it."""

    figures: Mapping[str, object]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def values(self) -> dict[str, object]:
        """For a module's result."""
        return dict(self.figures)


def collect(session: Session, plan: ServerPlan, now: datetime) -> ServerReport:
    """One statement, and three more for each database that nears wraparound. Ages are by the server's own clock."""
    row = session.query(sql.SERVER, {"settings": _SETTINGS, "limit": plan.limit})[0]
    sums: Mapping[str, Any] = row.sums
    settings: dict[str, str] = row.settings or {}
    databases = [dict(each) for each in row.databases or []]
    figures: dict[str, object] = {
        "version": row.version,
        "role": "standby" if row.standby else "primary",
        "database": row.db,
        "started": to_rfc3339(row.started),
        "uptime_s": round(row.uptime_s, 1),
        "database_count": sums["databases"],
        "commits": sums["commits"],
        "rollbacks": sums["rollbacks"],
        "rollback_ratio": _share(sums["rollbacks"], sums["commits"]),
        "cache_hit_ratio": _share(sums["hits"], sums["reads"]),
        "deadlocks": sums["deadlocks"],
        "temp_bytes": sums["temp_bytes"],
        "checksum_failures": sums["checksum_failures"],
        "statistics_age_s": sums["statistics_age_s"] and round(sums["statistics_age_s"], 1),
        "pending_restart": list(row.pending_restart),
        "settings": settings,
        "databases": databases,
    }
    findings = [
        *_settings(settings),
        *_checksums(databases, settings),
        *wraparound.findings(session, _ages(databases, settings, row.db), "server_wraparound", plan.freeze_factor),
        *_counters(sums, figures, plan),
        *_restarts(figures, plan),
    ]
    notes = []
    period = _deadlocks(sums, row.uptime_s, plan.earlier, now)
    if period is not None:
        findings += _judge_deadlocks(*period, plan)
    elif sums["deadlocks"]:
        notes.append(
            f"The server has counted {counted(sums['deadlocks'], 'deadlock')} since an unknown time. With "
            "postgres_report_dir, the second and later runs report how many are new."
        )
    if not row.sees_statistics:
        notes.append("This login cannot see sessions and statements of other roles: grant it pg_monitor.")
        findings.append(_blind(row.login, row.login_quoted))
    if sums["databases"] > len(databases):
        notes.append(f"Only {len(databases)} of {sums['databases']} databases are listed, those with the oldest rows.")
    if settings.get("track_counts") == "off":
        notes.append("track_counts is off: the server counts nothing, and autovacuum does not work.")
    return ServerReport(figures, findings, notes)


def _blind(login: str, quoted: str) -> Finding:
    """A section without findings proves nothing when the login sees nothing of others."""
    return Finding(
        "server_rights", "warning", login, "pg_monitor", None,
        f"The role {login!r} lacks the privileges of pg_monitor: sessions, queries, lag and files of others are hidden "
        "from it, and are not checked.",
        f"GRANT pg_monitor TO {quoted};",
    )  # fmt: skip


def describe(report: ServerReport) -> str:
    """One sentence for people."""
    figures = report.figures
    since = human_duration(float(str(figures["uptime_s"])))
    databases = counted(int(str(figures["database_count"])), "database")
    return f"PostgreSQL {figures['version']}, {figures['role']}, up for {since}, {databases}."


def _share(part: int | None, rest: int | None) -> float | None:
    """Part of the sum of both; None when nothing was counted."""
    total = (part or 0) + (rest or 0)
    return round((part or 0) / total, 4) if total else None


def _settings(settings: Mapping[str, str]) -> Iterator[Finding]:
    dangerous = (
        ("fsync", "off", "critical", "on", "when the machine crashes, the whole cluster may be lost"),
        ("full_page_writes", "off", "critical", "on", "when the machine crashes, pages may be torn beyond repair"),
        ("zero_damaged_pages", "on", "critical", "off", "damaged pages are emptied as they are read"),
        ("ignore_checksum_failure", "on", "critical", "off", "damaged pages are read without an error"),
        ("autovacuum", "off", "warning", "on", "tables bloat, and their statistics become stale"),
        ("track_counts", "off", "warning", "on", "autovacuum cannot detect which tables need work"),
    )
    for name, bad, severity, good, harm in dangerous:
        if settings.get(name) == bad:
            yield Finding(
                f"server_{name}", severity, name, bad, good, f"{name} is {bad}: {harm}.",
                _RELOAD.format(name=name, value=good),
            )  # fmt: skip


def _checksums(databases: list[dict[str, Any]], settings: Mapping[str, str]) -> Iterator[Finding]:
    for each in databases:
        if each["checksum_failures"]:
            yield Finding(
                "server_checksum_failures", "critical", each["name"], each["checksum_failures"], 0,
                f"Reads in {each['name']} found {counted(each['checksum_failures'], 'damaged page')}.",
                "Stop all writes, keep the files, check the disk, and restore: see the playbook "
                "godel.postgres_runbook.restore.",
            )  # fmt: skip
    if settings.get("data_checksums") == "off":
        yield Finding(
            "server_data_checksums", "info", "data_checksums", "off", "on",
            "Data checksums are off: damaged pages are not detected.",
            "Stop the server and run pg_checksums --enable, or initialise the next cluster with them.",
        )  # fmt: skip


def _ages(databases: Sequence[Mapping[str, Any]], settings: Mapping[str, str], current: str) -> list[DatabaseAge]:
    return [
        DatabaseAge(
            name=each["name"],
            current=each["name"] == current,
            connectable=each["connectable"],
            template=False,  # it does not matter here
            freeze_age=each["freeze_age"] or 0,
            multixact_age=each["multixact_age"] or 0,
            freeze_max_age=int(settings.get("autovacuum_freeze_max_age") or 200_000_000),
            multixact_freeze_max_age=int(settings.get("autovacuum_multixact_freeze_max_age") or 400_000_000),
        )
        for each in databases
    ]


def _counters(sums: Mapping[str, Any], figures: Mapping[str, Any], plan: ServerPlan) -> Iterator[Finding]:
    hit, rolled = figures["cache_hit_ratio"], figures["rollback_ratio"]
    if hit is not None and hit < plan.min_hit_ratio and (sums["reads"] or 0) > 100_000:
        yield Finding(
            "server_cache_hit_ratio", "info", "shared_buffers", hit, plan.min_hit_ratio,
            f"{hit:.1%} of the blocks were found in shared buffers.",
            "See which queries read most: run the playbook godel.postgres_runbook.query_performance.",
        )  # fmt: skip
    if rolled is not None and rolled > plan.max_rollback_ratio and (sums["rollbacks"] or 0) > 1000:
        yield Finding(
            "server_rollback_ratio", "info", "transactions", rolled, plan.max_rollback_ratio,
            f"{rolled:.1%} of all transactions were rolled back.",
            "Look for the errors in the server's log.",
        )  # fmt: skip


def _deadlocks(
    sums: Mapping[str, Any], uptime_s: float, earlier: Earlier | None, now: datetime
) -> tuple[int, float] | None:
    """How many there were, and within what time; None when that is not known. A planned restart clears no counter."""
    count, age_s = sums["deadlocks"] or 0, sums["deadlocks_age_s"]
    since_s = (now - earlier.collected_at).total_seconds() if earlier else 0.0
    if earlier is None or since_s <= 0:
        return None if age_s is None else (count, age_s)
    if count >= earlier.deadlocks and (age_s is None or age_s >= since_s):
        return count - earlier.deadlocks, since_s
    cleared = (age_s is not None and age_s < since_s) or uptime_s < since_s  # by pg_stat_reset(), or by a crash
    return (count, since_s) if cleared else None  # or else a database went with its counters


def _judge_deadlocks(count: int, period_s: float, plan: ServerPlan) -> Iterator[Finding]:
    per_day = count / max(1.0, period_s / 86400)
    if count and per_day >= plan.deadlocks_per_day:
        yield Finding(
            "server_deadlocks", "info", "deadlocks", round(per_day, 2), plan.deadlocks_per_day,
            f"{counted(count, 'deadlock')} within the last {human_duration(period_s)}.",
            "The server's log has both statements of each. Change them to lock rows in the same order.",
        )  # fmt: skip


def _restarts(figures: Mapping[str, Any], plan: ServerPlan) -> Iterator[Finding]:
    if figures["uptime_s"] < plan.restarted_s:
        yield Finding(
            "server_restarted", "info", "server", figures["uptime_s"], plan.restarted_s,
            f"The server was started {human_duration(figures['uptime_s'])} ago.",
            "If the restart was not planned, look for a crash in the server's log.",
        )  # fmt: skip
    if figures["pending_restart"]:
        names = ", ".join(figures["pending_restart"])
        yield Finding(
            "server_pending_restart", "info", names, len(figures["pending_restart"]), None,
            f"Changed settings that wait for a restart: {names}.",
            "Restart the server in a maintenance window.",
        )  # fmt: skip


def _configure(plan: ServerPlan, options: Mapping[str, Any]) -> ServerPlan:
    return replace(plan, earlier=Earlier.parse(options["server_baseline"]))


SECTION = Section("server", by_session(collect), describe, ServerPlan(), _configure)
