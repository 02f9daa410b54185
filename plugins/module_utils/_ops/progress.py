# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long statements are, as the server tells it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from .._db import Session
from .._sql import progress as sql

_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far one statement is.

    Attributes:
        pid: the backend that runs it.
        command: `VACUUM`, `VACUUM FULL`, `CLUSTER`, `CREATE INDEX`, `REINDEX`, `ANALYZE`, `COPY FROM`, `BASE_BACKUP`.
        relation: on what, quoted where it has to be; the OID if it is in another database; or empty.
        phase: in the server's words.
        done: in `unit` (`blocks`, `rows`, `indexes`, `bytes`, `transactions` that are waited for).
        total: likewise, or None when nobody knows.
        share: of this phase, 0 to 1, or None.
    """

    pid: int
    command: str
    relation: str
    phase: str
    done: int
    total: int | None
    unit: str
    share: float | None


def look(session: Session) -> list[Progress]:
    """All that runs now, on the whole server; without pg_read_all_stats only what the login itself runs."""
    statement = sql.PROGRESS_17 if session.server_version >= 170000 else sql.PROGRESS
    return [_progress(*row) for row in session.query(statement)]


def watch(
    session: Session,
    still: Callable[[], bool],
    *,
    pids: Collection[int] | None = None,
    every_s: float = _EVERY_S,
) -> Iterator[Progress]:
    """What changed since the last look, once in a while, until `still` is false.

    Args:
        session: a connection of its own, not the one that works.
        pids: only these backends; all of them, when it is left out.
    """
    before: list[Progress] = []
    while still():
        now = [each for each in look(session) if pids is None or each.pid in pids]
        yield from (each for each in now if each not in before)
        before = now
        time.sleep(every_s)


def _progress(
    pid: int, command: str, relation: str, phase: str, done: int | None, total: int | None, unit: str
) -> Progress:
    share = min(1.0, (done or 0) / total) if total else None
    return Progress(pid, command, relation, phase, done or 0, total, unit, share)
