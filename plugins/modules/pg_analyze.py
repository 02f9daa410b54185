#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_analyze
short_description: Gather planner statistics where they are stale or missing
version_added: 0.1.0
description:
  - Analyzes tables in which a share of the rows has changed since the last C(ANALYZE).
  - Also analyzes tables that lack statistics of columns, of expressions in indexes or of extended statistics objects, and partitioned
    tables, which autovacuum never analyzes.
  - A table that autovacuum is vacuuming is skipped, since C(ANALYZE) would cancel that work.
  - The task fails when a table listed in O(tables), or every table, could not be analyzed. The others are analyzed first. The task
    does not fail when a load limit stopped it; see RV(left).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  tables:
    description:
      - Analyze only these tables and their partitions, each as C(name) or C(schema.name). They are analyzed if any row changed, or if they
        lack statistics.
    type: list
    elements: str
    default: []
  schemas:
    description: Analyze only tables in these schemas. The default is all schemas but the system's.
    type: list
    elements: str
    default: []
  min_changed_ratio:
    description: The share of the live rows, 0 to 1, that must have changed.
    type: float
    default: 0.1
  min_changes:
    description: The number of rows that must have changed as well.
    type: int
    default: 50
  in_stages:
    description:
      - Whether to gather coarse statistics first, of all tables that have none, as C(vacuumdb --analyze-in-stages) does. Queries then get
        usable plans soon after a restore or an upgrade. If this run is stopped, the next run in stages continues it.
    type: bool
    default: false
  missing_only:
    description: Whether to analyze only tables that lack statistics.
    type: bool
    default: false
  skip_locked:
    description: Whether to skip locked tables instead of waiting for O(lock_timeout).
    type: bool
    default: false
  lock_timeout:
    description: How long to wait for the lock on a table. After that the table is reported as failed, and the next one is analyzed.
    type: str
    default: 10s
  statement_timeout:
    description: How long one table may take. There is no limit by default.
    type: str
  buffer_usage_limit:
    description: How much of the shared buffers to use, for example V(16MB). This option needs PostgreSQL 16.
    type: str
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.load_limits
  - godel.postgres_runbook.attributes
notes:
  - The login must own the tables or the database, have the privilege C(MAINTAIN) (PostgreSQL 17), or be a superuser.
  - Before PostgreSQL 18 a partitioned table is analyzed together with all of its partitions.
seealso:
  - module: godel.postgres_runbook.pg_vacuum
"""

EXAMPLES = r"""
- name: Gather statistics that are stale or missing
  godel.postgres_runbook.pg_analyze:
    db: godel_production

- name: Gather missing statistics after an upgrade
  godel.postgres_runbook.pg_analyze:
    db: godel_production
    in_stages: true
    missing_only: true
"""

RETURN = r"""
tables:
  description: The tables that had to be analyzed, in the order of the work.
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
      description: V(missing), V(changed) or V(coarse) (an interrupted run in stages has left coarse statistics).
      type: str
    state:
      description:
        - V(done), or V(due) in check mode.
        - V(skipped) when the work is not possible or not useful now, because it was dropped in the meantime, is locked and O(skip_locked) is set,
          or autovacuum is processing it.
        - V(failed) when it could not be done.
        - V(left) when the run was stopped before it.
      type: str
    why:
      description: Why it was chosen, while the state is V(due) or V(done). Otherwise why it was not analyzed.
      type: str
      sample: about 350 of 1,000 rows changed since the last ANALYZE
    duration_s:
      description: How long its statements took; null if there were none.
      type: float
    partitions:
      description: The number of partitions that were analyzed with it.
      type: int
    before:
      description: C(last_analyze), C(changes) and C(rows), as the server counted them before.
      type: dict
    after:
      description: The same afterwards; null if it was not analyzed.
      type: dict
examined:
  description: The number of tables that were examined.
  returned: success
  type: int
left:
  description: Names of the tables that the next run must analyze, because the work on them failed or the run was stopped.
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
  description: Tables that failed, were skipped or are left.
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
from ..module_utils._maintenance.analyze import run as analyze
from ..module_utils._maintenance.analyze.tables import AnalyzePlan
from ..module_utils._maintenance.limits import Limits
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "tables": {"type": "list", "elements": "str", "default": []},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_changed_ratio": ratio(0.1),
        "min_changes": between(0, None, 50),
        "in_stages": {"type": "bool", "default": False},
        "missing_only": {"type": "bool", "default": False},
        "skip_locked": {"type": "bool", "default": False},
        "lock_timeout": duration("10s"),
        "statement_timeout": duration(),
        "buffer_usage_limit": size(),
    }
).merge(CONNECTION, DATABASE, KUBERNETES, LOAD_LIMITS)


def operation(call: Call) -> Result:
    """Analyze what is due."""
    params = call.params
    limits = Limits.read(params, utc_now(), must_be_open=not call.check_mode)
    plan = AnalyzePlan.from_params(params)
    plan.check()
    target = create_target(params)
    server = Server(target, Login.from_params(params, "analyze"), check_mode=call.check_mode)
    outcome = analyze.run(server, target, plan, limits, utc_now, check_mode=call.check_mode)
    return Result(outcome.changed, outcome.returned, outcome.diff, failure=outcome.failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
