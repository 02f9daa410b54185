"""Exec over a websocket: v5, v4, and none."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence

from aiohttp import WSMsgType, web

from tests.standin import wire
from tests.standin.container import StartError
from tests.standin.errors import encode
from tests.standin.faults import Request, StreamFaults
from tests.standin.node import Running
from tests.standin.streams import (
    CLOSE,
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    Command,
    ExecSession,
    ExecSettings,
    Gone,
)

PROTOCOLS = (wire.V5, wire.V4, "channel.k8s.io")
TRUE = ("true", "1")


def command_of(running: Running, record: Request) -> Command:
    """Return what an exec asks for, as the container sees it."""
    tty = record.asked("tty") in TRUE
    return Command(
        argv=[running.translate(argument) for argument in record.argv],
        env=running.env,
        cwd=running.cwd,
        stdin=record.asked("stdin") in TRUE,
        stdout=record.asked("stdout") in TRUE,
        stderr=record.asked("stderr") in TRUE and not tty,
        tty=tty,
    )


class Sessions:
    """The execs that run now."""

    def __init__(self, settings: ExecSettings) -> None:
        self.settings = settings
        self._running: set[ExecSession] = set()

    async def start(self, running: Running, command: Command, faults: StreamFaults) -> ExecSession:
        """Start a command; raises StartError."""
        session = ExecSession(running.container, command, self.settings, faults)
        await session.start()
        self._running.add(session)
        return session

    def close(self, session: ExecSession) -> None:
        """Let go of one."""
        self._running.discard(session)
        session.close()

    def end_early(self) -> None:
        """Say Success to every client, as when the kubelet restarts."""
        for session in self._running:
            session.end_early()

    def __len__(self) -> int:
        return len(self._running)


class WebSocketSink:
    """Frames of a channel each."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    async def send(self, channel: int, data: bytes) -> None:
        """Send one frame; waits while the client is slow."""
        await wire.send(self._request, channel, data)

    async def cut(self, channel: int, data: bytes, length: int) -> None:
        """Send the beginning of a frame and end the connection."""
        transport = self._request.transport
        if transport is not None:
            transport.write(wire.frame_head(length + 1) + bytes((channel,)) + data)
        await wire.sever(transport)


async def serve(
    request: web.Request, record: Request, running: Running | str, sessions: Sessions, faults: StreamFaults
) -> web.StreamResponse:
    """Serve an exec; ``running`` is the name of the container when it does not run."""
    wire.demand_upgrade(request)
    protocol = wire.chosen_protocol(request, PROTOCOLS)
    socket = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (),
        timeout=60,
        max_msg_size=wire.LARGEST_FRAME,
        compress=False,
    )
    await socket.prepare(request)
    record.status = 101
    with contextlib.suppress(ConnectionError, Gone):
        await _converse(request, socket, record, running, sessions, faults, protocol)
    return socket


async def _converse(
    request: web.Request,
    socket: web.WebSocketResponse,
    record: Request,
    running: Running | str,
    sessions: Sessions,
    faults: StreamFaults,
    protocol: str,
) -> None:
    sink = WebSocketSink(request)
    asked = [channel for channel, name in _OUTPUTS if record.asked(name) in TRUE]
    await sink.send(asked[0] if asked else ERROR, b"")
    session, status = await open_session(record, running, sessions, faults, protocol)
    if session is not None:
        try:
            code = await _relay(request, socket, sink, session, faults, protocol)
        finally:
            sessions.close(session)
        if code is None:
            return
        status = wire.ended(code, record.argv, protocol)
    if protocol in (wire.V5, wire.V4):
        await sink.send(ERROR, encode(status))
    await socket.close(code=1000)


_OUTPUTS = ((STDOUT, "stdout"), (STDERR, "stderr"))


async def open_session(
    record: Request, running: Running | str, sessions: Sessions, faults: StreamFaults, protocol: str
) -> tuple[ExecSession | None, dict[str, object]]:
    """Start what an exec asks for; without a session, the status says why not."""
    if not any(record.asked(name) in TRUE for name in ("stdin", "stdout", "stderr")):
        told = "unable to upgrade connection: you must specify at least 1 of stdin, stdout, stderr"
        return None, wire.internal(told)
    if isinstance(running, str):
        return None, wire.no_container(running)
    if not record.argv:
        return None, wire.not_started([], None, protocol)
    try:
        return await sessions.start(running, command_of(running, record), faults), {}
    except StartError as error:
        if error.number == 0:
            return None, wire.no_container(running.name)
        return None, wire.not_started(record.argv, error, protocol)


async def _relay(
    request: web.Request,
    socket: web.WebSocketResponse,
    sink: WebSocketSink,
    session: ExecSession,
    faults: StreamFaults,
    protocol: str,
) -> int | None:
    """Carry the streams until the process has ended (its exit code) or the client has disconnected (None)."""
    delivering = asyncio.create_task(session.deliver(sink))
    receiving = asyncio.create_task(_receive(request, socket, session, faults, protocol))
    try:
        await asyncio.wait({delivering, receiving}, return_when=asyncio.FIRST_COMPLETED)
        return delivering.result() if delivering.done() else None
    finally:
        await stop(delivering, receiving)


async def stop(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait for their ends, whatever those are."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _receive(
    request: web.Request,
    socket: web.WebSocketResponse,
    session: ExecSession,
    faults: StreamFaults,
    protocol: str,
) -> None:
    """Take what the client sends until it goes."""
    received = 0
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            break
        data: bytes = message.data if message.type is WSMsgType.BINARY else message.data.encode()
        if not data:
            continue
        channel, payload = data[0], data[1:]
        limit = faults.cut_in_after
        if limit is not None and received + len(payload) >= limit:
            await session.feed(payload[: limit - received])
            await wire.sever(request.transport)
            return
        received += len(payload)
        await _take(session, channel, payload, protocol)


async def _take(session: ExecSession, channel: int, payload: bytes, protocol: str) -> None:
    if channel == STDIN:
        await session.feed(payload)
    elif channel == RESIZE:
        resize(session, payload)
    elif channel == CLOSE and protocol == wire.V5 and payload[:1] == bytes((STDIN,)):
        session.end_stdin()


def resize(session: ExecSession, payload: bytes | Sequence[int]) -> None:
    """Take in a window size, as JSON."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        size = json.loads(bytes(payload))
        session.resize(int(size["Width"]), int(size["Height"]))
