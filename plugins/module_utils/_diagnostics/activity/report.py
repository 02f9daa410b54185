# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of a server in four statements: their number, roles, ages and lock waits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..._findings import Finding
from ..._postgres.connection import Session
from ..._postgres.procedures import running
from .facts import LISTS, ActivityFacts, ActivityPlan, read
from .judgement import judge, pool, pooler

__all__ = ["ActivityPlan", "ActivityReport", "collect", "describe"]


@dataclass(frozen=True)
class ActivityReport:
    """Facts, findings, and notes on what could not be read."""

    facts: ActivityFacts
    plan: ActivityPlan
    findings: list[Finding]
    notes: list[str]

    def values(self) -> dict[str, object]:
        """For a module's result."""
        facts, sums = self.facts, self.facts.sums
        return {
            "connection_count": sums["sessions"],
            "usable_connections": facts.usable,
            "connections_ratio": round(sums["sessions"] / facts.usable, 4),
            "max_connections": facts.limits["max_connections"],
            "superuser_reserved_connections": facts.limits["superuser_reserved"],
            "reserved_connections": facts.limits["reserved"],
            "active_count": sums["active"],
            "idle_count": sums["idle"],
            "idle_in_transaction_count": sums["idle_in_transaction"],
            "waiting_count": sums["waiting"],
            "blockers": [
                {name: row[name] for name in row if name not in _OF_WAITERS} for row in facts.blockers[: self.plan.top]
            ],
            "blocking": facts.blocking[: self.plan.top * 5],
            "idle_in_transaction": facts.idle,
            "oldest_transactions": facts.transactions,
            "longest_queries": facts.queries,
            "prepared_transactions": facts.prepared,
            "procedures": [each.as_dict() for each in running(facts.procedures)],
            **{name: facts.counts[kind] for kind, name in LISTS.items()},
            "wait_events": facts.counts["wait"],
            "pool": pool(facts, self.plan),
            "pooler": pooler(facts),
            "notes": self.notes,
        }


_OF_WAITERS = ("depth", "root_pid", "blocked_by", "lock_type", "lock_mode", "relation", "wait_s")


def collect(session: Session, plan: ActivityPlan, now: datetime) -> ActivityReport:
    """Read and judge. Ages are by the server's own clock: `now`, the caller's, is not mixed with it."""
    del now
    facts = read(session, plan)
    return ActivityReport(facts, plan, judge(facts, plan), list(_notes(facts, plan)))


def _notes(facts: ActivityFacts, plan: ActivityPlan) -> Iterator[str]:
    if not facts.limits["sees_all"]:
        yield (
            "State, age, client and query of other roles' sessions are hidden from this login: grant it pg_monitor. "
            "Only its own sessions are checked for their age, and the counts may include background processes."
        )
    if facts.through_pooler:
        yield (
            "This connection goes through a pooler: the server cannot see clients that wait in its queue. "
            "The pooler's console shows them (SHOW POOLS)."
        )
    if sum(1 for row in facts.blocking if row["blocked_by"]) >= plan.waiters:
        yield f"Only the {plan.waiters} sessions that have waited longest for a lock are examined."
    if len(facts.blocking) > plan.top * 5:
        yield f"Only the first {plan.top * 5} rows of the blocking trees are shown."
    if facts.limits["prepared_count"] > len(facts.prepared):
        shown, count = len(facts.prepared), facts.limits["prepared_count"]
        yield f"Only {shown} of {count} prepared transactions are shown and checked."
    if facts.limits["standby"]:
        yield "This server is a standby: it shows its own sessions, not those of the primary."


def describe(report: ActivityReport) -> str:
    """A few sentences for people."""
    sums, facts = report.facts.sums, report.facts
    said = (
        f"{sums['sessions']} of {facts.usable} connections in use ({sums['sessions'] / facts.usable:.0%}): "
        f"{sums['active']} active, {sums['idle']} idle, {sums['idle_in_transaction']} idle in a transaction, "
        f"{sums['waiting']} waiting for a lock."
    )
    bad = [finding.message for finding in report.findings if finding.severity in ("warning", "critical")]
    more = f" And {len(bad) - 2} more." if len(bad) > 2 else ""
    return " ".join([said, *bad[:2]]) + more
