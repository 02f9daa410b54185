"""Processes that are forked where all their imports are there already (``fork_server.py``): modules, and runs of playbooks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tests.support.servers import without_pg_variables
from tests.support.workspace import REPOSITORY, workspace

HERE = Path(__file__).parent
COLLECTIONS = REPOSITORY / ".venv" / "collections"
CHUNK = 1 << 16


class ForkServer:
    """The process that forks. Any thread may ask it; it ends with us, since nothing else holds its standard input.

    Attributes:
        path: of the socket where it listens.
    """

    def __init__(self, kind: str, env: Mapping[str, str]) -> None:
        """Start it; ``env`` is what counts while it imports."""
        folder = Path(tempfile.mkdtemp(prefix="fork-", dir=workspace()))
        folder.chmod(0o755)
        self.path = folder / "socket"
        self._errors = os.memfd_create(kind)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(self.path))
            listener.listen()
            self._process = subprocess.Popen(
                [sys.executable, str(HERE / "fork_server.py"), kind, str(listener.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[listener.fileno()],
                env={**env, "PYTHONPATH": str(COLLECTIONS), "PYTHONSAFEPATH": "1"},
                cwd="/",
                start_new_session=True,
            )
        self._owner = os.getpid()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End it; a fork of ours does not."""
        if self._owner == os.getpid():
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            os.close(self._errors)

    def start(self, message: bytes, streams: list[int]) -> tuple[int, socket.socket]:
        """Start a program; returns its process id and a socket that has its exit status in the end."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            connection.connect(str(self.path))
            socket.send_fds(connection, [message], streams)
            if told := connection.recv(CHUNK):
                return int(told), connection
        connection.close()
        raise RuntimeError(f"nothing can be started\n{os.pread(self._errors, CHUNK, 0).decode(errors='replace')}")


_servers: dict[tuple[int, str], ForkServer] = {}
_starting = threading.Lock()


def _server(kind: str, env: Mapping[str, str]) -> ForkServer:
    """The server of this process for programs of a kind, started with this environment when it is first wanted."""
    key = os.getpid(), kind
    with _starting:
        if key not in _servers:
            _servers[key] = ForkServer(kind, env)
        return _servers[key]


@functools.cache
def forked_python() -> Path:
    """A program to name as ``ansible_python_interpreter``: modules run as in any Python, but it is forked for each."""
    server = _server("payloads", without_pg_variables())
    command = [sys.executable, "-I", "-S", str(HERE / "python_client.py"), str(server.path)]
    program = server.path.with_name("python")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return program


class ForkedProcess:
    """A program's process, in a session of its own. It has as much of ``subprocess.Popen`` as is needed to wait for it.

    Attributes:
        pid: its process id.
        returncode: as that of Popen, once the process has ended.
    """

    def __init__(
        self,
        kind: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        stdin: bytes = b"",
        cwd: Path = Path("/"),
        imports: Collection[str] = (),
        one_output: bool = False,
    ) -> None:
        """Start it.

        ``imports`` is what it imports within functions, and is imported once for all that follow. What variables do when
        Python starts, or while it imports, those of the first process of its kind do. With ``one_output`` errors
        are among the output.
        """
        wanted = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "imports": list(imports)}
        server = _server(kind, env)
        self.returncode: int | None = None
        with contextlib.ExitStack() as opened:
            given = opened.enter_context(os.fdopen(os.memfd_create("stdin"), "wb"))
            given.write(stdin)
            given.seek(0)
            outputs, ends = zip(*(os.pipe() for dummy in range(1 if one_output else 2)), strict=True)
            for end in ends:
                opened.callback(os.close, end)
            self.pid, self._status = server.start(json.dumps(wanted).encode(), [given.fileno(), ends[0], ends[-1]])
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
        output, *errors = map(bytes, self._texts.values())
        return output, b"".join(errors)

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
