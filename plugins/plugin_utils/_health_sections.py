# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a page shows of each section: its charts, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..module_utils._units import from_rfc3339, human_duration, human_size
from ._charts import Bar, Part, bars, stack, trend
from ._health import HostHealth
from ._report import About, Report, Table, tables

Data = Mapping[str, Any]
_MOST_BARS = 10
# The columns of each table of people's pages; a value with no columns is in the JSON only. A table that is not named
# here has all of its columns.
COLUMNS: dict[str, dict[str, list[str]]] = {
    "server": {
        "databases": ["name", "freeze_age", "multixact_age", "commits", "rollbacks", "deadlocks", "checksum_failures"],
    },
    "activity": {
        "blockers": ["pid", "user", "application", "database", "state", "held_up", "longest_wait_s", "query"],
        "blocking": ["pid", "blocked_by", "user", "database", "wait_s", "lock_mode", "relation", "query"],
        "idle_in_transaction": ["pid", "user", "application", "database", "transaction_age_s", "state_age_s", "query"],
        "oldest_transactions": ["pid", "user", "application", "database", "state", "transaction_age_s", "query"],
        "longest_queries": ["pid", "user", "application", "database", "query_age_s", "wait_event", "query"],
        "pool": [],
        "pooler": [],
        "wait_events": [],
        **{name: [] for name in ("by_state", "by_user")},
    },
    "queries": {
        "queries": [
            *("query", "calls", "time_ratio", "total_time_s", "mean_time_s", "max_time_s", "cache_hit_ratio", "user"),
        ],
        "changes": ["query", "calls", "time_ratio", "mean_time_before_s", "mean_time_s", "factor", "user"],
        "new_queries": ["query", "calls", "time_ratio", "total_time_s", "mean_time_s", "user"],
        "sample": [],
    },
    "storage": {
        "databases": ["name", "size_bytes", "size_ratio", "growth_bytes_per_day"],
        "tables": ["identity", "total_bytes", "heap_bytes", "index_bytes", "toast_bytes", "rows_estimate"],
        "tablespaces": [],
        "sample": [],
    },
    "disk": {
        "file_systems": ["used_ratio", "free_bytes", "total_bytes", "holds"],
        "wal": ["size_bytes", "files", "ready_files", "max_wal_size_bytes"],
        "orphans": ["files", "size_bytes"],
    },
    "replication": {
        "replicas": [
            "application",
            "client",
            "state",
            "sync_state",
            "replayed_lag_bytes",
            "replayed_lag_s",
            "reply_age_s",
            "slot",
        ],
        "slots": ["name", "type", "active", "wal_status", "held_bytes", "safe_wal_size_bytes", "inactive_s"],
        "receiver": ["status", "sender_host", "sender_port", "slot", "last_message_age_s"],
        "replay": ["state", "lag_bytes", "lag_s", "delay_s", "last_transaction_at"],
        "subscriptions": [
            "name",
            "database",
            "enabled",
            "pid",
            "heard_age_s",
            "apply_errors",
            "sync_errors",
            "tables_not_ready",
        ],
        "publications": [],
    },
    "maintenance": {
        "most_dead": ["name", "dead_rows", "dead_ratio", "live_rows", "last_vacuum_age_s", "last_analyze_age_s"],
    },
    "schema": {
        "fullest_sequences": ["name", "table", "column", "used_share", "last", "end", "left"],
        "disabled_trigger_list": ["kind", "name", "table"],
        "unenforced_constraint_list": ["name", "table"],
        "not_validated_constraint_list": ["name", "table"],
        "tables_without_primary_key_list": ["name"],
        "not_populated_view_list": ["name"],
        "duplicate_indexes_list": ["name", "size_bytes"],
        "redundant_indexes_list": ["name", "size_bytes"],
        "keys_without_index_list": ["name", "size_bytes"],
    },
    "backups": {
        "backups": ["id", "state", "age_s", "verdict", "size_bytes", "duration_s"],
        "databases": [],
    },
}


def section_tables(host: HostHealth, name: str) -> list[Table]:
    """The tables of a section, without those that are empty or of no use to people."""
    data = host.sections[name].get("data") or {}
    columns = COLUMNS.get(name, {})
    shown = {key: value for key, value in data.items() if columns.get(key) != [] and value is not None}
    about = About("health", "", host.host, host.database, host.collected_at)
    found = tables(Report(about, "ok", False, "", [], shown, _present(shown, columns)))
    return [_settings(each, data) if each.title == "Settings" else _plainer(each) for each in found if each.rows]


def _settings(table: Table, data: Data) -> Table:
    """Settings under the names that they have."""
    return Table(table.title, (), [[str(name), str(value)] for name, value in sorted(data["settings"].items())])


def _present(data: Data, columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns that there are: a module may have none of some."""
    found = {}
    for key, names in columns.items():
        value = data.get(key)
        rows = [value] if isinstance(value, Mapping) else value or []
        there = [name for name in names if any(isinstance(row, Mapping) and name in row for row in rows)]
        if there:
            found[key] = there
    return found


def _plainer(table: Table) -> Table:
    """Shares in per cent, and numbers that are names without commas; their headings say what they are."""
    if not table.head:
        return Table(table.title, (), [[row[0], _cell(*row)] if len(row) == 2 else row for row in table.rows])
    rows = [[_cell(name, cell) for name, cell in zip(table.head, row)] for row in table.rows]
    return Table(table.title, table.head, rows)


def _cell(heading: str, cell: str) -> str:
    words = heading.lower().split()
    if words[-1] in ("pid", "port"):
        return cell.replace(",", "")
    if words[-1] in ("share", "ratio"):
        try:
            return f"{float(cell):.1%}"
        except ValueError:
            return cell
    return cell


def charts(host: HostHealth, name: str) -> list[str]:
    """The charts of a section, those with something to show."""
    data = host.sections[name].get("data") or {}
    drawn = [*_CHARTS[name](data)] if name in _CHARTS and data else []
    drawn += _trends(host, name)
    return [each for each in drawn if each]


def _activity(data: Data) -> Iterator[str]:
    total = float(data.get("usable_connections") or 0)
    parts = [Part(str(each["state"]), each["sessions"], f"{each['sessions']:,}") for each in data.get("by_state") or []]
    free = max(0, round(total - sum(part.size for part in parts)))
    yield stack(f"Connections by state, of {total:,.0f}", parts, total, f"free {free:,}")
    counted = sorted(data.get("by_user") or [], key=lambda each: -each["sessions"])[:_MOST_BARS]
    most = max((each["sessions"] for each in counted), default=0) or 1
    yield bars(
        "Connections by user", [Bar(each["user"], each["sessions"] / most, f"{each['sessions']:,}") for each in counted]
    )


def _queries(data: Data) -> Iterator[str]:
    found = [each for each in data.get("queries") or [] if each.get("time_ratio") is not None]
    rows = [
        Bar(" ".join(str(each.get("query") or "").split()), each["time_ratio"], f"{each['time_ratio']:.0%}")
        for each in found[:_MOST_BARS]
    ]
    yield bars("Share of all time spent in queries", rows)


def _storage(data: Data) -> Iterator[str]:
    for key, label, name, size in (
        ("databases", "Databases by size", "name", "size_bytes"),
        ("tables", "Largest tables, with indexes and TOAST", "identity", "total_bytes"),
    ):
        rows = [each for each in data.get(key) or [] if each.get(size)]
        rows = sorted(rows, key=lambda each: -each[size])[:_MOST_BARS]
        most = rows[0][size] if rows else 1
        yield bars(label, [Bar(str(each[name]), each[size] / most, human_size(each[size])) for each in rows])


def _disk(data: Data) -> Iterator[str]:
    rows = []
    for each in data.get("file_systems") or []:
        kinds = ", ".join(dict.fromkeys(str(held["kind"]) for held in each["holds"]))
        severity = "critical" if each["used_ratio"] >= 0.9 else "warning" if each["used_ratio"] >= 0.8 else ""
        told = f"{each['used_ratio']:.0%} used, {human_size(each['free_bytes'])} free"
        rows.append(Bar(kinds, each["used_ratio"], told, severity))
    yield bars("File systems", rows)
    holders = [each for each in (data.get("wal") or {}).get("holders") or [] if each.get("held_bytes")]
    most = max((each["held_bytes"] for each in holders), default=0) or 1
    yield bars(
        "What holds WAL",
        [
            Bar(str(each["name"]), each["held_bytes"] / most, human_size(each["held_bytes"]))
            for each in holders[:_MOST_BARS]
        ],
    )


def _replication(data: Data) -> Iterator[str]:
    lags = [each for each in data.get("replicas") or [] if each.get("replayed_lag_bytes") is not None][:_MOST_BARS]
    most = max((each["replayed_lag_bytes"] for each in lags), default=0) or 1
    yield bars(
        "Lag of replicas",
        [
            Bar(
                str(each.get("application") or each.get("pid")),
                each["replayed_lag_bytes"] / most,
                human_size(each["replayed_lag_bytes"])
                + (f", {human_duration(each['replayed_lag_s'])}" if each.get("replayed_lag_s") is not None else ""),
            )
            for each in lags
        ],
    )
    held = [each for each in data.get("slots") or [] if each.get("held_bytes") is not None][:_MOST_BARS]
    most = max((each["held_bytes"] for each in held), default=0) or 1
    yield bars(
        "WAL that slots hold",
        [Bar(str(each["name"]), each["held_bytes"] / most, human_size(each["held_bytes"])) for each in held],
    )


def _maintenance(data: Data) -> Iterator[str]:
    rows = [each for each in data.get("most_dead") or [] if each["dead_rows"]]
    most = max((each["dead_rows"] for each in rows), default=0) or 1
    yield bars("Dead rows", [Bar(each["name"], each["dead_rows"] / most, f"{each['dead_rows']:,}") for each in rows])


def _server(data: Data) -> Iterator[str]:
    limit = 2_000_000_000
    rows = sorted(data.get("databases") or [], key=lambda each: -(each.get("freeze_age") or 0))[:_MOST_BARS]
    yield bars(
        "Age of the oldest rows, of 2,000,000,000 transactions",
        [Bar(each["name"], (each.get("freeze_age") or 0) / limit, f"{each.get('freeze_age') or 0:,}") for each in rows],
    )


_CHARTS: dict[str, Callable[[Data], Iterator[str]]] = {
    "server": _server,
    "activity": _activity,
    "queries": _queries,
    "storage": _storage,
    "disk": _disk,
    "replication": _replication,
    "maintenance": _maintenance,
}
_TREND_OF: dict[str, tuple[str, str, Callable[[float], str], str]] = {
    "activity": ("connections", "Connections over time", lambda value: f"{value:,.0f}", "max_connections"),
    "storage": ("databases_size_bytes", "Size of all databases over time", human_size, ""),
    "disk": ("disk_used_share", "Fullest file system over time", lambda value: f"{value:.0%}", ""),
    "replication": ("lag_bytes", "Largest lag over time", human_size, ""),
}


def _trends(host: HostHealth, name: str) -> list[str]:
    """What earlier runs have seen, with this one, if that makes at least three points."""
    if name not in _TREND_OF:
        return []
    key, title, say, ceiling = _TREND_OF[name]
    known = [
        (from_rfc3339(each["collected_at"]).timestamp(), float(each[key]), each)
        for each in [*host.history, host.sample]
        if isinstance(each.get(key), (int, float)) and not isinstance(each.get(key), bool)
    ]
    if len(known) < 3:
        return []
    values = [value for dummy, value, each in known]
    span = human_duration(known[-1][0] - known[0][0])
    told = f"{say(values[0])} to {say(values[-1])} in {span}; lowest {say(min(values))}, highest {say(max(values))}"
    top = known[-1][2].get(ceiling) if ceiling else (1.0 if key.endswith("_share") else None)
    return [trend(title, [(at, value) for at, value, each in known], told, top)]
