#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_storage_info
short_description: Report the sizes of databases and tables, their growth, and when the disk will be full
version_added: 0.1.0
description:
  - Lists all databases of the server, the largest tables of one database with indexes and TOAST, and the tablespaces.
  - Partitions count towards their partitioned table, indexes and TOAST tables towards their table.
  - From earlier samples the module computes the growth, and predicts when the disk with the server's data will be full. See RV(forecast).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  top:
    description: The number of tables to list, 1 to 1000.
    type: int
    default: 50
  history:
    description:
      - Earlier values of RV(sample), in any order. Invalid ones are left out, and RV(notes) says so.
    type: list
    elements: dict
    default: []
  min_span:
    description: The time that the samples must cover before anything is predicted, for example V(6h). At least three samples are needed,
      including the current one.
    type: str
    default: 6h
  full_warning:
    description: A predicted full disk within this time is a V(warning), for example V(30d).
    type: str
    default: 30d
  full_critical:
    description: A predicted full disk within this time is V(critical), for example V(7d).
    type: str
    default: 7d
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
  - The largest tables are found by the sizes of their files, not by statistics. With 100,000 relations this takes a second or two.
  - Free space is reported only if the module can see the server's data directory, on the server's host as C(root) or as the server's
    account, or in its pod. The login needs the role C(pg_read_all_settings) for this, which C(pg_monitor) includes.
seealso:
  - module: godel.postgres_runbook.pg_disk_info
  - module: godel.postgres_runbook.pg_bloat_report
"""

EXAMPLES = r"""
- name: Report the largest databases and tables
  godel.postgres_runbook.pg_storage_info:
    db: godel_production
    top: 10
  register: storage

- name: Predict when the disk will be full
  godel.postgres_runbook.pg_storage_info:
    db: godel_production
    history: "{{ earlier_samples }}"
"""

RETURN = r"""
databases:
  description: All databases, the largest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    current:
      description: Whether it is O(db).
      type: bool
    size_bytes:
      description: Its size; null when the login may not see it.
      type: int
    size_ratio:
      description: Its share of the total of all known sizes, 0 to 1.
      type: float
    growth_bytes_per_day:
      description: Its growth in bytes per day; null when there are too few samples.
      type: int
databases_size_bytes:
  description: The total of all known sizes.
  returned: success
  type: int
tables:
  description: The largest tables and materialized views of O(db), including system tables.
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
    identity:
      description: Its schema and name, quoted where SQL needs it.
      type: str
    kind:
      description: V(table), V(partitioned table) or V(materialized view).
      type: str
    partitions:
      description: The number of its partitions that have storage, at all levels. The sizes are the totals of these.
      type: int
    heap_bytes:
      description: The size of its heap, with the free space map and the visibility map.
      type: int
    index_bytes:
      description: The size of its indexes.
      type: int
    toast_bytes:
      description: The size of its TOAST table, with the index of that.
      type: int
    total_bytes:
      description: The total size.
      type: int
    rows_estimate:
      description: The number of its rows as estimated by the last C(VACUUM) or C(ANALYZE); null when there was none.
      type: int
    system:
      description: Whether it is a system table.
      type: bool
table_count:
  description: The number of all tables, listed or not. A partitioned table counts as one.
  returned: success
  type: int
tablespaces:
  description: The tablespaces with C(name), C(location) (null for the two in the data directory) and C(size_bytes) (null when it is hidden).
  returned: success
  type: list
  elements: dict
free_bytes:
  description: The free space on the file system of the data directory; null when it cannot be seen.
  returned: success
  type: int
total_bytes:
  description: The size of that file system; null when it cannot be seen.
  returned: success
  type: int
forecast:
  description:
    - When the disk will be full if the growth continues. C(basis) is V(disk) when all used space on the disk is known, and V(databases)
      when only the sizes of databases are known.
    - The growth is the median of the slopes between any two samples (Theil-Sen estimator), and its limits are Sen's 95 % interval.
      C(full_at), C(full_at_earliest) and C(full_at_latest) are computed from these. They are null when the used space does not grow, or
      when the disk will not be full within ten years.
    - C(certain) is true if even the lower limit is positive. C(why) gives the reason when there is no C(full_at).
  returned: success
  type: dict
  sample:
    basis: disk
    method: Theil-Sen slope, Sen's 95 % interval
    samples: 31
    span_s: 2592000.0
    growth_bytes_per_day: 1073741824
    growth_lowest_bytes_per_day: 966367641
    growth_highest_bytes_per_day: 1181116006
    certain: true
    full_at: "2026-04-17T03:00:00Z"
    full_at_earliest: "2026-04-10T09:00:00Z"
    full_at_latest: "2026-04-25T12:00:00Z"
    why: ""
sample:
  description: The current sizes, to be kept for O(history). It has C(collected_at), C(databases), C(free_bytes) and C(total_bytes).
  returned: success
  type: dict
notes:
  description: Remarks, for example on data that the login has no privilege to see.
  returned: success
  type: list
  elements: str
findings:
  description: The findings, C(disk_forecast) and C(database_share).
  returned: success
  type: list
  elements: dict
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: A summary in a few sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration
from ..module_utils._diagnostics.storage import report as storage
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "top": between(1, 1000, 50),
        "history": {"type": "list", "elements": "dict", "default": []},
        "min_span": duration("6h"),
        "full_warning": duration("30d"),
        "full_critical": duration("7d"),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the sizes and judge them."""
    params = call.params
    target = create_target(params)
    server = Server(target, Login.from_params(params, "storage info"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        space, note = storage.free_space(session, target)
        plan = storage.StoragePlan.from_params(params, space=space, space_note=note)
        report = storage.collect(session, plan, utc_now())
    values = {
        **report.values(),
        **judged(report.findings),
        "msg": storage.describe(report),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
