# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a restored copy with its source while the copy is there, so that the server itself can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .._db import Server
from .figures import Difference, Fingerprint, compare

# Each object's definition as texts, by kind and name as in `Fingerprint.objects`.
Texts = Mapping[str, object]


@dataclass(frozen=True)
class Original:
    """What a backup knows of its source: the figures, and how to read the texts of the definitions (seldom needed)."""

    fingerprint: Fingerprint
    texts: Callable[[], Texts]


def differences(server: Server, db: str, source: Original, copy: Fingerprint) -> list[Difference]:
    """Every difference between a source and its restored copy, which is the database `db` of the server.

    Raises:
        QueryFailed, ConnectionFailed: the copy cannot be read.
    """
    return compare(source.fingerprint, copy)
