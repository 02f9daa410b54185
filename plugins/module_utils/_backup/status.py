# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of the catalog: its backups, their clusters, and which of them count for a server."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from .._catalog.catalog import Catalog, Entry
from .._catalog.verifications import CLOCK_SKEW_S, Verification
from .._errors import InvalidInput
from .._postgres.cluster_id import ClusterIdentity
from .._target.base import Files
from .._units import to_rfc3339


@dataclass(frozen=True)
class Backup:
    """One backup without the lists that grow with the database; `summary` is empty when it is unreadable.

    `cluster` is the system identifier of the cluster that it is of, if it says so.
    """

    id: str
    database: str
    path: str
    taken: datetime
    age_s: int
    summary: Mapping[str, object]
    problem: str
    verification: Verification | None
    cluster: str | None = None

    @property
    def verdict(self) -> str | None:
        """The latest verdict, or None if it was never verified."""
        return self.verification.verdict if self.verification else None

    @property
    def usable(self) -> bool:
        """Whether it counts: readable, all there, not proven bad, and not dated in the future."""
        return not self.problem and self.verdict != "failed" and self.age_s >= -CLOCK_SKEW_S

    @property
    def size_bytes(self) -> int:
        """Size of its files; 0 when it is unreadable."""
        size = self.summary.get("size_bytes", 0)
        return size if isinstance(size, int) else 0

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        found = self.verification
        return {
            "id": self.id,
            "database": self.database,
            "started": to_rfc3339(self.taken),
            **self.summary,
            "cluster": self.cluster,
            "path": self.path,
            "state": "unreadable" if self.problem else "complete",
            "why": self.problem,
            "age_s": self.age_s,
            "verdict": self.verdict,
            "verified_at": found.checked_at if found else None,
            "verdict_why": found.why if found else None,
        }


@dataclass(frozen=True)
class Incomplete:
    """Unfinished backups. `in_progress` when another run works in the database's directory now."""

    path: str
    database: str
    age_s: int
    in_progress: bool

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "path": self.path,
            "database": self.database,
            "age_s": self.age_s,
            "in_progress": self.in_progress,
        }


@dataclass(frozen=True)
class DatabaseState:
    """One database's part of the catalog; backups are newest first. `busy` names the run that writes there now.

    Attributes:
        cluster: the system identifier of the server whose backups count; None when it is not known. A backup that does
            not say of which cluster it is counts for any.
        on_server: whether the server has a database of this name; None when it is not known.
        named: whether this very database was asked for.
    """

    database: str
    backups: Sequence[Backup]
    incomplete: Sequence[Incomplete]
    busy: str | None
    cluster: str | None = None
    on_server: bool | None = None
    named: bool = False

    @property
    def own(self) -> list[Backup]:
        """The backups that may be of the server; all when the server is not known."""
        return [each for each in self.backups if self.cluster is None or each.cluster in (None, self.cluster)]

    @property
    def foreign(self) -> list[Backup]:
        """The backups of other clusters."""
        return [each for each in self.backups if self.cluster is not None and each.cluster not in (None, self.cluster)]

    @property
    def newest_usable(self) -> Backup | None:
        """The newest backup that counts; None as well when it is unknown which of several clusters is meant."""
        if self.cluster is None and self.side_by_side:
            return None
        return next((each for each in self.own if each.usable), None)

    @property
    def newest_verified(self) -> Backup | None:
        """The newest backup that is proven good; None as well when it is unknown which of several clusters is meant."""
        if self.cluster is None and self.side_by_side:
            return None
        return next((each for each in self.own if each.usable and each.verdict == "verified"), None)

    @property
    def clusters(self) -> dict[str, list[Backup]]:
        """The backups by the cluster that they name, that of the newest backup first."""
        found: dict[str, list[Backup]] = {}
        for each in self.backups:
            if each.cluster is not None:
                found.setdefault(each.cluster, []).append(each)
        return found

    @property
    def side_by_side(self) -> bool:
        """Whether the backups of several clusters alternate, so that none has replaced the others."""
        known = [each.cluster for each in self.backups if each.cluster is not None]
        return len(list(itertools.groupby(known))) > len(self.clusters)

    def parts(self) -> list[DatabaseState]:
        """What is judged by itself: the server's own backups, or those of each cluster when no server was asked."""
        if self.cluster is not None or len(self.clusters) < 2:
            return [self]
        going_on = list(self.clusters) if self.side_by_side else [next(iter(self.clusters))]
        return [
            replace(self, backups=self.clusters[each], cluster=each, incomplete=(), on_server=None) for each in going_on
        ]

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        usable, verified, own = self.newest_usable, self.newest_verified, self.own
        return {
            "database": self.database,
            "backups": len(self.backups),
            "total_size_bytes": sum(each.size_bytes for each in self.backups),
            "newest": own[0].id if own else None,
            "newest_usable": usable.id if usable else None,
            "newest_verified": verified.id if verified else None,
            "busy": self.busy,
            "clusters": [
                {"cluster": name, "backups": len(found), "newest": found[0].id} for name, found in self.clusters.items()
            ],
        }


def survey(
    files: Files, catalog: Catalog, db: str | None, now: datetime, server: ClusterIdentity | None = None
) -> list[DatabaseState]:
    """Read the catalog, entry by entry: one database, or all that have a place in it.

    Args:
        server: the server whose backups count; None when it was not asked.

    Raises:
        FileProblem: a directory cannot be read.
        InvalidInput: the catalog is not a directory.
    """
    root = files.info(catalog.root)
    if root is not None and not root.is_dir:
        raise InvalidInput(
            "Invalid backup_dir",
            subject=repr(catalog.root),
            why="it is not a directory",
            remedy="Name the directory of the catalog.",
        )
    known = server or ClusterIdentity()
    if db is not None:
        return [replace(_survey(files, catalog, db, now, known), named=True)]
    found = (_survey(files, catalog, name, now, known) for name in catalog.databases())
    # A foreign directory has none of these; one of ours that lost its backups still has its lock file.
    return [each for each in found if each.backups or each.incomplete or catalog.was_used(each.database)]


def _survey(files: Files, catalog: Catalog, db: str, now: datetime, server: ClusterIdentity) -> DatabaseState:
    backups = [_backup(entry, now) for entry in catalog.entries(db)]
    unfinished = catalog.unfinished(db)
    busy = catalog.busy(db)
    incomplete = []
    for path in unfinished:
        info = files.info(path)
        if info is not None:  # else it was finished or removed since the first look
            incomplete.append(Incomplete(path, db, max(0, int(now.timestamp() - info.modified)), busy is not None))
    there = None if server.databases is None else db in server.databases
    return DatabaseState(db, backups, incomplete, busy, server.cluster, there)


def _backup(entry: Entry, now: datetime) -> Backup:
    trouble = entry.trouble
    return Backup(
        id=entry.id,
        database=entry.database,
        path=entry.path,
        taken=entry.taken,
        age_s=int((now - entry.taken).total_seconds()),
        summary=entry.manifest.summary() if entry.manifest and trouble is None else {},
        problem=trouble.message if trouble else "",
        verification=entry.verification,
        cluster=entry.cluster,
    )
