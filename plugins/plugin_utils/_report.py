# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook's result as a report for people and programs: JSON, Markdown, and HTML that needs no other file.

The contract of the modules makes this generic: units stand in names (`size_bytes`, `duration_s`), `findings` are judged
facts, `msg` is a sentence, and `error` has the parts of a failure. A new module needs no code here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..module_utils._findings import SEVERITIES
from ._templates import render
from ._text import label, labels, text

SCHEMA_VERSION = 1
# What Ansible adds to a result, and what stands elsewhere in the report.
_NOT_DATA = {
    *("ansible_facts", "changed", "deprecations", "diff", "error", "exception", "failed", "findings", "invocation"),
    *("msg", "severity", "skipped", "warnings"),
}
# A task that was skipped, or never ran, has no more than these.
_SAYS_NOTHING = {"changed", "false_condition", "failed", "skip_reason", "skipped"}


@dataclass(frozen=True)
class ReportHeader:
    """Whose report it is: the playbook, the inventory's name of the host, the database (may be empty), the time."""

    playbook: str
    title: str
    host: str
    database: str
    time: str


@dataclass(frozen=True)
class ResultReport:
    """Everything a report says. `data` are the return values; `columns` chooses those of a table, by its key."""

    about: ReportHeader
    severity: str
    changed: bool
    message: str
    findings: Sequence[Mapping[str, Any]]
    data: Mapping[str, Any]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def as_json(self) -> str:
        """The report for programs, with exact figures and every value under its own name."""
        document = {
            "schema_version": SCHEMA_VERSION,
            **asdict(self.about),
            "severity": self.severity,
            "changed": self.changed,
            "message": self.message,
            "findings": [dict(finding) for finding in self.findings],
        }
        document.update((key, value) for key, value in self.data.items() if key not in document)
        return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"

    def as_markdown(self) -> str:
        """The report in Markdown, with the tables of GitHub and GitLab."""
        return render("report.md.j2", report=self, tables=tables(self))

    def as_html(self) -> str:
        """The report as one HTML file: no script, no font, no picture and nothing else to load."""
        return render("report.html.j2", report=self, tables=tables(self))


@dataclass(frozen=True)
class ReportTable:
    """Rows of texts under a title, ready to be printed."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def width(self) -> int:
        """How many columns it has. One column without a head is a list."""
        return len(self.head) or max((len(row) for row in self.rows), default=0)


def build(
    result: Mapping[str, Any], about: ReportHeader, columns: Mapping[str, Sequence[str]] | None = None
) -> ResultReport:
    """The report of a module's result, failed or not."""
    findings = [dict(finding) for finding in result.get("findings") or []]
    if result.get("failed") or result.get("unreachable"):
        findings.append(_failure(result, about))
    elif not any(name for name in result if name not in _SAYS_NOTHING):
        findings.append(_failure({"msg": "There is no result: the playbook read and changed nothing."}, about))
    findings.sort(key=lambda finding: -SEVERITIES.index(finding["severity"]))
    return ResultReport(
        about=about,
        severity=str(findings[0]["severity"]) if findings else "ok",
        changed=bool(result.get("changed")),
        message=str(result.get("msg") or ""),
        findings=findings,
        data={key: value for key, value in result.items() if key not in _NOT_DATA and not key.startswith("_ansible_")},
        columns=columns or {},
    )


def _failure(result: Mapping[str, Any], about: ReportHeader) -> dict[str, Any]:
    error = result.get("error") or {}
    return {
        "check": about.playbook,
        "severity": "critical",
        "subject": error.get("subject") or about.database or about.host,
        "value": None,
        "threshold": None,
        "message": str(result.get("msg") or "The playbook failed."),
        "remedy": error.get("remedy") or "",
    }


def tables(report: ResultReport) -> list[ReportTable]:
    """The findings, the single figures, and a table for each list and each group of figures, in the module's order."""
    found = []
    if report.findings:
        head = ("severity", "check", "subject", "message", "remedy")
        rows = [[text(key, finding.get(key)) for key in head] for finding in report.findings]
        found.append(ReportTable("Findings", [label(key) for key in head], rows))
    single = {key: value for key, value in report.data.items() if not isinstance(value, (Mapping, list, tuple))}
    if single:
        found.append(_facts("Figures", single))
    for key, value in report.data.items():
        if isinstance(value, Mapping) and value:
            chosen = report.columns.get(key, list(value))
            found.append(_facts(label(key), {name: value[name] for name in chosen if name in value}))
        elif isinstance(value, (list, tuple)) and value:
            found.append(_listed(key, value, report.columns.get(key)))
    return found


def _facts(title: str, facts: Mapping[str, Any]) -> ReportTable:
    return ReportTable(title, (), [[name, text(key, facts[key])] for key, name in zip(facts, labels(facts))])


def _listed(key: str, items: Sequence[Any], columns: Sequence[str] | None) -> ReportTable:
    if not all(isinstance(item, Mapping) for item in items):
        return ReportTable(label(key), (), [[text(key, item)] for item in items])
    names = list(columns or dict.fromkeys(name for item in items for name in item))
    return ReportTable(
        label(key),
        labels(names),
        [[text(name, item.get(name)) for name in names] for item in items],
    )
