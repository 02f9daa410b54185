# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions as a section of `health`."""

from __future__ import annotations

from dataclasses import replace

from ..._postgres.connection import Server
from ..section import Section, Visit
from .cores import cores
from .report import ActivityPlan, ActivityReport, collect, describe


def _collect(visit: Visit, plan: ActivityPlan) -> ActivityReport:
    found, source = cores(Server(visit.target, visit.login), plan.cores)
    known = replace(plan, cores=found, cores_from="the thresholds" if plan.cores else source)
    return visit.ask(lambda session: collect(session, known, visit.now))


SECTION = Section("activity", _collect, describe, ActivityPlan())
