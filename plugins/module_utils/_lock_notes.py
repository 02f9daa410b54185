# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a held lock says of its holder."""

from __future__ import annotations

import json
import os
import time


def holder_note(purpose: str) -> str:
    """What the holder of a lock writes into its file."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"purpose": purpose, "pid": os.getpid(), "since": since})


def describe_holder(note: bytes) -> str:
    """Who holds a lock, in words, from what is in its file."""
    try:
        found = json.loads(note)
        return f"{found['purpose']} by process {found['pid']} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process holds it"
