# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a server keeps its data and WAL, if the target has them."""

from __future__ import annotations

from .._errors import FileProblem
from .._target.base import Target
from . import sql
from .connection import Session

_START_TOLERANCE_S = 60.0  # between the time in postmaster.pid and what the server says


def places(session: Session, target: Target) -> list[str] | None:
    """The directories in which the server keeps data and WAL, or None if the target does not have this server's.

    The login needs pg_read_all_settings.
    """
    told = session.query(sql.PLACES)[0]
    try:
        lines = target.files.read(f"{told.data_directory}/postmaster.pid", 4096).decode("utf-8", "replace").split("\n")
        started, port = int(lines[2]), int(lines[3])
    except (FileProblem, IndexError, ValueError):
        return None
    # The same path may be another server's: the login may lead to another host.
    if port != told.port or abs(started - told.started) > _START_TOLERANCE_S:
        return None
    return [told.data_directory, f"{told.data_directory}/pg_wal", *told.tablespaces]
