"""Each row of the recorded matrix of rights: what a Role lets through, and how the refusal is worded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.standin import Standin, lab
from tests.standin.recorder import V4, V5, Client, exec_path
from tests.support.workspace import workspace

USER = "runner"
CORE = f"/api/v1/namespaces/{lab.NAMESPACE}"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{lab.NAMESPACE}/deployments"
BATCH = f"/apis/batch/v1/namespaces/{lab.NAMESPACE}"
KUBECTL = shutil.which("kubectl")
# The stand-in speaks what the collection speaks: websockets and JSON. With "create" and without "get" kubectl
# falls back to SPDY, and what it makes itself it sends as Protocol Buffers.
NOT_SPOKEN = re.compile("SPDY|kubectl cp|kubectl create")
ROWS = [row for row in lab.recording("rbac-matrix.json")["rows"] if not NOT_SPOKEN.search(row["how"])]
WITH_KUBECTL = [row for row in ROWS if "kubectl" in row["how"]]
PLAIN = [row for row in ROWS if row not in WITH_KUBECTL]
GET, PATCH, POST = "GET", "PATCH", "POST"

REQUESTS: dict[str, tuple[str, str, Any]] = {
    "get deployment": (GET, f"{DEPLOYMENTS}/godel", None),
    "get deployment godel": (GET, f"{DEPLOYMENTS}/godel", None),
    "get deployment postgres": (GET, f"{DEPLOYMENTS}/postgres", None),
    "list pods by label": (GET, f"{CORE}/pods?labelSelector=app%3Dpostgres", None),
    "read scale": (GET, f"{DEPLOYMENTS}/godel/scale", None),
    "scale": (PATCH, f"{DEPLOYMENTS}/godel/scale", {"spec": {"replicas": 3}}),
    "patch scale of godel": (PATCH, f"{DEPLOYMENTS}/godel/scale", {"spec": {"replicas": 3}}),
    "rollout restart": (PATCH, f"{DEPLOYMENTS}/godel", {"metadata": {"annotations": {"a": "b"}}}),
    "get cronjob": (GET, f"{BATCH}/cronjobs/postgres-backup", None),
    "list cronjobs": (GET, f"{BATCH}/cronjobs", None),
    "list jobs": (GET, f"{BATCH}/jobs", None),
    "read a pod's log": (GET, f"{CORE}/pods/POD/log", None),
    "read secret": (GET, f"{CORE}/secrets/dummy", None),
    "list deployments": (GET, DEPLOYMENTS, None),
    "list deployments with fieldSelector metadata.name=godel": (
        GET,
        f"{DEPLOYMENTS}?fieldSelector=metadata.name%3Dgodel",
        None,
    ),
    "create job with an ownerReference to the cronjob (controller: true)": (
        POST,
        f"{BATCH}/jobs",
        lab.recording("http/job-create-from-cronjob.json")["request"]["body"],
    ),
    "may I?": (
        POST,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        {"spec": {"resourceAttributes": {"namespace": lab.NAMESPACE, "verb": "get", "resource": "pods"}}},
    ),
}
COMMANDS = {
    "kubectl exec POD": "exec POD -- echo hi",
    "kubectl exec deployment/NAME": "exec deployment/postgres -- echo hi",
    "kubectl scale": "scale deployment/godel --replicas=3",
    "kubectl annotate (reads, then patches)": "annotate --overwrite deployment/godel a=TIME",
    "kubectl rollout status": "rollout status deployment/godel --timeout=1s",
    "kubectl wait --for=condition=complete": "wait --for=condition=complete job/over --timeout=1s",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Standin]:
    folder = workspace() / "rbac"
    folder.mkdir()
    with Standin(folder / "k", images=lab.images(folder)) as standin:
        lab.build(standin)
        container = {"name": "c", "image": "lab/waiting:1", "command": ["true"]}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        meta = {"name": "over", "namespace": lab.NAMESPACE}
        standin.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template}})
        standin.until(lambda: "Complete" in str(standin.get("job", "over", lab.NAMESPACE)))
        yield standin


def _rules(row: Any) -> list[str]:
    return [rule.replace(" + ", "+") for rule in row["role_rules"]]


def _pod(cluster: Standin) -> str:
    return cluster.ready_pod(lab.NAMESPACE, "app=postgres")


@pytest.mark.parametrize("row", PLAIN, ids=lambda row: f"{row['operation']}, {row['how']}, {row['role_rules']}")
def test_a_request_is_let_through_as_recorded(cluster: Standin, row: Any) -> None:
    cluster.grant(USER, *_rules(row), namespace=lab.NAMESPACE)
    pod = _pod(cluster)
    if "websocket" in row["how"]:
        forwards = row["operation"] == "port-forward"
        path = f"{CORE}/pods/{pod}/portforward" if forwards else exec_path(lab.NAMESPACE, pod)
        query = [("ports", "5432")] if forwards else [("command", "true"), ("stdout", "true")]
        client = Client(cluster, path, query, [V4] if forwards else [V5, V4], USER)
        _compare(str(client.seen.status), client.seen.body.decode(), row, pod)
        client.close()
    else:
        method, path, body = REQUESTS[row["operation"]]
        with urllib3.PoolManager(ca_certs=str(cluster.ca_file), retries=False) as pool:
            headers = {"Authorization": f"Bearer {cluster.token(USER, lab.NAMESPACE)}"}
            headers["Content-Type"] = "application/merge-patch+json" if method == PATCH else "application/json"
            data = None if body is None else json.dumps(body)
            url = cluster.url + path.replace("POD", pod)
            answer = pool.request(method, url, body=data, headers=headers)
        _compare(str(answer.status), answer.data.decode(), row, pod)


def _compare(status: str, answer: str, row: Any, pod: str) -> None:
    """Compare with the detail of a row: a status, perhaps followed by a text."""
    wanted, dummy, text = str(row["detail"]).partition(" ")
    assert status == wanted
    if text.startswith("allowed="):
        assert json.loads(answer)["status"] == {"allowed": False}
    elif text:
        assert text.replace(_recorded_pod(text), pod) in answer.replace("\\", "")


def _recorded_pod(text: str) -> str:
    return text.split('"')[1] if '"' in text else "nothing"


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on this machine")
@pytest.mark.parametrize("row", WITH_KUBECTL, ids=lambda row: f"{row['how']}, {row['role_rules']}")
def test_kubectl_is_let_through_as_recorded(cluster: Standin, row: Any) -> None:
    cluster.grant(USER, *_rules(row), namespace=lab.NAMESPACE)
    pod = _pod(cluster)
    unique = f"k-{time.monotonic_ns()}"
    words = {"POD": pod, "NEW": unique, "TIME": unique}
    command = COMMANDS[row["how"]]
    for word, value in words.items():
        command = command.replace(word, value)
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig(USER, lab.NAMESPACE))}
    assert KUBECTL is not None
    done = subprocess.run(
        [KUBECTL, *command.split(" ")], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode == 0) is row["allowed"], done.stdout + done.stderr
    if not row["allowed"] and "Error from server" in row["detail"]:
        told = row["detail"].partition("Error from server")[2]
        assert told.replace(_recorded_pod(told), pod) in done.stderr.replace(_recorded_pod(done.stderr), pod)
    if row["allowed"] and row["how"].startswith("kubectl exec"):
        assert done.stdout == "hi\n"
