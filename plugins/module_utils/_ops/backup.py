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

from .._catalog.catalog import Catalog, Draft, Entry
from .._catalog.manifest import FileRecord, Manifest, Surroundings
from .._catalog.verifications import CLOCK_SKEW_S
from .._db import Server
from .._errors import FileProblem, InvalidInput, NotEnoughSpace, QueryFailed
from .._fingerprint.capture import Recorder
from .._fingerprint.figures import MODES
from .._programs import CLIENT, find
from .._sql import fingerprint as sql
from .._target.base import Job, Target
from .._units import human_duration, human_size, to_rfc3339, utc_now
from .._version import COLLECTION_VERSION
from . import dump
from .origin import cluster_of

_POLL_S = 0.1
_MAX_JOBS = 8
_MAX_LOCK_TIMEOUT_S = 2147483  # PostgreSQL keeps milliseconds in 31 bits
# Before a first backup is there to learn from: a dump is about the size of the tables without their indexes, and
# even fast compression halves it.
_FIRST_GUESS = {True: 0.5, False: 1.1}
_MARGIN = 1.2


@dataclass(frozen=True)
class BackupPlan:
    """What the operator wants. Durations are in seconds; `jobs` None means the CPUs of the target, at most 8."""

    db: str
    format: str
    jobs: int | None
    compress: str
    fingerprint: str
    max_age_s: float | None
    globals: bool
    globals_passwords: bool
    bin_dir: str | None
    lock_timeout_s: float
    check_space: bool
    change_id: str | None

    def check(self) -> None:
        """Raise InvalidInput for values that cannot work, before anything is touched."""
        if not self.db:
            raise InvalidInput("db is empty", remedy="Name the database to back up.")
        if "\0" in self.db:
            raise InvalidInput("db is not a name", subject=repr(self.db), why="it has a NUL character")
        if self.jobs is not None and not 1 <= self.jobs <= 1000:
            raise InvalidInput("jobs is out of range", subject=str(self.jobs), remedy="Use 1 to 1000, or leave it out.")
        if self.format not in dump.FORMATS or self.fingerprint not in MODES:
            raise InvalidInput("There is no such format or fingerprint", subject=f"{self.format}, {self.fingerprint}")
        if self.lock_timeout_s > _MAX_LOCK_TIMEOUT_S:
            raise InvalidInput(
                "lock_timeout is too long", subject=human_duration(self.lock_timeout_s), remedy="Use at most 24d."
            )
        dump.check_compression(self.compress)


@dataclass(frozen=True)
class Preflight:
    """What was found before a backup begins, which is also what check mode reports."""

    command: dump.DumpCommand
    server_version: int
    database_size_bytes: int
    estimate_bytes: int
    free_bytes: int
    predicted_duration_s: float | None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "program": f"{self.command.programs.path('pg_dump')} {self.command.programs.version}",
            "format": self.command.format,
            "jobs": self.command.jobs,
            "compression": self.command.compression,
            "database_size_bytes": self.database_size_bytes,
            "estimate_bytes": self.estimate_bytes,
            "free_bytes": self.free_bytes,
            "predicted_duration_s": self.predicted_duration_s,
        }


@dataclass(frozen=True)
class Taken:
    """A backup that is in the catalog; `removed` lists what dead runs had left."""

    manifest: Manifest
    path: str
    removed: list[str]


def young_enough(catalog: Catalog, server: Server, plan: BackupPlan, now: datetime) -> Entry | None:
    """The newest backup of this server, if it is younger than the plan's `max_age` and has what the plan asks for."""
    if not plan.max_age_s:
        return None
    cluster = cluster_of(server, plan.db)
    return newest_within(catalog, plan.db, plan.max_age_s, plan.fingerprint != "none", now, cluster)


def newest_within(
    catalog: Catalog, db: str, age_s: float, provable: bool, now: datetime, cluster: str | None = None
) -> Entry | None:
    """The newest usable backup that is not older than this.

    Args:
        provable: it has to have a fingerprint.
        cluster: the system identifier of the cluster that it has to be of; None: of any.
    """
    for entry in catalog.entries(db):
        found_s = (now - entry.taken).total_seconds()
        if found_s > age_s:
            return None  # they come newest first
        if found_s < -CLOCK_SKEW_S:
            continue  # some clock was wrong: who knows how old it is
        if entry.manifest is None or entry.differences or entry.verdict == "failed" or not entry.may_be_of(cluster):
            continue
        if provable and entry.manifest.fingerprint is None:
            continue  # it cannot be proven, and the plan wants one that can
        return entry
    return None


def preflight(target: Target, server: Server, catalog: Catalog, plan: BackupPlan) -> Preflight:
    """Find out whether the backup can succeed, changing nothing.

    Raises:
        ConnectionFailed, ProgramMissing, FileProblem, NotEnoughSpace, QueryFailed: it cannot, and why.
    """
    # Sizes are read under a lock that a table's exclusive lock keeps us from.
    settings = {**sql.PINNED_SETTINGS, "lock_timeout": str(round(plan.lock_timeout_s * 1000))}
    with server.connect(plan.db, settings=settings) as session:
        name = session.value("SELECT pg_catalog.current_database()")
        if name != plan.db:  # before 17 the server cuts a long name off, and may so find another database
            raise InvalidInput(
                "There is no such database", subject=repr(plan.db), why=f"the server took it for {name!r}"
            )
        unreadable = session.query(sql.UNREADABLE)
        if unreadable:
            raise QueryFailed(
                "The login cannot read all of the database",
                subject=f"{plan.db!r} as {server.login.user}",
                why="; ".join(f"{row.identity}: {row.reason}" for row in unreadable),
                remedy="Use a superuser, or grant pg_read_all_data and BYPASSRLS.",
            )
        version = session.server_version
        table_bytes = session.query(sql.DUMP_SIZE)[0].size_bytes
        around = session.query(sql.SURROUNDINGS)[0]
        database_bytes = around.size_bytes
    programs = find(target, version // 10000, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to back up this server")
    command = dump.DumpCommand(
        programs=programs,
        format=plan.format,
        jobs=plan.jobs or min(_MAX_JOBS, target.cpus()),
        compression=dump.choose_compression(target, programs, plan.compress, plan.format),
        lock_timeout_s=plan.lock_timeout_s,
        encoding=around.encoding,
    )
    directory = catalog.directory(plan.db)
    if not target.files.writable(directory):
        raise FileProblem(
            "The backup directory cannot be written",
            subject=catalog.root,
            remedy="Create it for the account that runs this, or name another one in backup_dir.",
        )
    free = target.files.space(directory).free_bytes
    estimate, seconds = _predict(catalog, plan, command, table_bytes, database_bytes)
    if plan.check_space and estimate > free:
        raise NotEnoughSpace(
            "There is not enough space for the backup",
            subject=catalog.root,
            why=f"it will take about {human_size(estimate)}, and {human_size(free)} are free",
            remedy="Free some space (the playbook godel.postgres_runbook.backup_retention lists what may go), or use "
            "another backup_dir. check_space: false tries it all the same.",
            details={"estimate_bytes": estimate, "free_bytes": free},
        )
    return Preflight(command, version, database_bytes, estimate, free, seconds)


def _predict(
    catalog: Catalog, plan: BackupPlan, command: dump.DumpCommand, table_bytes: int, database_bytes: int
) -> tuple[int, float | None]:
    """Bytes and seconds that the backup will take, from the last one of its kind, or from a rule of thumb."""
    for entry in catalog.entries(plan.db):
        last = entry.manifest
        if last and (last.format, last.compression) == (plan.format, command.compression) and last.database_size_bytes:
            growth = database_bytes / last.database_size_bytes
            return int(last.size_bytes * growth * _MARGIN), round(last.duration_s * growth, 1)
    return int(table_bytes * _FIRST_GUESS[command.compression != "none"]), None


def take(target: Target, server: Server, catalog: Catalog, plan: BackupPlan, found: Preflight) -> Taken:
    """Take the backup. Whatever happens, either it is whole in the catalog or nothing of it has a backup's name."""
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
        with recorder.open() as record:
            started, clock = utc_now(), time.monotonic()
            draft = catalog.begin(plan.db, started)
            try:
                manifest = _write(target, server, plan, found, record, draft, started, clock)
                return Taken(manifest, draft.commit(manifest), removed)
            except BaseException:
                draft.discard()
                raise


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
    target.files.remove_tree(dumping.log)
    files = {info.path: info.size_bytes for info in target.files.walk(draft.path)}
    with ThreadPoolExecutor(max_workers=1) as pool:
        syncing = pool.submit(target.files.sync_tree, draft.path)
        digests = target.files.sha256(list(files), command.jobs)
        syncing.result()
    fingerprint = record.finish() if plan.fingerprint != "none" else None
    around = record.surroundings
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
        surroundings=Surroundings(**{name: around[name] for name in Surroundings.__dataclass_fields__}),
        files={path[len(draft.path) + 1 :]: FileRecord(files[path], digests[path]) for path in files},
        fingerprint=fingerprint,
        change_id=plan.change_id,
        collection_version=COLLECTION_VERSION,
    )


@contextmanager
def _job(target: Target, argv: list[str], secrets: dict[str, str], log: str) -> Iterator[Job]:
    job = target.spawn(argv, env=secrets, log=log)
    try:
        yield job
    finally:
        job.stop()


def _beside(target: Target, record: Recorder, dumping: Job, path: str, *, wanted: bool) -> None:
    """Wait for the dump while the fingerprint is read beside it; the first failure of either ends both."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        reading: Future[None] | None = pool.submit(record.record) if wanted else None
        try:
            while (status := dumping.wait(_POLL_S)) is None:
                if reading is not None and reading.done():
                    reading.result()
            if status != 0:
                if reading is not None and wait([reading], timeout=_POLL_S).done:
                    reading.result()  # when this failed first, it took the snapshot away from pg_dump
                raise dump.dump_failure(target, dumping, "pg_dump", path)
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
            raise dump.dump_failure(target, job, "pg_dumpall", draft.path)
    target.files.remove_tree(job.log)


def describe(taken: Taken) -> str:
    """One sentence for people."""
    manifest = taken.manifest
    return (
        f"Backup {manifest.id}: {human_size(manifest.size_bytes)} in {human_duration(manifest.duration_s)}, "
        f"of a database of {human_size(manifest.database_size_bytes)}."
    )
