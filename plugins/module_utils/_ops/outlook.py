# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a restore: which backup, whether it can be restored here, and what it would change. Nothing is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .._catalog.catalog import Catalog, Entry
from .._catalog.manifest import Manifest
from .._db import Server, Session
from .._errors import (
    BackupNotFound,
    ConnectionFailed,
    InvalidInput,
    NotEnoughSpace,
    ProofFailed,
    QueryFailed,
)
from .._findings import Finding
from .._fingerprint import capture
from .._fingerprint.figures import Fingerprint
from .._programs import CLIENT, Programs, find, find_newest
from .._sql import databases as sql
from .._target.base import Target
from .._units import human_size
from . import databases, legacy, rehearsal, restore, verify
from .databases import Database
from .rehearsal import Needs

_SPARE_CONNECTIONS = 2
_COUNT_TIMEOUT_S = 60
_CHANGES_SHOWN = 50


@dataclass(frozen=True)
class SmokeQuery:
    """A question of the operator's own; `expect` is the text of the first value, None when any row will do."""

    query: str
    expect: str | None = None


@dataclass(frozen=True)
class StagePlan:
    """What the operator wants. `reference` is `latest`, a backup's id, or the path of a hand-made file."""

    db: str
    reference: str
    force: bool
    jobs: int
    work_dir: str
    bin_dir: str | None
    check_space: bool
    keep_failed: bool
    accept_unproven: bool
    analyze: bool
    nice: int
    max_lag_bytes: int | None = None
    smoke_queries: Sequence[SmokeQuery] = ()

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        databases.refuse_maintenance_db(self.db)
        if not 1 <= self.jobs <= 1000:
            raise InvalidInput("jobs is out of range", subject=str(self.jobs), remedy="Use 1 to 1000, or leave it out.")
        if not 0 <= self.nice <= 19:
            raise InvalidInput("nice is out of range", subject=str(self.nice), remedy="Use 0 to 19.")


@dataclass(frozen=True)
class Source:
    """The backup to restore: an entry of the catalog, or a file made by hand; and what a restore needs to know."""

    name: str
    dump: restore.Dump
    needs: Needs
    manifest: Manifest | None
    predicted_s: float | None

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Its proof, if it has one."""
        return self.manifest.fingerprint if self.manifest else None


@dataclass(frozen=True)
class Change:
    """A table whose number of rows the restore would change; None for none of the kind."""

    table: str
    now: int | None
    restored: int | None


@dataclass(frozen=True)
class Outlook:
    """What was found before anything is done, which is also what check mode reports."""

    source: Source
    programs: Programs
    production: Database | None
    free_bytes: int | None
    findings: list[Finding]
    changes: list[Change]
    notes: list[str]

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "backup": self.source.name,
            "backup_taken": self.source.manifest.started if self.source.manifest else None,
            "program": f"{self.programs.path('pg_restore')} {self.programs.version}",
            "space_needed_bytes": rehearsal.space_for(self.source.needs.size_bytes),
            "free_bytes": self.free_bytes,
            "predicted_duration_s": self.source.predicted_s,
            "changes": [vars(change) for change in self.changes[:_CHANGES_SHOWN]],
            "change_count": len(self.changes),
            "notes": self.notes,
        }


def choose(target: Target, catalog: Catalog, plan: StagePlan) -> Entry | restore.Dump:
    """The backup that the plan names; `latest` is the newest one that was verified.

    Raises:
        BackupNotFound: there is none, or none that was verified.
        ProofFailed: it was verified, and is not what its source was.
    """
    if "/" in plan.reference:
        return legacy.identify(target, plan.reference)
    if plan.reference != "latest":
        entry = catalog.find(plan.db, plan.reference)
    else:
        found = (each for each in catalog.entries(plan.db) if each.verdict == "verified" and each.manifest)
        first = next(found, None)
        if first is None:
            raise BackupNotFound(
                "There is no verified backup",
                subject=f"database {plan.db!r} in {catalog.root}",
                remedy="Verify one with the playbook godel.postgres_runbook.backup_verify, or name one by its id.",
            )
        entry = first
    if entry.verification and entry.verdict == "failed":
        raise ProofFailed(
            "This backup was found to be damaged",
            subject=entry.id,
            why=entry.verification.reason,
            remedy="Name another one. Production was not touched.",
        )
    entry.usable()
    return entry


def already_live(session: Session, plan: StagePlan, subject: Entry | restore.Dump) -> bool:
    """Whether production came from this very backup."""
    production = databases.known(session).get(plan.db)
    mark = production.mark if production else None
    return not plan.force and mark is not None and (mark.state, mark.backup) == ("live", name_of(subject))


def name_of(subject: Entry | restore.Dump) -> str:
    return subject.id if isinstance(subject, Entry) else subject.path


def preflight(
    target: Target, server: Server, session: Session, plan: StagePlan, subject: Entry | restore.Dump
) -> Outlook:
    """Find out whether the restore can succeed, changing nothing.

    Raises:
        InvalidInput, ProgramMissing, NotEnoughSpace, ProofFailed: it cannot, and why.
    """
    source = _source(target, plan, subject)
    room = session.query(sql.ROOM)[0]
    _refuse(plan, session, source, room)
    programs = find(target, source.needs.tool_major, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to restore this")
    notes: list[str] = []
    free = _free_bytes(target, room.data_directory, notes)
    needed = rehearsal.space_for(source.needs.size_bytes)
    if plan.check_space and free is not None and needed > free:
        raise NotEnoughSpace(
            "There is not enough space for a second copy of the database",
            subject=room.data_directory,
            why=f"it takes about {human_size(needed)}, and {human_size(free)} are free",
            remedy="Free some space there (the playbook godel.postgres_runbook.restore_rollback discards old copies)."
            " check_space: false tries it all the same.",
            details={"estimate_bytes": needed, "free_bytes": free},
        )
    production = databases.known(session).get(plan.db)
    findings = databases.dependents(server, session, production) if production else []
    databases.refuse_blocking(findings, plan.db)
    changes = _changes(server, plan, source, notes) if production else []
    return Outlook(source, programs, production, free, findings, changes, notes)


def _source(target: Target, plan: StagePlan, subject: Entry | restore.Dump) -> Source:
    if isinstance(subject, Entry):
        manifest = subject.usable()
        damaged = verify.damage(target, subject, plan.jobs)
        if damaged:
            raise ProofFailed(
                "The backup is damaged",
                subject=subject.id,
                why=damaged.reason,
                remedy="Name another one. Production was not touched.",
            )
        if manifest.fingerprint is None:
            _refuse_unproven(plan, subject.id, "it was taken without a fingerprint")
        dump, needs = rehearsal.dump_of(subject.path, manifest), rehearsal.needs_of(manifest)
        steps = subject.verification.details.get("steps") if subject.verification else None
        seconds = steps.get("restore_s") if isinstance(steps, Mapping) else None
        return Source(subject.id, dump, needs, manifest, seconds)
    programs = find_newest(target, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to restore this backup")
    found = legacy.examine(target, programs, subject)
    if not found.complete:
        raise ProofFailed(
            "The backup is damaged",
            subject=subject.path,
            why="it ends early: what pg_dump writes last is not there",
            remedy="Name another one. Production was not touched.",
        )
    _refuse_unproven(plan, subject.path, "it was made by hand, and nobody recorded what its source held")
    return Source(subject.path, found.dump, verify.needs_of_hand_made(found), None, None)


def _refuse_unproven(plan: StagePlan, name: str, why: str) -> None:
    if not plan.accept_unproven:
        raise ProofFailed(
            "This backup cannot be proven",
            subject=name,
            why=why,
            remedy="Name a backup with a fingerprint, or say accept_unproven: true. Production was not touched.",
        )


def _refuse(plan: StagePlan, session: Session, source: Source, room: Any) -> None:
    """Raise InvalidInput for what would only be found out in the middle of the load."""
    server_major = session.server_version // 10000
    there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
    roles = [role for role in source.needs.roles if role not in there]
    extensions = restore.missing_extensions(session, source.needs.extensions)
    why = ""
    remedy = ""
    if room.standby:
        why, remedy = "the server is a standby", "Run this against the primary."
    elif not room.superuser:
        why = f"{session.value('SELECT current_user::text')} is no superuser, and owners and rights are restored, too"
        remedy = "Use a superuser's login in postgres_login."
    elif source.needs.database is not None:
        why = f"the script creates and enters a database of its own ({source.needs.database})"
        remedy = "Make a new dump without pg_dump's option --create."
    elif source.manifest and source.manifest.server_major > server_major:
        why = f"it is of PostgreSQL {source.manifest.server_major}, and the server is {server_major}"
        remedy = "Restore it on a server of that version or newer."
    elif roles:
        why = f"roles are missing: {', '.join(roles)}"
        remedy = "Create them; globals.sql beside the backup has their definitions."
    elif extensions:
        why = f"extensions are not installed: {', '.join(extensions)}"
        remedy = "Install their packages on the server."
    elif room.free < plan.jobs + _SPARE_CONNECTIONS:
        why = f"{max(room.free, 0)} connections are free, and it takes {plan.jobs + _SPARE_CONNECTIONS}"
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
    notes.append("The space of the server is not known: its data directory is not on this host.")
    return None


def _changes(server: Server, plan: StagePlan, source: Source, notes: list[str]) -> list[Change]:
    """The tables whose number of rows differs now. Rows that were only updated cannot be told by counting."""
    if source.fingerprint is None:
        return []
    settings = {"statement_timeout": str(_COUNT_TIMEOUT_S * 1000)}
    limited = replace(server.login, connect_params={**server.login.connect_params, "options": _options(settings)})
    try:
        now = capture.take(Server(server.target, limited), plan.db, mode="counts", workers=1).tables
    except (QueryFailed, ConnectionFailed) as exc:
        notes.append(f"The rows of production could not be counted: {exc.why}")
        return []
    then = source.fingerprint.tables
    found = []
    for name in sorted(now.keys() | then.keys()):
        rows, restored = (tables[name].rows if name in tables else None for tables in (now, then))
        if rows != restored:
            found.append(Change(name, rows, restored))
    return found


def _options(settings: Mapping[str, str]) -> str:
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


def difference(outlook: Outlook, now: datetime) -> dict[str, str]:
    """What would change, for people: `before` and `after`."""
    before, after = [], []
    for change in outlook.changes[:_CHANGES_SHOWN]:
        if change.now is not None:
            before.append(f"{change.table}: {change.now} rows")
        if change.restored is not None:
            after.append(f"{change.table}: {change.restored} rows")
    taken = outlook.source.manifest
    if taken:
        age_s = (now - taken.started_at).total_seconds()
        after.append(f"data of {taken.started}, {max(age_s, 0) / 3600:.1f} h old")
        before.append("data of now")
    return {"before": "\n".join([*before, ""]), "after": "\n".join([*after, ""])}
