#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_reindex
short_description: Rebuild the indexes of a PostgreSQL database that waste space, and invalid ones
version_added: 0.1.0
description:
  - Rebuilds indexes that a rebuild would make smaller by at least O(min_bloat_ratio) and O(min_bloat_bytes), the largest gain first,
    with C(REINDEX INDEX CONCURRENTLY), so that reads and writes go on.
  - Rebuilds invalid indexes, and drops what interrupted rebuilds have left (C(_ccnew), C(_ccold)), unless somebody works on the table.
  - An index whose bloat is not known well enough (O(min_confidence)) is not touched, and reported.
  - A transaction that a rebuild would wait for is named before anything is begun, and waited for at most O(wait_for_transactions).
  - A rebuild that ends early, for whatever reason, is cleaned up at once. If the module or the server is killed, or another session is in the way
    of that, the next run does it; what is still there is told in RV(leftovers) and as a finding.
  - A table that autovacuum works on just now is passed over, since a rebuild would put an end to its work.
  - Unused, duplicate and redundant indexes, and foreign keys without one, are reported as findings, and not touched, as by
    M(godel.postgres_runbook.pg_index_info).
  - The task fails when an index that was named, or every one, could not be rebuilt. The others are done all the same. It does not
    fail when a brake stopped it, or when a transaction was in the way; see RV(left).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  indexes:
    description: Only these, each as C(name) or C(schema.name). Of a partitioned one, all of its partitions.
    type: list
    elements: str
    default: []
  tables:
    description: Only the indexes of these tables, each as C(name) or C(schema.name). Of a partitioned one, of all of its partitions.
    type: list
    elements: str
    default: []
  schemas:
    description: Only the indexes of tables in these schemas. All but the system's when it is left out.
    type: list
    elements: str
    default: []
  min_bloat_ratio:
    description: The share of an index, 0 to 1, that a rebuild has to give back.
    type: float
    default: 0.3
  min_bloat_bytes:
    description: How much a rebuild has to give back. With V(0) every index is rebuilt in each run that has the ratio.
    type: str
    default: 8MB
  min_confidence:
    description:
      - How well the bloat has to be known. V(high) is measured, V(medium) is a good estimate, and V(low) is a guess, by which an index may
        be rebuilt in every run for nothing.
    type: str
    choices: [high, medium, low]
    default: medium
  measure_budget:
    description: How long measuring may take in all. With V(0) there are only estimates.
    type: str
    default: 60s
  measure_bytes:
    description: How much of tables and indexes may be read for measuring.
    type: str
    default: 4GB
  concurrently:
    description:
      - Whether to rebuild without keeping anybody waiting. With V(false) it is quicker, but writes to the table wait, and it needs an open
        O(window).
    type: bool
    default: true
  system:
    description:
      - Whether to work on the indexes of the system's catalogs, and on nothing else. It needs O(concurrently=false), since PostgreSQL cannot
        do it otherwise, and is seldom of use.
    type: bool
    default: false
  leftovers:
    description: Whether to see to invalid indexes, and to what interrupted rebuilds have left.
    type: bool
    default: true
  lock_timeout:
    description:
      - How long to wait for each lock. Once a concurrent rebuild has begun, which keeps nobody waiting, it waits for the transactions of
        others for O(max_transaction_age) if that is longer.
    type: str
    default: 10s
  statement_timeout:
    description: How long the rebuild of one index may take. No limit when it is left out.
    type: str
  retries:
    description:
      - How often to try an index again when a lock is not to be had. The pauses grow, from half a second to half a minute. An index that was
        built already, and given up for somebody's transaction, is left to the next run.
    type: int
    default: 3
  max_transaction_age:
    description:
      - How old a transaction may be that a rebuild would have to wait for, with a snapshot in this database or a lock on the table. V(5m)
        when it is left out. For younger ones it waits.
      - It is looked at before each index. Without the role C(pg_read_all_stats), only transactions of the login's own role are seen.
    type: str
  wait_for_transactions:
    description: How long to wait for older ones to end before giving up.
    type: str
    default: "0"
  check_space:
    description: Whether to leave out an index whose second copy will probably not fit, where the server's directories can be seen.
    type: bool
    default: true
  unused_after:
    description: Since when scans have to be counted before an index without one is called unused.
    type: str
    default: 8d
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.brakes
  - godel.postgres_runbook.attributes
notes:
  - The login has to own the indexes, or to have the right C(MAINTAIN) on their tables (PostgreSQL 17), or to be a superuser.
  - Bloat is known best with the extension C(pgstattuple). Of other indexes than B-trees it is not known.
seealso:
  - module: godel.postgres_runbook.pg_index_info
  - name: REINDEX
    description: What a concurrent rebuild does, and what it leaves when it is interrupted.
    link: https://www.postgresql.org/docs/current/sql-reindex.html
"""

EXAMPLES = r"""
- name: Rebuild what wastes more than a third of its space and more than 100 MB
  godel.postgres_runbook.pg_reindex:
    db: godel_production
    min_bloat_ratio: 0.33
    min_bloat_bytes: 100MB
    max_replica_lag: 256MB
    wait_for_transactions: 10m
  register: reindex

- name: Drop and rebuild what is invalid, and nothing else
  godel.postgres_runbook.pg_reindex:
    db: godel_production
    min_bloat_ratio: 1
    measure_budget: "0"
"""

RETURN = r"""
indexes:
  description: The indexes that had to be rebuilt, in the order of the work.
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
    table:
      description: The table that it is of; of a TOAST table the owner.
      type: str
    reason:
      description: V(bloat) or V(invalid).
      type: str
    state:
      description:
        - V(rebuilt); V(due) in check mode; V(skipped) when it cannot be rebuilt in this way, was dropped meanwhile, or autovacuum works on
          its table; V(failed); or V(left) for another run.
      type: str
    bloat_bytes:
      description: What a rebuild was expected to give back.
      type: int
    bloat_ratio:
      description: The same as a share of its size.
      type: float
    method:
      description: How that was found.
      type: str
    confidence:
      description: How well it is known.
      type: str
    size_before_bytes:
      description: Its size before.
      type: int
    size_after_bytes:
      description: Its size after the rebuild; null if there was none.
      type: int
    duration_s:
      description: How long it took, waiting and further attempts included.
      type: float
    attempts:
      description: How often it was tried.
      type: int
    why:
      description: Why it is not rebuilt.
      type: str
leftovers:
  description:
    - Invalid indexes that are not to be rebuilt, those among them that this run has left itself. Each has C(state) V(dropped), V(due),
      V(failed) or V(left), and why.
  returned: success
  type: list
  elements: dict
unknown:
  description: The first of the indexes whose bloat is not known well enough to act on it.
  returned: success
  type: list
  elements: dict
judged:
  description: How many indexes were looked at.
  returned: success
  type: int
freed_bytes:
  description: What was given back to the file system.
  returned: success
  type: int
left:
  description: Names of indexes that are not done.
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
from ..module_utils._errors import ConnectionFailed, QueryFailed
from ..module_utils._findings import Finding, judged
from ..module_utils._maintenance.limits import Limits
from ..module_utils._maintenance.reindex import advice, choose, indexes
from ..module_utils._maintenance.reindex import run as rebuild
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import parse_duration, parse_size, utc_now

_MAX_TRANSACTION_S = 300.0
SPEC = ArgumentSpec(
    {
        "indexes": {"type": "list", "elements": "str", "default": []},
        "tables": {"type": "list", "elements": "str", "default": []},
        "schemas": {"type": "list", "elements": "str", "default": []},
        "min_bloat_ratio": {"type": "float", "default": 0.3},
        "min_bloat_bytes": {"type": "str", "default": "8MB"},
        "min_confidence": {"type": "str", "choices": ["high", "medium", "low"], "default": "medium"},
        "measure_budget": {"type": "str", "default": "60s"},
        "measure_bytes": {"type": "str", "default": "4GB"},
        "concurrently": {"type": "bool", "default": True},
        "system": {"type": "bool", "default": False},
        "leftovers": {"type": "bool", "default": True},
        "lock_timeout": {"type": "str", "default": "10s"},
        "statement_timeout": {"type": "str"},
        "retries": {"type": "int", "default": 3},
        "wait_for_transactions": {"type": "str", "default": "0"},
        "check_space": {"type": "bool", "default": True},
        "unused_after": {"type": "str", "default": "8d"},
    }
).merge(CONNECTION, DATABASE, KUBERNETES, BRAKES)


def operation(call: Call) -> Result:
    """Rebuild what is worth it."""
    params = call.params
    limits = Limits.from_params(params, utc_now(), must_be_open=not call.check_mode)
    timeout = params["statement_timeout"]
    plan = choose.ReindexPlan(
        db=params["db"],
        indexes=params["indexes"],
        tables=params["tables"],
        schemas=params["schemas"],
        min_ratio=params["min_bloat_ratio"],
        min_bytes=parse_size(params["min_bloat_bytes"], "min_bloat_bytes"),
        min_confidence=params["min_confidence"],
        measure_budget_s=parse_duration(params["measure_budget"], "measure_budget"),
        measure_bytes=parse_size(params["measure_bytes"], "measure_bytes"),
        concurrently=params["concurrently"],
        system=params["system"],
        remains=params["leftovers"],
        lock_timeout_s=parse_duration(params["lock_timeout"], "lock_timeout"),
        statement_timeout_s=parse_duration(timeout, "statement_timeout") if timeout else None,
        retries=params["retries"],
        max_transaction_s=_MAX_TRANSACTION_S if limits.max_transaction_s is None else limits.max_transaction_s,
        wait_s=parse_duration(params["wait_for_transactions"], "wait_for_transactions"),
        check_space=params["check_space"],
    )
    plan.check(has_window=bool(params["window"]))
    standards = advice.Standards(unused_after_s=parse_duration(params["unused_after"], "unused_after"))
    target = create_target(params)
    server = Server(target, Login.from_params(params, "reindex"), check_mode=call.check_mode)
    done = rebuild.run(server, target, plan, limits, utc_now, rehearsal=call.check_mode)
    findings = [*choose.findings(done), *_judged(server, plan, standards, done)]
    values = {
        **choose.values(done),
        **judged(findings),
    }
    failure = None if call.check_mode else choose.failure(done)
    if failure is None:
        values["msg"] = choose.describe(done, rehearsal=call.check_mode)
    return Result(done.due if call.check_mode else done.changed, values, choose.difference(done), failure=failure)


def _judged(
    server: Server, plan: choose.ReindexPlan, standards: advice.Standards, done: choose.Reindexed
) -> list[Finding]:
    """What else there is to say of the indexes. Invalid ones have been dealt with."""
    if done.broken:
        return []
    try:
        with server.connect(plan.db, settings=indexes.LOOK_SETTINGS) as session:
            found = advice.look(session, plan.schemas, standards, utc_now()).findings
    except (ConnectionFailed, QueryFailed) as exc:  # what was done is told all the same
        done.notes.append(f"Unused, duplicate and missing indexes could not be looked for: {exc.why or exc.what}.")
        return []
    return [each for each in found if each.check != "index_invalid"]


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
