# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a restore: which backup, whether it can be restored here, and what it would change. Nothing is touched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._catalog.catalog import Entry
from .._errors import InvalidInput, NotEnoughSpace
from .._findings import Finding
from .._load import databases, load, source_database, sql
from .._load.databases import Database
from .._postgres.connection import Server, Session
from .._postgres.programs import CLIENT, Programs, find
from .._target.base import Target
from .._units import human_size
from .._verify import restore_copy
from . import acceptance, existing, losses, row_changes, tablespaces, waits
from .plan import StagePlan
from .row_changes import RowChange
from .source import BackupIdentity, Source, read_source

_SPARE_CONNECTIONS = 2
_CHANGES_SHOWN = 50
_CHANGES_NAMED = 10


@dataclass(frozen=True)
class RestorePreflight:
    """What was found before anything is done, which is also what check mode reports.

    `tablespace` is where the copy goes; with `keeps_tablespaces`, its relations go into those that they had. `loads`
    says that no stage of the backup is there; `loaded_as` is the name of one that is loaded, and not proven yet.
    """

    source: Source
    programs: Programs
    production: Database | None
    free_bytes: int | None
    findings: list[Finding]
    changes: list[RowChange]
    notes: list[str]
    tablespace: str = source_database.DEFAULT
    keeps_tablespaces: bool = False
    loads: bool = True
    loaded_as: str | None = None

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "backup": self.source.name,
            "backup_taken": self.source.manifest.started if self.source.manifest else None,
            "program": f"{self.programs.path('pg_restore')} {self.programs.version}",
            "space_needed_bytes": restore_copy.space_for(self.source.needs.size_bytes),
            "free_bytes": self.free_bytes,
            "predicted_duration_s": self.source.predicted_s,
            "changes": [vars(change) for change in self.changes[:_CHANGES_SHOWN]],
            "change_count": len(self.changes),
            "loaded_as": self.loaded_as,
            "notes": self.notes,
        }


def preflight(
    target: Target,
    server: Server,
    session: Session,
    plan: StagePlan,
    subject: Entry | load.Dump,
    identity: BackupIdentity,
) -> RestorePreflight:
    """Find out whether the restore can succeed, changing nothing.

    Raises:
        InvalidInput, ProgramMissing, NotEnoughSpace, ProofFailed: it cannot, and why.
    """
    source = read_source(target, plan, subject, identity)
    room = session.query(sql.ROOM)[0]
    production = databases.list_databases(session).get(plan.db)
    there = {row.name: row.location for row in session.query(sql.TABLESPACES)}
    wanted = tablespaces.choose(there, source.needs.like, production, named=source.dump.format != "plain")
    proven = existing.find_staged(session, plan, identity)
    way = existing.way_of(server, plan, wanted.default, wanted.keeps_others)
    half = None if proven else existing.find_loaded(session, plan, identity, way)
    loads = proven is None and half is None
    _refuse(plan, session, source, room, loads=loads, proves=proven is None)
    programs = find(target, source.needs.tool_major, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to restore this")
    notes = databases.renamed(session, plan.db)
    free = _free_bytes(target, room.data_directory, notes)
    if free is not None:
        disk = tablespaces.disk(target, room.data_directory, there[wanted.default])
        if plan.check_space and loads:
            _refuse_cramped(session, plan, source, disk, target.files.space(disk).free_bytes)
            tablespaces.refuse_full(room.data_directory, free)
        free = target.files.space(disk).free_bytes
    findings = [*wanted.findings, *waits.synchronous_standby(session)]
    findings += databases.dependents(server, session, production) if production else []
    databases.refuse_blocking(findings, plan.db, plan.allow)
    if isinstance(subject, Entry):
        findings += acceptance.known_loss(subject)
    findings += losses.find(
        server, plan.db if production else None, source.manifest, source.needs.tool_major or programs.major
    )
    changed = row_changes.find(server, plan.db, source.fingerprint, notes) if production else []
    return RestorePreflight(
        source,
        programs,
        production,
        free,
        findings,
        changed,
        notes,
        wanted.default,
        wanted.keeps_others,
        loads,
        half.database.name if half else None,
    )


def _refuse_cramped(session: Session, plan: StagePlan, source: Source, where: str, free: int) -> None:
    """Raise NotEnoughSpace, unless there is room once that is dropped which runs that died have left."""
    left = [item.oid for item in databases.find_marked(session, plan.db, "staging", "loaded")]
    needed = restore_copy.space_for(source.needs.size_bytes)
    if needed > free + session.value(sql.SIZE, (left,)):
        raise NotEnoughSpace(
            "There is not enough space for a second copy of the database",
            subject=where,
            why=f"it needs about {human_size(needed)}, and {human_size(free)} are free",
            remedy="Free some space there (the playbook godel.postgres_runbook.restore_discard drops previous "
            "databases)."
            " check_space: false skips this check.",
            details={"estimate_bytes": needed, "free_bytes": free},
        )


def _refuse(plan: StagePlan, session: Session, source: Source, room: Any, *, loads: bool, proves: bool) -> None:
    """Raise InvalidInput for what would only be found out in the middle of the work.

    Args:
        loads: whether there is a load.
        proves: whether there is a comparison, as after a load.
    """
    server_major = session.server_version // 10000
    there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
    roles = [role for role in source.needs.roles if role not in there]
    extensions = source_database.missing_extensions(session, source.needs.extensions)
    why = source_database.unfit_for(session, source.needs.extensions) if loads else ""
    remedy = "Correct this on the server, or move the extension to a separate database." if why else ""
    if room.standby:
        why, remedy = "the server is a standby", "Run this on the primary."
    elif not room.superuser:
        why = (
            f"{session.value('SELECT current_user::text')} is not a superuser, but the restore also sets owners and "
            "privileges"
        )
        remedy = "Log in as a superuser (postgres_login)."
    elif source.needs.database is not None:
        why = f"the script creates a database and connects to it ({source.needs.database})"
        remedy = "Make a new dump without pg_dump's option --create."
    elif source.needs.subscribes:
        why = "the script creates subscriptions, which would receive changes that another server holds for production"
        remedy = "Make a new dump with pg_dump's option --no-subscriptions."
    elif source.manifest and source.manifest.server_major > server_major:
        why = f"it is from PostgreSQL {source.manifest.server_major}, and the server has version {server_major}"
        remedy = "Restore it on a server of that version or newer."
    elif roles:
        why = f"roles are missing: {', '.join(roles)}"
        remedy = "Create them. Each backup of the catalog has their definitions in globals.sql."
    elif extensions:
        why = f"extensions are not installed: {', '.join(extensions)}"
        remedy = "Install their packages on the server."
    elif proves and room.free < plan.jobs + _SPARE_CONNECTIONS:
        why = f"it needs {plan.jobs + _SPARE_CONNECTIONS} connections, and {max(room.free, 0)} are free"
        remedy = "Lower jobs, or raise max_connections."
    if why:
        raise InvalidInput(
            "The backup cannot be restored here",
            subject=f"{source.name}, database {plan.db!r}",
            why=why,
            remedy=f"{remedy} Nothing was done.",
        )


def _free_bytes(target: Target, data_directory: str | None, notes: list[str]) -> int | None:
    if data_directory and target.files.info(data_directory) is not None:
        return target.files.space(data_directory).free_bytes
    notes.append("The free space of the server is unknown: its data directory is not on this host.")
    return None


def summary(outlook: RestorePreflight) -> str:
    """A sentence on the tables whose number of rows differs from production; empty when none does."""
    changed = outlook.changes
    if not changed:
        return ""
    shown = [f"{each.table} {_rows(each.now)} -> {_rows(each.restored)}" for each in changed[:_CHANGES_NAMED]]
    more = f" and {len(changed) - _CHANGES_NAMED} more" if len(changed) > _CHANGES_NAMED else ""
    tables = "1 table has" if len(changed) == 1 else f"{len(changed)} tables have"
    return f"{tables} a different number of rows in production than in the backup: {', '.join(shown)}{more}."


def _rows(count: int | None) -> str:
    return "none (no such table)" if count is None else f"{count:,}"


def difference(outlook: RestorePreflight, now: datetime) -> dict[str, str]:
    """What would change, for people: `before` and `after`."""
    before, after = [], []
    for change in outlook.changes[:_CHANGES_SHOWN]:
        if change.now is not None:
            before.append(f"{change.table}: {change.now:,} rows")
        if change.restored is not None:
            after.append(f"{change.table}: {change.restored:,} rows")
    taken = outlook.source.manifest
    if taken:
        age_s = (now - taken.started_at).total_seconds()
        after.append(f"backup of {taken.started}, {max(age_s, 0) / 3600:.1f} h old")
        before.append("production now")
    return {"before": "\n".join([*before, ""]), "after": "\n".join([*after, ""])}
