"""One exec: a process and its streams, apart from how they travel to the client."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.standin.container import Container, Process
from tests.standin.faults import StreamFaults

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
FRAME = 32 * 1024


@dataclass
class ExecSettings:
    """How exec behaves; tests may change it."""

    drain_s: float = 10.0
    """How long after its process has ended an exec waits for a slow reader; what is left then is lost."""
    backlog_bytes: int = 1024 * 1024
    """How much output waits on the way, besides what the pipe and the sockets hold."""
    stdin_ends_with_output: bool = True
    """Whether stdin ends when stdout or stderr is closed by all, as the runtime has it."""


class Sink(Protocol):
    """Where an exec sends its output: a websocket."""

    async def send(self, channel: int, data: bytes) -> None: ...
    async def cut(self, channel: int, data: bytes, length: int) -> None: ...


@dataclass(frozen=True)
class Command:
    """What to start, and which of its streams the client wants."""

    argv: Sequence[str]
    env: dict[str, str]
    cwd: Path
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Gone(Exception):
    """The client has disconnected."""


class ExecSession:
    """A process that runs for a client. Output waits in a backlog of limited size; then the process waits."""

    def __init__(self, container: Container, command: Command, settings: ExecSettings, faults: StreamFaults):
        self._container = container
        self._command = command
        self._settings = settings
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._backlog: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._outputs: dict[int, int] = {}
        self._paused: set[int] = set()
        self._stdin: int | None = None
        self._stdin_free: asyncio.Future[None] | None = None
        self._received = 0
        self._wake = asyncio.Event()
        self._ended_early: asyncio.Future[None] = self._loop.create_future()
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process; raises StartError when it cannot be."""
        command = self._command
        ours, theirs = self._open_tty() if command.tty else self._open_pipes()
        try:
            self._process = await self._container.spawn(command.argv, command.env, command.cwd, theirs, command.tty)
        except BaseException:
            for descriptor in set(ours.values()):
                os.close(descriptor)
            raise
        finally:
            for descriptor in set(theirs):
                os.close(descriptor)
        for descriptor in ours.values():
            os.set_blocking(descriptor, False)
        if STDIN in ours:
            self._stdin = ours.pop(STDIN)
        self._outputs = ours
        for channel in ours:
            self._read_on(channel)

    def _open_pipes(self) -> tuple[dict[int, int], list[int]]:
        ours: dict[int, int] = {}
        theirs: list[int] = []
        wanted = (self._command.stdin, self._command.stdout, self._command.stderr)
        for channel, is_wanted in enumerate(wanted):
            if not is_wanted:
                theirs.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
                continue
            readable, writable = os.pipe2(os.O_CLOEXEC)
            ours[channel], its = (writable, readable) if channel == STDIN else (readable, writable)
            theirs.append(its)
        return ours, theirs

    def _open_tty(self) -> tuple[dict[int, int], list[int]]:
        master, slave = os.openpty()
        ours = {STDOUT: master}
        if self._command.stdin:
            ours[STDIN] = os.dup(master)
        return ours, [slave, os.dup(slave), os.dup(slave)]

    # --- to the process

    async def feed(self, data: bytes) -> None:
        """Give bytes to the process; returns when they are in its pipe, or the process does not read any more."""
        limit = self._faults.stdin_ends_after
        if limit is not None and self._received + len(data) >= limit:
            data = data[: limit - self._received]
        self._received += len(data)
        view = memoryview(data)
        while view and self._stdin is not None:
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._until_stdin_is_free()
            except OSError:
                self.end_stdin()
        if limit is not None and self._received >= limit:
            self.end_stdin()

    def end_stdin(self) -> None:
        """Let the process see the end of its input."""
        if self._stdin is not None:
            self._loop.remove_writer(self._stdin)
            os.close(self._stdin)
            self._stdin = None
        if self._stdin_free is not None and not self._stdin_free.done():
            self._stdin_free.set_result(None)

    async def _until_stdin_is_free(self) -> None:
        assert self._stdin is not None
        free = self._stdin_free = self._loop.create_future()

        def set_free() -> None:
            if not free.done():
                free.set_result(None)

        self._loop.add_writer(self._stdin, set_free)
        try:
            await free
        finally:
            if self._stdin is not None:
                self._loop.remove_writer(self._stdin)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the terminal."""
        master = self._outputs.get(STDOUT)
        if self._command.tty and master is not None:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    # --- from the process

    def _read_on(self, channel: int) -> None:
        self._loop.add_reader(self._outputs[channel], self._read, channel)

    def _read(self, channel: int) -> None:
        descriptor = self._outputs[channel]
        try:
            data = os.read(descriptor, FRAME)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose last process has closed it
            data = b""
        if data:
            self._backlog.append((channel, data))
            self._waiting_bytes += len(data)
            if self._waiting_bytes >= self._settings.backlog_bytes:
                self._loop.remove_reader(descriptor)
                self._paused.add(channel)
        else:
            self._loop.remove_reader(descriptor)
            os.close(self._outputs.pop(channel))
            if self._settings.stdin_ends_with_output:
                self.end_stdin()
        self._wake.set()

    def _resume(self) -> None:
        if self._paused and self._waiting_bytes <= self._settings.backlog_bytes // 2:
            for channel in self._paused:
                self._read_on(channel)
            self._paused.clear()

    async def deliver(self, sink: Sink) -> int:
        """Send the output until the process has ended and all is sent, or time is up; returns the exit code."""
        assert self._process is not None
        self._process.exited.add_done_callback(lambda dummy: self._wake.set())
        sending = asyncio.create_task(self._send_all(sink))
        over = asyncio.create_task(self._time_is_up())
        try:
            await asyncio.wait({sending, over, self._ended_early}, return_when=asyncio.FIRST_COMPLETED)
            if self._ended_early.done():
                return 0
            if sending.done():
                sending.result()
            return self._process.exited.result()
        finally:
            await _cancelled(sending)
            await _cancelled(over)

    async def _send_all(self, sink: Sink) -> None:
        assert self._process is not None
        sent = 0
        while self._backlog or self._outputs or not self._process.exited.done():
            if not self._backlog:
                self._wake.clear()
                await self._wake.wait()
                continue
            channel, data = self._backlog.popleft()
            self._waiting_bytes -= len(data)
            self._resume()
            await self._send_one(sink, channel, data, sent)
            sent += len(data)

    async def _send_one(self, sink: Sink, channel: int, data: bytes, sent: int) -> None:
        faults = self._faults
        limit = faults.false_success_after
        if limit is not None and channel == STDOUT and sent + len(data) >= limit:
            if limit > sent:
                await sink.send(channel, data[: limit - sent])
            self.end_early()
            await asyncio.Event().wait()
        limit = faults.cut_out_after
        if limit is not None and sent + len(data) >= limit:
            await sink.cut(channel, data[: limit - sent], len(data))
            raise Gone
        if faults.frame_delay_s:
            await asyncio.sleep(faults.frame_delay_s)
        if faults.bytes_per_s:
            await asyncio.sleep(len(data) / faults.bytes_per_s)
        await sink.send(channel, data)

    async def _time_is_up(self) -> None:
        """Return when the process has ended for so long that what still waits is given up."""
        assert self._process is not None
        await asyncio.wait({self._process.exited})
        await asyncio.sleep(self._settings.drain_s)
        if not self._waiting_bytes:  # nothing waits for the reader: a child holds the output open
            await asyncio.Event().wait()

    # --- the end

    def end_early(self) -> None:
        """Say Success although the process still runs, as when the kubelet restarts."""
        if not self._ended_early.done():
            self._ended_early.set_result(None)

    def close(self) -> None:
        """Let go of the process: it sees the end of its input, and its output is read no more."""
        self.end_stdin()
        for descriptor in self._outputs.values():
            self._loop.remove_reader(descriptor)
        left = list(self._outputs.values())
        self._outputs.clear()
        if self._process is not None and left:
            self._container.park(self._process, left)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Gone, ConnectionError):
        await task
