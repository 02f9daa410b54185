# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Skip tables that autovacuum is working on.

A worker of autovacuum is cancelled a second after another session wants its lock, and the work of hours is lost. One
against wraparound does not give way, and would be waited for in vain. In either case the table is being vacuumed.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._postgres.connection import Session
from . import sql

BUSY = "autovacuum is processing it"


def busy(session: Session, tables: Sequence[int], *, toast: bool = False, vacuum_only: bool = False) -> bool:
    """Whether autovacuum holds one of these tables, which are given by OID.

    Args:
        toast: or its TOAST table.
        vacuum_only: a worker that only gathers statistics does not count.
    """
    rows = session.query(sql.WORKERS, {"tables": list(tables), "toast": toast})
    return any(row.vacuums or not vacuum_only for row in rows)
