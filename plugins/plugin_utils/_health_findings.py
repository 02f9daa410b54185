# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of a host as its page shows them, each with its remedy and the command to type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._text import clipped

MOST_FINDINGS = 100
_SETTING = "-e (?:[a-z_]+=true|postgres_db=[A-Za-z0-9_]+)\\b"
_PLAYBOOK = re.compile(rf"\b(godel\.postgres_runbook\.[a-z_]+)(?: with ({_SETTING}(?: {_SETTING})*))?")
_PLAIN_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST_SUBJECT = 120
_LONGEST = 1000


@dataclass(frozen=True)
class ShownFinding:
    """One finding. `command` is empty when the remedy is no playbook of this collection."""

    severity: str
    section: str
    subject: str
    message: str
    remedy: str
    command: str


def shown(host: str, finding: Mapping[str, Any]) -> ShownFinding:
    """A finding of this host, its texts cut where they are too long."""
    remedy = str(finding.get("remedy") or "")
    return ShownFinding(
        severity=str(finding["severity"]),
        section=str(finding.get("section") or ""),
        subject=clipped(str(finding["subject"]), _LONGEST_SUBJECT),
        message=clipped(str(finding["message"]), _LONGEST),
        remedy=clipped(remedy, _LONGEST),
        command=command(host, remedy),
    )


def command(host: str, remedy: str) -> str:
    """What to type when the remedy is a playbook of this collection; empty otherwise.

    A name, as that of a slot to drop, is for people to type; so is a command with a database whose name needs quotes.
    """
    match = _PLAYBOOK.search(remedy)
    if not match or not _PLAIN_HOST.fullmatch(host) or remedy.startswith(" -e", match.end()):
        return ""
    return " ".join(part for part in ("ansible-playbook", match[1], "--limit", host, match[2]) if part)
