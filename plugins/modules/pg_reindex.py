#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_reindex
short_description: Rebuild the indexes of a PostgreSQL database that waste space, and invalid ones
version_added: 0.1.0
description:
  - Rebuilds indexes that would become smaller by at least O(min_bloat_ratio) and O(min_bloat_bytes), the largest gain first, with
    C(REINDEX INDEX CONCURRENTLY), so that reads and writes continue.
  - Rebuilds invalid indexes, and drops leftovers of interrupted rebuilds (C(_ccnew), C(_ccold)), unless a session is working on the
    table.
  - An index whose bloat is not known well enough (O(min_confidence)) is reported and not touched.
  - A transaction that a rebuild would wait for is reported before the rebuild begins. The module waits at most O(wait_for_transactions)
    for it.
  - If a rebuild fails or is stopped, the module drops its leftovers at once. If the module or the server is killed, or another session
    blocks the cleanup, the next run drops them. Leftovers that still exist are listed in RV(leftovers) and reported as findings.
  - Indexes of a table that autovacuum is processing are skipped, because a rebuild would cancel autovacuum.
  - Unused, duplicate and redundant indexes, and foreign keys without an index, are reported as findings and not touched, as by
    M(godel.postgres_runbook.pg_index_info).
  - The task fails when an index that was listed, or every index, could not be rebuilt. The others are rebuilt first. The task does
    not fail when a load limit stopped it, or when a transaction blocked a rebuild; see RV(left).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  indexes:
    description: Rebuild only these indexes, each as C(name) or C(schema.name), with all partitions of a partitioned one.
    type: list
    elements: str
    default: []
  tables:
    description: Rebuild only indexes of these tables, each as C(name) or C(schema.name), and of their partitions.
    type: list
    elements: str
    default: []
  schemas:
    description: Rebuild only indexes of tables in these schemas. The default is all schemas but the system's.
    type: list
    elements: str
    default: []
  min_bloat_ratio:
    description: The share of an index, 0 to 1, that a rebuild must free.
    type: float
    default: 0.3
  min_bloat_bytes:
    description: The space that a rebuild must free. With V(0), each run rebuilds every index that reaches the ratio.
    type: str
    default: 8MB
  min_confidence:
    description:
      - How well the bloat must be known. V(high) is measured, V(medium) is a good estimate or a lower bound, and V(low) is a poor estimate.
        With V(low), an index may be rebuilt in every run without any gain.
    type: str
    choices: [high, medium, low]
    default: medium
  measure_budget:
    description: The maximum total time of measurements. V(0) uses estimates only.
    type: str
    default: 60s
  measure_bytes:
    description: The maximum size of the tables and indexes to read for measurements.
    type: str
    default: 4GB
  concurrently:
    description:
      - Whether to rebuild without blocking other sessions. V(false) is faster, but writes to the table wait, and O(window) is required.
    type: bool
    default: true
  system:
    description:
      - Whether to rebuild indexes of the system catalogs, and no others. This requires O(concurrently=false), since PostgreSQL cannot do it
        concurrently, and is rarely useful.
    type: bool
    default: false
  leftovers:
    description: Whether to rebuild invalid indexes and drop leftovers of interrupted rebuilds.
    type: bool
    default: true
  lock_timeout:
    description:
      - How long to wait for each lock.
      - A concurrent rebuild that has begun blocks no other session. It waits for transactions of other sessions for this time or for
        O(max_transaction_age), whichever is longer.
    type: str
    default: 10s
  statement_timeout:
    description: How long the rebuild of one index may take. There is no limit by default.
    type: str
  retries:
    description:
      - How often to try an index again after a lock timeout, 0 to 100. The pauses grow from half a second to half a minute. If the
        new index was built but another transaction prevented the switch to it, the index is left to the next run.
    type: int
    default: 3
  max_transaction_age:
    description:
      - A rebuild waits for transactions that have a snapshot in this database or a lock on the table. If one of them is older than this, the
        rebuild is not started. The default is V(5m).
      - The age is checked before each index. Without the role C(pg_read_all_stats), only transactions of the login's own role are seen.
    type: str
  wait_for_transactions:
    description: How long to wait for such older transactions to end before the index is left to the next run.
    type: str
    default: "0"
  check_space:
    description: Whether to skip an index whose second copy would probably not fit on the disk. This works only if the module can see the
      server's directories.
    type: bool
    default: true
  unused_after:
    description: How long scans must have been counted before an index without scans is reported as unused.
    type: str
    default: 8d
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.load_limits
  - godel.postgres_runbook.attributes
notes:
  - The login must own the indexes, have the privilege C(MAINTAIN) on their tables (PostgreSQL 17), or be a superuser.
  - The extension C(pgstattuple) gives the most reliable figures of bloat.
seealso:
  - module: godel.postgres_runbook.pg_index_info
  - name: REINDEX
    description: The steps of a concurrent rebuild, and its leftovers when it is interrupted.
    link: https://www.postgresql.org/docs/current/sql-reindex.html
"""

EXAMPLES = r"""
- name: Rebuild indexes that waste more than a third of their space and more than 100 MB
  godel.postgres_runbook.pg_reindex:
    db: godel_production
    min_bloat_ratio: 0.33
    min_bloat_bytes: 100MB
    max_replica_lag: 256MB
    wait_for_transactions: 10m
  register: reindex

- name: Drop leftovers and rebuild invalid indexes only
  godel.postgres_runbook.pg_reindex:
    db: godel_production
    min_bloat_ratio: 1
    measure_budget: "0"
"""

RETURN = r"""
indexes:
  description: The indexes that had to be rebuilt, in the order of the work.
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
    table:
      description: Its table; for the index of a TOAST table, the table that owns it.
      type: str
    reason:
      description: V(bloat) or V(invalid).
      type: str
    state:
      description:
        - V(done), or V(due) in check mode.
        - V(skipped) when the work is not possible or not useful now, because it cannot be rebuilt concurrently, was dropped in the meantime, or
          autovacuum is processing its table.
        - V(failed) when it could not be done.
        - V(left) when the run was stopped before it, or another transaction blocks it.
      type: str
    why:
      description: Why it was chosen, while the state is V(due) or V(done). Otherwise why it was not rebuilt.
      type: str
      sample: a rebuild would free about 12.0 MiB, 58% of it
    duration_s:
      description: How long its statements took in all attempts, with the time in which they waited for locks; null if there were none.
      type: float
    attempts:
      description: The number of attempts.
      type: int
    bloat_bytes:
      description: The space that a rebuild was expected to free.
      type: int
    bloat_ratio:
      description: The same as a share of its size, 0 to 1.
      type: float
    method:
      description: How the bloat was found.
      type: str
    confidence:
      description: The confidence in the figure.
      type: str
    size_before_bytes:
      description: Its size before.
      type: int
    size_after_bytes:
      description: Its size after the rebuild; null if there was none.
      type: int
leftovers:
  description:
    - Invalid indexes that are not rebuilt, including leftovers of this run. Each has C(reason) (V(drop) or V(keep)),
      C(state) (V(done), V(due), V(skipped), V(failed) or V(left)) and C(why).
  returned: success
  type: list
  elements: dict
unknown:
  description: Indexes whose bloat is not known well enough to act on; only the first ones.
  returned: success
  type: list
  elements: dict
freed_bytes:
  description: The space that was returned to the file system.
  returned: success
  type: int
examined:
  description: The number of indexes that were examined.
  returned: success
  type: int
left:
  description: Names of the indexes that the next run must rebuild or drop, because the work on them failed or the run was stopped.
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
  description: Indexes that failed, were skipped or are left, and other findings on indexes.
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
    ArgumentSpec,
    between,
    duration,
    ratio,
    size,
)
from ..module_utils._maintenance.limits import Limits
from ..module_utils._maintenance.reindex import run as reindex
from ..module_utils._maintenance.reindex.choose import ReindexPlan
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

_MAX_TRANSACTION_AGE_S = 300.0
SPEC = ArgumentSpec(
    {
        "indexes": {"type": "list", "elements": "str", "default": []},
        "tables": {"type": "list", "elements": "str", "default": []},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_bloat_ratio": ratio(0.3),
        "min_bloat_bytes": size("8MB"),
        "min_confidence": {"type": "str", "choices": ["high", "medium", "low"], "default": "medium"},
        "measure_budget": duration("60s"),
        "measure_bytes": size("4GB"),
        "concurrently": {"type": "bool", "default": True},
        "system": {"type": "bool", "default": False},
        "leftovers": {"type": "bool", "default": True},
        "lock_timeout": duration("10s"),
        "statement_timeout": duration(),
        "retries": between(0, 100, 3),
        "wait_for_transactions": duration("0"),
        "check_space": {"type": "bool", "default": True},
        "unused_after": duration("8d"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES, LOAD_LIMITS)


def operation(call: Call) -> Result:
    """Rebuild what is worth it."""
    params = call.params
    limits = Limits.read(params, utc_now(), must_be_open=not call.check_mode)
    age_s = params["max_transaction_age"]
    plan = ReindexPlan.from_params(params, max_transaction_age_s=_MAX_TRANSACTION_AGE_S if age_s is None else age_s)
    plan.check(has_window=bool(params["window"]))
    target = create_target(params)
    server = Server(target, Login.from_params(params, "reindex"), check_mode=call.check_mode)
    outcome = reindex.run(server, target, plan, limits, utc_now, check_mode=call.check_mode)
    return Result(outcome.changed, outcome.returned, outcome.diff, failure=outcome.failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
