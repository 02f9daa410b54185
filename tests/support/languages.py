"""Servers whose messages are not in English: real ones with a catalog, and any other through a relay that rewrites them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import Installation, at_hand
from tests.support.servers import Server

GERMAN = {"lc_messages": "C.UTF-8"}  # with LANGUAGE=de, any locale but C finds the catalog
_HOST = "127.0.0.1"
_TEXTS = b"MDHSW"  # of an ErrorResponse: message, detail, hint, severity, context
_IN_NO_LANGUAGE = "Не можу, ﾀﾞﾒ".encode()


@dataclass(frozen=True)
class Foreign:
    """A server, and the port on which its messages are in another language."""

    server: Server
    port: int


def german() -> list[Installation]:
    """The installations that have a German catalog: those of Debian and its like do."""
    return [each for each in at_hand() if any(path.exists() for path in _catalogs(each))]


def _catalogs(installation: Installation) -> Iterator[Path]:
    name = f"de/LC_MESSAGES/postgres-{installation.major}.mo"
    yield Path("/usr/share/locale", name)
    yield installation.bin_dir.parent / "share" / "locale" / name


@contextlib.contextmanager
def rewritten(server: Server) -> Iterator[Foreign]:
    """A port before a server, without TLS, through which no text of an error passes. All else of it does."""
    with socket.create_server((_HOST, 0)) as listener:
        threading.Thread(target=_accept, args=(listener, server), daemon=True).start()
        try:
            yield Foreign(server, listener.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, server: Server) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, dummy = listener.accept()
            try:
                there = socket.create_connection((_HOST, server.port))
            except ConnectionRefusedError:  # it is stopped
                client.close()
                continue
            threading.Thread(target=_pass_on, args=(client, there), daemon=True).start()
            threading.Thread(target=_rewrite, args=(there, client), daemon=True).start()


def _pass_on(client: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)


def _rewrite(there: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError), there, client, there.makefile("rb") as answers:
        while len(head := answers.read(5)) == 5:
            kind, size = struct.unpack("!cI", head)
            body = answers.read(size - 4)
            if kind == b"E":
                fields = [_foreign(field) for field in body.split(b"\0") if field]
                body = b"\0".join(fields) + b"\0\0"
            client.sendall(struct.pack("!cI", kind, len(body) + 4) + body)


def _foreign(field: bytes) -> bytes:
    return field[:1] + _IN_NO_LANGUAGE if field[0] in _TEXTS else field
