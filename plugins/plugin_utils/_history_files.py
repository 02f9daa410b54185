# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files with samples over time: `history/<name>.jsonl` in the folder of a host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from . import _history
from ._files import alone, one_part, replace_text
from ._history import HistorySample


def path_of(folder: str, name: str) -> str:
    """The file for samples of this name of the host with this folder."""
    return os.path.join(folder, "history", f"{one_part(name)}.jsonl")


def read(path: str) -> tuple[list[HistorySample], list[str]]:
    """The samples, oldest first, and what there is to say of the file. A missing file is an empty history.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return _history.parse(file.read())
    except FileNotFoundError:
        return [], []


def add(
    path: str, sample: Mapping[str, Any], keep: int, now: datetime, spare: bool = False
) -> tuple[list[HistorySample], list[str]]:
    """Add a sample, also while other runs add theirs, and return what `read` returned before.

    Args:
        path: the file.
        sample: what to add.
        keep: how many samples to keep.
        now: the time of a sample that does not say its own.
        spare: whether those that are there already all count as kept: another playbook may keep more of them.

    Raises:
        OSError: it cannot be read or replaced.
        ValueError: the sample has a time that is none.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    with alone(folder):
        samples, notes = read(path)
        most = max(keep, len(samples)) if spare else keep
        replace_text(path, _history.dump(_history.append(samples, sample, most, now)))
    return samples, notes
