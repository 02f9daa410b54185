# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the sessions of a backup ended: by another session, by a restart or a crash of the server, or on the way."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .._errors import CommandFailed, ConnectionFailed, QueryFailed, RunbookError
from .._postgres.connection import Server
from .sql import LIFE

_PATIENCE_S = 10.0  # a server that restarts or recovers needs some time
_RETRY_S = 0.5
_COUNTED_AFTER_S = 1.5  # before 15 the server counts with some delay
# Texts of the server in English, which a superuser's pg_dump always gets; sessions of ours have SQLSTATEs as well.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_CONFLICT = ("due to conflict with recovery",)
_CANCELLED = ("canceling statement due to user request",)
_CRASHED = ("because of crash of another server process", "57P02", "in recovery mode")
_TERMINATED = ("terminating connection due to administrator command", "57P01")
_NO_HOLDER = ("invalid snapshot identifier", "could not import the requested snapshot", "lost its snapshot")
_LOST = (
    "closed the connection",
    "connection to server",
    "no connection to the server",
    "57P03",
    "could not receive data",
)
_SPARE = (
    "See in the server's log which operator or program ends sessions, and let it spare those whose application_name "
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
    """What happened, in what words, and what to do."""

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
    "it was one of {which}, and the backup did not cancel it",
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
    "See the server's log, and what lies between: a pooler, a firewall, a port-forward. Then run this again.",
)


def explain(server: Server, db: str, error: RunbookError, before: Life) -> RunbookError:
    """The error that says why the sessions of a backup ended; the same error if it is about something else.

    Args:
        error: what the backup failed with.
        before: how the server ran before the backup.
    """
    if not isinstance(error, (QueryFailed, CommandFailed, ConnectionFailed)):
        return error
    text = " ".join(str(each) for each in (error.what, error.why, *map(error.details.get, ("messages", "sqlstate"))))
    now = None
    cause = _at_once(error, text)
    if cause is None and _ended(error, text):
        now = _look(server, db)
        cause = _by_life(text, before, now)
        if cause is _ON_THE_WAY:
            time.sleep(_COUNTED_AFTER_S)
            cause = _by_life(text, before, _look(server, db))
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


def _has(text: str, signs: tuple[str, ...]) -> bool:
    return any(sign in text for sign in signs)


def _at_once(error: RunbookError, text: str) -> Cause | None:
    """The cause, where the server's words are enough."""
    if _has(text, _CONFLICT):
        return _STANDBY
    # Sessions of the backup have no statement_timeout, and a lock_timeout has another SQLSTATE.
    if _has(text, _CANCELLED) or (error.details.get("sqlstate") == "57014" and not error.details.get("program")):
        return _BY_CANCEL
    return None


def _ended(error: RunbookError, text: str) -> bool:
    lost = bool(error.details.get("lost")) or isinstance(error, ConnectionFailed)
    return lost or _has(text, (*_LOST, *_TERMINATED, *_CRASHED, *_NO_HOLDER))


def _by_life(text: str, before: Life, now: Life | None) -> Cause:
    """The cause, by how the server runs: a fast shutdown uses the words of pg_terminate_backend()."""
    if now is None:
        return _STOPPED
    if now.since != before.since:
        return _RESTARTED
    if _has(text, _CRASHED) or now.processes != before.processes:
        return _CRASH
    killed = now.killed is not None and before.killed is not None and now.killed > before.killed
    return _BY_TERMINATE if killed or _has(text, (*_TERMINATED, *_NO_HOLDER)) else _ON_THE_WAY


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
