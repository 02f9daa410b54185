#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore
short_description: Restore a backup of a PostgreSQL database beside production, and prove it
version_added: 0.1.0
description:
  - Restores a backup as a database of its own on the production server, with owners, rights, extensions, encoding and collation
    of the source, and with the owner, settings, grants and comment that the database in production has, or when there is none, that
    the source had. Proves it against the backup's fingerprint, runs C(ANALYZE), and asks O(smoke_queries).
  - Production is not touched. M(godel.postgres_runbook.pg_database_swap) puts the proven database in its place.
  - A stage that fails is dropped. If the module is killed, or its connection is lost for good, while it loads, the next run drops what
    it left.
  - If that happens after the load, the next run for the same backup loads nothing. It compares the stage in full, and goes on from
    there. A run for another backup, or with another O(bin_dir), O(login_user) or tablespace, drops the stage.
  - A backup is loaded again in any case if its content cannot be compared (not taken by this collection, or taken without a fingerprint of its content),
    or if statements were refused whose texts may have values in them. Every role of the server could read these in the mark.
  - Nothing is done when production came from this very backup. When a proven stage of it is there already, it is made like
    production again and asked again, but not loaded.
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
  - The login has to be a superuser.
  - Tablespaces of the source are not used. All goes to the default tablespace.
seealso:
  - module: godel.postgres_runbook.pg_database_swap
  - module: godel.postgres_runbook.pg_restore_verify
"""

EXAMPLES = r"""
- name: Stage the newest verified backup beside production
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
  description: The proven database; null when there is nothing to do, and in check mode.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: godel_production_staged_20260206T030405Z
    backup:
      description: The backup that it came from.
      type: str
    verdict:
      description: V(verified); V(incomplete) when O(accept) allowed it; V(inconclusive) when O(accept) or O(accept_unproven) did.
      type: str
    lost:
      description: Parts of its source that it lacks, at most 50 texts. Empty unless O(accept) allowed it.
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
    - Findings before anything was done, with the tables whose number of rows will change.
    - C(loaded_as) is the name of a stage that an earlier run has loaded and not proven, from which this one goes on; null without one.
  returned: when production did not come from this backup
  type: dict
findings:
  description:
    - Objects that are tied to the database in production and need attention before the swap.
    - Parts that the restored database lacks (C(restore_incomplete)), and sequences that stand behind their columns (C(sequence_position)).
  returned: success
  type: list
  elements: dict
removed:
  description: Databases that earlier runs had left half-way, and that were dropped.
  returned: when a stage was made or found
  type: list
  elements: str
resumed:
  description: Whether an earlier run has loaded the stage. This run has compared it, and has done what comes after.
  returned: when a stage was made or found
  type: bool
staged_s:
  description: Seconds that it took in all.
  returned: when a stage was made
  type: float
steps:
  description: Seconds that each step took. C(create_s) and C(restore_s) are missing when an earlier run has loaded the stage.
  returned: when a stage was made
  type: dict
msg:
  description: One sentence for people.
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
            text = f"{plan.db} came from {identity.name}; nothing to do."
            return Result(False, {"stage": None, "findings": [], "msg": text})
        with stage.hold_backup(catalog, subject):
            found = preflight.preflight(target, server, session, plan, subject, identity)
            values: dict[str, object] = {
                "preflight": found.as_dict(),
                "findings": [finding.as_dict() for finding in found.findings],
            }
            diff = preflight.difference(found, utc_now())
            if call.check_mode:
                text = f"{found.source.name} would be restored beside {plan.db}. {preflight.summary(found)}".rstrip()
                if found.loaded_as:
                    text = f"{text} It is loaded already, as {found.loaded_as}: only what comes after would be done."
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
