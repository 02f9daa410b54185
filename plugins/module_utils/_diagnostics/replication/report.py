# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replication as seen from one server, a primary or a standby, in four statements of one session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ..._findings import Finding
from ..._postgres.connection import Session
from ..._units import counted, human_duration, human_size
from .facts import ReplicationFacts, Standby, read, receiver_values, replay_values, synchronous
from .judgement import connected, judge
from .plan import ReplicationPlan
from .standby import conflicts

__all__ = ["ReplicationPlan", "ReplicationReport", "collect", "describe"]


@dataclass(frozen=True)
class ReplicationReport:
    """Facts, findings, and notes on what could not be read."""

    facts: ReplicationFacts
    findings: list[Finding]
    notes: list[str]

    @property
    def role(self) -> str:
        """`primary`, `standby`, or `unknown` when the server did not report it."""
        if self.facts.server is None:
            return "unknown"
        return "standby" if self.facts.standby else "primary"

    def values(self) -> dict[str, object]:
        """For a module's result."""
        facts = self.facts
        sync = synchronous(facts)
        return {
            "role": self.role,
            "lsn": facts.server["lsn"] if facts.server else None,
            "replica_count": connected(facts),
            "replicas": list(facts.replicas),
            "synchronous": sync.as_dict() if sync else {},
            "slots": list(facts.slots),
            "receiver": receiver_values(facts.standby) if facts.standby else {},
            "replay": replay_values(facts.standby) if facts.standby else {},
            "conflicts": dict(conflicts(facts.standby)) if facts.standby else {},
            "subscriptions": list(facts.subscriptions),
            "publications": list(facts.publications),
            "notes": self.notes,
        }


def collect(session: Session, plan: ReplicationPlan, now: datetime) -> ReplicationReport:
    """Read and judge. Ages are by the server's own clock: `now`, the caller's, is not mixed with it."""
    del now
    facts = read(session, plan.limit)
    return ReplicationReport(facts, judge(facts, plan), [*_notes(facts, plan)])


def _notes(facts: ReplicationFacts, plan: ReplicationPlan) -> Iterator[str]:
    if facts.server is None:
        return
    if not facts.sees_statistics:
        yield "The lag and state of replicas and of the WAL receiver are hidden from this login: grant it pg_monitor."
        if facts.replicas:
            yield "The count of replicas may include a base backup or a pg_receivewal."
    for what, rows in (("replicas", facts.replicas), ("slots", facts.slots), ("subscriptions", facts.subscriptions)):
        if len(rows) >= plan.limit:
            yield f"Only the first {plan.limit} {what} are shown and checked."
    if facts.standby is not None:
        yield from _notes_of_a_standby(facts, facts.standby)
    elif facts.setting("wal_level") == "minimal":
        yield "wal_level is minimal: no replica can follow this server."
    if facts.replicas:
        yield (
            "The lag of a replica in seconds is the last measured value: it does not change while the replica replays "
            "nothing, and does not include WAL that was not sent. The lag in bytes is exact."
        )
    yield f"Publications and the state of subscribed tables are shown for the database {facts.server['db']} only."


def _notes_of_a_standby(facts: ReplicationFacts, standby: Standby) -> Iterator[str]:
    yield "A standby cannot see WAL that the primary has written but not sent: check the primary, too."
    if standby.lives_on_archive:
        yield "This standby restores WAL from an archive (restore_command): it lacks WAL that was not archived yet."
    if standby.lag_s is None:
        yield "The lag in seconds is unknown: no transaction was replayed since this server started."
    elif standby.caught_up and standby.streams is not False:
        yield (
            "All received WAL is replayed, so the lag is 0 s, however old the last transaction of an idle primary is."
        )
    else:
        yield (
            "The lag in seconds is the age of the last replayed transaction. "
            "The true lag may be smaller, because the primary may have been idle."
        )
    if standby.delay_s:
        yield f"Replay is delayed by {human_duration(standby.delay_s)} on purpose (recovery_min_apply_delay)."
    if facts.setting("hot_standby_feedback") == "off" and any(conflicts(standby).values()):
        yield "hot_standby_feedback is off: the primary may remove rows that queries here still need."
    if facts.subscriptions:
        yield "Subscriptions are shown as on the primary. They run there, and are not checked here."


def describe(report: ReplicationReport) -> str:
    """A few sentences for people."""
    facts = report.facts
    if facts.standby is not None:
        standby = facts.standby
        status = standby.row["receiver_status"] or ("hidden" if standby.row["receiver_pid"] else "not running")
        size = "unknown" if standby.behind_bytes is None else human_size(standby.behind_bytes)
        time = "" if standby.lag_s is None else f", {human_duration(standby.lag_s)}"
        text = f"Standby: the WAL receiver is {status}; received and not replayed: {size}{time}."
        if standby.lives_on_archive:
            known = "unknown" if standby.lag_s is None else f"at most {human_duration(standby.lag_s)}"
            text = f"Standby: it restores WAL from an archive; lag: {known}."
    elif facts.server is not None:
        counts = {"replica": connected(facts), "slot": len(facts.slots), "subscription": len(facts.subscriptions)}
        text = f"Primary: {', '.join(counted(number, name) for name, number in counts.items())}."
    else:
        text = "The server did not report whether it is a primary."
    return f"{text} {report.findings[0].message}" if report.findings else text
