# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop one unused replication slot by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..._errors import InvalidInput
from ..._postgres.connection import Session
from ..._units import human_size
from . import sql


@dataclass(frozen=True)
class Dropped:
    """The slot as it was; `present` is False when there was none of that name."""

    name: str
    present: bool
    type: str | None = None
    database: str | None = None
    held_bytes: int | None = None

    @property
    def held(self) -> str:
        """How much it held, in words."""
        return "no WAL" if self.held_bytes is None else human_size(self.held_bytes)


def drop(session: Session, name: str) -> Dropped:
    """Drop it. In check mode the session does not.

    Raises:
        InvalidInput: the name is invalid, or the slot is in use.
        QueryFailed: the login lacks the privilege, or a consumer has just begun to use the slot.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise InvalidInput(
            "Invalid name",
            subject=repr(name),
            why="it is not a valid name of a replication slot",
            remedy="Give the full name of one slot: lower-case letters, digits and underscores.",
        )
    rows = session.query(sql.SLOT, (name,))
    if not rows:
        return Dropped(name, False)
    slot = rows[0]
    if slot.active:
        user = f"process {slot.active_pid}" + (f" ({slot.application})" if slot.application else "")
        raise InvalidInput(
            "Dropping a replication slot failed",
            subject=name,
            why=f"{user} is using it",
            remedy="First stop its consumer permanently. See the playbook godel.postgres_runbook.replication.",
        )
    session.execute(sql.DROP_SLOT, (name,))
    return Dropped(name, True, slot.type, slot.database, slot.held_bytes)
