# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stage goes through once it is loaded: the proof, statistics, the settings of production, smoke queries.

Each step may be done twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .._errors import ProofFailed, QueryFailed
from .._load import database_properties, databases, load, sql
from .._load.copies import Copy
from .._load.databases import NO_LIMIT, Database
from .._postgres.connection import Server, Session
from .._postgres.reconnect import is_loss, persist
from .._verify import restore_copy
from .._verify.verdict import Restored, Verdict, judge, judge_external
from . import acceptance
from .plan import SmokeQuery, StagePlan
from .preflight import RestorePreflight


def prove(plan: StagePlan, found: RestorePreflight, made: Copy, loaded: load.Loaded) -> tuple[Verdict, Restored]:
    """Compare the stage with the backup's source. Raises ProofFailed for one that may not get into production."""
    source = found.source
    around = restore_copy.circumstances(made, "stage", source.needs)
    copy = restore_copy.compared(made, made.name, source.original, plan.jobs, loaded, around)
    verdict = judge_external(copy) if source.manifest is None else judge(source.manifest, copy)
    acceptance.refuse_unproven(
        verdict,
        copy,
        source.name,
        has_proof=source.original is not None,
        accept=plan.accept,
        accept_unproven=plan.accept_unproven,
    )
    found.notes.extend(note for note in verdict.notes if note not in found.notes)
    found.findings.extend(verdict.findings)
    if copy.differences:
        found.findings[:] = [each for each in found.findings if each.check != "restore_incomplete"]
        found.findings.append(acceptance.loss(source.name, verdict.why, acceptance.lost(copy.differences)))
    return verdict, copy


def analyze(server: Server, at: str, jobs: int, notes: list[str]) -> None:
    """Gather statistics, table by table: one whose foreign child has no wrapper here says nothing of the others."""
    with server.connect(at) as session:
        left = deque(row.identity for row in session.query(sql.ANALYZABLE))

    def work() -> None:
        with databases.connect_admin(server, at) as own:
            while left:
                try:
                    identity = left.popleft()
                except IndexError:  # another one was quicker
                    return
                try:
                    own.execute(f"ANALYZE {identity}")
                except QueryFailed as exc:
                    if is_loss(exc) and server.target.connections_may_break:
                        left.append(identity)
                        raise
                    notes.append(f"{identity} has no statistics: {exc.why}")

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            for done in [pool.submit(persist, server, work) for dummy in range(jobs)]:
                done.result()
        finally:
            left.clear()  # when we are stopped, no thread begins another one


def dress(session: Session, stage: Database, found: RestorePreflight) -> bool:
    """Owner, settings, grants and comment: those of production, or where there is none, of the backup's source.

    Returns whether anything was to be done.
    """
    now = database_properties.of(session, stage)
    if found.production is not None:
        return database_properties.apply(session, stage.name, now, database_properties.of(session, found.production))
    like = found.source.needs.like
    if like is None:
        return False
    wanted = database_properties.of_source(session, now, like, found.notes)
    for why in database_properties.apply_each(session, stage.name, now, wanted).values():
        found.notes.append(f"The restored database differs from its source: {why}")
    return True


def is_template(found: RestorePreflight) -> bool:
    """Whether the swap makes the stage a template, should there be no production then."""
    if found.production is not None:
        return found.production.is_template
    like = found.source.needs.like
    return like is not None and like.is_template


def limit(found: RestorePreflight) -> int:
    """The connection limit that the swap gives the stage, should there be no production then."""
    if found.production is not None:
        return found.production.connection_limit
    like = found.source.needs.like
    return like.connection_limit if like else NO_LIMIT


def smoke(server: Server, at: str, queries: Sequence[SmokeQuery]) -> list[dict[str, object]]:
    """Ask the operator's own questions; each may only read. Raises ProofFailed with the first wrong answer."""
    return persist(server, lambda: _answers(server, at, queries)) if queries else []


def _answers(server: Server, at: str, queries: Sequence[SmokeQuery]) -> list[dict[str, object]]:
    answers: list[dict[str, object]] = []
    with server.connect(at, settings={"default_transaction_read_only": "on"}) as session:
        for asked in queries:
            try:
                rows = session.query(asked.query)
            except QueryFailed as exc:
                if is_loss(exc):
                    raise
                raise _wrong(asked, exc.why) from None
            found = str(rows[0][0]) if rows else None
            if found is None or (asked.expect is not None and found != asked.expect):
                raise _wrong(
                    asked, "it returned no row" if found is None else f"it returned {found} instead of {asked.expect}"
                )
            answers.append({"query": asked.query, "value": found})
    return answers


def _wrong(asked: SmokeQuery, why: str) -> ProofFailed:
    return ProofFailed(
        "A smoke query failed",
        subject=asked.query,
        why=why,
        remedy="Check whether the backup or the query is wrong. Production was not touched.",
    )
