# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pg_dump's command line: formats, compression, and what its failures mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .._errors import CommandFailed, InvalidInput, NotEnoughSpace, RunbookError
from .._postgres.programs import Programs
from .._target.base import BackgroundJob, Target, describe_status

_COMPRESSION = re.compile(r"(auto|none|gzip|lz4|zstd)(?::([0-9]{1,2}))?")
_LEVELS = {"gzip": range(1, 10), "lz4": range(1, 13), "zstd": range(1, 23)}
_SUFFIXES = {"none": "", "gzip": ".gz", "lz4": ".lz4", "zstd": ".zst"}
# Level 1 of each: the dump is then as fast as the server can send, and higher levels of gzip cost far more time than
# they save space (docs/benchmarks.md).
_PREFERRED = ("zstd:1", "lz4:1", "gzip:1")
# What pg_dump prints, since it prints no SQLSTATE. Texts of libpq and of its own are in English, as it runs under
# LC_ALL=C; those of the server are in English where the login may set lc_messages, as a superuser may.
CONFLICT = ("due to conflict with recovery",)
CANCELLED = ("canceling statement due to user request",)
CRASHED = ("because of crash of another server process", "in recovery mode")
TERMINATED = ("terminating connection due to administrator command",)
NO_SNAPSHOT = ("invalid snapshot identifier", "could not import the requested snapshot")
LOST = ("closed the connection", "connection to server", "no connection to the server", "could not receive data")
_DENIED = ("permission denied", "row-level security")
_ENDED = ("server closed the connection", "terminating connection", "snapshot")
_LOCKED = ("lock timeout", "Query was: LOCK TABLE", "could not obtain lock")  # it waits by statement_timeout
_TOO_MANY_CONNECTIONS = ("too many clients", "connection slots are reserved", "too many connections")
_TOO_MANY_LOCKS = ("out of shared memory",)
_DISK_FULL = ("No space left on device",)

_REMEDIES = (
    (
        CONFLICT,
        "Replay on the standby conflicted with the backup: set hot_standby_feedback = on, or back up the primary.",
    ),
    (_DENIED, "The login needs to read everything: use a superuser, or grant pg_read_all_data and BYPASSRLS."),
    (_ENDED, "See the server's log for the reason."),  # `interrupted` finds out why
    (
        _LOCKED,
        "Another session holds, or waits for, an exclusive lock on a table: see pg_locks, wait, or raise lock_timeout.",
    ),
    (_TOO_MANY_CONNECTIONS, "The server has too few connections: lower jobs."),
    (
        _TOO_MANY_LOCKS,
        "The server's table of locks is full: raise max_locks_per_transaction (restart), or use fingerprint: none.",
    ),
)
_FULL_DISK_BYTES = 1024 * 1024
_TAIL_BYTES = 256 * 1024  # a message may be followed by a page of SQL
_MESSAGES_CHARS = 4000
_QUERY = re.compile(r"((?:Query|Command) was: )(.*?)(?=^pg_\w+: |\Z)", re.S | re.M)
_QUERY_CHARS = 120


@dataclass(frozen=True)
class DumpCommand:
    """How one dump is made. `compression` is as pg_dump 16 writes it: `none` or `method:level`.

    `encoding` is the database's own, so that no text has to be converted, whatever a setting or the environment says.
    """

    programs: Programs
    format: str
    jobs: int
    compression: str
    lock_timeout_s: float
    encoding: str

    @property
    def file_name(self) -> str:
        """The name of the dump inside a backup's directory."""
        if self.format == "directory":
            return "data"
        return "data.dump" if self.format == "custom" else "data.sql" + _SUFFIXES[self.compression.split(":")[0]]

    def argv(self, conninfo: str, path: str, snapshot: str) -> list[str]:
        """The arguments that write the dump to `path`."""
        argv = [
            self.programs.path("pg_dump"),
            f"--dbname={conninfo}",
            "--no-password",
            f"--format={self.format}",
            f"--file={path}",
            f"--encoding={self.encoding}",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={round(self.lock_timeout_s * 1000)}",
            f"--compress={self._compress_argument()}",
            "--no-sync",  # the backup is made durable as a whole, while its checksums are computed
        ]
        if self.format == "directory":
            argv.append(f"--jobs={self.jobs}")
        if self.format == "plain":  # of an archive, pg_restore leaves them out
            argv += ["--no-tablespaces", "--no-subscriptions"]
        return argv

    def _compress_argument(self) -> str:
        if self.programs.major >= 16:
            return self.compression
        return "0" if self.compression == "none" else self.compression.split(":")[1]


def check_compression(text: str) -> None:
    """Raise InvalidInput unless the text is a compression: `auto`, `none`, or a method with or without a level."""
    match = _COMPRESSION.fullmatch(text)
    method, level = (match[1], match[2]) if match else ("", None)
    if not match or (level is not None and int(level) not in _LEVELS.get(method, ())):
        raise InvalidInput(
            "Invalid compress",
            subject=repr(text),
            why="it is not a compression method",
            remedy="Use auto, none, gzip, lz4 or zstd. A level may follow: gzip:1 to 9, lz4:1 to 12, zstd:1 to 22.",
        )


def choose_compression(target: Target, programs: Programs, wanted: str, format_: str) -> str:
    """The compression to use: the wanted one if this pg_dump has it, the best that it has for `auto`.

    A plain dump gets gzip, which any machine can unpack for psql.

    Raises:
        InvalidInput: this pg_dump does not offer the wanted method.
    """
    check_compression(wanted)
    if wanted == "none":
        return "none"
    if wanted == "auto":
        candidates = ("gzip:1",) if format_ == "plain" else _PREFERRED
        return next(choice for choice in candidates if _offers(target, programs, choice))
    choice = wanted if ":" in wanted else f"{wanted}:{'6' if wanted == 'gzip' else '3' if wanted == 'zstd' else '1'}"
    if not _offers(target, programs, choice):
        raise InvalidInput(
            f"This pg_dump does not support the compression {wanted}",
            subject=f"{programs.path('pg_dump')} {programs.version}",
            remedy="Use auto, or set bin_dir to the directory of a client, version 16 or newer, that was built with "
            "it.",
        )
    return choice


def _offers(target: Target, programs: Programs, choice: str) -> bool:
    method = choice.split(":")[0]
    if method == "gzip":
        return True
    if programs.major < 16:  # --compress=METHOD came with 16
        return False
    # pg_dump judges the method before it connects, and says so when it was built without it. No server listens there.
    nowhere = "--dbname=host=/nonexistent port=1"
    try:
        target.run(
            [programs.path("pg_dump"), nowhere, "--no-password", "--format=custom", f"--compress={choice}"],
            timeout=30,
        )
    except CommandFailed as exc:
        return "does not support compression" not in str(exc.details["messages"])
    return True


def dump_failure(target: Target, job: BackgroundJob, program: str, path: str) -> RunbookError:
    """What a program's bad end means, from its status, its messages and the disk."""
    status = job.poll()
    messages = _without_queries(job.tail(_TAIL_BYTES))[-_MESSAGES_CHARS:]
    if any(sign in messages for sign in _DISK_FULL) or target.files.space(path).free_bytes < _FULL_DISK_BYTES:
        return NotEnoughSpace(
            "The disk filled up while the backup was written",
            subject=path,
            why=messages or "there is no space left",
            remedy="Free some space there (the playbook godel.postgres_runbook.backup_retention lists old backups). "
            "The half-written backup was removed.",
        )
    first_step = next((text for signs, text in _REMEDIES if any(sign in messages for sign in signs)), "")
    remedy = f"{first_step} The half-written backup was removed; it is safe to run this again.".lstrip()
    return CommandFailed(
        f"{program} {describe_status(status if status is not None else 1)}",
        why=messages,
        remedy=remedy,
        details={"program": program, "returncode": status, "messages": messages},
    )


def _without_queries(messages: str) -> str:
    """The messages of a program, with the beginnings of the statements that they quote."""

    def shortened(match: re.Match[str]) -> str:
        query = " ".join(match[2].split())
        return match[1] + (query if len(query) <= _QUERY_CHARS else f"{query[:_QUERY_CHARS]} ...") + "\n"

    return _QUERY.sub(shortened, messages).strip()
