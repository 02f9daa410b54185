"""Processes: their children, whether they are alive, and ending those of the tests with the tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
IPC_RMID = 0
LIBC = ctypes.CDLL(None, use_errno=True)


def processes() -> Iterator[tuple[int, int]]:
    """Yield (id, parent's id) of every process that is not a zombie."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state != "Z":
                yield int(stat.parent.name), int(parent)


def children(parent: int) -> list[int]:
    """Return the ids of a process's children."""
    return [pid for pid, its_parent in processes() if its_parent == parent]


def alive(pid: int) -> bool:
    """Tell whether a process is there and no zombie."""
    return any(pid == each for each, dummy in processes())


def command_lines() -> dict[int, str]:
    """Return the command line of every process: where a secret must never be."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[int(file.parent.name)] = file.read_text(errors="replace").replace("\0", " ").strip()
    return found


def kill_family(parent: int) -> list[int]:
    """Kill a process and then its children, as a power cut would; returns the children's ids."""
    family = children(parent)
    for pid in (parent, *family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return family


def until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait for the condition; tell whether it came true in time."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def die_with_the_parent() -> None:
    """In a child after it dropped root: have the kernel send SIGQUIT when the thread that started it ends.

    To PostgreSQL that means to shut down at once. Dropping root later would undo it.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)


def remove_shared_memory(segment: int) -> None:
    """Remove a System V shared memory segment if it is there."""
    LIBC.shmctl(segment, IPC_RMID, None)
