"""What the API server and the kubelet were seen to do wrong, done to the target on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import threading
import time
from collections.abc import Iterator

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    ClusterRefused,
    FileProblem,
    ProgramMissing,
    RunbookError,
    WorkloadProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import port_forward
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.database.target_files_contract import shell
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.kubernetes.place_base import RUN, is_ready
from tests.standin import Standin

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
OPERATOR = ("get deployments.apps", "list,get pods", "get,create pods/exec", "get,create pods/portforward")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("flt") as prepared:
        prepared.create_all("pods.yml")
        names = ("bare", "two", "twin-a", "twin-b", "mortal")
        prepared.until(lambda: all(_is_ready(prepared, name) for name in names), prepared.pace.start_s)
        yield prepared


@pytest.fixture
def target(place: Place) -> Iterator[KubernetesTarget]:
    with place.target(lease_s=20) as target:
        yield target


@pytest.fixture
def folder(place: Place) -> Iterator[str]:
    path = place.new_folder()
    yield path
    place.here.files.remove_tree(path)


def of(place: Place, workload: str, container: str | None = None) -> KubernetesTarget:
    """A pod as modules get it: `pod/two` is the one of this place."""
    workload = workload.replace("/", f"/{place.name}-").replace("=", f"={place.name}-")
    return KubernetesTarget.of(ClusterOptions(place.namespace, kubeconfig=place.kubeconfig), workload, container)


def _is_ready(place: Place, name: str) -> bool:
    return is_ready(place.get("Pod", f"{place.name}-{name}"))


# --- streams


@pytest.mark.parametrize("after", [0, 100, 33_000, 200_000])
def test_a_false_success_is_no_result(standin: Standin, target: KubernetesTarget, folder: str, after: int) -> None:
    data = random.randbytes(250_000)
    target.files.write(f"{folder}/data", data)
    target.close()
    standin.faults.false_success(after)
    with pytest.raises(RunbookError, match="no end mark"):
        target.run(["cat", f"{folder}/data"])
    standin.faults.false_success(after)
    assert target.files.read(f"{folder}/data") == data  # what can be repeated is


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_cut_at_any_byte_is_only_a_delay_for_files(
    standin: Standin, target: KubernetesTarget, folder: str, direction: str
) -> None:
    data = random.randbytes(60_000)
    for dummy in range(4):
        target.close()
        standin.faults.cut(random.randrange(70_000), direction)
        target.files.write(f"{folder}/data", data)
        assert target.files.read(f"{folder}/data") == data
    assert [info.name for info in target.files.entries(folder) if not info.name.startswith(".")] == ["data"]


def test_a_rename_that_was_done_before_the_cut_is_no_error(
    standin: Standin, target: KubernetesTarget, folder: str
) -> None:
    for after in (0, 20, 40):
        target.files.write(f"{folder}/one", b"1")
        target.close()
        standin.faults.cut(after, "out")
        target.files.rename(f"{folder}/one", f"{folder}/two{after}")
        assert target.files.read(f"{folder}/two{after}") == b"1"


def test_an_upload_that_is_cut_short_with_exit_code_0_is_refused(standin: Standin, target: KubernetesTarget) -> None:
    data = random.randbytes(300_000)
    standin.faults.cut_stdin(64 * 1024, argv="cat >")
    with pytest.raises(FileProblem, match="An upload was truncated or changed"):
        target.run(["wc", "-c"], stdin=io.BytesIO(data))
    assert target.run(["wc", "-c"], stdin=io.BytesIO(data)).text.split() == ["300000"]


def test_a_slow_reader_gets_all(standin: Standin, target: KubernetesTarget, folder: str) -> None:
    data = random.randbytes(3_000_000)
    target.files.write(f"{folder}/data", data)
    target.close()
    standin.faults.slow(bytes_per_s=600_000)
    with io.BytesIO() as sink:
        target.run(["cat", f"{folder}/data"], stdout=sink)
        assert hashlib.sha256(sink.getvalue()).digest() == hashlib.sha256(data).digest()


def test_overload_is_waited_for(standin: Standin, target: KubernetesTarget, folder: str) -> None:
    for status in (429, 500, 503):
        target.close()
        standin.faults.answer(status, path="/exec$")
        assert target.files.info(folder)


def test_an_api_server_that_is_away_is_waited_for(place: Place, folder: str) -> None:
    with place.link() as link, place.target(lease_s=20, kubeconfig=link.kubeconfig) as target:
        assert target.files.info(folder)
        before = link.connections
        away = threading.Thread(target=link.away, args=(2,))
        away.start()
        time.sleep(0.3)
        assert target.files.info(folder)
        away.join()
        assert link.connections > before


def test_who_comes_back_when_his_lock_is_gone_does_nothing_more(place: Place, folder: str) -> None:
    lease_s = 2 * place.pace.factor
    lost = pytest.raises(WorkloadProblem, match="The lock was lost")
    with place.link() as link, place.target(lease_s=lease_s, kubeconfig=link.kubeconfig) as target:
        attempts = (
            lambda: target.files.write(f"{folder}/data", b"unlocked"),
            lambda: target.run(["touch", f"{folder}/data"]),
            lambda: target.spawn(["touch", f"{folder}/data"], log=f"{folder}/log").wait(),
        )
        with contextlib.ExitStack() as held:
            held.enter_context(lost)  # at the end, when the lock is let go
            held.enter_context(target.files.lock(f"{folder}/lock", "a test"))
            link.away(1.5 * lease_s)
            for attempt in attempts:
                with pytest.raises(WorkloadProblem, match="The lock was lost"):
                    attempt()
            with target.endpoint(None, None) as at, pytest.raises(psycopg2.OperationalError, match="The lock was lost"):
                psycopg2.connect(host=at.host, port=at.port, user=USER, password=PASSWORD, dbname=DATABASE)
        assert target.files.info(f"{folder}/data") is None
        with target.files.lock(f"{folder}/lock", "the next one"):
            assert place.here.files.lock_holder(f"{folder}/lock") is not None


def test_a_session_whose_connection_goes_silent_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_s = 1.5 * place.pace.factor
    monkeypatch.setattr(port_forward, "_DEAD_S", dead_s)
    monkeypatch.setattr(port_forward, "_PING_S", dead_s / 5)
    login = {"user": USER, "password": PASSWORD, "dbname": DATABASE}
    with (
        place.link() as link,
        place.target(kubeconfig=link.kubeconfig) as target,
        target.endpoint(None, None) as at,
        contextlib.closing(psycopg2.connect(host=at.host, port=at.port, **login)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT pg_sleep(%s)", [1.5 * dead_s])  # the server is silent, and its connection is not
        with link.silent(), pytest.raises(psycopg2.OperationalError, match="no data was received for"):
            cursor.execute("SELECT 1")


def test_connections_that_are_cut_are_only_a_delay_for_files(place: Place, folder: str) -> None:
    data = random.randbytes(60_000)
    with place.link() as link, place.target(kubeconfig=link.kubeconfig) as target:
        for after in (
            2_000,
            20_000,
            random.randrange(300_000),
            random.randrange(300_000),
        ):  # encrypted, as octal digits
            link.cut_after(after)
            target.files.write(f"{folder}/data", data)
            assert target.files.read(f"{folder}/data") == data
        assert link.connections > 1
    assert [info.name for info in place.here.files.entries(folder) if not info.name.startswith(".")] == ["data"]


def test_a_token_that_lapses_is_read_anew_once(place: Place, folder: str) -> None:
    user = place.user(*OPERATOR)
    with place.target(lease_s=10, kubeconfig=user.kubeconfig) as target:
        assert target.files.info(folder)
        target.close()
        user.end_token()
        with pytest.raises(ClusterRefused, match="renew them"):
            target.files.info(folder)
        user.renew()
        assert target.files.info(folder)


# --- pods


def test_an_image_without_a_shell_is_told(place: Place) -> None:
    with pytest.raises(ProgramMissing, match="no shell in the container"):
        of(place, "pod/bare").files.info("/")


@pytest.mark.parametrize(
    ("workload", "container", "told"),
    [
        ("pod/two", None, "several containers.*first, second.*Name one"),
        ("pod/two", "third", "no container third.*first, second"),
        ("app=twin", None, r"More than one pod is ready.*twin-a, \S*twin-b.*pod/NAME"),
    ],
)
def test_a_pod_that_is_not_clear_is_refused(place: Place, workload: str, container: str | None, told: str) -> None:
    with pytest.raises(RunbookError, match=told):
        of(place, workload, container)


def test_a_pod_that_is_not_ready_is_not_used(place: Place) -> None:
    name = f"{place.name}-late"
    phase = place.until(lambda: place.get("Pod", name)["status"].get("phase") == "Running", place.pace.start_s)
    assert phase
    with pytest.raises(WorkloadProblem, match=r"No pod is ready.*late: Running, not ready"):
        of(place, "pod/late")
    with place.inside(name) as target:
        target.run(shell(': >"$WORK/ready"'))
    place.until(lambda: _is_ready(place, "late"))
    of(place, "pod/late").close()


def test_a_pod_that_is_terminating_is_not_used(place: Place) -> None:
    place.delete("Pod", f"{place.name}-twin-b")
    of(place, "app=twin").close()  # the other one is on its way out, although it still says Ready


def test_a_pod_that_goes_takes_its_jobs_along_and_that_is_said(place: Place) -> None:
    name = f"{place.name}-mortal"
    target = of(place, "pod/mortal")
    temporary = target.run(shell('mktemp -d "${TMPDIR:-/tmp}/test-XXXXXX"')).text.strip()
    job = target.spawn(shell("sleep 30"), log=f"{temporary}/log")
    assert job.poll() is None
    place.delete("Pod", name)
    place.until(
        lambda: not [pod for pod in place.listed("Pod", f"{RUN}={place.name}") if pod["metadata"]["name"] == name]
    )
    with pytest.raises(WorkloadProblem, match="The pod no longer exists"):
        job.wait()
    target.close()
