# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before a restore: which backup, whether it can be restored here, and what it would change. Nothing is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._catalog.catalog import Catalog, Entry
from .._catalog.manifest import Manifest
from .._errors import InvalidInput, NotEnoughSpace, ProofFailed
from .._findings import Finding
from .._fingerprint.definitions import Original
from .._fingerprint.figures import Fingerprint
from .._load import databases, external_dump, load, source_database, sql
from .._load.databases import Database, Mark
from .._postgres.connection import Server, Session
from .._postgres.programs import CLIENT, Programs, find, find_newest
from .._postgres.sql import SYSTEM_IDENTIFIER
from .._target.base import Target
from .._units import human_size
from .._verify import restore_copy, verify
from .._verify.restore_copy import RestoreRequirements
from . import acceptance, loaded_stage, losses, row_changes, tablespaces, waits
from .row_changes import Change

_SPARE_CONNECTIONS = 2
_CHANGES_SHOWN = 50
_CHANGES_NAMED = 10


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
    accept: Sequence[str] = ()
    allow: Sequence[str] = ()

    def check(self) -> None:
        """Raise InvalidInput for what cannot work."""
        databases.refuse_maintenance_db(self.db)
        if not 1 <= self.jobs <= 1000:
            raise InvalidInput("jobs is out of range", subject=str(self.jobs), remedy="Use 1 to 1000, or leave it out.")
        if not 0 <= self.nice <= 19:
            raise InvalidInput("nice is out of range", subject=str(self.nice), remedy="Use 0 to 19.")


@dataclass(frozen=True)
class Identity:
    """Which backup it is: an id of the catalog, or the path of a file made by hand and the SHA-256 of what is in it."""

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class Source:
    """The backup to restore: an entry of the catalog, or a file made by hand; and what a restore needs to know."""

    identity: Identity
    dump: load.Dump
    needs: RestoreRequirements
    manifest: Manifest | None
    original: Original | None
    predicted_s: float | None

    @property
    def name(self) -> str:
        """How people call it."""
        return self.identity.name

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Its proof, if it has one."""
        return self.original.fingerprint if self.original else None


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
    changes: list[Change]
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


def choose(target: Target, session: Session, catalog: Catalog, plan: StagePlan) -> Entry | load.Dump:
    """The backup that the plan names; `latest` is the newest one of this server's cluster that was verified.

    Raises:
        BackupNotFound: there is none, or none that was verified.
        ProofFailed: it was verified, and is not what its source was; what is accepted is not refused.
    """
    if "/" in plan.reference:
        return external_dump.identify(target, plan.reference)
    if plan.reference != "latest":
        entry = catalog.find(plan.db, plan.reference)
    else:
        entry = catalog.latest(
            plan.db,
            str(session.value(SYSTEM_IDENTIFIER)),
            lambda each: (
                each.manifest is not None and each.verdict == "verified"
            ),  # a damaged one is told, not passed over
            wanted="verified backup",
            remedy="Verify one with the playbook godel.postgres_runbook.backup_verify, or name one by its id.",
        )
    acceptance.refuse_unfit(entry, plan.accept)
    entry.usable()
    return entry


def identify(target: Target, subject: Entry | load.Dump, jobs: int) -> Identity:
    """Which backup it is. The next nightly dump has the same path, and is another one."""
    if isinstance(subject, Entry):
        return Identity(subject.id)
    found = target.files.info(subject.path)
    paths = [each.path for each in target.files.walk(subject.path)] if found and found.is_dir else [subject.path]
    digests = target.files.sha256(paths, jobs)
    text = "".join(f"{digests[path]} {path[len(subject.path) :]}\n" for path in sorted(paths))
    return Identity(subject.path, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())


def already_live(session: Session, plan: StagePlan, identity: Identity) -> bool:
    """Whether production came from this very backup."""
    production = databases.list_databases(session).get(plan.db)
    mark = production.mark if production and production.is_as_marked else None
    return not plan.force and mark is not None and mark.state == "live" and _is_of(mark, identity)


def _is_of(mark: Mark, identity: Identity) -> bool:
    return (mark.backup, mark.digest) == (identity.name, identity.digest)


def ready(session: Session, plan: StagePlan, identity: Identity) -> Database | None:
    """A stage of this very backup that an earlier run has proven as well as this one asks for."""
    for item in databases.find_marked(session, plan.db, "staged"):
        if item.mark and _is_of(item.mark, identity) and _accepts(plan, item.mark) and not plan.force:
            return item
    return None


def way_of(server: Server, plan: StagePlan, tablespace: str, keeps_tablespaces: bool) -> dict[str, object]:
    """What decides what a load brings, beside the backup."""
    return {
        "tablespace": tablespace,
        "keeps_tablespaces": keeps_tablespaces,
        "bin_dir": plan.bin_dir,
        "login": server.login.user,  # whose settings the load has
    }


def loaded(
    session: Session, plan: StagePlan, identity: Identity, way: Mapping[str, object]
) -> loaded_stage.Found | None:
    """A stage of this very backup that an earlier run has loaded in the same way, and not proven."""
    for item in databases.find_marked(session, plan.db, "loaded"):
        mark = item.mark
        if mark is None or not _is_of(mark, identity):
            continue
        known = loaded_stage.read(mark)
        if known and known.is_for(way, str(session.value(sql.SERVER_STARTED)), forced=plan.force):
            return loaded_stage.Found(item, mark, known)
    return None


def _accepts(plan: StagePlan, mark: Mark) -> bool:
    """Whether a stage is proven as well as this run asks for."""
    if mark.lost and acceptance.DEFINITIONS not in plan.accept:
        return False
    return mark.verdict in ("verified", "incomplete") or bool(mark.lost) or plan.accept_unproven


def preflight(
    target: Target,
    server: Server,
    session: Session,
    plan: StagePlan,
    subject: Entry | load.Dump,
    identity: Identity,
) -> RestorePreflight:
    """Find out whether the restore can succeed, changing nothing.

    Raises:
        InvalidInput, ProgramMissing, NotEnoughSpace, ProofFailed: it cannot, and why.
    """
    source = _source(target, plan, subject, identity)
    room = session.query(sql.ROOM)[0]
    production = databases.list_databases(session).get(plan.db)
    there = {row.name: row.location for row in session.query(sql.TABLESPACES)}
    wanted = tablespaces.choose(there, source.needs.like, production, named=source.dump.format != "plain")
    proven = ready(session, plan, identity)
    way = way_of(server, plan, wanted.default, wanted.keeps_others)
    half = None if proven else loaded(session, plan, identity, way)
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
            why=f"it takes about {human_size(needed)}, and {human_size(free)} are free",
            remedy="Free some space there (the playbook godel.postgres_runbook.restore_discard drops former copies)."
            " check_space: false tries it all the same.",
            details={"estimate_bytes": needed, "free_bytes": free},
        )


def _source(target: Target, plan: StagePlan, subject: Entry | load.Dump, identity: Identity) -> Source:
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
        dump, needs = restore_copy.dump_of(subject.path, manifest), restore_copy.requirements_of(manifest)
        steps = subject.verification.details.get("steps") if subject.verification else None
        seconds = steps.get("restore_s") if isinstance(steps, Mapping) else None
        original = restore_copy.original_of(target, subject.path, manifest)
        return Source(identity, dump, needs, manifest, original, seconds)
    programs = find_newest(target, bin_dir=plan.bin_dir, needed=CLIENT, purpose="to restore this backup")
    found = external_dump.examine(target, programs, subject)
    if not found.complete:
        raise ProofFailed(
            "The backup is damaged",
            subject=subject.path,
            why="it ends early: what pg_dump writes last is not there",
            remedy="Name another one. Production was not touched.",
        )
    _refuse_unproven(
        plan, subject.path, "it was not taken by this collection, and what its source held was not recorded"
    )
    return Source(identity, found.dump, verify.requirements_of_external(found), None, None, None)


def _refuse_unproven(plan: StagePlan, name: str, why: str) -> None:
    if not plan.accept_unproven:
        raise ProofFailed(
            "This backup cannot be proven",
            subject=name,
            why=why,
            remedy="Name a backup with a fingerprint, or say accept_unproven: true. Production was not touched.",
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
    remedy = "Put this right on the server, or move the extension to a database of its own." if why else ""
    if room.standby:
        why, remedy = "the server is a standby", "Run this against the primary."
    elif not room.superuser:
        why = f"{session.value('SELECT current_user::text')} is no superuser, and owners and rights are restored, too"
        remedy = "Use a superuser's login in postgres_login."
    elif source.needs.database is not None:
        why = f"the script creates and enters a database of its own ({source.needs.database})"
        remedy = "Make a new dump without pg_dump's option --create."
    elif source.needs.subscribes:
        why = "the script creates subscriptions, which may take the changes that another server waits to send"
        remedy = "Make a new dump with pg_dump's option --no-subscriptions."
    elif source.manifest and source.manifest.server_major > server_major:
        why = f"it is of PostgreSQL {source.manifest.server_major}, and the server is {server_major}"
        remedy = "Restore it on a server of that version or newer."
    elif roles:
        why = f"roles are missing: {', '.join(roles)}"
        remedy = "Create them. Beside a backup of the catalog, globals.sql has their definitions."
    elif extensions:
        why = f"extensions are not installed: {', '.join(extensions)}"
        remedy = "Install their packages on the server."
    elif proves and room.free < plan.jobs + _SPARE_CONNECTIONS:
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


def summary(outlook: RestorePreflight) -> str:
    """A sentence on the tables whose number of rows differs from production; empty when none does."""
    changed = outlook.changes
    if not changed:
        return ""
    shown = [f"{each.table} {_rows(each.now)} -> {_rows(each.restored)}" for each in changed[:_CHANGES_NAMED]]
    more = f" and {len(changed) - _CHANGES_NAMED} more" if len(changed) > _CHANGES_NAMED else ""
    tables = "1 table has" if len(changed) == 1 else f"{len(changed)} tables have"
    return f"{tables} another number of rows in production now than in the backup: {', '.join(shown)}{more}."


def _rows(count: int | None) -> str:
    return "none (no such table)" if count is None else f"{count:,}"


def difference(outlook: RestorePreflight, now: datetime) -> dict[str, str]:
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
