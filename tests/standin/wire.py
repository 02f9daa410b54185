"""What exec and port-forward share: the status frames, subprotocols, and cutting a connection."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import secrets
import socket
import struct
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from tests.standin.container import StartError
from tests.standin.errors import ApiError, bad_request

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
LARGEST_FRAME = 32 * 1024 * 1024


def chosen_protocol(request: web.Request, known: Sequence[str]) -> str:
    """Return the first subprotocol on offer that is known; '' when none is on offer; raises 403 otherwise."""
    offered = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if each.strip()]
    if not offered:
        return ""
    for each in offered:
        if each in known:
            return each
    raise ApiError(403, "", close=True)


def demand_upgrade(request: web.Request) -> None:
    """Raise 400 unless the client asks for a websocket."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise bad_request("Upgrade request required")


def success() -> dict[str, Any]:
    return {"metadata": {}, "status": "Success"}


def ended(code: int, argv: Sequence[str], protocol: str) -> dict[str, Any]:
    """Return the status of a process that has ended."""
    if code == 0:
        return success()
    told = (
        f"command terminated with exit code {code}"
        if protocol == V5
        else f"error executing command [{' '.join(argv)}], exit code {code}"
    )
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {told}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def internal(message: str) -> dict[str, Any]:
    """Return the status of a command that could not be started: no exit code in it."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def no_container(name: str) -> dict[str, Any]:
    return internal(f'unable to upgrade connection: container not found ("{name}")')


def not_started(argv: Sequence[str], error: StartError | None, protocol: str) -> dict[str, Any]:
    """Return the status of a program that could not be started; None for the error means no program at all."""
    if error is None:
        reason = "args must not be empty"
    else:
        program = argv[0]
        why = {
            errno.ENOENT: f"stat {program}: no such file or directory"
            if "/" in program
            else "executable file not found in $PATH",
            errno.EACCES: "permission denied",
            errno.ENOEXEC: "exec format error",
        }.get(error.number, str(error))
        reason = f'unable to start container process: exec: "{program}": {why}'
    told = (
        "error executing command in container: failed to exec in container: failed to start exec "
        f'"{secrets.token_hex(32)}": OCI runtime exec failed: exec failed: {reason}: unknown'
    )
    return internal(f"Internal error occurred: {told}" if protocol == V5 else told)


def frame_head(length: int, opcode: int = 2) -> bytes:
    """Return the head of a websocket frame from a server."""
    if length < 126:
        return bytes((0x80 | opcode, length))
    if length < 1 << 16:
        return struct.pack(">BBH", 0x80 | opcode, 126, length)
    return struct.pack(">BBQ", 0x80 | opcode, 127, length)


async def write(request: web.Request, *parts: bytes) -> None:
    """Write to the connection of an upgraded request, in one piece; waits while the client is slow.

    One write for a frame is half the work of aiohttp's two, and the frame goes out as the real server's does.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    transport.write(b"".join(parts))
    if request.protocol._paused:
        draining = asyncio.ensure_future(request.protocol._drain_helper())
        draining.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(draining)  # others wait for the same: it must not be cancelled with us


async def send(request: web.Request, channel: int, data: bytes) -> None:
    """Send one frame of a channel."""
    await write(request, frame_head(len(data) + 1), bytes((channel,)), data)


async def sever(transport: asyncio.Transport | None) -> None:
    """End a TCP connection without a word, once what has been written is on its way."""
    if transport is None:
        return
    for dummy in range(1_000):
        if transport.is_closing() or not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.002)
    cut_off(transport)


def cut_off(transport: asyncio.Transport) -> None:
    """End a TCP connection without a word, at once."""
    with contextlib.suppress(OSError, AttributeError):  # it is closed already, or TLS has let go of it
        transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    transport.abort()
