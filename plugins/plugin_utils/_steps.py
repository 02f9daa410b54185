# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A procedure of steps: when one fails, what was done is undone in reverse order.

It knows nothing of Ansible, and of what the steps do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


class StepFailed(Exception):
    """A step or an undo failed. The text is one or more sentences for people.

    `unreachable` says that the host could not be reached, so that it is not known how far the step came.
    """

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def _nothing() -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Step:
    """One step of a procedure.

    Attributes:
        do: does it, and raises an exception if that fails.
        undo: undoes it, also what it has done before it failed. Yields sentences for people on what became of that.
        undo_fails: what to say when `undo` fails, before the reason.
        keeps_earlier: from its beginning on, what the steps before it did is not undone any more.
    """

    do: Callable[[], object]
    undo: Callable[[], Iterable[str]] = _nothing
    undo_fails: str = ""
    keeps_earlier: bool = False


class ProcedureFailed(Exception):
    """A step failed, and what could be undone was undone.

    Attributes:
        cause: what the step raised.
        notes: what the undos said, in the order in which they ran.
    """

    def __init__(self, cause: Exception, notes: Iterable[str]) -> None:
        self.cause = cause
        self.notes = tuple(notes)
        super().__init__(" ".join([reason(cause), *self.notes]))


def run(steps: Iterable[Step]) -> None:
    """Run steps one after the other. An iterator may decide by the outcome of one step which is the next.

    An undo that fails is reported, and stops no other. What is no Exception, such as KeyboardInterrupt, undoes nothing:
    the process is to end, and the next run goes on from what it leaves.

    Raises:
        ProcedureFailed: a step failed.
    """
    begun: list[Step] = []
    for step in steps:
        if step.keeps_earlier:
            begun.clear()
        begun.append(step)
        try:
            step.do()
        except Exception as exc:
            raise ProcedureFailed(exc, _undo(begun)) from exc


def _undo(begun: list[Step]) -> list[str]:
    said: list[str] = []
    for step in reversed(begun):
        try:
            said.extend(step.undo())
        except Exception as exc:  # noqa: BLE001 - the others are undone all the same
            said.append(": ".join(filter(None, [step.undo_fails, reason(exc)])))
    return said


def reason(exc: Exception) -> str:
    """Why something failed, as a sentence."""
    text = str(exc).strip() if isinstance(exc, StepFailed) else f"{type(exc).__name__}: {exc}".strip()
    return text if text.endswith(".") else f"{text}."
