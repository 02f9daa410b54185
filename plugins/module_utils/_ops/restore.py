# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a dump into an empty database, and judge what came of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from .._catalog.manifest import Manifest
from .._db import Server
from .._errors import ProgramMissing, QueryFailed, RunbookError
from .._programs import Programs
from .._target.base import Job, Target, describe_status
from . import passes, source_database

ARCHIVE_FORMATS = ("directory", "custom", "tar")
# A decompressor that is told to write to standard output, by the suffix that pg_dump and people use.
UNPACKERS = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}
_READ = 'if [ -n "$1" ]; then "$1" -dc -- "$2"; else cat -- "$2"; fi'
# sh has no pipefail: the left side leaves its status in a file. A reader that has enough early (tar archives end in
# blanks) leaves the rest to `cat`, so that the unpacker does its own check to the end.
_FEED = f'{{ {_READ}; echo "$?" > "$3"; printf \'%b\' "$4"; }} | {{ shift 4; "$@" && cat > /dev/null; }}'
_SIGNALLED = 128  # sh adds the signal's number to it
_CANNOT_START = (126, 127)
_TAIL_BYTES = 1024 * 1024  # a message may be followed by the whole statement
_SAMPLE_S = 2.0
_CRAMPED_BYTES = 32 * 1024 * 1024  # two files of WAL

# Messages of the programs and of the server. What quotes the dump (CONTEXT, LINE, Command was) begins with other words.
_MESSAGE = re.compile(
    r"^(?:(?:pg_restore|psql)\b.*(?:error|ERROR|FATAL|PANIC|closed)|ERROR:  |FATAL:  |PANIC:  |server closed ).*", re.M
)
# What a failed restore says when the place is to blame and not the backup.
_PLACE_TO_BLAME = re.compile(
    "|".join(
        (
            "No space left on device",
            "[Pp]ermission denied",  # also of verify_in: database, whose login need not be a superuser
            "must be (?:superuser|owner|member|able to)",
            "affected by row-level security",  # of an owner that may bypass it in the source
            "must be (?:pre)?loaded",  # a library that this server does not load at its start
            "shared_preload_libraries",
            'security label provider ".*" is not loaded',
            'parameter "default_tablespace"',  # one that this server has not
            'tablespace ".*" does not exist',
            'role ".*" does not exist',  # no dump of one database carries roles
            'collation ".*" does not exist',  # one of the operating system's; own ones are carried
            "could not access file",  # a library that is not installed here
            "could not load library",
            "is not available",  # an extension
            "closed the connection",
            "terminating connection",
            "could not connect",
            "connection to server",
            "the database system is",
            "too many (?:connections|clients)",
            "out of (?:shared )?memory",
            "invalid locale name",
            "could not create locale",
            "(?:support|supported) (?:by|in) this (?:build|installation)",
            "does not support compression",
            "compression method .* not supported",
            "unsupported XML feature",
            "unrecognized configuration parameter",  # written by a newer client than this server
            "unsupported version .* in file header",
        )
    )
)


class RestoreRefused(RunbookError):
    """The dump does not load. With `place_to_blame` that says something about this host, not about the backup."""

    def __init__(self, why: str, *, program: str, status: int, place_to_blame: bool = False) -> None:
        if status > _SIGNALLED:  # as sh tells it
            status = _SIGNALLED - status
        killed = status < 0
        self.place_to_blame = place_to_blame or killed or bool(_PLACE_TO_BLAME.search(why))
        super().__init__(f"The dump does not load: {program} {describe_status(status)}", why=why)


@dataclass(frozen=True)
class Dump:
    """A dump on the target: its path, its format (`directory`, `custom`, `tar` or `plain`), and how it is packed.

    `absent` is what a new database has and the source had not, in the words of DROP. With `tablespaces`, relations go
    into those of the source; the others stay in the default one of the database.
    """

    path: str
    format: str
    unpacker: str | None = None
    absent: tuple[str, ...] = ()
    tablespaces: bool = False


def absent_from(manifest: Manifest) -> tuple[str, ...]:
    """What template0 brings that was dropped in the source. No dump says that it is gone."""
    found = []
    if "plpgsql" not in manifest.surroundings.extensions:
        found.append("EXTENSION IF EXISTS plpgsql")
    figures = manifest.fingerprint
    if figures is not None and "schema public" not in figures.objects:
        names = (*figures.tables, *figures.sequences, *figures.objects)
        if not any(" public." in f" {name}" for name in names):
            found.append("SCHEMA IF EXISTS public")
    return tuple(found)


def load(
    target: Target,
    server: Server,
    programs: Programs,
    dump: Dump,
    db: str,
    *,
    jobs: int,
    work_dir: str,
    before: Sequence[str] = (),
    pause: Callable[[], None] | None = None,
) -> None:
    """Load the dump. The first refused statement ends it. `before` is what starts the program, such as `nice`.

    With `pause`, an archive is loaded in pieces of some tables or indexes, and `pause` is called before each. What does
    not load in parallel is loaded once more, one after the other, into a database that is made anew.

    Raises:
        RestoreRefused: it did not load as a whole.
    """
    conninfo = server.login.conninfo(db, "psql" if dump.format == "plain" else "pg_restore")
    run = _Runner(target, server.login.environ(), work_dir)
    _take_away(server, db, dump)
    if dump.format == "plain":
        psql = [*before, programs.path("psql"), f"--dbname={conninfo}", "--no-password", "--no-psqlrc", "--quiet"]
        # The script gets one more line. It is obeyed only if all before it was complete: inside of a string, of a body
        # or of the rows of COPY it is no command.
        mark = uuid4().hex
        told = run([*psql, "--set=ON_ERROR_STOP=1", "--output=/dev/null", "--file=-"], dump, f"\\n\\\\echo {mark}\\n")
        if mark.encode() not in told:
            raise RestoreRefused("the script ends early", program="psql", status=0)
        return
    pg_restore = [*before, programs.path("pg_restore"), f"--dbname={conninfo}", "--no-password", "--exit-on-error"]
    pg_restore += [*([] if dump.tablespaces else ["--no-tablespaces"]), "--no-subscriptions"]
    if dump.unpacker or dump.format == "tar":  # neither can be read by several at once
        run(pg_restore if dump.unpacker else [*pg_restore, "--", dump.path], dump)
        return
    whole = passes.passes(run([programs.path("pg_restore"), "--list", "--verbose", "--", dump.path], dump))

    def restore(jobs: int) -> None:
        for number, (entries, together) in enumerate(passes.in_pieces(whole, jobs) if pause else whole):
            if pause:
                pause()
            chosen = f"{work_dir}/entries-{number}"
            target.files.write(chosen, entries)
            run([*pg_restore, f"--jobs={jobs if together else 1}", f"--use-list={chosen}", "--", dump.path], dump)

    try:
        restore(jobs)
    except RestoreRefused as exc:
        if jobs == 1 or exc.place_to_blame:
            raise
        source_database.make_anew(
            server, db
        )  # workers may stand in each other's way, which says nothing about the dump
        _take_away(server, db, dump)
        restore(1)


def _take_away(server: Server, db: str, dump: Dump) -> None:
    """Drop what the new database has and the source had not."""
    if dump.absent:
        with server.connect(db) as session:
            for what in dump.absent:
                try:
                    session.execute(f"DROP {what}")
                except QueryFailed as exc:
                    raise RestoreRefused(exc.why, program=f"DROP {what}", status=1, place_to_blame=True) from None


class _Runner:
    """Runs a program to its end and returns what it printed, or raises what its end means."""

    def __init__(self, target: Target, secrets: Mapping[str, str], work_dir: str) -> None:
        self._target = target
        self._secrets = secrets
        self._work_dir = work_dir

    def __call__(self, argv: Sequence[str], dump: Dump, more: str = "") -> bytes:
        """A packed dump, or one to which `more` is added (in the words of printf), is fed to standard input."""
        program = next(word for word in argv if "/" in word).rsplit("/", 1)[-1]  # after what starts it
        feed_status = f"{self._work_dir}/feed-status"
        fed = bool(dump.unpacker or more)
        if fed:
            argv = ["/bin/sh", "-c", _FEED, "feed", dump.unpacker or "", dump.path, feed_status, more, *argv]
        log = f"{self._work_dir}/{program}.log"
        self._target.files.remove_tree(log)
        job = self._target.spawn(argv, env=self._secrets, log=log)
        try:
            status, cramped = self._wait(job)
        finally:
            job.stop()
        if fed:
            self._check_feed(dump, program, status, feed_status, job)
        if status != 0:
            raise _refused(job, program, status, cramped)
        return self._target.files.read(log)

    def _wait(self, job: Job) -> tuple[int, bool]:
        """The status, and whether the disk was all but full: then a message may be lost, and space is to blame."""
        cramped = False
        while True:
            status = job.wait(_SAMPLE_S)
            cramped = cramped or self._target.files.space(self._work_dir).free_bytes < _CRAMPED_BYTES
            if status is not None:
                return status, cramped

    def _check_feed(self, dump: Dump, program: str, status: int, path: str, job: Job) -> None:
        told = self._target.files.read(path) if self._target.files.info(path) is not None else b""
        feed_status = int(told) if told.strip().isdigit() else _SIGNALLED + signal.SIGKILL
        if feed_status in _CANNOT_START:
            raise ProgramMissing(
                "A program is missing", subject=dump.unpacker or "cat", why=job.tail(), remedy="Install it."
            )
        reader_killed = status < 0 or status > _SIGNALLED
        if feed_status == 0 or reader_killed or (status != 0 and feed_status == _SIGNALLED + signal.SIGPIPE):
            return  # the reader has the say
        why = f"{dump.path} cannot be unpacked to its end: {job.tail()}"
        raise RestoreRefused(why, program=program, status=status, place_to_blame=feed_status > _SIGNALLED)


def _refused(job: Job, program: str, status: int, cramped: bool) -> RestoreRefused:
    text = job.tail(_TAIL_BYTES)
    found = [match.group() for match in _MESSAGE.finditer(text)]
    messages = "\n".join(message for message in found if "worker process died" not in message)  # tells no reason
    # Without a message nobody knows what happened: a full disk takes no log either.
    return RestoreRefused(
        (messages or text)[:4096], program=program, status=status, place_to_blame=cramped or not messages
    )
