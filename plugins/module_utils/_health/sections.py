# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sections of `health`, in the order in which they are read: what is cheap and urgent first."""

from __future__ import annotations

from .._diagnostics.activity.section import SECTION as ACTIVITY
from .._diagnostics.disk.section import SECTION as DISK
from .._diagnostics.queries.section import SECTION as QUERIES
from .._diagnostics.replication.section import SECTION as REPLICATION
from .._diagnostics.storage.section import SECTION as STORAGE
from .backups import SECTION as BACKUPS
from .maintenance import SECTION as MAINTENANCE
from .schema.report import SECTION as SCHEMA
from .server import SECTION as SERVER

SECTIONS = (SERVER, ACTIVITY, QUERIES, STORAGE, DISK, REPLICATION, MAINTENANCE, SCHEMA, BACKUPS)
NAMES = tuple(section.name for section in SECTIONS)
