# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is too much: connections, waiting, idling inside transactions, long queries. And how large a pool should be."""

from __future__ import annotations

from collections.abc import Iterator

from .._findings import SEVERITIES, Finding
from .._units import human_duration
from .activity_facts import ActivityPlan, Facts, who
from .blocking import PREPARED

_TERMINATE = "Run the playbook godel.postgres_runbook.terminate_sessions with"
_BURST_S = 5.0  # many that wait are critical only when they have waited this long: locks come and go
FORMULA = "connections = (core_count * 2) + effective_spindle_count"
SOURCE = "https://wiki.postgresql.org/wiki/Number_Of_Database_Connections"


def judge(facts: Facts, plan: ActivityPlan) -> list[Finding]:
    """All findings, the worst first."""
    found = [
        *_connections(facts, plan),
        *_blocking(facts, plan),
        *_idle(facts, plan),
        *_queries(facts, plan),
        *_prepared_transactions(facts, plan),
        *_pool_finding(facts, plan),
    ]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _connections(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    count, usable = facts.sums["sessions"], facts.usable
    ratio = count / usable
    severity, limit = "ok", plan.connections_ratio
    if ratio >= plan.critical_connections_ratio:
        severity, limit = "critical", plan.critical_connections_ratio
    elif ratio >= plan.connections_ratio:
        severity = "warning"
    message = f"{count} of {usable} connections that ordinary roles may have are in use ({ratio:.0%})."
    remedy = ""
    if severity != "ok":
        message += f" {facts.sums['active']} of them are active."
        remedy = (
            "See by_application and by_client for whose they are, and give those a pool (pool.advice). "
            f"To free some now: {_TERMINATE} terminate_sessions_idle_in_transaction_over, or an application."
        )
    yield Finding("connections", severity, "max_connections", round(ratio, 4), limit, message, remedy)


def _blocking(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    for row in facts.roots[: plan.top]:
        long = row["longest_wait_s"] >= plan.blocking_s
        many = row["held_up"] >= plan.critical_waiters and row["longest_wait_s"] >= min(_BURST_S, plan.blocking_s)
        if not long and not many:
            continue
        sessions = "1 session" if row["held_up"] == 1 else f"{row['held_up']} sessions"
        message = (
            f"{who(row)} holds up {sessions}, the one that waits longest for {human_duration(row['longest_wait_s'])}."
        )
        message = message[0].upper() + message[1:]
        if row["blocked_by"]:
            message += " They wait for each other in a circle."
        if row["pid"] == PREPARED:
            remedy = "See prepared_transactions, and end the one that has the locks with ROLLBACK PREPARED."
        else:
            remedy = f"{_TERMINATE} terminate_sessions_pid={row['pid']} and terminate_sessions_backend_start="
            remedy += f"{row['backend_start']}." if row["backend_start"] else "its start."
        yield Finding(
            check="blocking",
            severity="critical" if many else "warning",
            subject="prepared transaction" if row["pid"] == PREPARED else f"pid {row['pid']}",
            value=row["held_up"] if many else row["longest_wait_s"],
            threshold=plan.critical_waiters if many else plan.blocking_s,
            message=message,
            remedy=remedy,
        )


def _idle(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    count = facts.sums["idle_too_long"]
    if count and facts.idle:
        oldest = facts.idle[0]
        age = oldest["state_age_s"] or 0.0
        limit = human_duration(plan.idle_in_transaction_s)
        message = (
            f"{_sessions(count)} idle in a transaction for more than {limit}. It keeps its locks, and VACUUM from its "
            f"work. Longest: {who(oldest)}, for {human_duration(age)}."
        )
        remedy = f"{_TERMINATE} terminate_sessions_idle_in_transaction_over={plan.idle_in_transaction_s:g}s."
        remedy += " To prevent it, set idle_in_transaction_session_timeout for the role."
        yield Finding(
            "idle_in_transaction", "warning", f"pid {oldest['pid']}", age, plan.idle_in_transaction_s, message, remedy
        )


def _queries(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    count = facts.sums["queries_too_long"]
    if count and facts.queries:
        oldest = facts.queries[0]
        age = oldest["query_age_s"] or 0.0
        message = (
            f"{_sessions(count)} busy with one query for more than {human_duration(plan.query_s)}. "
            f"Longest: {who(oldest)}, for {human_duration(age)}."
        )
        remedy = f"{_TERMINATE} terminate_sessions_query_over={plan.query_s:g}s, if nobody needs it."
        yield Finding("long_query", "warning", f"pid {oldest['pid']}", age, plan.query_s, message, remedy)


def _sessions(count: int) -> str:
    return "1 session is" if count == 1 else f"{count} sessions are"


def _prepared_transactions(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    for each in facts.prepared:
        if each["age_s"] < plan.prepared_s:
            continue
        message = (
            f"The prepared transaction {each['gid']!r} of {each['user']!r} in {each['database']!r} is "
            f"{human_duration(each['age_s'])} old. It keeps its locks, and VACUUM from its work, even over a restart."
        )
        literal = each["gid"].replace("'", "''")
        remedy = (
            f"When its transaction manager does not know it any more, in that database: ROLLBACK PREPARED '{literal}';"
        )
        yield Finding("prepared_transaction", "warning", each["gid"], each["age_s"], plan.prepared_s, message, remedy)


# --- pools


def pool(facts: Facts, plan: ActivityPlan) -> dict[str, object]:
    """How many connections a pool should have, and how that compares with what is seen now."""
    busy = max(0, facts.sums["active"] - 1) + facts.sums["idle_in_transaction"]  # one of the active is our own
    size = None if plan.cores is None else plan.cores * 2 + plan.spindles
    if size is None:
        advice = "How many cores the server has is not known here: set cores."
    elif busy > size:
        advice = (
            f"{busy} sessions are in a transaction or a query now, and {size} is what the formula gives: "
            "with a pool of that size the rest would wait outside the server, and all would be done sooner."
        )
    else:
        advice = (
            f"A pool of {size} connections is enough: {busy} sessions are in a transaction or a query now, of "
            f"{facts.sums['sessions']} that are connected."
        )
    return {
        "recommended_size": size,
        "cores": plan.cores,
        "cores_from": plan.cores_from,
        "effective_spindle_count": plan.spindles,
        "formula": FORMULA,
        "source": SOURCE,
        "busy_now": busy,
        "connected_now": facts.sums["sessions"],
        "advice": advice,
    }


def _pool_finding(facts: Facts, plan: ActivityPlan) -> Iterator[Finding]:
    told = pool(facts, plan)
    busy, size = told["busy_now"], told["recommended_size"]
    if isinstance(size, int) and isinstance(busy, int) and busy > size:
        remedy = (
            f"Put a pool between (PgBouncer, pool_mode=transaction, default_pool_size={size}), or make yours smaller."
        )
        yield Finding("pool_size", "info", "connections", busy, size, str(told["advice"]), remedy)


def pooler(facts: Facts) -> dict[str, object]:
    """Whether a pooler such as PgBouncer stands between clients and server."""
    if facts.through_pooler:
        how = "This connection was given another pid than its server process has: a pooler (PgBouncer) is in between."
    elif facts.sums["pooled"]:
        count = facts.sums["pooled"]
        how = f"{count} sessions look as a pooler leaves them (their name, or DISCARD ALL as the last query)."
    else:
        how = ""
    return {
        "detected": bool(facts.through_pooler or facts.sums["pooled"]),
        "this_connection": facts.through_pooler,
        "sessions": facts.sums["pooled"],
        "reason": how,
    }
