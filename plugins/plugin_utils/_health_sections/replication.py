# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `replication` on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...module_utils._units import human_duration, human_size
from .._charts import BarChart, ranked
from .._text import NOTHING, text
from .section import Data, Facts, OverviewColumn, SectionPage, Tile, TrendChart, gauge


def _facts(data: Data) -> dict[str, Any]:
    lags = [*_lags(data)]
    return {
        "lag_bytes": max((size for size, dummy in lags if size is not None), default=None),
        "lag_s": max((age for dummy, age in lags if age is not None), default=None),
        "replica_count": data.get("replica_count"),
    }


def _lags(data: Data) -> Iterator[tuple[Any, Any]]:
    """Bytes and seconds by which each replica is behind, and this server if it is a standby."""
    replay = data.get("replay") or {}
    if replay:
        yield replay.get("lag_bytes"), replay.get("lag_s")
    for each in data.get("replicas") or []:
        if each.get("kind") == "replica":
            yield each.get("replayed_lag_bytes"), each.get("replayed_lag_s")


def _tiles(facts: Facts) -> Iterator[Tile]:
    if facts["lag_bytes"] is not None or facts["replica_count"]:
        small = "" if facts["lag_s"] is None else human_duration(facts["lag_s"])
        yield Tile("Replication lag", text("lag_bytes", facts["lag_bytes"]), small)


def _cell(facts: Facts) -> str:
    return _told(facts["lag_bytes"], facts["lag_s"] or None)


def _told(size: Any, age: Any) -> str:
    if size is None:
        return NOTHING
    return human_size(size) + ("" if age is None else f", {human_duration(age)}")


def _charts(data: Data) -> Iterator[BarChart | None]:
    lags = [each for each in data.get("replicas") or [] if each.get("replayed_lag_bytes") is not None]
    rows = [(each, each["replayed_lag_bytes"], each.get("replayed_lag_s")) for each in lags]
    yield ranked(
        "Lag of replicas",
        [(each.get("application") or each.get("pid"), size, _told(size, age)) for each, size, age in rows],
    )
    held = [each for each in data.get("slots") or [] if each.get("held_bytes") is not None]
    yield ranked(
        "WAL held by slots", [(each["name"], each["held_bytes"], human_size(each["held_bytes"])) for each in held]
    )


SECTION = SectionPage(
    name="replication",
    title="Replication",
    columns={
        "replicas": [
            *("application", "client", "state", "sync_state", "replayed_lag_bytes", "replayed_lag_s", "reply_age_s"),
            "slot",
        ],
        "slots": ["name", "type", "active", "wal_status", "held_bytes", "safe_wal_size_bytes", "inactive_s"],
        "receiver": ["status", "sender_host", "sender_port", "slot", "last_message_age_s"],
        "replay": ["state", "lag_bytes", "lag_s", "delay_s", "last_transaction_at"],
        "subscriptions": [
            *("name", "database", "enabled", "pid", "heard_age_s", "apply_errors", "sync_errors", "tables_not_ready"),
        ],
        "publications": [],
    },
    facts=_facts,
    kept=("lag_bytes",),
    tiles=_tiles,
    overview=[OverviewColumn("Lag", _cell)],
    charts=_charts,
    trend=TrendChart("lag_bytes", "Largest lag over time", human_size),
    metrics=[
        gauge("replicas", "Replicas that are connected to this server.", "replica_count"),
        gauge("replication_lag_bytes", "The largest lag of a replica, or that of this standby.", "lag_bytes"),
        gauge("replication_lag_seconds", "The same in seconds.", "lag_s"),
    ],
)
