"""Where the tests of pods run: a stand-in for a cluster, or the real one that the environment names.

Tests take a `Place` from `chosen`. Only that of a stand-in has a `standin`, for what no real cluster can be made to do;
tests take it from the fixture of that name, which skips them elsewhere.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.kubernetes import cluster_place
from tests.kubernetes.place_base import CONTAINER, DATABASE, PASSWORD, USER, Object, Place, populate
from tests.standin import Standin, postgres_image, runbook_image
from tests.support.workspace import workspace

__all__ = ["CONTAINER", "DATABASE", "NAMESPACE", "PASSWORD", "USER", "Place", "StandinPlace", "chosen", "prepared"]

# Of the stand-in; a Place says its own.
NAMESPACE = "godel"
CLAIM = "backups"
IMAGE = "lab/postgres:15"
RUNBOOK = "lab/runbook:1"
SECRET = "godel-db"


class StandinPlace(Place):
    """A stand-in for a cluster, with what only it can do, and what can be seen of it from here."""

    standin: Standin

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        kubeconfig = str(standin.kubeconfig(namespace=NAMESPACE))
        super().__init__(
            "postgres",
            NAMESPACE,
            kubeconfig,
            volume=str(self.backups),
            claim=CLAIM,
            image=IMAGE,
            secret=SECRET,
            runbook_image=RUNBOOK,
        )

    def adapted(self, manifest: Object) -> Object:
        """Nothing has to be."""
        return manifest

    def fire(self, cron_job: str) -> str:
        """At once."""
        name = self.standin.fire(cron_job, self.namespace)
        assert name is not None
        return name

    @property
    def backups(self) -> Path:
        """The volume with the backups: the same path here and in each pod that mounts it."""
        return self.standin.folder / "n" / NAMESPACE / CLAIM

    def told(self) -> str:
        """How our objects are, and what the pods of our workload have written."""
        logs = [self.standin.log(pod["metadata"]["name"], NAMESPACE)[-2000:] for pod in self.pods()]
        return "\n".join([super().told(), *logs])


@contextmanager
def prepared(name: str) -> Iterator[StandinPlace]:
    """Start a stand-in in a folder of this short name: socket paths have little room."""
    served: list[Standin] = []
    images = {IMAGE: postgres_image(), RUNBOOK: runbook_image(lambda: served[0].url)}
    with Standin(workspace() / name, images=images) as standin:
        served.append(standin)
        standin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        place = StandinPlace(standin)
        populate(place, volume_size="1Gi")
        try:
            yield place
        finally:
            place.forget()
            place.api.close()
            standin.faults.clear()
    with warnings.catch_warnings():  # of what connections that were cut on purpose have left
        warnings.simplefilter("ignore")
        gc.collect()


def chosen(name: str) -> AbstractContextManager[Place]:
    """The real cluster that the environment names, or a stand-in."""
    return cluster_place.prepared(name) if cluster_place.is_named() else prepared(name)
