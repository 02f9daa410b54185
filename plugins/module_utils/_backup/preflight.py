# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a backup: whether it can be taken, how large it will be, and its losses. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._catalog.catalog import Catalog
from .._errors import FileProblem, InvalidInput, NotEnoughSpace, QueryFailed
from .._findings import Finding
from .._fingerprint.sql import content as sql
from .._postgres.connection import Server, Session
from .._postgres.connection_errors import locked
from .._postgres.programs import CLIENT, find
from .._target.base import Target
from .._units import counted, human_size
from . import losses, pg_dump
from . import sql as losses_sql
from .interrupted import Life
from .plan import BackupPlan
from .sql import DUMP_SIZE, LIFE, SETTINGS_IN_THE_WAY, UNREADABLE

_MAX_JOBS = 8
# Before a first backup is there to learn from: a dump is about the size of the tables without their indexes, and
# even fast compression halves it.
_FIRST_GUESS = {True: 0.5, False: 1.1}
_MARGIN = 1.2


@dataclass(frozen=True)
class Preflight:
    """What was found before a backup begins, which is also what check mode reports.

    `findings` tell what the backup will lack; `settings` are those that its sessions need in place of the login's own.
    """

    command: pg_dump.DumpCommand
    server_version: int
    database_size_bytes: int
    estimate_bytes: int
    free_bytes: int
    predicted_duration_s: float | None
    findings: Sequence[Finding] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    life: Life = field(default_factory=Life)

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


def preflight(target: Target, server: Server, catalog: Catalog, plan: BackupPlan) -> Preflight:
    """Find out whether the backup can succeed, changing nothing.

    Raises:
        ConnectionFailed, ProgramMissing, FileProblem, NotEnoughSpace, QueryFailed: it cannot, and why.
    """
    # Sizes are read under a lock that a table's exclusive lock keeps us from.
    pinned = {**sql.PINNED_SETTINGS, "lock_timeout": str(round(plan.lock_timeout_s * 1000))}
    with server.connect(plan.db, settings=pinned) as session:
        name = session.value("SELECT pg_catalog.current_database()")
        if name != plan.db:  # before 17 the server cuts a long name off, and may so find another database
            raise InvalidInput(
                "There is no such database", subject=repr(plan.db), why=f"the server reads the name as {name!r}"
            )
        _refuse_unreadable(session, plan.db)
        version = session.server_version
        try:
            table_bytes = session.query(DUMP_SIZE)[0].size_bytes
        except QueryFailed as exc:
            raise locked(exc) from None
        around = session.query(sql.SOURCE)[0]
        database_bytes = around.size_bytes
        life = Life(*session.query(LIFE)[0])
        settings = {row.name: row.value for row in session.query(SETTINGS_IN_THE_WAY)}
    programs = find(target, version // 10000, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to back up this server")
    command = pg_dump.DumpCommand(
        programs=programs,
        format=plan.format,
        jobs=plan.jobs or min(_MAX_JOBS, target.cpus()),
        compression=pg_dump.choose_compression(target, programs, plan.compress, plan.format),
        lock_timeout_s=plan.lock_timeout_s,
        encoding=around.encoding,
    )
    directory = catalog.directory(plan.db)
    if not target.files.writable(directory):
        raise FileProblem(
            "The backup directory cannot be written",
            subject=catalog.root,
            remedy="Create it for the account that runs this, set ansible_become_user to an account that may write "
            "there, or name another one in postgres_backup_dir (backup_dir of the module).",
        )
    free = target.files.space(directory).free_bytes
    estimate, seconds = _predict(catalog, plan, command, table_bytes, database_bytes)
    if plan.check_space and estimate > free:
        raise NotEnoughSpace(
            "There is not enough space for the backup",
            subject=catalog.root,
            why=f"it will take about {human_size(estimate)}, and {human_size(free)} are free",
            remedy="Free some space (the playbook godel.postgres_runbook.backup_retention lists old backups), or use "
            "another backup_dir. check_space: false skips this check.",
            details={"estimate_bytes": estimate, "free_bytes": free},
        )
    with server.connect(plan.db, settings=pinned) as session:
        lacking = losses.find(session, programs.major, plain=plan.format == "plain")
    return Preflight(command, version, database_bytes, estimate, free, seconds, lacking, settings, life)


def _refuse_unreadable(session: Session, db: str) -> None:
    """Raise QueryFailed for conditions that would make pg_dump fail."""
    who = session.value("SELECT current_user::pg_catalog.text")
    unreadable = session.query(UNREADABLE)
    if unreadable:
        raise QueryFailed(
            "The login cannot read all of the database",
            subject=f"{db!r} as {who}",
            why="; ".join(f"{row.identity}: {row.why}" for row in unreadable),
            remedy="Use a superuser, or grant pg_read_all_data and BYPASSRLS.",
        )
    objects = session.query(losses_sql.LARGE_OBJECTS_UNREADABLE)[0]
    if objects.number:
        count = counted(objects.number, "large object")
        raise QueryFailed(
            "The login cannot read all large objects",
            subject=f"{db!r} as {who}",
            why=f"pg_dump would fail on {count} that it may not read; the first is {objects.first} of {objects.owner}",
            remedy=f'Use a superuser. Or run as one: ALTER ROLE "{who}" SET lo_compat_privileges = on, with which the '
            "login may read all large objects. Or run GRANT SELECT ON LARGE OBJECT for each.",
            details={"large_objects": objects.number},
        )


def _predict(
    catalog: Catalog, plan: BackupPlan, command: pg_dump.DumpCommand, table_bytes: int, database_bytes: int
) -> tuple[int, float | None]:
    """Bytes and seconds that the backup will take, from the last one of its kind, or from a rule of thumb."""
    for entry in catalog.entries(plan.db):
        last = entry.manifest
        if last and (last.format, last.compression) == (plan.format, command.compression) and last.database_size_bytes:
            growth = database_bytes / last.database_size_bytes
            return int(last.size_bytes * growth * _MARGIN), round(last.duration_s * growth, 1)
    return int(table_bytes * _FIRST_GUESS[command.compression != "none"]), None
