# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one loop of long work: items one after the other, as long as the load limits allow, and what came of each.

A `Subject` knows one kind of work. `WorkLoop` runs its items: it checks the load limits between them and beside each
statement, tries again what only a lock has prevented, and stops at a limit, a cancellation or a lost connection.
The next run chooses its items again, and so goes on with what is left.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from .._errors import QueryFailed, RunbookError
from .._postgres import primary
from .._postgres.connection import Server, Session
from .._target.base import Target
from .._units import to_rfc3339
from . import sql
from .limits import Limits, LoadLimits

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class ItemFacts(Protocol):
    """What a subject knows of an item."""

    def as_dict(self) -> dict[str, object]:
        """For the item's row in a module's result."""


T = TypeVar("T", bound=ItemFacts)
R = TypeVar("R")


@dataclass(frozen=True)
class Item(Generic[T]):
    """One piece of work, and what came of it.

    Attributes:
        name: for people, `schema.name`.
        facts: what the subject knows of it.
        reason: the word for why it was chosen.
        why: a clause without a full stop. While it is `due` or `done`: why it was chosen. Else: why it is not done.
        state: `due`, `done`, `skipped` (there is no use in it now), `failed`, or `left` for another run.
        remedy: the next step after a failure, as a sentence; may be empty.
        changed: something was done, though not all of it. Always so when it is `done`.
        again: only a lock has prevented it, and another attempt may succeed.
        duration_s: of its statements in all attempts; None if there were none.
    """

    name: str
    facts: T
    reason: str
    why: str = ""
    state: str = "due"
    remedy: str = ""
    changed: bool = False
    again: bool = False
    attempts: int = 0
    duration_s: float | None = None

    def become(self, state: str, why: str, remedy: str = "", *, again: bool = False) -> Item[T]:
        """The item in another state."""
        return replace(self, state=state, why=why, remedy=remedy, again=again)

    def as_dict(self) -> dict[str, object]:
        """Its row in a module's result."""
        own = {"reason": self.reason, "state": self.state, "why": self.why, "duration_s": self.duration_s}
        return {**self.facts.as_dict(), **own}


class Stop(Exception):
    """No further item is begun. The text says why, as a sentence; `failed`: not a load limit is the reason."""

    def __init__(self, why: str, *, failed: bool = False) -> None:
        super().__init__(why)
        self.failed = failed


class Subject(ABC, Generic[T]):
    """One kind of work.

    Attributes:
        statement_timeout_s: that of the session that works; None or 0 is without a limit.
        retries: further attempts at an item that is to be tried `again`.
    """

    statement_timeout_s: float | None = None
    retries: int = 0

    @abstractmethod
    def look(self, item: Item[T]) -> Item[T]:
        """The item right before the work, in check mode as well: still `due`, or why it is not to be done now.

        Raises:
            Stop: nor is any other.
            RunbookError: as `act`.
        """

    @abstractmethod
    def act(self, item: Item[T]) -> None:
        """Do it, while the load limits are watched.

        Raises:
            RunbookError: it failed. For the SQLSTATE 57014 `LoadLimits.ended` says whether the run ends.
        """

    @abstractmethod
    def examine(self, item: Item[T]) -> Item[T]:
        """What came of it, after `act` has succeeded."""

    @abstractmethod
    def refused(self, item: Item[T], exc: RunbookError) -> Item[T]:
        """What came of it, after `look` or `act` has failed.

        Raises:
            Stop: no other item can be done either.
        """

    def clean(self, item: Item[T]) -> None:
        """Remove what `act` has left half done, whatever ended it, a signal included. Not after a lost connection."""
        del item


class WorkLoop:
    """A run under load limits.

    Attributes:
        control: the session that looks. `session`: the one that works. `pids`: of all sessions of the run.
        stopped_by: why no further item is begun, as a sentence; None while there is no reason.
        failed: the run was stopped by something else than a load limit.
        lost: by the loss of the connection.
        notes: what else is worth knowing, sentences.
    """

    def __init__(self, control: Session, session: Session, limits: LoadLimits, *, check_mode: bool) -> None:
        """Nothing is done yet.

        Raises:
            InvalidInput: a limit is set on what this login or this target cannot see.
        """
        self.control = control
        self.session = session
        self.limits = limits
        self.check_mode = check_mode
        self.pids: list[int] = [each.value(sql.BACKEND_PID) for each in (control, session, limits.session)]
        self.stopped_by: str | None = None
        self.failed = False
        self.lost = False
        self.notes: list[str] = []
        limits.prepare()
        if limits.limits.opens:
            self.notes.append(f"The maintenance window is closed; it opens at {to_rfc3339(limits.limits.opens)}.")

    def go_on(self) -> None:
        """Raise Stop if a load limit is reached."""
        reason = self.limits.check()
        if reason is not None:
            raise Stop(reason)

    def choose(self, read: Callable[[], R]) -> R | None:
        """What `read` finds with the session that looks; None when a load limit stops the run meanwhile.

        Neither a limit nor a signal has to wait for a long measurement.
        """
        try:
            with self.limits.watching(self.control):
                return read()
        except QueryFailed:
            if self.limits.stopped_by is None:
                raise
            self.stop(self.limits.stopped_by, failed=False)
            return None

    def do(self, subject: Subject[T], items: Sequence[Item[T]]) -> list[Item[T]]:
        """Do the items that are due, or in check mode say what would be done.

        Once the run is stopped, those that are still due are `left`.
        """
        found = list(items)
        for at, item in enumerate(found):
            if item.state == "due" and self.stopped_by is None:
                found[at] = self._one(subject, item)
        if self.stopped_by is None:
            return found
        why = self.stopped_by.rstrip(".")
        return [item.become("left", why) if item.state == "due" else item for item in found]

    def stop(self, why: str, *, failed: bool) -> None:
        """Begin no further item."""
        self.stopped_by, self.failed = why, failed

    def add(self, other: WorkLoop, database: str) -> None:
        """Take over how a run in a further database has ended."""
        self.notes += [f"{database}: {each}" for each in other.notes if each not in self.notes]
        if other.stopped_by is not None:
            self.stop(other.stopped_by, failed=other.failed)
            self.lost = self.lost or other.lost

    def _one(self, subject: Subject[T], item: Item[T]) -> Item[T]:
        try:
            for attempt in range(subject.retries + 1):
                item = self._attempt(subject, replace(item, state="due", again=False))
                if not item.again or self.stopped_by is not None or attempt == subject.retries:
                    break
                time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))
        except Stop as exc:
            self.stop(str(exc), failed=exc.failed)
            return replace(item, state="due")
        except QueryFailed as exc:
            if not exc.details.get("lost"):
                raise
            self.lost = True
            self.stop(f"{exc.what} during the work on {item.name}: {exc.why}.", failed=True)
            return replace(item, state="due")
        return item

    def _attempt(self, subject: Subject[T], item: Item[T]) -> Item[T]:
        self.go_on()
        try:
            item = subject.look(item)
            if item.again:
                return replace(item, attempts=item.attempts + 1)
            if item.state != "due" or self.check_mode:
                return item
            item = replace(item, attempts=item.attempts + 1)
            item = self._act(subject, item)
            return subject.examine(item)
        except _Refused as exc:
            item, error = exc.item, exc.error
        except RunbookError as exc:
            error = exc
        if error.details.get("lost"):
            raise error
        ended = self.limits.ended(error, item.name, subject.statement_timeout_s)
        item = subject.refused(item, error)
        if ended:
            self.stop(self.limits.stopped_by or "", failed=self.limits.cancelled)
            if item.state != "done":  # though it was too late for this one
                item = replace(item, state="due")
        return item

    def _act(self, subject: Subject[T], item: Item[T]) -> Item[T]:
        """The item with the time that it took."""
        started = time.monotonic()

        def taken() -> Item[T]:
            return replace(item, duration_s=round((item.duration_s or 0.0) + time.monotonic() - started, 3))

        try:
            with self.limits.watching(self.session):
                subject.act(item)
            return taken()
        except RunbookError as exc:
            if not exc.details.get("lost"):
                subject.clean(item)
            raise _Refused(taken(), exc) from exc
        except BaseException:
            subject.clean(item)
            raise


class _Refused(Exception):
    """`act` has failed; the item with the time that it took."""

    def __init__(self, item: Item[Any], error: RunbookError) -> None:
        super().__init__(str(error))
        self.item = item
        self.error = error


@contextmanager
def begin(
    server: Server,
    target: Target,
    db: str,
    command: str,
    limits: Limits,
    clock: Callable[[], datetime],
    *,
    settings: Mapping[str, str],
    check_mode: bool,
    programs: Sequence[str] = (),
) -> Iterator[WorkLoop]:
    """The sessions of a run, for as long as it lasts.

    Args:
        command: what the work is, for people: `VACUUM`.
        settings: of the session that works.
        programs: application names whose transactions are a part of the work.

    Raises:
        InvalidInput: the server is a standby, or a limit is set on what this login or this target cannot see.
    """
    with ExitStack() as stack:
        control = stack.enter_context(server.connect(db, settings=sql.LOOK_SETTINGS))
        primary.require(control, command, server.login.host)
        watch = stack.enter_context(server.connect(db))
        session = stack.enter_context(server.connect(db, settings=settings))
        load_limits = LoadLimits(limits, watch, target, clock, programs=programs)
        yield WorkLoop(control, session, load_limits, check_mode=check_mode)


def timeouts(lock_timeout_s: float, statement_timeout_s: float | None) -> dict[str, str]:
    """The settings `lock_timeout` and `statement_timeout` of a session. 0 or None is no statement_timeout."""
    statement_ms = max(1, round(statement_timeout_s * 1000)) if statement_timeout_s else 0
    return {"lock_timeout": f"{round(lock_timeout_s * 1000)}ms", "statement_timeout": f"{statement_ms}ms"}
