#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_query_info
short_description: Report which queries of a PostgreSQL server cost most, and which got slower
version_added: 0.1.0
description:
  - Reads C(pg_stat_statements), of any version and in any schema, and lists the queries that cost most.
  - When the extension is missing, the findings say with which commands it is enabled. It is never installed by this module.
  - Compares with an earlier RV(sample), and tells what got slower. A reset in between is noticed.
  - It takes four statements, none of which moves the whole of a long query text.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  all_databases:
    description: Whether to report the queries of all databases, or those of O(db).
    type: bool
    default: false
  sort:
    description:
      - What the queries are sorted by. V(total) and V(mean) are the time of execution, V(io) is the time of reading and writing, or
        pages where C(track_io_timing) is off.
    type: str
    choices: [total, mean, calls, io, wal, temp]
    default: total
  top:
    description: How many queries to list.
    type: int
    default: 20
  query_length:
    description: How many characters of each query to show.
    type: int
    default: 1000
  sample_size:
    description: How many queries, those with the most time, are judged and are kept in RV(sample).
    type: int
    default: 500
  baseline:
    description:
      - An earlier RV(sample) to compare with. M(godel.postgres_runbook.report_history) keeps them.
    type: dict
  slower_factor:
    description: How many times as long as before a call has to take for a finding.
    type: float
    default: 1.5
  min_calls:
    description: Queries with fewer calls are not called slower, nor judged by averages.
    type: int
    default: 20
  min_time_ratio:
    description: Queries with a smaller share of the time, 0 to 1, are not called slower, nor judged by averages.
    type: float
    default: 0.01
  explain:
    description:
      - Whether to show the generic plans of the listed queries of O(db). It takes PostgreSQL 16. Nothing is executed.
      - Planning may call functions, with the rights of the login. So there are no plans in a database with functions that are neither the
        login's own nor a superuser's, unless all of those are volatile, and so are never called by planning.
    type: bool
    default: false
  statement_timeout:
    description: How long each statement may take.
    type: str
    default: 10s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - The login needs the role C(pg_read_all_stats), which C(pg_monitor) has, to see the queries of other users.
seealso:
  - module: godel.postgres_runbook.pg_query_stats_reset
  - module: godel.postgres_runbook.report_history
  - name: pg_stat_statements
    description: What counts the queries.
    link: https://www.postgresql.org/docs/current/pgstatstatements.html
"""

EXAMPLES = r"""
- name: See which queries write most to temporary files
  godel.postgres_runbook.pg_query_info:
    db: godel_production
    sort: temp
    top: 10
  register: queries
"""

RETURN = r"""
available:
  description: Whether there are figures. When there are none, the findings say why.
  returned: success
  type: bool
extension_version:
  description: The version of the extension in this database; null when it is not there.
  returned: success
  type: str
  sample: "1.11"
stats_reset:
  description: Since when all is counted, RFC 3339 in UTC. Resets of single databases do not show here.
  returned: success
  type: str
statement_count:
  description: How many statements are counted in the scope.
  returned: success
  type: int
call_count:
  description: How often they were called. This and RV(total_time_s) do not count again what a function calls.
  returned: success
  type: int
total_time_s:
  description: How long they took.
  returned: success
  type: float
evictions:
  description: How often seldom statements were dropped for want of room; null when it is not known.
  returned: success
  type: int
queries:
  description: The queries, by O(sort), the costliest first.
  returned: success
  type: list
  elements: dict
  contains:
    queryid:
      description: Its identifier, as text since it is larger than some programs' numbers. Null when the query is hidden from the login.
      type: str
    query:
      description: The beginning of its text, without its literals.
      type: str
    query_cut:
      description: Whether the text goes on.
      type: bool
    user:
      description: Who runs it; null for a role that is gone.
      type: str
    database:
      description: Where; null for a database that is gone.
      type: str
    toplevel:
      description: Whether a client sent it, and not a function.
      type: bool
    calls:
      description: How often.
      type: int
    total_time_s:
      description: The time of execution.
      type: float
    mean_time_s:
      description: The same per call.
      type: float
    stddev_time_s:
      description: The standard deviation of it.
      type: float
    max_time_s:
      description: The longest call.
      type: float
    plan_time_s:
      description: The time of planning, where C(pg_stat_statements.track_planning) is on.
      type: float
    time_ratio:
      description: Its share of the time of all, 0 to 1.
      type: float
    rows:
      description: How many rows it returned or changed.
      type: int
    cache_hit_ratio:
      description: Which share of its pages was in the server's cache, 0 to 1; null when it asked for none.
      type: float
    shared_hit_bytes:
      description: Pages that were in the cache.
      type: int
    shared_read_bytes:
      description: Pages that were not.
      type: int
    shared_dirtied_bytes:
      description: Pages that it changed.
      type: int
    temp_bytes:
      description: What it wrote to temporary files and read from them.
      type: int
    wal_bytes:
      description: The WAL that it made.
      type: int
    io_time_s:
      description: The time of reading and writing files, where C(track_io_timing) is on.
      type: float
compared_with:
  description: When O(baseline) was collected; null when nothing was compared.
  returned: success
  type: str
changes:
  description: How queries did since the baseline, those first that took the most time since. At least all that got slower.
  returned: success
  type: list
  elements: dict
  sample:
    - queryid: "-5618427312093843110"
      query: SELECT * FROM users WHERE name = $1
      user: godel
      database: godel_production
      calls: 5021
      total_time_s: 1204.1
      time_ratio: 0.3101
      mean_time_s: 0.239813
      mean_time_before_s: 0.00212
      factor: 113.119
      counters_restarted: false
new_queries:
  description: Queries that are not in the baseline and have at least O(min_time_ratio) of the time.
  returned: success
  type: list
  elements: dict
plans:
  description: The generic plans, or why there is none.
  returned: when O(explain) is true
  type: list
  elements: dict
  sample:
    - queryid: "-5618427312093843110"
      query: SELECT * FROM users WHERE name = $1
      plan:
        - Seq Scan on users  (cost=0.00..169248.60 rows=1 width=12)
        - "  Filter: (name = $1)"
      why: ""
sample:
  description: What a later run can compare with, as its O(baseline). Empty when there are no figures.
  returned: success
  type: dict
findings:
  description: What was judged, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: query_stats_missing
      severity: warning
      subject: godel_production
      value:
      threshold:
      message: The server counts queries, but the database godel_production has no extension to read them with.
      remedy: "In the database godel_production: CREATE EXTENSION pg_stat_statements;"
severity:
  description: The worst severity among the findings, V(ok), V(info) or V(warning).
  returned: success
  type: str
notes:
  description: What could not be seen or compared, as sentences.
  returned: success
  type: list
  elements: str
msg:
  description: The sums and the worst finding, for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration, ratio
from ..module_utils._diagnostics.queries.explain import explain
from ..module_utils._diagnostics.queries.report import Baseline, QueriesPlan, collect, describe
from ..module_utils._diagnostics.queries.sql import SORTS
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "all_databases": {"type": "bool", "default": False},
        "sort": {"type": "str", "choices": list(SORTS), "default": "total"},
        "top": between(1, None, 20),
        "query_length": between(1, None, 1000),
        "sample_size": between(1, None, 500),
        "baseline": {"type": "dict"},
        "slower_factor": {"type": "float", "default": 1.5},
        "min_calls": {"type": "int", "default": 20},
        "min_time_ratio": ratio(0.01),
        "explain": {"type": "bool", "default": False},
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the statistics of queries, judge them, and explain the queries if that is wanted."""
    params = call.params
    plan = QueriesPlan.from_params(params)
    baseline = Baseline.parse(params["baseline"]) if params["baseline"] else None
    timeout_s = params["statement_timeout"]
    server = Server(create_target(params), Login.from_params(params, "query info"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=timeout_s) as session:
        report = collect(session, plan, utc_now(), baseline)
        values = report.values()
        if params["explain"]:
            plans, notes = explain(session, report.facts, report.queries, max(1, round(timeout_s * 1000)))
            values["plans"] = [each.as_dict() for each in plans]
            values["notes"] = [*report.notes, *notes]
    return Result(False, {**values, **judged(report.findings), "msg": describe(report)})


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
