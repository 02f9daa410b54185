# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges connections, lock waits, idle, long and prepared transactions and queries; recommends the size of a pool.

Running procedures are never judged by age or as blockers: a backup is idle in a transaction for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..._findings import SEVERITIES, Finding
from ..._postgres.procedures import RunningProcedure, running
from ..._units import counted, human_duration
from .blocking import PREPARED
from .facts import ActivityFacts, ActivityPlan, who

_TERMINATE = "Run the playbook godel.postgres_runbook.terminate_sessions with"
_BURST_S = 5.0  # many that wait are critical only when they have waited this long: locks come and go
FORMULA = "connections = (core_count * 2) + effective_spindle_count"
SOURCE = "https://wiki.postgresql.org/wiki/Number_Of_Database_Connections"


def judge(facts: ActivityFacts, plan: ActivityPlan) -> list[Finding]:
    """All findings, the worst first."""
    found = [
        *_connections(facts, plan),
        *_blocking(facts, plan),
        *_idle(facts, plan),
        *_queries(facts, plan),
        *_transactions(facts, plan),
        *_procedures(facts, plan),
        *_prepared_transactions(facts, plan),
        *_pool_finding(facts, plan),
        *_hidden(facts),
    ]
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _connections(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    count, usable = facts.sums["sessions"], facts.usable
    ratio = count / usable
    severity, limit = "ok", plan.connections_ratio_warning
    if ratio >= plan.connections_ratio_critical:
        severity, limit = "critical", plan.connections_ratio_critical
    elif ratio >= plan.connections_ratio_warning:
        severity = "warning"
    message = f"{count} of {usable} connections available to ordinary roles are in use ({ratio:.0%})."
    remedy = ""
    if severity != "ok":
        message += f" Active: {facts.sums['active']}."
        remedy = (
            "by_application and by_client show which clients hold them; give these a connection pool (pool.advice). "
            f"To free some now: {_TERMINATE} terminate_sessions_idle_in_transaction_over, or an application."
        )
    yield Finding("connections", severity, "max_connections", round(ratio, 4), limit, message, remedy)


def _hidden(facts: ActivityFacts) -> Iterator[Finding]:
    """Sessions that were not seen were not judged: a result without a problem would claim that they were."""
    if not facts.limits["sees_all"]:
        message = "This login cannot see what sessions of other roles do, so these were not checked."
        yield Finding("activity_rights", "info", "pg_monitor", False, True, message, "Grant the login pg_monitor.")


def _blocking(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    for row in facts.roots[: plan.top]:
        long = row["longest_wait_s"] >= plan.blocking_warning_s
        burst_s = min(_BURST_S, plan.blocking_warning_s)
        many = row["held_up"] >= plan.waiters_critical and row["longest_wait_s"] >= burst_s
        if not long and not many:
            continue
        severity, value, threshold = "warning", row["longest_wait_s"], plan.blocking_warning_s
        if many:
            severity, value, threshold = "critical", row["held_up"], float(plan.waiters_critical)
        if row["procedure"]:
            yield _behind_a_procedure(row, facts, severity, value, threshold)
            continue
        sessions = counted(row["held_up"], "session")
        message = f"{who(row)} blocks {sessions}; the longest wait is {human_duration(row['longest_wait_s'])}."
        message = message[0].upper() + message[1:]
        if row["blocked_by"]:
            message += " They wait for each other (a deadlock)."
        if row["pid"] == PREPARED:
            remedy = "Find the one that holds the locks in prepared_transactions, and end it with ROLLBACK PREPARED."
        else:
            remedy = f"{_TERMINATE} terminate_sessions_pid={row['pid']} and terminate_sessions_backend_start="
            remedy += f"{row['backend_start']}." if row["backend_start"] else "its start."
        subject = "prepared transaction" if row["pid"] == PREPARED else f"pid {row['pid']}"
        yield Finding("blocking", severity, subject, value, threshold, message, remedy)


def _behind_a_procedure(
    root: dict[str, Any], facts: ActivityFacts, severity: str, value: float, threshold: float
) -> Finding:
    """The lock belongs to a backup, say, which must end by itself; only the first session in the queue can give way."""
    procedure = next((each for each in running(facts.procedures) if root["pid"] in each.pids), None)
    procedure = procedure or running([root])[0]
    first = [row for row in facts.blocking if root["pid"] in row["blocked_by"]]
    longest = max(first, key=lambda row: row["wait_s"] or 0.0)
    blocked = counted(root["held_up"], "session")
    message = (
        f"{procedure}, and holds a lock that blocks {blocked}; the longest wait is "
        f"{human_duration(root['longest_wait_s'])}. First in the queue: {who(longest)}."
    )
    remedy = procedure.wait
    if not longest["procedure"] and longest["lock_mode"] not in ("", "AccessShareLock"):
        remedy += (
            " If the sessions behind it cannot wait so long, cancel the statement that waits for the lock and repeat it"
            f" afterwards: SELECT pg_cancel_backend({longest['pid']});"
        )
    return Finding("blocking", severity, procedure.kind, value, threshold, message, remedy)


def _aged(age: float, warning: float, critical: float | None) -> tuple[str, float]:
    """The severity of an age that is a warning already, and the limit that it is judged by."""
    return ("critical", critical) if critical is not None and age >= critical else ("warning", warning)


def _idle(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    count = facts.sums["idle_too_long"]
    if count and facts.idle:
        oldest = facts.idle[0]
        age = oldest["state_age_s"] or 0.0
        severity, limit = _aged(age, plan.idle_in_transaction_warning_s, plan.idle_in_transaction_critical_s)
        limit_text = human_duration(plan.idle_in_transaction_warning_s)
        message = (
            f"{_sessions(count)} idle in a transaction for more than {limit_text}. Such a session keeps its locks and "
            f"holds back VACUUM. Longest: {who(oldest)}, for {human_duration(age)}."
        )
        remedy = f"{_TERMINATE} terminate_sessions_idle_in_transaction_over={plan.idle_in_transaction_warning_s:g}s."
        remedy += " To prevent it, set idle_in_transaction_session_timeout for the role."
        yield Finding("idle_in_transaction", severity, f"pid {oldest['pid']}", age, limit, message, remedy)


def _queries(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    count = facts.sums["queries_too_long"]
    if count and facts.queries:
        oldest = facts.queries[0]
        age = oldest["query_age_s"] or 0.0
        severity, limit = _aged(age, plan.query_warning_s, plan.query_critical_s)
        message = (
            f"{_sessions(count)} running one query for more than {human_duration(plan.query_warning_s)}. "
            f"Longest: {who(oldest)}, for {human_duration(age)}."
        )
        remedy = f"If its result is not needed: {_TERMINATE} terminate_sessions_query_over={plan.query_warning_s:g}s."
        yield Finding("long_query", severity, f"pid {oldest['pid']}", age, limit, message, remedy)


def _transactions(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    """Long transactions that are neither idle nor in one long query, as of a batch job with many short ones."""
    reported = {row["pid"] for row in facts.idle if (row["state_age_s"] or 0.0) > plan.idle_in_transaction_warning_s}
    reported |= {row["pid"] for row in facts.queries if (row["query_age_s"] or 0.0) > plan.query_warning_s}
    rows = [row for row in facts.transactions if row["pid"] not in reported]
    oldest = rows[0] if rows else None
    if not facts.sums["transactions_too_long"] or oldest is None:
        return
    age = oldest["transaction_age_s"]
    if age <= plan.transaction_warning_s:
        return
    severity, limit = _aged(age, plan.transaction_warning_s, plan.transaction_critical_s)
    message = (
        f"{who(oldest)} has had a transaction open for {human_duration(age)}. It keeps its locks, and VACUUM cannot "
        "remove rows that were deleted since."
    )
    remedy = "Let it commit, or split its work into smaller transactions. If its work is not needed: "
    remedy += f"{_TERMINATE} terminate_sessions_pid={oldest['pid']} and "
    remedy += f"terminate_sessions_backend_start={oldest['backend_start']}."
    message = message[0].upper() + message[1:]
    yield Finding("long_transaction", severity, f"pid {oldest['pid']}", age, limit, message, remedy)


def _procedures(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    for each in running(facts.procedures):
        yield procedure_finding(each, plan.procedure_warning_s)


def procedure_finding(procedure: RunningProcedure, limit_s: float) -> Finding:
    """One procedure that runs: information, and a warning when it takes longer than any should."""
    message, severity, remedy = f"{procedure}.", "info", ""
    if procedure.age_s is not None and procedure.age_s > limit_s:
        severity = "warning"
        message += f" More than {human_duration(limit_s)} is unusual."
        remedy = "Check on the host where it was started whether it still makes progress. " + procedure.wait
    check = "backup_running" if procedure.kind == "backup" else "procedure_running"
    subject = procedure.database or "server"
    return Finding(check, severity, subject, procedure.age_s, limit_s, message, remedy)


def _sessions(count: int) -> str:
    return "1 session is" if count == 1 else f"{count} sessions are"


def _prepared_transactions(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    for each in facts.prepared:
        if each["age_s"] < plan.prepared_warning_s:
            continue
        severity, limit = _aged(each["age_s"], plan.prepared_warning_s, plan.prepared_critical_s)
        message = (
            f"The prepared transaction {each['gid']!r} of {each['user']!r} in {each['database']!r} is "
            f"{human_duration(each['age_s'])} old. It keeps its locks and holds back VACUUM, even across a restart."
        )
        literal = each["gid"].replace("'", "''")
        remedy = f"If its transaction manager no longer knows it, run in that database: ROLLBACK PREPARED '{literal}';"
        yield Finding("prepared_transaction", severity, each["gid"], each["age_s"], limit, message, remedy)


# --- pools


def pool(facts: ActivityFacts, plan: ActivityPlan) -> dict[str, object]:
    """How many connections a pool should have, and how that compares with what is seen now."""
    busy = max(0, facts.sums["active"] - 1) + facts.sums["idle_in_transaction"]  # one of the active is our own
    size = None if plan.cores is None else plan.cores * 2 + plan.spindles
    if size is None:
        advice = "The server's number of cores is unknown: set cores."
    elif busy > size:
        advice = (
            f"{busy} sessions are in a transaction or a query now; the formula gives {size} connections. "
            "With a pool of that size the other sessions would wait outside the server, and all would finish sooner."
        )
    else:
        advice = (
            f"A pool of {size} connections is enough. Connected sessions: {facts.sums['sessions']}. "
            f"In a transaction or a query now: {busy}."
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


def _pool_finding(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[Finding]:
    recommended = pool(facts, plan)
    busy, size = recommended["busy_now"], recommended["recommended_size"]
    if isinstance(size, int) and isinstance(busy, int) and busy > size:
        remedy = (
            f"Use a pooler (PgBouncer with pool_mode=transaction, default_pool_size={size}), or make your pool smaller."
        )
        yield Finding("pool_size", "info", "connections", busy, size, str(recommended["advice"]), remedy)


def pooler(facts: ActivityFacts) -> dict[str, object]:
    """Whether a pooler such as PgBouncer stands between clients and server."""
    if facts.through_pooler:
        how = "This connection has another pid than its server process: it goes through a pooler such as PgBouncer."
    elif facts.sums["pooled"]:
        count = facts.sums["pooled"]
        how = f"Sessions that seem to belong to a pooler (by name, or DISCARD ALL as the last query): {count}."
    else:
        how = ""
    return {
        "detected": bool(facts.through_pooler or facts.sums["pooled"]),
        "this_connection": facts.through_pooler,
        "sessions": facts.sums["pooled"],
        "why": how,
    }
