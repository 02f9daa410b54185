# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target that is the host the module runs on: its programs."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO, cast

from .._errors import InvalidInput, ProgramMissing
from .base import Completed, Endpoint, command_failed
from .local_files import LocalFiles, file_problem

_STDERR_LIMIT = 64 * 1024
_PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def _dies_with_us(death_signal: int) -> Callable[[], None]:
    """A function for the forked child: the kernel sends it `death_signal` when this process dies, however it dies."""
    parent = os.getpid()

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _popen(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    user: str | None,
    stdin: int | BinaryIO,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    full_env = {**os.environ, "LC_ALL": "C", **(env or {})}
    account = None
    if user is not None:
        account = _account(user)
        full_env.update(HOME=account.pw_dir, USER=user, LOGNAME=user)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=full_env,
            cwd="/",  # another user may not enter ours, and no path below is relative
            umask=0o077,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[account.pw_gid] if account else None,
            # Only prctl() runs between fork and exec, so threads are no danger.
            preexec_fn=_dies_with_us(death_signal),  # noqa: PLW1509
            start_new_session=True,  # a terminal's Ctrl-C reaches us alone, and we end the program in order
        )
    except FileNotFoundError:
        raise ProgramMissing(
            "A program is missing", subject=argv[0], remedy="Install it, or name its directory with bin_dir."
        ) from None
    except PermissionError as exc:
        raise ProgramMissing(
            "A program cannot be started",
            subject=argv[0],
            why=f"{exc.strerror}" + (f" for the account {user}" if user else ""),
            remedy="Every directory above it must be open to that account.",
        ) from None
    except (OSError, ValueError) as exc:
        raise InvalidInput("A program cannot be started", subject=argv[0], why=str(exc)) from None


def _account(user: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise InvalidInput("There is no such account on this host", subject=user, remedy="Create it.") from None


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    """Signal the program and what it started: it leads a session, and so a process group, of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signum)


class _PipeTail:
    """Reads a pipe to its end and keeps the last bytes, so that a talkative program costs no memory."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._data = b""
        self._thread = threading.Thread(target=self._pump, args=(pipe,), daemon=True)
        self._thread.start()

    def _pump(self, pipe: IO[bytes]) -> None:
        for chunk in iter(lambda: pipe.read(8192), b""):
            self._data = (self._data + chunk)[-_STDERR_LIMIT:]

    def result(self) -> bytes:
        self._thread.join()
        return self._data


class LocalBackgroundJob:
    """A child process whose messages go to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: str, stop_signal: int) -> None:
        self._process = process
        self._log = log
        self._stop_signal = stop_signal

    @property
    def log(self) -> str:
        return self._log

    @property
    def pid(self) -> int:
        """The process id on this host."""
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace_s: float = 10.0) -> None:
        status = self._process.poll()
        if status is not None and status >= 0:
            return  # it ended by itself, in order
        if status is None:
            # The group is the program's own (start_new_session): a shell's pipeline ends as a whole.
            _signal_group(self._process, self._stop_signal)
            self.wait(grace_s)
        _signal_group(self._process, signal.SIGKILL)  # a leader that was killed could not end its own workers
        self._process.wait()

    def tail(self, limit: int = 4096) -> str:
        try:
            with open(self._log, "rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - limit))
                return stream.read().decode("utf-8", "replace").strip()
        except OSError:
            return ""


class LocalTarget:
    """This host."""

    name = "this host"
    connections_may_break = False

    def __init__(self) -> None:
        self.files = LocalFiles()

    def refuse_replaced(self) -> None:
        return

    def cpus(self) -> int:
        try:
            return max(1, len(os.sched_getaffinity(0)))
        except AttributeError:  # not on every platform
            return os.cpu_count() or 1

    def memory_bytes(self) -> int:
        # https://docs.kernel.org/filesystems/proc.html#meminfo
        with suppress(OSError), open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2

    def unprivileged_user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        for name in ("postgres", "nobody"):
            try:
                return pwd.getpwnam(name).pw_name
            except KeyError:
                continue
        raise InvalidInput(
            "No account to run a server with",
            why="PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody",
            remedy="Create an account named postgres.",
        )

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        timeout: float | None = None,
        user: str | None = None,
    ) -> Completed:
        started = time.monotonic()
        process = _popen(
            argv,
            env=env,
            user=user,
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=stdout if stdout is not None else subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _signal_group(process, signal.SIGKILL)

        timer = threading.Timer(timeout, expire) if timeout is not None else None
        with process:  # closes the pipes
            tail = _PipeTail(cast("IO[bytes]", process.stderr))
            try:
                if timer:
                    timer.start()
                output = process.stdout.read() if process.stdout is not None else b""
                returncode = process.wait()
                messages = tail.result()
            except BaseException:
                _signal_group(process, signal.SIGKILL)
                tail.result()
                raise
            finally:
                if timer:
                    timer.cancel()
        done = Completed(output, messages, time.monotonic() - started)
        if returncode != 0:
            raise command_failed(argv[0], returncode, done.stderr, timeout if expired.is_set() else None)
        return done

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: str,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> LocalBackgroundJob:
        try:
            stream = os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        except OSError as exc:
            raise file_problem("A log file cannot be written", log, exc) from None
        with stream:
            process = _popen(
                argv,
                env=env,
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                death_signal=stop_signal,
            )
        return LocalBackgroundJob(process, log, stop_signal)

    @contextmanager
    def endpoint(self, host: str | None, port: int | None) -> Iterator[Endpoint]:
        yield Endpoint(host, port)
