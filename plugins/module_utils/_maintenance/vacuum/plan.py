# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator wants of VACUUM, and the statements that say it to a server of some version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._errors import InvalidInput
from ..._plan import Plan
from ..._postgres.statements import compose
from ..work import timeouts

REPACK = "repack"
# The major that an option needs.
_SINCE = {"process_toast": 14, "index_cleanup: auto": 14, "buffer_usage_limit": 16}
_SKIP_DATABASE_STATS = 160000


@dataclass(frozen=True)
class VacuumPlan(Plan):
    """What the operator wants. Times in seconds, sizes in bytes, ages in transactions; None is the server's default.

    Attributes:
        tables: `name` or `schema.name`: these, unless there is nothing to do. Empty: those above a threshold.
        schemas: only these; empty for all but the system's.
        min_dead_ratio: share of dead rows, 0 to 1, and `min_dead_tuples` of them, above which a table is vacuumed.
        max_freeze_age: age above which one is vacuumed; None is three quarters of its autovacuum_freeze_max_age.
        full: rewrite what is bloated, under an exclusive lock.
        method: `vacuum`, or `repack` to rewrite by pg_repack, almost without one.
        min_bloat_bytes: what a rewrite has to give back, and
        min_bloat_ratio: as a share of the table with its indexes and TOAST.
    """

    db: str
    tables: Sequence[str] = ()
    schemas: Sequence[str] = ()
    min_dead_ratio: float = 0.2
    min_dead_tuples: int = 1000
    max_freeze_age: int | None = None
    analyze: bool = True
    freeze: bool = False
    parallel: int | None = None
    index_cleanup: str | None = None
    truncate: bool | None = None
    skip_locked: bool = False
    buffer_usage_limit_bytes: int | None = None
    process_toast: bool | None = None
    cost_delay_s: float | None = None
    cost_limit: int | None = None
    lock_timeout_s: float = 10.0
    statement_timeout_s: float = 0.0
    full: bool = False
    method: str = "vacuum"
    min_bloat_bytes: int = 0
    min_bloat_ratio: float = 0.0
    measure_budget_s: float = 0.0
    measure_bytes: int = 0
    bin_dir: str | None = None
    scratch_dir: str = ""

    @property
    def action(self) -> str:
        """What is done to a table: `vacuum`, `vacuum full` or `repack`."""
        return REPACK if self.method == REPACK else "vacuum full" if self.full else "vacuum"

    def aged_only(self, db: str) -> VacuumPlan:
        """The same for another database, in which only what nears wraparound is worked on."""
        return replace(self, db=db, min_dead_ratio=1.0, min_dead_tuples=2**31, analyze=False)

    @property
    def rewrites(self) -> bool:
        """Whether tables get new files."""
        return self.full or self.method == REPACK

    def check(self, *, has_window: bool) -> None:
        """Raise InvalidInput for what cannot work anywhere."""
        if self.full and self.method != REPACK and not has_window:
            raise InvalidInput(
                "full needs a maintenance window",
                why="VACUUM FULL locks each table exclusively, reading included, for as long as it takes",
                remedy="Set window, or use method: repack.",
            )
        without = {
            "parallel": self.parallel is not None,
            "index_cleanup": self.index_cleanup is not None,
            "truncate": self.truncate is not None,
            "process_toast": self.process_toast is not None,
            "freeze": self.freeze and self.method == REPACK,
            "skip_locked": self.skip_locked and self.method == REPACK,
        }
        given = [option for option, found in without.items() if found]
        if self.rewrites and given:
            raise InvalidInput(
                "These options do not apply to a rewrite",
                subject=", ".join(given),
                why="it writes the table and all of its indexes again",
                remedy="Remove them.",
            )

    def refuse_old(self, server_version: int, version: str) -> None:
        """Raise InvalidInput for an option that this server does not know yet."""
        wanted = {
            "process_toast": self.process_toast is not None,
            "index_cleanup: auto": self.index_cleanup == "auto",
            "buffer_usage_limit": self.buffer_usage_limit_bytes is not None,
        }
        for option, given in wanted.items():
            if given and server_version < _SINCE[option] * 10000:
                raise InvalidInput(
                    f"VACUUM of this server has no {option}",
                    subject=f"PostgreSQL {version}",
                    why=f"it needs PostgreSQL {_SINCE[option]}",
                    remedy="Remove the option.",
                )

    def settings(self) -> dict[str, str]:
        """For the session that works."""
        found = {
            **timeouts(self.lock_timeout_s, self.statement_timeout_s),
            "idle_in_transaction_session_timeout": "0",
        }
        if self.cost_delay_s is not None:
            found["vacuum_cost_delay"] = f"{self.cost_delay_s * 1000:g}ms"
        if self.cost_limit is not None:
            found["vacuum_cost_limit"] = str(self.cost_limit)
        return found

    def statement(self, schema: str, name: str, server_version: int, *, analyze: bool, freeze: bool) -> Any:
        """VACUUM of one table. https://www.postgresql.org/docs/current/sql-vacuum.html"""
        options = []
        if self.full:
            options.append("FULL")
        options += [word for word, wanted in (("FREEZE", freeze), ("ANALYZE", analyze)) if wanted]
        if self.skip_locked:
            options.append("SKIP_LOCKED")
        if self.parallel is not None:
            options.append(f"PARALLEL {int(self.parallel)}")
        if self.index_cleanup is not None:
            options.append(f"INDEX_CLEANUP {self.index_cleanup.upper()}")
        if self.truncate is not None:
            options.append(f"TRUNCATE {'ON' if self.truncate else 'OFF'}")
        if self.process_toast is not None:
            options.append(f"PROCESS_TOAST {'ON' if self.process_toast else 'OFF'}")
        # VACUUM FULL uses such a ring for its ANALYZE alone, and refuses the option without it.
        if self.buffer_usage_limit_bytes is not None and (analyze or not self.full):
            options.append(f"BUFFER_USAGE_LIMIT '{self.buffer_usage_limit_bytes // 1024}kB'")
        if server_version >= _SKIP_DATABASE_STATS:  # else each table costs a look at all of pg_class
            options.append("SKIP_DATABASE_STATS")
        return compose(f"VACUUM ({', '.join(options)}) {{}}.{{}}" if options else "VACUUM {}.{}", schema, name)


def has_database_stats(server_version: int) -> bool:
    """Whether the database's own age is left for the end, see `statement`."""
    return server_version >= _SKIP_DATABASE_STATS
