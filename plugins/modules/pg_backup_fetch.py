#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_fetch
short_description: Bring a verified copy of a backup from a pod to the host of the task
version_added: 0.1.0
description:
  - Copies one backup of a catalog into another catalog, on the host that the module runs on, which is usually the controller.
    There all modules can use it like any other backup, without O(kubernetes).
  - Every file has to arrive with the size and the SHA-256 that the manifest has of it, which were computed where the backup was
    taken. A connection that is cut is made anew and goes on with the next byte, for as long as another one comes within five minutes.
  - The copy appears in O(dest) by one rename, when all of it is on disk and proven. Whatever kills the module before leaves nothing
    that looks like a backup, and the next run goes on with what came.
  - The records of verifications come along, as the copy is the same to the byte. When there are new ones, another run brings them.
  - Without O(kubernetes) it copies from one directory of the host to another one, for example on another disk or on the storage
    of another machine. A copy on the same file system gets a warning.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup:
    description:
      - V(latest) or the id of a backup.
    type: str
    default: latest
  dest:
    description:
      - Absolute path of a directory on the host that the module runs on, for the backups of all databases.
      - When a backup with this id is there and is not the same one, the module fails and leaves it as it is.
    type: path
    required: true
notes:
  - The options of the connection are accepted, so that C(module_defaults) can give them to all modules, but not used.
  - While it runs, the backup cannot be verified or removed, neither here nor there.
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_backup
  - module: godel.postgres_runbook.pg_backup_info
  - module: godel.postgres_runbook.pg_restore_verify
"""

EXAMPLES = r"""
- name: Bring the newest backup to the controller
  godel.postgres_runbook.pg_backup_fetch:
    kubernetes:
      namespace: godel
      workload: deployment/postgres
    db: godel_production
    backup_dir: /backups
    dest: /srv/backups
  delegate_to: localhost

- name: Prove the copy there
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /srv/backups
  delegate_to: localhost
"""

RETURN = r"""
backup:
  description: The backup, with what its manifest says of it.
  returned: success
  type: dict
  contains:
    id:
      description: Its name in both catalogs.
      type: str
      sample: godel_production_20260206T030405Z
    path:
      description: The directory of the copy, also when it would be made.
      type: str
      sample: /srv/backups/godel_production/godel_production_20260206T030405Z
    size_bytes:
      description: Size of its files.
      type: int
    started:
      description: When its snapshot was taken, RFC 3339 in UTC.
      type: str
      sample: "2026-02-06T03:04:05Z"
    verdict:
      description: The latest verdict, V(verified), V(incomplete), V(failed) or V(inconclusive); null when it was never verified.
      type: str
source:
  description: Its directory in the catalog that it came from.
  returned: success
  type: str
  sample: /backups/godel_production/godel_production_20260206T030405Z
fetched_bytes:
  description: How much came.
  returned: when something was fetched
  type: int
resumed_bytes:
  description: How much was there already, from a run that was cut short.
  returned: when something was fetched
  type: int
verdicts:
  description: How many records of verifications came.
  returned: when something was fetched
  type: int
removed:
  description: Paths that were removed because a run that died had left them.
  returned: when something was fetched
  type: list
  elements: str
duration_s:
  description: How long it took, in seconds.
  returned: when something was fetched
  type: float
msg:
  description: One sentence for people.
  returned: success
  type: str
"""

import time

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, ArgumentSpec
from ..module_utils._backup import fetch
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._module import Call, Result, run
from ..module_utils._target.factory import create_target

SPEC = ArgumentSpec(
    {
        "backup": {"type": "str", "default": "latest"},
        "dest": {"type": "path", "required": True},
    }
).merge(CONNECTION, DATABASE, CATALOG, KUBERNETES)


def operation(call: Call) -> Result:
    """Fetch a backup, unless it is there."""
    params = call.params
    started = time.monotonic()
    target = create_target(params)
    plan = fetch.FetchPlan.from_params(params)
    depot = fetch.Depot(target, Catalog(target, params["backup_dir"]), plan)
    found = depot.look()
    warnings = fetch.doubts(found)
    if not params["kubernetes"]:
        warnings += fetch.too_near(target, params["backup_dir"], params["dest"])
    if not found.changes:
        return Result(False, fetch.report(found, None), warnings=warnings)
    depot.preflight(found)
    if call.check_mode:
        return Result(True, fetch.report(found, None), {"before": "", "after": f"{found.path}\n"}, warnings)
    found, done = depot.fetch()
    values = fetch.report(found, done, time.monotonic() - started)
    return Result(found.changes, values, {"before": "", "after": f"{found.path}\n"}, warnings)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
