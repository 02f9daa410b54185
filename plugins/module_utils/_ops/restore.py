# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a dump into an empty database, and judge what came of it."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import uuid4

from .._catalog.manifest import Surroundings
from .._db import Server, Session, compose
from .._errors import ProgramMissing, QueryFailed, RunbookError
from .._programs import Programs
from .._target.base import Job, Target, describe_status

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

# Lines of `pg_restore --list`: number, two OIDs, kind, name.
_RIGHTS = re.compile(rb"\d+; \d+ \d+ (?:DEFAULT )?ACL(?: LANGUAGE)? ")
_HEAVY = re.compile(rb"\d+; \d+ \d+ (?:TABLE DATA|INDEX|CONSTRAINT|FK CONSTRAINT|MATERIALIZED VIEW DATA|BLOBS) ")
_HEAVY_AT_ONCE = 2  # for each job
_AFTER_RIGHTS = re.compile(rb"\d+; \d+ \d+ (?:MATERIALIZED VIEW DATA|EVENT TRIGGER|COMMENT - EVENT TRIGGER) ")

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
    """A dump on the target: its path, its format (`directory`, `custom`, `tar` or `plain`), and how it is packed."""

    path: str
    format: str
    unpacker: str | None = None


def create_database(session: Session, name: str, like: Surroundings | None, encoding: str | None = None) -> list[str]:
    """Create an empty database that is made like the source. Returns notes on what could not be had here.

    Without a source to be like, it gets this encoding.
    """
    template = "CREATE DATABASE {} TEMPLATE template0"
    if like is None:
        clauses = " ENCODING {encoding} LC_COLLATE 'C' LC_CTYPE 'C'" if encoding else ""
        session.execute(compose(template + clauses, name, encoding=encoding or ""))
        return []
    clauses = " ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}"
    if like.locale_provider in ("i", "b"):
        clauses += {
            "i": " LOCALE_PROVIDER icu ICU_LOCALE {locale}",
            "b": " LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}",
        }[like.locale_provider]
    if like.icu_rules:
        clauses += " ICU_RULES {icu_rules}"
    values = {word: value or "" for word, value in asdict(like).items() if isinstance(value, (str, type(None)))}
    try:
        session.execute(compose(template + clauses, name, **values))
        return []
    except QueryFailed as exc:
        plain = " ENCODING {encoding} LC_COLLATE 'C' LC_CTYPE 'C'"
        session.execute(compose(template + plain, name, **values))
        return [f"Restored under the locale C, since {like.collate} is not to be had here: {exc.why}"]


def create_roles(session: Session, names: Sequence[str]) -> list[str]:
    """Create the roles that are not there, none of which can log in. Returns the created ones.

    They are superusers, as event triggers and foreign-data wrappers need such an owner: fit for a scratch server only.
    """
    there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
    missing = [name for name in dict.fromkeys(names) if name not in there]
    for name in missing:
        session.execute(compose("CREATE ROLE {} SUPERUSER NOLOGIN", name))
    return missing


def missing_extensions(session: Session, names: Sequence[str]) -> list[str]:
    """The extensions that this server cannot create."""
    there = {row.name for row in session.query("SELECT name FROM pg_catalog.pg_available_extensions")}
    return [name for name in names if name not in there]


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

    With `pause`, an archive is loaded in pieces of some tables or indexes, and `pause` is called before each.

    Raises:
        RestoreRefused: it did not load as a whole.
    """
    conninfo = server.login.conninfo(db)
    run = _Runner(target, server.login.environ(), work_dir)
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
    pg_restore += ["--no-tablespaces", "--no-subscriptions"]
    if dump.unpacker or dump.format == "tar":  # neither can be read by several at once
        run(pg_restore if dump.unpacker else [*pg_restore, "--", dump.path], dump)
        return
    passes = _passes(run, programs, dump)
    for number, (entries, together) in enumerate(_in_pieces(passes, jobs) if pause else passes):
        if pause:
            pause()
        chosen = f"{work_dir}/entries-{number}"
        target.files.write(chosen, entries)
        run([*pg_restore, f"--jobs={jobs if together else 1}", f"--use-list={chosen}", "--", dump.path], dump)


def _passes(run: _Runner, programs: Programs, dump: Dump) -> list[tuple[bytes, bool]]:
    """The archive's entries as lists to restore one after the other, and whether in parallel.

    `pg_restore --jobs` restores rights in parallel as well, and may so use a right, as somebody who only has it through
    another grant, before that is there. So rights come in a pass of their own. What needs them comes last: contents of
    materialized views, and event triggers (RestorePass in src/bin/pg_dump/pg_backup_archiver.h).
    """
    lines = run([programs.path("pg_restore"), "--list", "--", dump.path], dump).splitlines(keepends=True)
    rights = [line for line in lines if _RIGHTS.match(line)]
    late = [line for line in lines if _AFTER_RIGHTS.match(line)]
    apart = {*rights, *late}
    main = [line for line in lines if line not in apart]
    passes = ((main, True), (rights, False), (late, True))
    return [(b"".join(entries), together) for entries, together in passes if entries]


def _in_pieces(passes: Sequence[tuple[bytes, bool]], jobs: int) -> list[tuple[bytes, bool]]:
    """The same in the same order, cut so that each piece keeps every job busy with some large entries."""
    pieces: list[tuple[bytes, bool]] = []
    for entries, together in passes:
        piece: list[bytes] = []
        heavy = 0
        for line in entries.splitlines(keepends=True):
            piece.append(line)
            heavy += bool(_HEAVY.match(line))
            if heavy == jobs * _HEAVY_AT_ONCE:
                pieces.append((b"".join(piece), together))
                piece, heavy = [], 0
        if piece:
            pieces.append((b"".join(piece), together))
    return pieces


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
