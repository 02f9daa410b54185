# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges replication as seen from one server: its replicas, slots and synchronous commits, or what it follows itself.

Bytes are exact. Seconds are what PostgreSQL measured last: those of a replica whose replay stands still stay as they
were, so that both are judged, and the worse counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..._findings import SEVERITIES, Finding
from ..._units import counted, human_duration, human_size
from .facts import STAGES, ReplicationFacts, Synchronous, synchronous
from .logical import judge_subscriptions
from .plan import NEVER_TIMES_OUT_S, PLAYBOOK, ReplicationPlan
from .slots import judge_capacity, judge_slot
from .standby import judge_receiver, judge_replay

_WHERE = {
    "sent": "Most of it was not sent: see the network, and the load and the log of this server.",
    "written": "Most of it is on the way: see the network, and the log of the replica.",
    "flushed": "Most of it waits for the replica's disk: see its file system of pg_wal.",
    "replayed": f"Most of it waits for replay: run {PLAYBOOK} on the replica, which says whether replay is paused, "
    "delayed or in conflict.",
}


def judge(facts: ReplicationFacts, plan: ReplicationPlan) -> list[Finding]:
    """All findings, the worst first."""
    found = [*_gaps(facts)]
    if facts.server is not None:
        found += _expected(facts, plan)
        found += _synchronous(synchronous(facts), facts, plan)
        for each in facts.replicas:
            found += _replica(each, facts, plan)
        for each in facts.slots:
            found += judge_slot(each, facts, plan)
        found += judge_capacity(facts)
        if facts.standby is not None:
            found += judge_receiver(facts.standby, facts)
            found += judge_replay(facts.standby, plan)
        else:
            found += judge_subscriptions(facts)
    return sorted(found, key=lambda finding: -SEVERITIES.index(finding.severity))


def _gaps(facts: ReplicationFacts) -> Iterator[Finding]:
    for gap in facts.gaps:
        if gap.lost:
            yield Finding(
                "replication_server",
                "critical",
                gap.what,
                None,
                None,
                f"The connection was lost while the server was read: {gap.why.rstrip('.')}. Results are incomplete.",
                f"Check that the server runs, and see its log for the reason. Then run {PLAYBOOK} again.",
            )
            return
        yield Finding(
            "replication_unreadable",
            "warning",
            gap.what,
            None,
            None,
            f"The server did not report {gap.what}: {gap.why.rstrip('.')}. The other facts are shown.",
            "See the load of the server, or raise statement_timeout.",
        )


# --- replicas of this server


def connected(facts: ReplicationFacts) -> int:
    """How many replicas are connected; without rights, all that are no logical subscribers."""
    return sum(each["kind"] == "replica" for each in facts.replicas)


def _expected(facts: ReplicationFacts, plan: ReplicationPlan) -> Iterator[Finding]:
    if plan.expected_replicas is None or any(gap.what == "replicas" for gap in facts.gaps):
        return
    there = connected(facts)
    if there < plan.expected_replicas:
        names = ", ".join(name_of(each, facts.replicas) for each in facts.replicas if each["kind"] == "replica")
        yield Finding(
            "replication_replicas",
            "critical",
            "replicas",
            there,
            plan.expected_replicas,
            f"Connected replicas: {there}{f' ({names})' if names else ''}. Expected: {plan.expected_replicas}.",
            f"Run {PLAYBOOK} on each replica: it says why its WAL receiver does not stream.",
        )


def name_of(replica: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """How findings call a replica: its application name, made unique by its address and process."""
    name = str(replica["application"] or f"process {replica['pid']}")
    same = [each for each in others if each["application"] == replica["application"]]
    if len(same) < 2:
        return name
    alone = replica["client"] and sum(each["client"] == replica["client"] for each in same) == 1
    which = replica["client"] if alone else f"process {replica['pid']}"
    return f"{name} ({which})"


def _replica(replica: Mapping[str, Any], facts: ReplicationFacts, plan: ReplicationPlan) -> Iterator[Finding]:
    if replica["kind"] == "backup":
        return
    name = name_of(replica, facts.replicas)
    last = "flushed" if replica["kind"] == "archive" else "replayed"
    missing, seconds = replica[f"{last}_lag_bytes"], replica[f"{last}_lag_s"]
    by_bytes, by_time = plan.lag_bytes.judge(missing), plan.lag_s.judge(seconds)
    severity = max(by_bytes, by_time, key=SEVERITIES.index)
    timeout = float(facts.setting("wal_sender_timeout") or 0) / 1000 or NEVER_TIMES_OUT_S
    if severity != "ok":
        in_bytes = by_bytes == severity
        time = "" if seconds is None else f", {human_duration(seconds)} by the last measurement"
        yield Finding(
            "replication_lag_bytes" if in_bytes else "replication_lag_time",
            severity,
            name,
            missing if in_bytes else seconds,
            (plan.lag_bytes if in_bytes else plan.lag_s).of(severity),
            f"{name} is behind by {human_size(missing or 0)}{time} ({replica['state']}).",
            _WHERE[worst_stage(replica)],
        )
    # A replica answers within wal_receiver_status_interval, or else when it is asked at half of the timeout.
    silent = replica["reply_age_s"]
    if missing and silent is not None and silent > 0.75 * timeout:
        yield Finding(
            "replication_silent",
            "warning",
            name,
            silent,
            0.75 * timeout,
            f"{name} has not answered for {human_duration(silent)}, by the clocks of both servers. "
            "The figures of its lag are equally old.",
            f"Check that the replica runs and is reachable, then run {PLAYBOOK} on it.",
        )


def worst_stage(replica: Mapping[str, Any]) -> str:
    """The stage at which most of a replica's lag arises."""
    before, gaps = 0, {}
    for stage in STAGES:
        here = replica[f"{stage}_lag_bytes"]
        if here is not None:
            gaps[stage], before = here - before, max(before, here)
    return max(gaps, key=lambda stage: gaps[stage]) if gaps else "sent"


def _synchronous(sync: Synchronous | None, facts: ReplicationFacts, plan: ReplicationPlan) -> Iterator[Finding]:
    if sync is None:
        return
    waiting = f" Now waiting: {counted(sync.waiting, 'session')}." if sync.waiting else ""
    default = facts.setting("synchronous_commit")
    if sync.present is not None and sync.present < sync.required:
        lax = default in ("off", "local")
        effect = (
            f"Sessions do not wait, unless they set synchronous_commit themselves: it is {default}."
            if lax
            else "Each COMMIT waits."
        )
        yield Finding(
            "replication_synchronous",
            "warning" if lax else "critical",
            "synchronous_standby_names",
            sync.present,
            sync.required,
            f"synchronous_standby_names ({sync.names}) requires {counted(sync.required, 'replica')}, "
            f"of which {sync.present} {'is' if sync.present == 1 else 'are'} present. {effect}{waiting}",
            "Bring the replica back. To continue without it, and without a second copy of committed data: "
            "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();",
        )
        return
    severity = plan.lag_s.judge(sync.longest_wait_s if sync.waiting else None)
    if severity != "ok":
        yield Finding(
            "replication_synchronous",
            severity,
            "synchronous_standby_names",
            sync.longest_wait_s,
            plan.lag_s.of(severity),
            f"A COMMIT has waited for a synchronous replica for {human_duration(sync.longest_wait_s or 0)}.{waiting}",
            f"Run {PLAYBOOK} on the synchronous replicas.",
        )
