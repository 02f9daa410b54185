"""A backup is verified in a scratch pod, which no longer exists afterwards, whatever happens."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import RunbookError, WorkloadProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import scratch_pod
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.cluster import Cluster, ClusterOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target import kubernetes
from tests.conftest import ROOT
from tests.database.target_files_contract import shell
from tests.kubernetes import place as places
from tests.kubernetes.place import CONTAINER, DATABASE, PASSWORD, USER, Place
from tests.standin import Standin
from tests.support.modules import Result, RunningModule, run_module, start_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


# Process 1 of a scratch pod is asked to end, found by what it runs: the stand-in's pods see all processes of this machine.
# The brackets are for this very script, which would find itself, and might end before it gets to the other one.
END = """
for p in /proc/[0-9]*; do
    grep -qs "[t]rap 'exit 0' TERM" "$p/cmdline" && grep -qsF "TMPDIR=$TMPDIR" "$p/environ" && kill "${p#/proc/}"
done
exit 0
"""
# Who loads from $1; the brackets are for the same reason.
LOADING = """grep -ls 'pg_[r]estore' $(grep -lsF -- "$1" /proc/[0-9]*/cmdline) /dev/null; exit 0"""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("spod") as prepared:
        prepared.execute(
            "CREATE TABLE users AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, 100000) n",
            # So that a restore takes long enough to come into the middle of it.
            f"CREATE TABLE slow (id int CHECK (pg_sleep({1.5 * prepared.pace.factor})::text = ''))",
            "INSERT INTO slow VALUES (1)",
        )
        result = run_module("pg_backup", params(prepared))
        assert not result["failed"], result
        yield prepared


@pytest.fixture(autouse=True)
def _tidy(place: Place) -> Iterator[None]:
    yield
    for pod in place.scratch_pods():
        place.delete("Pod", pod["metadata"]["name"], grace_s=0)
    place.until(lambda: not place.scratch_pods())


def params(place: Place, **over: Any) -> dict[str, Any]:
    login = {"login_user": USER, "login_password": PASSWORD}
    return {**login, "db": DATABASE, "backup_dir": place.volume, "kubernetes": place.options(), **over}


def started(place: Place) -> tuple[RunningModule, str]:
    """Start a verification and return when it restores; and the name of its pod."""
    running = start_module("pg_restore_verify", params(place))

    def names() -> list[str]:
        return [pod["metadata"]["name"] for pod in place.scratch_pods() if pod["status"].get("phase") == "Running"]

    [name] = place.until(names, place.pace.start_s)
    with place.inside(name) as target:
        place.until(lambda: target.run(shell(LOADING, place.volume)).text)
    return running, name


def newest(place: Place) -> str:
    return place.glob(f"{place.volume}/{DATABASE}/*Z")[-1]


def is_going(place: Place) -> bool:
    return all("deletionTimestamp" in pod["metadata"] for pod in place.scratch_pods())


def phase(place: Place, name: str) -> str:
    """The phase of a scratch pod; a run beside this one may delete it once it has ended."""
    found = {pod["metadata"]["name"]: pod["status"].get("phase", "") for pod in place.scratch_pods()}
    return found.get(name, "gone")


def verify(place: Place, **over: Any) -> Result:
    return run_module("pg_restore_verify", params(place, **over))


def test_a_backup_is_proven_in_a_pod_that_is_gone_afterwards(place: Place) -> None:
    result = verify(place)
    assert not result["failed"], result
    assert result["verdict"] == "verified", result
    assert {"pod_s", "restore_s", "compare_s"} <= set(result["steps"])
    assert is_going(place)


def test_the_pod_of_the_server_has_no_part_in_it(place: Place, standin: Standin) -> None:
    with standin.watching() as requests:
        result = verify(place)
    assert result["verdict"] == "verified", result
    verbs = [request.method for request in requests if "/pods" in request.path and request.method in ("POST", "DELETE")]
    assert verbs == ["POST", "DELETE"]
    server = [request for request in requests if request.path.endswith(f"{place.pod}/exec")]
    assert not any("pg_restore" in " ".join(request.argv) for request in server)


def test_check_mode_makes_nothing(place: Place) -> None:
    result = run_module("pg_restore_verify", params(place), check=True)
    assert not result["failed"], result
    assert place.scratch_pods() == []


def test_check_mode_asks_the_api_server(place: Place, standin: Standin) -> None:
    with standin.watching() as requests:
        result = run_module("pg_restore_verify", params(place), check=True)
    assert not result["failed"], result
    [post] = [request for request in requests if request.method == "POST" and request.path.endswith("/pods")]
    assert post.asked("dryRun") == "All"


def test_a_damaged_file_is_seen_in_the_pod(place: Place) -> None:
    entry = newest(place)
    files = place.here.files
    damaged = min((info.size_bytes, info.path) for info in files.walk(f"{entry}/data") if ".dat" in info.path)[1]
    kept = files.read(damaged)
    files.write(damaged, bytes([kept[0] ^ 255]) + kept[1:])
    try:
        result = verify(place)
    finally:
        files.write(damaged, kept)
    assert (result["failed"], result["verdict"]) == (False, "failed")
    assert is_going(place)


def test_a_dump_made_by_hand_is_restored_there_too(place: Place) -> None:
    with place.target() as target:
        file = f"{place.volume}/by_hand.dump"
        env = {"PGPASSWORD": PASSWORD}
        target.run(["pg_dump", "-U", USER, "-Fc", "-f", file, DATABASE], env=env)
    result = verify(place, backup=file)
    assert result["verdict"] == "inconclusive", result
    assert "100,001 rows" in result["why"]
    assert is_going(place)


def test_one_that_is_interrupted_deletes_its_pod(place: Place) -> None:
    running, dummy = started(place)
    running.process.send_signal(signal.SIGINT)
    result = running.finish()
    assert "Stopped by SIGINT" in result["msg"]
    assert is_going(place)


@pytest.mark.leaves("the lock of the killed run ends with its lease")
def test_the_pod_of_one_that_was_killed_is_deleted_by_the_next_run(place: Place) -> None:
    running, name = started(place)
    running.process.kill()
    running.process.wait()
    assert [pod["metadata"]["name"] for pod in place.scratch_pods()] == [name]
    with place.inside(name) as target, contextlib.suppress(RunbookError):  # the end of the pod cuts this off
        target.run(shell(END))  # as it does by itself, minutes later
    place.until(lambda: phase(place, name) in ("Succeeded", "gone"))
    # The lock on that backup lasts as long as its lease; another one is free.
    assert not run_module("pg_backup", params(place))["failed"]
    result = verify(place)
    assert result["verdict"] == "verified", result
    assert is_going(place)


def test_a_pod_that_goes_in_the_middle_is_an_error_and_no_verdict(place: Place) -> None:
    entry = newest(place)
    before = place.glob(f"{entry}/verifications/*")
    running, name = started(place)
    place.delete("Pod", name, grace_s=0)
    result = running.finish()
    assert result["failed"]
    assert "The throwaway pod no longer exists" in result["msg"]
    assert "it creates a new one" in result["msg"]
    assert "until another" not in result["msg"]
    assert place.glob(f"{entry}/verifications/*") == before


def test_one_without_an_image_is_told_and_deleted(place: Place) -> None:
    # A name that no registry has to be asked about: a capital letter is not allowed.
    wanted = {"image": "registry.invalid/Nothing:1", "timeout": f"{7 * place.pace.factor - 6:g}s"}
    result = verify(place, scratch_pod=wanted)
    assert result["failed"]
    assert "The scratch pod does not start" in result["msg"]
    assert "registry.invalid/Nothing:1" in result["msg"]
    assert is_going(place)


def test_backups_on_no_volume_are_told(place: Place) -> None:
    elsewhere = place.here.run(["mktemp", "-d", "/var/tmp/test-XXXXXX"]).text.strip()
    try:
        place.here.run(["cp", "-a", f"{place.volume}/{DATABASE}", elsewhere])
        result = verify(place, backup_dir=elsewhere)
    finally:
        place.here.files.remove_tree(elsewhere)
    assert result["failed"]
    assert "which no other pod can mount" in result["msg"]
    assert "PersistentVolumeClaim" in result["msg"]


def test_a_missing_right_is_named_and_the_role_that_is_documented_is_enough(place: Place) -> None:
    for file, allowed in (("pod", False), ("backup_verify", True)):
        role = yaml.safe_load((ROOT / "docs" / "rbac" / f"{file}.yml").read_text())
        user = place.user(*role["rules"])
        result = verify(place, kubernetes=place.options(kubeconfig=user.kubeconfig))
        assert result["failed"] is not allowed, result
        if not allowed:
            assert "create pods, delete pods" in result["msg"]
            assert "docs/rbac/backup_verify.yml" in result["msg"]


# --- the pod itself


class Ours(Cluster):
    """The cluster without the scratch pods of other tests."""

    place: Place

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        if query == {"labelSelector": scratch_pod.SELECTOR}:
            return {"items": self.place.scratch_pods()}
        return super().get(path, query)


@contextlib.contextmanager
def cluster(place: Place) -> Iterator[Cluster]:
    found = Ours(ClusterOptions(place.namespace, kubeconfig=place.kubeconfig))
    found.place = place
    yield found
    found.close()


def made(place: Place, api: Cluster, idle_s: float = 60) -> dict[str, Any]:
    work = scratch_pod.ScratchPodWork(place.volume, None)
    pod = api.get(api.path("pods", place.pod))
    return scratch_pod.manifest(pod, CONTAINER, work, scratch_pod.ScratchPodOptions(), idle_s)


def test_one_that_nobody_works_in_ends_and_is_swept(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api, idle_s=2 * place.pace.factor)
        name = pod["metadata"]["name"]
        with scratch_pod.running(api, pod, place.pace.start_s):
            now = api.get(api.path("pods", name))["metadata"]["creationTimestamp"]
            place.until(lambda: phase(place, name) in ("Succeeded", "gone"))
            is_left = phase(place, name) == "Succeeded"
            assert scratch_pod.sweep(api, now) == [name] * is_left
            place.until(lambda: phase(place, name) == "gone")


def test_a_lease_keeps_it_and_another_run_leaves_it_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    factor = place.pace.factor
    monkeypatch.setattr(kubernetes, "_LEAVE_S", factor)
    with place.target(lease_s=factor) as target, cluster(place) as api:
        with target.beside(scratch_pod.ScratchPodWork(place.volume, None), scratch_pod.ScratchPodOptions()) as beside:
            time.sleep(6 * factor)  # without a lease it ends after four
            assert scratch_pod.sweep(api, "2999-01-01T00:00:00Z") == []
            assert beside.files.info(f"{place.volume}/{DATABASE}") is not None
        assert is_going(place)


def test_one_that_waits_for_a_node_is_swept_after_an_hour(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api)
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "nowhere.invalid"}
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
        with scratch_pod.running(api, pod, place.pace.start_s) as container:
            assert (container.pod, len(place.scratch_pods()), len(lost)) == (pod["metadata"]["name"], 1, 1)
        assert is_going(place)


def test_one_whose_program_does_not_start_says_so(place: Place) -> None:
    with cluster(place) as api:
        pod = made(place, api)
        pod["spec"]["containers"][0]["command"] = ["/nonexistent"]
        with pytest.raises(WorkloadProblem, match="does not start"), scratch_pod.running(api, pod, 300):
            pass
        assert is_going(place)
