#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_schedule_plan
short_description: Check the options and rights of a backup schedule, and return its Kubernetes objects
version_added: 0.1.0
description:
  - Checks the options, asks Kubernetes whether the account may create the objects, and returns the objects for M(kubernetes.core.k8s).
  - The objects are a CronJob that runs the playbook C(godel.postgres_runbook.backup), a ConfigMap with its inventory, and with O(rbac) a
    ServiceAccount, a Role and a RoleBinding.
  - The inventory has the connection options without the password, which comes from a Secret. The Jobs work in the pod that O(kubernetes)
    names, with the rights of the ServiceAccount.
  - The role C(godel.postgres_runbook.backup_schedule) uses this module and M(kubernetes.core.k8s).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  state:
    description: V(present) returns the objects to create, V(absent) the objects to remove.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: Name of the CronJob and of the objects that belong to it.
    type: str
    required: true
  cron:
    description: When the Jobs start, as minute, hour, day of the month, month and day of the week. V(0 2 * * *) means every day at 02:00.
    type: str
    default: 0 2 * * *
  time_zone:
    description: Name of the time zone of O(cron), for example V(Europe/Berlin). The default is the time zone of the cluster, usually UTC.
    type: str
  image:
    description: Image of an execution environment that contains this collection, for example V(registry.example.com/team/runbook:1). It is
      required for O(state=present).
    type: str
  image_pull_secrets:
    description: Names of the Secrets for pulling the image.
    type: list
    elements: str
    default: []
  service_account:
    description: Name of the ServiceAccount that the Jobs run as. The default is the name of the schedule.
    type: str
  rbac:
    description:
      - Whether the account and its rights belong to the schedule. With V(false) the account must exist, with the rights in
        C(docs/rbac/pod.yml).
    type: bool
    default: true
  suspend:
    description: Whether to suspend the schedule. While it is suspended, no Jobs are started.
    type: bool
    default: false
  starting_deadline:
    description: How long after its time a Job may still start, for example V(1h). At least V(10s).
    type: str
    default: 1h
  active_deadline:
    description: How long a Job may run, for example V(6h). Kubernetes ends one that runs longer.
    type: str
    default: 6h
  backoff_limit:
    description: The number of retries when the pod of a Job fails.
    type: int
    default: 1
  successful_jobs_history_limit:
    description: The number of successful Jobs to keep.
    type: int
    default: 3
  failed_jobs_history_limit:
    description: The number of failed Jobs to keep, with their logs.
    type: int
    default: 3
  ttl:
    description: How long to keep a Job after it has ended, for example V(1d). By default only the two limits above count.
    type: str
  resources:
    description: Resource requests and limits of the container of a Job, as in a Kubernetes manifest.
    type: dict
    default: {}
  security_context:
    description: The security context of the container of a Job, as in a Kubernetes manifest.
    type: dict
    default: {}
  password_secret:
    description: Name of the Secret with the password of the login. The Secret must be in the same namespace.
    type: str
  password_key:
    description: The key of the password in O(password_secret).
    type: str
    default: password
  backup_options:
    description: Options of the role C(godel.postgres_runbook.backup) for the Jobs, for example C(backup_format).
    type: dict
    default: {}
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - O(kubernetes) is required. To create the objects, the account needs the rights in C(docs/rbac/backup_schedule.yml).
seealso:
  - module: godel.postgres_runbook.pg_backup_schedule_info
  - module: godel.postgres_runbook.pg_backup_job
  - module: kubernetes.core.k8s
"""

EXAMPLES = r"""
- name: Check the options and the rights
  godel.postgres_runbook.pg_backup_schedule_plan:
    name: postgres-backup
    cron: 0 2 * * *
    image: registry.example.com/team/runbook:1
    db: godel_production
    backup_dir: /backups
    login_user: godel
    password_secret: godel-db
    kubernetes:
      namespace: godel
      workload: deployment/postgres
  register: plan

- name: Create the schedule
  kubernetes.core.k8s:
    definition: "{{ item }}"
    apply: true
  loop: "{{ plan.objects }}"
  loop_control:
    label: "{{ item.kind }} {{ item.metadata.name }}"
"""

RETURN = r"""
objects:
  description: The objects, in the order in which to create them, or to remove them for O(state=absent).
  returned: success
  type: list
  elements: dict
next:
  description: When the next Job is due, RFC 3339 in UTC; null when the schedule is suspended or to be removed.
  returned: success
  type: str
  sample: "2026-02-07T01:00:00Z"
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""


from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration
from ..module_utils._backup.schedule import manifests
from ..module_utils._backup.schedule.cron import Cron
from ..module_utils._errors import InvalidInput
from ..module_utils._kube.access import refuse_missing
from ..module_utils._kube.cluster import connect
from ..module_utils._module import Call, Result, run
from ..module_utils._units import read_zone, to_rfc3339, utc_now

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "name": {"type": "str", "required": True},
        "cron": {"type": "str", "default": "0 2 * * *"},
        "time_zone": {"type": "str"},
        "image": {"type": "str"},
        "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
        "service_account": {"type": "str"},
        "rbac": {"type": "bool", "default": True},
        "suspend": {"type": "bool", "default": False},
        "starting_deadline": duration("1h", least=manifests.SHORTEST_STARTING_DEADLINE),
        "active_deadline": duration("6h", least="1s"),
        "backoff_limit": between(0, None, 1),
        "successful_jobs_history_limit": between(0, None, 3),
        "failed_jobs_history_limit": between(0, None, 3),
        "ttl": duration(),
        "resources": {"type": "dict", "default": {}},
        "security_context": {"type": "dict", "default": {}},
        "password_secret": {"type": "str", "no_log": False},
        "password_key": {"type": "str", "default": "password", "no_log": False},
        "backup_options": {"type": "dict", "default": {}},
    }
).merge(CONNECTION, DATABASE, CATALOG, KUBERNETES)


def operation(call: Call) -> Result:
    """Check, and say what to make or to remove."""
    params = call.params
    absent = params["state"] == "absent"
    with connect(params["kubernetes"]) as cluster:
        account = params["service_account"] or params["name"]
        plan = manifests.SchedulePlan.from_params(params, namespace=cluster.namespace, service_account=account)
        if absent:
            plan.check_names()
            found, following = manifests.removals(plan), None
        else:
            plan.check()
            found = manifests.objects(plan, _inventory(call))
            following = None if plan.suspend else Cron.parse(plan.cron).following(utc_now(), read_zone(plan.time_zone))
        refuse_missing(cluster, manifests.rights(plan, absent), manifests.GRANT)
    when = to_rfc3339(following) if following else None
    text = f"CronJob {plan.namespace}/{plan.name}"
    due = f"due next at {when}" if when else "suspended"
    text += " is to be removed." if absent else f" ({plan.cron}): {due}."
    return Result(False, {"objects": found, "next": when, "msg": text})


def _inventory(call: Call) -> str:
    params = call.params
    if params["login_password"] and not params["password_secret"]:
        raise InvalidInput(
            "Invalid password_secret",
            subject=repr(""),
            why="the login has a password, which only a Secret may bring into a Job",
            remedy="Put the password into a Secret of the namespace, and name it in backup_schedule_password_secret.",
        )
    place = {name: params["kubernetes"][name] for name in ("namespace", "workload", "container")}
    words = {
        "postgres_db": params["db"],
        "postgres_backup_dir": params["backup_dir"],
        "postgres_kubernetes": {name: value for name, value in place.items() if value is not None},
    }
    return manifests.inventory_of(words, params, params["backup_options"])


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
