"""Deployments, pods and Jobs go through the recorded states, in the recorded order, and watches tell them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from tests.standin import Image, Standin, lab
from tests.support.workspace import workspace

DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
JOBS = f"/apis/batch/v1/namespaces/{lab.NAMESPACE}/jobs"
DEAF = "trap '' TERM; while :; do sleep 0.05; done"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Standin]:
    folder = workspace() / "seq"
    folder.mkdir()
    images = lab.images(folder)
    deaf = Image(command=("bash", "-c", DEAF))
    with Standin(folder / "k", images={**images, "lab/deaf:1": deaf}) as standin:
        lab.build(standin)
        yield standin


class Follower:
    """Collects the events of a watch, from now on."""

    def __init__(self, standin: Standin, path: str, **query: str) -> None:
        self.events: list[Any] = []
        self.ended = threading.Event()
        self.started = threading.Event()
        self._pool = urllib3.PoolManager(ca_certs=str(standin.ca_file), retries=False)
        self._url = f"{standin.url}{path}?{urlencode({'watch': 'true', 'timeoutSeconds': '30', **query})}"
        self._headers = {"Authorization": f"Bearer {standin.token()}"}
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        assert self.started.wait(10)
        return self

    def __exit__(self, *dummy: object) -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # it has ended by itself
            self._answer.shutdown()
        self._thread.join()
        self._pool.clear()

    def _read(self) -> None:
        self._answer = self._pool.request("GET", self._url, headers=self._headers, preload_content=False)
        self.status = self._answer.status
        self.started.set()
        left = b""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            while more := self._answer.read1(65_536):
                *lines, left = (left + more).split(b"\n")
                self.events += [json.loads(line) for line in lines]
        self.ended.set()
        self._answer.release_conn()

    def objects(self) -> list[Any]:
        """Return the states that the events had."""
        return [event["object"] for event in self.events if event["type"] in ("ADDED", "MODIFIED")]


def patch(standin: Standin, path: str, body: Any, content_type: str = "application/merge-patch+json") -> None:
    with urllib3.PoolManager(ca_certs=str(standin.ca_file), retries=False) as pool:
        headers = {"Authorization": f"Bearer {standin.token()}", "Content-Type": content_type}
        answer = pool.request("PATCH", standin.url + path, body=json.dumps(body), headers=headers)
        assert answer.status == 200, answer.data


# --- what is compared: the counts, whether they are up to date, and the reasons of the conditions

Look = tuple[tuple[tuple[str, int], ...], bool, frozenset[tuple[str, str, str]]]


def look(status: Any, generation: int) -> Look:
    counts = {name: value for name, value in status.items() if name not in ("conditions", "observedGeneration")}
    conditions = [(each["type"], each["status"], each["reason"]) for each in status.get("conditions") or []]
    is_new = status.get("observedGeneration") == generation
    return tuple(sorted(counts.items())), is_new, frozenset(conditions)


def is_partial(status: Any) -> bool:
    """Tell whether some pods of several have become ready: which of them first is chance."""
    ready, replicas = status.get("readyReplicas", 0), status.get("replicas", 0)
    return 0 < ready < replicas - 1 or (0 < ready < replicas and status.get("updatedReplicas", 0) == replicas > 1)


def distinct(looks: list[Look]) -> list[Look]:
    return [each for index, each in enumerate(looks) if not index or each != looks[index - 1]]


def recorded_looks(name: str) -> list[Look]:
    """Return the states of a recorded Deployment from the first action on."""
    lines = lab.lines(f"sequences/{name}.jsonl")
    start = next(index for index, line in enumerate(lines) if line.get("kind") == "Action")
    chosen = [line for line in lines[start:] if line.get("kind") == "Deployment"]
    return distinct([look(each["status"], each["generation"]) for each in chosen if not is_partial(each["status"])])


def our_looks(follower: Follower) -> list[Look]:
    return distinct([look(each["status"], each["metadata"]["generation"]) for each in follower.objects()])


def assert_in_order(expected: list[Any], actual: list[Any]) -> None:
    """Every expected state is there, in this order; more states in between are fine."""
    position = 0
    for each in expected:
        assert each in actual[position:], f"{each}\nis not among\n" + "\n".join(map(str, actual[position:]))
        position = actual.index(each, position) + 1


def pod_look(pod: Any) -> tuple[Any, ...]:
    status = pod["status"]
    conditions = status.get("conditions") or []
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    states = [state for each in status.get("containerStatuses") or [] for state in each["state"].items()]
    waiting = [what["reason"] for name, what in states if name == "waiting"]
    deleted = "deletionTimestamp" in pod["metadata"]
    return status["phase"], ready, deleted, tuple(name for name, dummy in states), tuple(waiting)


def recorded_pod_looks(name: str) -> set[tuple[Any, ...]]:
    return {
        (
            pod["phase"],
            pod["ready"],
            pod["deletionTimestamp"] is not None,
            tuple(pod["containers"]),
            tuple(pod["waiting"]),
        )
        for line in lab.lines(f"sequences/{name}.jsonl")
        if line.get("kind") == "Pods"
        for pod in line["pods"]
    }


def settled(standin: Standin, name: str, namespace: str, replicas: int) -> None:
    """Wait until a Deployment and its pods are where they are to be."""

    def is_so() -> bool:
        found = standin.get("deployment", name, namespace)
        assert found is not None
        status = found["status"]
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == replicas
            and status.get("replicas", 0) == replicas == len(standin.pods(namespace, f"app={name}"))
        )

    standin.until(is_so)


def scale(standin: Standin, name: str, namespace: str, replicas: int) -> None:
    patch(standin, f"{DEPLOYMENTS.format(namespace)}/{name}/scale", {"spec": {"replicas": replicas}})
    settled(standin, name, namespace, replicas)


@pytest.mark.parametrize(
    ("name", "deployment", "replicas"),
    [("deployment-scale-3-0-3", "godel", 3), ("deployment-scale-1-0-1-postgres", "postgres", 1)],
)
def test_scaling_down_and_up_goes_as_recorded(cluster: Standin, name: str, deployment: str, replicas: int) -> None:
    path = DEPLOYMENTS.format(lab.NAMESPACE)
    version = cluster.get("deployment", deployment, lab.NAMESPACE)["metadata"]["resourceVersion"]  # type: ignore[index]
    pods = f"/api/v1/namespaces/{lab.NAMESPACE}/pods"
    selector = {"labelSelector": f"app={deployment}"}
    fields = {"fieldSelector": f"metadata.name={deployment}", "resourceVersion": version}
    with Follower(cluster, path, **fields) as ours, Follower(cluster, pods, **selector) as its_pods:
        scale(cluster, deployment, lab.NAMESPACE, 0)
        scale(cluster, deployment, lab.NAMESPACE, replicas)
        cluster.until(lambda: our_looks(ours)[-1] == recorded_looks(name)[-1])
    assert_in_order(recorded_looks(name), our_looks(ours))
    assert recorded_pod_looks(name) <= {pod_look(pod) for pod in its_pods.objects()}
    _assert_counts_run_ahead_of_pods(ours, its_pods)


def _assert_counts_run_ahead_of_pods(ours: Follower, pods: Follower) -> None:
    """The Deployment says 0 replicas while its pods are still there, and say that they are ready."""
    zero = next(event for event in ours.events if event["object"]["status"].get("replicas") is None)
    version = int(zero["object"]["metadata"]["resourceVersion"])
    gone = [event for event in pods.events if event["type"] == "DELETED"]
    assert gone
    assert all(int(event["object"]["metadata"]["resourceVersion"]) > version for event in gone[:1])
    newest: dict[str, Any] = {}
    for event in pods.events:
        if int(event["object"]["metadata"]["resourceVersion"]) < version:
            newest[event["object"]["metadata"]["name"]] = event["object"]
    assert ("Running", True, True, ("running",), ()) in {pod_look(pod) for pod in newest.values()}


def test_a_deaf_process_keeps_its_pod_for_the_grace_period(cluster: Standin) -> None:
    name = "deployment-scale-2-0-slow-stop"
    container = {"name": "c", "image": "lab/deaf:1"}
    cluster.apply(_deployment("deaf", container, replicas=2, grace_s=1))
    settled(cluster, "deaf", lab.PROBE, 2)
    pods = f"/api/v1/namespaces/{lab.PROBE}/pods"
    with Follower(cluster, pods, labelSelector="app=deaf") as its_pods:
        start = time.monotonic()
        scale(cluster, "deaf", lab.PROBE, 0)
        assert time.monotonic() - start >= 1
        cluster.until(lambda: sum(event["type"] == "DELETED" for event in its_pods.events) == 2)
    killed = ("Failed", False, True, ("terminated",), ())
    assert {killed, ("Running", True, True, ("running",), ())} <= recorded_pod_looks(name)
    assert {pod_look(pod) for pod in its_pods.objects()} >= {killed, ("Running", True, True, ("running",), ())}
    codes = {_exit_code(pod) for pod in its_pods.objects() if pod_look(pod) == killed}
    assert codes == {137}


def _exit_code(pod: Any) -> int:
    return int(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"])


def _deployment(name: str, container: Any, *, replicas: int, grace_s: int, **spec: Any) -> Any:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": lab.PROBE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": grace_s, "containers": [container]},
            },
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("name", "deployment", "replicas"),
    [
        ("deployment-rollout-restart-rolling", "godel", 3),
        ("deployment-rollout-restart-recreate", "postgres", 1),
    ],
)
def test_a_restart_goes_as_recorded(cluster: Standin, name: str, deployment: str, replicas: int) -> None:
    action = next(line for line in lab.lines(f"sequences/{name}.jsonl") if line.get("kind") == "Action")
    path = DEPLOYMENTS.format(lab.NAMESPACE)
    with Follower(cluster, path, fieldSelector=f"metadata.name={deployment}") as ours:
        request = action["request"]
        patch(cluster, request["path"], request["body"], request["content_type"])
        settled(cluster, deployment, lab.NAMESPACE, replicas)
        cluster.until(lambda: our_looks(ours)[-1] == recorded_looks(name)[-1])
    assert_in_order(recorded_looks(name), our_looks(ours))


def test_a_rollout_that_cannot_start_is_overdue_and_keeps_the_old_pods(cluster: Standin) -> None:
    name = "deployment-rollout-stuck"
    container = {"name": "c", "image": "lab/app:1", "imagePullPolicy": "Never"}
    cluster.apply(_deployment("late", container, replicas=2, grace_s=1, progressDeadlineSeconds=1))
    settled(cluster, "late", lab.PROBE, 2)
    old = {pod["metadata"]["name"] for pod in cluster.pods(lab.PROBE, "app=late")}
    path = DEPLOYMENTS.format(lab.PROBE)
    with Follower(cluster, path, fieldSelector="metadata.name=late") as ours:
        for image in ("lab/missing:1", "lab/app:1"):
            changed = {"spec": {"template": {"spec": {"containers": [{**container, "image": image}]}}}}
            patch(cluster, f"{path}/late", changed, "application/strategic-merge-patch+json")
            if image == "lab/missing:1":
                cluster.until(lambda: "ProgressDeadlineExceeded" in str(our_looks(ours)[-1]))
                assert old < {pod["metadata"]["name"] for pod in cluster.pods(lab.PROBE, "app=late")}
        settled(cluster, "late", lab.PROBE, 2)
        cluster.until(lambda: our_looks(ours)[-1] == recorded_looks(name)[-1])
    expected = [each for each in recorded_looks(name) if "ProgressDeadlineExceeded" in str(each)]
    assert_in_order([*expected, recorded_looks(name)[-1]], our_looks(ours))
    assert old == {pod["metadata"]["name"] for pod in cluster.pods(lab.PROBE, "app=late")}


def test_a_job_goes_as_recorded(cluster: Standin) -> None:
    states = [line["status"] for line in lab.lines("sequences/job-status-until-complete.jsonl") if "status" in line]
    container = {"name": "c", "image": "lab/waiting:1", "command": ["sleep", "0.3"]}
    with Follower(cluster, JOBS, fieldSelector="metadata.name=short") as ours:
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        meta = {"name": "short", "namespace": lab.NAMESPACE}
        cluster.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}})
        cluster.until(lambda: "Complete" in str(ours.objects()[-1:]))
    seen = [lab.alike(each["status"]) for each in ours.objects()]
    assert_in_order([lab.alike(each) for each in states], seen)


def test_a_watch_tells_changes_then_a_bookmark_and_ends_in_time(cluster: Standin) -> None:
    header, *events = lab.lines("sequences/watch-deployment-during-scale-3-0-3.jsonl")
    query = {**header["request"]["query"], "timeoutSeconds": "6"}
    found = cluster.get("deployment", "godel", lab.NAMESPACE)
    assert found is not None
    query["resourceVersion"] = found["metadata"]["resourceVersion"]
    with Follower(cluster, header["request"]["path"], **query) as ours:
        start = time.monotonic()
        scale(cluster, "godel", lab.NAMESPACE, 0)
        scale(cluster, "godel", lab.NAMESPACE, 3)
        assert ours.ended.wait(60)
        assert 5.5 < time.monotonic() - start < 30
    kinds = [event["type"] for event in ours.events]
    assert set(kinds) == {event["type"] for event in events if "type" in event}
    assert kinds[-1] == "BOOKMARK"
    expected = [
        look(event["object"]["status"], event["object"]["metadata"]["generation"])
        for event in events
        if event.get("type") == "MODIFIED" and not is_partial(event["object"]["status"])
    ]
    assert_in_order(_without_half_steps(distinct(expected)), our_looks(ours))


def _without_half_steps(looks: list[Look]) -> list[Look]:
    """Leave out the states that the real controller wrote twice within 10 ms."""
    available = ("Available", "False", "MinimumReplicasUnavailable")
    return [each for each in looks if each[0] or available not in each[2]]


def test_a_version_that_is_forgotten_cannot_be_watched_from(cluster: Standin) -> None:
    cluster.compact()
    path = DEPLOYMENTS.format(lab.NAMESPACE)
    with Follower(cluster, path, resourceVersion="1") as ours:
        assert ours.ended.wait(5)
    assert [event["type"] for event in ours.events] == ["ERROR"]
    assert (ours.events[0]["object"]["code"], ours.events[0]["object"]["reason"]) == (410, "Expired")
    assert ours.status == 200


def test_objects_that_stop_matching_are_deleted_for_a_watch(cluster: Standin) -> None:
    meta = {"name": "labelled", "namespace": lab.NAMESPACE, "labels": {"colour": "red"}}
    path = f"/api/v1/namespaces/{lab.NAMESPACE}/configmaps"
    with Follower(cluster, path, labelSelector="colour in (red, green),!gone") as ours:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
        for labels in ({"colour": "green"}, {"colour": "blue"}, {"colour": "red"}, {"gone": "x"}):
            patch(cluster, f"{path}/labelled", {"metadata": {"labels": labels}})
        cluster.until(lambda: len(ours.events) == 5)
    assert [event["type"] for event in ours.events] == ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
