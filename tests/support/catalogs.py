"""Catalogs with backups in them, made without a server: real manifests, data of a few bytes.

And one with a server: a real backup that is stopped half-way (``stopped_backup``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import (
    Catalog,
    Entry,
    directory_name,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.manifest import (
    FileRecord,
    Manifest,
    SourceDatabase,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.verifications import Verification
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import (
    Fingerprint,
    TableFigure,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339, utc_now
from tests.support.backups import params
from tests.support.databases import Database
from tests.support.modules import RunningModule, start_module

DATA = b"not a dump, but some bytes\n"
SOURCE = SourceDatabase("postgres", "UTF8", "C", "C", "c", None, None, "postgres")


def catalog_at(root: Path) -> Catalog:
    """Return the catalog in a directory of this host."""
    return Catalog(LocalTarget(), str(root))


def ago(*, now: datetime | None = None, **span: float) -> datetime:
    """Return a moment before now: ``ago(days=2)``."""
    return (now or utc_now()) - timedelta(**span)


def add_backup(
    root: Path,
    db: str,
    taken: datetime,
    *,
    verdict: str | None = None,
    verified_at: datetime | None = None,
    size_bytes: int = len(DATA),
    tables: int = 0,
    cluster: str = "7000000000000000000",
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Put a backup into the catalog, with a verdict if one is given, and return its directory.

    ``size_bytes`` is what its manifest claims; ``tables`` makes its fingerprint, and so the manifest, large;
    ``cluster`` is the system identifier of its source; ``files`` are its data.
    """
    catalog = catalog_at(root)
    contents = {"data.sql": DATA} if files is None else files
    with catalog.lock(db, "a test"):
        draft = catalog.begin(db, taken)
        for name, data in contents.items():
            Path(draft.path, name).parent.mkdir(exist_ok=True)
            Path(draft.path, name).write_bytes(data)
        fingerprint = Fingerprint(
            "content",
            "test",
            15,
            tables={f"public.table_{n}": TableFigure(n, str(n * 7919)) for n in range(tables)},
            objects={f"index public.index_{n}": f"{n:032x}" for n in range(4 * tables)},
        )
        path = draft.commit(
            Manifest(
                id=draft.id,
                database=db,
                method="dump",
                format="plain",
                compression="none",
                tool="pg_dump 15.18",
                server_version="15.18",
                system_identifier=cluster,
                timeline=1,
                lsn="0/1500000",
                started=to_rfc3339(taken),
                finished=to_rfc3339(taken + timedelta(seconds=5)),
                duration_s=5.0,
                size_bytes=size_bytes,
                database_size_bytes=4 * size_bytes,
                source=SOURCE,
                files={
                    name: FileRecord(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()
                },
                fingerprint=fingerprint,
                change_id=None,
                collection_version="0.1.0",
            )
        )
    if verdict is not None:
        add_verdict(root, db, Path(path).name, verdict, verified_at or taken + timedelta(minutes=10))
    return Path(path)


def add_verdict(root: Path, db: str, backup: str, verdict: str, at: datetime, why: str = "by a test") -> None:
    """Record a verdict on a backup."""
    catalog = catalog_at(root)
    catalog.record(catalog.find(db, backup), Verification(verdict, to_rfc3339(at), why, {}))


def backups(root: Path, db: str) -> list[Entry]:
    """Return what the catalog lists, newest first."""
    return list(catalog_at(root).entries(db))


def ids(root: Path, db: str) -> list[str]:
    """Return the names of what the catalog lists, newest first."""
    return [entry.id for entry in backups(root, db)]


def leave_half_done(root: Path, db: str, taken: datetime, suffix: str = "partial") -> Path:
    """Leave what a run that was killed leaves."""
    name = directory_name(db)
    path = root / name / f"{name}_{taken:%Y%m%dT%H%M%SZ}.{suffix}"
    path.mkdir(parents=True)
    (path / "data.sql").write_bytes(DATA[:10])
    return path


def tree_of(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below a directory with its type, mode, size, content and times, to see that nothing was changed."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, content)
    return found


@contextlib.contextmanager
def stopped_backup(database: Database, root: Path) -> Iterator[RunningModule]:
    """Begin a backup, stop the process when its directory is there, and kill it in the end."""
    database.execute(*[f"CREATE TABLE many_{number} (id int PRIMARY KEY)" for number in range(200)])
    running = start_module("pg_backup", params(database, root, jobs=1))
    try:
        deadline = time.monotonic() + 60
        while not catalog_at(root).unfinished(database.name):
            assert running.process.poll() is None, running.finish()
            assert time.monotonic() < deadline, "the backup did not begin"
            time.sleep(0.001)
        os.kill(running.pid, signal.SIGSTOP)
        assert catalog_at(root).unfinished(database.name), "the backup ended before it could be stopped"
        yield running
    finally:
        running.process.kill()
        running.process.communicate()
