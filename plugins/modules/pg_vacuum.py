#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_vacuum
short_description: Vacuum the tables of a PostgreSQL database that need it
version_added: 0.1.0
description:
  - Runs C(VACUUM) on tables with old rows that must be frozen, the oldest first, and on tables with many dead rows. Gathers statistics
    where they are stale. Other tables are not touched.
  - Rows that a snapshot may still need cannot be removed. A finding names what holds them (a transaction, a replication slot, a prepared
    transaction, a standby), and a table that an earlier C(VACUUM) could not clean up for that reason is skipped.
  - To prevent wraparound, the module also vacuums the system catalogs, and other template databases that allow connections. Findings name
    what prevents the oldest rows of the database from being frozen (a temporary table of a session, a transaction in any database, a prepared
    transaction, a replication slot, a standby), and other databases that are close to wraparound.
  - A table that autovacuum is processing is skipped, because the server would cancel autovacuum there and its work would be lost.
  - With O(full), or O(method=repack), bloated tables are rewritten instead.
  - The load limits are checked between tables and during each statement. After a stopped run, the next run continues with the remaining
    tables.
  - The task fails when a table listed in O(tables), or every table, could not be vacuumed. The others are vacuumed first.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  tables:
    description:
      - Vacuum only these tables and materialized views, and the partitions of partitioned tables, each as C(name) or C(schema.name), without
        quotes. They are vacuumed unless there is nothing to do.
      - The default is all tables above a threshold.
    type: list
    elements: str
    default: []
  schemas:
    description: Vacuum only tables in these schemas. The default is all schemas but the system's.
    type: list
    elements: str
    default: []
  min_dead_ratio:
    description: The share of dead rows, 0 to 1, from which a table is vacuumed. Its TOAST table is checked separately.
    type: float
    default: 0.2
  min_dead_tuples:
    description: The number of dead rows that a table must have as well.
    type: int
    default: 1000
  max_freeze_age:
    description:
      - The age, in transactions, of the oldest row that is not frozen, from which a table is vacuumed against wraparound, before all others.
      - The default is three quarters of the table's C(autovacuum_freeze_max_age), that is, 150 million. At C(autovacuum_freeze_max_age)
        autovacuum starts by itself, and does not yield to other sessions. Multixacts are treated the same way.
      - For the system catalogs, a limit below the default is ignored. With O(freeze), the lower of both limits counts.
    type: int
  analyze:
    description: Whether to gather statistics of vacuumed tables in which rows have changed since the last time.
    type: bool
    default: true
  freeze:
    description: Whether to freeze all rows that can be frozen.
    type: bool
    default: false
  parallel:
    description: The number of parallel workers that may vacuum the indexes of a table; V(0) uses none. By default the server decides.
    type: int
  index_cleanup:
    description: Whether to vacuum indexes. V(auto) needs PostgreSQL 14. The default is the setting of the table.
    type: str
    choices: [auto, "on", "off"]
  truncate:
    description: Whether to return empty pages at the end of a table to the file system. The table is locked for a moment for this. The
      default is the setting of the table.
    type: bool
  process_toast:
    description: Whether to vacuum TOAST tables as well, which is the server's default. This option needs PostgreSQL 14.
    type: bool
  skip_locked:
    description: Whether to skip locked tables without waiting.
    type: bool
    default: false
  buffer_usage_limit:
    description: How much of the shared buffers to use, for example V(2MB). This option needs PostgreSQL 16.
    type: str
  cost_delay:
    description: How long to sleep when O(cost_limit) is used up, for example V(2ms), at most V(100ms). V(0), the server's default, never sleeps.
    type: str
  cost_limit:
    description: How much work to do between two pauses, in the cost units of C(vacuum_cost_limit), up to 10000. The default is the setting
      of the server.
    type: int
  lock_timeout:
    description: How long to wait for the lock on a table. After that the table is reported as failed, and the next one is vacuumed.
    type: str
    default: 10s
  statement_timeout:
    description: How long the work on one table may take, for example V(2h). V(0) means no limit.
    type: str
    default: "0"
  full:
    description:
      - Whether to rewrite bloated tables that reach O(min_bloat_bytes) and O(min_bloat_ratio). With O(method=vacuum) each is locked
        exclusively for the whole rewrite, so O(window) is required. RV(tables[].predicted_lock_s) predicts how long that is.
      - If the module can see the server's disk, it does not rewrite a table whose copy would not fit there. With O(method=vacuum) it does
        not rewrite a table whose bloat consists of dead rows that a snapshot may still need.
    type: bool
    default: false
  method:
    description:
      - V(vacuum) is C(VACUUM), or C(VACUUM FULL) with O(full).
      - V(repack) rewrites bloated tables with C(pg_repack), which locks them only briefly. The program must be installed (on Debian
        C(postgresql-15-repack)), and its extension must exist in the database. Tables need a primary key, or a unique index on columns
        that are C(NOT NULL). Leftovers of an interrupted C(pg_repack) are dropped first.
    type: str
    choices: [vacuum, repack]
    default: vacuum
  min_bloat_bytes:
    description:
      - The space that a rewrite of a table with its TOAST table must free, for example V(1GB). The bloat of its indexes does not count, since
        M(godel.postgres_runbook.pg_reindex) removes it without locking the table.
    type: str
    default: 64MB
  min_bloat_ratio:
    description: The share of a table with its TOAST table, 0 to 1, that a rewrite must free.
    type: float
    default: 0.3
  measure_budget:
    description: The maximum total time of measurements before rewrites. V(0) uses estimates only.
    type: str
    default: 60s
  measure_bytes:
    description: The maximum size of the tables and indexes to read for measurements.
    type: str
    default: 10GB
  scratch_dir:
    description: Directory for the messages of C(pg_repack).
    type: path
    default: /var/tmp
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.load_limits
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.attributes
notes:
  - The login must own the tables or the database, have C(MAINTAIN) on them (PostgreSQL 17, role C(pg_maintain)), or be a superuser.
    C(pg_repack) needs a superuser. Without the role C(pg_monitor), the module cannot see which sessions hold dead rows.
seealso:
  - module: godel.postgres_runbook.pg_reindex
"""

EXAMPLES = r"""
- name: Vacuum tables that need it, gently, and stop when a standby falls behind
  godel.postgres_runbook.pg_vacuum:
    db: godel_production
    cost_delay: 2ms
    max_replica_lag: 30s

- name: Rewrite bloated tables in the night before Sunday
  godel.postgres_runbook.pg_vacuum:
    db: godel_production
    full: true
    min_bloat_bytes: 1GB
    window:
      days: [sat]
      start: "23:00"
      end: "04:00"
      timezone: Europe/Berlin
"""

RETURN = r"""
tables:
  description: The tables that needed work, in the order of the work.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: Its database, O(db) or a template database.
      type: str
    schema:
      description: Its schema.
      type: str
    name:
      description: Its name.
      type: str
    action:
      description: V(vacuum), V(vacuum full) or V(repack).
      type: str
    reason:
      description: V(freeze) against wraparound, V(dead) for dead rows, V(bloat) for a rewrite, or V(explicit) because it is listed.
      type: str
    state:
      description:
        - V(done), or V(due) in check mode.
        - V(skipped) when the work is not useful now, or had no effect.
        - V(failed) when it could not be done.
        - V(left) when the run was stopped before it.
      type: str
    why:
      description: Why it was chosen, while the state is V(due) or V(done). Otherwise why it was not done.
      type: str
      sample: 23% of its rows (2,300) are dead
    duration_s:
      description: How long its statements took; null if there were none.
      type: float
    analyzed:
      description: Whether its statistics were gathered.
      type: bool
    before:
      description: C(heap_bytes), C(toast_bytes), C(index_bytes), C(dead_tuples), C(freeze_age) and C(mxid_age) before.
      type: dict
    after:
      description: The same afterwards; null if nothing was done.
      type: dict
    predicted_lock_s:
      description:
        - How long C(VACUUM FULL) was predicted to lock it, from its size and the speed of the rewrites before it, or at first 40 MiB/s. Null
          when it is not locked.
      type: float
database_freeze_age:
  description: Transactions since the oldest row of the database that is not frozen, at the end of the run.
  returned: when the server shows it
  type: int
database_multixact_age:
  description: The same in multixacts.
  returned: when the server shows it
  type: int
freed_bytes:
  description: The space that was returned to the file system.
  returned: success
  type: int
cleaned:
  description: The tables from which leftovers of an interrupted C(pg_repack) were dropped.
  returned: success
  type: list
  elements: str
examined:
  description: The number of tables that were examined.
  returned: success
  type: int
left:
  description: Names of the tables that the next run must process, because the work on them failed or the run was stopped.
  returned: success
  type: list
  elements: str
stopped_by:
  description: Why the run was stopped early, as a sentence; null if it was not.
  returned: success
  type: str
notes:
  description: Remarks, for example on data that the login has no privilege to see.
  returned: success
  type: list
  elements: str
findings:
  description: Holders of dead rows, tables that failed or are left, and databases that near wraparound.
  returned: success
  type: list
  elements: dict
severity:
  description: The worst severity among the findings.
  returned: success
  type: str
msg:
  description: A summary in a few sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import (
    CONNECTION,
    DATABASE,
    KUBERNETES,
    LOAD_LIMITS,
    PROGRAMS,
    ArgumentSpec,
    between,
    duration,
    ratio,
    size,
)
from ..module_utils._maintenance.limits import Limits
from ..module_utils._maintenance.vacuum import run as vacuum
from ..module_utils._maintenance.vacuum.plan import VacuumPlan
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "tables": {"type": "list", "elements": "str", "default": []},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_dead_ratio": ratio(0.2),
        "min_dead_tuples": between(0, None, 1000),
        "max_freeze_age": between(0, 2_000_000_000),
        "analyze": {"type": "bool", "default": True},
        "freeze": {"type": "bool", "default": False},
        "parallel": between(0, 1024),
        "index_cleanup": {"type": "str", "choices": ["auto", "on", "off"]},
        "truncate": {"type": "bool"},
        "process_toast": {"type": "bool"},
        "skip_locked": {"type": "bool", "default": False},
        "buffer_usage_limit": size(),
        "cost_delay": duration(),
        "cost_limit": between(0, 10000),
        "lock_timeout": duration("10s"),
        "statement_timeout": duration("0"),
        "full": {"type": "bool", "default": False},
        "method": {"type": "str", "choices": ["vacuum", "repack"], "default": "vacuum"},
        "min_bloat_bytes": size("64MB"),
        "min_bloat_ratio": ratio(0.3),
        "measure_budget": duration("60s"),
        "measure_bytes": size("10GB"),
        "scratch_dir": {"type": "path", "default": "/var/tmp"},  # noqa: S108  # below it in a directory of its own
    }
).merge(CONNECTION, DATABASE, LOAD_LIMITS, KUBERNETES, PROGRAMS)


def operation(call: Call) -> Result:
    """Vacuum the tables that need it."""
    params = call.params
    plan = VacuumPlan.from_params(params)
    plan.check(has_window=params["window"] is not None)
    limits = Limits.read(params, utc_now(), must_be_open=not call.check_mode)
    target = create_target(params)
    server = Server(target, Login.from_params(params, "vacuum"), check_mode=call.check_mode)
    outcome = vacuum.run(server, target, plan, limits, utc_now, check_mode=call.check_mode)
    return Result(outcome.changed, outcome.returned, outcome.diff, failure=outcome.failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
