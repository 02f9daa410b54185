# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks as a section of `health`, that of the backups included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..section import Section, Visit
from .report import DiskPlan, DiskReport, collect, describe


def _configure(plan: DiskPlan, options: Mapping[str, Any]) -> DiskPlan:
    return replace(plan, backup_dir=options["backup_dir"]) if options["backup_dir"] else plan


def _collect(visit: Visit, plan: DiskPlan) -> DiskReport:
    return visit.ask(lambda session: collect(session, visit.target, plan, visit.now))


SECTION = Section("disk", _collect, describe, DiskPlan(), _configure)
