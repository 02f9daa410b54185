# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of one server: each section in turn, over one connection. One that fails is a finding."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .._diagnostics.section import Section, Visit
from .._errors import ConnectionFailed, RunbookError
from .._findings import SEVERITIES, Finding, summary, worst
from .._plan import Plan
from .._units import counted, human_duration, to_rfc3339
from .sections import SECTIONS
from .session import ReconnectingSession


@dataclass(frozen=True)
class HealthPlan(Plan):
    """What to look at.

    Attributes:
        sections: their names; they are always read in the same order.
        ignore: checks whose findings are left out.
        plans: the plan of each section; one without a plan is not read.
    """

    sections: Collection[str]
    ignore: Collection[str] = ()
    plans: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SectionHealth:
    """One section of one server: what it says, or why it says nothing."""

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
    """A server's health at a time. `unproven` says that nothing was read of it, which is critical."""

    collected_at: datetime
    reachable: bool
    statements: int
    duration_s: float
    sections: Sequence[SectionHealth]
    unproven: Finding | None = None

    @property
    def findings(self) -> list[dict[str, object]]:
        """All of them, the worst first, each with its section; a finding that two sections have alike stands once."""
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


def collect(line: ReconnectingSession, plan: HealthPlan, now: datetime) -> Health:
    """Look at a server. Read-only. A server that cannot be reached has a health, too: a bad one."""
    started = time.monotonic()
    visit = Visit(line.use, line.target, line.login, line.db, now)
    sections = [
        _without(_read(section, line, visit, plan.plans[section.name]), plan.ignore)
        for section in SECTIONS
        if section.name in plan.sections and section.name in plan.plans
    ]
    read = any(each.name in _ASKING and each.state == "read" for each in sections)
    return Health(now, read, line.statements, time.monotonic() - started, sections, _unproven(sections, plan))


_ASKING = {section.name for section in SECTIONS if section.asks}


def _unproven(sections: Sequence[SectionHealth], plan: HealthPlan) -> Finding | None:
    """The finding for a server of which nothing was read, whatever the reason; it cannot be ignored."""
    asking = [each for each in sections if each.name in _ASKING]
    if any(each.state == "read" for each in asking or sections):
        return None
    if any(each.check == "health_connection" for section in sections for each in section.findings):
        return None  # it says so already
    wanted = ", ".join(plan.sections) or "none"
    message = f"No section could be read, so the state of the server is unknown (sections: {wanted})."
    remedy = "See why each section failed. The section backups needs backup_dir (postgres_backup_dir)."
    return Finding("health_nothing_read", "critical", "server", 0, 1, message, remedy)


def _without(section: SectionHealth, ignore: Collection[str]) -> SectionHealth:
    """The section without the findings to ignore; their number is noted."""
    kept = [each for each in section.findings if each.check not in ignore]
    left_out = len(section.findings) - len(kept)
    if not left_out:
        return section
    note = f"{counted(left_out, 'finding')} left out because of the option ignore."
    return replace(section, findings=kept, notes=[*section.notes, note])


def _read(section: Section, line: ReconnectingSession, visit: Visit, plan: Any) -> SectionHealth:
    """One section, whatever happens."""
    started = time.monotonic()
    known = line.failure
    try:
        report = section.collect(visit, plan)
    except RunbookError as exc:
        if known is not None and section.asks:  # one finding for one cause
            return SectionHealth(section.name, "not read", "The server is no longer reachable.")
        spent, failure = time.monotonic() - started, _failure(section.name, exc, line)
        return SectionHealth(section.name, "failed", exc.message, [failure], duration_s=spent)
    spent = time.monotonic() - started
    data = {key: value for key, value in report.values().items() if key != "notes"}
    return SectionHealth(section.name, "read", section.describe(report), report.findings, report.notes, data, spent)


def _failure(name: str, exc: RunbookError, line: ReconnectingSession) -> Finding:
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
            f"The connection was lost while the section {name} was read: {exc.why or exc.what}.".replace("..", "."),
            exc.remedy,
        )  # fmt: skip
    return Finding(
        "health_section", "warning", name, None, None,
        f"The section {name} could not be read. {exc.message}",
        exc.remedy or f"Run the playbook of this subject separately, with a longer timeout than {line.timeout_s:g} s.",
    )  # fmt: skip


def describe(health: Health) -> str:
    """A few sentences for people: how bad it is, and the worst of it."""
    findings = health.findings
    told = summary(str(each["severity"]) for each in findings)
    head = f"{counted(len(health.sections), 'section')} in {human_duration(health.duration_s)}: {told}."
    serious = [each for each in findings if each["severity"] in ("critical", "warning")]
    return f"{head} {serious[0]['message']}" if serious else head
