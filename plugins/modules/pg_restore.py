#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a backup of a PostgreSQL database next to production, and verify it
version_added: 0.1.0
description:
  - Restores a backup into a new database on the production server, the staged copy. The copy gets the object owners, privileges, extensions,
    encoding and collation of the source. It gets the owner, settings, privileges and comment of the database in production, or of the source
    if there is no database in production.
  - Compares the staged copy with the fingerprint of the backup, runs C(ANALYZE), and runs O(smoke_queries).
  - The module does not change the database in production. M(godel.postgres_runbook.pg_database_swap) replaces it with the staged copy.
  - If a step fails, the module drops the staged copy. If the module is killed or loses its connection during the load, the next run drops
    the staged copy.
  - If this happens after the load, the next run for the same backup does not load it again. It compares the whole staged copy and continues
    from there. A run for another backup, or with another O(bin_dir), O(login_user) or tablespace, drops the staged copy.
  - A backup is always loaded again if its content cannot be compared, because this collection did not take it or because it has no
    fingerprint of its content. It is also loaded again if the server refused statements whose text may contain values, because every role of
    the server could read these values in the mark.
  - If the database in production came from this backup, the module does nothing. If a verified staged copy of this backup exists, the module
    updates its owner, settings and privileges and runs the smoke queries again, without another load.
author:
  - The godel.postgres_runbook authors (@godel)
extends_documentation_fragment:
  - godel.postgres_runbook.restore
  - godel.postgres_runbook.restore.allow
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.attributes
notes:
  - The login must be a superuser.
seealso:
  - module: godel.postgres_runbook.pg_database_swap
  - module: godel.postgres_runbook.pg_restore_verify
"""

EXAMPLES = r"""
- name: Restore the newest verified backup next to production
  godel.postgres_runbook.pg_restore:
    db: godel_production
    backup_dir: /backups
    smoke_queries:
      - query: SELECT count(*) > 0 FROM users
        expect: "True"
  become: true
  become_user: postgres
"""

RETURN = r"""
stage:
  description: The staged copy; null when there is nothing to do, and in check mode.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: godel_production_staged_20260206T030405Z
    backup:
      description: The backup from which it was restored.
      type: str
    verdict:
      description: V(verified); V(incomplete) when O(accept) allowed it; V(inconclusive) when O(accept) or O(accept_unproven) did.
      type: str
    lost:
      description: Parts of its source that it lacks, at most 50 entries. Empty unless O(accept) allowed them.
      type: list
      elements: str
    rows:
      description: Rows in all tables.
      type: int
    smoke:
      description: The smoke queries and their answers.
      type: list
      elements: dict
preflight:
  description:
    - The results of the checks before the load, with the tables whose number of rows will change.
    - C(loaded_as) is the name of a staged copy that an earlier run loaded but did not verify, and with which this run continues. It is null
      if there is none.
  returned: when production did not come from this backup
  type: dict
findings:
  description:
    - Objects that are tied to the database in production and need attention before the swap.
    - Parts that the restored database lacks (C(restore_incomplete)).
    - Sequences that are behind the largest value of their column (C(sequence_position)).
  returned: success
  type: list
  elements: dict
removed:
  description: Staged copies of interrupted runs that this run dropped.
  returned: when a staged copy was created or found
  type: list
  elements: str
resumed:
  description: Whether an earlier run loaded the staged copy, so that this run only did the steps after the load.
  returned: when a staged copy was created or found
  type: bool
staged_s:
  description: The total duration in seconds.
  returned: when a staged copy was created
  type: float
steps:
  description: The duration of each step in seconds. C(create_s) and C(restore_s) are absent when an earlier run loaded the staged copy.
  returned: when a staged copy was created
  type: dict
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, PROGRAMS
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._load import databases
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._restore import existing, preflight, source, stage
from ..module_utils._restore.plan import SmokeQuery, StagePlan
from ..module_utils._restore_options import ALLOW, STAGE
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now
from ..module_utils._verify.restore_copy import StepTimer

_MOST_JOBS = 4
SPEC = STAGE.merge(ALLOW, CONNECTION, DATABASE, CATALOG, PROGRAMS, KUBERNETES)


def operation(call: Call) -> Result:
    """Stage a backup, unless production came from it."""
    params = call.params
    target = create_target(params)
    plan = StagePlan.from_params(
        params,
        jobs=min(_MOST_JOBS, target.cpus()) if params["jobs"] is None else params["jobs"],
        smoke_queries=[SmokeQuery(**each) for each in params["smoke_queries"]],
    )
    plan.check()
    catalog = Catalog(target, params["backup_dir"])
    server = Server(target, Login.from_params(params, "restore"))
    with databases.connect_admin(server) as session:
        subject = source.choose(target, session, catalog, plan)
        identity = source.identify(target, subject, plan.jobs)
        if existing.already_live(session, plan, identity):
            text = f"{plan.db} was already restored from {identity.name}; nothing to do."
            return Result(False, {"stage": None, "findings": [], "msg": text})
        with stage.hold_backup(catalog, subject):
            found = preflight.preflight(target, server, session, plan, subject, identity)
            values: dict[str, object] = {
                "preflight": found.as_dict(),
                "findings": [finding.as_dict() for finding in found.findings],
            }
            diff = preflight.difference(found, utc_now())
            if call.check_mode:
                text = f"{found.source.name} would be restored next to {plan.db}. {preflight.summary(found)}".rstrip()
                if found.loaded_as:
                    text = f"{text} An earlier run has loaded it as {found.loaded_as}; only the steps after the load would run."
                return Result(True, {**values, "stage": None, "msg": text}, diff)
            clock = StepTimer()
            with clock.step("all"):
                staged = stage.stage(target, server, plan, found, clock)
    told = stage.report(staged)
    told["msg"] = f"{told['msg']} {preflight.summary(found)}".rstrip()
    values.update(told, staged_s=clock.steps.pop("all_s"), steps=clock.steps)
    values.update(preflight=found.as_dict(), findings=[finding.as_dict() for finding in found.findings])
    return Result(staged.changed or bool(staged.removed), values, diff)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
