# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_stat_activity, pg_locks and pg_prepared_xacts, read in four statements, as rows that results show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ..._plan import Plan, no_option
from ..._postgres.connection import Session
from ..._postgres.procedures import LOOKS
from ..._postgres.query_texts import without_secrets
from . import sql
from .blocking import PREPARED, forest

LISTS = {
    "state": "by_state",
    "user": "by_user",
    "application": "by_application",
    "client": "by_client",
    "database": "by_database",
}


@dataclass(frozen=True)
class ActivityPlan(Plan):
    """From when on something is too much, and how much is shown. None: nothing of that kind is critical.

    Attributes:
        connections_ratio_warning, connections_ratio_critical: shares of the usable connections, 0 to 1.
        idle_in_transaction_warning_s, idle_in_transaction_critical_s: how long a session is idle in a transaction.
        blocking_warning_s: how long a session waits for a lock.
        waiters_critical: how many sessions one session blocks.
        query_warning_s, query_critical_s: how long a query runs.
        transaction_warning_s, transaction_critical_s: how long a transaction is open, whatever it does.
        prepared_warning_s, prepared_critical_s: how old a prepared transaction is.
        procedure_warning_s: how long a backup or another procedure runs.
        cores: of the server's machine, where they are known, and from where they are.
        spindles: its effective number of disks, as the formula wants them.
        top: how many rows each list may have.
        query_length: how many bytes of a query are shown.
        waiters: how many sessions that wait are looked at.
    """

    connections_ratio_warning: float = 0.8
    connections_ratio_critical: float = 0.95
    idle_in_transaction_warning_s: float = 600
    blocking_warning_s: float = 300
    waiters_critical: int = 10
    query_warning_s: float = 3600
    transaction_warning_s: float = 6 * 3600.0
    prepared_warning_s: float = 3600
    idle_in_transaction_critical_s: float | None = None
    query_critical_s: float | None = None
    transaction_critical_s: float | None = None
    prepared_critical_s: float | None = None
    procedure_warning_s: float = 86400.0
    cores: int | None = None
    cores_from: str = ""
    spindles: int = 1
    top: int = 20
    query_length: int = 500
    waiters: int = no_option(500)


@dataclass(frozen=True)
class ActivityFacts:
    """What was read. Every mapping is a row as results show it.

    Sessions of running procedures are in `procedures` and `blocking`, and in none of the other lists.
    """

    limits: Mapping[str, Any]
    sums: Mapping[str, int]
    counts: Mapping[str, list[dict[str, Any]]]
    idle: list[dict[str, Any]]
    transactions: list[dict[str, Any]]
    queries: list[dict[str, Any]]
    prepared: list[dict[str, Any]]
    procedures: list[dict[str, Any]]
    blocking: list[dict[str, Any]]
    through_pooler: bool

    @property
    def usable(self) -> int:
        """How many connections ordinary roles may have."""
        limits = self.limits
        return max(1, int(limits["max_connections"] - limits["superuser_reserved"] - limits["reserved"]))

    @property
    def roots(self) -> list[dict[str, Any]]:
        """The sessions that block others and wait for no lock themselves, the worst first."""
        return [row for row in self.blocking if row["depth"] == 0]

    @property
    def blockers(self) -> list[dict[str, Any]]:
        """The same without those of running procedures, which end by themselves."""
        return [row for row in self.roots if not row["procedure"]]


def read(session: Session, plan: ActivityPlan) -> ActivityFacts:
    """Four statements."""
    [limits] = session.query(sql.SERVER, {"top": plan.top})
    limits = limits._asdict()
    values = {
        "top": plan.top,
        "query_length": plan.query_length,
        "idle_in_transaction_warning_s": plan.idle_in_transaction_warning_s,
        "query_warning_s": plan.query_warning_s,
        "transaction_warning_s": plan.transaction_warning_s,
        "procedures": _MOST_PROCEDURES,
        "waiters": plan.waiters,
    }
    counts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in (*LISTS, "wait")}
    sums: dict[str, int] = dict.fromkeys(_SUMS, 0)
    for row in session.query(sql.COUNTS, values):
        if row.kind == "all":
            sums = {name: getattr(row, name) for name in _SUMS}
        else:
            counts[row.kind].append(_count(row))
    oldest = session.query(sql.OLDEST, values)
    blocking = _trees(session.query(sql.BLOCKING, values), plan)
    prepared = [_prepared(row) for row in limits.pop("prepared") or []]
    reported = session.backend_pid  # by the handshake: that of a pooler, if one is in between
    return ActivityFacts(
        limits=limits,
        sums=sums,
        counts=counts,
        idle=_ranked(oldest, "idle_rank", plan),
        transactions=_ranked(oldest, "transaction_rank", plan),
        queries=_ranked(oldest, "query_rank", plan),
        procedures=[
            as_row(row, plan.query_length)
            for row in sorted(oldest, key=lambda row: row.procedure_rank or 0)
            if row.procedure and row.procedure not in LOOKS
        ],
        prepared=prepared,
        blocking=blocking,
        through_pooler=reported != limits["pid"],
    )


_SUMS = (
    *("sessions", "active", "idle", "idle_in_transaction", "waiting", "pooled"),
    *("idle_too_long", "queries_too_long", "transactions_too_long"),
)
_MOST_PROCEDURES = 200


def text(value: Any, limit: int = 0) -> str:
    """A text that came as its bytes; one that was cut in the middle of a character loses it."""
    if value is None:
        return ""
    data = bytes(value)
    decoded = data.decode("utf-8", "replace")
    return decoded.rstrip("\ufffd") if limit and len(data) >= limit else decoded


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC to the microsecond, because it distinguishes a session from a later one with the same pid."""
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if value else None


def as_row(row: Any, query_length: int) -> dict[str, Any]:
    """One session as results show it. Its query still has all literals, of planned statements as well."""
    return {
        "pid": row.pid,
        "backend_start": moment(row.backend_start),
        "user": text(row.user),
        "application": text(row.application),
        "client": row.client or "",
        "database": text(row.database),
        "state": row.state or "",
        "wait_event": f"{row.wait_event_type}:{row.wait_event}" if row.wait_event_type else "",
        "session_age_s": _rounded(row.session_age_s),
        "transaction_age_s": _rounded(row.transaction_age_s),
        "state_age_s": _rounded(row.state_age_s),
        "query_age_s": _rounded(row.query_age_s),
        "procedure": row.procedure or "",
        "query": without_secrets(text(row.query, query_length)),
    }


def who(row: Mapping[str, Any]) -> str:
    """A session in a sentence. Clients choose the names freely: they are quoted, without control characters."""
    if row["pid"] == PREPARED:
        return "a prepared transaction"
    return f"pid {row['pid']} ({row['user']!r} in {row['database']!r}, application {row['application']!r})"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(max(0.0, value), 3)


def _count(row: Any) -> dict[str, Any]:
    key = text(row.key)
    if row.kind == "wait":
        return {"wait_event": key, "sessions": row.sessions}
    if row.kind == "state":
        return {"state": key, "sessions": row.sessions}
    return {
        row.kind: key,
        "sessions": row.sessions,
        "active": row.active,
        "idle": row.idle,
        "idle_in_transaction": row.idle_in_transaction,
    }


def _ranked(rows: Sequence[Any], rank: str, plan: ActivityPlan) -> list[dict[str, Any]]:
    chosen = [row for row in rows if (getattr(row, rank) or plan.top + 1) <= plan.top]
    return [as_row(row, plan.query_length) for row in sorted(chosen, key=lambda row: int(getattr(row, rank)))]


def _prepared(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: text(bytes.fromhex(row[name])) for name in ("gid", "user", "database")}
    return {**names, "age_s": _rounded(row["age_s"])}


def _trees(rows: Sequence[Any], plan: ActivityPlan) -> list[dict[str, Any]]:
    by_pid = {row.pid: row for row in rows}
    found = []
    for node in forest({row.pid: row.blocked_by for row in rows if row.blocked_by}):
        row = by_pid[node.pid]
        found.append(
            {
                "root_pid": node.root,
                "depth": node.depth,
                **as_row(row, plan.query_length),
                "blocked_by": sorted(set(row.blocked_by)),
                "held_up": node.held_up,
                "wait_s": _rounded(row.wait_s),
                "lock_type": row.lock_type or "",
                "lock_mode": row.lock_mode or "",
                "relation": row.relation or "",
            }
        )
    longest: dict[int, float] = {}
    for each in found:
        root = each["root_pid"]
        longest[root] = max(longest.get(root, 0.0), each["wait_s"] or 0.0)
    for each in found:
        if each["depth"] == 0:
            each["longest_wait_s"] = longest[each["pid"]]
    return found
