# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange two databases by name, in one transaction: at every moment one of them is in production, and whole.

ALTER DATABASE RENAME locks the database's name first, so that new connections wait, and then looks for up to five
seconds whether sessions are left (CountOtherDBBackends in src/backend/storage/ipc/procarray.c). Meanwhile a second
session terminates those. A connection that waited fails, because the database was renamed, and gets the other one when
it is tried again. If we die at any moment, the server rolls back or has committed, and nothing is in
between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .._errors import ConnectionFailed, InvalidInput, Locked, ObjectNotFound, QueryFailed, RunbookError, SwapFailed
from .._findings import Finding
from .._load import databases, sql
from .._load.databases import NO_LIMIT, Database, Mark
from .._postgres import sqlstate
from .._postgres.connection import Server, Session
from .._postgres.statements import compose, together
from .._units import human_duration, to_rfc3339
from . import waits
from .plan import SwapPlan
from .waits import Wait

_END_EVERY_S = 0.01
_LOOK_AFTER_S = 0.2
_CALM_EVERY_S = 0.05
_PAUSE_S = 0.5
_LOOK_PATIENCE_S = 120.0
# A session is still connected; a lock was not available; it took too long.
_TRY_AGAIN = (sqlstate.OBJECT_IN_USE, sqlstate.LOCK_NOT_AVAILABLE, sqlstate.QUERY_CANCELED)
_REPLACEMENTS = {"staged": ("staged",), "replaced": ("replaced",)}


@dataclass(frozen=True)
class Swapped:
    """What was done. `downtime_s` is how long no session could connect, in seconds."""

    replaced: str | None
    mark: Mark
    downtime_s: float
    attempts: int
    ended: Sequence[Mapping[str, object]]

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "replaced": self.replaced,
            "live": {name: value for name, value in asdict(self.mark).items() if name != "loading"},
            "downtime_s": self.downtime_s,
            "attempts": self.attempts,
            "ended_sessions": list(self.ended),
        }


@dataclass(frozen=True)
class Pair:
    """The database in production, None if there is none, and the one to take its name."""

    production: Database | None
    other: Database


def choose(session: Session, plan: SwapPlan) -> Pair | None:
    """The two databases; None if the wanted one is in production already.

    Raises:
        ObjectNotFound: there is no such database.
        InvalidInput: it is not one that may go into production.
    """
    databases.refuse_maintenance_db(plan.db)
    there = databases.list_databases(session)
    production = there.get(plan.db)
    live = production.mark if production and production.mark and production.mark.state == "live" else None
    if plan.replacement in _REPLACEMENTS:
        if plan.replacement == "replaced" and live and live.rolled_back:
            return None  # a run before did it
        found = databases.find_marked(session, plan.db, *_REPLACEMENTS[plan.replacement])
        if not found:
            if plan.replacement == "staged" and live:
                return None
            raise ObjectNotFound(
                f"There is no {plan.replacement} database",
                subject=repr(plan.db),
                why=" ".join(databases.renamed(session, plan.db)),
                remedy="Stage one with the playbook godel.postgres_runbook.restore."
                if plan.replacement == "staged"
                else "It was dropped, or no restore has replaced a database. Restore a backup with the playbook "
                "restore.",
            )
        return Pair(production, found[0])
    databases.refuse_maintenance_db(plan.replacement)
    other = there.get(plan.replacement)
    if other is None or other.name == plan.db:
        raise ObjectNotFound("The database to swap in does not exist", subject=repr(plan.replacement))
    if other.mark is None or other.mark.database != plan.db or other.mark.state not in ("staged", "replaced"):
        raise InvalidInput(
            "This database cannot be swapped in",
            subject=repr(other.name),
            why=f"it is not marked as a verified copy or a previous database of {plan.db}",
            remedy="Stage a backup with the playbook godel.postgres_runbook.restore.",
        )
    return Pair(production, other)


def preflight(server: Server, session: Session, plan: SwapPlan, pair: Pair) -> list[Finding]:
    """What is tied to production; raises InvalidInput for what the swap would break, unless the plan allows it."""
    room = session.query(sql.ROOM)[0]
    if room.standby or not room.superuser:
        raise InvalidInput(
            "This login cannot swap databases",
            subject=server.login.user,
            why="the server is a standby" if room.standby else "it is not a superuser",
            remedy="Log in as a superuser on the primary.",
        )
    findings = databases.dependents(server, session, pair.production) if pair.production else []
    databases.refuse_blocking(findings, plan.db, plan.allow)
    return findings


def swap(server: Server, plan: SwapPlan, now: datetime) -> Swapped | None:
    """Exchange the two; None if there is nothing to do.

    Every error that it raises says in its details whether they were exchanged all the same: `swapped` is False, or None
    when the server did not come back to tell.

    Raises:
        Locked: another run works on this database.
        SwapFailed: sessions would not end in time, or the connection was lost.
    """
    try:
        with databases.connect_admin(server) as session, databases.exclusive_lock(session, plan.db):
            pair = choose(session, plan)
            if pair is None:
                return None
            preflight(server, session, plan, pair)
            _wait_for_calm(session, pair, plan.grace_s)
            return _try(server, session, plan, pair, now)
    except RunbookError as exc:
        exc.details.setdefault("swapped", False)
        raise


def _try(server: Server, session: Session, plan: SwapPlan, pair: Pair, now: datetime) -> Swapped:
    ended: list[Mapping[str, object]] = []
    mark = _live_mark(pair, plan, now)
    for attempt in range(1, plan.attempts + 1):
        started = time.monotonic()
        try:
            replaced, downtime_s = _exchange(server, session, plan, pair, mark, now, ended)
            return Swapped(replaced, mark, downtime_s, attempt, ended)
        except QueryFailed as exc:
            if exc.details.get("lost"):
                replaced = _after_loss(server, plan, pair, exc)
                return Swapped(replaced, mark, round(time.monotonic() - started, 6), attempt, ended)
            _after_refusal(session, plan, pair, exc, last=attempt == plan.attempts)
        time.sleep(_PAUSE_S)
    raise AssertionError("not reached: the last attempt returns or raises")


def _wait_for_calm(session: Session, pair: Pair, grace_s: float) -> None:
    """Give transactions that run some time to end by themselves."""
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        busy = [row for row in session.query(sql.SESSIONS, (_oid(pair),)) if row.transaction_s is not None]
        if not busy:
            return
        time.sleep(_CALM_EVERY_S)


def _oid(pair: Pair) -> int:
    return pair.production.oid if pair.production else pair.other.oid


def _exchange(
    server: Server,
    session: Session,
    plan: SwapPlan,
    pair: Pair,
    mark: Mark,
    now: datetime,
    ended: list[Mapping[str, object]],
) -> tuple[str | None, float]:
    """One attempt: the name of what was replaced, and the seconds it took."""
    aside = databases.unique_name(session, plan.db, "replaced", now) if pair.production else None
    steps = [compose("BEGIN; SET LOCAL lock_timeout = {ms}; SET LOCAL statement_timeout = {ms}", ms=_limit(plan))]
    if pair.production and aside:
        steps.append(compose("ALTER DATABASE {} RENAME TO {}", plan.db, aside))
        if pair.production.is_template:
            steps.append(compose("ALTER DATABASE {} IS_TEMPLATE false", aside))
        steps.append(databases.marking(aside, _replaced_mark(plan, pair.production, now)))
    steps.append(compose("ALTER DATABASE {} RENAME TO {}", pair.other.name, plan.db))
    steps.append(compose(f"ALTER DATABASE {{}} CONNECTION LIMIT {_connection_limit(pair)}", plan.db))
    if _is_template(pair):
        steps.append(compose("ALTER DATABASE {} IS_TEMPLATE true", plan.db))
    steps.append(databases.marking(plan.db, mark))
    with _ending_sessions(server, session, pair, ended) as waited:
        started = time.monotonic()
        try:
            session.execute(together([*steps, compose("COMMIT")]))
        except BaseException as exc:
            if isinstance(exc, QueryFailed) and waited:
                exc.why += f"; it waited for {waited[-1]}"
            with suppress(QueryFailed):
                session.execute("ROLLBACK")
            raise
        return aside, round(time.monotonic() - started, 6)


def _connection_limit(pair: Pair) -> int:
    """That of production; when that is lost, what the stage remembers, or what the replaced one has."""
    mark = pair.other.mark
    if pair.production:
        limit = pair.production.connection_limit
    else:
        limit = mark.connection_limit if mark and mark.state == "staged" else pair.other.connection_limit
    return max(int(limit), NO_LIMIT)  # one whose removal was interrupted has -2


def _is_template(pair: Pair) -> bool:
    """Whether production is a template; when that is lost, what the other one remembers."""
    mark = pair.other.mark
    return pair.production.is_template if pair.production else mark is not None and mark.is_template


def _limit(plan: SwapPlan) -> str:
    return f"{max(1, round(plan.block_s * 1000))}ms"


def _live_mark(pair: Pair, plan: SwapPlan, now: datetime) -> Mark:
    before = pair.other.mark or Mark("live", plan.db, "", "")
    back = before.state == "replaced"
    return replace(before, state="live", at=to_rfc3339(now), keep_until=None, rolled_back=back)


def _replaced_mark(plan: SwapPlan, production: Database, now: datetime) -> Mark:
    before = production.mark or Mark("replaced", plan.db, "", "")
    until = to_rfc3339(now + timedelta(seconds=plan.keep_old_s))
    template = production.is_template
    return replace(
        before, state="replaced", database=plan.db, at=to_rfc3339(now), keep_until=until, is_template=template
    )


@contextmanager
def _ending_sessions(
    server: Server, working: Session, pair: Pair, ended: list[Mapping[str, object]]
) -> Iterator[Sequence[Wait]]:
    """Keep ending sessions with either of the two, from a session of its own; yields what the exchange waited for."""
    done = threading.Event()
    waited: list[Wait] = []
    oids = [item.oid for item in (pair.production, pair.other) if item]

    def work(session: Session) -> None:
        seen = {row["pid"] for row in ended}
        look_at = time.monotonic() + _LOOK_AFTER_S
        while not done.is_set():
            if time.monotonic() > look_at:
                look_at += _LOOK_AFTER_S
                waited.extend(filter(None, [waits.try_to_look(session, working.backend_pid)]))
            try:
                rows = [row for oid in oids for row in session.query(sql.END_SESSIONS, (oid,))]
            except QueryFailed:
                return  # the server went away: the exchange will say so
            fresh: list[Any] = [row for row in rows if row.pid not in seen]
            seen |= {row.pid for row in fresh}
            ended.extend({name: value for name, value in row._asdict().items() if name != "told"} for row in fresh)
            done.wait(_END_EVERY_S)

    with server.connect_aside() as session:
        thread = threading.Thread(target=work, args=(session,), daemon=True)
        thread.start()
        try:
            yield waited
        finally:
            done.set()
            thread.join()


def _after_refusal(session: Session, plan: SwapPlan, pair: Pair, exc: QueryFailed, *, last: bool) -> None:
    """Raise SwapFailed unless it is worth another attempt."""
    if exc.details.get("sqlstate") in _TRY_AGAIN and not last:
        return
    stayed = session.query(sql.SESSIONS, (_oid(pair),))
    who = "; ".join(f"{row.backend_type} of {row.user or 'the server'}" for row in stayed[:5])
    raise SwapFailed(
        "The databases could not be swapped",
        subject=repr(plan.db),
        why=exc.why + (f" (still connected: {who})" if who else ""),
        remedy="Nothing was changed. Stop the clients that keep connecting, or raise grace, block or attempts.",
    )


def _after_loss(server: Server, plan: SwapPlan, pair: Pair, exc: QueryFailed) -> str | None:
    """The server tells whether it was done before the connection was lost: then it is the name of what was replaced."""
    there = _look(server, plan)
    live = there.get(plan.db) if there else None
    if there and live and live.oid == pair.other.oid:
        former = pair.production
        return next((item.name for item in there.values() if former and item.oid == former.oid), None)
    raise SwapFailed(
        "The connection was lost during the swap",
        subject=repr(plan.db),
        why=exc.why,
        remedy="It is unknown which of the two databases is in production; each is complete. Run this again when the "
        "server "
        "accepts connections."
        if there is None
        else "The swap was not done: the database in production is the same as before, complete. Run this again.",
        details={"swapped": None if there is None else False},
    )


def _look(server: Server, plan: SwapPlan) -> dict[str, Database] | None:
    """What there is once the server is back; None if it does not come back in time.

    Only alone: as long as the session that was lost lives on at the server, it may yet commit, and keeps its lock.
    """
    deadline = time.monotonic() + _LOOK_PATIENCE_S + plan.block_s
    while time.monotonic() < deadline:
        with (
            suppress(ConnectionFailed, QueryFailed, Locked),
            databases.connect_admin(server) as session,
            databases.exclusive_lock(session, plan.db),
        ):
            return databases.list_databases(session)
        time.sleep(_PAUSE_S)
    return None


def origin(database: Database | None) -> str:
    """Where a database came from, for people."""
    if database is None:
        return "none"
    return database.mark.backup if database.mark and database.mark.backup else "not from a restore"


def describe(plan: SwapPlan, swapped: Swapped) -> str:
    """One sentence for people."""
    what = "The previous database" if swapped.mark.rolled_back else f"Backup {swapped.mark.backup}"
    text = f"{what} is in production as {plan.db}, after {human_duration(swapped.downtime_s)} without connections"
    if swapped.ended:
        text += f"; {len(swapped.ended)} {'session was' if len(swapped.ended) == 1 else 'sessions were'} terminated"
    return f"{text}. The replaced database is kept as {swapped.replaced}." if swapped.replaced else f"{text}."
