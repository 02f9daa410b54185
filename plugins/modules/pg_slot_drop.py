#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_slot_drop
short_description: Drop one replication slot that nobody uses
version_added: 0.1.0
description:
  - Drops the slot of the given name, so that the server no longer keeps WAL for it. One that is in use is refused.
  - Its consumer cannot go on afterwards, and has to be set up again.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  name:
    description: The whole name of one slot. There are no patterns, and there is no way to drop all.
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
  - The login has to be a superuser or have the attribute C(REPLICATION). For a logical slot O(db) has to be the slot's own database.
seealso:
  - module: godel.postgres_runbook.pg_disk_info
  - module: godel.postgres_runbook.pg_replication_info
"""

EXAMPLES = r"""
- name: Drop the slot of a replica that is gone
  godel.postgres_runbook.pg_slot_drop:
    db: godel_production
    name: old_replica
"""

RETURN = r"""
slot:
  description: The slot as it was, C(name), C(type), C(database) and C(held_bytes); null when there was none of that name.
  returned: success
  type: dict
  sample:
    name: old_replica
    type: physical
    database:
    held_bytes: 5368709120
held_bytes:
  description: How much WAL it held; null when it held none, or when there was none of that name.
  returned: success
  type: int
msg:
  description: One sentence for people.
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
