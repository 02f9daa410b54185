# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that make a schedule: a CronJob that runs this collection's own backup, and what it needs. All is pure.

https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/cron-job-v1/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..._errors import InvalidInput
from ..._kube.access import Right
from ..._plan import Plan
from ..._units import read_zone
from .cron import Cron

GRANT = "backup_schedule"
# The name of the variable, no password.
PASSWORD_VARIABLE = "POSTGRES_RUNBOOK_PASSWORD"  # noqa: S105
_FOLDER = "/etc/postgres-runbook"
_INVENTORY = "inventory.yml"
_HOST = "database"
_SCRATCH = "/var/tmp/postgres-runbook"  # noqa: S108 - a volume of the pod's own
_COMMAND = ("ansible-playbook", "-i", f"{_FOLDER}/{_INVENTORY}", "godel.postgres_runbook.backup")
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
# Of a CronJob: the cluster adds eleven characters for each Job.
_LONGEST_NAME = 52
_LONGEST_OTHER_NAME = 253
# Below it the controller, which checks every ten seconds, may never start a Job.
SHORTEST_STARTING_DEADLINE = "10s"
_RBAC = "rbac.authorization.k8s.io"
# The same as docs/rbac/pod.yml; a test compares them.
POD_RULES: tuple[dict[str, list[str]], ...] = (
    {"apiGroups": ["apps"], "resources": ["deployments", "statefulsets"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/exec", "pods/portforward"], "verbs": ["get", "create"]},
)
# What of a login means something in the Job; certificates are files of this host.
_LOGIN_WORDS = ("login_host", "login_port", "login_user", "login_unix_socket", "ssl_mode", "connect_params")
# Of the role backup as well, but they make no sense in a Job, whose own disk goes with it.
_OTHERS = ("backup_from_schedule", "backup_wait", "backup_fetch", "backup_fetch_dir")


@dataclass(frozen=True)
class SchedulePlan(Plan):
    """What the operator wants. Durations are in seconds."""

    name: str
    namespace: str
    cron: str
    time_zone: str | None
    image: str | None
    image_pull_secrets: Sequence[str]
    service_account: str
    rbac: bool
    suspend: bool
    starting_deadline_s: float
    active_deadline_s: float
    backoff_limit: int
    successful_jobs_history_limit: int
    failed_jobs_history_limit: int
    ttl_s: float | None
    resources: Mapping[str, Any]
    security_context: Mapping[str, Any]
    password_secret: str | None
    password_key: str

    def check(self) -> None:
        """Raise InvalidInput for values that cannot work, before anything is touched."""
        self.check_names()
        Cron.parse(self.cron)
        if self.time_zone is not None:
            read_zone(self.time_zone)
        if not self.image or any(char.isspace() for char in self.image):
            raise InvalidInput(
                "Invalid image",
                subject=repr(self.image or ""),
                why="it is not a valid image name",
                remedy="Name an execution environment that contains this collection.",
            )

    def check_names(self) -> None:
        """Raise InvalidInput for what the cluster would refuse as a name."""
        _check_name("name", self.name, _LABEL, _LONGEST_NAME)
        others = [("service_account", self.service_account), ("password_secret", self.password_secret)]
        others += [("image_pull_secrets", each) for each in self.image_pull_secrets]
        for option, name in others:
            if name is not None:
                _check_name(option, name, rf"{_LABEL}(\.{_LABEL})*", _LONGEST_OTHER_NAME)


def _check_name(option: str, name: str, pattern: str, longest: int) -> None:
    if not re.fullmatch(pattern, name) or len(name) > longest:
        raise InvalidInput(
            f"Invalid {option}",
            subject=repr(name),
            why="it is not a valid Kubernetes name",
            remedy=f"Use lower-case letters, digits and hyphens between them, at most {longest}.",
        )


def rights(plan: SchedulePlan, absent: bool) -> list[Right]:
    """What it takes to make or to remove these objects, for kubernetes.core."""
    kinds = [("configmaps", ""), ("cronjobs", "batch")]
    if plan.rbac:
        kinds += [("serviceaccounts", ""), ("roles", _RBAC), ("rolebindings", _RBAC)]
    verbs = ("get", "delete") if absent else ("get", "create", "patch")
    found = [Right((verb,), resource, group) for resource, group in kinds for verb in verbs]
    if plan.rbac and not absent:  # an account may only grant what it has
        for rule in POD_RULES:
            group = rule["apiGroups"][0]
            found += [Right((verb,), resource, group) for resource in rule["resources"] for verb in rule["verbs"]]
    return found


def objects(plan: SchedulePlan, inventory: str) -> list[dict[str, Any]]:
    """All objects in the order of their creation: the CronJob comes last, when the objects that it needs exist."""
    meta = {"name": plan.name, "namespace": plan.namespace, "labels": _labels(plan)}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {_INVENTORY: inventory}}
    cron_job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": _cron_job(plan)}
    return [*(_access(plan, meta) if plan.rbac else []), config, cron_job]


def removals(plan: SchedulePlan) -> list[dict[str, Any]]:
    """What has to go, the CronJob first. A service account that has a name of its own is others' as well, and stays."""
    found = objects(plan, "")
    kept = [item for item in found if item["kind"] != "ServiceAccount" or plan.service_account == plan.name]
    return [{name: item[name] for name in ("apiVersion", "kind", "metadata")} for item in reversed(kept)]


def inventory_of(words: Mapping[str, Any], login: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The inventory of the Job, as YAML. Its values are data: Ansible finds no template in them.

    Args:
        words: `postgres_db` and its siblings.
        login: the options of the connection; the password stays out.
        options: `backup_format` and its siblings.

    Raises:
        InvalidInput: an option is none, or a secret would have to be written down.
    """
    for name in options:
        if not name.startswith("backup_") or name in _OTHERS:
            raise InvalidInput(
                "Invalid backup_options",
                subject=repr(name),
                why="the role backup has no such option, or a Job cannot use it",
                remedy="Use options of the role backup, for example backup_format.",
            )
    secret = [name for name in login.get("connect_params") or {} if "password" in str(name).lower()]
    if secret:
        raise InvalidInput(
            "Invalid connect_params",
            subject=", ".join(map(str, secret)),
            why="a ConfigMap must not contain a secret",
            remedy="Put the password into a Secret, and name it in password_secret.",
        )
    public = {name: login[name] for name in _LOGIN_WORDS if login.get(name)}
    # The schedule says how often: a backup that is young must not keep it from taking one.
    values = {**words, "backup_max_age": "0", **options}
    lines = ["postgres:", "  hosts:", f"    {_HOST}:", "      ansible_connection: local"]
    lines.append('      ansible_python_interpreter: "{{ ansible_playbook_python }}"')
    lines += [f"      {json.dumps(name)}: {_unsafe(value)}" for name, value in values.items() if value is not None]
    lines.append("      postgres_login:")
    lines += [f"        {json.dumps(name)}: {_unsafe(value)}" for name, value in public.items()]
    lookup = f"lookup('ansible.builtin.env', '{PASSWORD_VARIABLE}')"
    lines.append(f'        login_password: "{{{{ {lookup} }}}}"')
    return "\n".join([*lines, ""])


def _unsafe(value: Any) -> str:
    """A value as YAML in one line, each text in it with the tag that keeps Ansible from templating it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(str(name))}: {_unsafe(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_unsafe, value)) + "]"
    if isinstance(value, str):
        return f"!unsafe {_quoted(value)}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    """Text in double quotes. JSON would write half characters (surrogates), which YAML does not join."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _labels(plan: SchedulePlan) -> dict[str, str]:
    return {"app.kubernetes.io/name": plan.name, "app.kubernetes.io/managed-by": "godel.postgres_runbook"}


def _access(plan: SchedulePlan, meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    api = f"{_RBAC}/v1"
    account = {"kind": "ServiceAccount", "name": plan.service_account, "namespace": plan.namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**meta, "name": plan.service_account}},
        {"apiVersion": api, "kind": "Role", "metadata": meta, "rules": [dict(rule) for rule in POD_RULES]},
        {
            "apiVersion": api,
            "kind": "RoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": plan.name},
            "subjects": [account],
        },
    ]


def _cron_job(plan: SchedulePlan) -> dict[str, Any]:
    job: dict[str, Any] = {"backoffLimit": plan.backoff_limit, "activeDeadlineSeconds": round(plan.active_deadline_s)}
    if plan.ttl_s is not None:
        job["ttlSecondsAfterFinished"] = round(plan.ttl_s)
    job["template"] = {"metadata": {"labels": _labels(plan)}, "spec": _pod(plan)}
    found = {
        "schedule": plan.cron,
        "suspend": plan.suspend,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": round(plan.starting_deadline_s),
        "successfulJobsHistoryLimit": plan.successful_jobs_history_limit,
        "failedJobsHistoryLimit": plan.failed_jobs_history_limit,
        "jobTemplate": {"metadata": {"labels": _labels(plan)}, "spec": job},
    }
    return {**found, "timeZone": plan.time_zone} if plan.time_zone is not None else found


def _pod(plan: SchedulePlan) -> dict[str, Any]:
    env: list[dict[str, Any]] = [
        # The image may have no home that its user can write to.
        {"name": "HOME", "value": _SCRATCH},
        {"name": "ANSIBLE_HOME", "value": f"{_SCRATCH}/ansible"},
        {"name": "ANSIBLE_LOCAL_TEMP", "value": f"{_SCRATCH}/local"},
        {"name": "ANSIBLE_REMOTE_TEMP", "value": f"{_SCRATCH}/remote"},
        {"name": "ANSIBLE_NOCOLOR", "value": "1"},
    ]
    if plan.password_secret is not None:
        source = {"secretKeyRef": {"name": plan.password_secret, "key": plan.password_key}}
        env.append({"name": PASSWORD_VARIABLE, "valueFrom": source})
    container = {
        "name": "backup",
        "image": plan.image,
        # Arguments, and no command: the image's own entrypoint may give an unknown user a name.
        "args": list(_COMMAND),
        "env": env,
        "resources": dict(plan.resources),
        "securityContext": dict(plan.security_context),
        "volumeMounts": [
            {"name": "inventory", "mountPath": _FOLDER, "readOnly": True},
            {"name": "scratch", "mountPath": _SCRATCH},
        ],
    }
    spec: dict[str, Any] = {
        "serviceAccountName": plan.service_account,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [
            {"name": "inventory", "configMap": {"name": plan.name}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    if plan.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in plan.image_pull_secrets]
    return spec
