#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_wal_switch
short_description: End the current WAL file of a PostgreSQL server early, so that it is archived
version_added: 0.1.0
description:
  - Switches to a new WAL file if the server is a primary that archives, and if WAL was written since the last switch.
  - A switch frees no space. M(godel.postgres_runbook.pg_disk_info) reports what holds WAL.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  force:
    description:
      - Whether to switch even if C(archive_mode) is off, or if no more than 1 kB was written since the last switch, which is what an idle
        server writes. With V(true) each run switches.
    type: bool
    default: false
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
  - The login must be a superuser, or have the privilege C(EXECUTE) on the function C(pg_switch_wal).
seealso:
  - module: godel.postgres_runbook.pg_disk_info
"""

EXAMPLES = r"""
- name: Archive the WAL that was written so far
  godel.postgres_runbook.pg_wal_switch:
    db: godel_production
"""

RETURN = r"""
ended_file:
  description: The WAL file that was ended, or would be in check mode; null when there was no switch.
  returned: success
  type: str
  sample: 0000000100000000000000A7
current_file:
  description: The WAL file that is being written. In check mode, the one before the switch.
  returned: success
  type: str
  sample: 0000000100000000000000A8
written_bytes:
  description: How many bytes of the file were written.
  returned: success
  type: int
msg:
  description: A summary in one or two sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration
from ..module_utils._diagnostics.disk import wal_switch
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target

SPEC = ArgumentSpec(
    {
        "force": {"type": "bool", "default": False},
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Switch, if it is of use."""
    params = call.params
    server = Server(create_target(params), Login.from_params(params, "wal switch"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        done = wal_switch.switch(session, force=params["force"], rehearsal=call.check_mode)
    text = done.why
    if done.due:
        text += " It would be ended." if call.check_mode else f" It was ended, and {done.current} is written now."
    values = {
        "ended_file": done.ended,
        "current_file": done.current,
        "written_bytes": done.written_bytes,
        "msg": text,
    }
    after = "the next file" if call.check_mode else done.current
    diff = {"before": f"{done.ended}\n", "after": f"{after}\n"} if done.due else {"before": "", "after": ""}
    return Result(done.due, values, diff)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
