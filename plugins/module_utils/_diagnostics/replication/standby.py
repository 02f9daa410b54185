# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judges a standby by itself: whether it receives, and whether it replays what it has received."""

from __future__ import annotations

from collections.abc import Iterator

from ..._findings import SEVERITIES, Finding
from ..._units import counted, human_duration, human_size
from .facts import ReplicationFacts, Standby
from .plan import NEVER_TIMES_OUT_S, PLAYBOOK, ReplicationPlan

_RESUME = (
    "If an operator paused it: SELECT pg_wal_replay_resume(); If the log says that a setting is lower than on "
    "the primary, raise it and restart instead, because resuming would shut the server down."
)


def judge_receiver(standby: Standby, facts: ReplicationFacts) -> Iterator[Finding]:
    """Whether WAL comes in."""
    row = standby.row
    if row["receiver_pid"] is None:
        if standby.lives_on_archive:
            return  # what it gets from there is judged by its age
        if row["has_source"] is None:
            yield Finding(
                "replication_receiver", "warning", "WAL receiver", None, "streaming",
                "The WAL receiver does not run. This login cannot see whether it should: the replica may restore WAL "
                "from an archive instead.",
                f"Grant the login pg_monitor, then run {PLAYBOOK} again.",
            )  # fmt: skip
            return
        archive = " It may still restore WAL from an archive: restore_command is set." if row["has_archive"] else ""
        yield Finding(
            "replication_receiver",
            "critical",
            "WAL receiver",
            None,
            "streaming",
            f"The WAL receiver does not run: this replica receives nothing from its primary.{archive}",
            "See this server's log for the reason: the primary is down, the password, pg_hba.conf, or lost WAL. "
            + (
                "primary_conninfo is empty: set it and reload."
                if row["has_source"] is False
                else "Compare primary_conninfo with the primary."
            ),
        )
    elif standby.streams is False:
        yield Finding(
            "replication_receiver", "warning", "WAL receiver", row["receiver_status"], "streaming",
            f"The WAL receiver is {row['receiver_status']}: this replica receives nothing from its primary now.",
            f"Run {PLAYBOOK} again in a minute; if nothing has changed, see this server's log.",
        )  # fmt: skip
    else:
        limit = float(facts.setting("wal_receiver_timeout") or 0) / 1000 or NEVER_TIMES_OUT_S
        silent = row["heard_age_s"]
        if silent is not None and silent > limit:
            yield Finding(
                "replication_receiver", "critical", "WAL receiver", round(silent, 3), limit,
                f"The WAL receiver has received nothing for {human_duration(silent)}, but its status is streaming.",
                f"Check the network, and whether the process {row['receiver_pid']} hangs. To restart it: "
                f"SELECT pg_terminate_backend({row['receiver_pid']});",
            )  # fmt: skip


def judge_replay(standby: Standby, plan: ReplicationPlan) -> Iterator[Finding]:
    """Whether what came in is replayed."""
    behind = standby.behind_bytes
    size = f"{human_size(behind)} that it has received" if behind is not None else "an unknown part of the WAL"
    if standby.paused:
        yield Finding(
            "replication_paused", "warning", "replay", standby.row["pause_state"], "not paused",
            f"Replay is {'paused' if standby.row['pause_state'] == 'paused' else 'about to pause'}; "
            f"this replica has not replayed {size}.",
            _RESUME,
        )  # fmt: skip
    cancelled = {cause: count for cause, count in conflicts(standby).items() if count}
    if cancelled:
        spared = standby.row["settings"].get("hot_standby_feedback") == "on"
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(cancelled.items()))
        yield Finding(
            "replication_conflicts", "info", "queries", sum(cancelled.values()), 0,
            f"Replay has cancelled {counted(sum(cancelled.values()), 'query', 'queries')} here "
            f"since the statistics began ({causes}).",
            "Raise max_standby_streaming_delay, which also raises the lag that queries may cause."
            if spared
            else "To avoid this: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
        )  # fmt: skip
    yield from _behind_an_archive(standby, plan) if standby.lives_on_archive else _behind(standby, plan, size)


def _behind_an_archive(standby: Standby, plan: ReplicationPlan) -> Iterator[Finding]:
    """The amount of WAL left to restore is unknown; only the age of the last replayed transaction shows a stop."""
    age, limit = standby.lag_s, plan.archive_lag_warning_s + standby.delay_s
    silent = round(standby.row["uptime_s"], 3) if age is None else age
    if silent < limit:
        return
    last = (
        f"has replayed no transaction since it started {human_duration(silent)} ago"
        if age is None
        else f"is at most {human_duration(silent)} behind, the age of the last transaction that it has replayed"
    )
    yield Finding(
        "replication_lag_time", "warning", "replay", silent, limit,
        f"This replica restores WAL from an archive, and {last}.",
        _RESUME
        if standby.paused
        else "If the primary was not idle, see this server's log for messages of restore_command, and check on the "
        "primary that it archives WAL (pg_stat_archiver).",
    )  # fmt: skip


def _behind(standby: Standby, plan: ReplicationPlan, size: str) -> Iterator[Finding]:
    behind, seconds, delay = standby.behind_bytes, standby.lag_s, standby.delay_s
    # A deliberate delay is not a lag; bytes are meaningless then.
    by_bytes = plan.lag_bytes.judge(behind) if not delay else "ok"
    by_time = plan.lag_s.judge(seconds - delay if seconds is not None and standby.streams is not False else None)
    # The time is an upper bound: after an idle hour, or in a long transaction, it is long although nothing is wrong.
    much = plan.lag_bytes.judge(behind) != "ok"
    most = ("warning" if much else "info") if delay else ("critical" if much else "warning")
    by_time = min(by_time, most, key=SEVERITIES.index)
    severity = max(by_bytes, by_time, key=SEVERITIES.index)
    if severity == "ok":
        return
    in_bytes = by_bytes == severity
    allowed = f" It is delayed by {human_duration(delay)} on purpose." if delay else ""
    time = "" if seconds is None else f", and is at most {human_duration(seconds)} behind"
    yield Finding(
        "replication_lag_bytes" if in_bytes else "replication_lag_time",
        severity,
        "replay",
        behind if in_bytes else seconds,
        plan.lag_bytes.of(severity) if in_bytes else plan.lag_s.of(severity) + delay,
        f"This replica has not replayed {size}{time}.{allowed}",
        _RESUME
        if standby.paused
        else "See pg_stat_activity for queries that replay waits for, max_standby_streaming_delay, and the disks.",
    )


def conflicts(standby: Standby) -> dict[str, int]:
    """Queries that replay has cancelled since the statistics began, by cause."""
    found = standby.row["conflicts"] or {}
    return {key.replace("confl_", "", 1): int(count) for key, count in found.items()}
