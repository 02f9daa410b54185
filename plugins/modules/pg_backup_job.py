#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_job
short_description: Start a Job of a backup CronJob now, and wait until its backup is in the catalog
version_added: 0.1.0
description:
  - Creates a Job from the template of a CronJob, as C(kubectl create job --from=cronjob/NAME) does, waits for its end, and checks that the
    catalog has a new backup. This tests exactly what the schedule will do.
  - When a Job of the CronJob is already running, the module waits for it and starts no second one.
  - When the Job fails, the task fails with the reason and the end of the log.
  - When the task is cancelled, the Job that it has started is deleted. When the connection is lost, or after O(wait), the Job continues.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  schedule:
    description: Name of the CronJob. It is in the namespace of O(kubernetes).
    type: str
    required: true
  max_age:
    description:
      - Start no Job if the newest backup is younger than this, for example V(30m) or V(12h). It must have a fingerprint, and must not
        have failed its verification.
      - By default, or with V(0), a Job is always started.
    type: str
  wait:
    description: How long to wait for the end of the Job, for example V(2h).
    type: str
    default: 6h
notes:
  - The connection options are accepted, so that C(module_defaults) can set them for all modules, but they are not used. The Job has its
    own connection options.
  - O(kubernetes) is required. The account needs the rights in C(docs/rbac/backup_from_schedule.yml) and C(docs/rbac/pod.yml).
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_backup
  - module: godel.postgres_runbook.pg_backup_schedule_info
"""

EXAMPLES = r"""
- name: Test tonight's backup now
  godel.postgres_runbook.pg_backup_job:
    schedule: postgres-backup
    db: godel_production
    backup_dir: /backups
    kubernetes:
      namespace: godel
      workload: deployment/postgres
    wait: 2h
"""

RETURN = r"""
backup:
  description: The new backup, or the newest one if it is recent enough, as M(godel.postgres_runbook.pg_backup) returns it.
  returned: success, unless in check mode
  type: dict
  sample:
    id: godel_production_20260206T030405Z
    database: godel_production
    size_bytes: 521142272
    path: /backups/godel_production/godel_production_20260206T030405Z
job:
  description: The Job that the module waited for.
  returned: when there was one
  type: dict
  sample:
    name: postgres-backup-20260206030400-1f2e
    state: complete
    manual: true
    started: "2026-02-06T03:04:01Z"
    ended: "2026-02-06T03:05:07Z"
    duration_s: 66
    reason: ""
    message: ""
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration
from ..module_utils._backup.schedule import run_job
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._catalog.newest import newest_within
from ..module_utils._kube.cluster import connect
from ..module_utils._module import Call, Result, run
from ..module_utils._target.factory import create_target
from ..module_utils._units import human_duration, utc_now

SPEC = ArgumentSpec(
    {
        "schedule": {"type": "str", "required": True},
        "max_age": duration(),
        "wait": duration("6h", least="1s"),
    }
).merge(CONNECTION, DATABASE, CATALOG, KUBERNETES)


def operation(call: Call) -> Result:
    """Start a Job and wait for its backup, unless a young enough one is there."""
    params = call.params
    plan = run_job.JobPlan.from_params(params)
    with connect(params["kubernetes"]) as cluster:
        catalog = Catalog(create_target(params), params["backup_dir"])
        now = utc_now()
        young = newest_within(catalog, plan.db, plan.max_age_s, True, now) if plan.max_age_s else None
        if young is not None:
            text = f"Backup {young.id} is younger than {human_duration(plan.max_age_s or 0)}; nothing to do."
            return Result(False, {"backup": {**young.usable().summary(), "path": young.path}, "msg": text})
        start = run_job.look(cluster, plan.schedule)
        if call.check_mode:
            would = f"The task would wait for Job {start.running.name}." if start.running else "A Job would be started."
            diff = {"before": "", "after": f"a new backup of {plan.db}\n"}
            return Result(True, {"msg": f"CronJob {plan.schedule}: {would}"}, diff)
        known = next(catalog.entries(plan.db), None)
        job = run_job.run(cluster, start, now, plan.wait_s)
    made = run_job.backup_of(catalog, plan.db, job, known, utc_now())
    figures = job.as_dict(utc_now())
    values = {
        "backup": {**made.usable().summary(), "path": made.path},
        "job": figures,
        "msg": f"Backup {made.id} was taken by job {job.name}.",
    }
    return Result(True, values, {"before": "", "after": f"{made.path}\n"})


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
