#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_database_discard
short_description: Drop the previous databases of PostgreSQL restores, once their retention has expired
version_added: 0.1.0
description:
  - Drops databases that M(godel.postgres_runbook.pg_database_swap) replaced, once their retention has expired.
  - Drops staged copies of interrupted runs of M(godel.postgres_runbook.pg_restore). A staged copy whose load is complete is kept, because the
    next restore of that backup continues with it.
  - Only databases with a mark are dropped, and only if they still have the name in the mark. A database that was renamed is kept, and
    RV(notes) lists it.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  due_only:
    description:
      - Whether to drop only databases whose retention has expired. With V(false) all replaced databases are dropped, and all staged copies
        that were not swapped in, whether verified or only loaded.
    type: bool
    default: true
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_database_swap
"""

EXAMPLES = r"""
- name: Drop the previous databases whose retention has expired
  godel.postgres_runbook.pg_database_discard:
    db: godel_production
"""

RETURN = r"""
dropped:
  description: The names of the databases that were dropped, or would be in check mode.
  returned: success
  type: list
  elements: str
kept:
  description: The databases that are kept, with their state (C(replaced), C(staged) or C(loaded)) and the end of their retention. The end
    is null for databases that are dropped only with O(due_only=false).
  returned: success
  type: list
  elements: dict
  sample: [{"name": "shop_replaced_20260206T030405Z", "state": "replaced", "keep_until": "2026-02-13T03:04:05Z"}]
notes:
  description: Databases that have a mark but were renamed, so that they are kept. The module also issues each note as a warning.
  returned: success
  type: list
  elements: str
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._restore import discard
from ..module_utils._restore.plan import DiscardPlan
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec({"due_only": {"type": "bool", "default": True}}).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Drop what is due."""
    params = call.params
    server = Server(create_target(params), Login.from_params(params, "discard"), check_mode=call.check_mode)
    done = discard.discard(server, DiscardPlan.from_params(params), utc_now())
    dropped, notes, text = list(done.dropped), list(done.notes), done.message()
    diff = {"before": "".join(f"{name}\n" for name in dropped), "after": ""}
    values: dict[str, object] = {"dropped": dropped, "kept": done.kept_values(), "notes": notes, "msg": text}
    failure = None
    if done.failures:
        failure = " ".join([*done.failures, "Remove the cause, then run again.", text])
    return Result(bool(dropped), values, diff, warnings=notes, failure=failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
