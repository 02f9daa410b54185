# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a container as one sequence of bytes, of which none is lost, doubled or believed too early.

Who sends stays until we say that all has arrived: what is not delivered ten seconds after a process has ended is cut
off, and still reported as success. And it ends when we have ended: a `cat` alone would sleep forever on a full pipe.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from .._errors import FileProblem, RunbookError
from .cluster import is_passing
from .exec_stream import STDOUT, ExecStream
from .pod import Pod
from .shell import StreamCut, quoted
from .workload import refuse_another

_RETRY_S = 1.0
_QUIET_S = 30.0  # between the end of a file in the container and the arrival of its last bytes
_NAMES_BYTES = 64 * 1024  # of one command line; the kernel takes 128 KiB and more
_MESSAGES_BYTES = 64 * 1024

_ARGV = ("sh", "-s", "download")  # the last word shows in the list of processes what this is
# The sender is a child of a shell that waits for it, so that process 1 never has to take it over when it is ended:
# PostgreSQL there would take it for a backend that has crashed. Our line on standard input is a receipt; its end
# without a line means that we have gone. All is one command, so that the shell has read it when the receipt comes.
_SEND = """{{ LC_ALL=C; export LC_ALL; set -- {words}
(
    c= gone=
    trap 'gone=1; kill "$c" 2>/dev/null' TERM
    {command} &
    c=$!
    [ -z "$gone" ] || kill "$c" 2>/dev/null
    wait "$c"; s=$?
    while [ -n "$gone" ] && [ "$s" != 127 ] && kill -0 "$c" 2>/dev/null; do wait "$c"; s=$?; done
    printf '{mark} %s\\n' "$s" >&2
) &
p=$!
read -r receipt || kill "$p"
wait "$p"
exit 0
}}
"""


@dataclass(frozen=True)
class DownloadPart:
    """What one command sends: these files, without the first `skip` bytes. `size_bytes` is what has to arrive."""

    paths: tuple[str, ...]
    skip: int
    size_bytes: int

    def script(self, mark: str) -> str:
        """The command, which prints its status behind the mark."""
        command = f'tail -c +{self.skip + 1} -- "$1"' if self.skip else 'cat -- "$@"'
        return _SEND.format(words=" ".join(map(quoted, self.paths)), command=command, mark=mark)


def next_part(sizes: Mapping[str, int], done: int) -> DownloadPart:
    """What has to come after `done` bytes: the rest of a file, or as many whole files as one command can name."""
    paths: list[str] = []
    size = names = 0
    for path, length in sizes.items():
        if done >= length:
            done -= length
            continue
        if done:
            return DownloadPart((path,), done, length - done)
        names += len(path.encode("utf-8", "surrogateescape")) + 1
        if paths and names > _NAMES_BYTES:
            break
        paths.append(path)
        size += length
    return DownloadPart(tuple(paths), 0, size)


def download(
    pod: Pod, sizes: Mapping[str, int], sink: Callable[[bytes], object], skip: int = 0, patience_s: float = 300.0
) -> None:
    """Pass on the content of files, one after the other, without the first `skip` bytes of it all.

    A connection that is cut is made again, and goes on with the next byte, until there was none for `patience_s`.

    Args:
        sizes: the paths, and how large they are.

    Raises:
        FileProblem: a file cannot be read, or has another size.
    """
    done = skip

    def pass_on(data: bytes) -> None:
        nonlocal done
        sink(data)
        done += len(data)

    total = sum(sizes.values())
    deadline = time.monotonic() + patience_s
    was_cut = False
    while done < total:
        before = done
        try:
            if was_cut:
                refuse_another(pod.cluster, pod.container)
                pod.check()
            _receive(pod, next_part(sizes, done), pass_on)
        except RunbookError as exc:
            if done > before:
                deadline = time.monotonic() + patience_s
            if not is_passing(exc) or time.monotonic() > deadline:
                raise
            was_cut = True
            time.sleep(_RETRY_S)


def _receive(pod: Pod, part: DownloadPart, sink: Callable[[bytes], object]) -> None:
    """One connection: all of the part, or StreamCut."""
    mark = secrets.token_hex(16)
    stream = ExecStream(pod.cluster, pod.container.pod, pod.container.name, _ARGV)
    try:
        stream.send(part.script(mark).encode("utf-8", "surrogateescape"))
        arrival = _Arrival(part, mark, sink)
        for channel, data in stream.frames():
            if arrival.take(channel, data):
                break
        quiet = False
        while arrival.status == 0 and arrival.missing and not quiet:  # the last bytes are still on their way
            deadline = time.monotonic() + _QUIET_S
            frame = next(stream.frames(deadline), None)
            quiet = time.monotonic() >= deadline
            if frame is None:
                break
            arrival.take(*frame)
        arrival.judge(f"{pod.name}, {part.paths[0]}", quiet=quiet)
        with suppress(RunbookError):  # without the receipt the sender sees that we have gone
            stream.send(b"\n")
    finally:
        stream.close()


class _Arrival:
    """What has come of a part: its bytes, and on the other channel its messages with the mark at their end."""

    def __init__(self, part: DownloadPart, mark: str, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._mark = re.compile(rb"%s (\d+)\n" % mark.encode())
        self._messages = b""
        self.missing = part.size_bytes
        self.status: int | None = None

    def take(self, channel: int, data: bytes) -> bool:
        """Take one frame; whether the sender has ended."""
        if channel == STDOUT:
            self.missing -= len(data)
            if self.missing >= 0:
                self._sink(data)
        else:
            self._messages = (self._messages + data)[-_MESSAGES_BYTES:]
            found = self._mark.search(self._messages)
            if found:
                self.status = int(found[1])
                self._messages = self._messages[: found.start()]
        return self.status is not None or self.missing < 0

    def judge(self, subject: str, *, quiet: bool) -> None:
        """Raise unless all has come, and no more."""
        if self.status:
            lines = self._messages.decode("utf-8", "replace").strip().splitlines()
            why = lines[-1].rpartition(": ")[2] if lines else f"status {self.status}"
            raise FileProblem("A file cannot be read", subject=subject, why=why)
        if self.missing < 0 or quiet:
            raise FileProblem(
                "The size of a file has changed",
                subject=subject,
                why=f"{abs(self.missing)} bytes too {'many' if self.missing < 0 else 'few'} were received",
                remedy="The file was changed after the backup. Find out which process did it, and use another backup.",
            )
        if self.status is None or self.missing:
            raise StreamCut(
                "The connection to the container was cut",
                subject=subject,
                why=f"{self.missing} bytes are missing",
                remedy="Run this again: it continues from there.",
            )
