#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_log_cleanup
short_description: Remove old log files of a PostgreSQL server
version_added: 0.1.0
description:
  - Removes files below the server's C(log_directory) that were not written to for O(older_than) and whose names match its C(log_filename),
    with C(.log), C(.csv) or C(.json).
  - The module never removes a file that the server writes to, and removes no link. It follows no link that leads out of C(log_directory).
    Other files are not touched.
  - Several servers may write to one C(log_directory) outside of their data directories. There, files of accounts other than the server's
    and files that any process has open are kept, too. When the module cannot see which files are open, it removes only files that were not
    written to for V(25h), even if O(older_than) is shorter. It cannot distinguish closed files of another server with the same account and
    the same C(log_filename).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  older_than:
    description: How long a file must not have been written to before it is removed, for example V(14d). At least V(1h).
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
  - godel.postgres_runbook.attributes
notes:
  - The module must run on the server's host, as C(root) or as the server's account, or in its pod. The login needs the role C(pg_monitor).
  - Without C(logging_collector), the output of the server is kept by another program, such as systemd or Kubernetes, and is not touched.
seealso:
  - module: godel.postgres_runbook.pg_disk_info
  - name: Where to log
    description: How the server names its log files, and how it can use the same names again.
    link: https://www.postgresql.org/docs/current/runtime-config-logging.html
"""

EXAMPLES = r"""
- name: Remove log files older than two weeks
  godel.postgres_runbook.pg_log_cleanup:
    db: godel_production
    older_than: 14d
"""

RETURN = r"""
directory:
  description: The directory of the log files, with links resolved; null when the server writes none.
  returned: always
  type: str
removed:
  description: The files that were removed, or would be in check mode, with C(path), C(size_bytes) and C(modified), the oldest first.
  returned: always
  type: list
  elements: dict
kept:
  description: The number of log files that are kept.
  returned: always
  type: int
freed_bytes:
  description: The total size of the removed files.
  returned: always
  type: int
notes:
  description: Remarks, for example on files that the module could not examine, and the consequence.
  returned: always
  type: list
  elements: str
msg:
  description: A summary in one or two sentences.
  returned: always
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration
from ..module_utils._diagnostics.disk import log_cleanup
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import counted, utc_now

SPEC = ArgumentSpec(
    {
        "older_than": duration("7d", least=log_cleanup.LEAST_AGE),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Remove what is old."""
    params = call.params
    target = create_target(params)
    server = Server(target, Login.from_params(params, "log cleanup"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        done = log_cleanup.clean(session, target, params["older_than"], utc_now(), rehearsal=call.check_mode)
    values = log_cleanup.values(done)
    failure = None
    if done.problem is None:
        values["msg"] = log_cleanup.describe(done, rehearsal=call.check_mode)
    else:
        failure = f"{done.problem.message} {counted(len(done.removed), 'file')} had been removed before."
        values.update(done.problem.as_result())
    return Result(bool(done.removed), values, log_cleanup.difference(done), failure=failure)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
