# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many cores a server has, for the size of a pool."""

from __future__ import annotations

from ..._errors import RunbookError
from ..._postgres.connection import Server

_HERE = ("", "localhost", "127.0.0.1", "::1")


def cores(server: Server, given: int | None) -> tuple[int | None, str]:
    """How many cores the server's machine or pod has, and from where that is known; None when it is not."""
    if given is not None:
        return given, "the option cores"
    parameters = server.login.parameters("-")
    host = parameters.get("hostaddr") or parameters.get("host", "")
    if not host.startswith("/") and host not in _HERE:
        return None, ""
    try:
        return server.target.cpus(), server.target.name
    except RunbookError:  # no right to run programs in the pod, say: the advice is worth no failure
        return None, ""
