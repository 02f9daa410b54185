# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The section `schema` on the pages."""

from __future__ import annotations

from .section import SectionPage

SECTION = SectionPage(
    name="schema",
    title="Schema",
    columns={
        "fullest_sequences": ["name", "table", "column", "used_ratio", "last", "end", "left"],
        "disabled_trigger_list": ["kind", "name", "table"],
        "unenforced_constraint_list": ["name", "table"],
        "not_validated_constraint_list": ["name", "table"],
        "tables_without_primary_key_list": ["name"],
        "not_populated_view_list": ["name"],
        "duplicate_indexes_list": ["name", "size_bytes"],
        "redundant_indexes_list": ["name", "size_bytes"],
        "keys_without_index_list": ["name", "size_bytes"],
    },
)
