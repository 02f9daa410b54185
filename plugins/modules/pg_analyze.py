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
  - Analyzes tables of which a share of the rows changed since their last C(ANALYZE), and tables that lack statistics. Those of columns,
    of expressions in indexes, of extended statistics objects, and of partitioned tables, which autovacuum never analyzes.
  - A table that autovacuum vacuums just now is passed over, since C(ANALYZE) would put an end to its work.
  - The task fails when a table that was named, or every one, could not be analyzed. The others are done all the same. It does not fail
    when a brake stopped it; see RV(left).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  tables:
    description:
      - Only these, each as C(name) or C(schema.name), and the partitions of them. They are analyzed if any row changed, or if they lack
        statistics.
    type: list
    elements: str
    default: []
  schemas:
    description: Only tables in these schemas. All but the system's when it is left out.
    type: list
    elements: str
    default: []
  min_share:
    description: The share of the live rows, 0 to 1, that have to be changed.
    type: float
    default: 0.1
  min_changes:
    description: How many rows have to be changed at least.
    type: int
    default: 50
  in_stages:
    description:
      - Whether to give tables without statistics coarse ones first, as C(vacuumdb --analyze-in-stages) does, so that queries soon have
        some after a restore or an upgrade. If it is stopped, the next run in stages goes on.
    type: bool
    default: false
  missing_only:
    description: Whether to analyze only tables that lack statistics.
    type: bool
    default: false
  skip_locked:
    description: Whether to skip tables that are locked, rather than to wait for O(lock_timeout).
    type: bool
    default: false
  lock_timeout:
    description: How long to wait for each table.
    type: str
    default: 10s
  statement_timeout:
    description: How long one table may take. No limit when it is left out.
    type: str
  buffer_usage_limit:
    description: How much of the shared buffers to use, from PostgreSQL 16 on, for example V(16MB).
    type: str
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.brakes
  - godel.postgres_runbook.attributes
notes:
  - The login has to own the tables or the database, to have the right C(MAINTAIN) (PostgreSQL 17), or to be a superuser.
  - Before PostgreSQL 18 a partitioned table is analyzed together with all of its partitions.
seealso:
  - module: godel.postgres_runbook.pg_vacuum
"""

EXAMPLES = r"""
- name: Gather what is stale or missing
  godel.postgres_runbook.pg_analyze:
    db: godel_production

- name: After an upgrade
  godel.postgres_runbook.pg_analyze:
    db: godel_production
    in_stages: true
    missing_only: true
"""

RETURN = r"""
tables:
  description:
    - The tables that had to be analyzed, with C(reason) (V(missing), V(changed) or V(coarse)), C(state) (V(analyzed), V(due), V(skipped),
      V(failed) or V(left)), and what the server had counted before and after.
  returned: success
  type: list
  elements: dict
judged:
  description: How many tables were looked at.
  returned: success
  type: int
left:
  description: Names of tables that are not done.
  returned: success
  type: list
  elements: str
stopped_by:
  description: Why it stopped early, a sentence; null if it did not.
  returned: success
  type: str
notes:
  description: What could not be seen.
  returned: success
  type: list
  elements: str
findings:
  description: What somebody has to know of.
  returned: success
  type: list
  elements: dict
severity:
  description: The worst severity among the findings.
  returned: success
  type: str
msg:
  description: One or a few sentences for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import BRAKES, CONNECTION, DATABASE, KUBERNETES, ArgumentSpec
from ..module_utils._findings import judged
from ..module_utils._maintenance.analyze import run as analyze
from ..module_utils._maintenance.analyze.tables import AnalyzePlan
from ..module_utils._maintenance.limits import Limits
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import parse_duration, parse_size, utc_now

SPEC = ArgumentSpec(
    {
        "tables": {"type": "list", "elements": "str", "default": []},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_share": {"type": "float", "default": 0.1},
        "min_changes": {"type": "int", "default": 50},
        "in_stages": {"type": "bool", "default": False},
        "missing_only": {"type": "bool", "default": False},
        "skip_locked": {"type": "bool", "default": False},
        "lock_timeout": {"type": "str", "default": "10s"},
        "statement_timeout": {"type": "str"},
        "buffer_usage_limit": {"type": "str"},
    }
).merge(CONNECTION, DATABASE, KUBERNETES, BRAKES)


def operation(call: Call) -> Result:
    """Analyze what is due."""
    params = call.params
    limits = Limits.from_params(params, utc_now(), must_be_open=not call.check_mode)
    timeout, limit = params["statement_timeout"], params["buffer_usage_limit"]
    same = ("db", "tables", "schemas", "min_changes", "in_stages", "missing_only", "skip_locked")
    plan = AnalyzePlan(
        **{name: params[name] for name in same},
        share=params["min_share"],
        lock_timeout_s=parse_duration(params["lock_timeout"], "lock_timeout"),
        statement_timeout_s=parse_duration(timeout, "statement_timeout") if timeout else None,
        buffer_usage_limit_kb=parse_size(limit, "buffer_usage_limit") // 1024 if limit else None,
    )
    plan.check()
    target = create_target(params)
    server = Server(target, Login.from_params(params, "analyze"), check_mode=call.check_mode)
    done = analyze.run(server, target, plan, limits, utc_now, rehearsal=call.check_mode)
    findings = analyze.findings(done)
    values = {
        **analyze.values(done),
        **judged(findings),
    }
    failure = None if call.check_mode else done.failure
    if failure is None:
        values["msg"] = analyze.describe(done, rehearsal=call.check_mode)
    changed = bool(done.of("due")) if call.check_mode else done.changed
    return Result(changed, values, analyze.difference(done), failure=failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
