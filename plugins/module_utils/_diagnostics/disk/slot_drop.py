# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drop one replication slot that nobody uses, by its name."""

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
        InvalidInput: that is no name of a slot, or somebody uses it.
        QueryFailed: the login may not, or somebody began to use it just now.
    """
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name):
        raise InvalidInput(
            "Invalid name",
            subject=repr(name),
            why="no replication slot can be called that",
            remedy="Give the whole name of one slot: lower-case letters, digits and underscores.",
        )
    rows = session.query(sql.SLOT, (name,))
    if not rows:
        return Dropped(name, False)
    slot = rows[0]
    if slot.active:
        user = f"process {slot.active_pid}" + (f" ({slot.application})" if slot.application else "")
        raise InvalidInput(
            "A replication slot in use is not dropped",
            subject=name,
            why=f"{user} uses it",
            remedy="Stop its consumer for good first. See the playbook godel.postgres_runbook.replication.",
        )
    session.execute(sql.DROP_SLOT, (name,))
    return Dropped(name, True, slot.type, slot.database, slot.held_bytes)
