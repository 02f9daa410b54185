"""A namespace with PostgreSQL in a pod as the runbook has it: what tests do with it, and how it is looked at.

All of it goes through the API server, so that it is the same in a stand-in (`place.py`) and in a real cluster
(`cluster_place.py`).
"""

from __future__ import annotations

import contextlib
import io
import re
import string
import tarfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
import pytest
import yaml
from kubernetes import client, config

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    ObjectNotFound,
    RunbookError,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import scratch_pod
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import Cluster, ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.workload import container_of
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.kubernetes.link import Link, lead, server_of
from tests.kubernetes.users import User, new_user
from tests.standin import Standin
from tests.support.workspace import workspace

CONTAINER = "postgres"
USER = "godel"
PASSWORD = "dummy-secret"
DATABASE = "godel_production"
MANIFESTS = Path(__file__).with_name("manifests")
# Kind: the path of its API, and its plural. In the order in which they can be deleted.
KINDS = {
    "CronJob": ("apis/batch/v1", "cronjobs"),
    "Job": ("apis/batch/v1", "jobs"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "Pod": ("api/v1", "pods"),
    "PersistentVolumeClaim": ("api/v1", "persistentvolumeclaims"),
    "Secret": ("api/v1", "secrets"),
    "ConfigMap": ("api/v1", "configmaps"),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
}
RUN = "pg-runbook-tests/run"
CRASHED = re.compile(r"was terminated by signal|terminating any other active server processes|all server processes ter")
PART = {"app.kubernetes.io/part-of": "pg-runbook-tests"}
_CONFLICT = 409
T = TypeVar("T")
Object = dict[str, Any]


@dataclass(frozen=True)
class Pace:
    """How slow a place is.

    Attributes:
        start_s: how long a pod may take to start, in seconds.
        poll_s: between two looks.
        lease_s: a lease that does not run out between two requests.
        token_s: how long an API server may remember a token.
        rows: of a table, so that its dump takes long enough to come into the middle of it.
        factor: how much longer everything takes than in the stand-in.
    """

    start_s: float = 300.0
    poll_s: float = 0.02
    lease_s: float = 3.0
    token_s: float = 0.0
    rows: int = 120_000
    factor: float = 1.0


class Place(ABC):
    """A namespace with PostgreSQL in a pod.

    Attributes:
        name: of the Deployment; what a test makes begins with it.
        kubeconfig: the path of a kubeconfig of a user with all rights there.
        volume: where the volume with the backups is mounted, as the pod sees it.
        claim: of that volume.
        image: of PostgreSQL.
        secret: the name of the Secret with the login, as the variables of the image.
        runbook_image: of an execution environment with this collection; empty if there is none.
    """

    standin: Standin | None = None
    pace = Pace()

    def __init__(
        self,
        name: str,
        namespace: str,
        kubeconfig: str,
        *,
        volume: str,
        claim: str,
        image: str,
        secret: str,
        runbook_image: str,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.kubeconfig = kubeconfig
        self.volume = volume
        self.claim = claim
        self.image = image
        self.secret = secret
        self.runbook_image = runbook_image
        self.workload = f"deployment/{name}"
        self.selector = f"app={name}"
        self.api = Cluster(ClusterOptions(namespace, kubeconfig=kubeconfig))
        self._here: KubernetesTarget | None = None

    # --- for the modules

    def options(self, **over: Any) -> dict[str, Any]:
        """The option `kubernetes` of a module."""
        return {"kubeconfig": self.kubeconfig, "namespace": self.namespace, "workload": self.workload, **over}

    @contextmanager
    def target(self, lease_s: float | None = None, kubeconfig: str | None = None) -> Iterator[KubernetesTarget]:
        """The pod as a target."""
        options = ClusterOptions(self.namespace, kubeconfig=kubeconfig or self.kubeconfig)
        target = KubernetesTarget.of(options, self.workload, None, lease_s or 10 * self.pace.lease_s)
        try:
            yield target
        finally:
            target.close()

    def user(self, *rules: str | Mapping[str, Any]) -> User:
        """A user with just these rights."""
        return new_user(self, *rules)

    @contextmanager
    def link(self, kubeconfig: str | None = None) -> Iterator[Link]:
        """A way to the API server that can be cut, for our own kubeconfig or another one."""
        with Link(*server_of(self.kubeconfig)) as link:
            lead(link, kubeconfig or self.kubeconfig, workspace() / f"{self.name}-{link.port}.kubeconfig")
            api = Cluster(ClusterOptions(self.namespace, kubeconfig=link.kubeconfig))
            try:
                api.request("GET", "/version")
            except RunbookError as exc:
                pytest.skip(f"the API server cannot be reached through a TCP proxy of the tests: {exc.message}")
            finally:
                api.close()
            if not link.connections:
                pytest.skip("the way to this API server leads through a proxy, so that the tests cannot cut it")
            yield link

    # --- the pod

    @property
    def pod(self) -> str:
        """The name of the ready pod; waits until there is one."""
        return str(self.ready_pod()["metadata"]["name"])

    def ready_pod(self, selector: str | None = None, restarts: int = 0) -> Object:
        """Wait until there is a ready pod that is not about to go and was restarted so often at least."""

        def find() -> Object | None:
            return next((pod for pod in self.pods(selector) if is_ready(pod) and restarts_of(pod) >= restarts), None)

        found = self.until(find, self.pace.start_s)
        assert found is not None
        return found

    @property
    def here(self) -> KubernetesTarget:
        """The pod as a target that is kept, to look and to prepare; the modules under test have their own."""
        if self._here is None:
            self._here = KubernetesTarget(
                self.api, container_of(self.ready_pod(), CONTAINER), max(60.0, self.pace.lease_s)
            )
        return self._here

    @contextmanager
    def inside(self, pod: str, container: str | None = None) -> Iterator[KubernetesTarget]:
        """Any other pod as a target, ready or not."""
        target = KubernetesTarget(self.api, container_of(self.get("Pod", pod), container), max(60.0, self.pace.lease_s))
        try:
            yield target
        finally:
            target.close()

    def glob(self, pattern: str) -> list[str]:
        """Paths in the pod."""
        return self.here.files.glob(pattern)

    def new_folder(self) -> str:
        """Make an empty directory on the volume."""
        # Without the bit by which a volume with an fsGroup hands its group down: modes are compared.
        script = 'd=$(mktemp -d "$1/test-XXXXXXXX") && chmod g-s "$d" && echo "$d"'
        return self.here.run(["sh", "-c", script, "sh", self.volume]).text.strip()

    def put(self, folder: Path, path: str) -> None:
        """Copy what is in a directory of this host into a directory of the pod, with its modes."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for each in folder.iterdir():
                tar.add(each, each.name)
        archive.seek(0)
        self.here.run(["tar", "-xpf", "-", "--no-same-owner", "-C", path], stdin=archive)

    def digests(self, path: str) -> dict[str, str]:
        """The SHA-256 of each file below a directory of the pod, by its path from there."""
        script = 'cd "$1" && find . -type f -exec sha256sum -- {} +'
        lines = self.here.run(["sh", "-c", script, "sh", path]).text.splitlines()
        return {line[66:].removeprefix("./"): line[:64] for line in lines}

    def execute(self, *statements: str) -> None:
        """Run SQL in the database."""
        with self.here.endpoint(None, None) as at:
            login = {"user": USER, "password": PASSWORD, "dbname": DATABASE}
            connected = psycopg2.connect(host=at.host, port=at.port, **login)
            with contextlib.closing(connected) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                connection.commit()

    def major(self) -> int:
        """The major version of the server."""
        return int(self.here.run(["sh", "-c", 'cat "$PGDATA/PG_VERSION"']).text)

    def log(self) -> str:
        """What PostgreSQL has logged, before a restart of its container as well."""
        pod = self.ready_pod()
        name = pod["metadata"]["name"]
        before = self.log_of(name, container=CONTAINER, previous="true") if restarts_of(pod) else ""
        return before + self.log_of(name, container=CONTAINER)

    def log_of(self, pod: str, **query: str) -> str:
        """What process 1 of any pod has written."""
        return self.api.get_text(f"{self.api.path('pods', pod)}/log", query)

    @contextmanager
    def unnoticed(self) -> Iterator[None]:
        """What is done inside PostgreSQL does not notice: as process 1 it takes orphans for backends of its own."""
        before = len(self.log())
        yield
        log = self.log()[before:]
        assert not CRASHED.search(log), log

    def restart_server(self) -> None:
        """End process 1 of the pod, and wait until the node has started it again."""
        restarts = restarts_of(self.ready_pod())
        # Not by the number 1: the stand-in's pods see all processes of this machine.
        script = 'kill -s QUIT "$(head -n 1 "$PGDATA/postmaster.pid")"'
        with contextlib.suppress(RunbookError):  # its own end is cut off
            self.here.run(["sh", "-c", script])
        self.forget()
        self.ready_pod(restarts=restarts + 1)

    def forget(self) -> None:
        """End the connections that are kept."""
        if self._here is not None:
            self._here.close()
            self._here = None

    # --- objects

    def pods(self, selector: str | None = None) -> list[Object]:
        """The pods, those that are about to go included."""
        return self.listed("Pod", selector or self.selector)

    def scratch_pods(self) -> list[Object]:
        """The throwaway pods that mount the volume of this place; other runs in the namespace have their own."""

        def is_ours(pod: Object) -> bool:
            volumes = pod["spec"].get("volumes") or []
            return any(each.get("persistentVolumeClaim", {}).get("claimName") == self.claim for each in volumes)

        return [pod for pod in self.pods(scratch_pod.SELECTOR) if is_ours(pod)]

    def listed(self, kind: str, selector: str) -> list[Object]:
        """The objects of a kind."""
        found: list[Object] = self.api.get(self.path_of(kind), {"labelSelector": selector}).get("items") or []
        return found

    def path_of(self, kind: str, name: str = "") -> str:
        """The path of a kind of objects, or of one."""
        api, plural = KINDS[kind]
        return self.api.path(plural, name, api=api)

    def get(self, kind: str, name: str) -> Any:
        """An object. Raises ObjectNotFound."""
        return self.api.get(self.path_of(kind, name))

    def find(self, kind: str, name: str) -> Any:
        """An object, or None."""
        try:
            return self.get(kind, name)
        except ObjectNotFound:
            return None

    def create(self, manifest: Mapping[str, Any]) -> Any:
        """Make an object, with labels by which it can be swept."""
        labels = {**manifest["metadata"].get("labels", {}), **PART, RUN: self.name}
        made = {**manifest, "metadata": {**manifest["metadata"], "labels": labels}}
        return self.api.request("POST", self.path_of(made["kind"]), body=self.adapted(made))

    def create_all(self, file: str, **more: object) -> None:
        """Make the objects of a file of `manifests`."""
        names = {"name": self.name, "claim": self.claim, "volume": self.volume, "image": self.image}
        names["secret"] = self.secret
        text = string.Template((MANIFESTS / file).read_text()).substitute({**names, **more})
        for manifest in yaml.safe_load(text)["items"]:
            self.create(manifest)

    @abstractmethod
    def adapted(self, manifest: Object) -> Object:
        """A manifest with what has to be different in this place."""

    def patch(self, deployment: str, body: Object) -> None:
        """Patch a Deployment. Raises the client's own ApiException."""
        with config.new_client_from_config(self.kubeconfig) as connected:
            client.AppsV1Api(connected).patch_namespaced_deployment(deployment, self.namespace, body)

    def change(self, kind: str, name: str, edit: Callable[[Object], object]) -> None:
        """Read an object, edit it and write it back; once more if it was changed meanwhile."""

        def is_written() -> bool:
            found = self.get(kind, name)
            edit(found)
            try:
                self.api.request("PUT", self.path_of(kind, name), body=found)
            except ClusterRefused as exc:
                if exc.details.get("status") != _CONFLICT:
                    raise
                return False
            return True

        self.until(is_written)

    def delete(self, kind: str, name: str, grace_s: int | None = None) -> None:
        """Delete an object if it is there, and what it owns."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        with contextlib.suppress(ObjectNotFound):
            self.api.request("DELETE", self.path_of(kind, name), body=body)

    # --- schedules

    def schedule_options(self) -> dict[str, Any]:
        """Options of a schedule that its Jobs need in this place, beside the image."""
        return {}

    def jobs(self, cron_job: str) -> list[Object]:
        """The Jobs of a schedule."""
        return self.listed("Job", f"app.kubernetes.io/name={cron_job}")

    @abstractmethod
    def fire(self, cron_job: str) -> str:
        """Let the time of a CronJob come; returns the name of its Job."""

    # --- waiting

    def until(self, condition: Callable[[], T], timeout_s: float = 60.0) -> T:
        """Wait until a function returns something true, and return that."""
        end = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > end:
                raise AssertionError(f"not so after {timeout_s:g} s: {condition}\n{self.told()}")
            time.sleep(self.pace.poll_s)
        return value

    def told(self) -> str:
        """How our objects are, for the text of a failure."""
        ours = f"{RUN}={self.name}"
        found = [*self.pods(), *self.listed("Pod", ours), *self.listed("Deployment", ours)]
        told = [f"{each['metadata']['name']}: {each.get('status')}" for each in found]
        with contextlib.suppress(RunbookError):  # a user without the right to read events gets the rest
            for event in self.api.get(self.api.path("events")).get("items") or []:
                name = event["involvedObject"].get("name", "")
                if name.startswith(self.name):
                    told.append(f"{name}: {event.get('reason')}: {event.get('message')}")
        return "\n".join(told)


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is ready and not about to go."""
    conditions = pod.get("status", {}).get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def restarts_of(pod: Mapping[str, Any]) -> int:
    """How often the containers of a pod were restarted."""
    return sum(each["restartCount"] for each in pod.get("status", {}).get("containerStatuses") or [])


def populate(place: Place, **words: str) -> None:
    """Make PostgreSQL, and wait until it is ready."""
    login = {"user": USER, "password": PASSWORD, "database": DATABASE}
    place.create_all("postgres.yml", **login, **words)
    assert place.pod
