"""Where the tests of pods run: a stand-in for a cluster, with PostgreSQL in a pod as the runbook has it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.kubernetes.standin import Image, Standin, postgres_image
from tests.support.workspace import workspace

NAMESPACE = "godel"
WORKLOAD = "deployment/postgres"
USER = "godel"
PASSWORD = "dummy-secret"
DATABASE = "godel_production"
CLAIM = "backups"
MANIFEST = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: godel-db, namespace: {NAMESPACE}}}
stringData: {{POSTGRES_USER: {USER}, POSTGRES_PASSWORD: {PASSWORD}, POSTGRES_DB: {DATABASE}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {CLAIM}, namespace: {NAMESPACE}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: postgres, namespace: {NAMESPACE}}}
spec:
  replicas: 1
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: postgres}}}}
  template:
    metadata: {{labels: {{app: postgres}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: postgres
          image: lab/postgres:15
          envFrom: [{{secretRef: {{name: godel-db}}}}]
          volumeMounts: [{{name: backups, mountPath: BACKUPS}}]
      volumes: [{{name: backups, persistentVolumeClaim: {{claimName: {CLAIM}}}}}]
"""


@dataclass(frozen=True)
class Place:
    """A cluster with PostgreSQL in a pod."""

    standin: Standin

    @property
    def kubeconfig(self) -> str:
        """The path of a kubeconfig of somebody who may do all."""
        return str(self.standin.kubeconfig(namespace=NAMESPACE))

    @property
    def pod(self) -> str:
        """The pod's name."""
        return self.standin.ready_pod(NAMESPACE, "app=postgres")

    def path(self, path: str) -> Path:
        """Where a path of the pod really is: the stand-in's pods share this machine's root directory."""
        return self.standin.path(self.pod, path, NAMESPACE)

    @property
    def backups(self) -> Path:
        """The volume with the backups: the same path here and in each pod that mounts it."""
        return self.standin.folder / "n" / NAMESPACE / CLAIM

    def options(self, **over: Any) -> dict[str, Any]:
        """The option `kubernetes` of a module."""
        return {"kubeconfig": self.kubeconfig, "namespace": NAMESPACE, "workload": WORKLOAD, **over}

    @contextmanager
    def target(self, lease_s: float = 30) -> Iterator[KubernetesTarget]:
        """The pod as a target."""
        target = KubernetesTarget.of(ClusterOptions(NAMESPACE, kubeconfig=self.kubeconfig), WORKLOAD, None, lease_s)
        try:
            yield target
        finally:
            target.close()

    def log(self) -> str:
        """What PostgreSQL has logged."""
        return self.standin.log(self.pod, NAMESPACE)


@contextmanager
def prepared(name: str, images: Mapping[str, Image] | None = None) -> Iterator[Place]:
    """Start a cluster in a folder of this short name: socket paths have little room."""
    with Standin(workspace() / name, images={"lab/postgres:15": postgres_image(), **(images or {})}) as standin:
        place = Place(standin)
        standin.apply(MANIFEST.replace("BACKUPS", str(place.backups)))
        try:
            assert place.pod
            yield place
        finally:
            standin.faults.clear()
    with warnings.catch_warnings():  # of what connections that were cut on purpose have left
        warnings.simplefilter("ignore")
        gc.collect()
