"""The python client behaves against the stand-in as recorded, and the modules of kubernetes.core work."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as k8s
from kubernetes import config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.stream import portforward, stream
from urllib3.exceptions import MaxRetryError
from websocket import WebSocketConnectionClosedException

from tests.standin import Standin, lab
from tests.support.workspace import workspace

# The client leaves sockets open; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROWS = {row["case"]: row for row in lab.recording("python-client-behaviour.json")["rows"]}
EXIT_7 = ["sh", "-c", "echo out; echo err >&2; exit 7"]


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    folder = workspace() / "py"
    folder.mkdir()
    with Standin(folder / "k", images=lab.images(folder)) as running:
        lab.build(running)
        yield running


@pytest.fixture
def core(standin: Standin) -> Iterator[k8s.CoreV1Api]:
    with config.new_client_from_config(str(standin.kubeconfig(namespace=lab.NAMESPACE))) as connection:
        yield k8s.CoreV1Api(connection)


@pytest.fixture(autouse=True)
def _collect_what_the_client_forgets() -> Iterator[None]:
    """Let the warnings about it come here, where they are filtered."""
    yield
    gc.collect()


@pytest.fixture
def pod(standin: Standin) -> str:
    return standin.ready_pod(lab.NAMESPACE, "app=postgres")


def run(core: k8s.CoreV1Api, pod: str, command: list[str], namespace: str = lab.NAMESPACE, **options: Any) -> Any:
    wanted = {"stdout": True, "stderr": True, "stdin": False, "tty": False, **options}
    return stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command, **wanted)


def until_closed(client: Any, timeout_s: float = 10) -> Any:
    client.run_forever(timeout=timeout_s)
    client.close()
    return client


def test_the_default_call_returns_text_and_no_exit_code(core: k8s.CoreV1Api, pod: str) -> None:
    assert sorted(run(core, pod, EXIT_7).split()) == ["err", "out"]
    assert repr(run(core, pod, ["no-such-program"])) == ROWS["default call, program missing in the container"]["result"]


@pytest.mark.parametrize(
    ("case", "command", "options"),
    [
        ("_preload_content=False, exit code 0", ["sh", "-c", "echo out; echo err >&2"], {}),
        ("_preload_content=False, exit code 7", EXIT_7, {}),
        ("_preload_content=False, binary=True, exit code 7", ["sh", "-c", "echo out; exit 7"], {"binary": True}),
    ],
)
def test_streams_and_return_codes_are_as_recorded(
    core: k8s.CoreV1Api, pod: str, case: str, command: list[str], options: Any
) -> None:
    client = until_closed(run(core, pod, command, _preload_content=False, **options))
    expected = ROWS[case]["result"]
    assert repr(client.read_stdout()) == expected["stdout"]
    assert repr(client.read_stderr()) == expected["stderr"]
    assert client.returncode == expected["returncode"]
    assert client.subprotocol == expected["subprotocol"]


@pytest.mark.parametrize(
    ("case", "pod_name", "namespace"),
    [
        ("returncode, program missing in the container", "", lab.NAMESPACE),
        ("returncode, pod has ended", "done", lab.PROBE),
    ],
)
def test_a_failure_without_an_exit_code_has_no_return_code(
    core: k8s.CoreV1Api, pod: str, case: str, pod_name: str, namespace: str
) -> None:
    client = until_closed(run(core, pod_name or pod, ["no-such-program"], namespace, _preload_content=False))
    with pytest.raises(ValueError, match="invalid literal") as caught:
        dummy = client.returncode
    start = ROWS[case]["text"].partition('"')[0]
    assert str(caught.value).startswith(start)


def test_a_running_command_has_no_return_code_and_a_lost_one_raises(
    standin: Standin, core: k8s.CoreV1Api, pod: str
) -> None:
    client = run(core, pod, ["sleep", "5"], _preload_content=False)
    assert client.returncode is ROWS["returncode while the command still runs"]["result"]
    standin.drop_connections()
    with contextlib.suppress(WebSocketConnectionClosedException):
        client.run_forever(timeout=2)
    client.close()
    with pytest.raises(TypeError, match="not subscriptable"):
        dummy = client.returncode


def test_text_mode_corrupts_bytes(core: k8s.CoreV1Api, pod: str) -> None:
    command = ["bash", "-c", r"for ((i = 0; i < 256; i++)); do printf '\xff'; done; printf '\xe2\x82\xac'"]
    text = run(core, pod, command)
    recorded = ROWS["text mode (the default) on 256 bytes of 0xff and one UTF-8 letter"]["result"]
    assert (len(text), text.count("\ufffd")) == (recorded["length"], recorded["wrong"])


def test_stdin_can_be_ended(core: k8s.CoreV1Api, pod: str) -> None:
    client = run(core, pod, ["cat"], stdin=True, _preload_content=False, binary=True)
    client.write_stdin(b"abc\n")
    client.close_channel(0)
    until_closed(client)
    recorded = ROWS["write_stdin(bytes), close_channel(0)"]["result"]
    assert (repr(client.read_stdout()), client.returncode) == (recorded["stdout"], recorded["returncode"])


@pytest.mark.parametrize(
    ("case", "act"),
    [
        ("wrong container name", lambda core, pod: run(core, pod, ["true"], container="nope")),
        ("pod missing", lambda core, pod: run(core, "nope", ["true"])),
        (
            "portforward, pod missing",
            lambda core, pod: portforward(
                core.connect_get_namespaced_pod_portforward, "nope", lab.NAMESPACE, ports="1"
            ),
        ),
    ],
)
def test_errors_before_the_upgrade_have_status_0(
    core: k8s.CoreV1Api, pod: str, case: str, act: Callable[[Any, str], Any]
) -> None:
    with pytest.raises(ApiException) as caught:
        act(core, pod)
    assert str(caught.value.status) == ROWS[case]["status"]
    *dummy, recorded = ROWS[case]["reason"].partition(" -+-+- {")
    assert caught.value.reason.startswith(ROWS[case]["reason"].partition(" -+-+- ")[0])
    told = json.loads(recorded.rpartition(" -+-+- ")[2])
    ours = json.loads(caught.value.reason.rpartition(" -+-+- ")[2])
    assert {**ours, "message": 0} == {**told, "message": 0}
    assert set(ours["message"].split()) - {pod} <= set(told["message"].split())


def test_port_forward_carries_http_and_tells_a_closed_port(standin: Standin, core: k8s.CoreV1Api) -> None:
    godel = standin.ready_pod(lab.NAMESPACE, "app=godel")

    def forwarded(port: int) -> Any:
        return portforward(core.connect_get_namespaced_pod_portforward, godel, lab.NAMESPACE, ports=str(port))

    forward = forwarded(lab.HEALTH_PORT)
    connection = forward.socket(lab.HEALTH_PORT)
    connection.setblocking(True)
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while more := connection.recv(4096):
        answer += more
    assert answer.startswith(b"HTTP/1.1 200 OK")
    connection.close()
    assert forward.error(lab.HEALTH_PORT) is None
    forward.close()
    forward = forwarded(9999)
    connection = forward.socket(9999)
    connection.setblocking(True)
    assert _ends(connection)
    assert "connection refused" in forward.error(9999)


def _ends(connection: Any) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_http_errors_are_the_recorded_exceptions(standin: Standin, core: k8s.CoreV1Api) -> None:
    apps = k8s.AppsV1Api(core.api_client)
    for case, act in (
        ("read_namespaced_deployment, missing", lambda: apps.read_namespaced_deployment("nope", lab.NAMESPACE)),
        ("bad token", lambda: _with_bad_token(standin).read_namespaced_deployment("godel", lab.NAMESPACE)),
    ):
        with pytest.raises(ApiException) as caught:
            act()
        assert f"{type(caught.value).__module__}.{type(caught.value).__name__}" == ROWS[case]["exception"]
        assert str(caught.value.status) == ROWS[case]["status"]
        assert caught.value.body.strip() == ROWS[case]["body"].strip()


def _with_bad_token(standin: Standin) -> k8s.AppsV1Api:
    settings = k8s.Configuration(host=standin.url, api_key={"authorization": "Bearer nonsense"})
    settings.ssl_ca_cert = str(standin.ca_file)
    return k8s.AppsV1Api(k8s.ApiClient(settings))


def test_requests_are_sent_as_recorded(standin: Standin, core: k8s.CoreV1Api) -> None:
    apps = k8s.AppsV1Api(core.api_client)
    scaled = {"spec": {"replicas": 3}}
    cases: dict[str, Callable[[], Any]] = {
        "AppsV1Api.read_namespaced_deployment": lambda: apps.read_namespaced_deployment("godel", lab.NAMESPACE),
        "AppsV1Api.patch_namespaced_deployment_scale(body={'spec': {'replicas': 3}})": lambda: (
            apps.patch_namespaced_deployment_scale("godel", lab.NAMESPACE, scaled)
        ),
        "AppsV1Api.patch_namespaced_deployment(body=list)": lambda: apps.patch_namespaced_deployment(
            "godel", lab.NAMESPACE, [{"op": "test", "path": "/spec/replicas", "value": 3}]
        ),
        "CoreV1Api.list_namespaced_pod(label_selector='app=postgres')": lambda: core.list_namespaced_pod(
            lab.NAMESPACE, label_selector="app=postgres"
        ),
        "DynamicClient, Deployment get (cold cache)": lambda: (
            DynamicClient(core.api_client, cache_file=str(standin.folder / f"cache-{time.monotonic_ns()}"))
            .resources.get(api_version="apps/v1", kind="Deployment")
            .get(name="godel", namespace=lab.NAMESPACE)
        ),
    }
    for case, act in cases.items():
        with standin.watching() as requests:
            act()
        recorded = ROWS[f"what is sent: {case}"]["requests"]
        assert [each.path for each in requests] == [each["path"].partition("?")[0] for each in recorded]
        for ours, theirs in zip(requests, recorded, strict=True):
            assert ours.method == theirs["method"]
            assert ours.headers.get("Content-Type") == theirs["content_type"]
            assert (ours.body.decode() or None) == theirs["body"]
            assert ours.status == 200


def test_a_token_in_a_file_can_be_renewed(standin: Standin, tmp_path: Path) -> None:
    file = tmp_path / "token"
    standin.grant("renewed", "list pods", namespace=lab.NAMESPACE)
    path = standin.kubeconfig("renewed", lab.NAMESPACE, token_file=file)

    def pods() -> int:
        with config.new_client_from_config(str(path)) as connection:
            return len(k8s.CoreV1Api(connection).list_namespaced_pod(lab.NAMESPACE).items)

    assert pods() > 0
    standin.expire_token("renewed", lab.NAMESPACE)
    with pytest.raises(ApiException, match="401"):
        pods()
    file.write_text(standin.token("renewed", lab.NAMESPACE))
    assert pods() > 0


def test_a_server_that_is_away_is_no_answer_at_all(standin: Standin, pod: str) -> None:
    standin.leave(60)
    try:
        with config.new_client_from_config(str(standin.kubeconfig(namespace=lab.NAMESPACE))) as connection:
            connection.configuration.retries = False
            api = k8s.CoreV1Api(connection)
            with pytest.raises(MaxRetryError):
                api.read_namespaced_pod(pod, lab.NAMESPACE)
            with pytest.raises(ApiException) as caught:
                run(api, pod, ["true"])
            assert caught.value.status == 0
            assert ROWS["API server not reachable, exec"]["reason"].strip() == str(caught.value.reason).strip()
    finally:
        standin.come_back()
    with config.new_client_from_config(str(standin.kubeconfig(namespace=lab.NAMESPACE))) as connection:
        assert k8s.CoreV1Api(connection).read_namespaced_pod(pod, lab.NAMESPACE).status.phase == "Running"


PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/kubernetes.core.k8s: {kubeconfig: "%(kubeconfig)s", namespace: godel}
  tasks:
    - kubernetes.core.k8s_info: {api_version: apps/v1, kind: Deployment, name: godel}
      register: before
    - kubernetes.core.k8s_scale:
        {api_version: apps/v1, kind: Deployment, name: godel, replicas: 1, wait: true, wait_sleep: 1, wait_timeout: 30}
      register: scaled
    - kubernetes.core.k8s:
        definition: {apiVersion: v1, kind: Secret, metadata: {name: made}, stringData: {word: dummy}}
      register: made
    - ansible.builtin.copy:
        dest: "%(result)s"
        mode: "0600"
        content: "{{ {'replicas': before.resources[0].spec.replicas, 'scaled': scaled.changed,
                      'after': scaled.result.status.readyReplicas, 'made': made.changed} | to_json }}"
"""


def test_the_modules_of_kubernetes_core_work(standin: Standin, tmp_path: Path) -> None:
    playbook, result = tmp_path / "play.yml", tmp_path / "result.json"
    playbook.write_text(PLAYBOOK % {"kubeconfig": standin.kubeconfig(), "result": result})
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "localhost,",
        "-c",
        "local",
        str(playbook),
    ]
    environment = {
        **os.environ,
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_HOME": str(tmp_path),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(result.read_text()) == {
        "replicas": 3,
        "scaled": True,
        "after": 1,
        "made": True,
    }
