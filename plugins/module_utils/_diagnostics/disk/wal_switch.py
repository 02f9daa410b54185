# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the current WAL file early, where that is of use: so that it is archived."""

from __future__ import annotations

from dataclasses import dataclass

from ..._errors import InvalidInput
from ..._postgres.connection import Session
from ..._units import human_size
from . import sql
from .wal_retention import SWITCH_ADVICE

# The header of a file (40 bytes), and what an idle server writes by itself after a switch: the running transactions
# and perhaps a checkpoint, of some 100 bytes each.
IDLE_BYTES = 1024


@dataclass(frozen=True)
class Switch:
    """What came of it.

    Attributes:
        due: whether the file was, or in check mode would be, ended.
        ended: its name; None when it was left alone.
        current: the file that is written now. In check mode the same as `ended`.
        written_bytes: what the file had.
        why: why, or why not.
    """

    due: bool
    ended: str | None
    current: str
    written_bytes: int
    why: str


def switch(session: Session, *, force: bool, rehearsal: bool) -> Switch:
    """Switch if it is of use. `force`: also without an archive, and however little was written.

    Raises:
        InvalidInput: the server is a standby, which writes no WAL of its own.
        QueryFailed: the login may not switch.
    """
    at = session.query(sql.WAL_POSITION)[0]
    if at.standby:
        raise InvalidInput(
            "The WAL file cannot be switched",
            why="the server is a standby, which only writes WAL of its primary",
            remedy="Run it on the primary.",
        )
    if at.archive_mode == "off" and not force:
        why = f"A switch has no use because nothing is archived here (archive_mode is off). {SWITCH_ADVICE}"
        return Switch(False, None, at.file, at.written_bytes, why)
    written = human_size(at.written_bytes)
    if at.written_bytes <= IDLE_BYTES and not force:
        why = f"Since the last switch the server has written no more than an idle server does ({written})."
        return Switch(False, None, at.file, at.written_bytes, why)
    why = f"{at.file} has {written}."
    if rehearsal:
        return Switch(True, at.file, at.file, at.written_bytes, why)
    session.execute(sql.WAL_SWITCH)
    after = session.query(sql.WAL_POSITION)[0]
    # Right after another switch the server has nothing to do.
    return Switch(after.file != at.file, at.file if after.file != at.file else None, after.file, at.written_bytes, why)
