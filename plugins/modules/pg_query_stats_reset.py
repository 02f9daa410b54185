#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_query_stats_reset
short_description: Reset the query statistics of a PostgreSQL server
version_added: 0.1.0
description:
  - Resets C(pg_stat_statements), of one database or of all, and returns the figures that it had until then.
  - Statistics that are younger than O(min_age) are kept, so that a second run changes nothing.
  - A reset cannot be undone. The role C(query_performance) keeps a sample of the figures first.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  all_databases:
    description: Whether to reset the statistics of all databases. V(false) resets those of O(db), which needs version 1.7 of the extension.
    type: bool
    default: false
  min_age:
    description:
      - The age from which the statistics are reset, for example V(1d). V(0) always resets them.
      - Before version 1.11 of the extension (PostgreSQL 17) the age of the statistics of one database is unknown. There, they are kept
        while they have fewer than 100 calls.
    type: str
    default: 1h
  top:
    description: The number of queries to return, those with the most execution time.
    type: int
    default: 20
  sample_size:
    description: The number of queries, those with the most execution time, to keep in RV(sample).
    type: int
    default: 500
  statement_timeout:
    description: How long each statement may take.
    type: str
    default: 10s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
notes:
  - The login must be a superuser, or have the privilege C(EXECUTE) on the function C(pg_stat_statements_reset).
seealso:
  - module: godel.postgres_runbook.pg_query_info
"""

EXAMPLES = r"""
- name: Reset the statistics after a release, unless they are younger than a day
  godel.postgres_runbook.pg_query_stats_reset:
    db: godel_production
    min_age: 1d
  register: reset
"""

RETURN = r"""
why:
  description: Why nothing was reset; empty when it was, or would be in check mode.
  returned: success
  type: str
before:
  description: The queries with the most time, as RV(godel.postgres_runbook.pg_query_info#module:queries).
  returned: success
  type: list
  elements: dict
statement_count:
  description: The number of different statements.
  returned: success
  type: int
call_count:
  description: The number of their calls.
  returned: success
  type: int
total_time_s:
  description: Their total execution time in seconds.
  returned: success
  type: float
sample:
  description: The old figures, to compare with later, as RV(godel.postgres_runbook.pg_query_info#module:sample).
  returned: success
  type: dict
notes:
  description: Remarks, for example on data that the login has no privilege to see.
  returned: success
  type: list
  elements: str
msg:
  description: A summary in one or two sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration
from ..module_utils._diagnostics.queries.reset import ResetPlan, describe, reset
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "all_databases": {"type": "bool", "default": False},
        "min_age": duration("1h"),
        "top": between(1, None, 20),
        "sample_size": between(1, None, 500),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the statistics, and reset them."""
    params = call.params
    plan = ResetPlan.from_params(params)
    server = Server(create_target(params), Login.from_params(params, "query stats reset"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        report = reset(session, plan, utc_now())
    before = report.before.values()
    names = ("statement_count", "call_count", "total_time_s")
    counted = {name: before[name] for name in names}
    values = {
        "why": report.why,
        "before": before["queries"],
        **counted,
        "sample": before["sample"],
        "notes": before["notes"],
        "msg": describe(report, call.check_mode),
    }
    diff = {"before": counted, "after": dict.fromkeys(names, 0) if report.changed else counted}
    return Result(report.changed, values, diff)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
