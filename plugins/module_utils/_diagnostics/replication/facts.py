# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says of replication, read in four statements, as plain records. Nothing is judged here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ..._errors import QueryFailed
from ..._postgres.connection import Session
from ..._units import to_rfc3339
from . import sql

STAGES = ("sent", "written", "flushed", "replayed")
_FIRST_OR_ANY = re.compile(r"\s*(?:(first|any)\s+)?(\d+)\s*\(", re.IGNORECASE)
_TIMES = ("connected_at", "inactive_since", "replayed_at", "latest_end_time", "heard_at")


@dataclass(frozen=True)
class Gap:
    """Facts that could not be read. `lost`: nor can any after them."""

    what: str
    why: str
    lost: bool


@dataclass(frozen=True)
class Standby:
    """How far this server follows another one.

    Attributes:
        row: the columns of the server's row.
        left_bytes: what of the WAL received at the first look was not yet replayed at the last one; None if not known.
    """

    row: Mapping[str, Any]
    left_bytes: int | None = None

    @property
    def streams(self) -> bool | None:
        """Whether the WAL receiver streams; None when the login may not see it."""
        if self.row["receiver_pid"] is None:
            return False
        return None if self.row["receiver_status"] is None else bool(self.row["receiver_status"] == "streaming")

    @property
    def lives_on_archive(self) -> bool:
        """Whether it only restores files: there is no server that it could stream from."""
        row = self.row
        return row["receiver_pid"] is None and row["has_source"] is False and bool(row["has_archive"])

    @property
    def behind_bytes(self) -> int | None:
        """What was received and not replayed."""
        found = self.row["behind_bytes"]
        return None if found is None else max(0, int(found))

    @property
    def caught_up(self) -> bool:
        """Whether all that was received at the first look is replayed."""
        return self.behind_bytes == 0 or (self.left_bytes is not None and self.left_bytes <= 0)

    @property
    def lag_s(self) -> float | None:
        """Seconds behind: 0 when all is replayed and more would come; otherwise the age of what was replayed last.

        On an idle primary that age grows although nothing is missing, so that it is an upper bound.
        """
        if self.caught_up and self.streams is not False:
            return 0.0
        age = self.row["replayed_age_s"]
        return None if age is None else max(0.0, round(float(age), 3))

    @property
    def paused(self) -> bool:
        """Whether replay is paused, or will be at the next record."""
        return self.row["pause_state"] not in (None, "not paused")

    @property
    def delay_s(self) -> float:
        """recovery_min_apply_delay."""
        return float(self.row["settings"].get("recovery_min_apply_delay") or 0) / 1000


@dataclass(frozen=True)
class ReplicationFacts:
    """All that was read. `server` is None when not even that could be."""

    server: Mapping[str, Any] | None = None
    standby: Standby | None = None
    replicas: Sequence[Mapping[str, Any]] = ()
    slots: Sequence[Mapping[str, Any]] = ()
    subscriptions: Sequence[Mapping[str, Any]] = ()
    publications: Sequence[Mapping[str, Any]] = ()
    gaps: Sequence[Gap] = field(default_factory=tuple)

    @property
    def sees_statistics(self) -> bool:
        """Whether the login may see more than processes and names."""
        return bool(self.server and self.server["sees_statistics"])

    def setting(self, name: str) -> str:
        """A setting of the server; empty when it cannot be seen."""
        return str(self.server["settings"].get(name, "")) if self.server else ""


@dataclass(frozen=True)
class Synchronous:
    """What COMMIT waits for.

    Attributes:
        names: synchronous_standby_names.
        required: how many replicas have to confirm.
        present: how many that count are connected; None when the login may not see it.
        waiting: sessions whose COMMIT waits now; None when the login may not see it.
        longest_wait_s: how long the first of them has been at it.
    """

    names: str
    required: int
    present: int | None
    waiting: int | None
    longest_wait_s: float | None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return asdict(self)


def required_standbys(names: str) -> int:
    """How many standbys a value of synchronous_standby_names wants.

    https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES
    """
    if not names.strip():
        return 0
    match = _FIRST_OR_ANY.match(names)
    return int(match[2]) if match else 1


def synchronous(facts: ReplicationFacts) -> Synchronous | None:
    """What COMMIT waits for; None on a standby, and where nothing is synchronous."""
    names = facts.setting("synchronous_standby_names")
    if facts.server is None or facts.standby is not None or not names.strip():
        return None
    counted = sum(each["sync_state"] in ("sync", "quorum") for each in facts.replicas)
    known = facts.sees_statistics and not any(gap.what == "replicas" for gap in facts.gaps)
    longest = facts.server["longest_wait_s"]
    return Synchronous(
        names=names,
        required=required_standbys(names),
        present=counted if known else None,
        waiting=facts.server["waiting"] if facts.sees_statistics else None,
        longest_wait_s=None if longest is None else round(longest, 3),
    )


def read(session: Session, limit: int) -> ReplicationFacts:
    """Read all of it; what cannot be read is a gap, and nothing is read from a server that was lost."""
    gaps: list[Gap] = []

    def ask(what: str, statement: Any, **values: object) -> list[Any]:
        if any(gap.lost for gap in gaps):
            return []
        try:
            return session.query(statement, {"limit": limit, **values})
        except QueryFailed as exc:
            gaps.append(Gap(what, exc.why, bool(exc.details.get("lost"))))
            return []

    rows = [row._asdict() for row in ask("the server's own state", sql.SERVER)]
    server = rows[0] if rows else None
    replicas = [_replica(row._asdict()) for row in ask("replicas", sql.SENDERS)]
    slots = [_plain(row._asdict()) for row in ask("slots", sql.SLOTS)]
    received = server["received_lsn"] if server else None
    documents = ask("subscriptions and publications", sql.logical(session.server_version), received=received)
    found: dict[str, list[Mapping[str, Any]]] = {"subscription": [], "publication": [], "replay": []}
    for row in documents:
        found[row.kind].append(row.columns)
    standby = None
    if server and server["standby"]:
        standby = Standby(server, next((each["left_bytes"] for each in found["replay"]), None))
    return ReplicationFacts(server, standby, replicas, slots, found["subscription"], found["publication"], tuple(gaps))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times as texts, and its seconds in milliseconds' precision."""
    plain = dict(row)
    for name, value in row.items():
        if name in _TIMES and isinstance(value, datetime):
            plain[name] = to_rfc3339(value)
        elif name.endswith("_s") and isinstance(value, float):
            plain[name] = max(0.0, round(value, 3))
    return plain


def _replica(row: Mapping[str, Any]) -> dict[str, Any]:
    """A receiver of WAL, with its kind, and with 0 seconds where nothing is missing: the server then says null."""
    plain = _plain(row)
    plain["kind"] = _kind(plain)
    for stage in STAGES:
        plain.setdefault(f"{stage}_lag_s", None)
        if plain[f"{stage}_lag_bytes"] == 0:
            plain[f"{stage}_lag_s"] = 0.0
    del plain["logical"]
    return plain


def _kind(row: Mapping[str, Any]) -> str:
    """`logical`, `backup` (a base backup), `archive` (pg_receivewal: it never replays), or `replica`."""
    if row["logical"]:
        return "logical"
    if row["state"] == "backup":
        return "backup"
    if row["state"] == "streaming" and row["flushed_lsn"] is not None and row["replayed_lsn"] is None:
        return "archive"
    return "replica"


def receiver_values(standby: Standby) -> dict[str, object]:
    """The WAL receiver, for a module's result."""
    row = _plain(standby.row)
    return {
        "running": row["receiver_pid"] is not None,
        "status": row["receiver_status"],
        "sender_host": row["sender_host"],
        "sender_port": row["sender_port"],
        "slot": row["receiver_slot"],
        "timeline": row["timeline"],
        "received_lsn": row["received_lsn"],
        "flushed_lsn": row["flushed_lsn"],
        "latest_end_lsn": row["latest_end_lsn"],
        "latest_end_time": row["latest_end_time"],
        "last_message_at": row["heard_at"],
        "last_message_age_s": row["heard_age_s"],
    }


def replay_values(standby: Standby) -> dict[str, object]:
    """The replay, for a module's result."""
    row = _plain(standby.row)
    return {
        "replayed_lsn": row["replayed_lsn"],
        "lag_bytes": standby.behind_bytes,
        "lag_s": standby.lag_s,
        "last_transaction_at": row["replayed_at"],
        "state": row["pause_state"],
        "delay_s": standby.delay_s,
        "hot_standby_feedback": row["settings"].get("hot_standby_feedback") == "on",
        "max_standby_streaming_delay_s": _seconds(row["settings"].get("max_standby_streaming_delay")),
        "from_archive": row["has_archive"],
    }


def _seconds(milliseconds: str | None) -> float | None:
    """A setting in seconds; None for no limit."""
    return None if milliseconds in (None, "", "-1") else float(str(milliseconds)) / 1000
