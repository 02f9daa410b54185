"""A backup is proven in a throwaway pod, which is gone afterwards, whatever happens."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import WorkloadProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import scratch_pod
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import Cluster, ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target import kubernetes
from tests.conftest import ROOT
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, NAMESPACE, PASSWORD, USER, Place
from tests.support.modules import Result, RunningModule, run_module, start_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.prepared("spod") as prepared:
        host, port = prepared.standin.address(prepared.pod, 5432, NAMESPACE)
        connected = psycopg2.connect(host=host, port=port, user=USER, password=PASSWORD, dbname=DATABASE)
        with contextlib.closing(connected) as connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE users AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 100000) n"
            )
            # So that a restore takes long enough to come into the middle of it.
            cursor.execute("CREATE TABLE slow (id int CHECK (pg_sleep(1.5)::text = ''))")
            cursor.execute("INSERT INTO slow VALUES (1)")
            connection.commit()
        result = run_module("pg_backup", params(prepared))
        assert not result["failed"], result
        yield prepared


@pytest.fixture(autouse=True)
def _tidy(place: Place) -> Iterator[None]:
    yield
    place.standin.faults.clear()
    for pod in scratch_pods(place):
        place.standin.delete("pods", pod["metadata"]["name"], NAMESPACE, grace_s=0)
    place.standin.until(lambda: not scratch_pods(place))


def params(place: Place, **over: Any) -> dict[str, Any]:
    login = {"login_user": USER, "login_password": PASSWORD}
    return {**login, "db": DATABASE, "backup_dir": str(place.backups), "kubernetes": place.options(), **over}


def scratch_pods(place: Place) -> list[Any]:
    return place.standin.pods(NAMESPACE, scratch_pod.SELECTOR)


def started(place: Place) -> tuple[RunningModule, str]:
    """Start a verification and return when it restores; and the name of its pod."""
    running = start_module("pg_restore_verify", params(place))
    place.standin.until(lambda: restoring(place), 60)
    return running, str(scratch_pods(place)[0]["metadata"]["name"])


def newest(place: Place) -> Path:
    return max((place.backups / DATABASE).glob("*Z"))


def restoring(place: Place) -> bool:
    """Whether a scratch server is about to be loaded."""
    names = [pod["metadata"]["name"] for pod in scratch_pods(place) if pod["status"]["phase"] == "Running"]
    folders = [place.standin.path(name, scratch_pod.SCRATCH_DIR, NAMESPACE) for name in names]
    return any(list(folder.glob("pg_runbook_scratch_*/log")) for folder in folders)


def is_going(place: Place) -> bool:
    return all("deletionTimestamp" in pod["metadata"] for pod in scratch_pods(place))


def verify(place: Place, **over: Any) -> Result:
    return run_module("pg_restore_verify", params(place, **over))


def test_a_backup_is_proven_in_a_pod_that_is_gone_afterwards(place: Place) -> None:
    with place.standin.watching() as requests:
        result = verify(place)
    assert not result["failed"], result
    assert result["verdict"] == "verified", result
    assert {"pod_s", "restore_s", "compare_s"} <= set(result["steps"])
    assert is_going(place)
    verbs = [request.method for request in requests if "/pods" in request.path and request.method in ("POST", "DELETE")]
    assert verbs == ["POST", "DELETE"]
    server = [request for request in requests if request.path.endswith(f"{place.pod}/exec")]
    assert not any("pg_restore" in " ".join(request.argv) for request in server)


def test_check_mode_asks_the_api_server_and_makes_nothing(place: Place) -> None:
    with place.standin.watching() as requests:
        result = run_module("pg_restore_verify", params(place), check=True)
    assert not result["failed"], result
    [post] = [request for request in requests if request.method == "POST" and request.path.endswith("/pods")]
    assert post.asked("dryRun") == "All"
    assert scratch_pods(place) == []


def test_a_damaged_file_is_seen_in_the_pod(place: Place) -> None:
    entry = newest(place)
    damaged = sorted((entry / "data").glob("*.dat*"))[0]
    kept = damaged.read_bytes()
    damaged.write_bytes(bytes([kept[0] ^ 255]) + kept[1:])
    try:
        result = verify(place)
    finally:
        damaged.write_bytes(kept)
    assert (result["failed"], result["verdict"]) == (False, "failed")
    assert is_going(place)


def test_a_dump_made_by_hand_is_restored_there_too(place: Place) -> None:
    with place.target() as target:
        file = str(place.backups / "by_hand.dump")
        env = {"PGPASSWORD": PASSWORD}
        target.run(["pg_dump", "-U", USER, "-Fc", "-f", file, DATABASE], env=env)
    result = verify(place, backup=file)
    assert result["verdict"] == "inconclusive", result
    assert "100001 rows" in result["reason"]
    assert is_going(place)


def test_one_that_is_interrupted_deletes_its_pod(place: Place) -> None:
    running, dummy = started(place)
    running.process.send_signal(signal.SIGINT)
    result = running.finish()
    assert "Stopped by SIGINT" in result["msg"]
    assert is_going(place)


def test_the_pod_of_one_that_was_killed_is_deleted_by_the_next_run(place: Place) -> None:
    running, name = started(place)
    running.process.kill()
    running.process.wait()
    assert [pod["metadata"]["name"] for pod in scratch_pods(place)] == [name]
    place.standin.restart_container(name, NAMESPACE, number=signal.SIGTERM)  # as it does by itself, minutes later
    place.standin.until(lambda: scratch_pods(place)[0]["status"]["phase"] == "Succeeded")
    # The lock on that backup lasts as long as its lease; another one is free.
    assert not run_module("pg_backup", params(place))["failed"]
    result = verify(place)
    assert result["verdict"] == "verified", result
    assert is_going(place)


def test_a_pod_that_goes_in_the_middle_is_an_error_and_no_verdict(place: Place) -> None:
    entry = newest(place)
    before = sorted((entry / "verifications").glob("*"))
    running, name = started(place)
    place.standin.delete("pods", name, NAMESPACE, grace_s=0)
    result = running.finish()
    assert result["failed"]
    assert "The pod is gone" in result["msg"]
    assert sorted((entry / "verifications").glob("*")) == before


def test_one_without_an_image_is_told_and_deleted(place: Place) -> None:
    result = verify(place, scratch_pod={"image": "lab/nothing:1", "timeout": "1s"})
    assert result["failed"]
    assert "The scratch pod does not start" in result["msg"]
    assert "lab/nothing:1" in result["msg"]
    assert is_going(place)


def test_backups_on_no_volume_are_told(place: Place) -> None:
    elsewhere = place.path("/backups") / "elsewhere"
    subprocess.run(["cp", "-a", place.backups, elsewhere], check=True)
    try:
        result = verify(place, backup_dir=str(elsewhere))
    finally:
        shutil.rmtree(elsewhere)
    assert result["failed"]
    assert "which no other pod can mount" in result["msg"]
    assert "PersistentVolumeClaim" in result["msg"]


def test_a_missing_right_is_named_and_the_role_that_is_documented_is_enough(place: Place) -> None:
    for file, allowed in (("pod", False), ("backup_verify", True)):
        role = yaml.safe_load((ROOT / "docs" / "rbac" / f"{file}.yml").read_text())
        place.standin.grant("operator", *role["rules"], namespace=NAMESPACE)
        options = place.options(kubeconfig=str(place.standin.kubeconfig("operator", NAMESPACE)))
        result = verify(place, kubernetes=options)
        assert result["failed"] is not allowed, result
        if not allowed:
            assert "create pods, delete pods" in result["msg"]
            assert "docs/rbac/backup_verify.yml" in result["msg"]


# --- the pod itself


@contextlib.contextmanager
def cluster(place: Place) -> Iterator[Cluster]:
    found = Cluster(ClusterOptions(NAMESPACE, kubeconfig=place.kubeconfig))
    yield found
    found.close()


def made(place: Place, api: Cluster, idle_s: float = 60) -> dict[str, Any]:
    work = scratch_pod.Work(str(place.backups), None)
    pod = api.get(api.path("pods", place.pod))
    return scratch_pod.manifest(pod, "postgres", work, scratch_pod.Wanted(), idle_s)


def test_one_that_nobody_works_in_ends_and_is_swept(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api, idle_s=2)
        with scratch_pod.running(api, pod, 30):
            at = api.path("pods", pod["metadata"]["name"])
            place.standin.until(lambda: api.get(at)["status"]["phase"] == "Succeeded", 20)
            now = api.get(at)["metadata"]["creationTimestamp"]
            assert scratch_pod.sweep(api, now) == [pod["metadata"]["name"]]


def test_a_lease_keeps_it_and_another_run_leaves_it_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "_LEAVE_S", 1.0)
    with place.target(lease_s=1) as target, cluster(place) as api:
        with target.beside(scratch_pod.Work(str(place.backups), None), scratch_pod.Wanted()) as beside:
            time.sleep(6)  # without a lease it ends after four
            assert scratch_pod.sweep(api, "2999-01-01T00:00:00Z") == []
            assert beside.files.info(str(place.backups / DATABASE)) is not None
        assert is_going(place)


def test_one_that_waits_for_a_node_is_swept_after_an_hour(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api)
        pod["spec"]["containers"][0]["image"] = "lab/nothing:1"
        api.request("POST", api.path("pods"), body=pod)
        now = api.get(api.path("pods", pod["metadata"]["name"]))["metadata"]["creationTimestamp"]
        assert scratch_pod.sweep(api, now) == []
        later = f"{int(now[:4]) + 1}{now[4:]}"
        assert scratch_pod.sweep(api, later) == [pod["metadata"]["name"]]


def test_a_create_whose_answer_is_lost_makes_one_pod(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api)
        asked = api.request
        lost = []

        def request(method: str, path: str, **more: Any) -> Any:
            answer = asked(method, path, **more)
            if method == "POST" and not lost:
                lost.append(path)
                raise scratch_pod.ClusterRefused("overloaded", details={"status": 503})
            return answer

        api.request = request  # type: ignore[method-assign]
        with scratch_pod.running(api, pod, 30) as container:
            assert (container.pod, len(scratch_pods(place)), len(lost)) == (pod["metadata"]["name"], 1, 1)
        assert is_going(place)


def test_one_that_ends_at_once_says_so(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api)
        pod["spec"]["containers"][0]["command"] = ["sh", "-c", "exit 3"]
        with pytest.raises(WorkloadProblem, match="does not start"), scratch_pod.running(api, pod, 30):
            pass
        assert is_going(place)
