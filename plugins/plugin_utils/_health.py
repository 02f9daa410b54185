# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of the health of each host, from what its modules returned, or from their failure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._findings import SEVERITIES

SCHEMA_VERSION = 1
# How a host stands in the overview, in the history, and in the figures for Prometheus. What is not known is None.
FACTS = (
    *("version", "role", "uptime_s", "connections", "max_connections", "connection_share", "databases_size_bytes"),
    *("disk_used_share", "disk_free_bytes", "lag_bytes", "lag_s", "replica_count", "cache_hit_ratio", "backup_age_s"),
    "deadlocks",
)
TITLES = {
    "server": "Server",
    "activity": "Connections",
    "queries": "Queries",
    "storage": "Storage",
    "disk": "Disks",
    "replication": "Replication",
    "maintenance": "Maintenance",
    "schema": "Schema",
    "backups": "Backups",
}
SAMPLED = (
    *("connections", "max_connections", "databases_size_bytes", "disk_used_share", "lag_bytes", "cache_hit_ratio"),
    "deadlocks",
)


@dataclass(frozen=True)
class HostHealth:
    """One host. `sections` are as the module returns them, `facts` are the FACTS."""

    host: str
    database: str
    collected_at: str
    reachable: bool
    severity: str
    message: str
    findings: Sequence[Mapping[str, Any]]
    sections: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any]
    history: Sequence[dict[str, Any]] = field(default_factory=tuple)

    @property
    def worst(self) -> Mapping[str, Any] | None:
        """The finding that somebody should see first; None when there is none but for hints."""
        serious = [each for each in self.findings if each["severity"] in ("critical", "warning")]
        return serious[0] if serious else None

    @property
    def sample(self) -> dict[str, Any]:
        """What the history keeps."""
        return {"collected_at": self.collected_at, **{name: self.facts[name] for name in SAMPLED}}

    @property
    def other_samples(self) -> dict[str, Mapping[str, Any]]:
        """What the histories of the playbooks storage and query_performance keep of this, by their names."""
        storage, queries = _data(self.sections, "storage").get("sample"), _data(self.sections, "queries").get("sample")
        found: dict[str, Mapping[str, Any]] = {}
        if storage:
            found["storage"] = storage
        if queries:
            scope = queries.get("scope")
            found[f"query_performance_{scope}" if scope else "query_performance"] = queries
        return found

    def as_json(self) -> str:
        """The page for programs."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "playbook": "health",
            "title": f"Health of {self.host}",
            "host": self.host,
            "database": self.database,
            "time": self.collected_at,
            "severity": self.severity,
            "changed": False,
            "message": self.message,
            "collected_at": self.collected_at,
            "reachable": self.reachable,
            "facts": dict(self.facts),
            "findings": [dict(each) for each in self.findings],
            "sections": {name: dict(section) for name, section in self.sections.items()},
        }
        return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def build(
    host: str,
    result: Mapping[str, Any] | None,
    *,
    now: str,
    database: str = "",
    history: Sequence[dict[str, Any]] = (),
) -> HostHealth:
    """The health of a host by the result of pg_health_info, whatever that is."""
    result = result or {}
    findings = [dict(each) for each in result.get("findings") or []]
    told = bool(result.get("sections")) or "reachable" in result
    sections: dict[str, Mapping[str, Any]] = dict(result.get("sections") or {})
    read = any(section.get("state") == "read" for section in sections.values())
    if not told or result.get("failed"):
        findings.append(_no_result(host, result))
    elif not read and not any(each["severity"] == "critical" for each in findings):
        findings.append(_no_result(host, {"msg": "No section could be read: nothing is known of this server."}))
    findings.sort(key=lambda each: -SEVERITIES.index(each["severity"]))
    return HostHealth(
        host=host,
        database=database,
        collected_at=str(result.get("collected_at") or now),
        reachable=bool(result.get("reachable")),
        severity=str(findings[0]["severity"]) if findings else "ok",
        message=_message(findings),
        findings=findings,
        sections=sections,
        facts=_facts(sections),
        history=history,
    )


def _message(findings: Sequence[Mapping[str, Any]]) -> str:
    counts = {word: sum(each["severity"] == word for each in findings) for word in SEVERITIES}
    critical, warning = counts["critical"], counts["warning"]
    parts = []
    if critical:
        parts.append(f"{critical} {'thing needs' if critical == 1 else 'things need'} somebody now")
    if warning:
        parts.append(f"{warning} {'thing needs' if warning == 1 else 'things need'} somebody soon")
    if not parts:
        hints = counts["info"]
        told = f", with {hints} {'hint' if hints == 1 else 'hints'}" if hints else ""
        return f"All is well{told}."
    return ", ".join(parts).capitalize() + "."


def _no_result(host: str, result: Mapping[str, Any]) -> dict[str, Any]:
    error = result.get("error") or {}
    if result.get("unreachable"):
        message = f"Ansible could not reach the host: {result.get('msg') or 'no reason was given'}"
        remedy = (
            f"Try: ansible {host} -m ansible.builtin.ping. Then see whether the machine runs and the network is there."
        )
    elif result:
        message, remedy = str(result.get("msg") or "The module failed."), str(error.get("remedy") or "")
    else:
        message, remedy = "Nobody has looked at this host: there is no result.", "See the output of the run."
    return {
        "check": "health_host",
        "severity": "critical",
        "subject": error.get("subject") or host,
        "value": None,
        "threshold": None,
        "message": message,
        "remedy": remedy,
        "section": "server",
    }


def _data(sections: Mapping[str, Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    return (sections.get(name) or {}).get("data") or {}


def _facts(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    server, activity = _data(sections, "server"), _data(sections, "activity")
    storage, replication = _data(sections, "storage"), _data(sections, "replication")
    systems = _data(sections, "disk").get("file_systems") or []
    used = max(systems, key=lambda each: each["used_ratio"], default=None)
    lags = [*_lags(replication)]
    found = {
        **{name: server.get(name) for name in ("version", "role", "uptime_s", "cache_hit_ratio", "deadlocks")},
        "connections": activity.get("connection_count"),
        "max_connections": activity.get("max_connections"),
        "connection_share": activity.get("connections_ratio"),
        "databases_size_bytes": storage.get("databases_size_bytes"),
        "disk_used_share": used["used_ratio"] if used else None,
        "disk_free_bytes": used["free_bytes"] if used else None,
        "lag_bytes": max((size for size, dummy in lags if size is not None), default=None),
        "lag_s": max((age for dummy, age in lags if age is not None), default=None),
        "replica_count": replication.get("replica_count"),
        "backup_age_s": _backup_age(_data(sections, "backups")),
    }
    return {name: found[name] for name in FACTS}


def _lags(replication: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Bytes and seconds of everybody who is behind, this server among them."""
    replay = replication.get("replay") or {}
    if replay:
        yield replay.get("lag_bytes"), replay.get("lag_s")
    for each in replication.get("replicas") or []:
        if each.get("kind") == "replica":
            yield each.get("replayed_lag_bytes"), each.get("replayed_lag_s")


def _backup_age(backups: Mapping[str, Any]) -> Any:
    usable = {each.get("newest_usable") for each in backups.get("databases") or []}
    ages = [each["age_s"] for each in backups.get("backups") or [] if each.get("id") in usable and "age_s" in each]
    # Of several databases the one whose newest backup is the oldest.
    return max(ages, default=None)
