# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container to work in: shells that are kept, what may be repeated, and how processes are ended."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from .._errors import ClusterRefused, ClusterUnreachable, ObjectNotFound, RunbookError, WorkloadProblem
from .cluster import Cluster, is_passing
from .shell import Container, ScriptEnd, Shell, TimedOut
from .workload import refuse_another

_T = TypeVar("_T")
_RETRY_S = 1.0
_ASK = 'runbook_ask "$1" "$2"'
_END = 'runbook_end "$@"'


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
        self._closings = 0
        self._cut = False  # since the last look whether it is the same container
        #: Raises what keeps anything from being done here any more; called before each script.
        self.check: Callable[[], object] = _nothing

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
        lasting: bool = False,
        checked: bool = True,
    ) -> ScriptEnd:
        """Run a script once. If the connection is cut meanwhile, it is not known how it ended: that raises StreamCut.

        Args:
            lasting: a cut connection does not end it, as `Shell.run` says.
            checked: whether `check` has a say.

        Raises:
            TimedOut: it ran longer than `timeout` seconds and was ended.
        """
        if checked:
            self.check()
        pids: list[int] = []
        with self._shell() as shell:
            try:
                return shell.run(
                    script, args, sink or _nothing, env=env, timeout=timeout, started=pids.append, lasting=lasting
                )
            except TimedOut:
                self.end(pids)
                raise
            except RunbookError as exc:
                self._cut = True
                if isinstance(exc, WorkloadProblem):
                    with suppress(ClusterUnreachable, ClusterRefused):  # what is known already has to do
                        refuse_another(self.cluster, self.container)  # it says why
                raise
            except BaseException:
                with suppress(RunbookError):  # what comes now has its own reason
                    self.end(pids)
                raise

    def repeat(
        self,
        script: str,
        *args: str,
        env: Mapping[str, str] | None = None,
        lasting: bool = False,
        checked: bool = True,
    ) -> tuple[ScriptEnd, bytes]:
        """Run a script that does no harm when it is run again, until its end is known. Returns its output, too."""

        def attempt() -> tuple[ScriptEnd, bytes]:
            output = bytearray()
            done = self.run(script, *args, sink=output.extend, env=env, lasting=lasting, checked=checked)
            return done, bytes(output)

        return self._patiently(attempt)

    def stop(self, pid: int, signum: int) -> None:
        """Ask a program to end. Of a shell's pipeline the programs are asked: they would not end with the shell."""
        self.repeat(_ASK, signal.Signals(signum).name[3:], str(pid))

    def end(self, pids: Sequence[int]) -> None:
        """End processes and what they started by force, as `processes` says."""
        if pids:
            self.repeat(_END, *map(str, pids), checked=False)

    def refuse_replaced(self) -> None:
        """Raise WorkloadProblem unless it is still the same container."""
        with suppress(ClusterUnreachable):  # then it cannot be found out
            refuse_another(self.cluster, self.container)

    def close(self) -> None:
        """End the shells that are kept, and those at work as soon as they are done."""
        with self._lock:
            shells, self._idle = self._idle, []
            self._closings += 1
        for shell in shells:
            shell.close()

    @contextmanager
    def _shell(self) -> Iterator[Shell]:
        closings = self._closings
        shell = self._take()
        try:
            yield shell
        except BaseException:
            shell.close()
            raise
        with self._lock:
            keep = closings == self._closings
            if keep:
                self._idle.append(shell)
        if not keep:
            shell.close()

    def _take(self) -> Shell:
        while True:
            with self._lock:
                shell = self._idle.pop() if self._idle else None
            if shell is None:
                break
            if shell.is_alive():
                return shell
            shell.close()
            self._cut = True
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


def _nothing(*_args: object) -> None:
    """Where output goes that is not wanted."""
