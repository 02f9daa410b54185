# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of every object that pg_dump carries, so that two schemas can be compared.

A definition names other objects and roles, never an OID. Tablespaces are no part of it: a backup and its restores leave
them out. Floor: PostgreSQL 13.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import schema_others, schema_relations
from .schema_words import Statement


def statements(server_version: int) -> Mapping[str, Statement]:
    """One statement a part, by its name: the server works on small sorts, and a refused one can be named."""
    major = server_version // 10000
    every = {**schema_relations.statements(major), **schema_others.statements(major)}
    return {part: statement for part, statement in every.items() if major >= statement.since}
