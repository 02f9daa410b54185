# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of all hosts for Prometheus, as node_exporter's textfile collector reads it.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..module_utils._findings import SEVERITIES
from ..module_utils._units import from_rfc3339
from ._health import HostHealth

_PREFIX = "godel_postgres_"
# Figures of a host that are known under another name.
_FACTS = (
    ("uptime_seconds", "Since when the server runs.", "uptime_s"),
    ("connections", "Sessions of clients.", "connections"),
    ("max_connections", "The setting max_connections.", "max_connections"),
    ("connections_ratio", "Sessions as a share of those that ordinary roles may have, 0 to 1.", "connection_share"),
    ("databases_size_bytes", "Size of all databases together.", "databases_size_bytes"),
    ("disk_used_ratio", "Share of the fullest file system of the server that is used, 0 to 1.", "disk_used_share"),
    ("disk_free_bytes", "What is free on the fullest file system of the server.", "disk_free_bytes"),
    ("replicas", "Replicas that are connected to this server.", "replica_count"),
    ("replication_lag_bytes", "The largest lag of a replica, or that of this standby.", "lag_bytes"),
    ("replication_lag_seconds", "The same in seconds.", "lag_s"),
    ("cache_hit_ratio", "Share of blocks that were found in shared buffers, 0 to 1.", "cache_hit_ratio"),
    ("backup_age_seconds", "Age of the newest usable backup.", "backup_age_s"),
)
_COUNTERS = (
    ("commits_total", "Transactions that were committed.", "commits"),
    ("rollbacks_total", "Transactions that were rolled back.", "rollbacks"),
    ("deadlocks_total", "Deadlocks.", "deadlocks"),
    ("checksum_failures_total", "Damaged pages that were read.", "checksum_failures"),
)
Sample = tuple[Mapping[str, str], object]


def render(hosts: Sequence[HostHealth]) -> str:
    """The whole file. What is not known of a host is left out, and never 0."""
    return "".join(
        line + "\n" for name, kind, text, samples in _metrics(hosts) for line in _metric(name, kind, text, samples)
    )


def _metrics(hosts: Sequence[HostHealth]) -> Iterator[tuple[str, str, str, list[Sample]]]:
    yield "up", "gauge", "Whether the server could be read.", [(_of(host), int(host.reachable)) for host in hosts]
    yield (
        "health_severity", "gauge", "The worst finding: 0 ok, 1 info, 2 warning, 3 critical.",
        [(_of(host), SEVERITIES.index(host.severity)) for host in hosts],
    )  # fmt: skip
    yield (
        "collected_timestamp_seconds", "gauge", "When it was read.",
        [(_of(host), int(from_rfc3339(host.collected_at).timestamp())) for host in hosts],
    )  # fmt: skip
    yield "findings", "gauge", "Findings by check and severity.", [each for host in hosts for each in _findings(host)]
    for name, text, fact in _FACTS:
        yield name, "gauge", text, [(_of(host), host.facts[fact]) for host in hosts]
    for name, text, key in _COUNTERS:
        yield name, "counter", text, [(_of(host), _data(host, "server").get(key)) for host in hosts]
    for name, text, section, key in (
        ("database_size_bytes", "Size of a database.", "storage", "size_bytes"),
        ("database_freeze_age", "Transactions since the oldest row that is not frozen.", "server", "freeze_age"),
    ):
        yield (
            name, "gauge", text,
            [
                (_of(host, datname=each["name"]), each.get(key))
                for host in hosts
                for each in _data(host, section).get("databases") or []
            ],
        )  # fmt: skip
    yield (
        "file_system_used_ratio", "gauge", "Share of a file system that is used, 0 to 1.",
        [
            (_of(host, holds=", ".join(sorted({str(held["kind"]) for held in each["holds"]}))), each["used_ratio"])
            for host in hosts
            for each in _data(host, "disk").get("file_systems") or []
        ],
    )  # fmt: skip


def _of(host: HostHealth, **labels: object) -> dict[str, str]:
    return {"host": host.host, **{name: str(value) for name, value in labels.items()}}


def _data(host: HostHealth, section: str) -> Mapping[str, Any]:
    return (host.sections.get(section) or {}).get("data") or {}


def _findings(host: HostHealth) -> Iterator[Sample]:
    counted = Counter((str(each["check"]), str(each["severity"])) for each in host.findings if each["severity"] != "ok")
    for (check, severity), count in sorted(counted.items()):
        yield _of(host, check=check, severity=severity), count


def _metric(name: str, kind: str, text: str, samples: Sequence[Sample]) -> Iterator[str]:
    known: dict[str, float] = {}
    for labels, value in samples:
        if isinstance(value, (int, float)):
            # The same series twice would make the collector refuse the whole file.
            known.setdefault(",".join(f'{label}="{_escape(told)}"' for label, told in labels.items()), value)
    if known:
        yield f"# HELP {_PREFIX}{name} {text}"
        yield f"# TYPE {_PREFIX}{name} {kind}"
        for series, value in known.items():
            yield f"{_PREFIX}{name}{{{series}}} {float(value)!r}"


def _escape(told: str) -> str:
    text = told.encode("utf-8", "replace").decode()  # a name that is not UTF-8 would make the file unreadable
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
