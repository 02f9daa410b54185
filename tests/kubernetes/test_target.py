"""The target that is a pod keeps the contract of targets. In a real cluster, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_contract import ContractOfTarget
from tests.kubernetes import place as places
from tests.kubernetes.place import Place

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("tgt") as prepared, prepared.unnoticed():
        yield prepared


@pytest.fixture(name="target", scope="module")
def _target(place: Place) -> Iterator[KubernetesTarget]:
    TestKubernetesTarget.source = (
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import ClusterOptions\n"
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget\n"
        f"options = ClusterOptions({place.namespace!r}, kubeconfig={place.kubeconfig!r})\n"
        f"target = KubernetesTarget.of(options, {place.workload!r}, None, {place.pace.lease_s})"
    )
    TestKubernetesTarget.outlives_us_s = 3 * place.pace.lease_s
    with place.target(place.pace.lease_s) as target:
        yield target


@pytest.fixture(name="folder")
def _folder(place: Place) -> str:
    return place.new_folder()


class TestKubernetesTarget(ContractOfTarget):
    """Everything that targets promise."""

    ends_orphans = False  # an orphan that is killed would make PostgreSQL, as process 1, restart
