"""Exec and port-forward for clients that speak SPDY: after an upgrade, or inside a websocket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import WSMsgType, web

from tests.kubernetes.standin import forward, wire
from tests.kubernetes.standin.errors import bad_request, encode
from tests.kubernetes.standin.faults import Request, StreamFaults
from tests.kubernetes.standin.kubelet import PodRunner
from tests.kubernetes.standin.node import Running
from tests.kubernetes.standin.remote_command import TRUE, Sessions, open_session, resize, stop
from tests.kubernetes.standin.spdy import Connection, Stream
from tests.kubernetes.standin.streams import FRAME, STDERR, STDOUT, ExecSession, Gone

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PORT_FORWARD = "portforward.k8s.io"
EXEC_PROTOCOLS = (wire.V4,)


class _Parser:
    """Takes the bytes of an upgraded connection from aiohttp, as its websocket reader would."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._connection.feed(data)
        return False, b""

    def feed_eof(self) -> None:
        self._connection.end()

    def set_exception(self, *dummy: Any) -> None:
        self._connection.end()


def _demand_spdy(request: web.Request) -> None:
    if request.headers.get("Upgrade", "").upper() != "SPDY/3.1":
        raise bad_request("Upgrade request required")


async def _upgrade(request: web.Request, protocol: str, accept: Any) -> tuple[web.StreamResponse, Connection]:
    """Switch to SPDY on the TCP connection of a request."""
    response = web.StreamResponse(status=101, reason="Switching Protocols")
    response.headers.update({"Upgrade": "SPDY/3.1", "Connection": "Upgrade", "X-Stream-Protocol-Version": protocol})
    response._length_check = False
    await response.prepare(request)
    transport, http = request.transport, request.protocol
    assert transport is not None

    async def write(data: bytes) -> None:
        await wire.write(request, data)

    def flow(go_on: bool) -> None:
        (transport.resume_reading if go_on else transport.pause_reading)()

    connection = Connection(write, accept, flow)
    http.keep_alive(False)
    http.set_parser(_Parser(connection))  # type: ignore[arg-type]
    return response, connection


# --- exec


class _SpdySink:
    """Streams that the client has opened, one for each channel."""

    def __init__(self, request: web.Request, streams: dict[str, Stream]) -> None:
        self._request = request
        self._by_channel = {STDOUT: streams.get("stdout"), STDERR: streams.get("stderr")}

    async def send(self, channel: int, data: bytes) -> None:
        stream = self._by_channel[channel]
        if stream is not None:
            await stream.send(data)

    async def cut(self, channel: int, data: bytes, length: int) -> None:
        await self.send(channel, data)
        await wire.sever(self._request.transport)


async def serve_exec(
    request: web.Request, record: Request, running: Running | str, sessions: Sessions, faults: StreamFaults
) -> web.StreamResponse:
    """Serve an exec that arrived as POST with an upgrade to SPDY."""
    _demand_spdy(request)
    offered = request.headers.getall("X-Stream-Protocol-Version", [])
    known = [each for line in offered for each in line.replace(" ", "").split(",") if each in EXEC_PROTOCOLS]
    protocol = known[0] if known else wire.V4
    wanted = {name for name in ("stdin", "stdout", "stderr") if record.asked(name) in TRUE} | {"error"}
    if record.asked("tty") in TRUE:
        wanted = (wanted | {"resize"}) - {"stderr"}
    streams: dict[str, Stream] = {}
    complete = asyncio.Event()

    def accept(stream: Stream) -> None:
        streams[stream.headers.get("streamtype", "")] = stream
        if wanted <= set(streams):
            complete.set()

    response, connection = await _upgrade(request, protocol, accept)
    record.status = 101
    answering = asyncio.create_task(connection.answer())
    try:
        async with asyncio.timeout(30):
            await complete.wait()
        session, status = await open_session(record, running, sessions, faults, protocol)
        if session is not None:
            try:
                code = await _relay(request, streams, session)
            finally:
                sessions.close(session)
            status = wire.ended(code, record.argv, protocol)
        await streams["error"].send(encode(status))
        for stream in streams.values():
            await stream.close()
        await asyncio.sleep(0.05)
    except (ConnectionError, Gone, TimeoutError):
        pass
    finally:
        await stop(answering)
        if request.transport is not None:
            request.transport.close()
    return response


async def _relay(request: web.Request, streams: dict[str, Stream], session: ExecSession) -> int:
    delivering = asyncio.create_task(session.deliver(_SpdySink(request, streams)))
    helpers = [asyncio.create_task(_gone(streams["error"]))]
    if "stdin" in streams:
        helpers.append(asyncio.create_task(_feed(streams["stdin"], session)))
    if "resize" in streams:
        helpers.append(asyncio.create_task(_resize(streams["resize"], session)))
    try:
        return await delivering
    finally:
        await stop(delivering, *helpers)


async def _gone(stream: Stream) -> None:
    while await stream.read():
        pass


async def _feed(stream: Stream, session: ExecSession) -> None:
    while data := await stream.read():
        await session.feed(data)
    session.end_stdin()


async def _resize(stream: Stream, session: ExecSession) -> None:
    while data := await stream.read():
        resize(session, data)


# --- port-forward


class _Pairs:
    """Pairs of streams, error and data, one pair for each TCP connection."""

    def __init__(self, pod: PodRunner) -> None:
        self._pod = pod
        self._errors: dict[str, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, stream: Stream) -> None:
        number = stream.headers.get("requestid", stream.headers.get("requestID", ""))
        if stream.headers.get("streamtype") == "error":
            self._errors[number] = stream
            return
        task = asyncio.create_task(self._forward(stream, self._errors.pop(number)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        await stop(*self._tasks)

    async def _forward(self, data: Stream, error: Stream) -> None:
        port = int(data.headers["port"])
        with contextlib.suppress(ConnectionError):
            connection = await forward.connect(self._pod, port)
            if connection is None:
                await error.send(forward.refused(port).encode(), last=True)
                await data.close()
                return
            await self._carry(data, *connection)
            await data.close()
            await error.close()

    @staticmethod
    async def _carry(data: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def inward() -> None:
            while chunk := await data.read():
                writer.write(chunk)
                await writer.drain()
            writer.write_eof()

        feeding = asyncio.create_task(inward())
        try:
            while chunk := await reader.read(FRAME):
                await data.send(chunk)
        finally:
            await stop(feeding)
            writer.close()


async def serve_port_forward(request: web.Request, record: Request, pod: PodRunner) -> web.StreamResponse:
    """Serve a port-forward: any number of TCP connections over one connection of the client."""
    pairs = _Pairs(pod)
    if request.method == "GET":
        return await _serve_tunnel(request, record, pairs)
    _demand_spdy(request)
    gone = asyncio.Event()
    response, connection = await _upgrade(request, PORT_FORWARD, pairs.accept)
    record.status = 101
    answering = asyncio.create_task(connection.answer())
    answering.add_done_callback(lambda dummy: gone.set())
    try:
        await gone.wait()
    finally:
        await stop(answering)
        await pairs.stop()
    return response


async def _serve_tunnel(request: web.Request, record: Request, pairs: _Pairs) -> web.StreamResponse:
    wire.demand_upgrade(request)
    socket = web.WebSocketResponse(protocols=(TUNNEL,), timeout=5, max_msg_size=wire.LARGEST_FRAME, compress=False)
    await socket.prepare(request)
    record.status = 101
    connection = Connection(socket.send_bytes, pairs.accept)
    answering = asyncio.create_task(connection.answer())
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                connection.feed(message.data)
    except ConnectionError:
        pass
    finally:
        connection.end()
        await stop(answering)
        await pairs.stop()
    return socket
