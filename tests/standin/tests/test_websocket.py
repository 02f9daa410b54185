"""Exec and port-forward, frame by frame as they were recorded."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket

from tests.standin import Standin, lab
from tests.standin.recorder import CLOSE_STDIN, V5, Client, Conversation, exec_path, execute
from tests.support.workspace import workspace

# The frames of these come in another way each time, or are summed up; each has a test of its own below.
BY_THEMSELVES = {
    "exec-tty-resize-v5.jsonl",
    "exec-upload-cut-short-v5.jsonl",
    "exec-upload-whole-v5.jsonl",
    "exec-two-containers-second-named-v5.jsonl",
}
ALONE = sorted(set(lab.names("websocket", "*.jsonl")) - BY_THEMSELVES)
# What happens beside the connection, as each recording tells.
MEANWHILE = {"exec-pod-deleted-meanwhile-v5.jsonl": "running", "exec-container-ends-meanwhile-v5.jsonl": "crash"}
SHORTENED = {"sleep 35": "sleep 0.5"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Standin]:
    folder = workspace() / "ws"
    folder.mkdir()
    with Standin(folder / "k", images=lab.images(folder)) as standin:
        lab.build(standin)
        yield standin


def _recorded(name: str) -> tuple[Any, list[Any]]:
    """Return the handshake and the frames of a recording."""
    whole = lab.lines(f"websocket/{name}")
    handshake = next(line["handshake"] for line in whole if "handshake" in line)
    return handshake, [line for line in whole if "dir" in line or "event" in line]


def _client(standin: Standin, handshake: Any, user: str = "admin") -> Client:
    request = handshake["request"]
    query = [(name, _shortened(value)) for name, value in request["query"]]
    offered = request["headers"].get("Sec-WebSocket-Protocol")
    path = lab.here(standin, request["path"])
    return Client(standin, path, query, offered.split(",") if offered else None, user)


def _shortened(text: str) -> str:
    for long, short in SHORTENED.items():
        text = text.replace(long, short)
    return text


def _replay(standin: Standin, name: str) -> tuple[Conversation, Any, list[Any]]:
    """Do what the recorded client did, and return what came back."""
    handshake, frames = _recorded(name)
    user = "admin"
    if "role-has-only-create" in name:
        standin.grant("runner", "create pods/exec", "create pods/portforward", namespace=lab.NAMESPACE)
        user = "runner"
    client = _client(standin, handshake, user)
    if client.socket is None:
        return client.seen, handshake, frames
    if name in MEANWHILE:
        _meanwhile(standin, name)
    for frame in frames:
        if frame["dir" if "dir" in frame else "event"] != "client":
            continue
        if frame["opcode"] == "close":
            if not _server_closes_first(frames):
                time.sleep(0.2)
                client.socket.send_close()
            continue
        payload = base64.b64decode(frame["payload_b64"])
        if (frame["channel"], payload) == (255, b"\0"):
            time.sleep(0.05)
        client.send(frame["channel"], payload, text=frame["opcode"] == "text")
    gave_up = any("gave up" in frame.get("event", "") for frame in frames)
    return client.finish(0.6 if gave_up else None), handshake, frames


def _server_closes_first(frames: list[Any]) -> bool:
    closes = [frame["dir"] for frame in frames if frame.get("opcode") == "close"]
    return closes[0] == "server"


def _meanwhile(standin: Standin, name: str) -> None:
    pod = MEANWHILE[name]

    def act() -> None:
        if pod == "crash":
            standin.restart_container(pod, lab.PROBE, number=15)
        else:
            standin.delete("pod", pod, lab.PROBE, grace_s=2)

    threading.Timer(0.3, act).start()


def _of_server(frames: list[Any], channel: int) -> bytes:
    chosen = [frame for frame in frames if frame.get("dir") == "server" and frame.get("channel") == channel]
    return b"".join(base64.b64decode(frame["payload_b64"]) for frame in chosen)


def _plain(data: bytes) -> Any:
    """Return a payload without what differs each time."""
    text = data.decode("latin-1")
    port, is_health, answer = text.partition("HTTP/1.1 200 OK")
    if is_health:
        return port, json.loads(answer.rpartition("\r\n\r\n")[2]).keys()
    return lab.alike(text)


@pytest.mark.parametrize("name", ALONE)
def test_connection_goes_as_recorded(cluster: Standin, name: str) -> None:
    seen, handshake, frames = _replay(cluster, name)
    response = handshake["response"]
    assert seen.status == response["status"]
    if response["status"] != 101:
        _assert_refused(seen, response)
        return
    assert (seen.protocol or "") == response["headers"].get("Sec-WebSocket-Protocol", "")
    channels = {frame["channel"] for frame in frames if frame.get("dir") == "server" and "channel" in frame}
    assert {channel for channel, dummy in seen.frames} == channels
    for channel in channels:
        assert _plain(_shorter(seen.channel(channel))) == _plain(_shorter(_of_server(frames, channel)))
    first = next(frame for frame in frames if frame.get("dir") == "server")
    assert (seen.frames[0][0], len(seen.frames[0][1])) == (first["channel"], first["length"])
    if 3 in channels and "port" not in name:
        assert seen.frames[-1][0] == 3, "the status comes last"
    gave_up = any("gave up" in frame.get("event", "") for frame in frames)
    assert (seen.close_code, seen.ended) == ((None, "timeout") if gave_up else (1000, "eof"))


def _shorter(data: bytes) -> bytes:
    return _shortened(data.decode("latin-1")).encode("latin-1")


def _assert_refused(seen: Conversation, response: Any) -> None:
    body: Any = seen.body.decode()
    if body.startswith("{"):
        body = json.loads(body)
    assert lab.alike(body) == lab.alike(response["body"])
    if "Content-Type" in response["headers"]:
        assert seen.headers["content-type"] == response["headers"]["Content-Type"]
    if "Content-Length" in response["headers"] and "postgres" not in str(response["body"]):
        assert seen.headers["content-length"] == response["headers"]["Content-Length"]


def _postgres(cluster: Standin) -> str:
    return cluster.ready_pod(lab.NAMESPACE, "app=postgres")


def test_a_terminal_has_the_size_that_the_client_says(cluster: Standin) -> None:
    handshake, frames = _recorded("exec-tty-resize-v5.jsonl")
    client = _client(cluster, handshake)
    sent = [frame for frame in frames if frame.get("dir") == "client" and "channel" in frame]
    for frame in sent:
        client.send(frame["channel"], base64.b64decode(frame["payload_b64"]))
        time.sleep(0.1)
    seen = client.finish()
    assert seen.frames[0] == (1, b"")
    assert b"40 100\r\n" in seen.channel(1)
    assert seen.channel(2) == b""
    assert json.loads(seen.channel(3)) == json.loads(_of_server(frames, 3))
    assert seen.close_code == 1000


def test_the_named_container_of_two_is_used(cluster: Standin) -> None:
    handshake, dummy = _recorded("exec-two-containers-second-named-v5.jsonl")
    assert ["container", "second"] in handshake["request"]["query"]
    for name in ("first", "second"):
        seen = execute(cluster, lab.PROBE, "two", "sh", "-c", 'echo "$HOME"', container=name)
        assert seen.channel(1).decode().strip().endswith(f"/{name}")
        assert json.loads(seen.channel(3))["status"] == "Success"


@pytest.mark.parametrize("name", ["exec-upload-cut-short-v5.jsonl", "exec-upload-whole-v5.jsonl"])
def test_an_upload_ends_with_success_whole_or_not(cluster: Standin, name: str) -> None:
    handshake, frames = _recorded(name)
    client = _client(cluster, handshake)
    upload = next(frame for frame in frames if "length_each" in frame)
    for dummy in range(upload["frames"]):
        client.send(0, bytes(upload["length_each"]))
    client.send(CLOSE_STDIN[0], CLOSE_STDIN[1:])
    seen = client.finish()
    assert json.loads(seen.channel(3)) == json.loads(_of_server(frames, 3))
    size = cluster.path(_postgres(cluster), "/tmp/up.bin", lab.NAMESPACE).stat().st_size
    recorded = lab.lines(f"websocket/{name}")[-1]
    if recorded["bytes_in_the_file"] == recorded["bytes_sent"]:
        assert size == recorded["bytes_sent"]
    else:
        assert size < 1_000_000


@pytest.mark.parametrize("row", lab.recording("exec-upload-cut-short.json")["rows"], ids=lambda row: row["command"])
def test_uploads_are_cut_for_the_recorded_commands(cluster: Standin, row: Any) -> None:
    words = row["command"].partition(" (")[0].replace("FILE", "/tmp/cut.bin")
    argv = [words.split(" ", 2)[0], "-c", words.split(" ", 2)[2].strip("'")] if " -c " in words else words.split()
    size = 4 * 1024 * 1024
    seen = execute(cluster, lab.NAMESPACE, _postgres(cluster), *argv, stdin=bytes(size))
    assert json.loads(seen.channel(3)) == {"metadata": {}, "status": "Success"}
    arrived = cluster.path(_postgres(cluster), "/tmp/cut.bin", lab.NAMESPACE).stat().st_size
    if row["result"] == "whole":
        assert arrived == size
    else:
        assert arrived < 1_000_000


@pytest.mark.parametrize("name", lab.names("websocket", "exec-frame-sizes-*.json"))
def test_frames_have_the_recorded_sizes(cluster: Standin, name: str) -> None:
    recorded = lab.recording(f"websocket/{name}")
    command = recorded["recording"].partition("output of: ")[2]
    query = [("command", "sh"), ("command", "-c"), ("command", command), ("stdout", "true"), ("stderr", "true")]
    client = Client(cluster, exec_path(lab.NAMESPACE, _postgres(cluster)), query, [V5])
    seen = client.finish()
    sizes = [len(data) for channel, data in seen.frames if channel == 1]
    assert sum(sizes) == recorded["bytes_on_stdout"]
    assert sizes[0] == 0
    assert all(1 <= size <= recorded["largest"] for size in sizes[1:])
    assert (seen.frames[-1][0], len(seen.frames[-1][1])) == (3, 34)
    if "slow" in name:
        assert [[channel, len(data)] for channel, data in seen.frames] == recorded["first_frames"]


def test_a_frame_of_4_mib_is_taken_and_one_of_33_mib_ends_the_connection(cluster: Standin) -> None:
    pod, count = _postgres(cluster), 4 * 1024 * 1024
    query = [("command", "wc"), ("command", "-c"), ("stdin", "true"), ("stdout", "true")]
    client = Client(cluster, exec_path(lab.NAMESPACE, pod), query, [V5])
    client.send(0, bytes(count))
    client.end_stdin()
    assert client.finish().channel(1).split() == [str(count).encode()]
    client = Client(cluster, exec_path(lab.NAMESPACE, pod), query, [V5])
    with contextlib.suppress(OSError, websocket.WebSocketConnectionClosedException):
        client.send(0, bytes(33 * 1024 * 1024))
    seen = client.finish()
    assert seen.ended == "eof"
    assert seen.channel(3) == b""
