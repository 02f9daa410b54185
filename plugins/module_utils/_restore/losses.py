# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restored database will lack: what its backup lacks, and what production has that no dump carries."""

from __future__ import annotations

from dataclasses import replace

from .._backup import losses
from .._catalog.manifest import Manifest
from .._errors import ConnectionFailed, QueryFailed
from .._findings import Finding
from .._fingerprint.sql.content import PINNED_SETTINGS
from .._postgres.connection import Server

# Production works meanwhile: a locked or large table is no reason to keep it or the restore waiting.
_SETTINGS = {**PINNED_SETTINGS, "lock_timeout": "5s", "statement_timeout": "60s"}


def find(server: Server, production: str | None, manifest: Manifest | None, tool_major: int) -> list[Finding]:
    """The findings of both, each once.

    Args:
        production: the name of the database that will be replaced; None if there is none.
        manifest: that of the backup; None for a dump of another origin.
        tool_major: the major version of the pg_dump that wrote the backup.
    """
    then = manifest.losses if manifest else []
    now = _of(server, production, tool_major) if production else []
    same = {(each.check, each.subject) for each in then} & {(each.check, each.subject) for each in now}
    return [
        *(_dated(each, "This was the state when the backup was taken.", same) for each in then),
        *(
            _dated(each, "This is the state of production now.", same)
            for each in now
            if (each.check, each.subject) not in same
        ),
    ]


def _dated(finding: Finding, when: str, same: set[tuple[str, str]]) -> Finding:
    if (finding.check, finding.subject) in same:
        return finding
    return replace(finding, message=f"{finding.message} {when}")


def _of(server: Server, db: str, tool_major: int) -> list[Finding]:
    try:
        with server.connect(db, settings=_SETTINGS) as session:
            return losses.find(session, tool_major)
    except (ConnectionFailed, QueryFailed) as exc:  # it takes no connections, say
        message = f"The check for what a restored database would lack failed: {exc.why}"
        return [Finding("lost_unknown", "warning", db, None, None, message, exc.remedy)]
