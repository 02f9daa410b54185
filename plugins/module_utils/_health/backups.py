# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backups of one database as a part of its health. They are judged while the server is down, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from .._backup import status, status_judgement
from .._catalog.catalog import Catalog
from .._diagnostics.section import Section, Visit
from .._errors import RunbookError
from .._findings import Finding
from .._plan import Plan
from .._postgres import cluster_id
from .._postgres.cluster_id import ClusterIdentity
from .._target.base import Target


@dataclass(frozen=True)
class BackupsPlan(Plan):
    """Where the backups are, and the limits for them.

    Attributes:
        backup_dir: the catalog.
        backup_rpo_s: how old the newest usable one may be; None if that is not judged.
        backup_verified_within_s: within what time one must have been verified; None if that is not judged.
    """

    backup_dir: str
    backup_rpo_s: float | None = None
    backup_verified_within_s: float | None = None


@dataclass(frozen=True)
class BackupsReport:
    """Facts, findings and notes."""

    root: str
    states: Sequence[status.DatabaseState]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def values(self) -> dict[str, object]:
        """As pg_backup_info returns them."""
        return {
            "backups": [backup.as_dict() for state in self.states for backup in state.backups],
            "incomplete": [left.as_dict() for state in self.states for left in state.incomplete],
            "databases": [state.as_dict() for state in self.states],
            "total_size_bytes": sum(backup.size_bytes for state in self.states for backup in state.backups),
        }


def collect(target: Target, db: str, plan: BackupsPlan, now: datetime, server: ClusterIdentity) -> BackupsReport:
    """Read the catalog and judge what is the server's own in it."""
    catalog = Catalog(target, plan.backup_dir)
    standards = status_judgement.BackupStandards(plan.backup_rpo_s, plan.backup_verified_within_s)
    states = status.survey(target.files, catalog, db, now, server)
    silent = replace(server, note="")  # that the server does not answer is a finding of its own
    findings = status_judgement.judge(states, standards, now, catalog.root, silent)
    return BackupsReport(catalog.root, states, findings, [server.note] if server.note else [])


def describe(report: BackupsReport) -> str:
    """A few sentences for people."""
    return status_judgement.describe(report.states, report.findings, report.root)


def _configure(plan: None, options: Mapping[str, Any]) -> BackupsPlan | None:
    """By the options of the catalog; None without one."""
    del plan
    if not options["backup_dir"]:
        return None
    return BackupsPlan.from_params(options)


def _collect(visit: Visit, plan: BackupsPlan) -> BackupsReport:
    return collect(visit.target, visit.db, plan, visit.now, _identity(visit))


def _identity(visit: Visit) -> ClusterIdentity:
    """Which server it is; a catalog is judged while the server is down, too."""
    try:
        return ClusterIdentity(cluster=visit.ask(cluster_id.read_identity).cluster)
    except RunbookError as exc:
        return ClusterIdentity(note=cluster_id.unasked(exc.why or exc.what))


SECTION = Section("backups", _collect, describe, configure=_configure, asks=False)
