# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse a standby before any read: writes cannot work there, and check mode must not report that they can."""

from __future__ import annotations

from .._errors import InvalidInput
from .connection import Session

_IN_RECOVERY = "SELECT pg_catalog.pg_is_in_recovery()"


def require(session: Session, statement: str, host: str) -> None:
    """Raise InvalidInput when the server is a standby. The statement is for people, the host is the login's."""
    if session.value(_IN_RECOVERY):
        raise InvalidInput(
            f"{statement} must run on the primary",
            why=f"{host or 'this server'} is a standby",
            remedy="Set login_host to the primary.",
        )
