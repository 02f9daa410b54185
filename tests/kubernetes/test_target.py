"""The target that is a pod keeps the contract of targets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_contract import ContractOfTarget
from tests.kubernetes import place as places
from tests.kubernetes.place import Place

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LEASE_S = 3.0
_numbers = count(1)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.prepared("tgt") as prepared:
        yield prepared


@pytest.fixture(name="target", scope="module")
def _target(place: Place) -> Iterator[KubernetesTarget]:
    TestKubernetesTarget.source = (
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import ClusterOptions\n"
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget\n"
        f"options = ClusterOptions({places.NAMESPACE!r}, kubeconfig={place.kubeconfig!r})\n"
        f"target = KubernetesTarget.of(options, {places.WORKLOAD!r}, None, {LEASE_S})"
    )
    with place.target(LEASE_S) as target:
        yield target


@pytest.fixture(name="folder")
def _folder(place: Place, target: KubernetesTarget) -> str:
    folder = f"{place.path('/backups')}/{next(_numbers)}"
    target.files.make_dir(folder)
    return folder


class TestKubernetesTarget(ContractOfTarget):
    """Everything that targets promise."""

    outlives_us_s = 3 * LEASE_S
    ends_orphans = False  # an orphan that is killed would make PostgreSQL, as process 1, restart
