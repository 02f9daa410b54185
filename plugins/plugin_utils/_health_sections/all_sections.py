# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All sections, in the order in which the pages show their figures."""

from __future__ import annotations

from . import activity, backups, disk, maintenance, queries, replication, schema, server, storage
from .section import SectionPage

SECTIONS = (
    server.SECTION,
    activity.SECTION,
    queries.SECTION,
    storage.SECTION,
    disk.SECTION,
    replication.SECTION,
    maintenance.SECTION,
    schema.SECTION,
    backups.SECTION,
)
_KNOWN = {section.name: section for section in SECTIONS}


def page_of(name: str) -> SectionPage:
    """The section of this name; one with plain tables when there is none."""
    return _KNOWN.get(name) or SectionPage(name, name.capitalize())
