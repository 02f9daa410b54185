# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run scripts in a container so that their ends are proven.

`Success` and exit code 0 prove nothing: the API server reports both for commands that still run, and for output that
was cut off. So one `sh` is started, whose standard input is its script, and it stays. After each script it prints an
end mark of our own on both streams, and then waits for the next one: so that a slow reader loses nothing either. A
stream that ends before its mark is cut, whatever the status says. And a script that is cut on its way never runs: its
end is missing. What a cut leaves behind ends with its connection: it would run on, or sleep on a full pipe forever.

Arguments and the environment travel in that standard input, too, where no process list shows them.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._errors import ClusterUnreachable, InvalidInput, ProgramMissing, RunbookError, WorkloadProblem
from .cluster import Cluster, refusal
from .exec_stream import STDOUT, ExecStream
from .processes import FUNCTIONS

_STDERR_LIMIT = 64 * 1024
_STALE_S = 20.0
_CHECK_S = 15.0
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
# What says of an exec that it never began, and never will: containerd and Docker, then crun.
_NO_SHELL = re.compile(
    r'"sh": (?:stat .*)?(?:executable file not found|no such file or directory|permission denied)|executable file `sh`'
)
_PRELUDE = f"umask 077; cd /; LC_ALL=C; export LC_ALL\n{FUNCTIONS}"
# The script has a subshell of its own, beside which the mark with its process id is written. An asynchronous command
# has no standard input (POSIX, 2.9.3.1), so that nothing in it can eat the script that follows. The shell in front
# reads a line, which comes with the next script; its end without a line means that we have gone. What is under way has
# a moment then, since most of it tidies up behind itself, and is ended. All is one command, so that the shell has read
# it when that line comes.
_FRAME = """{{ (
( {exports}set -- {words}
{script}
) &
p=$!; printf '{mark} %s\\n' "$p" >&2
wait "$p"; p=$?; printf '{mark} %s\\n' "$p"; printf '{mark} %s\\n' "$p" >&2
) &
p=$!
read -r next || {farewell}
wait "$p"
}}
"""
_END = 'runbook_end_soon "$p"'


class StreamCut(ClusterUnreachable):
    """The connection ended before the end mark came. Nothing is known of what the command did after."""


class TimedOut(Exception):
    """A script ran too long. It still runs, as the process `pid` if that is known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__("a script ran too long")
        self.pid = pid


@dataclass(frozen=True)
class Container:
    """A container of a pod. `pod_uid`, `restarts` and `id` tell whether it is still the one that it was."""

    pod: str
    name: str
    pod_uid: str
    restarts: int
    id: str = ""
    image: str = ""
    is_throwaway: bool = False


@dataclass(frozen=True)
class ScriptEnd:
    """A script that ended, as proven by its marks: its status and the tail of its messages."""

    returncode: int
    stderr: bytes


class Shell:
    """A `sh` in a container, for one script at a time."""

    def __init__(self, cluster: Cluster, container: Container) -> None:
        self._where = f"pod {cluster.namespace}/{container.pod}, container {container.name}"
        self._stream = ExecStream(cluster, container.pod, container.name, ["sh"])
        self._before = _PRELUDE
        self._used = time.monotonic()

    def is_alive(self) -> bool:
        """Whether the connection still works; asked of the container only after a pause."""
        if time.monotonic() - self._used < _STALE_S:
            return True
        try:
            return self.run(":", (), lambda data: None, timeout=_CHECK_S).returncode == 0
        except (RunbookError, TimedOut):
            return False

    def run(
        self,
        script: str,
        args: Sequence[str],
        sink: Callable[[bytes], object],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        started: Callable[[int], object] | None = None,
        lasting: bool = False,
    ) -> ScriptEnd:
        """Run a script, constant text of POSIX sh, with `args` as its $1 and so on, to its proven end.

        Args:
            sink: gets the output piece by piece.
            started: gets the process id.
            lasting: a cut connection does not end it. For what detaches something and is soon done: nothing may be
                ended that is about to become an orphan.

        Raises:
            StreamCut: the connection ended before the marks came. This shell is of no use any more.
            TimedOut: it runs longer than `timeout` seconds. This shell is of no use any more.
            ProgramMissing: there is no sh in the container.
        """
        mark = secrets.token_hex(16)
        deadline = None if timeout is None else time.monotonic() + timeout
        words = " ".join(quoted(word) for word in args)
        farewell = ":" if lasting else _END
        text = _FRAME.format(exports=exports(env or {}), words=words, script=script, mark=mark, farewell=farewell)
        try:
            self._stream.send((self._before + text).encode("utf-8", "surrogateescape"))
        except ClusterUnreachable as exc:
            raise StreamCut(exc.what, subject=exc.subject, why=exc.why) from None
        self._before = "\n"
        out, err = _Marked(mark, 1, sink), _Marked(mark, 2, _Tail())
        pid = None
        for channel, data in self._stream.frames(deadline):
            (out if channel == STDOUT else err).take(data)
            if pid is None and err.numbers:
                pid = err.numbers[0]
                if started is not None:
                    started(pid)
            if out.is_complete and err.is_complete:
                self._used = time.monotonic()
                return ScriptEnd(out.numbers[0], err.sink.data)
        if deadline is not None and time.monotonic() >= deadline:
            raise TimedOut(pid)
        raise self._cut()

    def close(self) -> None:
        """End the shell, and the connection with it."""
        self._stream.close()

    def _cut(self) -> RunbookError:
        status = self._stream.status or {}
        message = str(status.get("message", ""))
        if status.get("code") in (401, 403, 404):
            return refusal(int(status["code"]), message, self._where)
        if "container not found" in message or "not running" in message or "is waiting to start" in message:
            return WorkloadProblem("The container no longer exists", subject=self._where, why=message)
        if _NO_SHELL.search(message):
            return ProgramMissing(
                "There is no shell in the container",
                subject=self._where,
                why=message,
                remedy="Use an image that contains sh.",
            )
        return StreamCut(
            "The connection to the container was cut",
            subject=self._where,
            why=message or f"status {status.get('status', 'none')}, but no end mark",
            remedy="It is unknown how the command ended. Run this again.",
        )


def quoted(word: str) -> str:
    """A word of shell that means exactly this text."""
    if "\0" in word:
        raise InvalidInput("An argument has a NUL character", subject=repr(word))
    if _PLAIN.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


def exports(env: Mapping[str, str]) -> str:
    """Shell that exports the variables."""
    for name in env:
        if not (name.isidentifier() and name.isascii()):
            raise InvalidInput("Invalid name of an environment variable", subject=repr(name))
    return "".join(f"{name}={quoted(value)}; export {name}; " for name, value in env.items())


class _Tail:
    """Keeps the last bytes."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data = (self.data + data)[-_STDERR_LIMIT:]


class _Marked:
    """A stream with our marks in it, a number behind each; passes on all else, in bounded memory."""

    def __init__(self, mark: str, marks: int, sink: Any) -> None:
        self._mark = mark.encode() + b" "
        self._marks = marks
        self._held = b""
        self.sink = sink
        self.numbers: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether all marks have come."""
        return len(self.numbers) == self._marks

    def take(self, data: bytes) -> None:
        """Take what came next."""
        self._held += data
        while (at := self._held.find(self._mark)) >= 0:
            end = self._held.find(b"\n", at)
            if end < 0:
                return
            self.numbers.append(int(self._held[at + len(self._mark) : end]))
            self._pass_on(at)
            self._held = self._held[end + 1 - at :]
        self._pass_on(len(self._held) - len(self._mark) + 1)

    def _pass_on(self, size: int) -> None:
        if size > 0:
            self.sink(self._held[:size])
            self._held = self._held[size:]
