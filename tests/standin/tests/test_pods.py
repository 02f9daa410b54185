"""Pods of the stand-in: restarted, deleted, without a program, and made by a client with volumes of their own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.standin import Image, Standin, StandinError, postgres_image, toolbox
from tests.standin.recorder import V5, Client, exec_path, execute
from tests.support.workspace import workspace

NAMESPACE = "default"
WAIT = "trap 'exit 0' TERM; while :; do sleep 0.05; done"


def pod(name: str, *containers: Any, **spec: Any) -> Any:
    whole = {"terminationGracePeriodSeconds": 2, "containers": list(containers) or [{"name": "c", "image": "wait"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {**whole, **spec},
    }


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    wait = Image(command=("bash", "-c", WAIT))
    with Standin(workspace() / "pods", images={"wait": wait}) as running:
        running.apply(pod("one"))
        running.ready_pod(selector="app=one")
        yield running


def start(standin: Standin, script: str, pod_name: str = "one", stdin: bool = False) -> Client:
    query = [("command", word) for word in ("bash", "-c", script)] + [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin else []
    client = Client(standin, exec_path(NAMESPACE, pod_name), query, [V5])
    assert client.receive()
    return client


def receive(client: Client, wanted: bytes) -> None:
    while wanted not in client.seen.channel(1):
        assert client.receive(), client.seen


def status_of(seen: Any) -> Any:
    return json.loads(seen.channel(3)) if seen.channel(3) else None


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_restarted_container_ends_its_execs_and_is_counted(standin: Standin) -> None:
    standin.apply(pod("again"))
    standin.ready_pod(selector="app=again")
    client = start(standin, "echo begun; sleep 30", "again")
    receive(client, b"begun")
    standin.restart_container("again")
    assert status_of(client.finish())["details"]["causes"][0]["message"] == "137"

    def restarted() -> bool:
        (container,) = standin.pods(selector="app=again")[0]["status"]["containerStatuses"]
        return container["restartCount"] == 1 and container["ready"]

    standin.until(restarted)
    (container,) = standin.pods(selector="app=again")[0]["status"]["containerStatuses"]
    assert container["lastState"]["terminated"]["exitCode"] == 137
    standin.delete("pod", "again", grace_s=0)
    standin.until(lambda: not standin.pods(selector="app=again"))


def test_a_pod_can_be_said_to_be_not_ready(standin: Standin) -> None:
    standin.set_ready("one", False)
    with pytest.raises(StandinError):
        standin.ready_pod(selector="app=one", timeout_s=0.1)
    standin.set_ready("one", True)
    assert standin.ready_pod(selector="app=one") == "one"


def test_nothing_of_a_deleted_pod_stays(standin: Standin) -> None:
    standin.apply(pod("brief"))
    standin.ready_pod(selector="app=brief")
    client = start(standin, "echo $$; setsid sleep 88 & sleep 88", "brief")
    receive(client, b"\n")
    pid = int(client.seen.channel(1).split()[0])
    folder = standin.path("brief", ".")
    standin.delete("pod", "brief")
    client.finish()
    standin.until(lambda: not standin.pods(selector="app=brief") and not folder.exists())
    assert not _is_there(pid)
    assert "sleep\x0088" not in _command_lines()


def _command_lines() -> list[str]:
    lines = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline") as file:
                lines.append(file.read().rstrip("\0"))
    return lines


def test_a_program_can_be_missing_from_an_image(standin: Standin) -> None:
    tools = toolbox(standin.folder / "tools", "bash", "sleep", "cat")
    standin.images["bare"] = Image(command=("bash", "-c", WAIT), path=(tools,))
    standin.apply(pod("bare", {"name": "c", "image": "bare"}))
    standin.ready_pod(selector="app=bare")
    assert execute(standin, NAMESPACE, "bare", "cat", "/dev/null").channel(3) == b'{"metadata":{},"status":"Success"}'
    assert "not found in $PATH" in execute(standin, NAMESPACE, "bare", "tar").channel(3).decode()
    standin.delete("pod", "bare", grace_s=0)


def test_a_failure_of_the_stand_in_itself_is_not_hidden() -> None:
    def fail(dummy: Any) -> None:
        raise OSError("the hook does not work")

    with Standin(workspace() / "own", images={"broken": Image(prepare=fail)}) as own:
        own.apply(pod("x", {"name": "c", "image": "broken"}))
        with pytest.raises(StandinError, match="the hook does not work"):
            own.ready_pod(timeout_s=5)
        own.errors.clear()


def test_plain_http_works_too() -> None:
    with Standin(workspace() / "plain", tls=False) as own:
        assert own.url.startswith("http://")
        with urllib3.PoolManager(retries=False) as pool:
            assert pool.request("GET", f"{own.url}/version").status == 200


# --- scratch pods


def test_port_forward_can_be_cut_in_both_directions() -> None:
    with Standin(workspace() / "pf", images={"pg": postgres_image()}) as own:
        spec = {"name": "c", "image": "pg", "volumeMounts": [{"name": "d", "mountPath": "/scratch"}]}
        own.apply(pod("scratch", spec, volumes=[{"name": "d", "emptyDir": {}}]))
        own.ready_pod(selector="app=scratch")
        for direction, count in (("in", 3), ("out", 0)):
            own.faults.cut(count, direction, path="/portforward$")
            path = "/api/v1/namespaces/default/pods/scratch/portforward"
            client = Client(own, path, [("ports", "5432")], ["v4.channel.k8s.io"])
            client.receive()
            client.receive()
            client.send(0, (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
            seen = client.finish(5)
            assert (seen.close_code, seen.ended) == (None, "eof")
        seen = execute(own, NAMESPACE, "scratch", "sh", "-c", "echo x > /scratch/file && cd /scratch && pwd")
        assert own.path("scratch", "/scratch/file").read_text() == "x\n"
        assert seen.channel(1).decode().strip() == str(own.path("scratch", "/scratch"))


# --- what the node makes of a spec

WHOLE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {file.conf: "a = 1\\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {WORD: dummy}
---
apiVersion: v1
kind: Pod
metadata: {name: whole, labels: {app: whole}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
    - {name: first, image: wait, command: [sh, -c, "echo made > /data/made"], volumeMounts: [{name: d, mountPath: /data}]}
  containers:
    - name: c
      image: wait
      envFrom: [{secretRef: {name: keys}, prefix: P_}]
      env:
        - {name: ME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: BOTH, value: "$(ME) and $(P_WORD)"}
      volumeMounts:
        - {name: d, mountPath: /data}
        - {name: settings, mountPath: /etc/settings}
        - {name: keys, mountPath: /etc/keys, readOnly: true}
      readinessProbe: {exec: {command: [test, -e, /data/made]}}
    - {name: side, image: wait, volumeMounts: [{name: d, mountPath: /shared}]}
  volumes:
    - {name: d, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
"""


def test_volumes_environment_and_init_containers_are_as_the_spec_says(standin: Standin) -> None:
    standin.apply(WHOLE)
    standin.ready_pod(selector="app=whole")
    script = 'cat /data/made /etc/settings/file.conf /etc/keys/WORD; echo " $BOTH"'
    seen = execute(standin, NAMESPACE, "whole", "sh", "-c", script, container="c")
    assert seen.channel(1) == b"made\na = 1\ndummy whole and dummy\n"
    assert execute(standin, NAMESPACE, "whole", "ls", "/shared", container="side").channel(1) == b"made\n"
    standin.delete("pod", "whole", grace_s=0)


def test_a_pod_waits_for_its_secret(standin: Standin) -> None:
    container = {"name": "c", "image": "wait", "envFrom": [{"secretRef": {"name": "later"}}]}
    standin.apply(pod("waits", container))
    standin.until(lambda: "CreateContainerConfigError" in str(standin.get("pod", "waits")))
    meta = {"name": "later", "namespace": NAMESPACE}
    standin.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"A": "b"}})
    standin.ready_pod(selector="app=waits")
    assert standin.environment("waits")["A"] == "b"
    standin.delete("pod", "waits", grace_s=0)


def test_the_time_of_a_cronjob_comes_when_a_test_says_so(standin: Standin) -> None:
    container = {"name": "c", "image": "wait", "command": ["sleep", "0.4"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    spec = {"schedule": "0 3 * * *", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1}
    spec["jobTemplate"] = {"spec": {"template": template}}  # type: ignore[assignment]
    meta = {"name": "nightly", "namespace": NAMESPACE}
    manifest = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": spec}
    standin.apply(manifest)

    def status() -> Any:
        found = standin.get("cronjob", "nightly")
        assert found is not None
        return found["status"]

    first = standin.fire("nightly")
    assert first is not None
    assert standin.fire("nightly") is None, "Forbid: the first still runs"
    standin.until(lambda: [each["name"] for each in status().get("active", [])] == [first])
    standin.until(lambda: "lastSuccessfulTime" in status() and "active" not in status())
    second = standin.fire("nightly")
    standin.until(lambda: [each["metadata"]["name"] for each in standin.objects("jobs")] == [second])
    standin.until(lambda: "active" not in status())
    standin.apply({**manifest, "spec": {**spec, "suspend": True}})
    assert standin.fire("nightly") is None
    standin.delete("cronjob", "nightly")
    standin.until(lambda: not standin.objects("jobs"))


def test_a_failing_job_is_tried_again_and_then_given_up(standin: Standin) -> None:
    container = {"name": "c", "image": "wait", "command": ["sh", "-c", "echo no >&2; exit 3"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    meta = {"name": "fails", "namespace": NAMESPACE}
    spec = {"backoffLimit": 1, "template": template}
    standin.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec})
    standin.until(lambda: "BackoffLimitExceeded" in str(standin.get("job", "fails")))
    status = standin.get("job", "fails")["status"]  # type: ignore[index]
    assert status["failed"] == 2
    pods = standin.pods(selector="job-name=fails")
    assert [standin.log(each["metadata"]["name"]) for each in pods] == ["no\n", "no\n"]
    standin.delete("job", "fails")
    standin.until(lambda: not standin.pods(selector="job-name=fails"))
