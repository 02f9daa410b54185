#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_fetch
short_description: Copy a backup from a pod to the host of the task, and verify the copy
version_added: 0.1.0
description:
  - Copies one backup of a catalog into another catalog, on the host that the module runs on, which is usually the controller. All modules
    can use the copy like any other backup, without O(kubernetes).
  - The size and the SHA-256 of each file must match the manifest, which was written where the backup was taken. If the connection is lost,
    the module connects again and continues at the next byte, as long as another byte arrives within five minutes.
  - The copy appears in O(dest) by one rename, after all of it was written to disk and checked. If the module is killed before
    that, no module uses the files as a backup, and the next run continues with them.
  - Records of verifications are copied, too, because the copy has the same bytes. Another run copies records that were added later.
  - Without O(kubernetes) the module copies from one directory of the host to another, for example on another disk or on network storage. It
    warns if both are on the same file system.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup:
    description:
      - V(latest), or the ID of a backup, for example V(godel_production_20260206T030405Z).
    type: str
    default: latest
  dest:
    description:
      - Absolute path of a directory on the host that the module runs on, for the copies of all databases, for example V(/srv/backups).
      - If the directory has a different backup with the same ID, the module fails and does not change it.
    type: path
    required: true
notes:
  - The connection options are accepted, so that C(module_defaults) can set them for all modules, but they are not used.
  - While the module runs, neither the backup nor its copy can be verified or removed.
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
- name: Copy the newest backup to the controller
  godel.postgres_runbook.pg_backup_fetch:
    kubernetes:
      namespace: godel
      workload: deployment/postgres
    db: godel_production
    backup_dir: /backups
    dest: /srv/backups
  delegate_to: localhost

- name: Verify the copy
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /srv/backups
  delegate_to: localhost
"""

RETURN = r"""
backup:
  description: The backup, with values from its manifest.
  returned: success
  type: dict
  contains:
    id:
      description: Its name in both catalogs.
      type: str
      sample: godel_production_20260206T030405Z
    path:
      description: The directory of the copy. In check mode, the directory that the copy would have.
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
  description: Its directory in the catalog O(backup_dir).
  returned: success
  type: str
  sample: /backups/godel_production/godel_production_20260206T030405Z
fetched_bytes:
  description: The number of bytes that were copied.
  returned: when something was fetched
  type: int
resumed_bytes:
  description: The number of bytes that an interrupted run had already copied.
  returned: when something was fetched
  type: int
verdicts:
  description: The number of records of verifications that were copied.
  returned: when something was fetched
  type: int
removed:
  description: Paths of leftovers of interrupted runs that were removed.
  returned: when something was fetched
  type: list
  elements: str
duration_s:
  description: How long it took, in seconds.
  returned: when something was fetched
  type: float
msg:
  description: A summary in one sentence.
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
