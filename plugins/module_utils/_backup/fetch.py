# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a backup from the catalog of a target into a catalog of this host: whole and proven, or not at all.

It comes into `<id>.partial`. A run that was cut short leaves that behind, and the next one goes on with it. The
manifest is written last, byte for byte, and then one rename makes it a backup.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from .._catalog import manifest as manifests
from .._catalog.catalog import Catalog, Entry
from .._catalog.integrity import check_sizes
from .._catalog.manifest import FILE_NAME, Manifest
from .._errors import FileProblem, InvalidInput, ManifestProblem, NotEnoughSpace
from .._plan import Plan
from .._target.base import Target
from .._target.local import LocalTarget
from .._units import counted, human_duration, human_size
from . import fetch_files

_VERDICTS = "verifications"
_ROOM_BYTES = 1024 * 1024  # for directories and verdicts


@dataclass(frozen=True)
class FetchPlan(Plan):
    """What the operator wants. `backup` is `latest` or a backup's id, `dest` a catalog of this host."""

    db: str
    backup: str
    dest: str


@dataclass(frozen=True)
class FoundBackup:
    """The backup, and the part of it that is already at the destination.

    Attributes:
        document: its manifest as it was written.
        path: where it will be, or is.
        is_there: whether it is.
        verdicts: names of the records of verifications that are not there.
    """

    entry: Entry
    manifest: Manifest
    document: bytes
    path: str
    is_there: bool
    verdicts: list[str]

    @property
    def changes(self) -> bool:
        """Whether anything has to be done."""
        return not self.is_there or bool(self.verdicts)


@dataclass(frozen=True)
class Fetched:
    """What was done. `removed` are the paths that dead runs had left."""

    receipt: fetch_files.Receipt
    verdicts: int
    removed: list[str] = field(default_factory=list)


class Depot:
    """The catalog on this host, and how backups come into it."""

    def __init__(self, source: Target, catalog: Catalog, plan: FetchPlan) -> None:
        self._source = source
        self._catalog = catalog
        self._plan = plan
        self._files = LocalTarget().files
        if not plan.dest.startswith("/"):
            raise InvalidInput(
                "Invalid dest",
                subject=repr(plan.dest),
                why="it is not an absolute path",
                remedy="Begin it with a slash.",
            )
        self._here = Catalog(LocalTarget(), plan.dest)
        if isinstance(source, LocalTarget) and os.path.realpath(plan.dest) == os.path.realpath(catalog.root):
            raise InvalidInput(
                "Invalid dest",
                subject=repr(plan.dest),
                why="it is the catalog itself",
                remedy="Name another directory, preferably on another disk.",
            )

    def look(self) -> FoundBackup:
        """Find the backup, and the part of it that is already at the destination.

        Raises:
            BackupNotFound, ManifestProblem: there is none that could be fetched.
            FileProblem: its files, or those of the copy, are not as they were written; or there is another backup.
        """
        entry = self._catalog.find(self._plan.db, self._plan.backup)
        known = entry.usable()
        at = f"{entry.path}/{FILE_NAME}"
        document = self._source.files.read(at)
        manifest = manifests.load(document, at)
        if manifest != known:
            raise ManifestProblem("A manifest changed while it was read", subject=at, remedy="Run this again.")
        _refuse_strange_names(manifest, at)
        path = f"{self._here.directory(entry.database)}/{entry.id}"
        is_there = self._files.info(path) is not None
        if is_there:
            self._refuse_another(path, manifest, document)
        else:
            self._refuse_damaged(entry, manifest)
        have = self._verdicts_in(LocalTarget(), path)
        verdicts = [name for name in self._verdicts_in(self._source, entry.path) if name not in have]
        return FoundBackup(entry, manifest, document, path, is_there, verdicts)

    def preflight(self, found: FoundBackup) -> None:
        """Raise NotEnoughSpace or FileProblem unless it fits here."""
        if found.is_there:
            return
        if not self._files.writable(self._plan.dest):
            raise FileProblem(
                "The directory for fetched backups cannot be written",
                subject=self._plan.dest,
                remedy=f"The account that runs this (uid {os.geteuid()}) needs access to it.",
            )
        wanted = sum(record.size_bytes for record in found.manifest.files.values())
        have = fetch_files.have_bytes(found.manifest.files, _partial(found))
        needed = max(0, wanted - have) + len(found.document) + _ROOM_BYTES
        free = self._files.space(self._plan.dest).free_bytes
        if free < needed:
            raise NotEnoughSpace(
                "There is not enough space to fetch the backup",
                subject=self._plan.dest,
                why=f"it needs {human_size(needed)}, and {human_size(free)} are free",
                remedy="Free some space there, or name another directory in dest. Nothing was changed.",
                details={"needed_bytes": needed, "free_bytes": free},
            )

    def fetch(self) -> tuple[FoundBackup, Fetched]:
        """Fetch the backup.

        Raises:
            Locked: another run fetches it, or reads it at the source.
            FileProblem: a file at the source is damaged, or cannot be written here.
            NotEnoughSpace: it does not fit.
            ClusterUnreachable: the connection was away for too long. What has come stays for the next run.
        """
        with self._here.lock(self._plan.db, f"fetch of {self._plan.backup}"):
            found = self.look()  # the run that held the lock may have fetched it
            if not found.changes:
                return found, Fetched(fetch_files.Receipt(), 0)
            with self._catalog.use(found.entry, f"fetch of {found.entry.id}"):
                if found.is_there:
                    self._bring_verdicts(found, found.path)
                    return found, Fetched(fetch_files.Receipt(), len(found.verdicts))
                removed = self._here.sweep(self._plan.db, spare=_partial(found))
                self.preflight(found)
                return found, Fetched(self._bring(found), len(found.verdicts), removed)

    def _bring(self, found: FoundBackup) -> fetch_files.Receipt:
        partial = _partial(found)
        self._files.make_dir(partial)
        try:
            receipt = fetch_files.receive(self._source.files, found.entry.path, found.manifest.files, partial)
        except FileProblem as exc:
            if "damaged" in exc.details:  # no later run could use it
                self._files.remove_tree(partial)
            raise
        self._bring_verdicts(found, partial)
        self._files.sync_tree(partial)
        self._files.write(f"{partial}/{FILE_NAME}", found.document)
        self._files.rename(partial, found.path)
        return receipt

    def _bring_verdicts(self, found: FoundBackup, to: str) -> None:
        """Bring the records of verifications: the copy is the same, so that they are about it, too."""
        origin = f"{found.entry.path}/{_VERDICTS}"
        for name in found.verdicts:
            self._files.make_dir(f"{to}/{_VERDICTS}")
            self._files.write(f"{to}/{_VERDICTS}/{name}", self._source.files.read(f"{origin}/{name}"))

    @staticmethod
    def _verdicts_in(target: Target, path: str) -> list[str]:
        directory = f"{path}/{_VERDICTS}"
        if target.files.info(directory) is None:
            return []
        return [each.name for each in target.files.entries(directory) if each.name.endswith(".json")]

    def _refuse_another(self, path: str, manifest: Manifest, document: bytes) -> None:
        """Raise FileProblem unless the existing directory is this backup. Only sizes are compared."""
        at = f"{path}/{FILE_NAME}"
        if self._files.info(at) is None or self._files.read(at) != document:
            raise FileProblem(
                "The destination already has another directory with the name of the backup",
                subject=path,
                why="its manifest differs or is missing",
                remedy="Nothing was changed. Check what it is, then name another directory in dest, or move it away.",
            )
        differences = check_sizes(self._files, path, manifest)
        if differences:
            raise FileProblem(
                "The existing copy is damaged",
                subject=path,
                why=str(differences[0]),
                remedy="Nothing was changed. Move it away, then run this again.",
            )

    def _refuse_damaged(self, entry: Entry, manifest: Manifest) -> None:
        differences = check_sizes(self._source.files, entry.path, manifest)
        if differences:
            raise FileProblem(
                "The files of the backup differ from its manifest",
                subject=entry.path,
                why=str(differences[0]),
                remedy="Nothing was fetched. Do not rely on this backup: take a new one, and fetch that.",
            )


def _partial(found: FoundBackup) -> str:
    return f"{found.path}.partial"


def _refuse_strange_names(manifest: Manifest, at: str) -> None:
    """Raise ManifestProblem for a name that would lead elsewhere on this host."""
    for name in manifest.files:
        parts = PurePosixPath(name).parts
        own = parts[:1] in ((FILE_NAME,), (_VERDICTS,))
        if own or name != "/".join(parts) or not parts or ".." in parts or name.startswith("/") or "\0" in name:
            raise ManifestProblem(
                "A manifest names a file that cannot belong to a backup",
                subject=at,
                why=repr(name),
                remedy="Nothing was fetched. Do not trust this backup.",
            )


def too_near(target: Target, source: str, dest: str) -> list[str]:
    """A warning when the copy is on the file system of the backup: both would be lost together."""
    if target.files.space(source).device != target.files.space(dest).device:
        return []
    text = f"{dest} is on the same file system as {source}: if it fails, the backup and its copy are lost."
    return [f"{text} Name a directory of another disk or machine in backup_fetch_dir (dest of the module)."]


def doubts(found: FoundBackup) -> list[str]:
    """What the operator should know although it is no failure."""
    if found.entry.verdict != "failed":
        return []
    return [f"{found.entry.id} failed its verification: do not rely on it or on its copy."]


def report(found: FoundBackup, done: Fetched | None, duration_s: float = 0.0) -> dict[str, object]:
    """The values of a module's result; nothing done is check mode, or nothing to do."""
    id_, count = found.entry.id, len(found.verdicts)
    verdicts = counted(count, "verdict")
    values: dict[str, object] = {
        "backup": {**found.manifest.summary(), "path": found.path, "verdict": found.entry.verdict},
        "source": found.entry.path,
    }
    if not found.changes:
        return {**values, "msg": f"{id_} already exists in {found.path}."}
    if done is None:
        size = human_size(found.manifest.size_bytes)
        what = f"{verdicts} on {id_}" if found.is_there else f"{id_}, {size},"
        return {**values, "msg": f"{what} would be fetched into {found.path}."}
    values.update(
        fetched_bytes=done.receipt.fetched_bytes,
        resumed_bytes=done.receipt.resumed_bytes,
        verdicts=done.verdicts,
        removed=done.removed,
        duration_s=round(duration_s, 3),
    )
    if found.is_there:
        return {**values, "msg": f"{verdicts} on {id_} {'was' if count == 1 else 'were'} fetched into {found.path}."}
    text = (
        f"{id_} was fetched into {found.path}: {human_size(done.receipt.fetched_bytes)} in {human_duration(duration_s)}"
    )
    if done.receipt.resumed_bytes:
        text += f", {human_size(done.receipt.resumed_bytes)} were already there"
    return {**values, "msg": f"{text}. The SHA-256 of every file matches the manifest."}
