# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One `exec` in a container, over a WebSocket of our own.

The kubernetes client's reader is quadratic, keeps all output in memory, and then loses what it was too slow for. A
plain loop over the frames does none of that.
Protocol: https://kubernetes.io/docs/reference/using-api/api-concepts/ and KEP-4006 (v5.channel.k8s.io); v4 as fallback.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from .._errors import ClusterUnreachable
from .cluster import Cluster
from .frames import BINARY, CLOSE, PING, TEXT, FrameReader

STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
_CLOSE = 255
_V5, _V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
_CHUNK = 32 * 1024
_PING_S = 15.0  # a proxy on the way may cut what is quiet, and the server itself never pings
_FAREWELL_S = 1.0
_DEAD_S = 60.0  # neither data nor an answer to a ping


class ExecStream:
    """The frames of one exec. One thread may read with `frames` while another writes with `send`."""

    def __init__(self, cluster: Cluster, pod: str, container: str, argv: Sequence[str]) -> None:
        query = [("command", word) for word in argv]
        query += [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        self._what = f"exec in pod {cluster.namespace}/{pod}"
        self._socket = cluster.open_stream(pod, "exec", query, (_V5, _V4))
        self._reader = FrameReader(self._socket.sock)
        self.can_end_stdin = self._socket.getsubprotocol() == _V5
        self.status: dict[str, Any] | None = None

    def frames(self, deadline: float | None = None) -> Iterator[tuple[int, bytes]]:
        """Channel and bytes of each frame, to the end of the connection, however it ends, or to the deadline.

        Args:
            deadline: a time of `time.monotonic`.
        """
        import websocket

        heard = time.monotonic()
        while deadline is None or time.monotonic() < deadline:
            left = _PING_S if deadline is None else min(_PING_S, max(0.01, deadline - time.monotonic()))
            try:
                self._socket.settimeout(left)
                opcode, data = self._reader.read()
                if opcode == PING:
                    self._socket.pong(data)
            except socket.timeout:  # TimeoutError only since Python 3.10
                if time.monotonic() - heard > _DEAD_S:
                    return
                with suppress(websocket.WebSocketException, OSError):
                    self._socket.ping()
                continue
            except (websocket.WebSocketException, OSError):
                return
            heard = time.monotonic()
            if opcode == CLOSE:
                with suppress(websocket.WebSocketException, OSError):
                    self._socket.send_close()
                return
            if opcode not in (BINARY, TEXT) or not data:
                continue
            if data[0] == STATUS:
                with suppress(ValueError):
                    self.status = json.loads(data[1:])
            else:
                yield data[0], data[1:]

    def send(self, data: bytes) -> None:
        """Write to the command's standard input. Raises ClusterUnreachable if the connection is lost."""
        view = memoryview(data)
        for at in range(0, len(view), _CHUNK):
            self._send(bytes([STDIN]) + view[at : at + _CHUNK])

    def end_stdin(self) -> None:
        """End the command's standard input. Version 4 of the protocol cannot: there the connection has to end."""
        if self.can_end_stdin:
            self._send(bytes([_CLOSE, STDIN]))
        else:
            self.close()

    def _send(self, frame: bytes) -> None:
        import websocket

        try:
            self._socket.settimeout(_DEAD_S)
            self._socket.send_binary(frame)
        except (websocket.WebSocketException, OSError) as exc:
            why = str(exc) or type(exc).__name__
            raise ClusterUnreachable("The connection was cut", subject=self._what, why=why) from None

    def close(self) -> None:
        """End the connection; the command goes on in the pod until it ends by itself."""
        # Not by the library's `close`, which swallows all exceptions: also the one by which a signal stops us.
        try:
            with suppress(Exception):
                if self._socket.connected:
                    self._socket.send_close()
                    self._socket.settimeout(_FAREWELL_S)
                    deadline = time.monotonic() + _FAREWELL_S
                    while time.monotonic() < deadline:
                        if self._reader.read()[0] == CLOSE:
                            break
        finally:
            with suppress(Exception):
                self._socket.shutdown()
