#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_database_swap
short_description: Exchange a PostgreSQL database in production with a proven one, in a moment
version_added: 0.1.0
description:
  - Gives the database in O(db) another name, and its name to the database in O(replacement), in one transaction. At every moment
    one of the two is in production, and whole, whatever dies.
  - Sessions are terminated. A client that connects meanwhile waits for the moment that the swap takes, gets the error that the database
    was renamed, and reaches the other database when it connects again.
  - The replaced database is kept under another name, so that it can be swapped back.
  - If the swap would break replication slots, subscriptions or prepared transactions, nothing is done, and the message names them.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  replacement:
    description:
      - V(staged) is the newest database that M(godel.postgres_runbook.pg_restore) has staged for O(db). If there is none, and the one in
        production came from a stage, nothing is done.
      - V(replaced) is the newest database that a swap has replaced, to roll back. If production was rolled back already, nothing is
        done.
      - Or the name of a database that is marked as one of these.
    type: str
    default: staged
  block:
    description: How long new connections may be kept waiting at a time. If sessions do not end within it, the swap is tried again.
    type: str
    default: 2s
  attempts:
    description: How many times to try, 1 to 1000.
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
  - The login has to be a superuser.
seealso:
  - module: godel.postgres_runbook.pg_restore
  - module: godel.postgres_runbook.pg_database_discard
"""

EXAMPLES = r"""
- name: Put the staged database into production
  godel.postgres_runbook.pg_database_swap:
    db: godel_production
    keep_old: 3d
  register: swap

- name: Put the former one back
  godel.postgres_runbook.pg_database_swap:
    db: godel_production
    replacement: replaced
"""

RETURN = r"""
downtime_s:
  description: Seconds in which no session could connect to the database.
  returned: when databases were exchanged
  type: float
  sample: 0.112
replaced:
  description: The name that the former database has now; null if there was none.
  returned: when databases were exchanged
  type: str
live:
  description: The database in production, with the backup that it came from, its number of rows, and since when it is in production.
  returned: when databases were exchanged
  type: dict
attempts:
  description: How many attempts it took.
  returned: when databases were exchanged
  type: int
ended_sessions:
  description: The sessions that were terminated, with user, application, state and the age of their transaction.
  returned: when databases were exchanged
  type: list
  elements: dict
findings:
  description: Objects that are tied to the database and need attention.
  returned: in check mode
  type: list
  elements: dict
msg:
  description: One sentence for people.
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
