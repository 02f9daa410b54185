"""A way to the API server that can be cut: a TCP proxy of the tests, to which a kubeconfig leads."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import yaml

_BUFFER = 64 * 1024
_HOST = "127.0.0.1"


class Link:
    """A port of this host that leads to a server, for a with statement."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._budget: int | None = None
        self._listener = socket.create_server((_HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.kubeconfig = ""  # for clients that use this link
        self.bytes_per_s: float | None = None  # of each connection, in each direction
        self._carries = threading.Event()
        self._carries.set()

    def __enter__(self) -> Link:
        self._listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def drop(self) -> None:
        """End every connection without a word; new ones are welcome."""
        with self._lock:
            found, self._open = self._open, set()
        for each in found:
            _close(each)

    def away(self, seconds: float) -> None:
        """Drop every connection, and refuse new ones for so long; returns then."""
        self.end()
        time.sleep(seconds)
        self._listener = socket.create_server((_HOST, self.port))
        self._listen()

    def end(self) -> None:
        """Drop every connection, and refuse new ones from now on."""
        self._close_listener()
        self.drop()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Take what comes and pass nothing on, in either direction: a firewall that has forgotten the connection."""
        self._carries.clear()
        try:
            yield
        finally:
            self.drop()
            self._carries.set()

    def cut_after(self, size: int) -> None:
        """Drop every connection once so many more bytes have gone through, in both directions together."""
        with self._lock:
            self._budget = size

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept()
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, dummy = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=15)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # what is slow must not pile up here
        except OSError:
            _close(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
            self.connections += 1
        back = threading.Thread(target=self._carry, args=(server, client), daemon=True)
        back.start()
        self._carry(client, server)
        back.join()
        with self._lock:
            self._open -= {client, server}

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER):
                self._carries.wait()
                data, is_cut = self._allowed(data)
                sink.sendall(data)
                if is_cut:
                    self.drop()
                if self.bytes_per_s is not None:
                    time.sleep(len(data) / self.bytes_per_s)
        for each in (source, sink):
            _close(each)

    def _allowed(self, data: bytes) -> tuple[bytes, bool]:
        """What of the data may still go through, and whether that was all."""
        with self._lock:
            if self._budget is None:
                return data, False
            data = data[: self._budget]
            self._budget -= len(data)
            if self._budget > 0:
                return data, False
            self._budget = None
            return data, True


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


def server_of(kubeconfig: str) -> tuple[str, int]:
    """The host and port of the API server."""
    found = urlsplit(str(cluster_of(kubeconfig)["server"]))
    return found.hostname or "", found.port or (443 if found.scheme == "https" else 80)


def lead(link: Link, kubeconfig: str, destination: Path) -> None:
    """Write a kubeconfig for the link that is the same but for the way to the API server."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    for item in content["clusters"]:
        found = urlsplit(item["cluster"]["server"])
        item["cluster"]["server"] = found._replace(netloc=f"{_HOST}:{link.port}").geturl()
        if found.scheme == "https":
            item["cluster"].setdefault("tls-server-name", found.hostname)
    write(destination, content)
    link.kubeconfig = str(destination)


def cluster_of(kubeconfig: str) -> dict[str, Any]:
    """The cluster that a kubeconfig with one context leads to."""
    content = yaml.safe_load(Path(kubeconfig).read_text())
    return dict(content["clusters"][0]["cluster"])


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a kubeconfig that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))
