# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of a run of VACUUM, table by table, and what is to be told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..._findings import Finding
from ..._units import human_duration, human_size
from . import xmin_horizon
from .tables import State, Task
from .xmin_horizon import Holder

_AGAIN = "Run it again: it goes on from there."


@dataclass(frozen=True)
class Done:
    """What came of one table.

    Attributes:
        action: `vacuum`, `vacuum full` or `repack`.
        done: whether it had an effect; in check mode, whether it would be tried.
        analyzed: whether its statistics were gathered.
        skipped: why it was not done, or had no effect, as a sentence; else empty.
        problem: it should have been done, and could not.
    """

    task: Task
    action: str
    database: str = ""
    done: bool = False
    analyzed: bool = False
    skipped: str = ""
    problem: bool = False
    before: State | None = None
    after: State | None = None
    duration_s: float = 0.0
    predicted_lock_s: float | None = None

    @property
    def state(self) -> str:
        """`done`, `due` (in check mode), `skipped`, or `failed`."""
        if self.problem:
            return "failed"
        if not self.done:
            return "skipped"
        return "done" if self.after else "due"

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "database": self.database,
            "schema": self.task.table.schema,
            "name": self.task.table.name,
            "reason": self.task.reason,
            "action": self.action,
            "state": self.state,
            "done": self.done,
            "analyzed": self.analyzed,
            "skipped": self.skipped,
            "before": self.before.as_dict() if self.before else None,
            "after": self.after.as_dict() if self.after else None,
            "duration_s": self.duration_s,
            "predicted_lock_s": self.predicted_lock_s,
        }


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        left: the tables that another run goes on with.
        stopped_by: why they are left, as a sentence; else empty.
        broken: it was not a brake that stopped the run.
        held: for each who holds dead rows back, the tables and how many rows.
        notes: what else is worth knowing.
        cleaned: the tables from which a dead pg_repack's leftovers were dropped.
        wraparound: what is to be said of databases that near it.
        rejuvenated: how much younger a database that neared wraparound has become, as a part of a sentence; else empty.
        ages: of the database, when the run has ended.
    """

    check_mode: bool = False
    tables: list[Done] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    stopped_by: str = ""
    broken: bool = False
    held: dict[Holder, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cleaned: list[str] = field(default_factory=list)
    wraparound: list[Finding] = field(default_factory=list)
    rejuvenated: str = ""
    ages: dict[str, int] = field(default_factory=dict)

    def add(self, other: Outcome, database: str) -> None:
        """Count what came of a further database as well."""
        self.tables += other.tables
        self.left += [f"{database}: {each}" for each in other.left]
        self.stopped_by, self.broken = other.stopped_by or self.stopped_by, other.broken or self.broken
        self.notes += [f"{database}: {each}" for each in other.notes]
        self.wraparound += other.wraparound
        self.rejuvenated = "; ".join(each for each in (self.rejuvenated, other.rejuvenated) if each)

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.cleaned or self.rejuvenated) or any(each.done for each in self.tables)

    @property
    def freed_bytes(self) -> int:
        """What went back to the file system."""
        return sum(
            max(0, each.before.total_bytes - each.after.total_bytes)
            for each in self.tables
            if each.before and each.after
        )

    @property
    def problems(self) -> list[Done]:
        """What should have been done, and could not."""
        return [each for each in self.tables if each.problem]

    @property
    def failure(self) -> str | None:
        """Why the task fails: it broke off, or a named table, or every one, could not be done."""
        if self.broken:
            return f"{self.stopped_by} {self.summary}"
        named = any(each.task.named for each in self.problems)
        if named or (self.problems and not any(each.done for each in self.tables)):
            told = " ".join(f"{each.task.table.title}: {each.skipped}" for each in self.problems[:5])
            return f"{told} {self.summary}"
        return None

    @property
    def findings(self) -> list[Finding]:
        """Who is in the way, what could not be done, and whether the run was stopped."""
        found = [xmin_horizon.finding(each, sorted(rows), sum(rows.values())) for each, rows in self.held.items()]
        found += self.wraparound
        for each in self.problems:
            title = each.task.table.title
            found.append(
                Finding("vacuum_table", "warning", title, None, None, f"{title} was not done. {each.skipped}", _AGAIN)
            )
        if self.left:
            message = f"{self.stopped_by} Left are {len(self.left)} tables: {', '.join(self.left[:5])}"
            message += " and others." if len(self.left) > 5 else "."
            found.append(Finding("vacuum_stopped", "warning", self.left[0], len(self.left), None, message, _AGAIN))
        return found

    @property
    def summary(self) -> str:
        """One or a few sentences for people."""
        count = sum(each.done for each in self.tables)
        if not (self.tables or self.left or self.cleaned):
            return self._of_ages or "No table needs it; nothing to do."
        verb = "would be done" if self.check_mode else "done"
        text = f"{_tables(count)} {verb}" if count else "Nothing was done"
        if self.freed_bytes:
            text += f", {human_size(self.freed_bytes)} freed"
        skipped = len(self.tables) - count
        text += f"; {skipped} skipped" if skipped else ""
        text += f"; {len(self.left)} left" if self.left else ""
        text += f"; leftovers of pg_repack dropped from {', '.join(self.cleaned)}" if self.cleaned else ""
        predicted = sum(each.predicted_lock_s or 0 for each in self.tables if each.done)
        if self.check_mode and predicted:
            text += f"; locked for about {human_duration(predicted)} in all, by prediction"
        return f"{text}. {self._of_ages}".strip()

    @property
    def _of_ages(self) -> str:
        """What is to be said of wraparound, as sentences."""
        text = f"{self.rejuvenated[:1].upper()}{self.rejuvenated[1:]}." if self.rejuvenated else ""
        told = " ".join(each.message for each in self.wraparound if each.severity != "info")
        return f"{text} {told}".strip()

    @property
    def diff(self) -> dict[str, str] | None:
        """The tables before and after; in check mode, what would be done."""
        worked = [each for each in self.tables if each.done and each.before]
        if not worked:
            return None
        before = "".join(f"{each.task.table.title}: {_describe(each.before)}\n" for each in worked)
        after = "".join(
            f"{each.task.table.title}: {_describe(each.after) if each.after else each.action}\n" for each in worked
        )
        return {"before": before, "after": after}

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        stopped = f"{self.stopped_by} " if self.stopped_by else ""
        message = {} if self.failure else {"msg": f"{stopped}{self.summary}"}  # else the failure is the message
        return {
            "tables": [each.as_dict() for each in self.tables],
            "left": self.left,
            "stopped_by": self.stopped_by,
            "freed_bytes": self.freed_bytes,
            "cleaned": self.cleaned,
            "findings": [each.as_dict() for each in self.findings],
            "notes": self.notes,
            **self.ages,
            **message,
        }


def _tables(count: int) -> str:
    return "1 table" if count == 1 else f"{count} tables"


def _describe(state: State | None) -> str:
    return f"{human_size(state.total_bytes)}, {state.dead_tuples} dead rows" if state else "gone"
