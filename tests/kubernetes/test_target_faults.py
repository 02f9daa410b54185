"""What the API server and the kubelet were seen to do wrong, done to the target on purpose."""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    FileProblem,
    ProgramMissing,
    RunbookError,
    WorkloadProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_files_contract import shell
from tests.kubernetes import place as places
from tests.kubernetes.place import NAMESPACE, Place
from tests.kubernetes.standin import Image, toolbox
from tests.support.workspace import workspace

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WORKLOADS = """
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: godel, labels: {app: bare}}
spec: {containers: [{name: c, image: lab/bare:1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: godel, labels: {app: two}}
spec: {terminationGracePeriodSeconds: 20, containers: [{name: first, image: lab/bare:1}, {name: second, image: lab/bare:1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: twin-a, namespace: godel, labels: {app: twin}}
spec: {containers: [{name: c, image: lab/bare:1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: twin-b, namespace: godel, labels: {app: twin}}
spec: {containers: [{name: c, image: lab/bare:1}]}
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    tools = toolbox(workspace() / "few-tools", "sleep")
    with places.prepared("flt", {"lab/bare:1": Image(command=("sleep", "infinity"), path=(tools,))}) as prepared:
        prepared.standin.apply(WORKLOADS)
        for app in ("bare", "two", "twin"):
            prepared.standin.ready_pod(NAMESPACE, f"app={app}")
        yield prepared
        prepared.standin.faults.clear()


@pytest.fixture
def target(place: Place) -> Iterator[KubernetesTarget]:
    with place.target(lease_s=20) as target:
        yield target
        place.standin.faults.clear()


@pytest.fixture
def folder(place: Place, target: KubernetesTarget) -> Iterator[str]:
    path = f"{place.path('/backups')}/{random.randrange(10**9)}"
    target.files.make_dir(path)
    yield path
    target.files.remove_tree(path)


def of(place: Place, workload: str, container: str | None = None) -> KubernetesTarget:
    return KubernetesTarget.of(ClusterOptions(NAMESPACE, kubeconfig=place.kubeconfig), workload, container)


# --- streams


@pytest.mark.parametrize("after", [0, 100, 33_000, 200_000])
def test_a_false_success_is_no_result(place: Place, target: KubernetesTarget, folder: str, after: int) -> None:
    data = random.randbytes(250_000)
    target.files.write(f"{folder}/data", data)
    target.close()
    place.standin.faults.false_success(after)
    with pytest.raises(RunbookError, match="no end mark"):
        target.run(["cat", f"{folder}/data"])
    place.standin.faults.false_success(after)
    assert target.files.read(f"{folder}/data") == data  # what can be repeated is


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_cut_at_any_byte_is_only_a_delay_for_files(
    place: Place, target: KubernetesTarget, folder: str, direction: str
) -> None:
    data = random.randbytes(60_000)
    for dummy in range(4):
        target.close()
        place.standin.faults.cut(random.randrange(70_000), direction)
        target.files.write(f"{folder}/data", data)
        assert target.files.read(f"{folder}/data") == data
    assert [info.name for info in target.files.entries(folder) if not info.name.startswith(".")] == ["data"]


def test_a_rename_that_was_done_before_the_cut_is_no_error(place: Place, target: KubernetesTarget, folder: str) -> None:
    for after in (0, 20, 40):
        target.files.write(f"{folder}/one", b"1")
        target.close()
        place.standin.faults.cut(after, "out")
        target.files.rename(f"{folder}/one", f"{folder}/two{after}")
        assert target.files.read(f"{folder}/two{after}") == b"1"


def test_an_upload_that_is_cut_short_with_exit_code_0_is_refused(place: Place, target: KubernetesTarget) -> None:
    data = random.randbytes(300_000)
    place.standin.faults.cut_stdin(64 * 1024, argv="cat >")
    with pytest.raises(FileProblem, match="An upload arrived cut or changed"):
        target.run(["wc", "-c"], stdin=io.BytesIO(data))
    assert target.run(["wc", "-c"], stdin=io.BytesIO(data)).text.split() == ["300000"]


def test_a_slow_reader_gets_all(place: Place, target: KubernetesTarget, folder: str) -> None:
    data = random.randbytes(3_000_000)
    (path := Path(f"{folder}/data")).write_bytes(data)
    target.close()
    place.standin.faults.slow(bytes_per_s=600_000)
    with io.BytesIO() as sink:
        target.run(["cat", str(path)], stdout=sink)
        assert hashlib.sha256(sink.getvalue()).digest() == hashlib.sha256(data).digest()


def test_overload_and_absence_are_waited_for(place: Place, target: KubernetesTarget, folder: str) -> None:
    for status in (429, 500, 503):
        target.close()
        place.standin.faults.answer(status, path="/exec$")
        assert target.files.info(folder)
    threading.Timer(0.2, place.standin.leave, (2,)).start()
    time.sleep(0.5)
    assert target.files.info(folder)


def test_a_token_that_lapses_is_read_anew_once(place: Place, folder: str) -> None:
    user = "operator"
    place.standin.grant(
        user,
        "get deployments.apps",
        "list,get pods",
        "get,create pods/exec",
        "get,create pods/portforward",
        namespace=NAMESPACE,
    )
    options = ClusterOptions(NAMESPACE, kubeconfig=str(place.standin.kubeconfig(user, NAMESPACE)))
    target = KubernetesTarget.of(options, places.WORKLOAD, None, 10)
    try:
        assert target.files.info(folder)
        target.close()
        place.standin.expire_token(user, NAMESPACE)
        with pytest.raises(ClusterRefused, match="renew it"):
            target.files.info(folder)
        place.standin.kubeconfig(user, NAMESPACE)  # the same file, with a new token
        assert target.files.info(folder)
    finally:
        target.close()


# --- pods


def test_an_image_without_a_shell_is_told(place: Place) -> None:
    with pytest.raises(ProgramMissing, match="no shell in the container"):
        of(place, "pod/bare").files.info("/")


@pytest.mark.parametrize(
    ("workload", "container", "told"),
    [
        ("pod/two", None, "several containers.*first, second.*Name one"),
        ("pod/two", "third", "no container third.*first, second"),
        ("app=twin", None, "More than one pod is ready.*twin-a, twin-b.*pod/NAME"),
    ],
)
def test_a_pod_that_is_not_clear_is_refused(place: Place, workload: str, container: str | None, told: str) -> None:
    with pytest.raises(RunbookError, match=told):
        of(place, workload, container)


def test_a_pod_that_is_not_ready_or_terminating_is_not_used(place: Place) -> None:
    place.standin.set_ready("two", False, NAMESPACE)
    place.standin.until(lambda: not _ready(place, "two"))
    with pytest.raises(WorkloadProblem, match=r"No pod is ready.*two: Running, not ready"):
        of(place, "pod/two", "first")
    place.standin.set_ready("two", True, NAMESPACE)
    place.standin.until(lambda: _ready(place, "two"))
    place.standin.delete("pod", "twin-b", NAMESPACE, grace_s=30)
    of(place, "app=twin").close()  # the other one is on its way out, although it still says Ready


def _ready(place: Place, name: str) -> bool:
    pod = place.standin.get("pod", name, NAMESPACE)
    assert pod is not None
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or [])


def test_a_pod_that_goes_takes_its_jobs_along_and_that_is_said(place: Place) -> None:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mortal", "namespace": NAMESPACE},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "lab/postgres:15"}]},
    }
    place.standin.apply(manifest)
    place.standin.until(lambda: _ready(place, "mortal"), 20)
    target = of(place, "pod/mortal")
    log = f"{place.standin.path('mortal', '/backups', NAMESPACE)}/log"
    job = target.spawn(shell("sleep 30"), log=log)
    assert job.poll() is None
    place.standin.delete("pod", "mortal", NAMESPACE)
    place.standin.until(lambda: place.standin.get("pod", "mortal", NAMESPACE) is None, 30)
    with pytest.raises(WorkloadProblem, match="The pod is gone"):
        job.wait()
    target.close()
