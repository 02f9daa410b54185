"""The stand-in answers as the recorded API server: the same status codes and the same bodies."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.standin import Standin, lab
from tests.support.workspace import workspace

ADMIN, RUNNER = "admin", "runner"
EXEC_ROLE = "service account godel/runner, Role: get pods/exec"

# These depend on what went before; each has a test of its own below.
IN_ORDER = {
    "job-create-from-cronjob.json",
    "job-delete.json",
    "job-get-complete.json",
    "job-get-failed.json",
    "jobs-list.json",
    "pods-of-job-list.json",
    "pod-log-of-job.json",
    "error-409-job-already-exists.json",
    "deployment-patch-restartedat.json",
}
# What our server is, not what it answers; and groups that it does not serve.
DISCOVERY = {
    "api.json",
    "apis.json",
    "version.json",
    "discovery-apps-v1.json",
    "discovery-batch-v1.json",
    "discovery-core-v1.json",
    "discovery-with-empty-role.json",
}
ALONE = sorted(set(lab.names("http")) - IN_ORDER - DISCOVERY)


class Cluster:
    """The rebuilt lab, and a plain HTTP client."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self._pool = urllib3.PoolManager(ca_certs=str(standin.ca_file), retries=False)

    def ask(self, method: str, path: str, body: Any = None, token: str | None = "", content_type: str = "") -> Any:
        """Send a request; no token (None) is anonymous, an empty one is the administrator's."""
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.standin.token()}"
        if body is not None:
            headers["Content-Type"] = content_type or "application/json"
        data = None if body is None else json.dumps(body)
        return self._pool.request(method, self.standin.url + path, body=data, headers=headers)

    def replay(self, recorded: Any) -> Any:
        """Send a recorded request with the names of our pods in it."""
        request = recorded["request"]
        content_type = request.get("content_type") or request.get("headers", {}).get("Content-Type", "")
        path = lab.here(self.standin, request["path"])
        token = self._token(recorded.get("identity", ""))
        return self.ask(request["method"], path, request.get("body"), token, content_type)

    def _token(self, identity: str) -> str | None:
        if identity == "bad bearer token":
            return "nonsense"
        if identity == "no credentials at all":
            return None
        if identity.startswith("service account"):
            self.standin.grant(RUNNER, *(["get pods/exec"] if identity == EXEC_ROLE else []), namespace=lab.NAMESPACE)
            return self.standin.token(RUNNER, lab.NAMESPACE)
        return ""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = workspace() / "http"
    folder.mkdir()
    with Standin(folder / "k", images=lab.images(folder)) as standin:
        lab.build(standin)
        yield Cluster(standin)


def body_of(answer: Any) -> Any:
    """Return the body, decoded when it is JSON."""
    if answer.headers["Content-Type"].startswith("application/json"):
        return json.loads(answer.data)
    return answer.data.decode()


def assert_alike(answer: Any, recorded: Any) -> None:
    """Compare an answer with a recorded one, but for what differs from cluster to cluster."""
    response = recorded["response"]
    assert answer.status == response["status"]
    expected, actual = response["body"], body_of(answer)
    assert lab.same_order(lab.alike(actual)) == lab.same_order(lab.alike(expected))
    headers = response.get("headers", {})
    for name in ("Content-Type", "Cache-Control"):
        if name in headers:
            assert answer.headers[name] == headers[name]
    if response["status"] >= 400 and "Content-Length" in headers and "postgres-" not in str(expected):
        assert answer.headers["Content-Length"] == headers["Content-Length"]


@pytest.mark.parametrize("name", ALONE)
def test_answer_is_as_recorded(cluster: Cluster, name: str) -> None:
    recorded = lab.recording(f"http/{name}")
    answer = cluster.replay(recorded)
    if name == "deployments-list.json":  # its items were trimmed when they were recorded
        _assert_items_contain(body_of(answer), recorded["response"]["body"])
        return
    assert_alike(answer, recorded)


def _assert_items_contain(actual: Any, expected: Any) -> None:
    assert [item["metadata"]["name"] for item in actual["items"]] == [
        item["metadata"]["name"] for item in expected["items"]
    ]
    for ours, theirs in zip(actual["items"], expected["items"], strict=True):
        assert lab.same_order(lab.alike(ours["status"])) == lab.same_order(lab.alike(theirs["status"]))
        assert ours["spec"]["selector"] == theirs["spec"]["selector"]
        assert set(theirs["metadata"]) <= set(ours["metadata"])
    assert {**actual, "items": 0, "metadata": 0} == {**expected, "items": 0, "metadata": 0}


def test_a_restart_is_answered_with_the_old_status(cluster: Cluster) -> None:
    recorded = lab.recording("http/deployment-patch-restartedat.json")
    answer = cluster.replay(recorded)
    assert_alike(answer, recorded)
    body = body_of(answer)
    assert body["status"]["observedGeneration"] == body["metadata"]["generation"] - 1
    theirs = recorded["response"]["body"]
    assert theirs["status"]["observedGeneration"] == theirs["metadata"]["generation"] - 1


def test_a_job_from_a_cronjob_goes_its_recorded_way(cluster: Cluster) -> None:
    uid = cluster.standin.get("cronjob", "postgres-backup", lab.NAMESPACE)["metadata"]["uid"]  # type: ignore[index]
    create = json.loads(json.dumps(lab.recording("http/job-create-from-cronjob.json")))
    create["request"]["body"]["metadata"]["ownerReferences"][0]["uid"] = uid
    assert_alike(cluster.replay(create), create)
    assert_alike(
        cluster.replay(lab.recording("http/error-409-job-already-exists.json")),
        lab.recording("http/error-409-job-already-exists.json"),
    )
    _until(cluster, "manual-1")
    for name in ("job-get-complete.json", "jobs-list.json", "pods-of-job-list.json"):
        recorded = lab.recording(f"http/{name}")
        assert_alike(cluster.replay(recorded), recorded)
    log = lab.recording("http/pod-log-of-job.json")
    answer = cluster.replay(log)
    assert (answer.status, answer.headers["Content-Type"]) == (200, log["response"]["headers"]["Content-Type"])
    assert answer.data.decode().split()[-1].startswith("/"), "ls has shown the file"

    failing = lab.recording("http/job-get-failed.json")
    spec = failing["response"]["body"]["spec"]
    kept = {"backoffLimit": 0, "template": {"spec": spec["template"]["spec"]}}
    meta = {**create["request"]["body"]["metadata"], "name": "failing-1"}
    cluster.ask("POST", create["request"]["path"], {"metadata": meta, "spec": kept})
    _until(cluster, "failing-1")
    assert_alike(cluster.replay(failing), failing)
    delete = lab.recording("http/job-delete.json")
    assert_alike(cluster.replay(delete), delete)
    assert cluster.replay(failing).status == 404


def _until(cluster: Cluster, job: str) -> None:
    def over() -> bool:
        found = cluster.standin.get("job", job, lab.NAMESPACE)
        return found is not None and bool(found["status"].get("conditions"))

    cluster.standin.until(over)


@pytest.mark.parametrize("name", sorted(name for name in DISCOVERY if name.startswith("discovery-")))
def test_discovery_describes_resources_as_recorded(cluster: Cluster, name: str) -> None:
    recorded = lab.recording(f"http/{name}")
    answer = cluster.replay(recorded)
    ours, theirs = body_of(answer), recorded["response"]["body"]
    assert answer.status == 200
    listed = lab.recording("http/discovery-apps-v1.json")["response"]["body"] if "empty-role" in name else theirs
    known = {entry["name"]: entry for entry in listed["resources"]}
    assert ours["resources"], "something is served"
    for entry in ours["resources"]:
        assert entry == known[entry["name"]]
    assert {**ours, "resources": 0} == {**theirs, "resources": 0}


def test_groups_are_listed_as_recorded(cluster: Cluster) -> None:
    recorded = lab.recording("http/apis.json")
    ours, theirs = body_of(cluster.replay(recorded)), recorded["response"]["body"]
    known = {group["name"]: group for group in theirs["groups"]}
    assert {group["name"] for group in ours["groups"]} >= {"apps", "batch", "authorization.k8s.io"}
    for group in ours["groups"]:
        assert group == known[group["name"]]
    assert {**ours, "groups": 0} == {**theirs, "groups": 0}
    api = lab.recording("http/api.json")
    assert_alike(cluster.replay(api), api)


def test_the_version_is_the_recorded_one(cluster: Cluster) -> None:
    recorded = lab.recording("http/version.json")
    ours, theirs = body_of(cluster.replay(recorded)), recorded["response"]["body"]
    assert set(ours) == set(theirs)
    assert [ours[name] for name in ("major", "minor", "gitVersion")] == ["1", "32", "v1.32.13"]


def test_a_dry_run_and_refused_changes_change_nothing(cluster: Cluster) -> None:
    before = cluster.standin.get("deployment", "godel", lab.NAMESPACE)
    assert before is not None
    for name in (
        "deployment-scale-patch-dry-run",
        "error-422-negative-replicas",
        "error-409-patch-old-resourceversion",
    ):
        cluster.replay(lab.recording(f"http/{name}.json"))
    after = cluster.standin.get("deployment", "godel", lab.NAMESPACE)
    assert after is not None
    assert after["spec"] == before["spec"]


def test_the_connection_is_encrypted_with_the_ca_of_the_kubeconfig(cluster: Cluster) -> None:
    strangers = urllib3.PoolManager(ssl_context=ssl.create_default_context(), retries=False)
    with pytest.raises(urllib3.exceptions.SSLError):
        strangers.request("GET", cluster.standin.url + "/version")


def test_a_token_that_has_ended_is_401_and_is_not_written_down(cluster: Cluster) -> None:
    standin = cluster.standin
    old = standin.token("short", lab.NAMESPACE)
    path = f"/api/v1/namespaces/{lab.NAMESPACE}/pods"
    assert cluster.ask("GET", path, token=old).status == 403
    standin.expire_token("short", lab.NAMESPACE)
    assert cluster.ask("GET", path, token=old).status == 401
    assert cluster.ask("GET", path, token=standin.token("short", lab.NAMESPACE)).status == 403
    assert old not in repr(standin.requests)
