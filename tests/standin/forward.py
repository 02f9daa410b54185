"""Port-forward over a websocket."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import struct
import uuid
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from tests.standin import wire
from tests.standin.errors import ApiError
from tests.standin.faults import Request, StreamFaults
from tests.standin.kubelet import PodRunner
from tests.standin.remote_command import stop
from tests.standin.streams import FRAME, Gone

PROTOCOLS = (wire.V4, "channel.k8s.io")
LINGER_S = 1.0


@dataclass
class _Forward:
    """One port of one connection: data on channel 2i, errors on channel 2i + 1."""

    number: int
    port: int
    writer: asyncio.StreamWriter | None = None
    tried: asyncio.Event = field(default_factory=asyncio.Event)


def asked_ports(record: Request) -> list[int]:
    """Return the ports that a request names; raises 400."""
    texts = [text for name, value in record.query if name == "ports" for text in value.split(",")]
    if not texts:
        raise ApiError(400, 'query parameter "port" is required')
    ports = []
    for text in texts:
        if not text.isdigit():
            raise ApiError(400, f'unable to parse "{text}" as a port: strconv.ParseUint: parsing "{text}"')
        if int(text) == 0:
            raise ApiError(400, f'port "{text}" must be > 0')
        ports.append(int(text))
    return ports


def refused(port: int) -> str:
    """Return what the runtime says when no process listens on the port."""
    sandbox = secrets.token_hex(32)
    return (
        f"error forwarding port {port} to pod {sandbox}, uid : failed to execute portforward in network namespace "
        f'"/var/run/netns/cni-{uuid.uuid4()}": failed to connect to localhost:{port} inside namespace '
        f'"{sandbox}", IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused '
        "IPv6 dial tcp6: address localhost: no suitable address found "
    )


async def connect(pod: PodRunner, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Connect to a port of a pod; None when no process listens."""
    # A process that a script started in a pod does not know the pod's address: it listens on localhost of the machine.
    for host in (pod.address(port)[0], "127.0.0.1"):
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(host, pod.address(port)[1], limit=2 * FRAME)
    return None


class WebSocketForward:
    """One websocket, one TCP connection per port."""

    def __init__(self, request: web.Request, pod: PodRunner, ports: list[int], faults: StreamFaults) -> None:
        self._request = request
        self._pod = pod
        self._forwards = [_Forward(number, port) for number, port in enumerate(ports)]
        self._faults = faults
        self._sent = 0
        self._received = 0
        self._lingers = False

    async def serve(self, record: Request) -> web.StreamResponse:
        """Carry the bytes until the pod's side has closed every port, or the client goes."""
        protocol = wire.chosen_protocol(self._request, PROTOCOLS)
        self._socket = web.WebSocketResponse(
            protocols=(protocol,) if protocol else (), timeout=60, max_msg_size=wire.LARGEST_FRAME, compress=False
        )
        await self._socket.prepare(self._request)
        record.status = 101
        with contextlib.suppress(ConnectionError, Gone):
            await self._carry()
        return self._socket

    async def _carry(self) -> None:
        for forward in self._forwards:
            port = struct.pack("<H", forward.port)
            await wire.send(self._request, 2 * forward.number, port)
            await wire.send(self._request, 2 * forward.number + 1, port)
        outward = asyncio.gather(*(self._outward(forward) for forward in self._forwards))
        sending = asyncio.create_task(_all(outward))
        receiving = asyncio.create_task(self._inward())
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                if self._lingers:
                    await asyncio.wait({receiving}, timeout=LINGER_S)
            if receiving.done():
                return
        finally:
            await stop(sending, receiving)
            for forward in self._forwards:
                if forward.writer is not None:
                    forward.writer.close()
        await self._socket.close(code=1000)

    async def _outward(self, forward: _Forward) -> None:
        connection = await connect(self._pod, forward.port)
        if connection is not None:
            forward.writer = connection[1]
        forward.tried.set()
        if connection is None:
            text = refused(forward.port).encode()
            await wire.send(self._request, 2 * forward.number + 1, text)
            return
        reader, dummy = connection
        self._lingers = True
        channel = 2 * forward.number
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(FRAME):
                await self._send(channel, data)

    async def _send(self, channel: int, data: bytes) -> None:
        limit = self._faults.cut_out_after
        if limit is not None and self._sent + len(data) >= limit:
            transport = self._request.transport
            if transport is not None:
                transport.write(wire.frame_head(len(data) + 1) + bytes((channel,)) + data[: limit - self._sent])
            await wire.sever(transport)
            raise Gone
        self._sent += len(data)
        if self._faults.frame_delay_s:
            await asyncio.sleep(self._faults.frame_delay_s)
        if self._faults.bytes_per_s:
            await asyncio.sleep(len(data) / self._faults.bytes_per_s)
        await wire.send(self._request, channel, data)

    async def _inward(self) -> None:
        async for message in self._socket:
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            data: bytes = message.data if message.type is WSMsgType.BINARY else message.data.encode()
            if not data or data[0] % 2 or data[0] // 2 >= len(self._forwards):
                continue
            await self._take(self._forwards[data[0] // 2], data[1:])

    async def _take(self, forward: _Forward, payload: bytes) -> None:
        limit = self._faults.cut_in_after
        is_over = limit is not None and self._received + len(payload) >= limit
        if is_over and limit is not None:
            payload = payload[: limit - self._received]
        self._received += len(payload)
        await forward.tried.wait()
        if forward.writer is not None:
            with contextlib.suppress(ConnectionError):
                forward.writer.write(payload)
                await forward.writer.drain()
        if is_over:
            await wire.sever(self._request.transport)
            raise Gone


async def _all(outward: asyncio.Future[list[None]]) -> None:
    await outward
