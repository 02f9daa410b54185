# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups on disk.

    <backup_dir>/<database>/<database>_<YYYYMMDDTHHMMSSZ>/manifest.json and data
    <backup_dir>/<database>/<id>.partial       being written: never a backup
    <backup_dir>/<database>/<id>.deleted       being removed: no longer a backup
    <backup_dir>/<database>/.lock              held while a backup is written or removed
    <backup_dir>/<database>/.<id>.lock         held while a backup is read at length, so that it is not removed

A backup comes into being, and ceases to be, by one rename.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote

from .._errors import BackupNotFound, InvalidInput, ManifestProblem, NewerManifest, NotEnoughSpace, RunbookError
from .._fingerprint.figures import Difference
from .._target.base import FileInfo, Files, Target
from . import manifest as manifests
from . import verifications
from .integrity import compare_sizes
from .manifest import Manifest
from .verifications import Verification

_ID = re.compile(r"(?P<database>.+)_(?P<stamp>\d{8}T\d{6}Z)")
_UNFINISHED = re.compile(r".+_\d{8}T\d{6}Z\.(partial|deleted)")
_DIRECTORY = re.compile(r"(?!.*%00)[A-Za-z0-9_%-][A-Za-z0-9_.%-]*")
_STAMP = "%Y%m%dT%H%M%SZ"


def directory_name(database: str) -> str:
    """A database's name as the name of a directory: letters, digits, `_`, `-` and inner dots stay, all else is %XX.

    Raises:
        InvalidInput: no database can have this name; the empty one would be the catalog itself.
    """
    try:
        name = quote(database, safe="").replace("~", "%7E")
    except UnicodeEncodeError:
        name = ""
    if not name or "\0" in database:
        raise InvalidInput(
            "Invalid db", subject=repr(database), why="no database can be called that", remedy="Name the database."
        )
    return "%2E" + name[1:] if name.startswith(".") else name


@dataclass(frozen=True)
class Entry:
    """A directory of the catalog that has a backup's name.

    `problem` says why its manifest cannot be used, and `differences` how the names and sizes of its files are not those
    of its manifest; what is in them is not read.
    """

    id: str
    database: str
    path: str
    taken: datetime
    manifest: Manifest | None
    problem: RunbookError | None
    verification: Verification | None
    differences: Sequence[Difference] = ()

    @property
    def verdict(self) -> str | None:
        """The latest verdict, or None if it was never verified."""
        return self.verification.verdict if self.verification else None

    @property
    def trouble(self) -> RunbookError | None:
        """Why it cannot be relied on, as far as can be seen without reading its data."""
        if self.problem is not None or not self.differences:
            return self.problem
        more = len(self.differences) - 1
        return ManifestProblem(
            "The files of a backup differ from its manifest",
            subject=self.path,
            why=f"{self.differences[0]}{f', and {more} more' if more else ''}",
            remedy="Do not trust this backup: use another one.",
        )

    @property
    def cluster(self) -> str | None:
        """The system identifier of the cluster that it is of: standbys share it, and initdb makes another one."""
        return (self.manifest.system_identifier or None) if self.manifest else None

    def may_be_of(self, cluster: str | None) -> bool:
        """Whether it is a backup of this cluster, or does not say of which; None: of any."""
        return cluster is None or self.cluster in (None, cluster)

    @property
    def damaged(self) -> bool:
        """Whether its own content is what makes it unusable, and not our way to it, our version or its place."""
        if self.problem is None and self.differences:
            return True
        if isinstance(self.problem, NewerManifest) or not isinstance(self.problem, ManifestProblem):
            return False
        return "belongs_to" not in self.problem.details

    def usable(self) -> Manifest:
        """The manifest, or its problem as an error."""
        if self.manifest is None:
            raise self.problem or ManifestProblem("A backup has no manifest", subject=self.path)
        return self.manifest


class Catalog:
    """The backups in one directory of a target."""

    def __init__(self, target: Target, root: str) -> None:
        if not root.startswith("/"):
            raise InvalidInput(
                "Invalid backup_dir",
                subject=repr(root),
                why="it is not an absolute path",
                remedy="Begin it with a slash.",
            )
        self._files = target.files
        self.root = root.rstrip("/") or "/"

    def databases(self) -> list[str]:
        """The databases that have a directory here, sorted."""
        if self._files.info(self.root) is None:
            return []
        names = [
            info.name for info in self._files.entries(self.root) if info.is_dir and _DIRECTORY.fullmatch(info.name)
        ]
        return sorted(unquote(name) for name in names if directory_name(unquote(name)) == name)

    def directory(self, database: str) -> str:
        """Where a database's backups are."""
        return f"{self.root}/{directory_name(database)}"

    def exists(self, database: str) -> bool:
        """Whether there is a directory for this database."""
        return self._files.info(self.directory(database)) is not None

    def has(self, database: str, id_: str) -> bool:
        """Whether there is something under this backup's name."""
        return self._files.info(f"{self.directory(database)}/{id_}") is not None

    def was_used(self, database: str) -> bool:
        """Whether a backup of this database was ever written here."""
        return self._files.info(f"{self.directory(database)}/.lock") is not None

    def entries(self, database: str) -> Iterator[Entry]:
        """The backups of a database, newest first, read one by one."""
        named = self._named(database)
        trees = self._files.trees([path for dummy, path in named])
        for (taken, path), (dummy, tree) in zip(named, trees):
            entry = self._entry(database, path, taken, tree)
            if entry.trouble is None or self._files.info(path) is not None:  # else it was removed meanwhile
                yield entry

    def _named(self, database: str) -> list[tuple[datetime, str]]:
        """When they were taken, and the paths, of what has a backup's name; newest first."""
        directory = self.directory(database)
        if self._files.info(directory) is None:
            return []
        found = []
        for info in self._files.entries(directory):
            match = _ID.fullmatch(info.name)
            if info.is_dir and match and match["database"] == directory_name(database):
                with suppress(ValueError):  # digits that are no date: not our name
                    taken = datetime.strptime(match["stamp"], _STAMP)
                    found.append((taken.replace(tzinfo=timezone.utc), info.path))
        return sorted(found, reverse=True)

    def unfinished(self, database: str) -> list[str]:
        """Paths that a run which died left behind (or that a running one works on)."""
        directory = self.directory(database)
        if self._files.info(directory) is None:
            return []
        return [info.path for info in self._files.entries(directory) if _UNFINISHED.fullmatch(info.name)]

    def find(self, database: str, reference: str) -> Entry:
        """The backup with this id, or the newest one for `latest`.

        Raises:
            BackupNotFound: there is none; the message lists what there is.
        """
        known = []
        for taken, path in self._named(database):
            known.append(path.rsplit("/", 1)[-1])
            if reference in ("latest", known[-1]):
                [(dummy, tree)] = self._files.trees([path])
                return self._entry(database, path, taken, tree)
        why = f"the newest are {', '.join(known[:5])}" if known else "the catalog has no backup of this database"
        remedy = "Name one of these." if known else "Take one with the playbook godel.postgres_runbook.backup."
        why, remedy = self._absent() or (why, remedy)
        subject = f"{reference} of database {database!r} in {self.root}"
        raise BackupNotFound("There is no such backup", subject=subject, why=why, remedy=remedy)

    def latest(
        self,
        database: str,
        cluster: str | None,
        fits: Callable[[Entry], bool] = lambda entry: True,
        *,
        wanted: str = "backup",
        remedy: str = "Take one with the playbook godel.postgres_runbook.backup.",
    ) -> Entry:
        """The newest backup of a cluster that fits: what `latest` means where a server is at hand.

        Args:
            cluster: its system identifier; None when no server can be asked; then all backups must be of one cluster.
            wanted: what is looked for, in words, and `remedy` how to come by one.

        Raises:
            BackupNotFound: there is none. One of another cluster has to be named by its id, which the message does.
        """
        newest: dict[str, str] = {}
        found: Entry | None = None
        for entry in self.entries(database):
            if not fits(entry):
                continue
            if entry.cluster is not None:
                newest.setdefault(entry.cluster, entry.id)
            if found is None and entry.may_be_of(cluster):
                found = entry
                if cluster is not None:
                    break
        if found is not None and (cluster is not None or len(newest) < 2):
            return found
        others = ", ".join(f"{id_} is of cluster {its}" for its, id_ in newest.items())
        if found is not None:
            what, remedy = "It is unknown which backups belong to this server", "Name one by its id."
        else:
            what = f"There is no {wanted} of this server"
            remedy = (
                f"{remedy} A backup of another cluster is used only if it is named by its id." if others else remedy
            )
        why, remedy = self._absent() or (others, remedy)
        raise BackupNotFound(what, subject=f"database {database!r} in {self.root}", why=why, remedy=remedy)

    def _absent(self) -> tuple[str, str] | None:
        """Why, and what to do, when the catalog itself is not there."""
        if self._files.info(self.root) is not None:
            return None
        return "this directory does not exist", "Check postgres_backup_dir, and whether its file system is mounted."

    def lock(self, database: str, purpose: str) -> AbstractContextManager[None]:
        """Keep other runs from writing or removing backups of this database."""
        self._files.make_dir(self.directory(database))
        return self._files.lock(f"{self.directory(database)}/.lock", purpose)

    def busy(self, database: str) -> str | None:
        """Who holds that lock, in words, or None."""
        return self._files.lock_holder(f"{self.directory(database)}/.lock")

    @contextmanager
    def use(self, entry: Entry, purpose: str) -> Iterator[None]:
        """Keep a backup from being removed while it is read. One user at a time: raises Locked for a second one."""
        with self._files.lock(self._use_lock(entry), purpose):
            if self._files.info(entry.path) is None:
                raise BackupNotFound(
                    "A backup was removed during this run", subject=entry.path, remedy="Use another one."
                )
            yield

    def user(self, entry: Entry) -> str | None:
        """Who reads the backup just now, in words, or None."""
        return self._files.lock_holder(self._use_lock(entry))

    def _use_lock(self, entry: Entry) -> str:
        return f"{self.directory(entry.database)}/.{entry.id}.lock"

    def sweep(self, database: str, spare: str = "") -> list[str]:
        """Remove what died half-way, but for the path `spare`; only under the lock. Returns the removed paths."""
        found = [path for path in self.unfinished(database) if path != spare]
        for path in found:
            self._files.remove_tree(path)
            folder, name = path.rsplit("/", 1)
            self._files.remove_tree(f"{folder}/.{name.rsplit('.', 1)[0]}.lock")
        return found

    def begin(self, database: str, started: datetime) -> Draft:
        """A directory for a new backup; only under the lock."""
        name = directory_name(database)
        while True:
            id_ = f"{name}_{started.strftime(_STAMP)}"
            path = f"{self.directory(database)}/{id_}"
            if self._files.info(path) is None:
                break
            started += timedelta(seconds=1)  # two backups within one second
        self._files.remove_tree(f"{path}.partial")
        self._files.make_dir(f"{path}.partial")
        return Draft(self._files, id_, path)

    def delete(self, entry: Entry) -> None:
        """Remove a backup; only under the lock. It stops being one before any of its files is removed.

        Raises:
            Locked: another run reads it just now; it stays.
        """
        try:
            with self.use(entry, f"removal of {entry.id}"):
                self._files.rename(entry.path, f"{entry.path}.deleted")
        except NotEnoughSpace:  # for a lock file: then there is none, and no run can hold it
            self._files.rename(entry.path, f"{entry.path}.deleted")
        self._files.remove_tree(f"{entry.path}.deleted")
        self._files.remove_tree(self._use_lock(entry))

    def record(self, entry: Entry, verification: Verification) -> None:
        """Add a verification to a backup's record. The last one that was written counts, whatever the clock says."""
        if self._files.info(entry.path) is None:  # else a directory without a manifest would come into being
            raise BackupNotFound("A backup was removed during this run", subject=entry.path, remedy="Use another one.")
        verifications.record(self._files, entry.path, verification)

    def _entry(self, database: str, path: str, taken: datetime, tree: Sequence[FileInfo] | None) -> Entry:
        manifest: Manifest | None = None
        problem: RunbookError | None = None
        verification: Verification | None = None
        differences: Sequence[Difference] = ()
        at = f"{path}/{manifests.FILE_NAME}"
        id_ = path.rsplit("/", 1)[-1]
        try:
            there = self._files.walk(path) if tree is None else tree  # which says why it cannot be read
            verification = verifications.newest(self._files, path, there)
            if not any(info.path == at for info in there) and self._files.info(at) is None:
                raise ManifestProblem(
                    "A backup has no manifest", subject=path, remedy="It is not a backup: use another one."
                )
            manifest = manifests.load(self._files.read(at), at)
            if manifest.database != database or manifest.id != id_:
                raise ManifestProblem(
                    "A manifest belongs to another backup",
                    subject=at,
                    why=f"it belongs to {manifest.id}, database {manifest.database!r}",
                    remedy="It was moved here. Do not restore it under this name.",
                    details={"belongs_to": manifest.id},
                )
            differences = compare_sizes(path, there, manifest)
        except RunbookError as exc:
            manifest, problem = None, exc
        return Entry(id_, database, path, taken, manifest, problem, verification, differences)


class Draft:
    """A backup that is being written. Until `commit` no run takes it for one."""

    def __init__(self, files: Files, id_: str, path: str) -> None:
        self._files = files
        self.id = id_
        self.path = f"{path}.partial"
        self._final = path

    def commit(self, manifest: Manifest) -> str:
        """Make it a backup; returns its path. Everything is on disk before the name appears."""
        self._files.write(f"{self.path}/{manifests.FILE_NAME}", manifests.dump(manifest))
        self._files.rename(self.path, self._final)
        return self._final

    def discard(self) -> None:
        """Remove it."""
        self._files.remove_tree(self.path)
