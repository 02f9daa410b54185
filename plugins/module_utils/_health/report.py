# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of one server: every subject in turn over one connection. What fails is told, and the rest goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from .._diagnostics.activity import report as activity
from .._diagnostics.disk import report as disk
from .._diagnostics.queries import report as queries
from .._diagnostics.replication import report as replication
from .._diagnostics.storage import report as storage
from .._errors import ConnectionFailed, RunbookError
from .._findings import SEVERITIES, Finding, worst
from .._plan import Plan
from .._postgres import cluster_id
from .._postgres.cluster_id import Identity
from .._postgres.connection import Server
from .._units import human_duration, to_rfc3339
from . import backups as health_backups
from . import maintenance, reachability, server
from . import past as health_past
from .past import Past
from .schema import report as health_schema
from .session import Line


class Report(Protocol):
    """What every subject returns."""

    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """The figures, as the subject's own module returns them."""


@dataclass(frozen=True)
class HealthPlan(Plan):
    """What to look at.

    Attributes:
        sections: their names; they are always looked at in the same order.
        ignore: checks whose findings are not told.
        plans: the plan of a section, where it is not the default.
        backups: where the backups are; None if they are not to be looked at.
        past: what to compare with.
    """

    sections: Collection[str]
    ignore: Collection[str] = ()
    plans: Mapping[str, Any] = field(default_factory=dict)
    backups: health_backups.BackupsPlan | None = None
    past: Past = field(default_factory=Past)


@dataclass(frozen=True)
class Section:
    """One subject of one server: what it says, or why it says nothing."""

    name: str
    state: str
    message: str
    findings: Sequence[Finding] = ()
    notes: Sequence[str] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    duration_s: float = 0.0

    def as_dict(self) -> dict[str, object]:
        """For a module's result. Findings stand apart, under the name of the section."""
        return {
            "state": self.state,
            "severity": worst(self.findings),
            "message": self.message,
            "notes": list(self.notes),
            "duration_s": round(self.duration_s, 3),
            "data": dict(self.data),
        }


@dataclass(frozen=True)
class Health:
    """A server's health at a time. `unproven` says that nothing was read of it, which is never well."""

    collected_at: datetime
    reachable: bool
    statements: int
    duration_s: float
    sections: Sequence[Section]
    unproven: Finding | None = None

    @property
    def findings(self) -> list[dict[str, object]]:
        """All of them, the worst first, each with its section; what two sections say alike is told once."""
        told: dict[tuple[str, str], dict[str, object]] = {}
        if self.unproven is not None:
            told[(self.unproven.subject, self.unproven.message)] = {**self.unproven.as_dict(), "section": ""}
        every = [finding for section in self.sections for finding in section.findings]
        for section in self.sections:
            for finding in section.findings:
                if finding.check == "wal_slot" and any(_says_more(other, finding) for other in every):
                    continue
                told.setdefault((finding.subject, finding.message), {**finding.as_dict(), "section": section.name})
        return sorted(told.values(), key=lambda each: -SEVERITIES.index(str(each["severity"])))

    @property
    def severity(self) -> str:
        """The worst of the findings."""
        found = [finding for section in self.sections for finding in section.findings]
        return worst([*found, *([self.unproven] if self.unproven else [])])

    def values(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "collected_at": to_rfc3339(self.collected_at),
            "reachable": self.reachable,
            "statements": self.statements,
            "duration_s": round(self.duration_s, 3),
            "findings": self.findings,
            "severity": self.severity,
            "sections": {section.name: section.as_dict() for section in self.sections},
            "msg": describe(self),
        }


def _says_more(other: Finding, held: Finding) -> bool:
    """Whether the section `replication` says of a slot what `disk` says as well, and not less urgently."""
    same = other.check.startswith("replication_slot") and other.subject == held.subject
    return same and SEVERITIES.index(other.severity) >= SEVERITIES.index(held.severity)


@dataclass(frozen=True)
class _Subject:
    """How a section is read, and said in a sentence. `asks` is whether it asks the server."""

    read: Callable[[Line], Any]
    say: Callable[[Any], str]
    asks: bool = True


def _subjects(plan: HealthPlan, now: datetime) -> dict[str, _Subject]:
    """The sections in the order in which they are read: what is cheap and urgent first."""
    plans, past = plan.plans, plan.past

    def asking(subject: Any, plan_class: Any, name: str) -> _Subject:
        chosen = plans.get(name) or plan_class()
        return _Subject(lambda line: line.use(lambda session: subject.collect(session, chosen, now)), subject.describe)

    def look_at_sessions(line: Line) -> Any:
        chosen = plans.get("activity") or activity.ActivityPlan()
        cores, source = reachability.cores(Server(line.target, line.login), chosen.cores)
        chosen = replace(chosen, cores=cores, cores_from="the thresholds" if chosen.cores else source)
        return line.use(lambda session: activity.collect(session, chosen, now))

    of_server = plans.get("server") or server.ServerPlan()
    of_queries = plans.get("queries") or queries.QueriesPlan()
    of_storage = plans.get("storage") or storage.StoragePlan()
    on_disk = plans.get("disk") or disk.DiskPlan()
    found = {
        "server": _Subject(
            lambda line: line.use(lambda session: health_past.look_at_server(session, of_server, past, now)),
            server.describe,
        ),
        "activity": _Subject(look_at_sessions, activity.describe),
        "queries": _Subject(
            lambda line: line.use(lambda session: health_past.look_at_queries(session, of_queries, past, now)),
            queries.describe,
        ),
        "storage": _Subject(
            lambda line: line.use(
                lambda session: health_past.look_at_storage(session, line.target, of_storage, past, now)
            ),
            storage.describe,
        ),
        "disk": _Subject(
            lambda line: line.use(lambda session: disk.collect(session, line.target, on_disk, now)), disk.describe
        ),
        "replication": asking(replication, replication.ReplicationPlan, "replication"),
        "maintenance": asking(maintenance, maintenance.MaintenancePlan, "maintenance"),
        "schema": asking(health_schema, health_schema.SchemaPlan, "schema"),
    }
    backups = plan.backups
    if backups is not None:
        found["backups"] = _Subject(
            lambda line: health_backups.collect(line.target, line.db, backups, now, _identity(line)),
            health_backups.describe,
            asks=False,
        )
    return found


def _identity(line: Line) -> Identity:
    """Which server it is; a catalog is judged while the server is down, too."""
    try:
        return Identity(cluster=line.use(cluster_id.read_identity).cluster)
    except RunbookError as exc:
        return Identity(note=cluster_id.unasked(exc.why or exc.what))


SECTIONS = ("server", "activity", "queries", "storage", "disk", "replication", "maintenance", "schema", "backups")


def collect(line: Line, plan: HealthPlan, now: datetime) -> Health:
    """Look at a server. Read-only. A server that cannot be reached has a health, too: a bad one."""
    started = time.monotonic()
    subjects = _subjects(plan, now)
    sections: list[Section] = []
    for name, subject in subjects.items():
        if name in plan.sections:
            sections.append(_without(_section(name, line, subject), plan.ignore))
    read = any(subjects[each.name].asks and each.state == "read" for each in sections)
    unproven = _unproven(sections, subjects, plan)
    return Health(now, read, line.statements, time.monotonic() - started, sections, unproven)


def _unproven(sections: Sequence[Section], subjects: Mapping[str, _Subject], plan: HealthPlan) -> Finding | None:
    """The finding for a server of which nothing was read, whatever the reason; it cannot be ignored."""
    asking = [each for each in sections if subjects[each.name].asks]
    if any(each.state == "read" for each in asking or sections):
        return None
    if any(each.check == "health_connection" for section in sections for each in section.findings):
        return None  # it says so already
    wanted = ", ".join(plan.sections) or "none"
    message = f"No section could be read, so that nothing is known of this server (sections: {wanted})."
    remedy = "See why each section failed. The section backups needs backup_dir (postgres_backup_dir)."
    return Finding("health_nothing_read", "critical", "server", 0, 1, message, remedy)


def _without(section: Section, ignore: Collection[str]) -> Section:
    """The section without the findings that nobody wants; their number is noted."""
    kept = [each for each in section.findings if each.check not in ignore]
    left_out = len(section.findings) - len(kept)
    if not left_out:
        return section
    told = f"{left_out} {'finding is' if left_out == 1 else 'findings are'} left out, as ignore says."
    return replace(section, findings=kept, notes=[*section.notes, told])


def _section(name: str, line: Line, subject: _Subject) -> Section:
    """One section, whatever happens."""
    started = time.monotonic()
    known = line.failure
    try:
        report: Report = subject.read(line)
    except RunbookError as exc:
        if known is not None and subject.asks:  # one finding for one cause
            return Section(name, "not read", "The server could not be reached any more.")
        spent = time.monotonic() - started
        return Section(name, "failed", exc.message, [_failure(name, exc, line)], duration_s=spent)
    spent = time.monotonic() - started
    data = {key: value for key, value in report.values().items() if key != "notes"}
    return Section(name, "read", subject.say(report), report.findings, report.notes, data, spent)


def _failure(name: str, exc: RunbookError, line: Line) -> Finding:
    where = f"{line.login.unix_socket or line.login.host or 'the default socket'}, port {line.login.port}"
    if exc is line.failure:  # no session at all: no server, no pod, no library
        why = exc.why if isinstance(exc, ConnectionFailed) else f"{exc.what}. {exc.why}".strip()
        return Finding(
            "health_connection", "critical", where, None, None,
            f"The server cannot be reached: {(why or exc.what).rstrip('.')}.", exc.remedy,
        )  # fmt: skip
    if exc.details.get("lost"):
        return Finding(
            "health_connection", "critical", where, None, None,
            f"The server was lost while the section {name} was read: {exc.why or exc.what}.".replace("..", "."),
            exc.remedy,
        )  # fmt: skip
    return Finding(
        "health_section", "warning", name, None, None,
        f"The section {name} could not be read. {exc.message}",
        exc.remedy or f"Run the playbook of this subject by itself, with a longer timeout than {line.timeout_s:g} s.",
    )  # fmt: skip


def describe(health: Health) -> str:
    """A few sentences for people: how bad it is, and the worst of it."""
    findings = health.findings
    counts = {word: sum(each["severity"] == word for each in findings) for word in ("critical", "warning")}
    told = [f"{count} {word}" for word, count in counts.items() if count]
    head = (
        f"{len(health.sections)} sections in {human_duration(health.duration_s)}: {', '.join(told) or 'all is well'}."
    )
    serious = [each for each in findings if each["severity"] in counts]
    return f"{head} {serious[0]['message']}" if serious else head
