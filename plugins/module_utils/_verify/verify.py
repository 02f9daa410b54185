# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a backup: check its files, restore it in a separate place, and compare the copy with its source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Union

from .._catalog.catalog import Catalog, Entry
from .._catalog.integrity import check_files
from .._catalog.manifest import FILE_NAME
from .._catalog.verifications import Verification
from .._errors import BackupNotFound, ManifestProblem, NewerManifest
from .._fingerprint import capture
from .._fingerprint.figures import Fingerprint
from .._load import external_dump, load
from .._plan import Plan
from .._postgres.cluster_id import cluster_if_known
from .._postgres.connection import Server
from .._postgres.programs import CLIENT, SCRATCH, find_newest
from .._target.base import Target
from .._units import from_rfc3339, to_rfc3339
from . import restore_copy
from .restore_copy import CannotTell, RestoreRequirements, ScratchLocation, StepTimer
from .verdict import Verdict, judge, judge_external, name_differences

if TYPE_CHECKING:  # it takes the libraries for Kubernetes with it, which a plain host has not
    from .scratch_pod import ScratchPod

# An external dump does not say how large its database was; text packs to a tenth at best.
_PACKED_FACTOR = 10
_PLAIN_FACTOR = 2


@dataclass(frozen=True)
class VerifyPlan(Plan):
    """What the operator wants. `backup` is `latest`, a backup's id, or the path of another dump."""

    db: str
    backup: str
    max_age_s: float | None
    place: ScratchLocation


# The backup to prove: an entry of the catalog, or an external dump.
BackupToVerify = Union[Entry, load.Dump]


def choose(target: Target, server: Server, catalog: Catalog, plan: VerifyPlan, notes: list[str]) -> BackupToVerify:
    """Find the backup that the plan names; `latest` is the newest one of the server's cluster.

    Raises:
        BackupNotFound, InvalidInput: there is none.
    """
    if "/" in plan.backup:
        return external_dump.identify(target, plan.backup)
    if plan.backup != "latest":
        return catalog.find(plan.db, plan.backup)
    return catalog.latest(plan.db, cluster_if_known(server, plan.db, notes))


def proven_recently(subject: BackupToVerify, plan: VerifyPlan, now: datetime) -> Verification | None:
    """An earlier verification, if its verdict is `verified` and it is younger than the plan's `max_age`."""
    known = subject.verification if isinstance(subject, Entry) and subject.trouble is None else None
    if known is None or not plan.max_age_s or known.verdict != "verified":
        return None
    age = (now - from_rfc3339(known.checked_at)).total_seconds()
    return known if 0 <= age <= plan.max_age_s else None  # a time to come is a clock that was wrong


def check(target: Target, plan: VerifyPlan, subject: BackupToVerify, pod: ScratchPod | None = None) -> Verdict | None:
    """What check mode does: all but the restore. A verdict, if the files alone speak against the backup."""
    damaged = damage(target, subject, plan.place.jobs) if isinstance(subject, Entry) else None
    if damaged is None and pod is not None:
        pod.rehearse(subject.path, _space(target, plan, subject))
    elif damaged is None and isinstance(subject, Entry):
        restore_copy.preflight(target, plan.place, restore_copy.requirements_of(subject.usable()))
    return damaged


def hold_backup(catalog: Catalog, subject: BackupToVerify) -> AbstractContextManager[None]:
    """Keep retention from removing the backup for as long as it is read.

    Raises:
        Locked: another run reads it just now.
    """
    return catalog.use(subject, f"verification of {subject.id}") if isinstance(subject, Entry) else nullcontext()


def verify(
    target: Target,
    server: Server,
    plan: VerifyPlan,
    subject: BackupToVerify,
    clock: StepTimer,
    pod: ScratchPod | None = None,
) -> Verdict:
    """Prove the backup. What speaks against it becomes a verdict; what keeps us from trying raises.

    With `pod`, a throwaway pod does all the work, and the target only lends its volume.

    Raises:
        NotEnoughSpace, ProgramMissing, CommandFailed, ConnectionFailed: it cannot be tried here.
        NewerManifest: only a newer version of the collection can read it.
        BackupNotFound: it was removed meanwhile.
    """
    try:
        with _workshop(target, plan, subject, clock, pod) as (worker, there):
            if isinstance(subject, Entry):
                return _verify_entry(worker, server, there, subject, clock)
            return _verify_external(worker, server, there, subject, clock)
    except CannotTell as exc:
        return Verdict("inconclusive", exc.why)
    except NewerManifest:
        raise
    except ManifestProblem as exc:
        return Verdict("failed", exc.message)
    except load.RestoreRefused as exc:
        if isinstance(subject, Entry) and target.files.info(f"{subject.path}/{FILE_NAME}") is None:
            raise BackupNotFound(
                "The backup was removed while it was verified",
                subject=subject.id,
                remedy="Verify another one, and do not run retention at the same time.",
            ) from None
        return Verdict("inconclusive" if exc.place_to_blame else "failed", exc.message, remedy=exc.remedy)


@contextmanager
def _workshop(
    target: Target, plan: VerifyPlan, subject: BackupToVerify, clock: StepTimer, pod: ScratchPod | None
) -> Iterator[tuple[Target, VerifyPlan]]:
    """Where to work, and the plan for that place."""
    if pod is None or (isinstance(subject, Entry) and subject.problem is not None):  # it will not come to a restore
        yield target, plan
        return
    with ExitStack() as stack:
        with clock.step("pod"):
            opened = pod.opened(plan.place, subject.path, _space(target, plan, subject))
            worker, place = stack.enter_context(opened)
        yield worker, replace(plan, place=place)


def _space(target: Target, plan: VerifyPlan, subject: BackupToVerify) -> int | None:
    """The bytes that the restored copy may take; None when it is not needed."""
    if not plan.place.check_space:
        return None
    if isinstance(subject, Entry):
        return restore_copy.space_for(subject.manifest.database_size_bytes if subject.manifest else 0)
    found = target.files.info(subject.path)
    every = [found] if found and not found.is_dir else target.files.walk(subject.path)
    return restore_copy.space_for(sum(info.size_bytes for info in every) * _PACKED_FACTOR)


def record(catalog: Catalog, subject: BackupToVerify, verdict: Verdict, now: datetime, clock: StepTimer) -> None:
    """Write the verdict into the catalog; an external dump has no place for it."""
    if isinstance(subject, Entry):
        details = {**verdict.as_dict(), "steps": clock.steps}
        catalog.record(subject, Verification(verdict.verdict, to_rfc3339(now), verdict.why, details))


def damage(target: Target, entry: Entry, jobs: int) -> Verdict | None:
    """The verdict `failed`, if the manifest or a file is not as it was written."""
    if isinstance(entry.problem, ManifestProblem) and not isinstance(entry.problem, NewerManifest):
        return Verdict("failed", entry.problem.message)
    differences = check_files(target.files, entry.path, entry.usable(), jobs)
    if not differences:
        return None
    return Verdict("failed", f"The files differ from the manifest: {name_differences(differences, 1)}.", differences)


def _verify_entry(target: Target, server: Server, plan: VerifyPlan, entry: Entry, clock: StepTimer) -> Verdict:
    with clock.step("files"):
        damaged = damage(target, entry, plan.place.jobs)
    if damaged:
        return damaged
    manifest = entry.usable()
    _refuse_unknown(manifest.fingerprint)
    dump = restore_copy.dump_of(entry.path, manifest)
    needs = restore_copy.requirements_of(manifest)
    source = restore_copy.original_of(target, entry.path, manifest)
    return judge(manifest, restore_copy.restore_and_compare(target, server, plan.place, dump, needs, source, clock))


def _refuse_unknown(source: Fingerprint | None) -> None:
    if source is not None and (source.algorithm not in capture.ALGORITHMS or source.mode not in ("content", "counts")):
        raise CannotTell(
            f"This version does not support its kind of fingerprint ({source.mode}, {source.algorithm}). "
            "Upgrade the collection."
        )


def _verify_external(target: Target, server: Server, plan: VerifyPlan, dump: load.Dump, clock: StepTimer) -> Verdict:
    needed = SCRATCH if plan.place.verify_in == "instance" else CLIENT
    programs = find_newest(target, bin_dir=plan.place.bin_dir, needed=needed, purpose="to restore this backup")
    with clock.step("files"):
        found = external_dump.examine(target, programs, dump)
    if not found.complete:
        return Verdict("failed", "It is truncated: the end mark of pg_dump is missing.")
    needs = replace(requirements_of_external(found), name=plan.db)
    return judge_external(restore_copy.restore_and_compare(target, server, plan.place, found.dump, needs, None, clock))


def requirements_of_external(found: external_dump.ExternalDump) -> RestoreRequirements:
    """What an external dump needs; how large its database was is a guess."""
    packed = found.dump.unpacker is not None or found.dump.format in ("custom", "directory")
    return RestoreRequirements(
        tool_major=found.tool_major,
        size_bytes=found.size_bytes * (_PACKED_FACTOR if packed else _PLAIN_FACTOR),
        roles=found.roles,
        extensions=found.extensions,
        database=found.database,
        encoding=found.encoding,
        subscribes=found.subscribes,
        source_major=found.source_major,
    )


def remembered(known: Verification) -> Verdict:
    """A verdict of the catalog."""
    return Verdict(known.verdict, known.why, restored=known.details.get("restored"))


def _about(subject: BackupToVerify, db: str) -> dict[str, object]:
    if isinstance(subject, Entry):
        known = subject.manifest.summary() if subject.manifest else {}
        return {**known, "id": subject.id, "path": subject.path, "database": subject.database}
    return {"id": None, "path": subject.path, "database": db, "format": subject.format}


def report(verdict: Verdict | None, subject: BackupToVerify, db: str, checked_at: str | None) -> dict[str, object]:
    """The values of a module's result. No verdict: check mode found nothing against the backup."""
    about = _about(subject, db)
    name = str(about["id"] or about["path"])
    if verdict is None:
        text = "Its files are as they were written; nothing was restored in check mode."
        return {
            "backup": about,
            "verdict": None,
            "why": text,
            "checked_at": None,
            "findings": [],
            "msg": f"{name} would be verified. {text}",
            **Verdict("", "").as_dict(),
        }
    findings = [verdict.finding(name), *verdict.findings]
    return {
        "backup": about,
        "verdict": verdict.verdict,
        "why": verdict.why,
        "checked_at": checked_at,
        "findings": [each.as_dict() for each in findings],
        "msg": f"{name} is {verdict.verdict}. {verdict.why}",
        **verdict.as_dict(),
    }
