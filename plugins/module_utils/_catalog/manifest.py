# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what a backup is, in one JSON document. docs/manifest.schema.json describes it for other programs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from .._errors import ManifestProblem, NewerManifest
from .._findings import Finding
from .._fingerprint.figures import Fingerprint, checked
from .._units import from_rfc3339

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
_SEAL = b'\n "manifest_sha256": "'
_BLANK = b"0" * 64


@dataclass(frozen=True)
class FileRecord:
    """A file of the backup: its size in bytes and its SHA-256 in hexadecimal digits."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class SourceDatabase:
    """What a restore needs to know of the source beside its content.

    `bootstrap_role` is the superuser that initdb made; `roles` and `extensions` are those of the source; `settings`
    are those of ALTER DATABASE SET; the rest is how CREATE DATABASE made the database. Of the roles, `superusers` and
    `bypassrls` are those that may, and `members` tells by role who has its rights. Manifests of before have none of it.

    Nor have they what follows: `comment` and `connection_limit` (-1: none) are those of the database, `role_settings`
    by role those of ALTER ROLE IN DATABASE SET, and `grants` by role (`public`: PUBLIC; no role can have that name)
    the privileges on it, with ` WITH GRANT OPTION` behind those that may be passed on. None: not known.

    Later came what content can depend on beside the database itself. `login_settings` are those of ALTER ROLE SET by
    role (empty: ALTER ROLE ALL SET), `server_settings` those of the server that a session could set as well, custom
    ones among them, and `start_settings` the custom ones that only a start sets. `preloaded` are the libraries of
    shared_preload_libraries in their order. `tablespace` and `is_template` are those of the database, `tablespaces`
    the other ones that relations of it lie in.
    """

    owner: str
    encoding: str
    collate: str
    ctype: str
    locale_provider: str
    locale: str | None
    icu_rules: str | None
    bootstrap_role: str
    roles: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=list)
    superusers: list[str] = field(default_factory=list)
    bypassrls: list[str] = field(default_factory=list)
    members: Mapping[str, list[str]] = field(default_factory=dict)
    comment: str | None = None
    connection_limit: int = -1
    role_settings: Mapping[str, list[str]] = field(default_factory=dict)
    grants: Mapping[str, list[str]] | None = None
    login_settings: Mapping[str, list[str]] = field(default_factory=dict)
    server_settings: Mapping[str, str] = field(default_factory=dict)
    start_settings: Mapping[str, str] = field(default_factory=dict)
    preloaded: list[str] = field(default_factory=list)
    tablespace: str = "pg_default"
    tablespaces: list[str] = field(default_factory=list)
    is_template: bool = False


@dataclass(frozen=True)
class Manifest:
    """A backup. Times are RFC 3339 in UTC; `started` is when its snapshot was taken, which is how old its data are.

    `findings` (see `_findings`) tell what its source had and the backup lacks.
    """

    id: str
    database: str
    method: str
    format: str
    compression: str
    tool: str
    server_version: str
    system_identifier: str
    timeline: int
    lsn: str
    started: str
    finished: str
    duration_s: float
    size_bytes: int
    database_size_bytes: int
    source: SourceDatabase
    files: Mapping[str, FileRecord]
    fingerprint: Fingerprint | None
    change_id: str | None
    collection_version: str
    findings: tuple[Mapping[str, Any], ...] = ()

    @property
    def started_at(self) -> datetime:
        """`started` as a moment."""
        return from_rfc3339(self.started)

    @property
    def server_major(self) -> int:
        """The source's major version."""
        return int(self.server_version.split(".")[0])

    @property
    def tool_major(self) -> int:
        """The major version of the program that wrote the backup (`pg_dump 15.18`)."""
        match = re.match(r"\d+", self.tool.split()[-1])
        return int(match.group()) if match else 0

    @property
    def losses(self) -> list[Finding]:
        """`findings`, as such."""
        return [Finding(**each) for each in self.findings]

    def summary(self) -> dict[str, object]:
        """For a module's result: everything but the lists that grow with the database."""
        long = ("files", "source", "fingerprint", "findings")
        found = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in long}
        found["fingerprint"] = self.fingerprint.summary() if self.fingerprint else None
        return found


def dump(manifest: Manifest) -> bytes:
    """The manifest as JSON, with a digest of itself."""
    document = {"schema_version": SCHEMA_VERSION, **asdict(manifest), "manifest_sha256": _BLANK.decode()}
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    at = _seal_at(data)
    return data[:at] + hashlib.sha256(data).hexdigest().encode() + data[at + len(_BLANK) :]


def load(data: bytes, path: str) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestProblem: it is no manifest, was changed after it was written, or is from a newer version.
    """
    try:
        document = json.loads(data)
        version = document["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerManifest(
                "A manifest is from a newer version of this collection",
                subject=path,
                why=f"it has schema version {version}, and this version reads up to {SCHEMA_VERSION}",
                remedy="Upgrade the collection, then run again.",
            )
        if version != SCHEMA_VERSION or not _sealed(data):
            raise ManifestProblem(
                "A manifest was changed after it was written",
                subject=path,
                why="its own digest does not match",
                remedy="Do not trust this backup: use another one, and find out who changed it.",
            )
        return _from_document(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ManifestProblem(
            "A manifest cannot be read",
            subject=path,
            why=f"{type(exc).__name__}: {exc}",
            remedy="Do not trust this backup: use another one.",
        ) from None


def _seal_at(data: bytes) -> int:
    """Where the digest stands: one blank deep is only the document itself, and no string has a bare line break."""
    return data.find(_SEAL) + len(_SEAL)  # without one, the digest cannot match


def _sealed(data: bytes) -> bool:
    """Whether the text is, byte for byte, what was written; the digest is that of the text with zeros in its place."""
    at = _seal_at(data)
    written = data[at : at + len(_BLANK)]
    digest = hashlib.sha256(data[:at])
    digest.update(_BLANK)
    digest.update(data[at + len(_BLANK) :])
    return digest.hexdigest().encode() == written


def _from_document(document: Mapping[str, Any]) -> Manifest:
    values = {name: value for name, value in document.items() if name not in ("schema_version", "manifest_sha256")}
    values["source"] = _source(values["source"])
    values["files"] = {name: checked(FileRecord(**record)) for name, record in values["files"].items()}
    if values["fingerprint"] is not None:
        values["fingerprint"] = Fingerprint.from_dict(values["fingerprint"])
    values["findings"] = tuple(asdict(checked(Finding(**each))) for each in values.get("findings", []))
    manifest = checked(Manifest(**values))
    from_rfc3339(manifest.started)
    return manifest


def _source(document: Mapping[str, Any]) -> SourceDatabase:
    found = checked(SourceDatabase(**document))
    for each in (found.members, found.role_settings, found.grants or {}, found.login_settings):
        for texts in each.values():
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise TypeError("members, grants or settings of roles are not lists of texts")
    if not all(
        isinstance(text, str) for each in (found.server_settings, found.start_settings) for text in each.values()
    ):
        raise TypeError("settings of the server are not texts")
    return found
