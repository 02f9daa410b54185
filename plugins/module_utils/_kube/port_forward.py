# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP port of a pod behind a private Unix socket of this host, for as long as it is needed.

One WebSocket is one connection (v4.channel.k8s.io): channel 0 is data, channel 1 errors, and the first frame of each is
the port number. Without a socket of our own, libpq could not use it: it wants a file descriptor.
"""

from __future__ import annotations

import fcntl
import os
import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from .._errors import RunbookError
from .cluster import Cluster

_PREFIX, _SOCKET = "pg-runbook-", ".s.PGSQL."
_PROTOCOL = "v4.channel.k8s.io"
_BUFFER = 64 * 1024
_DATA = 0
_FIRST_PACKET_S = 0.2
_PING_S = 15.0  # a proxy on the way may cut what is quiet
_DEAD_S = 60.0  # neither data nor an answer to a ping
# https://www.postgresql.org/docs/current/protocol-message-formats.html, ErrorResponse
_REFUSED = b"SFATAL\0VFATAL\0C08006\0M%s\0\0"
_READY = b"Z\0\0\0\5I"  # without it, libpq tells of the end of the connection instead


@contextmanager
def forwarded(cluster: Cluster, pod: str, port: int, check: Callable[[], object]) -> Iterator[str]:
    """A directory with a Unix socket `.s.PGSQL.<port>` in it that leads to the port of the pod. Gone on exit.

    A connection that cannot be forwarded gets the reason as an error of PostgreSQL's protocol, which libpq reports.

    Args:
        check: raises the RunbookError that forbids a connection.
    """
    directory, lock = _private_directory()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(f"{directory}/{_SOCKET}{port}")
        listener.listen(64)
        threading.Thread(target=_accept, args=(listener, cluster, pod, port, check), daemon=True).start()
        yield directory
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def _private_directory() -> tuple[str, int]:
    """A new directory that no other account can enter, and a descriptor, which holds its lock until it is closed."""
    _sweep(tempfile.gettempdir())
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX)
        with suppress(FileNotFoundError):  # a sweep was quicker than our lock
            lock = os.open(directory, os.O_RDONLY)
            with suppress(OSError):  # not every file system has locks; nothing is swept there
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(directory):
                return directory, lock
            os.close(lock)


@cache
def _sweep(parent: str) -> None:
    """Remove the directories of processes that were killed: their locks ended with them. Once in a process."""
    left: list[str] = []
    with suppress(OSError), os.scandir(parent) as found:
        left = [each.path for each in found if each.name.startswith(_PREFIX) and each.is_dir(follow_symlinks=False)]
    for path in left:
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.getuid() and all(name.startswith(_SOCKET) for name in os.listdir(lock)):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # OSError: its process lives
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _accept(listener: socket.socket, cluster: Cluster, pod: str, port: int, check: Callable[[], object]) -> None:
    while True:
        try:
            client, _address = listener.accept()
        except OSError:  # closed: that is our end
            return
        threading.Thread(target=_serve, args=(client, cluster, pod, port, check), daemon=True).start()


def _serve(client: socket.socket, cluster: Cluster, pod: str, port: int, check: Callable[[], object]) -> None:
    with client:
        try:
            check()
            remote = cluster.open_stream(pod, "portforward", [("ports", str(port))], (_PROTOCOL,))
        except RunbookError as exc:
            _tell(client, exc.message)
            return
        with suppress(Exception):  # whatever ends one end of it ends the other
            _pump(client, remote)
        with suppress(Exception):
            remote.close(timeout=1)
        with suppress(Exception):
            remote.shutdown()  # `close` leaves it open when the other side was the first
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


def _tell(client: socket.socket, text: str) -> None:
    body = _REFUSED % text.encode()[:2000]
    client.settimeout(_FIRST_PACKET_S)
    with suppress(OSError):
        client.recv(_BUFFER)  # libpq's first packet, if it was not sent on: closing on it would reset the connection
    with suppress(OSError):
        client.sendall(b"E" + (len(body) + 4).to_bytes(4, "big") + body + _READY)


def _pump(client: socket.socket, remote: Any) -> None:
    """Carry bytes both ways. One thread: OpenSSL allows no reading and writing of one connection at the same time."""
    remote.settimeout(_DEAD_S)  # so long a frame may take to come or to go
    pending = getattr(remote.sock, "pending", int)  # what TLS has decrypted is not seen by a selector
    greeted: set[int] = set()
    heard = pinged = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ)
        selector.register(remote.sock, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _events in selector.select(0 if pending() else _PING_S)}
            if pending() or remote.sock in ready:
                if not _down(remote, client, greeted):
                    return
                heard = time.monotonic()
            now = time.monotonic()
            if now - heard > _DEAD_S:
                _tell(client, f"The connection to the pod was cut: no data was received for {_DEAD_S:g} s")
                return
            if now - max(heard, pinged) >= _PING_S:
                remote.ping()
                pinged = now
            if client in ready:
                data = client.recv(_BUFFER)
                if not data:
                    return
                remote.send_binary(bytes([_DATA]) + data)


def _down(remote: Any, client: socket.socket, greeted: set[int]) -> bool:
    """Take one frame; whether the connection goes on."""
    import websocket

    opcode, data = remote.recv_data(control_frame=True)
    if opcode == websocket.ABNF.OPCODE_CLOSE:
        return False
    if opcode not in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) or not data:
        return True
    channel = data[0]
    if channel not in greeted:
        greeted.add(channel)  # the port number
    elif channel == _DATA:
        client.sendall(data[1:])
    else:  # no process listens there
        _tell(client, data[1:].decode("utf-8", "replace"))
        return False
    return True
