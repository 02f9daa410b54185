# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the health of each host, from what its modules returned, or from their failure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._findings import SEVERITIES, summary
from ._health_sections.all_sections import SECTIONS
from ._health_sections.section import HistoryEntry

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class HostHealth:
    """One host. `sections` are as the module returns them; `facts` are those of all sections, None where unknown."""

    host: str
    database: str
    collected_at: str
    reachable: bool
    severity: str
    message: str
    findings: Sequence[Mapping[str, Any]]
    sections: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    history: Sequence[dict[str, Any]] = field(default_factory=tuple)

    @property
    def worst(self) -> Mapping[str, Any] | None:
        """The worst finding; None when there is none above `info`."""
        serious = [each for each in self.findings if each["severity"] in ("critical", "warning")]
        return serious[0] if serious else None

    @property
    def sample(self) -> dict[str, Any]:
        """What the history of the page keeps."""
        kept = [name for section in SECTIONS for name in section.kept]
        return {"collected_at": self.collected_at, **{name: self.facts[name] for name in kept}}

    @property
    def other_samples(self) -> list[HistoryEntry]:
        """What the histories of other playbooks keep of this."""
        found = [section.history(data_of(self.sections, section.name)) for section in SECTIONS]
        return [each for each in found if each is not None]

    def as_json(self) -> str:
        """The page for programs."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "playbook": "health",
            "title": f"Health of {self.host}",
            "host": self.host,
            "database": self.database,
            "time": self.collected_at,
            "severity": self.severity,
            "changed": False,
            "message": self.message,
            "collected_at": self.collected_at,
            "reachable": self.reachable,
            "facts": dict(self.facts),
            "findings": [dict(each) for each in self.findings],
            "sections": {name: dict(section) for name, section in self.sections.items()},
        }
        return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def build(
    host: str,
    result: Mapping[str, Any] | None,
    *,
    now: str,
    database: str = "",
    history: Sequence[dict[str, Any]] = (),
) -> HostHealth:
    """The health of a host by the result of pg_health_info, whatever that is."""
    result = result or {}
    findings = [dict(each) for each in result.get("findings") or []]
    examined = bool(result.get("sections")) or "reachable" in result
    sections: dict[str, Mapping[str, Any]] = dict(result.get("sections") or {})
    read = any(section.get("state") == "read" for section in sections.values())
    if not examined or result.get("failed"):
        findings.append(_no_result(host, result))
    elif not read and not any(each["severity"] == "critical" for each in findings):
        findings.append(_no_result(host, {"msg": "No section could be read, so the state of the server is unknown."}))
    findings.sort(key=lambda each: -SEVERITIES.index(each["severity"]))
    return HostHealth(
        host=host,
        database=database,
        collected_at=str(result.get("collected_at") or now),
        reachable=bool(result.get("reachable")),
        severity=str(findings[0]["severity"]) if findings else "ok",
        message=_message(findings),
        findings=findings,
        sections=sections,
        facts=_facts(sections),
        history=history,
    )


def _message(findings: Sequence[Mapping[str, Any]]) -> str:
    told = summary(str(each["severity"]) for each in findings)
    hints = sum(each["severity"] == "info" for each in findings)
    if hints and not any(each["severity"] in ("critical", "warning") for each in findings):
        told += f", {hints:,} informational {'finding' if hints == 1 else 'findings'}"
    return told[:1].upper() + told[1:] + "."


def _no_result(host: str, result: Mapping[str, Any]) -> dict[str, Any]:
    error = result.get("error") or {}
    if result.get("unreachable"):
        message = f"Ansible could not reach the host: {result.get('msg') or 'no reason was given'}"
        remedy = (
            f"Run: ansible {host} -m ansible.builtin.ping. If it fails, check that the machine is running and that its "
            "network is up."
        )
    elif result:
        message, remedy = str(result.get("msg") or "The module failed."), str(error.get("remedy") or "")
    else:
        message, remedy = "The host was not checked: there is no result.", "See the output of the run."
    return {
        "check": "health_host",
        "severity": "critical",
        "subject": error.get("subject") or host,
        "value": None,
        "threshold": None,
        "message": message,
        "remedy": remedy,
        "section": "server",
    }


def data_of(sections: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The data of a section; empty when it was not read."""
    return (sections.get(name) or {}).get("data") or {}


def _facts(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section in SECTIONS:
        found.update(section.facts(data_of(sections, section.name)))
    return found
