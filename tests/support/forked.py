"""Processes of modules that are forked where all their imports are there already (``module_server.py``)."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tests.support.workspace import REPOSITORY

COLLECTIONS = REPOSITORY / ".venv" / "collections"
CHUNK = 1 << 16


class ModuleServer:
    """The process that forks. Any thread may ask it; it ends with us, since nothing else holds its socket."""

    def __init__(self) -> None:
        """Start it."""
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = os.memfd_create("module_server")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("module_server.py"))],
                stdin=theirs,
                stdout=self._errors,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": str(COLLECTIONS), "PYTHONSAFEPATH": "1"},
                cwd="/",
                start_new_session=True,
            )
        self._owner = os.getpid()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End it; a fork of ours does not."""
        if self._owner == os.getpid():
            self._control.close()
            self._process.wait()
            os.close(self._errors)

    def start(self, message: bytes, descriptors: list[int]) -> tuple[int, socket.socket]:
        """Start a module; returns its process id and a socket that has its exit status in the end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._control, [message], [*descriptors, theirs.fileno()])
        told = ours.recv(CHUNK)
        if not told:
            raise RuntimeError(f"no module can be started\n{os.pread(self._errors, CHUNK, 0).decode(errors='replace')}")
        return int(told), ours


@functools.cache
def _server(_process_id: int) -> ModuleServer:
    return ModuleServer()


class ForkedProcess:
    """A module's process, in a session of its own. It has as much of ``subprocess.Popen`` as is needed to wait for it.

    Attributes:
        pid: its process id.
        returncode: as that of Popen, once the process has ended.
    """

    def __init__(self, module: str, stdin: bytes, env: Mapping[str, str], imports: Collection[str] = ()) -> None:
        """Start it; ``imports`` is what it imports within functions, and is imported once for all that follow."""
        message = json.dumps({"name": module, "env": dict(env), "imports": list(imports)}).encode()
        self.returncode: int | None = None
        with contextlib.ExitStack() as opened:
            given = opened.enter_context(os.fdopen(os.memfd_create("stdin"), "wb"))
            given.write(stdin)
            given.seek(0)
            outputs, ends = zip(os.pipe(), os.pipe(), strict=True)
            for end in ends:
                opened.callback(os.close, end)
            self.pid, self._status = _server(os.getpid()).start(message, [given.fileno(), *ends])
        self._texts = {output: bytearray() for output in outputs}
        self._open = selectors.DefaultSelector()
        for each in (*outputs, self._status.fileno()):
            self._open.register(each, selectors.EVENT_READ)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Wait for the end of its output, its errors and itself. Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._open.get_map():
            left = None if end is None else end - time.monotonic()
            ready = self._open.select(left) if left is None or left > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            for key, _events in ready:
                self._read(key.fd)
        self._open.close()
        output, errors = map(bytes, self._texts.values())
        return output, errors

    def _read(self, number: int) -> None:
        content = os.read(number, CHUNK)
        if number in self._texts and content:
            self._texts[number] += content
            return
        self._open.unregister(number)
        if number in self._texts:
            os.close(number)
        else:
            self.returncode = int(content)
            self._status.close()
