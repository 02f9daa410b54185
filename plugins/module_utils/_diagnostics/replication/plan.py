# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as too much lag, too much held WAL, and too few replicas."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024**2
GIB = 1024**3
NEVER_TIMES_OUT_S = 60.0  # the default of wal_sender_timeout and wal_receiver_timeout, for those that are 0
PLAYBOOK = "the playbook godel.postgres_runbook.replication"


@dataclass(frozen=True)
class Levels:
    """From where on something is a warning, and from where on it is critical."""

    warning: float
    critical: float

    def judge(self, value: float | None) -> str:
        """`ok`, `warning` or `critical`. What is not known is ok."""
        if value is None or value < self.warning:
            return "critical" if value is not None and value >= self.critical else "ok"
        return "critical" if value >= self.critical else "warning"

    def of(self, severity: str) -> float:
        """The limit that was crossed."""
        return self.critical if severity == "critical" else self.warning


@dataclass(frozen=True)
class ReplicationPlan:
    """What counts as too much.

    Attributes:
        lag_bytes: WAL that a replica may be behind.
        lag_s: the same in seconds.
        archive_lag_s: the same for one that lives on an archive, which gets WAL only a whole file at a time.
        slot_bytes: WAL that a slot may hold.
        inactive_s: how long a slot may be without its consumer, where the server knows it (17 and later).
        expected_replicas: how many replicas have to be connected; None for any number.
        limit: how many replicas, slots, subscriptions and publications to read at most.
    """

    lag_bytes: Levels = Levels(64 * MIB, GIB)
    lag_s: Levels = Levels(30, 300)
    archive_lag_s: float = 3600
    slot_bytes: Levels = Levels(GIB, 10 * GIB)
    inactive_s: float = 900
    expected_replicas: int | None = None
    limit: int = 200
