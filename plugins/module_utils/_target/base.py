# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WHERE work happens: the one interface between the operations and a machine, a pod, or whatever comes next.

A target runs programs, keeps files and says where libpq can connect. The operations know nothing else of it,
and every implementation passes the same contract cases (`tests/database/target_contract.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from .._errors import CommandFailed


@dataclass(frozen=True)
class Completed:
    """A program that ended with status 0.

    Attributes:
        stdout: its whole output, or empty when it was streamed elsewhere.
        stderr: the last 64 KiB of its messages.
        duration_s: wall time in seconds.
    """

    stdout: bytes
    stderr: bytes
    duration_s: float

    @property
    def text(self) -> str:
        """The output as text, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")


def describe_status(returncode: int) -> str:
    """An exit status in words; negative numbers are signals, as in Python's subprocess module."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        return f"was ended by signal {-returncode} ({signal.Signals(-returncode).name})"
    except ValueError:
        return f"was ended by signal {-returncode}"


def command_failed(program: str, returncode: int, stderr: bytes, timeout: float | None = None) -> CommandFailed:
    """The error for a program that did not end well, or not within `timeout` seconds."""
    name = os.path.basename(program)
    text = stderr.decode("utf-8", "replace").strip()
    fate = f"ran longer than {timeout:g} s and was ended" if timeout is not None else describe_status(returncode)
    return CommandFailed(
        f"{name} {fate}",
        why=text[-2000:],
        details={"program": name, "returncode": returncode, "messages": text[-4096:]},
    )


@dataclass(frozen=True)
class Endpoint:
    """What libpq connects to: a host name or a socket directory, and a port."""

    host: str | None
    port: int | None


@dataclass(frozen=True)
class FileInfo:
    """A directory entry. `path` is absolute, `size_bytes` is 0 for directories, `modified` is a UNIX time.

    `irregular` is what is neither a file nor a directory: a link that was not followed, a socket, a pipe.
    """

    path: str
    is_dir: bool
    size_bytes: int
    modified: float
    irregular: bool = False

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Space:
    """Room on the file system of a path, in bytes, as an unprivileged writer sees it.

    Two paths with the same `device` lie on the same file system. `used_bytes` is what files take up, None if it is not
    known: the blocks that are reserved for root are neither used nor free (statvfs: f_bfree and f_bavail).
    """

    free_bytes: int
    total_bytes: int
    device: str = ""
    used_bytes: int | None = None


class BackgroundJob(Protocol):
    """A program that runs beside us. It never outlives the work: `stop` ends it, and so does our own death."""

    @property
    def log(self) -> str:
        """The path of the file, on the target, that takes its messages."""

    def poll(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it ends, for at most `timeout` seconds; the status, or None if it still runs."""

    def stop(self, grace_s: float = 10.0) -> None:
        """End it politely, and by force after `grace_s` seconds. Returns when it has ended; harmless afterwards."""

    def tail(self, limit: int = 4096) -> str:
        """The last `limit` bytes of its messages as text."""


class Files(Protocol):
    """Files of the target. Every path is absolute; every failure raises FileProblem with the path and the reason."""

    def info(self, path: str) -> FileInfo | None:
        """What is at the path (links followed), or None if there is nothing."""

    def entries(self, path: str) -> list[FileInfo]:
        """The entries of a directory, sorted by name; links are not followed."""

    def walk(self, path: str) -> list[FileInfo]:
        """Every regular file below a directory, sorted by path.

        Anything else that is found raises FileProblem, with `irregular` in its details.
        """

    def trees(self, paths: Sequence[str]) -> Iterator[tuple[str, list[FileInfo] | None]]:
        """Each directory with all that is below it but directories, sorted by path; links are not followed.

        They are read as they are asked for, some at a time. None for one that cannot be read, or not to its end.
        """

    def glob(self, pattern: str) -> list[str]:
        """Existing paths that match a shell pattern, sorted."""

    def read(self, path: str, limit: int = 256 * 1024 * 1024) -> bytes:
        """The content of a small file; more than `limit` bytes raise FileProblem."""

    def stream(self, sizes: Mapping[str, int], sink: Callable[[bytes], object], skip: int = 0) -> None:
        """Pass on the content of files, in this order and in pieces, without the first `skip` bytes of it all.

        `sizes` says how large they are; another size raises FileProblem. A cut connection is only a delay.
        """

    def write(self, path: str, data: bytes) -> None:
        """Put `data` at the path: whole, durable, mode 0600, or not at all (temporary name, fsync, rename)."""

    def make_dir(self, path: str, owner: str | None = None) -> None:
        """Create a directory of mode 0700 and its missing parents; fine if it is there. `owner` may get it."""

    def rename(self, source: str, destination: str) -> None:
        """Rename within one file system, durably; an existing destination raises FileProblem."""

    def remove_tree(self, path: str) -> None:
        """Remove a file or a directory with all below it; never follows a link; fine if it is not there."""

    def remove_file(self, path: str) -> None:
        """Remove one regular file; fine if it is not there. No part of the path may be a link."""

    def resolve(self, path: str) -> str:
        """The path of a directory with every link in it followed."""

    def sync_tree(self, path: str) -> None:
        """Tighten modes to 0600 and 0700 and make everything below the path durable."""

    def sha256(self, paths: Sequence[str], jobs: int = 1) -> dict[str, str]:
        """The SHA-256 of each file, as lower-case hexadecimal digits, `jobs` files at a time."""

    def space(self, path: str) -> Space:
        """Room on the file system that holds the path, or its nearest existing parent."""

    def writable(self, path: str) -> bool:
        """Whether a directory, or its nearest existing parent, takes new entries from us."""

    def lock(self, path: str, purpose: str) -> AbstractContextManager[None]:
        """Hold an exclusive lock; it ends with us, however we end. Raises Locked, naming the holder, almost at once."""

    def lock_holder(self, path: str) -> str | None:
        """The holder of the lock, in words, or None. Asking keeps no other run from taking it."""


class Target(Protocol):
    """A place where PostgreSQL's programs run."""

    @property
    def name(self) -> str:
        """How messages call it, for example `this host` or `pod godel/postgres-0`."""

    @property
    def connections_may_break(self) -> bool:
        """Whether what `endpoint` leads through may be cut while the server and the target's programs live on."""

    def refuse_replaced(self) -> None:
        """Raise WorkloadProblem if the place is another one by now: a pod that was deleted, a container that restarted.

        After a connection was lost; a host is always the same one.
        """

    @property
    def files(self) -> Files:
        """Its files."""

    def cpus(self) -> int:
        """How many CPUs a program there can use, at least 1."""

    def memory_bytes(self) -> int:
        """How much memory a program there can take now without harm to others."""

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
        """Run a program to its end. `env` is added to the environment and is the only way for secrets.

        Raises:
            ProgramMissing: there is no such program.
            CommandFailed: any status but 0, or longer than `timeout` seconds.
        """

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: str,
        user: str | None = None,
        stop_signal: int = 15,
    ) -> BackgroundJob:
        """Start a program beside us, its output in the file `log`; it is sent `stop_signal` when it has to end."""

    def endpoint(self, host: str | None, port: int | None) -> AbstractContextManager[Endpoint]:
        """Where libpq reaches the server that is at this host and port as seen from the target."""

    def unprivileged_user(self) -> str | None:
        """The account for a server (PostgreSQL refuses to run as root), or None when we are not root."""
