# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a backup beside production, on the same server, and prove it. Production is not touched."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from .._catalog.catalog import Catalog, Entry
from .._db import Server, Session, compose
from .._errors import ConnectionFailed, InvalidInput, ProofFailed, QueryFailed, RunbookError
from .._fingerprint import capture
from .._sql import databases as sql
from .._sql.brakes import LAG
from .._target.base import Target
from .._units import human_size, to_rfc3339, utc_now
from . import databases, restore, scratch, verify
from .databases import MAINTENANCE_DB, Mark
from .outlook import Outlook, SmokeQuery, Source, StagePlan
from .rehearsal import Clock

_DROP_PATIENCE_S = 60.0
_LAG_PATIENCE_S = 3600.0
_LAG_EVERY_S = 1.0


@dataclass(frozen=True)
class Staged:
    """A proven database beside production."""

    name: str
    mark: Mark
    created: bool
    steps: Mapping[str, float] = field(default_factory=dict)
    smoke: Sequence[Mapping[str, object]] = ()
    removed: Sequence[str] = ()


def stage(target: Target, server: Server, plan: StagePlan, outlook: Outlook, clock: Clock) -> Staged:
    """Restore and prove; returns the stage that is there already, if it is of the same backup.

    Raises:
        Locked: somebody else restores this database.
        restore.RestoreRefused, ProofFailed: it does not load, or is not what its source was.
    """
    name = outlook.source.name
    with server.connect(MAINTENANCE_DB) as session, databases.alone(session, plan.db):
        removed = _sweep(session, plan.db)
        for ready in databases.marked(session, plan.db, "staged"):
            if ready.mark and ready.mark.backup == name and not plan.force:
                return Staged(ready.name, ready.mark, created=False, removed=removed)
        now = utc_now()
        at = databases.beside(session, plan.db, "staged", now)
        begun = Mark("staging", plan.db, name, to_rfc3339(now))
        try:
            with clock.step("create"):
                notes = restore.create_database(session, at, outlook.source.needs.like, outlook.source.needs.encoding)
                databases.put_mark(session, at, begun)
                session.execute(compose("ALTER DATABASE {} CONNECTION LIMIT 0", at))  # superusers only
            outlook.notes.extend(notes)
            return _fill(target, server, session, plan, outlook, at, begun, clock, removed)
        except BaseException as exc:
            if isinstance(exc, restore.RestoreRefused):
                exc.remedy = "Production was not touched."
            if not plan.keep_failed:
                _drop(server, at)
            raise


def _fill(
    target: Target,
    server: Server,
    session: Session,
    plan: StagePlan,
    outlook: Outlook,
    at: str,
    begun: Mark,
    clock: Clock,
    removed: Sequence[str],
) -> Staged:
    source = outlook.source
    lightly = replace(
        server.login, connect_params={**server.login.connect_params, "options": "-c synchronous_commit=off"}
    )
    with scratch.home(target, plan.work_dir) as home, clock.step("restore"):
        loader = Server(target, lightly)
        nice = ["nice", "-n", str(plan.nice)] if plan.nice else []
        restore.load(
            target, loader, outlook.programs, source.dump, at,
            jobs=plan.jobs, work_dir=home, before=nice, pause=_brake(session, plan),
        )  # fmt: skip
    with clock.step("compare"):
        proof = _prove(server, plan, source, at, outlook.notes)
    if plan.analyze:
        with clock.step("analyze"):
            _analyze(server, at, plan.jobs, outlook.notes)
    with clock.step("settings"):
        _dress(session, at, outlook)
    with clock.step("smoke"):
        smoke = _smoke(server, at, plan.smoke_queries)
    mark = replace(begun, state="staged", verdict=proof.verdict, rows=proof.rows)
    databases.put_mark(session, at, mark)
    return Staged(at, mark, True, dict(clock.steps), smoke, removed)


def _brake(session: Session, plan: StagePlan) -> Callable[[], None] | None:
    """What waits for replicas that are too far behind; None when nobody cares."""
    most = plan.max_lag_bytes
    if most is None:
        return None

    def wait() -> None:
        deadline = time.monotonic() + _LAG_PATIENCE_S
        while (lag := session.value(LAG)) > most:
            if time.monotonic() > deadline:
                raise InvalidInput(
                    "A replica does not catch up",
                    subject=f"{human_size(lag)} behind",
                    why=f"at most {human_size(most)} are allowed by max_replica_lag",
                    remedy="See pg_stat_replication for the reason, or allow more. Production was not touched.",
                )
            time.sleep(_LAG_EVERY_S)

    return wait


@dataclass(frozen=True)
class _Proof:
    verdict: str
    rows: int


def _prove(server: Server, plan: StagePlan, source: Source, at: str, notes: Sequence[str]) -> _Proof:
    known = source.fingerprint
    mode = known.mode if known else "counts"
    copy = capture.take(server, at, mode=mode, workers=plan.jobs, algorithm=known.algorithm if known else None)
    if source.manifest is None or known is None:
        return _Proof("inconclusive", copy.rows)
    verdict = verify.judge(source.manifest, copy, list(notes))
    if verdict.verdict == "verified" or (verdict.verdict == "inconclusive" and plan.accept_unproven):
        return _Proof(verdict.verdict, copy.rows)
    raise ProofFailed(
        "The restored copy is not proven",
        subject=source.name,
        why=verdict.reason,
        remedy="Name another backup. Production was not touched.",
        details=verdict.as_dict(),
    )


def _analyze(server: Server, at: str, jobs: int, notes: list[str]) -> None:
    """Gather statistics, table by table: one whose foreign child has no wrapper here says nothing of the others."""
    with server.connect(at) as session:
        left = deque(row.identity for row in session.query(sql.ANALYZABLE))

    def work() -> None:
        with server.connect(at) as own:
            while left:
                try:
                    identity = left.popleft()
                except IndexError:  # another one was quicker
                    return
                try:
                    own.execute(f"ANALYZE {identity}")
                except QueryFailed as exc:
                    notes.append(f"{identity} has no statistics: {exc.why}")

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            for done in [pool.submit(work) for dummy in range(jobs)]:
                done.result()
        finally:
            left.clear()  # when we are stopped, nobody begins another one


def _dress(session: Session, at: str, outlook: Outlook) -> None:
    """Owner, settings, grants and comment: those of production, or where there is none, of the backup's source."""
    if outlook.production is not None:
        databases.make_like(session, at, outlook.production)
        return
    like = outlook.source.needs.like
    if like is None:
        return
    session.execute(compose("ALTER DATABASE {} OWNER TO {}", at, like.owner))
    for setting in like.settings:
        name, dummy, value = setting.partition("=")
        if not name.startswith("pg_runbook."):
            databases.put_setting(session, at, name, value)


def _smoke(server: Server, at: str, queries: Sequence[SmokeQuery]) -> list[dict[str, object]]:
    """Ask the operator's own questions; each may only read. Raises ProofFailed with the first wrong answer."""
    answers: list[dict[str, object]] = []
    if not queries:
        return answers
    with server.connect(at, settings={"default_transaction_read_only": "on"}) as session:
        for asked in queries:
            try:
                rows = session.query(asked.query)
            except QueryFailed as exc:
                raise _wrong(asked, exc.why) from None
            found = str(rows[0][0]) if rows else None
            if found is None or (asked.expect is not None and found != asked.expect):
                raise _wrong(asked, "it returns no row" if found is None else f"it says {found}, not {asked.expect}")
            answers.append({"query": asked.query, "value": found})
    return answers


def _wrong(asked: SmokeQuery, why: str) -> ProofFailed:
    return ProofFailed(
        "A smoke query is not answered as it should be",
        subject=asked.query,
        why=why,
        remedy="See whether the backup or the query is wrong. Production was not touched.",
    )


def _sweep(session: Session, db: str) -> list[str]:
    """Drop what runs that died have left half-way; only alone."""
    left = databases.marked(session, db, "staging")
    for item in left:
        session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", item.name))
    return [item.name for item in left]


def _drop(server: Server, name: str) -> None:
    """Drop a stage that failed, waiting for a server that restarts; else the next run does it."""
    deadline = time.monotonic() + _DROP_PATIENCE_S
    while True:
        try:
            with server.connect(MAINTENANCE_DB) as session:
                session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))
            return
        except RunbookError as exc:
            if not isinstance(exc, ConnectionFailed) and not exc.details.get("lost"):
                return
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


@contextmanager
def kept(catalog: Catalog, subject: Entry | restore.Dump) -> Iterator[None]:
    """Keep retention from removing the backup for as long as it is read."""
    with ExitStack() as stack:
        if isinstance(subject, Entry):
            stack.enter_context(catalog.use(subject, f"restore of {subject.id}"))
        yield


def report(staged: Staged) -> dict[str, object]:
    """The values of a module's result."""
    mark = staged.mark
    about = {"name": staged.name, "backup": mark.backup, "verdict": mark.verdict, "rows": mark.rows}
    done = "is staged as" if staged.created else "was staged before as"
    return {
        "stage": {**about, "smoke": list(staged.smoke)},
        "removed": list(staged.removed),
        "msg": f"{mark.backup} {done} {staged.name}: {mark.verdict}, {mark.rows} rows. Production was not touched.",
    }
