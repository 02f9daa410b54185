# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the programs that load a dump: feed them what is packed, watch them, and say what their end means."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._errors import ProgramMissing, RunbookError
from .._target.base import BackgroundJob, Target, describe_status
from .refusals import Refusal

# A decompressor that writes to standard output, by the suffix that pg_dump and people use.
UNPACKERS = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4", ".bz2": "bzip2", ".xz": "xz"}
# The Debian package of each, which most distributions call the same.
PACKAGES = {"gzip": "gzip", "zstd": "zstd", "lz4": "lz4", "bzip2": "bzip2", "xz": "xz-utils"}

_READ = 'if [ -n "$1" ]; then "$1" -dc -- "$2"; else cat -- "$2"; fi'
# $1 unpacker or nothing, $2 dump, $3 directory for what follows, $4 line to add, as a format of printf, $5 edits for
# sed or nothing. sh has no pipefail: the left side leaves its status in a file. A reader that has enough early (tar
# archives end in blanks) leaves the rest to `cat`, so that the unpacker does its own check to the end.
_FEED = f"""
cd "$3" || exit 1
{{
    {{ {_READ}; echo "$?" >feed-status; }} | if [ -n "$5" ]; then sed -e "$5"; else cat; fi
    printf '%b' "$4"
}} | {{ shift 5; "$@" && cat >/dev/null; }}
"""
_SIGNALLED = 128  # sh adds the signal's number to it
_CANNOT_START = (126, 127)
_SAMPLE_S = 2.0
_WATCHED_BYTES = 64 * 1024
_CRAMPED_BYTES = 32 * 1024 * 1024  # two files of WAL
# More than this of messages is a dump of which nothing loads: each of a million rows may be a statement.
_LOG_BYTES = 64 * 1024 * 1024

# Messages of the programs and of the server. What quotes the dump (CONTEXT, LINE, Command was) begins with other words.
_MESSAGE = re.compile(
    r"^(?:(?:pg_restore[\w.]*: )+error: |psql: error: |psql:<stdin>:\d+: (?!STATEMENT|WARNING|NOTICE|INFO|LOG)"
    r"|ERROR:  |FATAL:  |PANIC:  |server closed ).*",
    re.M,
)
# What the programs say of themselves, in English since they run under LC_ALL=C, when the place is to blame for their
# end. What the server says of a statement is judged by its SQLSTATE (`refusals`).
_PLACE_TO_BLAME = re.compile(
    "|".join(
        (
            "No space left on device",
            "[Pp]ermission denied",
            "closed the connection",
            "no connection to the server",
            "could not connect",
            "connection to server",
            "could not receive data from server",
            "could not send data to server",
            "terminating connection",
            "the database system is",
            "out of (?:shared )?memory",
            "too many (?:connections|clients)",
            "not supported (?:by|in) this (?:build|installation)",
            "this build does not support",
            "does not support compression",
            "unsupported version .* in file header",
        )
    )
)
# After one of these there is no point in going on.
_END_OF_IT = re.compile(
    "No space left on device|closed the connection|no connection to the server|connection to server was lost"
    "|could not receive data from server|could not send data to server"
)


class RestoreRefused(RunbookError):
    """The dump does not load to its end. With `place_to_blame` that says something about this host, not the backup.

    `refusals` are the statements that were refused before, and the one that ended it.
    """

    def __init__(
        self,
        why: str,
        *,
        program: str,
        status: int,
        place_to_blame: bool = False,
        refusals: Sequence[Refusal] = (),
    ) -> None:
        if status > _SIGNALLED:  # as sh reports it
            status = _SIGNALLED - status
        killed = status < 0
        self.place_to_blame = place_to_blame or killed or (not refusals and bool(_PLACE_TO_BLAME.search(why)))
        self.refusals = tuple(refusals)
        super().__init__(f"The dump does not load: {program} {describe_status(status)}", why=why)


@dataclass(frozen=True)
class Dump:
    """A dump on the target: its path, its format (`directory`, `custom`, `tar` or `plain`), and how it is packed.

    `absent` is what a new database has and the source had not, as DROP names it. With `tablespaces`, relations go
    into those of the source; the others stay in the default one of the database. `enters` is the database that a script
    creates for itself.
    """

    path: str
    format: str
    unpacker: str | None = None
    absent: tuple[str, ...] = ()
    tablespaces: bool = False
    enters: str | None = None


@dataclass(frozen=True)
class LoaderEnd:
    """A program that ended by itself: its status, and all that it printed."""

    program: str
    status: int
    text: str
    cramped: bool = False

    def lost(self) -> bool:
        """Whether it reports a lost server or a full disk."""
        return any(_END_OF_IT.search(message) for message in messages(self.text))

    def refused(self) -> RestoreRefused:
        """The error for an end that is none of a whole load."""
        found = "\n".join(message for message in messages(self.text) if "worker process died" not in message)
        # Without a message nothing is known: a full disk takes no log either.
        return RestoreRefused(
            (found or self.text)[-4096:].strip(),
            program=self.program,
            status=self.status,
            place_to_blame=self.cramped or not found,
        )


def messages(text: str) -> list[str]:
    """The lines in which programs report errors."""
    return [match.group() for match in _MESSAGE.finditer(text)]


class Runner:
    """Runs programs to their ends. `cramped` says whether the disk was all but full while one of them ran."""

    def __init__(self, target: Target, secrets: Mapping[str, str], work_dir: str) -> None:
        self._target = target
        self._secrets = secrets
        self.work_dir = work_dir
        self.cramped = False

    def run(self, argv: Sequence[str], dump: Dump, *, more: str = "", edit: str = "", room: int = 0) -> LoaderEnd:
        """Run it. A packed dump, or one that is edited or to which `more` is added, is fed to standard input.

        Args:
            more: what comes after the dump, as a format of printf.
            edit: what sed does to the dump; file names in it are those of the work directory.
            room: bytes of messages that are expected of a load without errors.

        Raises:
            RestoreRefused: the dump cannot be unpacked, or there is no end to its errors.
            ProgramMissing: the unpacker is not there.
        """
        program = next(word for word in argv if "/" in word).rsplit("/", 1)[-1]  # after what starts it
        fed = bool(dump.unpacker or more or edit)
        if fed:
            argv = ["/bin/sh", "-c", _FEED, "feed", dump.unpacker or "", dump.path, self.work_dir, more, edit, *argv]
        log = f"{self.work_dir}/{program}.log"
        for left in (log, f"{self.work_dir}/feed-status"):
            self._target.files.remove_tree(left)
        job = self._target.spawn(argv, env=self._secrets, log=log)
        try:
            status, cramped = self._wait(job, program, room)
        finally:
            job.stop()
        self.cramped = self.cramped or cramped
        if fed:
            self._check_feed(dump, program, status, job)
        if room and status == 0:  # all of it tells of what was done without an error
            return LoaderEnd(program, status, "", cramped)
        text = self._target.files.read(log).decode("utf-8", "replace")
        return LoaderEnd(program, status, text, cramped)

    def output(self, argv: Sequence[str], dump: Dump) -> bytes:
        """Run it, and return what it printed. Raises RestoreRefused for any status but 0."""
        ended = self.run(argv, dump)
        if ended.status != 0:
            raise ended.refused()
        return self._target.files.read(f"{self.work_dir}/{ended.program}.log")

    def write(self, name: str, data: bytes) -> str:
        """Put a file into the work directory; returns its path."""
        path = f"{self.work_dir}/{name}"
        self._target.files.write(path, data)
        return path

    def _wait(self, job: BackgroundJob, program: str, room: int) -> tuple[int, bool]:
        """The status, and whether the disk was all but full: then a message may be lost, and space is to blame."""
        cramped = False
        size = 0
        while True:
            status = job.wait(_SAMPLE_S)
            cramped = cramped or self._target.files.space(self.work_dir).free_bytes < _CRAMPED_BYTES
            if status is not None:
                return status, cramped
            log = self._target.files.info(job.log)
            if log is None or log.size_bytes == size:
                continue
            size = log.size_bytes
            text = job.tail(_WATCHED_BYTES)
            if any(_END_OF_IT.search(message) for message in messages(text)) or size > _LOG_BYTES + room:
                job.stop()
                found = messages(text)
                why = found[-1] if found else "it reports too many errors"
                raise RestoreRefused(why, program=program, status=1, place_to_blame=cramped)

    def _check_feed(self, dump: Dump, program: str, status: int, job: BackgroundJob) -> None:
        path = f"{self.work_dir}/feed-status"
        said = self._target.files.read(path) if self._target.files.info(path) is not None else b""
        feed_status = int(said) if said.strip().isdigit() else _SIGNALLED + signal.SIGKILL
        if feed_status in _CANNOT_START:
            raise missing_unpacker(dump.unpacker or "cat", job.tail())
        reader_killed = status < 0 or status > _SIGNALLED
        if feed_status == 0 or reader_killed or (status != 0 and feed_status == _SIGNALLED + signal.SIGPIPE):
            return  # the reader has the say
        why = f"{dump.path} cannot be unpacked completely: {job.tail()}"
        raise RestoreRefused(why, program=program, status=status, place_to_blame=feed_status > _SIGNALLED)


def missing_unpacker(program: str, why: str = "") -> ProgramMissing:
    """The error for a dump that cannot be unpacked here."""
    return ProgramMissing(
        "A program that unpacks the dump is missing",
        subject=program,
        why=why,
        remedy=f"Install the package {PACKAGES.get(program, program)} where PostgreSQL's programs are.",
    )
