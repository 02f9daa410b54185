#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_index_info
short_description: Find unused, duplicate, redundant, invalid and missing indexes of a PostgreSQL database
version_added: 0.1.0
description:
  - Reports findings on indexes, each with its size and the exact command. This module never drops or creates anything.
  - C(index_unused) had no scan in the time for which scans have been counted. C(index_duplicate) equals another index. C(index_redundant)
    is a B-tree whose columns are the leading columns of another index. C(index_invalid) cannot be used by any query. C(index_missing_for_key) is a foreign
    key without an index on the referencing side.
  - Indexes that another object needs are never reported as unused, duplicate or redundant. These are indexes that enforce uniqueness, back
    a constraint, are referenced by a foreign key, identify rows for replication, are used by C(CLUSTER), are a part of a partitioned
    index, or belong to an extension.
  - C(index_twin) names two such indexes that are equal, with the reason why each must stay.
  - The last index that serves a foreign key, and one that would serve the queries of an index that may be dropped, are not reported as
    unused.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  schemas:
    description: Look only at indexes of tables in these schemas. The default is all schemas but the system's.
    type: list
    elements: str
    default: []
  min_size:
    description: The size below which indexes, and tables with foreign keys, are left out, for example V(1MB). Invalid indexes are always
      reported.
    type: str
    default: 1MB
  unused_after:
    description:
      - How long scans must have been counted before an index without scans is reported as unused.
      - The default covers weekly jobs. For monthly jobs use V(35d).
    type: str
    default: 8d
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - Each server counts its own scans. An index that looks unused may serve queries on a standby.
seealso:
  - module: godel.postgres_runbook.pg_reindex
"""

EXAMPLES = r"""
- name: Find large indexes that are not needed
  godel.postgres_runbook.pg_index_info:
    db: godel_production
    min_size: 100MB
  register: indexes
"""

RETURN = r"""
index_count:
  description: The number of indexes.
  returned: success
  type: int
index_size_bytes:
  description: Their total size.
  returned: success
  type: int
superfluous_bytes:
  description: The size of those that are unused, duplicate, redundant or invalid. Twins that must stay do not count.
  returned: success
  type: int
statistics_age_s:
  description: How long scans have been counted, in seconds; null when it is unknown.
  returned: success
  type: float
findings:
  description: The findings. C(value) is the size in bytes, of the index or of the table that has none.
  returned: success
  type: list
  elements: dict
  sample:
    - check: index_duplicate
      severity: warning
      subject: public.users_name_idx1
      value: 104857600
      threshold:
      message: "public.users_name_idx1 (100.0 MiB) is the same as public.users_name_idx: each write updates both."
      remedy: DROP INDEX CONCURRENTLY public.users_name_idx1;
severity:
  description: The worst severity among the findings, V(ok), V(info) or V(warning).
  returned: success
  type: str
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration, size
from ..module_utils._findings import judged
from ..module_utils._maintenance.reindex import advice
from ..module_utils._maintenance.sql import LOOK_SETTINGS
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_size": size("1MB"),
        "unused_after": duration("8d"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the indexes and examine them."""
    params = call.params
    standards = advice.IndexStandards.from_params(params)
    server = Server(create_target(params), Login.from_params(params, "index info"), check_mode=call.check_mode)
    with server.connect(params["db"], settings=LOOK_SETTINGS) as session:
        found = advice.look(session, params["schemas"], standards, utc_now())
    findings = found.findings
    values = {
        "index_count": len(found.indexes),
        "index_size_bytes": sum(index.size_bytes for index in found.indexes),
        "superfluous_bytes": advice.superfluous_bytes(findings),
        "statistics_age_s": found.counted.age_s,
        **judged(findings),
        "msg": advice.describe(findings, found.indexes),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
