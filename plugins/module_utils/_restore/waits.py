# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a statement of ours waits for: a second session looks, bounds the wait, and says what it was.

The server's own lock_timeout would bound a wait for a lock, and not say which session holds it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .._errors import ConnectionFailed, QueryFailed
from .._findings import Finding
from .._postgres import sqlstate
from .._postgres.connection import Server, Session
from . import sql

_EVERY_S = 0.5
# Waits for a lock, or for a standby, end when another session or server acts; others end by themselves, though late.
LOCK_S, OTHER_S = 60.0, 900.0


@dataclass(frozen=True)
class Wait:
    """What a session waits for, as pg_stat_activity says it; `holders` are the sessions that it waits for."""

    kind: str
    event: str
    holders: str

    def __str__(self) -> str:
        if self.kind == "Lock":
            return f"a lock ({self.event})" + (f" that {self.holders} holds" if self.holders else "")
        if self.event == "SyncRep":
            return "a synchronous standby that is not connected"
        return f"{self.event} ({self.kind})"


def look(session: Session, pid: int) -> Wait | None:
    """What the session with this pid waits for now, if it does."""
    for row in session.query(sql.WAIT, (pid,)):
        return Wait(row.kind, row.event, row.holders or "")
    return None


@contextmanager
def bounded(server: Server, session: Session, *, lock_s: float = LOCK_S, other_s: float = OTHER_S) -> Iterator[None]:
    """End a statement of this session that waits for one thing for too long.

    Raises:
        QueryFailed: it was ended; the message says what it waited for.
    """
    done = threading.Event()
    ended: list[tuple[Wait, float]] = []

    def work(watcher: Session) -> None:
        since, before = time.monotonic(), None
        while not done.wait(_EVERY_S):
            try:
                wait = look(watcher, session.backend_pid)
                if wait != before or wait is None:
                    since, before = time.monotonic(), wait
                    continue
                waited_s = time.monotonic() - since
                if waited_s >= (lock_s if wait.kind == "Lock" or wait.event == "SyncRep" else other_s):
                    ended.append((wait, waited_s))
                    watcher.query(sql.CANCEL, (session.backend_pid,))
                    since = time.monotonic()
            except QueryFailed:
                return  # the server went away: the statement itself says so

    with server.connect_aside() as watcher:
        thread = threading.Thread(target=work, args=(watcher,), daemon=True)
        thread.start()
        try:
            yield
        except QueryFailed as exc:
            if ended and not exc.details.get("lost"):
                raise _too_long(*ended[-1]) from None
            raise
        finally:
            done.set()
            thread.join()


def _too_long(wait: Wait, waited_s: float) -> QueryFailed:
    return QueryFailed(
        "A statement waited too long",
        why=f"it waited {waited_s:.0f} s for {wait}",
        remedy="Wait until this has ended, or terminate the session with the playbook "
        "godel.postgres_runbook.terminate_sessions, then run this again. Production was not touched.",
        details={"sqlstate": sqlstate.QUERY_CANCELED, "lost": False, "waited_for": str(wait)},
    )


def synchronous_standby(session: Session) -> list[Finding]:
    """A finding when commits wait for a synchronous standby that is not connected."""
    [state] = session.query(sql.SYNCHRONOUS)
    wanted = _wanted(state.names)
    if state.there >= wanted:
        return []
    waiting = f" {state.waiting} {'session waits' if state.waiting == 1 else 'sessions wait'} for it now."
    return [
        Finding(
            check="restore_synchronous_standby",
            severity="warning",
            subject="synchronous_standby_names",
            value=state.there,
            threshold=wanted,
            message=f"{state.there} of {wanted} synchronous standbys are connected ({state.names}): the application's"
            f" commits wait, before the restore and after it.{waiting if state.waiting else ''}",
            remedy="Start the standby, or change synchronous_standby_names and reload. The restore does not wait.",
        )
    ]


def _wanted(names: str) -> int:
    """How many standbys a commit waits for: one for `s1, s2`, two for `2 (s1, s2)`, `FIRST 2 (...)`, `ANY 2 (...)`."""
    if not names.strip():
        return 0
    number = re.match(r"\s*(?:(?:FIRST|ANY)\s+)?(\d+)\s*\(", names, re.IGNORECASE)
    return int(number[1]) if number else 1


def try_to_look(session: Session, pid: int) -> Wait | None:
    """As `look`, for a message about something else that failed: None when it cannot be found out."""
    try:
        return look(session, pid)
    except (QueryFailed, ConnectionFailed):
        return None
