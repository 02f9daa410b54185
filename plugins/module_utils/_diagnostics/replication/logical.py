# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges subscriptions: whether each is enabled, has its worker, hears of its publisher, and can apply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..._findings import Finding
from ..._units import human_duration
from .facts import ReplicationFacts
from .plan import NEVER_TIMES_OUT_S


def quoted(name: str) -> str:
    """A name as SQL wants it."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def judge_subscriptions(facts: ReplicationFacts) -> Iterator[Finding]:
    """What is wrong with the subscriptions of a primary: those that a standby shows work elsewhere."""
    limit = float(facts.setting("wal_receiver_timeout") or 0) / 1000 or NEVER_TIMES_OUT_S
    for each in facts.subscriptions:
        yield from _judge(each, limit)


def _judge(subscription: Mapping[str, Any], limit: float) -> Iterator[Finding]:
    name = str(subscription["name"])
    where = f"the subscription {name} of the database {subscription['database']}"
    errors = (subscription["apply_errors"] or 0) + (subscription["sync_errors"] or 0)
    told = f" Counted errors: {errors}." if errors else ""
    log = "See the server's log for the error: a row that already exists, a missing column, an unreachable publisher."
    if not subscription["enabled"]:
        yield Finding(
            "replication_subscription", "warning", name, "disabled", "enabled",
            f"{where[:1].upper()}{where[1:]} is disabled; its slot holds WAL on the publisher.{told}",
            f"{log} Then ALTER SUBSCRIPTION {quoted(name)} ENABLE; or DROP SUBSCRIPTION {quoted(name)};",
        )  # fmt: skip
        return
    if subscription["pid"] is None:
        yield Finding(
            "replication_subscription", "critical", name, "no worker", "running",
            f"{where[:1].upper()}{where[1:]} has no worker that applies changes.{told}",
            f"{log} If there is no error, check whether max_logical_replication_workers is used up.",
        )  # fmt: skip
    elif (subscription["heard_age_s"] or 0) > limit:
        heard = float(subscription["heard_age_s"])
        yield Finding(
            "replication_subscription", "critical", name, round(heard, 3), limit,
            f"{where[:1].upper()}{where[1:]} has received nothing from its publisher for {human_duration(heard)}.",
            "Check that the publisher runs and is reachable, and whether its worker waits (pg_stat_activity).",
        )  # fmt: skip
    elif errors:
        yield Finding(
            "replication_subscription", "info", name, errors, 0,
            f"{where[:1].upper()}{where[1:]} works now. Errors counted since its statistics began: {errors}.",
            log,
        )  # fmt: skip
    if subscription["tables_not_ready"]:
        waiting = subscription["tables_not_ready"]
        yield Finding(
            "replication_subscription_tables", "info", name, waiting, 0,
            f"Tables of {where} that are still being copied: {waiting} of {subscription['tables']}.",
            "See pg_stat_progress_copy, and the server's log if the copy makes no progress.",
        )  # fmt: skip
