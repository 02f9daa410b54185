# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a relation's bloat, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Of how a figure was found, from the best to none at all.
CONFIDENCES = ("high", "medium", "low", "none")


@dataclass(frozen=True)
class Relation:
    """One relation with storage, as a report shows it.

    Attributes:
        oid: in this database.
        schema: its schema's name; of a TOAST table the schema of its owner.
        name: its name; of a TOAST table that of its owner.
        table: the table that an index or a TOAST table belongs to; otherwise its own name.
        kind: `table`, `toast`, `materialized view` or `index`.
        access_method: `heap`, `btree`, `gin` ...
        size_bytes: the size of its main fork.
        live_bytes: what its live rows or entries take, or None when it is not known. So for the next two.
        dead_bytes: what dead rows take that no VACUUM has removed yet.
        free_bytes: free space in its pages, that of the fillfactor among it.
        bloat_bytes: what a rewrite at its own fillfactor would give back to the file system, or None.
        bloat_ratio: the same as a share of `size_bytes`, 0 to 1, or None.
        method: how it was found: `pgstattuple`, `pgstattuple_approx`, `pgstatindex`, `pgstathashindex`, `pageinspect`,
            `pg_freespacemap`, `estimate`, `none`.
        confidence: `high` when it was measured, `medium` for a good estimate, `low`, or `none` with no figure at all.
        note: why the confidence is not better, or why there is no figure; empty when there is nothing to say.
        fillfactor: in per cent.
        live_tuples: how many rows live, as the server's statistics or the measurement tell, or None.
        dead_tuples: how many are dead, or None.
        freeze_age: transactions since the oldest row that is not frozen; of tables and TOAST tables.
        last_vacuum: RFC 3339, the later of manual and automatic, or None for never. So for the next.
        last_analyze: likewise.
        recommendation: `vacuum`, `reindex`, `repack`, `analyze` or `nothing`.
        why: one sentence.
    """

    oid: int
    schema: str
    name: str
    table: str
    kind: str
    access_method: str
    size_bytes: int
    live_bytes: int | None = None
    dead_bytes: int | None = None
    free_bytes: int | None = None
    bloat_bytes: int | None = None
    bloat_ratio: float | None = None
    method: str = "none"
    confidence: str = "none"
    note: str = ""
    fillfactor: int = 100
    live_tuples: int | None = None
    dead_tuples: int | None = None
    freeze_age: int | None = None
    last_vacuum: str | None = None
    last_analyze: str | None = None
    recommendation: str = "nothing"
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For a module's result."""
        return asdict(self)
