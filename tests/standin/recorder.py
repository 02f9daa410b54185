"""A websocket client that writes down every frame, as the recordings have them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import websocket

from tests.standin.server import ADMIN, Standin

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
CLOSE_STDIN = b"\xff\x00"
Query = Iterable[tuple[str, str]]


@dataclass
class Conversation:
    """What the server has sent, or the error that it answered instead."""

    status: int = 101
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    protocol: str | None = None
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    close_code: int | None = None
    ended: str = ""

    def channel(self, number: int) -> bytes:
        """Return all that came on one channel."""
        return b"".join(data for channel, data in self.frames if channel == number)


class Client:
    """One websocket to the stand-in."""

    def __init__(
        self,
        standin: Standin,
        path: str,
        query: Query,
        protocols: list[str] | None = None,
        user: str = ADMIN,
        timeout_s: float = 20.0,
    ) -> None:
        self.seen = Conversation()
        url = f"{standin.url.replace('http', 'ws', 1)}{quote(path)}?{urlencode(list(query))}"
        headers = [f"Authorization: Bearer {standin.token(user, 'godel')}"]
        options: dict[str, Any] = {"sslopt": {"ca_certs": str(standin.ca_file), "cert_reqs": ssl.CERT_REQUIRED}}
        self.socket: websocket.WebSocket | None = None
        try:
            self.socket = websocket.create_connection(
                url, timeout=timeout_s, header=headers, subprotocols=protocols, **options
            )
        except websocket.WebSocketBadStatusException as error:
            self.seen.status = error.status_code
            self.seen.headers = dict(error.resp_headers or {})
            self.seen.body = error.resp_body or b""
            return
        self.seen.headers = dict(self.socket.headers)
        self.seen.protocol = self.socket.subprotocol

    def send(self, channel: int, data: bytes, *, text: bool = False) -> None:
        """Send one frame."""
        assert self.socket is not None
        kind = websocket.ABNF.OPCODE_TEXT if text else websocket.ABNF.OPCODE_BINARY
        self.socket.send(bytes((channel,)) + data, kind)

    def end_stdin(self) -> None:
        """Say that no more input comes."""
        self.send(255, b"\0")

    def receive(self, until_s: float | None = None) -> bool:
        """Take in one frame; False when the connection has ended, or nothing came in this time."""
        assert self.socket is not None
        if until_s is not None:
            self.socket.settimeout(max(0.001, until_s - time.monotonic()))
        try:
            code, data = self.socket.recv_data(control_frame=True)
        except websocket.WebSocketTimeoutException:
            self.seen.ended = "timeout"
            return False
        except (websocket.WebSocketConnectionClosedException, OSError):
            self.seen.ended = "eof"
            return False
        if code == websocket.ABNF.OPCODE_CLOSE:
            self.seen.close_code = int.from_bytes(data[:2], "big")
            self.seen.ended = "eof"
            return False
        if code == websocket.ABNF.OPCODE_BINARY:
            self.seen.frames.append((data[0], bytes(data[1:])))
        return True

    def finish(self, timeout_s: float | None = None) -> Conversation:
        """Take in frames until the end, or until the time is up."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self.receive(until_s):
            pass
        self.close()
        return self.seen

    def close(self) -> None:
        """Close the TCP connection without a word."""
        if self.socket is not None:
            self.socket.shutdown()


def execute(
    standin: Standin,
    namespace: str,
    pod: str,
    *argv: str,
    stdin: bytes | None = None,
    protocols: tuple[str, ...] = (V5, V4),
    user: str = ADMIN,
    container: str = "",
) -> Conversation:
    """Run a command and return what the server has sent."""
    query = [("command", word) for word in argv] + [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin is not None else []
    query += [("container", container)] if container else []
    client = Client(standin, exec_path(namespace, pod), query, list(protocols), user)
    if stdin is not None and client.socket is not None:
        for start in range(0, len(stdin), 65_536):
            client.send(0, stdin[start : start + 65_536])
        client.end_stdin()
    return client.finish() if client.socket else client.seen


def exec_path(namespace: str, pod: str) -> str:
    """Return the path of exec."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
