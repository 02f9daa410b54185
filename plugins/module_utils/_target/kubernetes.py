# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target that is a pod: its programs. Nothing but POSIX programs is needed there, and no Python."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO
from uuid import uuid4

from .._errors import FileProblem, InvalidInput, ProgramMissing, RunbookError
from .._kube import detached, scratch_pod
from .._kube.access import Right, refuse_missing, rights_for
from .._kube.cluster import Cluster, ClusterOptions
from .._kube.exec_stream import ExecStream
from .._kube.lease import Lease
from .._kube.pod import Pod
from .._kube.port_forward import forwarded
from .._kube.shell import Container, TimedOut
from .._kube.workload import find_container, read_workload
from .base import Completed, Endpoint, command_failed
from .kubernetes_files import PodFiles

# What runs detached in the pod outlives a lost connection by so many seconds. We give up as soon.
LEASE_S = 300.0
_LEAVE_S = 60.0  # how much longer a scratch pod lives that no run uses
_CHUNK = 256 * 1024
_NOT_FOUND = 127
_HERE = ("", "localhost", "127.0.0.1", "::1")

# $1 account or nothing, then the program. The official images have gosu or su-exec, Debian setpriv, most runuser.
_AS_USER = """
if [ -n "$1" ]; then
    u=$1; shift
    id -u "$u" >/dev/null 2>&1 || { echo "no account $u" >&2; exit 126; }
    if command -v gosu >/dev/null; then set -- gosu "$u" "$@"
    elif command -v su-exec >/dev/null; then set -- su-exec "$u" "$@"
    elif command -v setpriv >/dev/null; then
        set -- setpriv "--reuid=$u" "--regid=$(id -g "$u")" --init-groups env "HOME=/" "$@"
    else set -- runuser -u "$u" -- "$@"
    fi
else shift
fi
"""
# $1 a token that tells a missing program from a program's own status, $2 standard input or nothing.
_RUN = f"""
t=$1 i=$2; shift 2
case $2 in */*) [ -x "$2" ] && [ ! -d "$2" ];; *) command -v "$2" >/dev/null 2>&1;; esac ||
    {{ echo "$t" >&2; exit {_NOT_FOUND}; }}
{_AS_USER}
exec "$@" <"${{i:-/dev/null}}"
"""
_RECEIVE = 'umask 077; cat >"$1"; exit $?'  # a shell in front: without one the runtime cuts what comes in
_CHECK = 'set -- "$1" "$(sha256sum <"$1")"; printf %s "${2%% *}"'
# The limits of a container: those of cgroup v2, else of v1, where none is -1, or more than there can be.
_CPUS = """
c=/sys/fs/cgroup
n=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
{ read -r quota period <$c/cpu.max; } 2>/dev/null ||
    { read -r quota <$c/cpu/cpu.cfs_quota_us && read -r period <$c/cpu/cpu.cfs_period_us; } 2>/dev/null || quota=max
case $quota in
    max | -1) ;;
    *) q=$(((quota + period - 1) / period)); [ "$q" -ge 1 ] && [ "$q" -lt "$n" ] && n=$q ;;
esac
echo "$n"
"""
_MEMORY = """
c=/sys/fs/cgroup
while read -r name value unit; do [ "$name" = MemAvailable: ] && free=$((value * 1024)); done </proc/meminfo
{ read -r limit <$c/memory.max && read -r used <$c/memory.current; } 2>/dev/null ||
    { read -r limit <$c/memory/memory.limit_in_bytes && read -r used <$c/memory/memory.usage_in_bytes; } 2>/dev/null ||
    limit=max
if [ "$limit" != max ] && [ $((limit - used)) -lt "$free" ]; then free=$((limit - used)); fi
echo "$free"
"""
_ACCOUNT = """
[ "$(id -u)" = 0 ] || exit 0
for name in postgres nobody; do id -u "$name" >/dev/null 2>&1 && { echo "$name"; exit 0; }; done
exit 1
"""


class KubernetesTarget:
    """A container of a pod.

    Args:
        lease_s: how long, in seconds, a lost connection is waited for, and what runs in the pod goes on without us.
    """

    connections_may_break = True

    def __init__(self, cluster: Cluster, container: Container, lease_s: float = LEASE_S) -> None:
        self._pod = Pod(cluster, container, lease_s)
        self._lease = Lease(self._pod, lease_s)
        self.name = self._pod.name
        self.files = PodFiles(self._pod, self._lease)

    @classmethod
    def of(
        cls, options: ClusterOptions, workload: str, container: str | None, lease_s: float = LEASE_S
    ) -> KubernetesTarget:
        """The ready pod of a workload, as `find_container` finds it; a right that is missing is an error."""
        cluster = Cluster(options)
        refuse_missing(cluster, rights_for(*read_workload(workload)), "pod")
        return cls(cluster, find_container(cluster, workload, container), lease_s)

    def refuse_replaced(self) -> None:
        self._pod.refuse_replaced()

    @contextmanager
    def beside(
        self, work: scratch_pod.ScratchPodWork, wanted: scratch_pod.ScratchPodOptions
    ) -> Iterator[KubernetesTarget]:
        """A throwaway pod as a target, which sees `work.path` as this one does. Its $TMPDIR is its disk.

        Raises:
            ClusterRefused, WorkloadProblem: it cannot be had.
            InvalidInput: no other pod can see the path.
        """
        made = self._scratch_manifest(work, wanted)
        with scratch_pod.running(self._pod.cluster, made, wanted.timeout_s) as container:
            target = KubernetesTarget(self._pod.cluster, container, self._lease.duration_s)
            with target.kept():
                yield target

    def rehearse_beside(self, work: scratch_pod.ScratchPodWork, wanted: scratch_pod.ScratchPodOptions) -> None:
        """Raise what `beside` would raise at once, and make nothing."""
        scratch_pod.rehearse(self._pod.cluster, self._scratch_manifest(work, wanted))

    def _scratch_manifest(
        self, work: scratch_pod.ScratchPodWork, wanted: scratch_pod.ScratchPodOptions
    ) -> dict[str, Any]:
        cluster, container = self._pod.cluster, self._pod.container
        refuse_missing(cluster, [Right(("create",), "pods"), Right(("delete",), "pods")], "backup_verify")
        pod = cluster.get(cluster.path("pods", container.pod))
        return scratch_pod.manifest(pod, container.name, work, wanted, self._lease.duration_s + _LEAVE_S)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Show in the container that a run is at work."""
        self._lease.acquire()
        try:
            yield
        finally:
            self._lease.release()
            self._pod.close()

    def close(self) -> None:
        """End the connections that are kept. Without it they end with the process."""
        self._pod.close()
        self._pod.cluster.close()

    def cpus(self) -> int:
        return max(1, int(self._pod.repeat(_CPUS)[1]))

    def memory_bytes(self) -> int:
        return int(self._pod.repeat(_MEMORY)[1])

    def unprivileged_user(self) -> str | None:
        done, output = self._pod.repeat(_ACCOUNT)
        if done.returncode != 0:
            raise InvalidInput(
                "No account to run a server with",
                subject=self.name,
                why="PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody",
                remedy="Use an image with an account named postgres.",
            )
        return output.decode().strip() or None

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
        output = bytearray()
        token = uuid4().hex
        with nullcontext("") if stdin is None else self._uploaded(stdin) as given:
            started = time.monotonic()
            try:
                done = self._pod.run(
                    _RUN, token, given, user or "", *argv,
                    sink=output.extend if stdout is None else stdout.write, env=env, timeout=timeout,
                )  # fmt: skip
            except TimedOut:
                raise command_failed(argv[0], -signal.SIGKILL, b"", timeout) from None
        completed = Completed(bytes(output), done.stderr, time.monotonic() - started)
        if done.returncode == _NOT_FOUND and token.encode() in done.stderr:
            raise self._missing(argv[0])
        if done.returncode != 0:
            raise command_failed(argv[0], detached.exit_status(done.returncode), done.stderr)
        return completed

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: str,
        user: str | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> detached.PodBackgroundJob:
        wrapped = argv if user is None else ["sh", "-c", f'{_AS_USER}\nexec "$@"', "sh", user, *argv]
        return detached.start(self._pod, self._lease, wrapped, env=env, log=log, stop_signal=stop_signal)

    @contextmanager
    def endpoint(self, host: str | None, port: int | None) -> Iterator[Endpoint]:
        if not (host or "").startswith("/") and (host or "") not in _HERE:
            raise InvalidInput(
                "Invalid login_host",
                subject=repr(host or ""),
                why="with kubernetes, the server is the one inside the pod, and a port-forward leads there",
                remedy="Leave login_host out, or run against that host without kubernetes.",
            )
        with forwarded(self._pod.cluster, self._pod.container.pod, port or 5432, self._pod.check) as directory:
            yield Endpoint(directory, port or 5432)

    @contextmanager
    def _uploaded(self, source: BinaryIO) -> Iterator[str]:
        """A file in the container with all that can be read from the source: whole, as its SHA-256 there says."""
        path = f"{self._lease.acquire()}/{uuid4().hex[:12]}"
        try:
            digest = hashlib.sha256()
            stream = ExecStream(
                self._pod.cluster, self._pod.container.pod, self._pod.container.name, ["sh", "-c", _RECEIVE, "sh", path]
            )
            try:
                while data := source.read(_CHUNK):
                    digest.update(data)
                    stream.send(data)
                stream.end_stdin()
                for dummy in stream.frames(time.monotonic() + LEASE_S):
                    pass
            finally:
                stream.close()
            self._await_digest(path, digest.hexdigest())
            yield path
        finally:
            self._remove(path)
            self._lease.release()

    def _await_digest(self, path: str, wanted: str) -> None:
        deadline = time.monotonic() + 10
        while (found := self._pod.repeat(_CHECK, path)[1].decode()) != wanted:
            if time.monotonic() > deadline:  # the last bytes may still be on their way into the file
                raise FileProblem(
                    "An upload was truncated or changed",
                    subject=f"{self.name}, {path}",
                    why=f"its SHA-256 is {found[:12]}, and not {wanted[:12]}",
                    remedy="Nothing was done with it. Run this again.",
                )
            time.sleep(0.2)

    def _remove(self, path: str) -> None:
        try:
            self.files.remove_tree(path)
        except RunbookError:
            return  # it goes with the lease

    def _missing(self, program: str) -> ProgramMissing:
        return ProgramMissing(
            "A program is missing",
            subject=program,
            why=f"it is not in {self.name}",
            remedy="Use an image that has it, or name its directory with bin_dir.",
        )
