#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_database_swap
short_description: Swap a PostgreSQL database in production with a verified one
version_added: 0.1.0
description:
  - Renames the database O(db), and renames the database O(replacement) to O(db), in one transaction. One of the two databases is in
    production, and complete, at every moment, even if the module or the server is killed.
  - The module terminates the sessions of both databases. A client that connects during the swap waits until it ends. The client then gets an
    error that the database was renamed, and reaches the new database when it connects again.
  - The replaced database is kept under another name, so that it can be swapped back.
  - If the swap would break replication slots, subscriptions or prepared transactions, the module changes nothing and names them.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  replacement:
    description:
      - V(staged) swaps in the newest staged copy that M(godel.postgres_runbook.pg_restore) restored for O(db). If there is no staged copy, and
        the database in production came from one, the module does nothing.
      - V(replaced) rolls back. It swaps in the newest database that a swap has replaced. If production was rolled back already, the module
        does nothing.
      - Any other value is the name of a database that is marked as staged or replaced.
    type: str
    default: staged
  block:
    description: How long one attempt may make new connections wait. If the sessions have not ended by then, the swap is tried again.
    type: str
    default: 2s
  attempts:
    description: The maximum number of attempts, 1 to 1000.
    type: int
    default: 10
extends_documentation_fragment:
  - godel.postgres_runbook.restore.swap
  - godel.postgres_runbook.restore.allow
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
notes:
  - The login must be a superuser.
seealso:
  - module: godel.postgres_runbook.pg_restore
  - module: godel.postgres_runbook.pg_database_discard
"""

EXAMPLES = r"""
- name: Swap the staged copy into production
  godel.postgres_runbook.pg_database_swap:
    db: godel_production
    keep_old: 3d
  register: swap

- name: Swap the previous database back
  godel.postgres_runbook.pg_database_swap:
    db: godel_production
    replacement: replaced
"""

RETURN = r"""
downtime_s:
  description: The time in seconds during which no session could connect to the database.
  returned: when the databases were swapped
  type: float
  sample: 0.112
replaced:
  description: The name under which the previous database is kept; null if there was none.
  returned: when the databases were swapped
  type: str
live:
  description: The database in production, with its backup, its number of rows, and the time of the swap.
  returned: when the databases were swapped
  type: dict
attempts:
  description: The number of attempts.
  returned: when the databases were swapped
  type: int
ended_sessions:
  description: The sessions that were terminated, with user, application, state and the age of their transaction.
  returned: when the databases were swapped
  type: list
  elements: dict
findings:
  description: Objects that are tied to the database and need attention before the swap.
  returned: in check mode
  type: list
  elements: dict
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._restore import swap
from ..module_utils._restore.plan import SwapPlan
from ..module_utils._restore_options import ALLOW, SWAP
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "replacement": {"type": "str", "default": "staged"},
        "block": duration("2s"),
        "attempts": between(1, 1000, 10),
    }
).merge(SWAP, ALLOW, CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Exchange two databases, unless that was done."""
    params = call.params
    plan = SwapPlan.from_params(params)
    plan.check()
    server = Server(create_target(params), Login.from_params(params, "swap"))
    done = f"{plan.db} is already in the requested state."
    if call.check_mode:
        with server.connect_aside() as session:
            pair = swap.choose(session, plan)
            if pair is None:
                return Result(False, {"findings": [], "msg": done})
            findings = [finding.as_dict() for finding in swap.preflight(server, session, plan, pair)]
        diff = {
            "before": f"{plan.db}: {swap.origin(pair.production)}\n",
            "after": f"{plan.db}: {swap.origin(pair.other)}\n",
        }
        return Result(True, {"findings": findings, "msg": f"{pair.other.name} would become {plan.db}."}, diff)
    swapped = swap.swap(server, plan, utc_now())
    if swapped is None:
        return Result(False, {"msg": done})
    return Result(True, {**swapped.as_dict(), "msg": swap.describe(plan, swapped)})


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
