"""The nasty things that were recorded happen when they are asked for, and only then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
import websocket

from tests.standin import ExecSettings, Image, Standin, lab
from tests.standin.recorder import V5, Client, exec_path, execute
from tests.support.workspace import workspace

SUCCESS = {"metadata": {}, "status": "Success"}
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
    with Standin(workspace() / "bad", images={"wait": wait}) as running:
        running.apply(pod("one"))
        running.ready_pod(selector="app=one")
        yield running


@pytest.fixture(autouse=True)
def _no_faults_left(standin: Standin) -> Iterator[None]:
    settings = ExecSettings()
    yield
    standin.faults.clear()
    vars(standin.exec).update(vars(settings))


def run(standin: Standin, script: str, **more: Any) -> Any:
    return execute(standin, NAMESPACE, "one", "bash", "-c", script, **more)


def start(standin: Standin, script: str, stdin: bool = False, tty: bool = False) -> Client:
    query = [("command", word) for word in ("bash", "-c", script)] + [("stdout", "true"), ("stderr", "true")]
    query += [(name, "true") for name, wanted in (("stdin", stdin), ("tty", tty)) if wanted]
    client = Client(standin, exec_path(NAMESPACE, "one"), query, [V5])
    assert client.receive()
    return client


def receive(client: Client, wanted: bytes) -> None:
    while wanted not in client.seen.channel(1):
        assert client.receive(), client.seen


def status_of(seen: Any) -> Any:
    return json.loads(seen.channel(3)) if seen.channel(3) else None


def get(standin: Standin, path: str = "/api/v1/namespaces/default/pods") -> Any:
    with urllib3.PoolManager(ca_certs=str(standin.ca_file), retries=False) as pool:
        return pool.request("GET", standin.url + path, headers={"Authorization": f"Bearer {standin.token()}"})


# --- requests


@pytest.mark.parametrize("code", [403, 409, 410, 429, 500])
def test_the_next_requests_are_refused_and_then_no_more(standin: Standin, code: int) -> None:
    standin.faults.answer(code, times=2, method="get", path="/pods$", retry_after=1)
    assert get(standin, "/api/v1/namespaces/default/secrets").status == 200
    answers = [get(standin) for dummy in range(3)]
    assert [answer.status for answer in answers] == [code, code, 200]
    assert json.loads(answers[0].data)["code"] == code
    assert answers[0].headers["Retry-After"] == "1"


def test_an_answer_comes_late(standin: Standin) -> None:
    standin.faults.delay(0.3, path="/pods$")
    before = time.monotonic()
    assert get(standin).status == 200
    assert time.monotonic() - before >= 0.3


def test_an_exec_is_refused_before_the_upgrade(standin: Standin) -> None:
    standin.faults.answer(500, path="/exec$")
    assert run(standin, "echo hi").status == 500
    assert run(standin, "echo hi").channel(1) == b"hi\n"


def test_requests_are_written_down_without_the_token(standin: Standin) -> None:
    with standin.watching() as requests:
        run(standin, "echo hi")
    (seen,) = requests
    assert (seen.method, seen.path, seen.argv, seen.status) == (
        "GET",
        "/api/v1/namespaces/default/pods/one/exec",
        ["bash", "-c", "echo hi"],
        101,
    )
    assert seen.user == "admin"
    assert "authorization" not in {name.lower() for name in seen.headers}
    assert standin.token() not in repr(seen)


# --- the server goes


def test_an_api_server_that_is_away_refuses_and_comes_back(standin: Standin) -> None:
    client = start(standin, "echo begun; sleep 30")
    receive(client, b"begun")
    standin.leave(0.5)
    seen = client.finish()
    assert (seen.ended, seen.close_code, status_of(seen)) == ("eof", None, None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(standin.url.rpartition(":")[2])), 5)
    time.sleep(0.6)
    assert standin.until(lambda: get(standin).status == 200)


def test_a_kubelet_restart_is_a_false_success(standin: Standin) -> None:
    clients = [start(standin, f"echo begun; sleep 0.7; echo {number} > late") for number in range(2)]
    for client in clients:
        receive(client, b"begun")
    standin.restart_kubelet()
    for client in clients:
        seen = client.finish(5)
        assert (status_of(seen), seen.close_code) == (SUCCESS, 1000)
    file = standin.path("one", "late")
    assert not file.exists()
    standin.until(file.exists)
    file.unlink()


# --- streams


def test_a_false_success_in_the_middle(standin: Standin) -> None:
    standin.faults.false_success(100_000, argv="head")
    seen = run(standin, "head -c 1000000 /dev/zero")
    assert (len(seen.channel(1)), status_of(seen), seen.close_code) == (100_000, SUCCESS, 1000)
    seen = run(standin, "head -c 1000000 /dev/zero")
    assert (len(seen.channel(1)), status_of(seen)) == (1_000_000, SUCCESS)


def test_a_connection_is_cut_on_its_way_to_the_client(standin: Standin) -> None:
    standin.faults.cut(123_457)
    seen = run(standin, "head -c 1000000 /dev/zero; sleep 1")
    assert (seen.ended, seen.close_code, status_of(seen)) == ("eof", None, None)
    assert 123_457 - 32_768 <= len(seen.channel(1)) <= 123_457


def test_a_connection_is_cut_on_its_way_from_the_client(standin: Standin) -> None:
    standin.faults.cut(100_001, "in")
    client = start(standin, "cat > cut; echo done > finished", stdin=True)
    with contextlib.suppress(OSError, websocket.WebSocketException):
        for dummy in range(100):
            client.send(0, bytes(10_000))
    seen = client.finish()
    assert (seen.ended, status_of(seen)) == ("eof", None)
    standin.until(lambda: standin.path("one", "finished").exists())
    assert standin.path("one", "cut").stat().st_size == 100_001, "half a file that looks complete"


def test_an_upload_is_cut_short_with_exit_code_0(standin: Standin) -> None:
    standin.faults.cut_stdin(64 * 1024)
    seen = run(standin, "cat > short; exit $?", stdin=bytes(1_000_000))
    assert status_of(seen) == SUCCESS
    assert standin.path("one", "short").stat().st_size == 64 * 1024
    run(standin, "cat > short; exit $?", stdin=bytes(1_000_000))
    assert standin.path("one", "short").stat().st_size == 1_000_000


def test_uploads_are_whole_when_the_runtime_s_fault_is_off(standin: Standin) -> None:
    standin.exec.stdin_ends_with_output = False
    execute(standin, NAMESPACE, "one", "dd", "of=whole", "bs=64k", stdin=bytes(1_000_000))
    assert standin.path("one", "whole").stat().st_size == 1_000_000


def test_frames_can_be_slow(standin: Standin) -> None:
    standin.faults.slow(bytes_per_s=1_000_000)
    before = time.monotonic()
    assert len(run(standin, "head -c 300000 /dev/zero").channel(1)) == 300_000
    assert time.monotonic() - before >= 0.3


def test_a_slow_reader_loses_the_tail_and_is_told_success(standin: Standin) -> None:
    standin.exec.drain_s = 0.3
    standin.exec.backlog_bytes = 64 * 1024 * 1024
    size = 32 * 1024 * 1024
    script = f"head -c {size} /dev/zero; echo over > ended"
    standin.path("one", "ended").unlink(missing_ok=True)
    client = start(standin, script)
    standin.until(lambda: standin.path("one", "ended").exists())
    time.sleep(0.6)
    seen = client.finish()
    assert (status_of(seen), seen.close_code) == (SUCCESS, 1000)
    assert 0 < len(seen.channel(1)) < size
    assert len(run(standin, script).channel(1)) == size, "a quick reader gets all"


def test_a_process_that_waits_for_its_reader_loses_nothing(standin: Standin) -> None:
    standin.exec.drain_s = 0.2
    standin.exec.backlog_bytes = 64 * 1024 * 1024
    size = 32 * 1024 * 1024
    client = start(standin, f"head -c {size} /dev/zero; read -r x; exit 3", stdin=True)
    time.sleep(0.5)
    while len(client.seen.channel(1)) < size:
        for dummy in range(100):
            if len(client.seen.frames) and sum(len(data) for dummy, data in client.seen.frames) >= size:
                break
            assert client.receive()
    client.send(0, b"all here\n")
    seen = client.finish()
    assert len(seen.channel(1)) == size
    assert status_of(seen)["details"]["causes"][0]["message"] == "3"


def test_a_stalled_reader_stops_the_process_and_not_the_memory(standin: Standin) -> None:
    client = start(standin, "head -c 300000000 /dev/zero; echo over > endless")
    time.sleep(0.5)
    before = _memory_mib()
    time.sleep(0.5)
    assert _memory_mib() - before < 20
    assert not standin.path("one", "endless").exists(), "it waits in its pipe"
    client.close()


def _memory_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def test_a_child_that_keeps_the_output_keeps_the_exec_open(standin: Standin) -> None:
    standin.exec.drain_s = 0.1
    before = time.monotonic()
    seen = run(standin, "(sleep 0.6; echo late) & exit 4")
    assert time.monotonic() - before >= 0.6
    assert seen.channel(1) == b"late\n"
    assert status_of(seen)["details"]["causes"][0]["message"] == "4"


# --- the client goes, the process stays

ROWS = lab.recording("exec-client-drop.json")["rows"]
DROPPED = [row for row in ROWS if "after" in row]
SCRIPTS = {
    "quiet": "sleep 77",
    "writes a line": "while :; do echo tick; sleep 0.05; done",
    "writes without pause": "cat /dev/zero",
    "pipeline": "sleep 77 | cat > piped",
    "setsid nohup child": "setsid nohup sleep 77 </dev/null >/dev/null 2>&1 & sleep 77",
}
WAYS = {"tcp-fin": "fin", "tcp-reset": "reset", "websocket-close-1000": "close"}
LIVING = [row for row in DROPPED if row["after"][-1]["still_running"]]
ENDING = [row for row in DROPPED if row not in LIVING]


@pytest.mark.parametrize("row", LIVING, ids=lambda row: f"{row['process']}, {row['client_ended_by']}")
def test_a_process_outlives_its_client_as_recorded(standin: Standin, row: Any) -> None:
    script = next(script for words, script in SCRIPTS.items() if row["process"].startswith(words))
    client = start(standin, f"echo $$; {script}; true", tty="tty" in row["process"])
    receive(client, b"\n")
    pid = int(client.seen.channel(1).split()[0])
    _leave(client, WAYS[row["client_ended_by"]])
    time.sleep(0.2)
    os.kill(pid, 0)
    os.killpg(pid, signal.SIGKILL)
    standin.until(lambda: not _is_there(pid))


@pytest.mark.parametrize("how", ["setsid nohup ", ""], ids=["setsid nohup", "plain"])
def test_a_detached_child_outlives_its_exec_and_goes_to_process_1(standin: Standin, how: str) -> None:
    recorded = [row["child_2_s_later"][0].split() for row in ROWS if "child_2_s_later" in row]
    assert {parent for dummy, parent, *dummy in recorded} == {"1"}
    before = time.monotonic()
    seen = run(standin, f"{how}sleep 66 </dev/null >/dev/null 2>&1 & echo $!")
    assert time.monotonic() - before < 30  # and not the 66
    pid = int(seen.channel(1))
    process_one = int(run(standin, "ps -o ppid= $PPID").channel(1))
    with open(f"/proc/{pid}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == process_one
    os.kill(pid, signal.SIGKILL)


def _leave(client: Client, way: str) -> None:
    assert client.socket is not None
    if way == "close":
        client.socket.close()
        return
    if way == "reset":
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        client.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.close()


def _is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("row", ENDING, ids=lambda row: f"{row['process']}, {row['client_ended_by']}")
def test_a_reader_of_stdin_sees_a_plain_end_when_the_client_goes(standin: Standin, row: Any) -> None:
    way = WAYS[row["client_ended_by"]]
    file, code = standin.path("one", f"half-{way}"), standin.path("one", f"code-{way}")
    client = start(standin, f"cat > {file.name}; echo $? > {code.name}", stdin=True)
    client.send(0, b"half of an upload\n")
    standin.until(lambda: file.exists() and file.stat().st_size > 0)
    _leave(client, way)
    standin.until(lambda: code.exists() and code.read_text() == "0\n")
    assert f"{file.read_text()}rc={code.read_text()}" == row["file_afterwards"]
