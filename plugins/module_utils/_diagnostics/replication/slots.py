# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges replication slots: what they hold, whether they have consumers, and whether they still can be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..._findings import Finding
from ..._units import human_duration, human_size
from .facts import ReplicationFacts
from .plan import MIB, ReplicationPlan

_CLOSE_TO_THE_END = 0.2  # of max_slot_wal_keep_size


def judge_slot(slot: Mapping[str, Any], facts: ReplicationFacts, plan: ReplicationPlan) -> Iterator[Finding]:
    """A lost slot, one without a consumer, one that holds much, one that will be lost soon."""
    name, held = str(slot["name"]), slot["held_bytes"]
    drop = f"run the playbook godel.postgres_runbook.disk_space with -e disk_space_drop_slot={name}"
    reason = slot["invalidation_reason"] or ("a conflict with recovery" if slot["conflicting"] else "")
    if slot["wal_status"] == "lost" or reason:
        why = f" ({reason})" if reason else ""
        rebuild = (
            "drop its subscription and create it again, which copies the tables"
            if slot["type"] == "logical"
            else "create the replica again with pg_basebackup, unless it can restore from an archive"
        )
        yield Finding(
            "replication_slot_lost", "critical", name, slot["wal_status"], None,
            f"The slot {name} is lost{why}: it no longer has what its consumer needs, and cannot be used again.",
            f"{drop[:1].upper()}{drop[1:]}, then {rebuild}.",
        )  # fmt: skip
        return
    if slot["wal_status"] == "unreserved":
        yield Finding(
            "replication_slot_lost", "critical", name, slot["wal_status"], None,
            f"The slot {name} is about to lose WAL that its consumer needs, at the next checkpoint.",
            "Let its consumer catch up at once, or raise max_slot_wal_keep_size and reload.",
        )  # fmt: skip
        return
    severity = plan.slot_bytes.judge(held)
    idle = not slot["active"] and not slot["synced"] and not slot["temporary"]
    limit = facts.setting("max_slot_wal_keep_size")
    fate = (
        "Nothing limits it: max_slot_wal_keep_size is -1" if limit == "-1" else f"max_slot_wal_keep_size is {limit}MB"
    )
    if idle and held is not None:
        known = slot["inactive_s"]
        since = "" if known is None else f" for {human_duration(known)}"
        # On a standby they often wait for a failover, and hold little.
        patient = facts.standby is not None or (known is not None and known < plan.inactive_warning_s)
        yield Finding(
            "replication_slot_inactive",
            severity if severity != "ok" else "info" if patient else "warning",
            name,
            held,
            plan.slot_bytes.of(severity) if severity != "ok" else None,
            f"The slot {name} has had no consumer{since}; it holds {human_size(held)} of WAL. {fate}.",
            f"Start its consumer. If it no longer has one, {drop}.",
        )
    elif idle and held is None:
        yield Finding(
            "replication_slot_inactive", "info", name, None, None,
            f"The slot {name} was never used. It holds nothing yet.",
            f"Start its consumer. If it has none, {drop}.",
        )  # fmt: skip
    elif severity != "ok":
        yield Finding(
            "replication_slot_held", severity, name, held, plan.slot_bytes.of(severity),
            f"The slot {name} is in use, but holds {human_size(held)} of WAL. {fate}.",
            "See why its consumer is slow; for a logical one, see pg_stat_activity for the oldest transaction.",
        )  # fmt: skip
    safe = slot["safe_wal_size_bytes"]
    room = int(limit) * MIB * _CLOSE_TO_THE_END if limit.isdigit() else 0
    if safe is not None and safe < room and held is not None:
        yield Finding(
            "replication_slot_room", "warning", name, safe, int(room),
            f"The slot {name} loses its WAL after another {human_size(max(0, safe))}. {fate}.",
            "Let its consumer catch up, or raise max_slot_wal_keep_size and reload.",
        )  # fmt: skip


def judge_capacity(facts: ReplicationFacts) -> Iterator[Finding]:
    """Whether another replica, backup or subscription would still find a place."""
    for name, used, what in (
        ("max_wal_senders", len(facts.replicas), "connections for replication"),
        ("max_replication_slots", len(facts.slots), "replication slots"),
    ):
        most = facts.setting(name)
        if most.isdigit() and 0 < int(most) <= used:
            yield Finding(
                "replication_capacity", "warning", name, used, int(most),
                f"All {most} {what} are in use: no further replica, backup or subscription gets one.",
                f"Raise {name}; it needs a restart.",
            )  # fmt: skip
