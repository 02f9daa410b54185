# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds the xmin horizon, so that VACUUM cannot remove dead rows: a snapshot may still need them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ..._findings import Finding
from ..._postgres import procedures
from ..._postgres.connection import Session
from ..._units import counted
from . import sql

_MOMENT_S = 2.0  # in which short statements end
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class XminHolder:
    """A session, standby, slot or prepared transaction that may still need old rows.

    Attributes:
        kind: `session`, `replica` (a standby), `slot` or `prepared`.
        subject: the process id, the name of the standby or the slot, the id of the prepared transaction.
        age: transactions since the oldest that it may see.
        since: a moment at which it held them already, or None when that is not known.
        about: its role, program and state, for people.
        began: when its transaction began, where it has one.
        procedure: the kind of procedure that the session belongs to, as `backup`; None for all others.
    """

    kind: str
    subject: str
    age: int
    since: datetime | None
    about: str
    began: datetime | None
    procedure: str | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What it has in common with itself at another moment."""
        return (self.kind, self.subject, self.began)

    def __str__(self) -> str:
        if self.procedure:
            return f"{procedures.name(self.procedure).lower()} (process {self.subject}, {self.about})"
        word = {"session": "process", "prepared": "prepared transaction", "replica": "standby"}.get(
            self.kind, self.kind
        )
        return f"{word} {self.subject} ({self.about})"

    @property
    def remedy(self) -> str:
        """What lets go of the rows."""
        text = self.subject.replace("'", "''")
        if self.procedure:
            return "Wait until it has ended, since its snapshot lasts as long as it runs. Do not terminate it."
        if self.kind == "session":
            return f"Wait until it has ended, or terminate it: SELECT pg_terminate_backend({text})."
        if self.kind == "prepared":
            return f"Finish it: COMMIT PREPARED '{text}', or ROLLBACK PREPARED '{text}', in this database."
        if self.kind == "slot":
            return (
                "End the long query on the standby that uses it. If the slot is not needed any more:"
                f" SELECT pg_drop_replication_slot('{text}')."
            )
        return "End the long query on the standby, or turn off hot_standby_feedback there."


def holders(session: Session) -> list[XminHolder]:
    """All holders, the oldest first. Without pg_read_all_stats only what the login's own sessions hold."""
    return [XminHolder(*row) for row in session.query(sql.HOLDERS) if row.age is not None]


def staying(session: Session) -> XminHolder | None:
    """The oldest of those that hold rows now and still do after a moment: what is dead now has to stay."""
    found = holders(session)
    deadline = time.monotonic() + _MOMENT_S
    while found and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        now = {each.identity for each in holders(session)}
        found = [each for each in found if each.identity in now]
    return found[0] if found else None


def held_since(found: Sequence[XminHolder], vacuumed: datetime | None) -> XminHolder | None:
    """What held the rows already when the table was last vacuumed: VACUUM has left what it may still need."""
    if vacuumed is None:
        return None
    return next((each for each in found if each.since is not None and each.since < vacuumed), None)


def finding(holder: XminHolder, tables: Sequence[str], dead: int) -> Finding:
    """That rows of these tables cannot be removed, and what to do."""
    return Finding(
        check="vacuum_xmin_horizon",
        severity="warning",
        subject=holder.subject,
        value=holder.age,
        threshold=None,
        message=f"{counted(dead, 'dead row')} in {', '.join(tables)} cannot be removed: {holder} may still need them.",
        remedy=holder.remedy,
    )
