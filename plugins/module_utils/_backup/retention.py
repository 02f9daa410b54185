# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backups stay, and why. Pure: the clock and the catalog are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .._catalog.verifications import CLOCK_SKEW_S
from .._errors import InvalidInput
from .._plan import Plan

_NEVER_ALONE = "no newer backup could take its place"
_UNPROVEN = "failed its verification, but its files are there, and no newer backup is verified"


def _day(taken: datetime) -> str:
    return f"{taken:%Y-%m-%d}"


def _week(taken: datetime) -> str:
    year, week, _weekday = taken.isocalendar()
    return f"{year:04d}-W{week:02d}"


def _month(taken: datetime) -> str:
    return f"{taken:%Y-%m}"


_PERIODS: dict[str, Callable[[datetime], str]] = {
    "keep_daily": _day,
    "keep_weekly": _week,
    "keep_monthly": _month,
}


@dataclass(frozen=True)
class Policy(Plan):
    """What the operator wants to keep; None and 0 are the same. `min_age_s` is in seconds."""

    keep_last: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    min_age_s: float = 0.0
    keep_unreadable: bool = True

    def check(self) -> None:
        """Raise InvalidInput unless the policy keeps something."""
        if not any((self.keep_last, self.keep_daily, self.keep_weekly, self.keep_monthly)):
            raise InvalidInput(
                "Invalid retention rules",
                why="keep_last, keep_daily, keep_weekly and keep_monthly are all 0 or absent, so nothing would be kept",
                remedy="Set at least one of them to 1 or more.",
            )


@dataclass(frozen=True)
class RetentionCandidate:
    """A backup as the decision sees it.

    Attributes:
        id: its name in the catalog.
        taken: when its snapshot was taken.
        verdict: the latest one, or None if it was never verified.
        readable: whether its manifest could be read, is its own, and names the files that are there.
        damaged: not readable because its own content is broken, so that no other account, version or moment could.
        cluster: the system identifier of the cluster that it is of; None when it does not say so.
        size_bytes: of its files, as its manifest says; None when that cannot be read.
        user: who reads it just now, in words, or None.
    """

    id: str
    taken: datetime
    verdict: str | None = None
    readable: bool = True
    damaged: bool = False
    size_bytes: int | None = None
    user: str | None = None
    cluster: str | None = None

    @property
    def usable(self) -> bool:
        """Whether it can stand for its day. A failed one cannot; one that was never verified can."""
        return self.readable and self.verdict != "failed"


def _age_order(backup: RetentionCandidate) -> tuple[datetime, str]:
    return backup.taken, backup.id


@dataclass(frozen=True)
class Judged:
    """A backup, and why it is kept or deleted."""

    backup: RetentionCandidate
    reasons: list[str]

    @property
    def why(self) -> str:
        """All reasons in one text."""
        return "; ".join(self.reasons)


@dataclass(frozen=True)
class Decision:
    """Every backup is in exactly one of the two lists; both are newest first."""

    kept: list[Judged] = field(default_factory=list)
    deleted: list[Judged] = field(default_factory=list)


def decide(backups: Iterable[RetentionCandidate], policy: Policy, now: datetime) -> Decision:
    """Judge all backups of one database, those of each cluster by themselves.

    The rules count usable backups only, never what is dated in the future: a wrong clock must not push out the real
    ones. What is not usable goes when a newer usable backup is there, and what failed its verification when a newer one
    is proven: it may have been the verification that was wrong. The newest usable and the newest verified backup stay
    whatever the rules say, and without any usable backup nothing goes at all.
    """
    policy.check()
    ordered = sorted(backups, key=_age_order, reverse=True)
    reasons: dict[str, list[str]] = {}
    for group in _by_cluster(ordered):
        reasons.update(_judge(group, policy, now))
    decision = Decision()
    for each in ordered:
        if reasons[each.id]:
            decision.kept.append(Judged(each, reasons[each.id]))
        else:
            decision.deleted.append(Judged(each, [_why_deleted(each)]))
    return decision


def _by_cluster(ordered: Iterable[RetentionCandidate]) -> list[list[RetentionCandidate]]:
    """The backups of each cluster. Those that do not say of which are of the one there is, or else by themselves."""
    groups: dict[str | None, list[RetentionCandidate]] = {}
    for each in ordered:
        groups.setdefault(each.cluster, []).append(each)
    if len(groups) == 2 and None in groups:
        return [sorted((each for group in groups.values() for each in group), key=_age_order, reverse=True)]
    return list(groups.values())


def _judge(ordered: Sequence[RetentionCandidate], policy: Policy, now: datetime) -> dict[str, list[str]]:
    """Why each is kept, by its id; one without a reason is deleted."""
    counted = [each for each in ordered if each.usable and not _future(each, now)]
    reasons: dict[str, list[str]] = {each.id: [] for each in ordered}
    _apply_rules(counted, policy, reasons)
    proven = next((each for each in counted if each.verdict == "verified"), None)
    if proven is not None:
        reasons[proven.id].append("newest verified")
    newest = counted[0] if counted else None
    for each in ordered:
        reasons[each.id] += _protections(each, policy, newest, now)
        if each.readable and each.verdict == "failed" and (proven is None or each.taken > proven.taken):
            reasons[each.id].append(_UNPROVEN)
    return reasons


def _future(backup: RetentionCandidate, now: datetime) -> bool:
    return (backup.taken - now).total_seconds() > CLOCK_SKEW_S


def _apply_rules(counted: Sequence[RetentionCandidate], policy: Policy, reasons: dict[str, list[str]]) -> None:
    for number, each in enumerate(counted[: policy.keep_last or 0], 1):
        reasons[each.id].append(f"keep_last: {number} of {policy.keep_last}")
    for rule, period_of in _PERIODS.items():
        wanted = getattr(policy, rule) or 0
        seen: set[str] = set()
        for each in counted:
            period = period_of(each.taken.astimezone(timezone.utc))
            if period in seen:
                continue
            if len(seen) >= wanted:
                break
            seen.add(period)
            reasons[each.id].append(f"{rule}: {period}")


def _protections(
    backup: RetentionCandidate, policy: Policy, newest: RetentionCandidate | None, now: datetime
) -> list[str]:
    why = []
    if newest is None or backup.taken > newest.taken:
        why.append("dated in the future" if _future(backup, now) else _NEVER_ALONE)
    elif backup == newest:
        why.append("newest")
    if not backup.readable and not backup.damaged:
        why.append("cannot be examined")
    elif not backup.readable and policy.keep_unreadable:
        why.append("unreadable")
    if policy.min_age_s > 0 and (now - backup.taken).total_seconds() < policy.min_age_s:
        why.append("younger than min_age")
    if backup.user is not None:
        why.append(f"in use: {backup.user}")
    return why


def _why_deleted(backup: RetentionCandidate) -> str:
    if not backup.readable:
        return "unreadable, and a newer backup can be used"
    if backup.verdict == "failed":
        return "failed its verification, and a newer backup is verified"
    return "no rule keeps it"
