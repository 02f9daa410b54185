#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_slot_drop
short_description: Drop one replication slot that is not in use
version_added: 0.1.0
description:
  - Drops the slot with the given name, so that the server no longer keeps WAL for it. The task fails if the slot is in use.
  - A consumer of the slot cannot continue afterwards, and must be set up again.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  name:
    description: The full name of one slot, for example V(old_replica). Patterns are not supported.
    type: str
    required: true
  statement_timeout:
    description: How long each statement may take.
    type: str
    default: 10s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
notes:
  - The login must be a superuser or have the attribute C(REPLICATION). For a logical slot, O(db) must be the database of the slot.
seealso:
  - module: godel.postgres_runbook.pg_disk_info
  - module: godel.postgres_runbook.pg_replication_info
"""

EXAMPLES = r"""
- name: Drop the slot of a removed replica
  godel.postgres_runbook.pg_slot_drop:
    db: godel_production
    name: old_replica
"""

RETURN = r"""
slot:
  description: The slot before it was dropped, with C(name), C(type), C(database) and C(held_bytes); null when there was no slot with that
    name.
  returned: success
  type: dict
  sample:
    name: old_replica
    type: physical
    database:
    held_bytes: 5368709120
held_bytes:
  description: How much WAL it held; null when it held none, or when there was no slot with that name.
  returned: success
  type: int
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration
from ..module_utils._diagnostics.disk import slot_drop
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target

SPEC = ArgumentSpec(
    {
        "name": {"type": "str", "required": True},
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Drop the slot, if it is there."""
    params = call.params
    server = Server(create_target(params), Login.from_params(params, "slot drop"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        done = slot_drop.drop(session, params["name"])
    if not done.present:
        text, slot = f"There is no replication slot {done.name}.", None
    else:
        verb = "would be" if call.check_mode else "was"
        text = f"The {done.type} replication slot {done.name} {verb} dropped. It held {done.held}."
        slot = {"name": done.name, "type": done.type, "database": done.database, "held_bytes": done.held_bytes}
    diff = {"before": f"{done.name}\n" if done.present else "", "after": ""}
    return Result(done.present, {"slot": slot, "held_bytes": done.held_bytes, "msg": text}, diff)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
