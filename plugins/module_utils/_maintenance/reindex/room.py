# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rebuilt index has room beside the old one."""

from __future__ import annotations

from ..._postgres.connection import Session
from ..._postgres.directories import places
from ..._target.base import Target
from ..._units import human_size
from .. import sql as limits_sql
from . import sql
from .choose import IndexRebuild, ReindexPlan


class IndexRoom:
    """Whether a second copy of an index fits, where that can be seen."""

    def __init__(self, session: Session, target: Target, plan: ReindexPlan) -> None:
        """Look where the server keeps its data. `note` says so if that cannot be seen."""
        self._session = session
        self._target = target
        self.note = ""
        self._home: str | None = None
        if not plan.check_space:
            return
        if session.query(limits_sql.RIGHTS)[0].places:
            seen = places(session, target)
            self._home = seen[0] if seen else None
        if self._home is None:
            self.note = "Free space for a second copy of each index cannot be checked from here."

    def problem(self, rebuild: IndexRebuild) -> str:
        """Why it does not fit, or nothing: the new index stands beside the old one, and is sorted in files before."""
        if self._home is None:
            return ""
        size = max(0, rebuild.index.size_bytes - rebuild.gain_bytes)
        wanted = size * 2 if size > self._session.value(sql.SORT_BYTES) else size
        place = self._session.value(sql.PLACE, (rebuild.index.tablespace,)) or self._home
        free = self._target.files.space(place).free_bytes
        if free >= wanted:
            return ""
        return f"a second copy needs about {human_size(wanted)}, and {human_size(free)} are free in {place}"
