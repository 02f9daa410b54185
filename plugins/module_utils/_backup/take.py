# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a backup: a dump and its fingerprint under one snapshot, into the catalog by one rename."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from .._catalog.catalog import Catalog, Draft
from .._catalog.manifest import FileRecord, Manifest, SourceDatabase
from .._errors import RunbookError
from .._findings import Finding
from .._fingerprint import definitions
from .._fingerprint.capture import Recorder
from .._postgres.connection import Server
from .._postgres.own_sessions import with_options
from .._target.base import BackgroundJob, Target
from .._units import human_duration, human_size, to_rfc3339, utc_now
from .._version import COLLECTION_VERSION
from . import interrupted, losses, pg_dump
from .plan import BackupPlan
from .preflight import Preflight

_POLL_S = 0.1


@dataclass(frozen=True)
class Taken:
    """A backup that is in the catalog; `removed` lists what interrupted runs had left."""

    manifest: Manifest
    path: str
    removed: list[str]

    @property
    def findings(self) -> list[Finding]:
        """What it lacks."""
        return self.manifest.losses


def take(target: Target, server: Server, catalog: Catalog, plan: BackupPlan, found: Preflight) -> Taken:
    """Take the backup. Whatever happens, either it is whole in the catalog or nothing of it has a backup's name."""
    if found.settings:
        server = with_options(server, found.settings)
    with catalog.lock(plan.db, f"backup of {plan.db!r}"):
        removed = catalog.sweep(plan.db)
        recorder = Recorder(
            server,
            plan.db,
            mode=plan.fingerprint,
            workers=found.command.jobs,
            lock_timeout_s=plan.lock_timeout_s,
            keep_with=_keeper(target, found, catalog.directory(plan.db)),
        )
        try:
            with recorder.open() as record:
                started, clock = utc_now(), time.monotonic()
                draft = catalog.begin(plan.db, started)
                try:
                    manifest = _write(target, server, plan, found, record, draft, started, clock)
                    return Taken(manifest, draft.commit(manifest), removed)
                except BaseException:
                    draft.discard()
                    raise
        except RunbookError as exc:
            raise interrupted.explain(server, plan.db, exc, found.life) from None


def _keeper(target: Target, found: Preflight, directory: str) -> tuple[str, str] | None:
    return (found.command.programs.path("psql"), directory) if target.connections_may_break else None


def _write(
    target: Target,
    server: Server,
    plan: BackupPlan,
    found: Preflight,
    record: Recorder,
    draft: Draft,
    started: datetime,
    clock: float,
) -> Manifest:
    command = found.command
    conninfo, secrets = server.login.conninfo(plan.db, "pg_dump"), server.login.environ()
    argv = command.argv(conninfo, f"{draft.path}/{command.file_name}", record.snapshot)
    with _job(target, argv, secrets, f"{draft.path}/pg_dump.log") as dumping:
        if plan.globals:
            _dump_globals(target, server, plan, found, draft)
        _beside(target, record, dumping, draft.path, wanted=plan.fingerprint != "none")
    if plan.fingerprint != "none":
        target.files.write(f"{draft.path}/{definitions.FILE_NAME}", definitions.packed(record.definitions))
    target.files.remove_tree(dumping.log)
    files = {info.path: info.size_bytes for info in target.files.walk(draft.path)}
    with ThreadPoolExecutor(max_workers=1) as pool:
        syncing = pool.submit(target.files.sync_tree, draft.path)
        digests = target.files.sha256(list(files), command.jobs)
        syncing.result()
    fingerprint = record.finish() if plan.fingerprint != "none" else None
    findings = [*found.findings, *losses.unread(fingerprint)]
    around = record.source
    return Manifest(
        id=draft.id,
        database=plan.db,
        method="dump",
        format=plan.format,
        compression=command.compression,
        tool=f"pg_dump {command.programs.version}",
        server_version=f"{found.server_version // 10000}.{found.server_version % 10000}",
        system_identifier=around["system_identifier"],
        timeline=record.position.timeline,
        lsn=record.position.lsn,
        started=to_rfc3339(started),
        finished=to_rfc3339(utc_now()),
        duration_s=round(time.monotonic() - clock, 2),
        size_bytes=sum(files.values()),
        database_size_bytes=around["size_bytes"],
        source=SourceDatabase(**{name: around[name] for name in SourceDatabase.__dataclass_fields__}),
        files={path[len(draft.path) + 1 :]: FileRecord(files[path], digests[path]) for path in files},
        fingerprint=fingerprint,
        change_id=plan.change_id,
        collection_version=COLLECTION_VERSION,
        findings=tuple(finding.as_dict() for finding in findings),
    )


@contextmanager
def _job(target: Target, argv: list[str], secrets: dict[str, str], log: str) -> Iterator[BackgroundJob]:
    job = target.spawn(argv, env=secrets, log=log)
    try:
        yield job
    finally:
        job.stop()


def _beside(target: Target, record: Recorder, dumping: BackgroundJob, path: str, *, wanted: bool) -> None:
    """Wait for the dump while the fingerprint is read in parallel; the first failure of either ends both."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading: Future[None] | None = pool.submit(record.record) if wanted else None
        try:
            while (status := dumping.wait(_POLL_S)) is None:
                if reading is not None and reading.done():
                    reading.result()
            if status != 0:
                if reading is not None and wait([reading], timeout=_POLL_S).done:
                    reading.result()  # when this failed first, it took the snapshot away from pg_dump
                raise pg_dump.dump_failure(target, dumping, "pg_dump", path)
            if reading is not None:
                reading.result()
        except BaseException:
            record.stop()
            while reading is not None and not wait([reading], timeout=1).done:
                record.stop()  # the last one came between two statements, where there was nothing to cancel
            raise


def _dump_globals(target: Target, server: Server, plan: BackupPlan, found: Preflight, draft: Draft) -> None:
    argv = [
        found.command.programs.path("pg_dumpall"),
        f"--dbname={server.login.conninfo(plan.db, 'pg_dumpall')}",
        "--no-password",
        "--globals-only",
        f"--encoding={found.command.encoding}",
        "--no-sync",
        f"--file={draft.path}/globals.sql",
    ]
    if not plan.globals_passwords:
        argv.append("--no-role-passwords")
    with _job(target, argv, server.login.environ(), f"{draft.path}/pg_dumpall.log") as job:
        if job.wait() != 0:
            raise pg_dump.dump_failure(target, job, "pg_dumpall", draft.path)
    target.files.remove_tree(job.log)


def describe(taken: Taken) -> str:
    """Sentences for people."""
    manifest = taken.manifest
    text = (
        f"Backup {manifest.id}: {human_size(manifest.size_bytes)} in {human_duration(manifest.duration_s)}, "
        f"of a database of {human_size(manifest.database_size_bytes)}."
    )
    return f"{text} {losses.told(taken.findings)}".rstrip()
