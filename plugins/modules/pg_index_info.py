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
  - Judges indexes as findings, each with its size and the exact command. It never drops or creates anything.
  - C(index_unused) has no scan since the statistics began. C(index_duplicate) is the same as another one. C(index_redundant) is a
    B-tree whose keys another one begins with. C(index_invalid) is of no use to any query. C(index_missing_for_key) is a foreign key
    without an index on the referencing side.
  - What enforces uniqueness, backs a constraint, is referenced by a foreign key, identifies rows for replication, is what C(CLUSTER) sorts
    by, is a part of a partitioned index, or belongs to an extension is never called unused, duplicate or redundant.
  - C(index_twin) names two such indexes that are the same, with the reason why each must stay.
  - The last index by which a foreign key finds its rows, and one that would serve the queries of an index that may go, are not called unused.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  schemas:
    description: Only indexes of tables in these schemas. All but the system's when it is left out.
    type: list
    elements: str
    default: []
  min_size:
    description: Smaller indexes, and smaller tables with foreign keys, are not judged. Invalid indexes always are.
    type: str
    default: 1MB
  unused_after:
    description:
      - Since when scans have to be counted before an index without one is called unused.
      - The default includes weekly jobs. For monthly ones use V(35d).
    type: str
    default: 8d
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - Scans are counted by each server for itself. An index that looks unused may serve queries on a replica.
seealso:
  - module: godel.postgres_runbook.pg_reindex
"""

EXAMPLES = r"""
- name: See which large indexes nobody needs
  godel.postgres_runbook.pg_index_info:
    db: godel_production
    min_size: 100MB
  register: indexes
"""

RETURN = r"""
index_count:
  description: How many indexes there are.
  returned: success
  type: int
index_size_bytes:
  description: Their size.
  returned: success
  type: int
superfluous_bytes:
  description: The size of those that are unused, duplicate, redundant or invalid. Twins that must stay do not count.
  returned: success
  type: int
statistics_age_s:
  description: Since when scans are counted, in seconds; null when that is not known.
  returned: success
  type: float
findings:
  description: What was judged. C(value) is the size in bytes, of the index or of the table that has none.
  returned: success
  type: list
  elements: dict
  sample:
    - check: index_duplicate
      severity: warning
      subject: public.users_name_idx1
      value: 104857600
      threshold:
      message: "public.users_name_idx1 (100.0 MiB) is the same as public.users_name_idx: each write pays for both."
      remedy: DROP INDEX CONCURRENTLY public.users_name_idx1;
severity:
  description: The worst severity among the findings, V(ok), V(info) or V(warning).
  returned: success
  type: str
msg:
  description: One sentence for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec
from ..module_utils._findings import judged
from ..module_utils._maintenance.reindex import advice, indexes
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import parse_duration, parse_size, utc_now

SPEC = ArgumentSpec(
    {
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_size": {"type": "str", "default": "1MB"},
        "unused_after": {"type": "str", "default": "8d"},
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the indexes and judge them."""
    params = call.params
    standards = advice.Standards(
        min_bytes=parse_size(params["min_size"], "min_size"),
        unused_after_s=parse_duration(params["unused_after"], "unused_after"),
    )
    server = Server(create_target(params), Login.from_params(params, "index info"), check_mode=call.check_mode)
    with server.connect(params["db"], settings=indexes.LOOK_SETTINGS) as session:
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
