# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs and locks that are detached in a container: no cut connection ends them, and none of them harms PostgreSQL.

What outlives its exec becomes a child of process 1. If that is PostgreSQL, and the orphan ends by a signal or with a
status other than 0 or 1, the server takes it for a crashed backend, drops every connection and runs crash recovery.
So each program has a wrapper that always exits 0 and leaves the real status in a file, and only what is below it is
ever signalled: as `processes` says, by us as by the watcher beside it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from uuid import uuid4

from .._errors import FileProblem, Locked, ProgramMissing, RunbookError, WorkloadProblem
from .._lock_notes import describe_holder, holder_note
from .lease import Lease
from .pod import Pod
from .workload import refuse_another

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_LOST = "lost"
_NO_PROGRAM, _NO_LOG, _NO_DIRECTORY, _BUSY, _NO_FLOCK = 3, 4, 5, 9, 6

_FORCE_TICKS = 20  # between a lease that lapsed and force

# Whether the lease is renewed: $idle counts the hundredths of a second since its number was another one. Once one of
# those who watch it has found that it has lapsed, it is removed, and has lapsed for all of them.
_TICK = """
        runbook_nap {seconds:g} {hundredths} 9>&-
        idle=$((idle + napped)) now=
        {{ read -r now <"$lease"; }} 2>/dev/null
        if [ -n "$now" ] && [ "$now" != "$last" ]; then idle=0 last=$now; fi
        [ -e "$lease" ] || idle=$limit
"""
_JOB_TICK = _TICK.format(seconds=0.5, hundredths=50)
_LOCK_TICK = _TICK.format(seconds=0.2, hundredths=20)  # the next holder of a lock waits for one
_TIDY = 'rm -rf "$d" "$lease"; rmdir "${d%/*}"'
# $1 directory, $2 log, $3 lease, $4 hundredths of a second, $5 signal, then the program.
# The watcher is a child of the wrapper, as the program is. It looks for the program by its number and its parent, and
# at no file: it ends with the program in every case, whatever has become of the directory, and ends the program when
# that has ended.
_START = f"""
d=$1 log=$2 lease=$3 limit=$4 signal=$5; shift 5
[ -d "$d" ] && exit 0  # done before the connection was cut
case $1 in */*) [ -x "$1" ] && [ ! -d "$1" ];; *) command -v "$1" >/dev/null 2>&1;; esac || exit {_NO_PROGRAM}
{{ : >>"$log"; }} || exit {_NO_LOG}
mkdir "$d" || exit {_NO_DIRECTORY}
(
    trap 'exit 0' EXIT  # also when the shell itself gives up
    "$@" </dev/null >>"$log" 2>&1 &
    p=$!
    read -r self rest </proc/self/stat
    echo "$p" >"$d/pid.new"; mv "$d/pid.new" "$d/pid"
    (
        last= idle=0 asked=0
        while runbook_is_child "$p" "$self"; do
            if [ "$idle" -lt "$limit" ]; then
                {_JOB_TICK}
                if [ ! -d "$d" ]; then idle=$limit; elif [ "$idle" -ge "$limit" ]; then rm -f "$lease"; fi
                continue
            fi
            if [ "$asked" -lt {_FORCE_TICKS} ]; then runbook_ask "$signal" "$p"; else runbook_end "$p"; fi
            asked=$((asked + 1))
            runbook_pause 0.5
        done
        exit 0
    ) &
    wait "$p"
    echo "$?" >"$d/status.new"; mv "$d/status.new" "$d/status"
    wait
    [ -e "$lease" ] || {{ {_TIDY}; }}
    exit 0
) </dev/null >/dev/null 2>&1 &
exit 0
"""
_POLL = f"""
[ -d "$1" ] || exit {_NO_DIRECTORY}
if [ ! -e "$1/status" ] && [ -e "$1/pid" ] && ! kill -0 "$(cat "$1/pid")" 2>/dev/null; then
    sleep 1; [ -e "$1/status" ] || {{ echo {_LOST}; exit 0; }}
fi
cat "$1/status" 2>/dev/null; exit 0
"""
_PID = """
t=0; until [ -e "$1/pid" ] || [ "$t" -gt 500 ]; do runbook_nap 0.1 10; t=$((t + napped)); done; cat "$1/pid"
"""
_REMOVE = 'rm -rf -- "$1"'
_TAIL = 'tail -c "$2" -- "$1" 2>/dev/null; exit 0'

# $1 path, $2 directory, $3 lease, $4 hundredths of a second, $5 note.
_LOCK = f"""
path=$1 d=$2 lease=$3 limit=$4 note=$5 t=0
[ -d "$d" ] && exit 0
command -v flock >/dev/null || exit {_NO_FLOCK}
[ ! -L "$path" ] && {{ : >>"$path"; }} || exit {_NO_LOG}
(
    trap 'exit 0' EXIT
    exec 9>>"$path"
    flock -n 9 || {{ mkdir "$d.busy"; exit 0; }}
    printf %s "$note" >"$path"
    mkdir "$d" || exit 0
    last= idle=0
    until [ ! -d "$d" ] || [ "$idle" -ge "$limit" ]; do
        {_LOCK_TICK}
    done
    [ ! -d "$d" ] || rm -f "$lease"
    exec 9>&-
    rm -f "$d.held"
    [ ! -d "$d" ] || {{ {_TIDY}; }}
    exit 0
) </dev/null >/dev/null 2>&1 &
until [ -d "$d" ] || [ -d "$d.busy" ]; do
    [ "$t" -lt 1000 ] && [ -d "${{d%/*}}" ] || exit {_NO_DIRECTORY}
    runbook_nap 0.02 2; t=$((t + napped))
done
[ -d "$d" ] && {{ : >"$d.held"; exit 0; }}
rmdir "$d.busy"; cat -- "$path"; exit {_BUSY}
"""
# The holder may have been killed: then nothing removes the sign that it holds.
_UNLOCK = """
rm -rf -- "$1"
t=0; while [ -e "$1.held" ] && [ "$t" -lt 1000 ]; do runbook_nap 0.05 5; t=$((t + napped)); done
rm -f -- "$1.held"
"""
_HOLDER = f"""
[ -L "$1" ] && exit {_NO_LOG}
[ -e "$1" ] || exit 0
command -v flock >/dev/null || exit {_NO_FLOCK}
flock -n -s "$1" true && exit 0
cat -- "$1"; exit {_BUSY}
"""


class PodBackgroundJob:
    """A program that runs detached in a container, as a `BackgroundJob`."""

    def __init__(self, pod: Pod, lease: Lease, directory: str, log: str, stop_signal: int) -> None:
        self._pod = pod
        self._lease = lease
        self._directory = directory
        self._log = log
        self._stop_signal = stop_signal
        self._status: int | None = None
        self._started = time.monotonic()
        self._next_poll = 0.0

    @property
    def log(self) -> str:
        return self._log

    def poll(self) -> int | None:
        if self._status is None:
            done, output = self._pod.repeat(_POLL, self._directory)
            if done.returncode == _NO_DIRECTORY:
                refuse_another(self._pod.cluster, self._pod.container)
                self._lease.check(at_once=True)
                raise WorkloadProblem(
                    "A program in the container was ended",
                    subject=self._pod.name,
                    why=f"another process has removed {self._directory}, by which it is watched",
                    remedy="Find the program that cleans up there, and exclude .pg_runbook_* from it. Then run this "
                    "again.",
                )
            text = output.decode().strip()
            if text:
                self._end(-signal.SIGKILL if text == _LOST else exit_status(int(text)))
        return self._status

    def wait(self, timeout: float | None = None) -> int | None:
        # Asked less and less often: the longer it has run, the less a moment matters.
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            now = time.monotonic()
            if now >= self._next_poll and self.poll() is None:
                pause = (time.monotonic() - self._started) / 100
                self._next_poll = time.monotonic() + min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, pause))
                continue
            if deadline is not None and now >= deadline:
                break
            until = self._next_poll if deadline is None else min(deadline, self._next_poll)
            time.sleep(max(0.0, until - time.monotonic()))
        return self._status

    def stop(self, grace_s: float = 10.0) -> None:
        if self._status is None and self.poll() is None:
            pid = self._pid()
            if pid is not None:
                self._pod.stop(pid, self._stop_signal)
                self._within(grace_s)
            while self._status is None and self.poll() is None:
                if pid is not None:
                    self._pod.end([pid])
                time.sleep(_FIRST_PAUSE_S)

    def _within(self, grace_s: float) -> int | None:
        deadline = time.monotonic() + grace_s
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(_FIRST_PAUSE_S)
        return self._status

    def tail(self, limit: int = 4096) -> str:
        return self._pod.repeat(_TAIL, self._log, str(limit))[1].decode("utf-8", "replace").strip()

    def _pid(self) -> int | None:
        text = self._pod.repeat(_PID, self._directory)[1].decode().strip()
        return int(text) if text else None

    def _end(self, status: int) -> None:
        self._status = status
        with suppress(RunbookError):
            self._pod.repeat(_REMOVE, self._directory)
        self._lease.release()


def start(
    pod: Pod, lease: Lease, argv: Sequence[str], *, env: Mapping[str, str] | None, log: str, stop_signal: int
) -> PodBackgroundJob:
    """Start a program detached in the container, its output in the file `log` there."""
    home = lease.acquire()
    try:
        directory = f"{home}/{uuid4().hex[:12]}"
        name = signal.Signals(stop_signal).name[3:]
        done, dummy = pod.repeat(
            _START, directory, log, f"{home}/lease", _hundredths(lease), name, *argv, env=env, lasting=True
        )
        if done.returncode == _NO_PROGRAM:
            raise ProgramMissing(
                "A program is missing", subject=argv[0], why=f"it is not in {pod.name}", remedy="Use another image."
            )
        if done.returncode != 0:
            raise FileProblem("A log file cannot be written", subject=log, why=reason(done.stderr))
        return PodBackgroundJob(pod, lease, directory, log, stop_signal)
    except BaseException:
        lease.release()
        raise


@contextmanager
def lock(pod: Pod, lease: Lease, path: str, purpose: str) -> Iterator[None]:
    """Hold a lock on a file of the container: the same as on a host, so that it counts on a shared volume."""
    home = lease.acquire()
    directory = f"{home}/{uuid4().hex[:12]}"
    try:
        _take(pod, lease, path, directory, holder_note(purpose))
        try:
            yield
        finally:
            pod.repeat(_UNLOCK, directory)
    finally:
        lease.release()


def _take(pod: Pod, lease: Lease, path: str, directory: str, note: str) -> None:
    lease_path = f"{directory.rpartition('/')[0]}/lease"
    done, output = pod.repeat(_LOCK, path, directory, lease_path, _hundredths(lease), note, lasting=True)
    if done.returncode == _BUSY:
        raise Locked(
            "The same work is already running",
            subject=path,
            why=describe_holder(output),
            remedy=f"Wait for it to end, then run again. The lock ends {lease.duration_s:g} s after that process.",
        )
    if done.returncode == _NO_DIRECTORY:
        raise FileProblem(
            "A lock cannot be kept", subject=path, why=f"{lease_path} was removed, or the disk there is full"
        )
    _refuse(done.returncode, pod, path, done.stderr)


def lock_holder(pod: Pod, path: str) -> str | None:
    """Who holds the lock, in words, or None."""
    done, output = pod.repeat(_HOLDER, path)
    if done.returncode == _BUSY:
        return describe_holder(output)
    _refuse(done.returncode, pod, path, done.stderr)
    return None


def _refuse(returncode: int, pod: Pod, path: str, stderr: bytes) -> None:
    if returncode == _NO_FLOCK:
        raise ProgramMissing(
            "A program is missing", subject="flock", why=f"it is not in {pod.name}", remedy="Use an image with flock."
        )
    if returncode != 0:
        raise FileProblem("A lock file cannot be opened", subject=path, why=reason(stderr))


def _hundredths(lease: Lease) -> str:
    return str(max(100, round(lease.duration_s * 100)))


def exit_status(code: int) -> int:
    """A shell's `$?` as Python's subprocess module writes it: 128 plus the number of a signal is that signal."""
    with suppress(ValueError):
        return -signal.Signals(code - 128)
    return code


def reason(stderr: bytes) -> str:
    """The last line of a program's messages, without the program's name."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].rpartition(": ")[2] if lines else ""
