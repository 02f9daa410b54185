"""Manifests to put into catalogs, made up but whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

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
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint.figures import (
    Fingerprint,
    LargeObjects,
    SequenceFigure,
    TableFigure,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import from_rfc3339

SOURCE = SourceDatabase(
    owner="gödel",
    encoding="UTF8",
    collate="C.UTF-8",
    ctype="C.UTF-8",
    locale_provider="c",
    locale=None,
    icu_rules=None,
    bootstrap_role="postgres",
    roles=["app"],
    extensions=["plpgsql"],
)
FINGERPRINT = Fingerprint(
    mode="content",
    algorithm="record-3",
    server_major=15,
    tables={'public."tab\x1fle"': TableFigure(3, "-12"), "public.counted": TableFigure(1)},
    sequences={"public.s": SequenceFigure(-1, 5, -2, True)},
    objects={"schema public": "0123456789abcdef"},
    large_objects=LargeObjects(1, "9"),
)


def sample_manifest(database: str = "gödel", started: str = "2026-02-06T03:04:05Z", **over: Any) -> Manifest:
    """The manifest of a backup taken at this time."""
    stamp = started.replace("-", "").replace(":", "")
    manifest = Manifest(
        id=f"{directory_name(database)}_{stamp}",
        database=database,
        method="dump",
        format="directory",
        compression="gzip:1",
        tool="pg_dump 15.18 (Debian 15.18-0+deb12u1)",
        server_version="15.18",
        system_identifier="7300000000000000000",
        timeline=1,
        lsn="0/16B3748",
        started=started,
        finished=started,
        duration_s=1.25,
        size_bytes=5,
        database_size_bytes=8192,
        source=SOURCE,
        files={"data/toc.dat": FileRecord(5, "ab" * 32)},
        fingerprint=FINGERPRINT,
        change_id="CHG1",
        collection_version="0.1.0",
    )
    return replace(manifest, **over)


def put_backup(catalog: Catalog, database: str = "gödel", started: str = "2026-02-06T03:04:05Z", **over: Any) -> Entry:
    """Write a backup into the catalog by its own means."""
    draft = catalog.begin(database, from_rfc3339(started))
    draft.commit(sample_manifest(database, started, id=draft.id, **over))
    return catalog.find(database, draft.id)
