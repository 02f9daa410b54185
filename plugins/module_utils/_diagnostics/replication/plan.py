# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as too much lag, too much held WAL, and too few replicas."""

from __future__ import annotations

from dataclasses import dataclass

from ..._plan import Plan, no_option

MIB = 1024**2
GIB = 1024**3
NEVER_TIMES_OUT_S = 60.0  # the default of wal_sender_timeout and wal_receiver_timeout, for those that are 0
PLAYBOOK = "the playbook godel.postgres_runbook.replication"


def counted(number: int, name: str) -> str:
    """`1 replica`, `2 replicas`."""
    return f"{number} {name}{'' if number == 1 else 's'}"


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
class ReplicationPlan(Plan):
    """From when on something is too much.

    Attributes:
        lag_bytes_warning, lag_bytes_critical: WAL that a replica is behind.
        lag_warning_s, lag_critical_s: the same in seconds.
        archive_lag_warning_s: the same for one that lives on an archive, which gets WAL only a whole file at a time.
        slot_bytes_warning, slot_bytes_critical: WAL that a slot holds.
        inactive_warning_s: how long a slot is without its consumer, where the server knows it (17 and later).
        expected_replicas: how many replicas have to be connected; None for any number.
        limit: how many replicas, slots, subscriptions and publications to read at most.
    """

    lag_bytes_warning: int = 64 * MIB
    lag_bytes_critical: int = GIB
    lag_warning_s: float = 30
    lag_critical_s: float = 300
    archive_lag_warning_s: float = 3600
    slot_bytes_warning: int = GIB
    slot_bytes_critical: int = 10 * GIB
    inactive_warning_s: float = 900
    expected_replicas: int | None = None
    limit: int = no_option(200)

    @property
    def lag_bytes(self) -> Levels:
        """Of the WAL that a replica is behind."""
        return Levels(self.lag_bytes_warning, self.lag_bytes_critical)

    @property
    def lag_s(self) -> Levels:
        """Of the seconds that a replica is behind."""
        return Levels(self.lag_warning_s, self.lag_critical_s)

    @property
    def slot_bytes(self) -> Levels:
        """Of the WAL that a slot holds."""
        return Levels(self.slot_bytes_warning, self.slot_bytes_critical)
