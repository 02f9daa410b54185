# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module reports of a run of `work`: rows, findings, a message, and whether the task fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._findings import Finding, judged
from .work import Item, WorkLoop

_MOST_NAMED = 10
_AGAIN = "Run it again; it continues from there."


@dataclass(frozen=True)
class Words:
    """How a kind of work is called.

    Attributes:
        command: `VACUUM`.
        check: what the checks of its findings begin with: `vacuum`.
        one: what an item is: `table`. `many`: its plural, which is also the return value with the rows.
        done: what has become of one: `vacuumed`.
        tells_skipped: whether each item that was skipped is a finding.
    """

    command: str
    check: str
    one: str
    many: str
    done: str
    tells_skipped: bool = True

    def count(self, number: int) -> str:
        """`1 table`, `2 tables`."""
        return f"1 {self.one}" if number == 1 else f"{number} {self.many}"


@dataclass(frozen=True)
class Outcome:
    """What a module reports of a run.

    Attributes:
        changed: whether anything was done; in check mode, whether anything would be.
        values: the return values but for the message.
        message: a few sentences for people.
        diff: `before` and `after`, for people; None if nothing was done.
        failure: why the task fails, although it did what it could; None if it does not.
    """

    changed: bool
    values: Mapping[str, Any]
    message: str
    diff: Mapping[str, str] | None = None
    failure: str | None = None

    @property
    def returned(self) -> dict[str, Any]:
        """The values, with the message as `msg` unless the failure is the message."""
        return {**self.values} if self.failure else {**self.values, "msg": self.message}


@dataclass
class RunReport:
    """What a subject has to say of its run beside the items' states.

    Attributes:
        items: those of the work itself, whose rows are returned. `others`: what had to be done beside them.
        examined: how many tables or indexes were looked at to choose the items.
        explicit: the operator listed them, so that each failure is one of the task.
        values: further return values. `findings`: further findings. `details`: parts of the message's first sentence.
        sentences: at the end of the message.
        changed: something was done that no item tells of.
        before: what is, and `after`: what will be, line by line, for people.
    """

    items: Sequence[Item[Any]]
    others: Sequence[Item[Any]] = ()
    examined: int = 0
    explicit: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    changed: bool = False
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def among(self, *states: str) -> list[Item[Any]]:
        """All items with one of these states."""
        return [each for each in (*self.items, *self.others) if each.state in states]


def conclude(work: WorkLoop, words: Words, report: RunReport) -> Outcome:
    """The outcome of a run."""
    findings = [*report.findings, *_findings(work, words, report)]
    done = [each for each in (*report.items, *report.others) if each.changed or each.state == "done"]
    changed = report.changed or bool(done)
    if work.check_mode:
        changed = report.changed or bool(report.among("due"))
    values = {
        words.many: [each.as_dict() for each in report.items],
        "examined": report.examined,
        "left": [each.name for each in report.among("left", "failed")],
        "stopped_by": work.stopped_by,
        "notes": work.notes,
        **report.values,
        **judged(findings),
    }
    diff = {"before": "\n".join([*report.before, ""]), "after": "\n".join([*report.after, ""])}
    return Outcome(
        changed,
        values,
        _message(work, words, report),
        diff if report.before or report.after else None,
        _failure(work, words, report, changed=changed),
    )


def _findings(work: WorkLoop, words: Words, report: RunReport) -> list[Finding]:
    found = [
        Finding(f"{words.check}_failed", "warning", each.name, each.reason, None,
                f"{words.command} of {each.name} failed: {each.why}.", each.remedy or _AGAIN)
        for each in report.items
        if each.state == "failed"
    ]  # fmt: skip
    if words.tells_skipped:
        found += [
            Finding(f"{words.check}_skipped", "info", each.name, each.reason, None,
                    f"{words.command} skipped {each.name}: {each.why}.", each.remedy or "Run it again later.")
            for each in report.items
            if each.state == "skipped"
        ]  # fmt: skip
    left = [each for each in report.items if each.state == "left"]
    if left or work.stopped_by:
        why = work.stopped_by or f"{left[0].name}: {left[0].why}."
        verb = "is" if len(left) == 1 else "are"
        names = ", ".join(each.name for each in left[:5]) or "nothing"
        found.append(
            Finding(f"{words.check}_left", "warning", names, len(left), 0,
                    f"{words.count(len(left))} {verb} left to be {words.done}. {why}", _AGAIN)
        )  # fmt: skip
    return found


def _counts(work: WorkLoop, words: Words, report: RunReport) -> str:
    """How many were done, skipped, failed, left; one sentence without a full stop."""
    would = "would be " if work.check_mode else ""
    count = sum(each.state == ("due" if work.check_mode else "done") for each in report.items)
    parts = [f"{words.count(count)} {would}{words.done}"] if count or not report.details else []
    parts += report.details
    for state in ("skipped", "failed", "left"):
        number = sum(each.state == state for each in report.items)
        parts += [f"{number} {state}"] if number else []
    return ", ".join(parts)


def _message(work: WorkLoop, words: Words, report: RunReport) -> str:
    if report.items or report.others or report.details:
        text = f"{_counts(work, words, report)}."
    elif report.sentences:
        text = ""
    else:
        text = f"No {words.one} needs {words.command} ({words.count(report.examined)} examined)."
    for state in ("failed", "skipped", "left"):
        names = [each.name for each in report.among(state)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        text += f" {state.capitalize()}: {', '.join(names[:_MOST_NAMED])}{more}." if names else ""
    return " ".join(filter(None, (text, work.stopped_by, *report.sentences)))


def _failure(work: WorkLoop, words: Words, report: RunReport, *, changed: bool) -> str | None:
    """The run broke off; or what was listed, or everything, could not be done."""
    broken = [f"{work.stopped_by} {_counts(work, words, report)}."] if work.failed else []
    failed = report.among("failed")
    if failed and (broken or report.explicit or not changed):
        names = "; ".join(f"{each.name} ({each.why})" for each in failed[:_MOST_NAMED])
        remedies = dict.fromkeys(each.remedy for each in failed if each.remedy)
        broken += [f"{words.command} failed for {words.count(len(failed))}: {names}.", *remedies]
    return " ".join([*broken, *report.sentences]) if broken else None
