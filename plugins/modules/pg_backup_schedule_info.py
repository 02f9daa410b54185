#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_schedule_info
short_description: Read a backup CronJob and its Jobs, and check whether backups run as scheduled
version_added: 0.1.0
description:
  - Reads a CronJob, the Jobs that it owns, and the ends of the logs of the last three failed Jobs.
  - Reports findings, each with a severity and the safe next step. The checks are C(schedule_exists), C(schedule_success),
    C(schedule_suspended), C(schedule_missed), C(schedule_failed) and C(schedule_running).
  - M(godel.postgres_runbook.pg_backup_info) reports whether there are backups, and how old they are.
  - A finding never fails the task. Test RV(severity), or use the playbook C(godel.postgres_runbook.backup_status) with
    C(backup_status_schedule).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  name:
    description: Name of the CronJob. It is in the namespace of O(kubernetes).
    type: str
    required: true
  rpo:
    description:
      - The recovery point objective, that is, how long ago the last successful Job may have run, for example V(1d). When it is longer ago,
        the finding C(schedule_success) is critical. Otherwise failed Jobs and missed times are warnings.
    type: str
notes:
  - The connection options are accepted, so that C(module_defaults) can set them for all modules, but they are not used.
  - O(kubernetes) is required. Its C(workload) and C(container) are not used.
  - The account needs the rights in C(docs/rbac/backup_status.yml).
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
seealso:
  - module: godel.postgres_runbook.pg_backup_info
  - module: godel.postgres_runbook.pg_backup_job
"""

EXAMPLES = r"""
- name: Check the nightly backups
  godel.postgres_runbook.pg_backup_schedule_info:
    kubernetes:
      namespace: godel
      workload: deployment/postgres
    name: postgres-backup
    rpo: 26h
  register: nightly
  failed_when: nightly is failed or nightly.severity == 'critical'
"""

RETURN = r"""
schedule:
  description: The CronJob; null when there is none.
  returned: success
  type: dict
  sample:
    name: postgres-backup
    namespace: godel
    cron: 0 2 * * *
    time_zone: Europe/Berlin
    suspended: false
    last_scheduled: "2026-02-06T01:00:00Z"
    last_success: "2026-02-06T01:04:05Z"
    last_success_age_s: 7325
    next: "2026-02-07T01:00:00Z"
jobs:
  description: Its Jobs that still exist, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Job.
      type: str
    state:
      description: V(running), V(complete), V(failed) or V(suspended).
      type: str
      sample: complete
    manual:
      description: Whether it was started manually from the CronJob.
      type: bool
    started:
      description: When it was started, RFC 3339 in UTC.
      type: str
    ended:
      description: When it ended, RFC 3339 in UTC; null while it is running.
      type: str
    duration_s:
      description: How long it took, or has taken so far, in seconds.
      type: int
    reason:
      description: The reason of its failure as Kubernetes reports it.
      type: str
      sample: BackoffLimitExceeded
    message:
      description: The message of its failure as Kubernetes reports it.
      type: str
    waiting:
      description: Why its pod does not start; empty when it runs.
      type: str
      sample: "ErrImagePull: ..."
failed_job_log:
  description: The last lines of the log of the newest failed Job, unless a later Job succeeded.
  returned: success
  type: list
  elements: str
findings:
  description: The findings. The remedy of each is the safe next step.
  returned: success
  type: list
  elements: dict
  sample:
    - check: schedule_suspended
      severity: warning
      subject: postgres-backup
      value:
      threshold:
      message: "CronJob postgres-backup is suspended: no backups are taken automatically."
      remedy: Set backup_schedule_suspend to false and run the playbook godel.postgres_runbook.backup_schedule.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: ok
msg:
  description: When it ran, when it will run next, and the problems, in one or two sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, KUBERNETES, ArgumentSpec, duration
from ..module_utils._backup.schedule import judge
from ..module_utils._findings import judged
from ..module_utils._kube.access import refuse_missing
from ..module_utils._kube.cluster import connect
from ..module_utils._kube.jobs import reading_rights
from ..module_utils._module import Call, Result, run
from ..module_utils._units import utc_now

SPEC = ArgumentSpec({"name": {"type": "str", "required": True}, "rpo": duration()}).merge(CONNECTION, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the CronJob and judge it."""
    params = call.params
    with connect(params["kubernetes"]) as cluster:
        refuse_missing(cluster, reading_rights(params["name"]), "backup_status")
        found = judge.survey(cluster, params["name"])
        namespace = cluster.namespace
    now = utc_now()
    findings = judge.judge(found, params["rpo"], now) if found else [judge.missing(params["name"], namespace)]
    values = {
        "schedule": found.as_dict(now) if found else None,
        "jobs": [run.as_dict(now) for run in found.runs] if found else [],
        "failed_job_log": list(found.failed_log) if found else [],
        **judged(findings),
        "msg": judge.describe(found, findings, now),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
