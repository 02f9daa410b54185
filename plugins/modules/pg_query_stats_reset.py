#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_query_stats_reset
short_description: Begin the statistics of queries anew
version_added: 0.1.0
description:
  - Resets C(pg_stat_statements), of one database or of all, and returns what it has counted until then.
  - Statistics that are younger than O(min_age) stay, so that a second run changes nothing.
  - The figures cannot be brought back. The role C(query_performance) keeps a sample of them first.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  all_databases:
    description: Whether to forget the queries of all databases, or those of O(db). The latter takes version 1.7 of the extension.
    type: bool
    default: false
  min_age:
    description:
      - How old the statistics have to be. V(0) resets them in any case.
      - Before version 1.11 of the extension (PostgreSQL 17) nobody knows since when one database is counted. There, its statistics
        stay while they have fewer than 100 calls.
    type: str
    default: 1h
  top:
    description: How many of the queries to return, those with the most time.
    type: int
    default: 20
  sample_size:
    description: How many queries, those with the most time, are kept in RV(sample).
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
  - Only superusers may reset until somebody grants them C(EXECUTE) on the function C(pg_stat_statements_reset).
seealso:
  - module: godel.postgres_runbook.pg_query_info
"""

EXAMPLES = r"""
- name: Begin anew after a release, unless that was done within a day
  godel.postgres_runbook.pg_query_stats_reset:
    db: godel_production
    min_age: 1d
  register: forgotten
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
  description: How many statements were counted.
  returned: success
  type: int
call_count:
  description: How often they were called.
  returned: success
  type: int
total_time_s:
  description: How long they took.
  returned: success
  type: float
sample:
  description: The old figures, to compare with later, as RV(godel.postgres_runbook.pg_query_info#module:sample).
  returned: success
  type: dict
notes:
  description: What could not be seen, as sentences.
  returned: success
  type: list
  elements: str
msg:
  description: One or two sentences for people.
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
    """Read the statistics, and begin anew."""
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
