# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings: what every report speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass

SEVERITIES = ("ok", "info", "warning", "critical")


@dataclass(frozen=True)
class Finding:
    """One judged fact.

    Attributes:
        check: what was judged, as a stable word (`backup_rpo`).
        severity: `ok`, `info`, `warning` or `critical`.
        subject: on what (a database, a backup id).
        value: the measured figure; its unit stands in the message.
        threshold: the figure it was judged by, or None.
        message: one sentence for people.
        remedy: the safe next step: a playbook of this collection or an exact command; empty when nothing is wrong.
    """

    check: str
    severity: str
    subject: str
    value: object
    threshold: object
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return asdict(self)


def worst(findings: Iterable[Finding]) -> str:
    """The highest severity among the findings; `ok` when there are none."""
    return max((finding.severity for finding in findings), key=SEVERITIES.index, default="ok")


def judged(findings: Collection[Finding]) -> dict[str, object]:
    """The return values `findings` and `severity`, which every module that judges has."""
    return {"findings": [finding.as_dict() for finding in findings], "severity": worst(findings)}


def summary(severities: Iterable[str]) -> str:
    """How many findings ask for action: `2 critical findings, 1 warning`, or `no problems found`."""
    counts = Counter(severities)
    critical, warnings = counts["critical"], counts["warning"]
    parts = [f"{critical:,} critical {'finding' if critical == 1 else 'findings'}"] if critical else []
    parts += [f"{warnings:,} {'warning' if warnings == 1 else 'warnings'}"] if warnings else []
    return ", ".join(parts) or "no problems found"
