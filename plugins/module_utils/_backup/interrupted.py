# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the sessions of a backup ended: by another session, by a restart or a crash of the server, or on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .._errors import CommandFailed, ConnectionFailed, QueryFailed, RunbookError
from .._postgres import sqlstate
from .._postgres.connection import Server
from .._postgres.login_failure import NOT_READY, reason_of
from . import pg_dump
from .sql import LIFE

_PATIENCE_S = 10.0  # a server that restarts or recovers needs some time
_RETRY_S = 0.5
_COUNTED_AFTER_S = 1.5  # before 15 the server counts with some delay
_SPARE = (
    "Find in the server's log which operator or program ends sessions. It must spare those whose application_name "
    "begins with pg_runbook. Then run this again."
)


@dataclass(frozen=True)
class Life:
    """How a server runs: since when, since when its processes do, and how many sessions others have terminated."""

    since: str = ""
    processes: str | None = None
    killed: int | None = None


@dataclass(frozen=True)
class Cause:
    """A cause: its headline, why, and the remedy."""

    what: str
    why: str
    remedy: str


_STANDBY = Cause(
    "The backup conflicts with the replay of WAL on this standby",
    "the standby ended {which} ({said})",
    "Set hot_standby_feedback = on, or raise max_standby_streaming_delay, or back up the primary. Then run this again.",
)
_BY_CANCEL = Cause(
    "A statement of the backup was cancelled by another session (pg_cancel_backend)",
    "it was a statement of {which}, and the backup did not cancel it",
    _SPARE,
)
_BY_TERMINATE = Cause(
    "A session of the backup was terminated by another session (pg_terminate_backend)",
    "it was {which}, and the server itself has been running since {since}",
    _SPARE,
)
_STOPPED = Cause(
    "The server stopped while the backup was taken",
    "it accepts no connections ({said})",
    "See the server's log for the reason. Run this again when the server accepts connections.",
)
_RESTARTED = Cause(
    "The server was restarted while the backup was taken",
    "it has been running since {now}, and had been since {since} when the backup began",
    "See the server's log for the reason, then run this again.",
)
_CRASH = Cause(
    "A process of the server crashed while the backup was taken",
    "the server ended all sessions to recover ({said})",
    "See the server's log for the process that crashed, then run this again.",
)
_ON_THE_WAY = Cause(
    "The connection to the server was lost while the backup was taken",
    "the server itself has been running since {since} ({said})",
    "Check the server's log, and poolers, firewalls and port-forwards on the way to the server. Then run this again.",
)


def explain(server: Server, db: str, error: RunbookError, before: Life) -> RunbookError:
    """The error that says why the sessions of a backup ended; the same error if it is about something else.

    Args:
        error: what the backup failed with.
        before: how the server ran before the backup.
    """
    if not isinstance(error, (QueryFailed, CommandFailed, ConnectionFailed)):
        return error
    signs = _signs(error)
    now = None
    cause = _at_once(signs)
    if cause is None and signs.ended:
        now = _look(server, db)
        cause = _by_life(signs, before, now)
        if cause is _ON_THE_WAY:
            time.sleep(_COUNTED_AFTER_S)
            cause = _by_life(signs, before, _look(server, db))
    if cause is None:
        return error
    which = str(error.details.get("program") or "the session that reads or holds the snapshot")
    said = " ".join(error.why.split()).rstrip(".")
    return type(error)(
        cause.what,
        subject=f"database {db!r}",
        why=cause.why.format(which=which, said=said, since=before.since, now=now.since if now else ""),
        remedy=f"{cause.remedy} The half-written backup was removed.",
        details=error.details,
    )


@dataclass(frozen=True)
class _Signs:
    """What an error shows about the end of a session: of ours by SQLSTATE, of a program by its messages."""

    conflict: bool
    cancelled: bool
    crashed: bool
    terminated: bool
    ended: bool


def _signs(error: QueryFailed | CommandFailed | ConnectionFailed) -> _Signs:
    details = error.details
    state = str(details.get("sqlstate") or "")
    by_session = bool(state) or isinstance(error, ConnectionFailed)
    text = "" if by_session else f"{error.why} {details.get('messages', '')}"

    def printed(*signs: str) -> bool:
        return any(sign in text for sign in signs)

    # A server that accepts no connections for a moment, under the same postmaster, recovers from a crash.
    recovers = isinstance(error, ConnectionFailed) and reason_of(error) is NOT_READY
    crashed = recovers or state == sqlstate.CRASH_SHUTDOWN or printed(*pg_dump.CRASHED)
    no_holder = bool(details.get("snapshot_lost")) or printed(*pg_dump.NO_SNAPSHOT)
    terminated = no_holder or state == sqlstate.ADMIN_SHUTDOWN or printed(*pg_dump.TERMINATED)
    lost = bool(details.get("lost")) or isinstance(error, ConnectionFailed) or printed(*pg_dump.LOST)
    return _Signs(
        conflict=bool(details.get("conflict")) or printed(*pg_dump.CONFLICT),
        # Sessions of the backup have no statement_timeout, and a lock_timeout has another SQLSTATE.
        cancelled=state == sqlstate.QUERY_CANCELED or printed(*pg_dump.CANCELLED),
        crashed=crashed,
        terminated=terminated,
        ended=lost or crashed or terminated,
    )


def _at_once(signs: _Signs) -> Cause | None:
    """The cause, where the error text is enough."""
    if signs.conflict:
        return _STANDBY
    return _BY_CANCEL if signs.cancelled else None


def _by_life(signs: _Signs, before: Life, now: Life | None) -> Cause:
    """The cause, by how the server runs: a fast shutdown has the SQLSTATE of pg_terminate_backend()."""
    if now is None:
        return _STOPPED
    if now.since != before.since:
        return _RESTARTED
    if signs.crashed or now.processes != before.processes:
        return _CRASH
    killed = now.killed is not None and before.killed is not None and now.killed > before.killed
    return _BY_TERMINATE if killed or signs.terminated else _ON_THE_WAY


def _look(server: Server, db: str) -> Life | None:
    """How the server runs; None if it takes no connections for some time."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with server.connect(db, settings={"search_path": "", "statement_timeout": "0"}) as session:
                return Life(*session.query(LIFE)[0])
        except (ConnectionFailed, QueryFailed):
            if time.monotonic() > deadline:
                return None
        time.sleep(_RETRY_S)
