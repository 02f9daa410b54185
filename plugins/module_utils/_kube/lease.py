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
import math
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
# A lease is a line: its number, when it was renewed by the kernel's monotonic clock, which boot of which
# kernel that is, and for how many seconds it counts.
_NOW = """
up=0 boot=-
{ read -r up rest </proc/uptime; } 2>/dev/null; up=${up%%.*}
{ read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
"""
# $1 name, $2 seconds. What killed runs have left is removed: a lease that was renewed by the same kernel and has lapsed
# twice over. What cannot be judged so, on a volume that other nodes see as well, is left for two days.
_MAKE = f"""{_NOW}
made=
for base in "$TMPDIR" /tmp /var/tmp /dev/shm; do
    [ -n "$base" ] && [ -d "$base" ] && [ -w "$base" ] || continue
    for old in "$base"/.pg_runbook_*; do
        [ -d "$old" ] && [ ! -L "$old" ] && [ -O "$old" ] || continue
        number= seen= where= lasts=
        [ -f "$old/lease" ] && {{ read -r number seen where lasts <"$old/lease"; }} 2>/dev/null
        case $seen:$lasts in :* | *: | *[!0-9:]*) where= ;; esac
        if [ "$where" = "$boot" ] && [ "$boot" != - ]; then
            [ $((up - seen)) -le $((2 * lasts)) ] || rm -rf -- "$old"
        else
            aged=$old; [ ! -f "$old/lease" ] || aged=$old/lease
            [ -z "$(find "$aged" -prune -mtime +1)" ] || rm -rf -- "$old"
        fi
    done
    [ -z "$made" ] || continue
    d=$base/.pg_runbook_$1
    {{ [ -d "$d" ] || mkdir "$d"; }} && echo "0 $up $boot $2" >"$d/lease" && made=$d
done 2>/dev/null
[ -n "$made" ] && printf %s "$made"
"""
_RENEW = f"""
[ -e "$1/lease" ] || exit {_LAPSED}
{_NOW}
echo "$2 $up $boot $3" >"$1/lease"
"""
_REMOVE = 'rm -rf -- "$1"'


class Lease:
    """A directory in the container, made for the first who needs it and removed with the last.

    While a run holds it, nothing is done in the container (`Pod.check`) unless it is known not to have lapsed.
    """

    def __init__(self, pod: Pod, duration_s: float) -> None:
        self._pod = pod
        self.duration_s = duration_s
        self._seconds = str(math.ceil(duration_s))
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
                done, output = self._pod.repeat(_MAKE, uuid4().hex[:12], self._seconds)
                if done.returncode != 0:
                    raise FileProblem(
                        "The container has no writable directory for temporary files",
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

    def check(self, *, at_once: bool = False) -> None:
        """Make sure that what runs there, and our locks, are still ours.

        Args:
            at_once: ask the container, however short it is since the last time.

        Raises:
            WorkloadProblem: they are not.
        """
        if self._users == 0:
            return
        is_old = abs(time.time() - self._renewed) > self.duration_s / 2
        if self._lapsed != self._directory and (is_old or at_once):
            self._renew(self._directory)
        if self._lapsed == self._directory:
            refuse_another(self._pod.cluster, self._pod.container)
            raise WorkloadProblem(
                "The lock was lost",
                subject=self._pod.name,
                why=f"the connection was lost for about {self.duration_s:g} s, and the programs in the container "
                "were ended",
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
            done = self._pod.run(_RENEW, directory, number, self._seconds, timeout=self.duration_s, checked=False)
        except TimedOut:
            raise ClusterUnreachable("The container does not answer", subject=self._pod.name) from None
        if done.returncode == 0:
            self._renewed = began
        elif done.returncode == _LAPSED:
            self._lapsed = directory
