# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we leave running in a container ends when we do.

A program that is detached outlives the connection, as it should, and would outlive us as well. So as long as anything
of ours runs there, a thread writes a new number into a file every few seconds, and who watches it ends when the number
stays the same. It removes the file then: so we learn of it when we come back, and do nothing more without our locks.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from uuid import uuid4

from .._errors import ClusterUnreachable, FileProblem, RunbookError, WorkloadProblem
from .pod import Pod
from .shell import TimedOut
from .workload import refuse_another

_RENEWALS = 6
_LAPSED = 7
_MAKE = """
for d in "$TMPDIR" /tmp /var/tmp /dev/shm; do
    if [ -n "$d" ] && [ -d "$d" ] && [ -w "$d" ]; then
        d=$d/.pg_runbook_$1
        { [ -d "$d" ] || mkdir "$d"; } && echo 0 >"$d/lease" && printf %s "$d" && exit 0
    fi
done
exit 1
"""
_RENEW = f'[ -e "$1/lease" ] || exit {_LAPSED}; echo "$2" >"$1/lease"'
_REMOVE = 'rm -rf -- "$1"'


class Lease:
    """A directory in the container, made for the first who needs it and removed with the last.

    While somebody has it, nothing is done in the container (`Pod.check`) unless it is known not to have lapsed.
    """

    def __init__(self, pod: Pod, duration_s: float) -> None:
        self._pod = pod
        self.duration_s = duration_s
        self._users = 0
        self._lock = threading.Lock()
        self._directory = ""
        self._ended = threading.Event()
        self._numbers = itertools.count(1)
        self._renewed = 0.0  # by the clock of the wall, which runs on while this host sleeps
        self._lapsed = ""  # the directory whose lease has
        pod.check = self.check

    def acquire(self) -> str:
        """Keep the lease for one more user; returns its directory, which has the number in the file `lease`."""
        with self._lock:
            if self._users == 0:
                made = time.time()
                done, output = self._pod.repeat(_MAKE, uuid4().hex[:12])
                if done.returncode != 0:
                    raise FileProblem(
                        "There is no directory for what runs in the container",
                        subject=self._pod.name,
                        why="none of $TMPDIR, /tmp, /var/tmp and /dev/shm can be written",
                        remedy="Mount an emptyDir at /tmp.",
                    )
                self._directory = output.decode()
                self._renewed = made
                self._ended = threading.Event()
                threading.Thread(target=self._keep, args=(self._directory, self._ended), daemon=True).start()
            self._users += 1
            return self._directory

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._ended.set()
                with suppress(RunbookError):  # what watches it there removes it, too
                    self._pod.run(_REMOVE, self._directory, checked=False)

    def check(self) -> None:
        """Make sure that what runs there, and our locks, are still ours.

        Raises:
            WorkloadProblem: they are not.
        """
        if self._users == 0:
            return
        if self._lapsed != self._directory and abs(time.time() - self._renewed) > self.duration_s / 2:
            self._renew(self._directory)
        if self._lapsed == self._directory:
            refuse_another(self._pod.cluster, self._pod.container)
            raise WorkloadProblem(
                "The lock was lost",
                subject=self._pod.name,
                why=f"the connection was away for some {self.duration_s:g} s, and what ran there was ended",
                remedy="Nothing more was done. Run this again.",
            )

    def _keep(self, directory: str, ended: threading.Event) -> None:
        while not ended.wait(self.duration_s / _RENEWALS):
            with suppress(RunbookError):
                self._renew(directory)

    def _renew(self, directory: str) -> None:
        began = time.time()
        number = str(next(self._numbers))
        try:
            done = self._pod.run(_RENEW, directory, number, timeout=self.duration_s, checked=False)
        except TimedOut:
            raise ClusterUnreachable("The container does not answer", subject=self._pod.name) from None
        if done.returncode == 0:
            self._renewed = began
        elif done.returncode == _LAPSED:
            self._lapsed = directory
