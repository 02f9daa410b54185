# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load limits: between two items, and beside each statement in a thread, they tell whether long work has to stop.

Standbys that fall behind, WAL that piles up, a disk that fills up, a long transaction of another session, the end of
the maintenance window. The work stops at a safe point, and the next run goes on from there.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._errors import InvalidInput, QueryFailed, RunbookError
from .._plan import Plan
from .._postgres import sqlstate
from .._postgres.connection import Session
from .._postgres.directories import places
from .._postgres.sql import REPLICAS
from .._target.base import Target
from .._units import human_duration, human_size, to_rfc3339
from . import causes, sql
from .window import Window

_EVERY_S = 2.0
_CANCEL_AGAIN_S = 0.5
_SAME_INSTANT_S = 0.05
_SAMPLES = 5000  # nearly three hours


@dataclass(frozen=True)
class Limits(Plan):
    """When to stop. What is None is not looked at.

    Attributes:
        max_replica_lag_s: seconds that a standby may be behind. Or:
        max_replica_lag_bytes: bytes of WAL that it may be behind.
        max_wal_size_bytes: the size that pg_wal may have.
        max_transaction_age_s: the age that a transaction of another session in this database may have.
        min_free_bytes: what has to stay free where the server keeps its data and WAL. Or:
        min_free_ratio: the same as a share of the file system, 0 to 1.
        until: the end of the maintenance window.
        opens: when the window opens next; only set while it is closed, which only check mode accepts.
    """

    max_replica_lag_s: float | None = None
    max_replica_lag_bytes: int | None = None
    max_wal_size_bytes: int | None = None
    max_transaction_age_s: float | None = None
    min_free_bytes: int | None = None
    min_free_ratio: float | None = None
    until: datetime | None = None
    opens: datetime | None = None

    @classmethod
    def read(cls, params: Mapping[str, Any], now: datetime, *, must_be_open: bool = True) -> Limits:
        """What a module's parameters ask for (`LOAD_LIMITS` in `_argspec`, read by it).

        Raises:
            InvalidInput: an option says nothing that can be understood.
            OutsideWindow: the window is closed. Not when `must_be_open` is false, which is for check mode.
        """
        lag_s, lag_bytes = params["max_replica_lag"] or (None, None)
        free_bytes, free_ratio = params["min_free"] or (None, None)
        until = opens = None
        if params["window"]:
            window = Window.parse(params["window"])
            opening = window.require(now) if must_be_open else window.at(now)
            until, opens = (opening.end, None) if opening else (None, window.following(now).start)
        return cls.from_params(
            params,
            max_replica_lag_s=lag_s,
            max_replica_lag_bytes=lag_bytes,
            min_free_bytes=free_bytes,
            min_free_ratio=free_ratio,
            until=until,
            opens=opens,
        )

    @property
    def watches_sessions(self) -> bool:
        """Whether the activity of other sessions has to be seen."""
        return (self.max_replica_lag_s, self.max_replica_lag_bytes, self.max_transaction_age_s) != (None, None, None)

    @property
    def watches_space(self) -> bool:
        """Whether the server's file systems have to be seen."""
        return (self.min_free_bytes, self.min_free_ratio) != (None, None)


class LoadLimits:
    """Limits on a server: whether to go on. Not for two threads at a time.

    Attributes:
        stopped_by: the reason that was found last, a sentence; None while there is none.
        cancelled: the reason is that another session cancelled a statement of ours. That is a failure.
    """

    def __init__(
        self,
        limits: Limits,
        session: Session,
        target: Target,
        clock: Callable[[], datetime],
        *,
        programs: Sequence[str] = (),
        every_s: float = _EVERY_S,
    ) -> None:
        """Nothing is asked yet.

        Args:
            session: a connection of its own with the database: no other thread uses it.
            clock: the time now, for the end of the window.
            programs: application names whose transactions are our own work.
            every_s: seconds between two looks during a statement.
        """
        self.limits = limits
        self.stopped_by: str | None = None
        self.cancelled = False
        self._watched_s = 0.0
        self.session = session
        self._target = target
        self._clock = clock
        self._programs = list(programs)
        self._every_s = every_s
        self._places: list[str] | None = None
        self._pids: list[int] = []
        self._ready = False
        self._written: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def check(self) -> str | None:
        """Why to stop now, as a sentence, or None.

        Raises:
            InvalidInput: a limit is set on what this login or this target cannot see.
        """
        self.prepare()
        self._watched_s = 0.0
        looks = (self._late, self._behind, self._too_much_wal, self._too_full, self._waited_for)
        self.stopped_by = next((reason for look in looks if (reason := look()) is not None), None)
        return self.stopped_by

    @contextmanager
    def watching(self, work: Session) -> Iterator[None]:
        """Keep asking while a statement runs in `work`, and cancel it when there is a reason to stop.

        The statement then fails with SQLSTATE 57014, and `stopped_by` tells why. A signal that has a handler cancels
        it as well, for psycopg2 waits for a statement's end before the handler can run.
        """
        self.stopped_by = None
        self.prepare()
        self._pids = [work.value(sql.BACKEND_PID)]
        watch = _Watch(self, work, self._every_s)
        with _wakeup() as told:
            watch.start(told)
            started = time.monotonic()
            try:
                yield
            finally:
                self._watched_s = time.monotonic() - started
                watch.end()
                self._pids = []

    def ended(self, exc: RunbookError, subject: str, timeout_s: float | None) -> bool:
        """Whether what the last watched statement failed with is to end the whole run; `stopped_by` then says why.

        It is when we cancelled it, and when another session did, for that is how an operator ends maintenance.
        A timeout has the same SQLSTATE, and concerns this statement alone.

        Args:
            subject: what was worked on, for people.
            timeout_s: the statement_timeout it had, if any.
        """
        in_time = not timeout_s or self._watched_s < timeout_s - _SAME_INSTANT_S
        if self.stopped_by is None and in_time and causes.state_of(exc) == sqlstate.QUERY_CANCELED:
            self.cancelled = True
            self.stopped_by = f"Another session cancelled the work on {subject}: {exc.why}."
        return self.stopped_by is not None

    # --- the reasons

    def _late(self) -> str | None:
        until = self.limits.until
        return f"The maintenance window ended at {to_rfc3339(until)}." if until and self._clock() >= until else None

    def _behind(self) -> str | None:
        most_s, most_bytes = self.limits.max_replica_lag_s, self.limits.max_replica_lag_bytes
        if most_s is None and most_bytes is None:
            return None
        now = time.monotonic()
        for replica in self.session.query(REPLICAS):
            self._written.append((now, replica.written))
            if most_bytes is not None and replica.lag_bytes > most_bytes:
                lag, allowed = human_size(replica.lag_bytes), human_size(most_bytes)
                return f"Standby {replica.name} is {lag} behind, and max_replica_lag allows {allowed}."
            lag_s = self._lag_s(replica, now)
            if most_s is not None and lag_s > most_s:
                lag, allowed = human_duration(lag_s), human_duration(most_s)
                return f"Standby {replica.name} is {lag} behind, and max_replica_lag allows {allowed}."
        return None

    def _lag_s(self, replica: Any, now: float) -> float:
        """How long ago, at least, what the replica has not applied yet was written.

        The server's own figure is that of the last answer: of a replica that stands still it tells nothing.
        """
        if replica.lag_bytes == 0:
            return 0.0
        seen = next((at for at, position in self._written if position > replica.replayed), now)
        return max(replica.replay_lag_s or 0.0, now - seen)

    def _too_much_wal(self) -> str | None:
        most = self.limits.max_wal_size_bytes
        if most is None:
            return None
        size = int(self.session.value(sql.WAL_BYTES))
        if size <= most:
            return None
        return f"pg_wal has {human_size(size)}, and max_wal_size allows {human_size(most)}."

    def _too_full(self) -> str | None:
        least, ratio = self.limits.min_free_bytes, self.limits.min_free_ratio
        for place in self._places or ():
            space = self._target.files.space(place)
            wanted = least if least is not None else int(space.total_bytes * (ratio or 0.0))
            if space.free_bytes < wanted:
                free = human_size(space.free_bytes)
                return f"{free} are free in {place}, and min_free requires {human_size(wanted)}."
        return None

    def _waited_for(self) -> str | None:
        most = self.limits.max_transaction_age_s
        if most is None:
            return None
        values = {"pids": self._pids, "programs": self._programs}
        for oldest in self.session.query(sql.OLDEST_TRANSACTION, values):
            if oldest.age_s > most:
                age, allowed = human_duration(oldest.age_s), human_duration(most)
                return f"A transaction is {age} old ({oldest.who}), and max_transaction_age allows {allowed}."
        return None

    # --- whether they can be seen

    def prepare(self) -> None:
        """Look once whether all that is limited can be seen.

        Raises:
            InvalidInput: a limit is set on what this login or this target cannot see.
        """
        if self._ready:
            return
        limits = self.limits
        if limits.watches_sessions or limits.watches_space or limits.max_wal_size_bytes is not None:
            rights = self.session.query(sql.RIGHTS)[0]
            if limits.watches_sessions and not rights.sessions:
                raise _blind("max_replica_lag and max_transaction_age", "the activity of other sessions")
            if limits.max_wal_size_bytes is not None and not rights.wal:
                raise _blind("max_wal_size", "the size of pg_wal")
            if limits.watches_space:
                if not rights.places:
                    raise _blind("min_free", "where the server keeps its data")
                self._places = places(self.session, self._target)
                if self._places is None:
                    raise InvalidInput(
                        "min_free cannot be checked",
                        subject=self._target.name,
                        why="the server's data directory cannot be seen from there",
                        remedy="Run the module on the server's host as root or as the server's account,"
                        " or remove the option.",
                    )
        self._ready = True


def _blind(option: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"{option} cannot be checked",
        why=f"the login has no privilege to see {what}",
        remedy="Grant the login the role pg_monitor, or remove the option.",
    )


class _Watch:
    """The thread beside a statement."""

    def __init__(self, limits: LoadLimits, work: Session, every_s: float) -> None:
        self._limits = limits
        self._work = work
        self._every_s = every_s
        self._cancelled = False
        self._reader, self._writer = os.pipe()
        self._thread: threading.Thread | None = None

    def start(self, told: int | None) -> None:
        """Begin; `told` is a descriptor that can be read once a signal came."""
        self._thread = threading.Thread(target=self._run, args=(told,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop asking. A cancellation that came too late meets a statement of ours that does nothing."""
        os.write(self._writer, b"x")
        if self._thread is not None:
            self._thread.join()
        os.close(self._reader)
        os.close(self._writer)
        if self._cancelled:
            with suppress(QueryFailed):
                self._work.query("SELECT")

    def _run(self, told: int | None) -> None:
        signals = [] if told is None else [told]
        ready, dummy, dummy = select.select([self._reader, *signals], [], [], self._every_s)
        while not ready and self._reason() is None:
            ready, dummy, dummy = select.select([self._reader, *signals], [], [], self._every_s)
        while self._reader not in ready:  # once may be too early, when the statement is still on its way
            self._cancelled = True
            with suppress(RunbookError):
                self._work.cancel()
            ready, dummy, dummy = select.select([self._reader], [], [], _CANCEL_AGAIN_S)

    def _reason(self) -> str | None:
        try:
            return self._limits.check()
        except QueryFailed as exc:
            if not exc.details.get("lost"):  # else the statement's own connection is lost as well, and says so
                self._limits.stopped_by = f"The load limits cannot be checked: {exc.why}."
        except RunbookError as exc:
            self._limits.stopped_by = f"The load limits cannot be checked: {exc.message}"
        return self._limits.stopped_by


@contextmanager
def _wakeup() -> Iterator[int | None]:
    """A descriptor that can be read once a signal came; None outside of the main thread, which gets no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
