# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of a backup's verifications: a file each, and the one that was written last counts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from .._target.base import FileInfo, Files
from .._units import from_rfc3339, utc_now

VERDICTS = ("verified", "incomplete", "failed", "inconclusive")
FOLDER = "verifications"
# A catalog may be written by several hosts; their clocks differ by no more than this unless one is wrong.
CLOCK_SKEW_S = 300.0
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"\d{8}T\d{6}Z\.json")


@dataclass(frozen=True)
class Verification:
    """The record of one verification; `checked_at` is RFC 3339 in UTC."""

    verdict: str
    checked_at: str
    why: str
    details: Mapping[str, Any]


def newest(files: Files, backup: str, tree: Sequence[FileInfo]) -> Verification | None:
    """The last record of a backup, `tree` being all that is below its path.

    One from the future is of a clock that was wrong: it hides no other, and proves nothing, but it may still warn.
    """
    soon, warning = _soon(), None
    for info in _records(backup, tree):
        found = _parsed(files.read(info.path))
        if found is None:
            continue  # an older one may still prove something
        if from_rfc3339(found.checked_at) <= soon:
            return found
        if found.verdict == "failed" and warning is None:
            warning = found
    return warning


def record(files: Files, backup: str, verification: Verification) -> None:
    """Add a record. By its name it comes after those that are there, although a clock may say otherwise."""
    directory = f"{backup}/{FOLDER}"
    files.make_dir(directory)
    at, soon = from_rfc3339(verification.checked_at), _soon()
    for info in files.entries(directory):
        if _NAME.fullmatch(info.name):
            with suppress(ValueError):  # digits that are no date
                known = datetime.strptime(info.name, f"{_STAMP}.json").replace(tzinfo=timezone.utc)
                if at <= known <= soon:
                    at = known + timedelta(seconds=1)
    document = {
        "schema_version": 1,
        "verdict": verification.verdict,
        "checked_at": verification.checked_at,
        "why": verification.why,
        **verification.details,
    }
    data = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    files.write(f"{directory}/{at.strftime(_STAMP)}.json", data)


def _soon() -> datetime:
    return utc_now() + timedelta(seconds=CLOCK_SKEW_S)


def _records(backup: str, tree: Sequence[FileInfo]) -> Iterator[FileInfo]:
    """The files that may be records, the last one first."""
    for info in reversed(tree):
        folder, dummy, name = info.path[len(backup) + 1 :].rpartition("/")
        if folder == FOLDER and name.endswith(".json") and not info.irregular:
            yield info


def _parsed(data: bytes) -> Verification | None:
    """A record, or None for a torn or foreign file."""
    try:
        document = json.loads(data)
        if document["verdict"] not in VERDICTS:
            return None
        from_rfc3339(document["checked_at"])
        known = {"schema_version", "verdict", "checked_at", "why"}
        details = {name: value for name, value in document.items() if name not in known}
        return Verification(document["verdict"], document["checked_at"], str(document["why"]), details)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
