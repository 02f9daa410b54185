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
  - Runs C(VACUUM) on the tables that have many dead rows or old ones, the oldest first, and gathers statistics where they are stale.
    Tables that need nothing are left alone.
  - Rows that somebody may still have to see cannot be removed. Who that is (a transaction, a replication slot, a prepared transaction,
    a replica) is told as a finding, and a table that a former C(VACUUM) could not clear for that reason is left alone.
  - Against wraparound, the system's catalogs are vacuumed as well, and other template databases that allow connections. What keeps the
    database's oldest rows from being frozen (a temporary table of a session, a transaction in any database, a prepared transaction, a
    replication slot, a standby) is named as a finding, and so are other databases that near wraparound.
  - A table that autovacuum works on just now is passed over, since it would give up what it has done so far.
  - With O(full), or O(method=repack), bloated tables are rewritten instead.
  - Between tables, and while one is worked on, it is seen whether to stop. What is left then, another run goes on with.
  - The task fails when a table named in O(tables) could not be done, or none at all could, after the others were done.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  tables:
    description:
      - Tables and materialized views, as C(name) or C(schema.name), without quotes. They are done unless there is nothing to do. Of a
        partitioned table, its partitions.
      - When it is left out, all tables above a threshold.
    type: list
    elements: str
    default: []
  schemas:
    description: Only the tables of these schemas. When it is left out, of all but the system's.
    type: list
    elements: str
    default: []
  min_dead_ratio:
    description: The share of dead rows, 0 to 1, from which a table is vacuumed; its TOAST table counts by itself.
    type: float
    default: 0.2
  min_dead_tuples:
    description: How many dead rows it has to have as well.
    type: int
    default: 1000
  max_freeze_age:
    description:
      - The age, in transactions, of the oldest row that is not frozen, from which a table is vacuumed against wraparound, before all others.
      - When it is left out, three quarters of the table's C(autovacuum_freeze_max_age), by default 150 million. At its whole autovacuum comes
        by itself, and does not give way to others. Multixacts are judged in the same way.
      - The system's catalogs have this limit only if it is higher. With O(freeze), three quarters are the limit if it is higher.
    type: int
  analyze:
    description: Whether to gather statistics of the tables that are vacuumed, where rows have changed since the last time.
    type: bool
    default: true
  freeze:
    description: Whether to freeze all rows that can be frozen.
    type: bool
    default: false
  parallel:
    description: How many workers may vacuum the indexes of a table, 0 for none. When it is left out, the server decides.
    type: int
  index_cleanup:
    description: Whether to vacuum indexes. V(auto) needs PostgreSQL 14. When it is left out, as the table says.
    type: str
    choices: [auto, "on", "off"]
  truncate:
    description:
      - Whether to give empty pages at the end back to the file system, for which the table is locked for a moment.
      - When it is left out, the table's storage parameter C(vacuum_truncate) counts.
    type: bool
  process_toast:
    description: Whether to vacuum TOAST tables as well. Needs PostgreSQL 14. When it is left out, they are.
    type: bool
  skip_locked:
    description: Whether to pass over tables that are locked, without waiting.
    type: bool
    default: false
  buffer_usage_limit:
    description: How much of the server's cache to use, for example V(2MB). Needs PostgreSQL 16.
    type: str
  cost_delay:
    description: How long to rest when O(cost_limit) is used up, for example V(2ms), at most V(100ms). V(0) never rests, which is the server's default.
    type: str
  cost_limit:
    description: How much work to do between two rests, 1 to 10000.
    type: int
  lock_timeout:
    description: How long to wait for the lock on a table. Then it is named, and the next one is done.
    type: str
    default: 10s
  statement_timeout:
    description: How long the work on one table may take. V(0) is without a limit.
    type: str
    default: "0"
  full:
    description:
      - Whether to rewrite bloated tables, from O(min_bloat_bytes) and O(min_bloat_ratio) on. With O(method=vacuum) each is locked exclusively
        for as long as that takes, so O(window) is required. How long that will be is predicted, in RV(tables[].predicted_lock_s).
      - Nothing is done to a table whose copy would not fit, where the server's disk can be seen, nor, with O(method=vacuum), to one whose
        bloat is dead rows that somebody may still have to see.
    type: bool
    default: false
  method:
    description:
      - V(vacuum) is C(VACUUM), or C(VACUUM FULL) with O(full).
      - V(repack) rewrites bloated tables by C(pg_repack), which locks them for moments only. The program has to be installed (on Debian
        C(postgresql-15-repack)), and its extension has to be in the database. Tables need a primary key, or a unique index on columns
        that are C(NOT NULL). What an interrupted C(pg_repack) has left is dropped first.
    type: str
    choices: [vacuum, repack]
    default: vacuum
  min_bloat_bytes:
    description:
      - How much of a table with its TOAST a rewrite has to give back, for example V(1GB). What its indexes waste does not count, since
        M(godel.postgres_runbook.pg_reindex) gives that back without locking it.
    type: str
    default: 64MB
  min_bloat_ratio:
    description: The same as a share of the table with its TOAST, 0 to 1.
    type: float
    default: 0.3
  measure_budget:
    description: How long to measure bloat before rewrites. V(0) goes by estimates.
    type: str
    default: 60s
  measure_bytes:
    description: How much to read for it.
    type: str
    default: 10GB
  scratch_dir:
    description: Directory for the messages of C(pg_repack).
    type: path
    default: /var/tmp
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.brakes
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.attributes
notes:
  - The login has to own the tables or the database, to have C(MAINTAIN) on them (PostgreSQL 17, role C(pg_maintain)), or to be a superuser, which
    C(pg_repack) needs. Without the role C(pg_monitor) it cannot see who holds dead rows back.
seealso:
  - module: godel.postgres_runbook.pg_reindex
"""

EXAMPLES = r"""
- name: Vacuum what needs it, gently, and stop when a replica falls behind
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
  description: What came of each table that was worth it, in the order in which they were done.
  returned: success
  type: list
  elements: dict
  contains:
    schema:
      description: Its schema.
      type: str
    name:
      description: Its name.
      type: str
    reason:
      description: Why it was chosen.
      type: str
      sample: 23% of its rows (2300) are dead.
    database:
      description: The database that it is in, O(db) or a template database.
      type: str
    action:
      description: V(vacuum), V(vacuum full) or V(repack).
      type: str
    state:
      description:
        - V(done); V(due) in check mode; V(skipped) when it had no effect, or was not tried; V(failed) when the server refused it, which
          C(skipped) tells with the server's own reason.
      type: str
    done:
      description: Whether it had an effect; in check mode, whether it would be tried.
      type: bool
    analyzed:
      description: Whether its statistics were gathered.
      type: bool
    skipped:
      description: Why it was not done, or had no effect; empty if it had.
      type: str
    before:
      description: C(heap_bytes), C(toast_bytes), C(index_bytes), C(dead_tuples), C(freeze_age) and C(mxid_age) before.
      type: dict
    after:
      description: The same afterwards; null if it was not done.
      type: dict
    duration_s:
      description: Seconds that it took.
      type: float
    predicted_lock_s:
      description:
        - How many seconds C(VACUUM FULL) was predicted to lock it, from its size and the speed of the rewrites before it, or at first
          40 MiB/s. Null when it is not locked.
      type: float
left:
  description: The tables that were not begun, or not finished, when the run was stopped.
  returned: success
  type: list
  elements: str
stopped_by:
  description: Why it was stopped; empty if it was not.
  returned: success
  type: str
database_freeze_age:
  description: Transactions since the oldest row of the database that is not frozen, when the run has ended.
  returned: when the server tells
  type: int
database_multixact_age:
  description: The same in multixacts.
  returned: when the server tells
  type: int
freed_bytes:
  description: What went back to the file system.
  returned: success
  type: int
cleaned:
  description: The tables from which leftovers of an interrupted C(pg_repack) were dropped.
  returned: success
  type: list
  elements: str
findings:
  description: Who holds dead rows back, which tables could not be done, and whether the run was stopped.
  returned: success
  type: list
  elements: dict
notes:
  description: What else is worth knowing.
  returned: success
  type: list
  elements: str
msg:
  description: One or a few sentences for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import (
    BRAKES,
    CONNECTION,
    DATABASE,
    KUBERNETES,
    PROGRAMS,
    ArgumentSpec,
    between,
    duration,
    ratio,
    size,
)
from ..module_utils._maintenance.limits import Limits
from ..module_utils._maintenance.vacuum.plan import VacuumPlan
from ..module_utils._maintenance.vacuum.run import Vacuum
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
).merge(CONNECTION, DATABASE, BRAKES, KUBERNETES, PROGRAMS)


def operation(call: Call) -> Result:
    """Vacuum the tables that need it."""
    params = call.params
    plan = VacuumPlan.from_params(params)
    plan.check(has_window=params["window"] is not None)
    limits = Limits.from_params(params, utc_now(), must_be_open=not call.check_mode)
    target = create_target(params)
    server = Server(target, Login.from_params(params, "vacuum"), check_mode=call.check_mode)
    outcome = Vacuum(target, server, plan, limits, utc_now, check_mode=call.check_mode).run()
    return Result(outcome.changed, outcome.as_dict(), diff=outcome.diff, failure=outcome.failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
