# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup a restore loads, and what is known of it before. Nothing is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from .._catalog.catalog import Catalog, Entry
from .._catalog.manifest import Manifest
from .._errors import ProofFailed
from .._fingerprint.definitions import Original
from .._fingerprint.figures import Fingerprint
from .._load import external_dump, load
from .._postgres.connection import Session
from .._postgres.programs import CLIENT, find_newest
from .._postgres.sql import SYSTEM_IDENTIFIER
from .._target.base import Target
from .._verify import restore_copy, verify
from .._verify.restore_copy import RestoreRequirements
from . import acceptance
from .plan import StagePlan


@dataclass(frozen=True)
class BackupIdentity:
    """Which backup it is: an id of the catalog, or the path of another dump and the SHA-256 of its content."""

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class Source:
    """The backup to restore: an entry of the catalog, or another dump; and what a restore needs to know."""

    identity: BackupIdentity
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


def choose(target: Target, session: Session, catalog: Catalog, plan: StagePlan) -> Entry | load.Dump:
    """The backup that the plan names; `latest` is the newest one of this server's cluster that was verified.

    Raises:
        BackupNotFound: there is none, or none that was verified.
        ProofFailed: it was verified, and is not what its source was; what is accepted is not refused.
    """
    if "/" in plan.backup:
        return external_dump.identify(target, plan.backup)
    if plan.backup != "latest":
        entry = catalog.find(plan.db, plan.backup)
    else:
        entry = catalog.latest(
            plan.db,
            str(session.value(SYSTEM_IDENTIFIER)),
            lambda each: (
                each.manifest is not None and each.verdict == "verified"
            ),  # a damaged one is an error, not passed over
            wanted="verified backup",
            remedy="Verify one with the playbook godel.postgres_runbook.backup_verify, or name one by its id.",
        )
    acceptance.refuse_unfit(entry, plan.accept)
    entry.usable()
    return entry


def identify(target: Target, subject: Entry | load.Dump, jobs: int) -> BackupIdentity:
    """Which backup it is. The next nightly dump has the same path, and is another one."""
    if isinstance(subject, Entry):
        return BackupIdentity(subject.id)
    found = target.files.info(subject.path)
    paths = [each.path for each in target.files.walk(subject.path)] if found and found.is_dir else [subject.path]
    digests = target.files.sha256(paths, jobs)
    text = "".join(f"{digests[path]} {path[len(subject.path) :]}\n" for path in sorted(paths))
    return BackupIdentity(subject.path, hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())


def read_source(target: Target, plan: StagePlan, subject: Entry | load.Dump, identity: BackupIdentity) -> Source:
    if isinstance(subject, Entry):
        manifest = subject.usable()
        damaged = verify.damage(target, subject, plan.jobs)
        if damaged:
            raise ProofFailed(
                "The backup is damaged",
                subject=subject.id,
                why=damaged.why,
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
            why="it is truncated: the end mark of pg_dump is missing",
            remedy="Name another one. Production was not touched.",
        )
    _refuse_unproven(
        plan, subject.path, "it was not taken by this collection, so it has no record of the content of its source"
    )
    return Source(identity, found.dump, verify.requirements_of_external(found), None, None, None)


def _refuse_unproven(plan: StagePlan, name: str, why: str) -> None:
    if not plan.accept_unproven:
        raise ProofFailed(
            "This backup cannot be verified",
            subject=name,
            why=why,
            remedy="Name a backup with a fingerprint, or set accept_unproven: true. Production was not touched.",
        )
