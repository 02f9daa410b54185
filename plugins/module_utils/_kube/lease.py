# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we leave running in a container ends when we do.

A program that is detached outlives the connection, as it should, and would outlive us as well. So as long as anything
of ours runs there, a thread writes a new number into a file every few seconds, and who watches it ends when the number
stays the same.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from uuid import uuid4

from .._errors import FileProblem, RunbookError
from .pod import Pod

_RENEWALS = 6
_MAKE = """
for d in "$TMPDIR" /tmp /var/tmp /dev/shm; do
    if [ -n "$d" ] && [ -d "$d" ] && [ -w "$d" ]; then
        d=$d/.pg_runbook_$1
        { [ -d "$d" ] || mkdir "$d"; } && echo 0 >"$d/lease" && printf %s "$d" && exit 0
    fi
done
exit 1
"""
_RENEW = 'echo "$2" >"$1/lease"'
_REMOVE = 'rm -rf -- "$1"'


class Lease:
    """A directory in the container, made for the first who needs it and removed with the last."""

    def __init__(self, pod: Pod, duration_s: float) -> None:
        self._pod = pod
        self.duration_s = duration_s
        self._users = 0
        self._lock = threading.Lock()
        self._directory = ""
        self._ended = threading.Event()

    def acquire(self) -> str:
        """Keep the lease for one more user; returns its directory, which has the number in the file `lease`."""
        with self._lock:
            if self._users == 0:
                done, output = self._pod.repeat(_MAKE, uuid4().hex[:12])
                if done.returncode != 0:
                    raise FileProblem(
                        "There is no directory for what runs in the container",
                        subject=self._pod.name,
                        why="none of $TMPDIR, /tmp, /var/tmp and /dev/shm can be written",
                        remedy="Mount an emptyDir at /tmp.",
                    )
                self._directory = output.decode()
                self._ended = threading.Event()
                threading.Thread(target=self._renew, args=(self._directory, self._ended), daemon=True).start()
            self._users += 1
            return self._directory

    def release(self) -> None:
        """One user less."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._ended.set()
                with suppress(RunbookError):  # what watches it there removes it, too
                    self._pod.run(_REMOVE, self._directory)

    def _renew(self, directory: str, ended: threading.Event) -> None:
        for number in itertools.count(1):
            if ended.wait(self.duration_s / _RENEWALS):
                return
            with suppress(RunbookError):
                self._pod.run(_RENEW, directory, str(number), timeout=self.duration_s)
