# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication as a section of `health`."""

from __future__ import annotations

from ..section import Section, by_session
from .report import ReplicationPlan, collect, describe

SECTION = Section("replication", by_session(collect), describe, ReplicationPlan())
