# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The newest backup that counts as one."""

from __future__ import annotations

from datetime import datetime

from .catalog import Catalog, Entry
from .verifications import CLOCK_SKEW_S


def newest_within(
    catalog: Catalog, db: str, age_s: float, provable: bool, now: datetime, cluster: str | None = None
) -> Entry | None:
    """The newest usable backup that is not older than this.

    Args:
        provable: it has to have a fingerprint.
        cluster: the system identifier of the cluster that it has to be of; None: of any.
    """
    for entry in catalog.entries(db):
        found_s = (now - entry.taken).total_seconds()
        if found_s > age_s:
            return None  # they come newest first
        if found_s < -CLOCK_SKEW_S:
            continue  # a clock was wrong: the age is unknown
        if entry.manifest is None or entry.differences or entry.verdict == "failed" or not entry.may_be_of(cluster):
            continue
        if provable and entry.manifest.fingerprint is None:
            continue  # it cannot be proven, and the plan wants one that can
        return entry
    return None
