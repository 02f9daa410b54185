"""A running container: starting it, its processes, its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("pod_init.py")
KILLED = 128 + signal.SIGKILL


class StartError(Exception):
    """A program could not be started; carries the error number."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


@dataclass
class Process:
    """One process that exec has started. ``exited`` gives its exit code, as a shell would say it."""

    pid: int
    exited: asyncio.Future[int]


@dataclass(frozen=True)
class Launch:
    """What a container runs and as whom."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    uid: int | None = None
    gid: int | None = None


@dataclass
class _Request:
    started: asyncio.Future[int]
    exited: asyncio.Future[int]


def exit_code(status: int) -> int:
    """Return an exit code from the status of a process: 128 and more for signals."""
    return status if status >= 0 else 128 - status


def _in_memory(value: Any) -> int:
    """Return a descriptor to read this value from, as JSON."""
    descriptor = os.memfd_create("standin")
    with open(descriptor, "w", closefd=False) as file:
        json.dump(value, file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


class Container:
    """One container that runs. ``ended`` gives the exit code of its process 1."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.pid = 0
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}

    async def start(self) -> None:
        """Start process 1; raises StartError when its program cannot be run."""
        self._life, life = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        launch = self.launch
        config = _in_memory(
            {
                "argv": list(launch.argv),
                "env": dict(launch.env),
                "cwd": str(launch.cwd),
                "log": str(launch.log),
                "uid": launch.uid,
                "gid": launch.gid,
            }
        )
        try:
            inherited = (life.fileno(), channel.fileno(), config)
            command = [sys.executable, "-I", "-S", str(PROGRAM), *map(str, inherited)]
            self._supervisor = subprocess.Popen(
                command, pass_fds=inherited, stdin=subprocess.DEVNULL, start_new_session=True
            )
        finally:
            life.close()
            channel.close()
            os.close(config)
        self._life.setblocking(False)
        self._channel.setblocking(False)
        started: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._life, self._hear_life, started)
        self._loop.add_reader(self._channel, self._hear_channel)
        self.pid = await started

    def signal(self, number: int) -> None:
        """Send a signal to process 1."""
        with contextlib.suppress(OSError):
            self._life.send(str(int(number)).encode())

    async def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, streams: Sequence[int], tty: bool = False
    ) -> Process:
        """Start a process with these three descriptors; raises StartError."""
        number = next(self._numbers)
        request = _Request(self._loop.create_future(), self._loop.create_future())
        self._requests[number] = request
        told = {"id": number, "argv": list(argv), "env": dict(env), "cwd": str(cwd), "tty": tty}
        memory = _in_memory(told)
        try:
            await self._send([memory, *streams])
        except OSError:
            self._fail(request)
        finally:
            os.close(memory)
        return Process(await request.started, request.exited)

    def park(self, process: Process, descriptors: list[int]) -> None:
        """Keep descriptors open until a process has ended. They are not read, and the process must not notice."""

        def close(dummy: object) -> None:
            while descriptors:
                os.close(descriptors.pop())

        process.exited.add_done_callback(close)

    async def close(self) -> None:
        """End everything in the container at once, and wait for that."""
        if self._life.fileno() >= 0:
            self.signal(signal.SIGKILL)
        self._hang_up()
        await self._loop.run_in_executor(None, self._supervisor.wait)
        if not self.ended.done():
            self.ended.set_result(KILLED)

    async def _send(self, descriptors: list[int]) -> None:
        while True:
            try:
                socket.send_fds(self._channel, [b"spawn"], descriptors)
            except BlockingIOError:
                await asyncio.sleep(0.001)
            else:
                return

    def _hear_life(self, started: asyncio.Future[int]) -> None:
        try:
            message = self._life.recv(1024)
        except BlockingIOError:
            return
        told = json.loads(message) if message else {"status": -signal.SIGKILL}
        if not started.done():
            if "pid" in told:
                started.set_result(told["pid"])
            else:
                started.set_exception(StartError(told.get("error", 0)))
        if "status" in told:
            self._end(exit_code(told["status"]))

    def _end(self, code: int) -> None:
        self._hang_up()
        if not self.ended.done():
            self.ended.set_result(code)
        self._loop.run_in_executor(None, self._supervisor.wait)

    def _hang_up(self) -> None:
        for channel in (self._life, self._channel):
            if channel.fileno() >= 0:
                self._loop.remove_reader(channel)
                channel.close()
        for request in self._requests.values():
            self._fail(request)
        self._requests.clear()

    @staticmethod
    def _fail(request: _Request) -> None:
        if not request.started.done():
            request.started.set_exception(StartError(0))
        if not request.exited.done():
            request.exited.set_result(KILLED)

    def _hear_channel(self) -> None:
        try:
            message = self._channel.recv(1024)
        except BlockingIOError:
            return
        if not message:  # the spawner has been killed, with all that it had started
            self._loop.remove_reader(self._channel)
            for lost in self._requests.values():
                self._fail(lost)
            self._requests.clear()
            return
        told = json.loads(message)
        request = self._requests.get(told["id"])
        if request is None:
            return
        if "status" in told:
            del self._requests[told["id"]]
            request.exited.set_result(exit_code(told["status"]))
            return
        if told["error"]:
            del self._requests[told["id"]]
            request.exited.cancel()
        if request.started.done():  # the client that asked has disconnected
            return
        if told["error"]:
            request.started.set_exception(StartError(told["error"]))
        else:
            request.started.set_result(told["pid"])
