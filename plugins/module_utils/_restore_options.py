# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that `restore_procedure` shares with the modules it runs, documented in `doc_fragments/restore.py`."""

from __future__ import annotations

from ._argspec import ArgumentSpec, between, duration, size

STAGE = ArgumentSpec(
    {
        "backup": {"type": "str", "default": "latest"},
        "force": {"type": "bool", "default": False},
        "jobs": between(1, 1000),
        "nice": between(0, 19, 0),
        "max_replica_lag": size(),
        "analyze": {"type": "bool", "default": True},
        "smoke_queries": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"query": {"type": "str", "required": True}, "expect": {"type": "str"}},
        },
        "accept": {"type": "list", "elements": "str", "choices": ["definitions"], "default": []},
        "accept_unproven": {"type": "bool", "default": False},
        "keep_failed": {"type": "bool", "default": False},
        "scratch_dir": {"type": "path", "default": "/var/tmp"},  # noqa: S108  # below it in a directory of its own
        "check_space": {"type": "bool", "default": True},
    }
)

SWAP = ArgumentSpec({"keep_old": duration("7d"), "grace": duration("5s")})

ALLOW = ArgumentSpec(
    {"allow": {"type": "list", "elements": "str", "choices": ["replication_slot", "subscription"], "default": []}}
)
