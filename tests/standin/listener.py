"""The listening socket: TLS, dropping all connections, and refusing new ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from asyncio.trsock import TransportSocket
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import trustme
from aiohttp import web

from tests.standin.wire import cut_off

HOST = "127.0.0.1"
LARGEST_HEAD = 1024 * 1024
LARGEST_BODY = 64 * 1024 * 1024


class Listener:
    """One port that is served, and can be closed and opened again."""

    def __init__(
        self,
        handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
        tls: ssl.SSLContext | None,
        logger: logging.Logger,
    ) -> None:
        async def remember(request: web.Request) -> web.StreamResponse:
            connection = request.transport.get_extra_info("socket") if request.transport is not None else None
            if connection is not None:  # else the client has disconnected already
                self._sockets.append(connection)
            return await handle(request)

        # aiohttp forgets a connection while TLS still waits for the client's goodbye, which some never say.
        self._sockets: deque[TransportSocket] = deque(maxlen=1_000)
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", remember)
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            access_log=None,
            logger=logger,
            max_line_size=LARGEST_HEAD,
            max_field_size=LARGEST_HEAD,
            keepalive_timeout=120,
        )
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._back: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self.port = 0

    async def open(self) -> None:
        """Listen; on the same port as before when it was open already."""
        if self._runner.server is None:
            await self._runner.setup()
        assert self._runner.server is not None
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, self.port))
        self.port = listening.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._runner.server, sock=listening, ssl=self._tls)

    def drop(self) -> None:
        """End every connection without a word, those that wait for a goodbye of TLS included."""
        assert self._runner.server is not None
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                cut_off(connection.transport)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._sockets.clear()

    def leave(self, seconds: float) -> None:
        """Drop all connections and refuse new ones for this many seconds."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.drop()
        self._back = asyncio.get_running_loop().call_later(seconds, self.come_back)

    def come_back(self) -> None:
        """Listen again, if it does not."""
        if self._back is not None:
            self._back.cancel()
            self._back = None
        if self._server is None:
            self._opening = asyncio.create_task(self.open())

    async def close(self) -> None:
        """End for good."""
        if self._back is not None:
            self._back.cancel()
        if self._opening is not None:
            await self._opening
        if self._server is not None:
            self._server.close()
        if self._runner.server is not None:
            self.drop()
        await self._runner.cleanup()
        await asyncio.sleep(0.02)  # the sockets are closed in the next rounds of the loop


def make_tls(ca_file: Path) -> ssl.SSLContext:
    """Return the server's side of TLS, with a certificate of a new CA; the CA's own goes to the file."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    return context
