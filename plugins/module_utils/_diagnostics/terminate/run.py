# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End sessions: find them, cancel their queries, terminate those that still match, and check that they have ended.

What is decided is decided again in the statement that sends the signal. Between that and the signal lies less than a
statement's time; nothing that PostgreSQL offers is closer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from ..._errors import InvalidInput
from ..._findings import Finding, judged
from ..._postgres.connection import Session
from ..._postgres.procedures import LOOKS, name, running
from ..._units import counted, human_duration
from ..activity.facts import as_row, who
from . import sql
from .plan import SessionName, TerminatePlan

_PAUSE_S = 0.05
_MOST_FOUND = 5000
_TEXTS = ("user", "application", "client", "database", "state", "wait_event", "procedure", "query", "kind")
_RIGHTS = "this login may not signal it"
_HIDDEN = "its start and state are hidden from this login"


@dataclass(frozen=True)
class TerminateCandidate:
    """A session that matched, and its outcome. `refused`: it should end, but this login cannot end it."""

    row: Mapping[str, Any]
    started: datetime | None = None
    query_started: datetime | None = None
    outcome: str = ""
    why: str = ""
    refused: bool = False

    @property
    def pid(self) -> int:
        """Its process."""
        return int(self.row["pid"])

    @property
    def chosen(self) -> bool:
        """Whether it has to end."""
        return not self.outcome

    @property
    def active(self) -> bool:
        """Whether it was in a query when it was found."""
        return bool(self.row["state"] == "active")


@dataclass(frozen=True)
class TerminateOutcome:
    """What was done, or would be."""

    candidates: Sequence[TerminateCandidate]
    signalled: frozenset[int]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    check_mode: bool = False

    @property
    def changed(self) -> bool:
        """Whether a session was signalled, or would be."""
        return bool(self.signalled)

    def of(self, *outcomes: str) -> list[TerminateCandidate]:
        """Those with one of these outcomes."""
        return [each for each in self.candidates if each.outcome in outcomes]

    @property
    def failure(self) -> str | None:
        """Set when a session still exists that should have ended."""
        left = [each for each in self.candidates if each.refused or each.outcome == "stayed"]
        if not left:
            return None
        more = f" The same applies to {counted(len(left) - 1, 'other session')}." if len(left) > 1 else ""
        return f"{self._describe()} {self.findings[0].remedy}{more}"

    @property
    def diff(self) -> dict[str, str]:
        """One line for each session that is affected."""
        affected = self.of("cancelled", "terminated", "stayed")
        lines = [(f"{who(each.row)}, {each.row['state'] or 'state unknown'}", each) for each in affected]
        return {
            "before": "".join(f"{text}\n" for text, _each in lines),
            "after": "".join(f"{text}: {each.outcome}\n" for text, each in lines if each.outcome != "terminated"),
        }

    def as_dict(self) -> dict[str, Any]:
        """The return values of the module."""
        failure = self.failure
        rows = [{**each.row, "outcome": each.outcome, "why": each.why} for each in self.candidates]
        return {
            "sessions": rows,
            **{f"{name}_count": len(self.of(name)) for name in ("terminated", "cancelled", "stayed", "spared")},
            **judged(self.findings),
            "notes": self.notes,
            **({} if failure else {"msg": self._describe()}),  # a failure has a text of its own
        }

    def _describe(self) -> str:
        would = "would be " if self.check_mode else ""
        parts = [
            f"{len(found)} {word}"
            for name, word in (
                ("terminated", f"{would}terminated"),
                ("cancelled", f"{would}cancelled"),
                ("stayed", "still running"),
                ("gone", "already ended"),
                ("spared", "spared"),
            )
            if (found := self.of(name))
        ]
        if not parts:
            return "No session matches; nothing to do."
        text = f"Sessions: {', '.join(parts)}."
        return text if not self.findings else f"{text} {self.findings[0].message}"


def terminate(
    session: Session, plan: TerminatePlan, *, check_mode: bool, clock: Callable[[], float] = time.monotonic
) -> TerminateOutcome:
    """End the sessions that match the plan.

    Raises:
        InvalidInput: more sessions match than the plan allows. No session was signalled.
    """
    values = plan.parameters()
    sees_all = bool(session.value(sql.SEES_ALL))
    found = [_candidate(row, plan) for row in session.query(sql.FIND, {**values, "most": _MOST_FOUND})]
    found += _not_found(found, plan.sessions)
    chosen = [each for each in found if each.chosen]
    if len(chosen) > plan.max_sessions:
        raise InvalidInput(
            f"{len(chosen)} sessions match, but max_sessions is {plan.max_sessions}",
            remedy="No session was signalled. Narrow the rule, or raise max_sessions and run it in check mode first.",
            details={"pids": [each.pid for each in chosen][:1000]},
        )
    if check_mode:
        signalled = frozenset(each.pid for each in chosen)
        done = [replace(each, outcome=plan.expected(each.active)) if each.chosen else each for each in found]
    else:
        work = _TerminateRun(session, plan, values, clock)
        outcomes = work.end(chosen) if chosen else {}
        signalled = frozenset(work.cancelled | work.terminated)
        done = [_with(each, outcomes) for each in found]
    findings = [*_judge(done, plan), *_spared_blockers(done, plan), *_spared_procedures(done, plan)]
    return TerminateOutcome(done, signalled, findings, _notes(done, plan, sees_all), check_mode)


def _with(each: TerminateCandidate, outcomes: Mapping[int, tuple[str, str]]) -> TerminateCandidate:
    if not each.chosen:
        return each
    outcome, why = outcomes[each.pid]
    return replace(each, outcome=outcome, why=why)


def _candidate(row: Any, plan: TerminatePlan) -> TerminateCandidate:
    shown = as_row(row, plan.query_length)
    kind = {"client backend": "client", None: ""}.get(row.backend_type, row.backend_type)
    each = TerminateCandidate({**shown, "kind": kind}, row.backend_start, row.query_start)
    named = [meant for meant in plan.sessions if meant.pid == row.pid]
    reason = _why_not_named(each, named) if plan.sessions else _why_spared(row, plan)
    if reason:
        return replace(each, outcome="spared", why=reason)
    if row.procedure and not plan.include_procedures:
        reason = f"{name(row.procedure)} is running (include_procedures)"
        return replace(each, outcome="spared", why=reason, refused=bool(plan.sessions))
    for missing, why in ((row.backend_start is None, _HIDDEN), (not row.allowed, _RIGHTS)):
        if missing:
            return replace(each, outcome="spared", why=why, refused=True)
    return each


def _why_not_named(each: TerminateCandidate, named: Iterable[SessionName]) -> str:
    if each.started is None or any(name.matches(each.started) for name in named):
        return ""
    return f"not the same session: this one was started at {each.row['backend_start']}"


def _why_spared(row: Any, plan: TerminatePlan) -> str:
    """By a rule, only sessions of clients are ended, unless the others are asked for."""
    reason = ""
    if row.wraparound:
        reason = "autovacuum to prevent wraparound: it would start again, and must finish"
    elif row.superuser and not plan.include_superusers:
        reason = "a superuser's session (include_superusers)"
    elif row.backend_type == "walsender" and not plan.include_replication:
        reason = "a replica or a backup (include_replication)"
    elif row.backend_type not in ("client backend", "walsender", None) and not plan.include_background:
        reason = f"a background process, {row.backend_type} (include_background)"
    return reason


def _not_found(found: Sequence[TerminateCandidate], names: Iterable[SessionName]) -> list[TerminateCandidate]:
    there = {each.pid for each in found}
    empty = dict.fromkeys(_TEXTS, "")
    ages = dict.fromkeys(("session_age_s", "transaction_age_s", "state_age_s", "query_age_s"))
    return [
        TerminateCandidate(
            {"pid": name.pid, "backend_start": None, **empty, **ages},
            outcome="gone",
            why="there is no session with this pid",
        )
        for name in names
        if name.pid not in there
    ]


@dataclass
class _TerminateRun:
    """One run, and the sessions that were signalled in it."""

    session: Session
    plan: TerminatePlan
    values: Mapping[str, object]
    clock: Callable[[], float]
    cancelled: set[int] = field(default_factory=set)
    terminated: set[int] = field(default_factory=set)

    def end(self, chosen: Sequence[TerminateCandidate]) -> dict[int, tuple[str, str]]:
        """The outcome of each, and its reason."""
        if self.plan.grace_s > 0 and any(each.active for each in chosen):
            self.cancelled |= self._signal(sql.CANCEL, chosen)
            cancelled = [each for each in chosen if each.pid in self.cancelled]
            self._wait(lambda: not self._busy(cancelled), self.plan.grace_s)
        self.terminated |= self._signal(sql.TERMINATE, chosen)
        terminated = [each for each in chosen if each.pid in self.terminated]
        self._wait(lambda: not self._there(terminated), self.plan.timeout_s)
        there = self._there(chosen)
        return {each.pid: self._outcome(each.pid, each.pid in there) for each in chosen}

    def _outcome(self, pid: int, there: bool) -> tuple[str, str]:
        if pid in self.terminated:
            limit = human_duration(self.plan.timeout_s)
            return ("stayed", f"still running {limit} after pg_terminate_backend()") if there else ("terminated", "")
        if pid in self.cancelled and not there:  # a client that has no more to do, or a worker
            return "terminated", "it ended when its query was cancelled"
        if not there:
            return "gone", "it ended by itself"
        if pid in self.cancelled:
            return "cancelled", "its query was cancelled, and the session no longer matches the rule"
        return "spared", "the session no longer matches the rule"

    def _signal(self, statement: str, chosen: Sequence[TerminateCandidate]) -> set[int]:
        # Through query(): only the rows show which sessions were signalled. terminate() is not here in check mode.
        return {row.pid for row in self.session.query(statement, self._of(chosen)) if row.sent}

    def _of(self, chosen: Sequence[TerminateCandidate]) -> dict[str, object]:
        return {**self.values, "chosen": [each.pid for each in chosen], "starts": [each.started for each in chosen]}

    def _there(self, chosen: Sequence[TerminateCandidate]) -> set[int]:
        return {row.pid for row in self.session.query(sql.THERE, self._of(chosen))} if chosen else set()

    def _busy(self, cancelled: Sequence[TerminateCandidate]) -> bool:
        """Whether one is still in the query that was cancelled."""
        began = {each.pid: each.query_started for each in cancelled}
        rows = self.session.query(sql.THERE, self._of(cancelled)) if cancelled else []
        return any(row.state == "active" and row.query_start == began[row.pid] for row in rows)

    def _wait(self, condition: Callable[[], bool], limit_s: float) -> None:
        end = self.clock() + limit_s
        pause = _PAUSE_S
        while not condition() and self.clock() < end:
            time.sleep(max(0.0, min(pause, end - self.clock())))
            pause = min(pause * 1.5, 0.5)


def _judge(done: Sequence[TerminateCandidate], plan: TerminatePlan) -> list[Finding]:
    found = []
    for each in done:
        subject = f"pid {each.pid}"
        if each.outcome == "stayed":
            message = f"{who(each.row)} is still running {human_duration(plan.timeout_s)} after pg_terminate_backend()."
            remedy = (
                "See its wait_event: a process that waits for a disk, or is stopped, ends later. Never use kill -9."
            )
            found.append(Finding("session_stayed", "warning", subject, plan.timeout_s, plan.timeout_s, message, remedy))
        elif each.refused and each.row["procedure"] and each.why not in (_HIDDEN, _RIGHTS):
            [procedure] = running([each.row])
            message = f"{who(each.row)} is not terminated: {_lower(str(procedure))}."
            found.append(Finding("terminate_procedure", "warning", subject, None, None, message, procedure.wait))
        elif each.refused:
            grant = "pg_read_all_stats" if each.why == _HIDDEN else "pg_signal_backend"
            message = f"{who(each.row)} cannot be terminated: {each.why}."
            remedy = f"Grant {grant} to the login. Only a superuser can terminate sessions of superusers."
            found.append(Finding("terminate_rights", "warning", subject, None, None, message, remedy))
    return found


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _spared_procedures(done: Sequence[TerminateCandidate], plan: TerminatePlan) -> list[Finding]:
    """Procedures whose sessions match a rule. They are information: the rule was not written for them."""
    if plan.sessions or plan.include_procedures:
        return []
    rows = [each.row for each in done if each.outcome == "spared" and each.row["procedure"]]
    return [
        Finding("terminate_procedure", "info", each.database or "server", len(each.pids), None,
                f"Not terminated: {_lower(str(each))}.", each.wait)
        for each in running(rows)
        if each.kind not in LOOKS
    ]  # fmt: skip


def _spared_blockers(done: Sequence[TerminateCandidate], plan: TerminatePlan) -> list[Finding]:
    """Sessions that block others, match the rule and were spared: the lock waits continue, too."""
    if plan.rule.blocking_over_s is None:
        return []
    return [
        Finding("terminate_spared", "warning", f"pid {each.pid}", None, None,
                f"{who(each.row)} blocks other sessions and was not terminated: {each.why}.",
                f"Set terminate_sessions_{option} ({option} of the module) to true to terminate it.")
        for each in done
        for option in ("include_superusers", "include_replication", "include_background")
        if each.outcome == "spared" and f"({option})" in each.why
    ]  # fmt: skip


def _notes(done: Sequence[TerminateCandidate], plan: TerminatePlan, sees_all: bool) -> list[str]:
    notes = []
    if not sees_all and plan.judges_state:
        notes.append(
            "This login cannot see what sessions of other roles do, so only its own sessions are examined: "
            "grant it pg_monitor."
        )
    if len(done) >= _MOST_FOUND:
        notes.append(f"Only the {_MOST_FOUND} oldest sessions that match were examined; run this again for the others.")
    return notes
