"""A place in a real cluster, which the environment names. Everything there has a name of its own and a label.

KUBECONFIG and PG_RUNBOOK_TEST_NAMESPACE choose it; CONTRIBUTING.md has the other variables and the rights that it takes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import string
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ClusterRefused, RunbookError
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import from_rfc3339, utc_now
from tests.kubernetes.link import write
from tests.kubernetes.place_base import KINDS, PART, RUN, Object, Pace, Place, populate
from tests.support.workspace import workspace

_PREFIX = "PG_RUNBOOK_TEST_"
_NAME = "pg-runbook-test-"
_SCHEDULES = "app.kubernetes.io/managed-by=godel.postgres_runbook"  # made by a playbook, which knows no label of ours
_FORGOTTEN = timedelta(hours=6)  # what is older belongs to a run that was killed
_GONE_S = 120.0
_FILES = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}


def is_named() -> bool:
    """Whether the environment names a real cluster."""
    return bool(os.environ.get("KUBECONFIG") and _word("NAMESPACE"))


def _word(name: str, default: str = "") -> str:
    return os.environ.get(_PREFIX + name) or default


class ClusterPlace(Place):
    """A place in a real cluster."""

    pace = Pace(start_s=300.0, poll_s=0.3, lease_s=15.0, token_s=11.0, rows=int(_word("ROWS", "400000")), factor=8.0)

    def adapted(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Add what the environment says."""
        kind, spec = manifest["kind"], manifest.get("spec", {})
        if kind == "PersistentVolumeClaim" and _word("STORAGE_CLASS"):
            spec["storageClassName"] = _word("STORAGE_CLASS")
        if kind == "Deployment":
            labels = spec["template"]["metadata"]["labels"]
            labels.update(PART)
            spec = spec["template"]["spec"]
        if kind in ("Deployment", "Pod"):
            if _word("PULL_SECRET"):
                spec["imagePullSecrets"] = [{"name": _word("PULL_SECRET")}]
            if _word("RUN_AS"):
                _restrict(spec, int(_word("RUN_AS")))
        return manifest

    def schedule_options(self) -> dict[str, Any]:
        """The settings in the environment, as options of the module."""
        found: dict[str, Any] = {}
        if _word("PULL_SECRET"):
            found["image_pull_secrets"] = [_word("PULL_SECRET")]
        if _word("RUN_AS"):
            found["security_context"] = {**_identity(int(_word("RUN_AS"))), **_UNPRIVILEGED}
        return found

    def fire(self, cron_job: str) -> str:
        """Its controller starts one within a minute or so, once it is due each minute."""
        usual = self.get("CronJob", cron_job)["spec"]["schedule"]
        known = {job["metadata"]["name"] for job in self.jobs(cron_job)}

        def new() -> set[str]:
            return {job["metadata"]["name"] for job in self.jobs(cron_job)} - known

        self.change("CronJob", cron_job, lambda found: found["spec"].update(schedule="* * * * *"))
        try:
            [name] = self.until(new, 150)
        finally:
            self.change("CronJob", cron_job, lambda found: found["spec"].update(schedule=usual))
        return name


_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _identity(user: int) -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _restrict(spec: dict[str, Any], user: int) -> None:
    """Make a pod one that the Pod Security Standard `restricted` lets in."""
    spec["securityContext"] = {**_identity(user), "fsGroup": user}
    for container in spec["containers"]:
        container["securityContext"] = dict(_UNPRIVILEGED)


@contextmanager
def prepared(short: str) -> Iterator[ClusterPlace]:
    """PostgreSQL in the namespace; all of it is deleted afterwards, and what killed runs have left is before."""
    name = f"{_NAME}{short}-{secrets.token_hex(3)}"
    namespace = _word("NAMESPACE")
    kubeconfig = workspace() / f"{name}.kubeconfig"
    write(kubeconfig, flattened(os.environ["KUBECONFIG"], namespace))
    place = ClusterPlace(
        name,
        namespace,
        str(kubeconfig),
        volume=string.Template(_word("BACKUPS", "/backups")).substitute(name=name),
        claim=name,
        image=_word("IMAGE", "postgres:15"),
        secret=name,
        runbook_image=_word("RUNBOOK_IMAGE"),
    )
    _sweep(place)
    try:
        populate(place, volume_size=_word("VOLUME_SIZE", "2Gi"))
        yield place
    finally:
        place.forget()
        remove(place)
        place.api.close()
    with warnings.catch_warnings():  # of what connections that were cut on purpose have left
        warnings.simplefilter("ignore")
        gc.collect()


# --- tidiness


def remove(place: Place) -> None:
    """Delete all that this place has made, and wait until its pods and its volume no longer exist."""
    for kind in KINDS:
        for item in _made(place, kind):
            place.delete(kind, item["metadata"]["name"], 0 if kind == "Pod" else None)
        if kind == "Pod":
            for pod in place.scratch_pods():
                place.delete("Pod", pod["metadata"]["name"], 0)
    end = time.monotonic() + _GONE_S
    while left := _left(place):
        if time.monotonic() > end:
            warnings.warn(f"not gone from {place.namespace} after {_GONE_S:g} s: {', '.join(left)}", stacklevel=2)
            return
        time.sleep(place.pace.poll_s)


def _made(place: Place, kind: str) -> list[Object]:
    """What the tests have made, and what their playbooks have."""
    schedules = [item for item in _listed(place, kind, _SCHEDULES) if item["metadata"]["name"].startswith(place.name)]
    return [*_listed(place, kind, f"{RUN}={place.name}"), *schedules]


def _left(place: Place) -> list[str]:
    found = [*place.pods(), *place.scratch_pods(), *(item for kind in KINDS for item in _made(place, kind))]
    return sorted({item["metadata"]["name"] for item in found})


def _sweep(place: Place) -> None:
    """Delete what runs have left that were killed."""
    selector = ",".join(f"{key}={value}" for key, value in PART.items())
    for kind in KINDS:
        schedules = [item for item in _listed(place, kind, _SCHEDULES) if item["metadata"]["name"].startswith(_NAME)]
        for item in [*_listed(place, kind, selector), *schedules]:
            if from_rfc3339(item["metadata"]["creationTimestamp"]) < utc_now() - _FORGOTTEN:
                with contextlib.suppress(RunbookError):  # another run may be doing the same
                    place.delete(kind, item["metadata"]["name"])


def _listed(place: Place, kind: str, selector: str) -> list[Object]:
    try:
        return place.listed(kind, selector)
    except ClusterRefused as exc:
        if exc.details.get("status") != 403:
            raise
        return []  # what we may not list we could not make


# --- the kubeconfig


def flattened(paths: str, namespace: str) -> dict[str, Any]:
    """One kubeconfig with one context from all that KUBECONFIG names; what it refers to has absolute paths."""
    merged: dict[str, dict[str, Any]] = {"clusters": {}, "users": {}, "contexts": {}}
    current = ""
    files = [Path(path).expanduser().absolute() for path in paths.split(os.pathsep) if path]
    for file in files:
        if not file.exists() and len(files) > 1:
            continue  # as kubectl does
        content = yaml.safe_load(file.read_text()) or {}
        current = current or content.get("current-context") or ""
        for section, found in merged.items():
            for item in content.get(section) or []:
                found.setdefault(item["name"], _absolute(item[section[:-1]] or {}, section[:-1], file.parent))
    if current not in merged["contexts"]:
        raise LookupError(f"KUBECONFIG has no current context that it describes: {current!r}")
    context = merged["contexts"][current]
    cluster, user = merged["clusters"][context["cluster"]], merged["users"].get(context.get("user", ""), {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": cluster}],
        "users": [{"name": "x", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x", "namespace": namespace}}],
        "current-context": "x",
    }


def _absolute(item: dict[str, Any], section: str, folder: Path) -> dict[str, Any]:
    item = dict(item)
    for key in _FILES.get(section, ()):
        if item.get(key):
            item[key] = str(folder / item[key])
    program = item.get("exec") or {}
    if "/" in program.get("command", ""):
        item["exec"] = {**program, "command": str(folder / program["command"])}
    return item
