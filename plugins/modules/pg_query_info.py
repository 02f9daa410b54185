#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_query_info
short_description: Report which queries of a PostgreSQL server cost most, and which became slower
version_added: 0.1.0
description:
  - Reads C(pg_stat_statements), of any version and in any schema, and lists the queries that cost most.
  - When the extension is missing, the findings list the commands that enable it. This module never installs it.
  - Compares with an earlier RV(sample), and reports queries that became slower. A reset in between is detected.
  - The module sends four statements to the server, none of which transfers long query texts in full.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  all_databases:
    description: Whether to report the queries of all databases. With V(false), only those of O(db).
    type: bool
    default: false
  sort:
    description:
      - The figure by which the queries are sorted. V(total) and V(mean) are the execution time, V(io) is the time of reads and writes, or
        the number of pages where C(track_io_timing) is off.
    type: str
    choices: [total, mean, calls, io, wal, temp]
    default: total
  top:
    description: The number of queries to list.
    type: int
    default: 20
  query_length:
    description: The number of characters of each query to show.
    type: int
    default: 1000
  sample_size:
    description: The number of queries, those with the most execution time, that are checked and kept in RV(sample).
    type: int
    default: 500
  baseline:
    description:
      - An earlier RV(sample) to compare with. M(godel.postgres_runbook.report_history) keeps such samples.
    type: dict
  slower_factor:
    description: The factor by which the mean time of a call must have grown for a finding, for example V(1.5).
    type: float
    default: 1.5
  min_calls:
    description: The number of calls below which a query is not reported as slower, and not checked by its averages.
    type: int
    default: 20
  min_time_ratio:
    description: The share of the total time, 0 to 1, below which a query is not reported as slower, and not checked by its averages.
    type: float
    default: 0.01
  explain:
    description:
      - Whether to show the generic plans of the listed queries of O(db). This option needs PostgreSQL 16. No query is executed.
      - Planning may call functions with the privileges of the login. The module therefore shows no plans in a database with functions that
        are owned neither by the login nor by a superuser, unless all of these are volatile, since planning never calls volatile functions.
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
  - To see the queries of other roles, the login needs the role C(pg_read_all_stats), which C(pg_monitor) includes.
seealso:
  - module: godel.postgres_runbook.pg_query_stats_reset
  - module: godel.postgres_runbook.report_history
  - name: pg_stat_statements
    description: The extension that counts the queries.
    link: https://www.postgresql.org/docs/current/pgstatstatements.html
"""

EXAMPLES = r"""
- name: Report which queries use temporary files most
  godel.postgres_runbook.pg_query_info:
    db: godel_production
    sort: temp
    top: 10
  register: queries
"""

RETURN = r"""
available:
  description: Whether query statistics are available. If not, the findings say why.
  returned: success
  type: bool
extension_version:
  description: The version of the extension in this database; null when it is not installed.
  returned: success
  type: str
  sample: "1.11"
stats_reset:
  description: When all statistics were last reset, RFC 3339 in UTC. Resets of single databases are not included.
  returned: success
  type: str
statement_count:
  description: The number of different statements in the scope.
  returned: success
  type: int
call_count:
  description: The number of their calls. In this and in RV(total_time_s), statements inside functions do not count twice.
  returned: success
  type: int
total_time_s:
  description: Their total execution time in seconds.
  returned: success
  type: float
evictions:
  description: How often C(pg_stat_statements) evicted rarely used statements because it was full; null when it is unknown.
  returned: success
  type: int
queries:
  description: The queries, by O(sort), the costliest first.
  returned: success
  type: list
  elements: dict
  contains:
    queryid:
      description: Its identifier, as text because some programs cannot handle integers of this size. Null when the query is hidden from the
        login.
      type: str
    query:
      description: The beginning of its text, without literals.
      type: str
    query_cut:
      description: Whether the text was cut.
      type: bool
    user:
      description: The role that runs it; null for a role that was dropped.
      type: str
    database:
      description: Its database; null for a database that was dropped.
      type: str
    toplevel:
      description: Whether a client sent it. V(false) for a statement inside a function.
      type: bool
    calls:
      description: The number of calls.
      type: int
    total_time_s:
      description: The total execution time in seconds.
      type: float
    mean_time_s:
      description: The mean execution time of a call in seconds.
      type: float
    stddev_time_s:
      description: The standard deviation of the execution time in seconds.
      type: float
    max_time_s:
      description: The execution time of the longest call in seconds.
      type: float
    plan_time_s:
      description: The total planning time in seconds, if C(pg_stat_statements.track_planning) is on.
      type: float
    time_ratio:
      description: Its share of RV(total_time_s), 0 to 1.
      type: float
    rows:
      description: The number of rows that it returned or changed.
      type: int
    cache_hit_ratio:
      description: The share of its pages, 0 to 1, that was in the server's cache; null when it read none.
      type: float
    shared_hit_bytes:
      description: The size of the pages that were in the cache.
      type: int
    shared_read_bytes:
      description: The size of the pages that were not in the cache.
      type: int
    shared_dirtied_bytes:
      description: The size of the pages that it changed.
      type: int
    temp_bytes:
      description: The size of the data that it wrote to temporary files and read from them.
      type: int
    wal_bytes:
      description: The size of the WAL that it generated.
      type: int
    io_time_s:
      description: The time of file reads and writes in seconds, if C(track_io_timing) is on.
      type: float
compared_with:
  description: When O(baseline) was collected; null when nothing was compared.
  returned: success
  type: str
changes:
  description: The queries since the baseline, those with the most time since then first. The list has at least all that became slower.
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
  description: The figures to keep as the O(baseline) of a later run. Empty when there are no figures.
  returned: success
  type: dict
findings:
  description: The findings, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: query_stats_missing
      severity: warning
      subject: godel_production
      value:
      threshold:
      message: The server counts queries, but the database godel_production lacks the extension to read the statistics.
      remedy: "In the database godel_production: CREATE EXTENSION pg_stat_statements;"
severity:
  description: The worst severity among the findings, V(ok), V(info) or V(warning).
  returned: success
  type: str
notes:
  description: Remarks, for example on data that the login has no privilege to see, or that could not be compared.
  returned: success
  type: list
  elements: str
msg:
  description: The totals and the worst finding.
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
