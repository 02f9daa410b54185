# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On which disks of the server a restored database goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .._catalog.manifest import SourceDatabase
from .._errors import NotEnoughSpace
from .._findings import Finding
from .._load.databases import Database
from .._load.source_database import DEFAULT
from .._target.base import Target
from .._units import human_size

_WAL_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True)
class Choice:
    """The default tablespace of the copy, whether relations keep tablespaces of their own, and what is lost."""

    default: str = DEFAULT
    keeps_others: bool = False
    findings: list[Finding] = field(default_factory=list)


def choose(
    there: Mapping[str, str], like: SourceDatabase | None, production: Database | None, *, named: bool
) -> Choice:
    """Production's tablespace, or where there is no production the source's, if this server has it.

    Args:
        there: the location of each tablespace of the server.
        like: the backup's source; None if it is not known.
        named: the dump names the tablespaces of relations. A plain script does not, which is a loss of the backup.
    """
    wanted = production.tablespace if production else like.tablespace if like else DEFAULT
    default = wanted if wanted in there else DEFAULT
    others = like.tablespaces if like and named else []
    missing = [name for name in others if name not in there]
    findings = [_missing(name, f"its relations are restored to {default}") for name in missing]
    if default != wanted:
        findings.append(_missing(wanted, f"the database is restored to {default}"))
    return Choice(default, bool(others) and not missing, findings)


def _missing(name: str, what: str) -> Finding:
    return Finding(
        check="restore_tablespace",
        severity="warning",
        subject=name,
        value="missing",
        threshold="present",
        message=f"The server has no tablespace {name}: {what}.",
        remedy="Create the tablespace before the restore, or move its relations after the swap.",
    )


def disk(target: Target, data_directory: str, location: str) -> str:
    """The directory whose disk takes the copy: the tablespace's where it is on this host, else the server's own."""
    return location if location.startswith("/") and target.files.info(location) is not None else data_directory


def refuse_full(data_directory: str, free_bytes: int) -> None:
    """Raise NotEnoughSpace if the disk of the WAL is all but full, wherever the copy itself goes."""
    if free_bytes < _WAL_BYTES:
        raise NotEnoughSpace(
            "There is not enough space for the WAL of a restore",
            subject=data_directory,
            why=f"it needs about {human_size(_WAL_BYTES)} at a time, and {human_size(free_bytes)} are free",
            remedy="Free some space there. check_space: false skips this check.",
            details={"estimate_bytes": _WAL_BYTES, "free_bytes": free_bytes},
        )
