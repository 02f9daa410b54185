# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container to work in: shells that are kept, what may be repeated, and how processes are ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from .._errors import ObjectNotFound, RunbookError
from .cluster import Cluster, is_passing
from .shell import Container, Ended, Shell, TimedOut
from .workload import refuse_another

_T = TypeVar("_T")
_RETRY_S = 1.0
_FORCE_S = 10.0
_TAKE_LEAVE_S = 0.1
_SHELLS = ("sh", "ash", "bash", "dash", "busybox")
_LIST = """for f in /proc/[0-9]*/stat; do { read -r s <"$f"; } 2>/dev/null && printf '%s\\n' "$s"; done; exit 0"""
_KILL = 'n=$1; shift; for p; do kill -s "$n" "$p" 2>/dev/null; done; exit 0'


class Pod:
    """One container of one pod, for as long as it is the same one.

    Args:
        patience_s: how long, in seconds, what may be repeated is repeated while the API server or the kubelet is away.
    """

    def __init__(self, cluster: Cluster, container: Container, patience_s: float) -> None:
        self.cluster = cluster
        self.container = container
        self._patience_s = patience_s
        self._idle: list[Shell] = []
        self._lock = threading.Lock()
        self._cut = False  # since the last look whether it is the same container

    @property
    def name(self) -> str:
        """For messages."""
        return f"pod {self.cluster.namespace}/{self.container.pod}"

    def run(
        self,
        script: str,
        *args: str,
        sink: Callable[[bytes], object] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Ended:
        """Run a script once. If the connection is cut meanwhile, nobody knows how it ended: that raises StreamCut.

        Raises:
            TimedOut: it ran longer than `timeout` seconds and was ended.
        """
        pids: list[int] = []
        with self._shell() as shell:
            try:
                return shell.run(script, args, sink or _ignore, env=env, timeout=timeout, started=pids.append)
            except TimedOut:
                self.end(pids)
                raise
            except RunbookError:
                self._cut = True
                raise
            except BaseException:
                with suppress(RunbookError):  # what comes now has its own reason
                    self.end(pids)
                raise

    def repeat(self, script: str, *args: str, env: Mapping[str, str] | None = None) -> tuple[Ended, bytes]:
        """Run a script that does no harm when it is run again, until its end is known. Returns its output, too."""

        def attempt() -> tuple[Ended, bytes]:
            output = bytearray()
            return self.run(script, *args, sink=output.extend, env=env), bytes(output)

        return self._patiently(attempt)

    def stop(self, pid: int, signum: int) -> None:
        """Ask a program to end. A shell's pipeline is asked first: it would not end with the shell.

        A child has to be taken leave of by its own parent, hence the pause before that is asked, too.
        """
        programs = self._tree().programs_below(pid)
        self._signal(signum, programs)
        if programs != [pid]:
            time.sleep(_TAKE_LEAVE_S)
            self._signal(signum, [pid])

    def end(self, pids: Sequence[int]) -> None:
        """End processes and what they started by force, the youngest first.

        Only a process whose parent lives on is killed, so that process 1 never has to take one over: PostgreSQL there
        would take it for a backend that has crashed. Who starts children faster than that is killed before them.
        """
        started = time.monotonic()
        while time.monotonic() < started + _FORCE_S:
            tree = self._tree()
            if not tree.running(pids):
                return
            hurried = time.monotonic() > started + _FORCE_S / 4
            self._signal(signal.SIGKILL, [*tree.leaves(pids), *(tree.living(pids) if hurried else [])])

    def _tree(self) -> ProcessTree:
        return ProcessTree(self.repeat(_LIST)[1].decode("utf-8", "replace"))

    def _signal(self, signum: int, pids: Sequence[int]) -> None:
        self.repeat(_KILL, signal.Signals(signum).name[3:], *map(str, pids))

    def close(self) -> None:
        """End the shells that are kept."""
        with self._lock:
            shells, self._idle = self._idle, []
        for shell in shells:
            shell.close()

    @contextmanager
    def _shell(self) -> Iterator[Shell]:
        shell = self._take()
        try:
            yield shell
        except BaseException:
            shell.close()
            raise
        with self._lock:
            self._idle.append(shell)

    def _take(self) -> Shell:
        while True:
            with self._lock:
                shell = self._idle.pop() if self._idle else None
            if shell is None:
                break
            if shell.is_alive():
                return shell
            shell.close()
        if self._cut:
            refuse_another(self.cluster, self.container)
            self._cut = False
        try:
            return Shell(self.cluster, self.container)
        except ObjectNotFound:
            refuse_another(self.cluster, self.container)
            raise

    def _patiently(self, attempt: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return attempt()
            except RunbookError as exc:
                if not is_passing(exc) or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_S)


def _ignore(_data: bytes) -> None:
    """Where the output of a script goes that nobody wants."""


class ProcessTree:
    """Who started whom, from lines of /proc/<pid>/stat (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html)."""

    def __init__(self, listing: str) -> None:
        self._parents: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._dead: set[int] = set()
        for line in listing.splitlines():
            head, dummy, tail = line.rpartition(") ")  # the name in parentheses may hold anything
            number, dummy, name = head.partition(" (")
            state, parent = tail.split()[:2]
            self._parents[int(number)] = int(parent)
            self._names[int(number)] = name
            if state in "ZX":
                self._dead.add(int(number))

    def living(self, pids: Iterable[int]) -> list[int]:
        """Those that run."""
        return [pid for pid in pids if pid in self._parents and pid not in self._dead]

    def children(self, pid: int) -> list[int]:
        """Those that it started and that run."""
        return self.living(child for child, parent in self._parents.items() if parent == pid)

    def running(self, pids: Iterable[int]) -> list[int]:
        """Those of these and of all below them that run."""
        return self.living(sorted(self._family(pids)))

    def leaves(self, pids: Iterable[int]) -> list[int]:
        """Those that run and have no child, not even a dead one. There may be none for a moment although some run."""
        family = self._family(pids)
        busy = {self._parents[pid] for pid in family}
        return self.living(sorted(family - busy))

    def _family(self, pids: Iterable[int]) -> set[int]:
        family = {pid for pid in pids if pid in self._parents}
        while more := {pid for pid, parent in self._parents.items() if parent in family} - family:
            family |= more
        return family

    def programs_below(self, pid: int) -> list[int]:
        """The process itself, or, if it is a shell that has started something, what it started."""
        children = self.children(pid) if self._names.get(pid) in _SHELLS else []
        return [program for child in children for program in self.programs_below(child)] or [pid]
