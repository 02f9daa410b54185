#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_bloat_report
short_description: Report how much space a rewrite of each table and index would free
version_added: 0.1.0
description:
  - Finds the bloat of tables, TOAST tables, materialized views and indexes, in two stages. First every relation is estimated from the
    server's statistics, at almost no cost. Then relations that look bloated, and those for which statistics are insufficient, are measured
    within a budget, the largest gain first.
  - Bloat is the share of a relation's main fork that a rewrite at its own fillfactor (C(VACUUM FULL), C(REINDEX)) would return to the file
    system. Space that a fillfactor keeps free is not bloat, nor is space that no rewrite can use.
  - Measurements use the extensions C(pgstattuple) or C(pageinspect) if they are installed and the login may use them. For C(pgstattuple),
    the role C(pg_stat_scan_tables) is sufficient, which C(pg_monitor) includes. This module never installs extensions.
  - With C(pageinspect) and a superuser, the pages of an index show how many entries equal keys would share after a rebuild. Otherwise the
    figure is a lower bound.
  - Where neither statistics nor pages suffice, there is no figure, and RV(relations[].note) says why.
  - Each relation comes with a recommendation and its reason. Findings list the relations that need work.
  - Hash and BRIN indexes are computed from the number of rows and pages. GiST indexes are measured by C(pgstattuple). GIN indexes are
    measured by C(pageinspect) as a superuser, otherwise by the free pages that C(pg_freespacemap) reports. Entries of values that no row
    has any more are not counted, so the figure is a lower bound. SP-GiST indexes are estimated. The fill of GiST, SP-GiST and GIN pages after a
    build varies; where that could change the result much, the confidence is V(low). An index that a rebuild would make larger has the
    figure 0, and C(note) says so.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  schemas:
    description: Report only these schemas. The default is all schemas but the system's.
    type: list
    elements: str
    default: []
  tables:
    description:
      - Report only these tables and materialized views, as C(name) or C(schema.name), with their indexes and TOAST tables. The default is
        all.
      - A partitioned table includes its partitions.
    type: list
    elements: str
    default: []
  min_size:
    description: The size below which relations are left out, for example V(1MB).
    type: str
    default: 1MB
  measure_budget:
    description:
      - How long all measurements together may take, for example V(60s). A measurement is cancelled when the time is used up. With V(0) only
        estimates are used.
    type: str
    default: 60s
  measure_bytes:
    description: How much all measurements together may read, for example V(8GB).
    type: str
    default: 8GB
  min_bloat_ratio:
    description: The RV(relations[].bloat_ratio), 0 to 1, from which a rewrite is recommended.
    type: float
    default: 0.3
  min_bloat_bytes:
    description: The RV(relations[].bloat_bytes) from which a rewrite is recommended. Both limits must be reached.
    type: str
    default: 8MB
  min_dead_ratio:
    description: The share of dead rows, 0 to 1, from which C(VACUUM) is recommended, if at least 1,000 rows are dead.
    type: float
    default: 0.2
  sort:
    description: The figure by which the relations are sorted, the largest first.
    type: str
    choices: [bloat_bytes, bloat_ratio, size_bytes, dead_tuples, freeze_age]
    default: bloat_bytes
  top:
    description: The number of relations to list. V(0) lists all of them. Totals and findings always cover all of them.
    type: int
    default: 100
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
seealso:
  - module: godel.postgres_runbook.pg_vacuum
  - module: godel.postgres_runbook.pg_reindex
  - name: pgstattuple
    description: The functions that measure whole relations.
    link: https://www.postgresql.org/docs/current/pgstattuple.html
"""

EXAMPLES = r"""
- name: Report the bloat of one schema, and measure for at most half a minute
  godel.postgres_runbook.pg_bloat_report:
    db: godel_production
    schemas: [public]
    measure_budget: 30s
  register: bloat

- name: Use estimates only
  godel.postgres_runbook.pg_bloat_report:
    db: godel_production
    measure_budget: 0
    sort: bloat_ratio
    top: 10
"""

RETURN = r"""
relations:
  description: The relations, by O(sort), the largest first.
  returned: success
  type: list
  elements: dict
  contains:
    oid:
      description: Its OID in this database.
      type: int
    schema:
      description: Its schema. A TOAST table has the schema and name of its table here.
      type: str
      sample: public
    name:
      description: Its name.
      type: str
      sample: sessions_status_idx
    table:
      description: The table that it belongs to.
      type: str
      sample: sessions
    kind:
      description: V(table), V(toast), V(materialized view) or V(index).
      type: str
      sample: index
    access_method:
      description: V(heap), V(btree), V(gin) or another.
      type: str
      sample: btree
    size_bytes:
      description: Size of its main fork.
      type: int
      sample: 2170880
    live_bytes:
      description: The space of its live rows or entries; null when it is unknown, as for C(dead_bytes) and C(free_bytes).
      type: int
    dead_bytes:
      description: The space of dead rows that no C(VACUUM) has removed yet.
      type: int
    free_bytes:
      description: Free space inside its pages, including the space that the fillfactor reserves.
      type: int
    bloat_bytes:
      description: The space that a rewrite would free; null when it is unknown.
      type: int
      sample: 1253376
    bloat_ratio:
      description: The same as a share of RV(relations[].size_bytes), 0 to 1; null when it is unknown.
      type: float
      sample: 0.5774
    method:
      description:
        - How the bloat was found. V(pgstattuple), V(pgstattuple_approx), V(pgstatindex), V(pgstathashindex), V(pageinspect),
          V(pg_freespacemap), V(estimate), or V(none).
      type: str
      sample: pgstatindex
    confidence:
      description:
        - V(high) when all of it was measured, V(medium) for a good estimate or a lower bound, V(low) for a poor estimate, or V(none) when
          there is no figure.
      type: str
      sample: high
    note:
      description: Why the confidence is not higher; empty when it is high.
      type: str
    fillfactor:
      description: Its fillfactor in percent.
      type: int
      sample: 90
    live_tuples:
      description: Live rows or entries; null when they are unknown.
      type: int
    dead_tuples:
      description: Dead rows; null when they are unknown.
      type: int
    freeze_age:
      description: Transactions since the oldest row that is not frozen; null for indexes.
      type: int
    last_vacuum:
      description: When it was vacuumed last, RFC 3339 in UTC; null if never.
      type: str
    last_analyze:
      description: When it was analyzed last, RFC 3339 in UTC; null if never.
      type: str
    recommendation:
      description: V(vacuum), V(reindex), V(repack), V(analyze) or V(nothing).
      type: str
      sample: reindex
    why:
      description: The reason, in one sentence.
      type: str
totals:
  description: Totals of all relations of the scope, whether listed or not.
  returned: success
  type: dict
  sample:
    relations: 812
    measured: 31
    unknown: 4
    size_bytes: 91268055040
    bloat_bytes: 5368709120
findings:
  description: The relations that need work. At most 100, the worst first.
  returned: success
  type: list
  elements: dict
  sample:
    - check: bloat
      severity: warning
      subject: public.sessions_status_idx
      value: 0.5774
      threshold: 0.3
      message: "public.sessions_status_idx: A rebuilt index would be 12.0 MiB smaller (58%)."
      remedy: Run the playbook godel.postgres_runbook.reindex.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: warning
msg:
  description: The totals and the worst finding.
  returned: success
  type: str
"""

from ..module_utils._argspec import (
    CONNECTION,
    DATABASE,
    KUBERNETES,
    ArgumentSpec,
    between,
    duration,
    ratio,
    size,
)
from ..module_utils._maintenance.bloat import report
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target

SPEC = ArgumentSpec(
    {
        "schemas": {"type": "list", "elements": "str", "default": []},
        "tables": {"type": "list", "elements": "str", "default": []},
        "min_size": size("1MB"),
        "measure_budget": duration("60s"),
        "measure_bytes": size("8GB"),
        "min_bloat_ratio": ratio(0.3),
        "min_bloat_bytes": size("8MB"),
        "min_dead_ratio": ratio(0.2),
        "sort": {"type": "str", "choices": list(report.ORDERS), "default": "bloat_bytes"},
        "top": between(0, None, 100),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Survey the database and report on it."""
    plan = report.BloatReportPlan.from_params(call.params)
    server = Server(create_target(call.params), Login.from_params(call.params, "bloat report"))
    return Result(False, report.report(server, plan).as_result())


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
