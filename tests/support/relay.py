"""A way to a PostgreSQL server that loses what the server says at a chosen moment, as a network does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.servers import Server

_HOST = "127.0.0.1"
_BUFFER = 64 * 1024


@dataclass
class Relay:
    """A port that leads to a server. `loses` says which piece of an answer is lost, and the connection with it."""

    port: int
    loses: Callable[[bytes], bool] = lambda dummy: False
    asked: list[tuple[bytes, socket.socket]] = field(default_factory=list)

    def cut(self, question: bytes) -> None:
        """End the connections on which this was asked. The server goes on with it."""
        for text, client in self.asked:
            if question in text:
                _close(client)


@contextlib.contextmanager
def relayed(server: Server) -> Iterator[Relay]:
    """A relay before a server."""
    with socket.create_server((_HOST, 0)) as listener:
        relay = Relay(listener.getsockname()[1])
        threading.Thread(target=_accept, args=(listener, server, relay), daemon=True).start()
        yield relay
        _close(listener)


def _accept(listener: socket.socket, server: Server, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, dummy = listener.accept()
            there = socket.create_connection((_HOST, server.port))
            threading.Thread(target=_ask, args=(client, there, relay), daemon=True).start()
            threading.Thread(target=_answer, args=(there, client, relay), daemon=True).start()


def _ask(client: socket.socket, there: socket.socket, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(_BUFFER):
            relay.asked.append((data, client))
            there.sendall(data)
    # A client that was cut off is not told to the server: it works on, and finds out when it answers.


def _answer(there: socket.socket, client: socket.socket, relay: Relay) -> None:
    with contextlib.suppress(OSError):
        while (data := there.recv(_BUFFER)) and not relay.loses(data):
            client.sendall(data)
    _close(there)
    _close(client)


def _close(end: socket.socket) -> None:
    """Close it at once, although another thread may wait for it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
