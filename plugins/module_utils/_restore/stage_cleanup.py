# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of stages that failed, and of those that interrupted runs have left."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from .._errors import ConnectionFailed, Interrupted, InvalidInput, Locked, ProofFailed, RunbookError
from .._load import databases, load
from .._load.databases import Database
from .._postgres.connection import Server, Session
from .._postgres.reconnect import persist
from .plan import StagePlan
from .stage_load import UNTOUCHED, UnprovenStage

_DROP_PATIENCE_S = 60.0


def give_up(server: Server, session: Session, plan: StagePlan, half: UnprovenStage, exc: BaseException) -> None:
    """Drop a stage that failed. One that is loaded, and of which nothing bad is known, is left for the next run."""
    failed = isinstance(exc, (load.RestoreRefused, ProofFailed, InvalidInput))
    told = [UNTOUCHED]
    if half.remembered and not failed:
        if not isinstance(exc, Locked):  # else another run has it, or has removed it
            told.append(f"The backup is loaded as {half.name}: the next restore of this backup continues with it.")
        if isinstance(exc, Interrupted):
            exc.left = " ".join(told)
    elif half.remembered:
        # Only under the lock: without it, another run may go on from this stage now, and find out the same.
        with suppress(RunbookError):
            persist(server, lambda: _drop_failed(session, half.name, keep=plan.keep_failed))
    elif not plan.keep_failed:
        _drop(server, half.name)
    if isinstance(exc, RunbookError):
        missing = [each for each in told if each not in exc.message]
        exc.remedy = " ".join(filter(None, [exc.remedy, *missing]))


def _drop_failed(session: Session, name: str, *, keep: bool) -> None:
    """Drop a loaded stage that is not what its source was, or let the next run drop it."""
    found = databases.list_databases(session).get(name)
    if found is None or found.mark is None or found.mark.state != "loaded":
        return
    if keep:
        databases.put_mark(session, name, replace(found.mark, state="staging", loading=None))
    else:
        databases.drop(session, name)


def sweep(session: Session, db: str, spared: Database | None) -> list[str]:
    """Drop what runs that died have left half-way, but for the one to go on from; only alone."""
    left = databases.find_marked(session, db, "staging", "loaded")
    chosen = [item.name for item in left if spared is None or item.oid != spared.oid]
    for name in chosen:
        databases.drop(session, name)
    return chosen


def _drop(server: Server, name: str) -> None:
    """Drop a stage that failed, waiting for a server that restarts; else the next run does it."""
    deadline = time.monotonic() + _DROP_PATIENCE_S
    while True:
        try:
            with databases.connect_admin(server) as session:
                databases.drop(session, name)
            return
        except RunbookError as exc:
            if not isinstance(exc, ConnectionFailed) and not exc.details.get("lost"):
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)
