# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a dump into an empty database, and judge what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .._catalog.manifest import Surroundings
from .._db import Server, Session, compose
from .._errors import QueryFailed, RunbookError
from .._programs import Programs
from .._target.base import Job, Target, describe_status

ARCHIVE_FORMATS = ("directory", "custom", "tar")
# A decompressor that is told to write to standard output, by the suffix that pg_dump and people use.
UNPACKERS = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4"}
# sh has no pipefail: the left side leaves its status in a file, and no file means 0.
_UNPACK_INTO = '{ "$1" -dc -- "$2" || echo "$?" > "$3"; } | { shift 3; "$@"; }'

# What a failed restore says when the place is to blame and not the backup.
_PLACE_TO_BLAME = (
    "No space left on device",
    "could not access file",  # a library that is not installed here
    "could not load library",
    "is not available",  # an extension
    "server closed the connection",
    "terminating connection",
    "could not connect",
    "connection to server",
    "out of memory",
    "out of shared memory",
    "invalid locale name",
    "could not create locale",
    "not supported by this build",
    "does not support compression",
    "transaction_timeout",  # written by a newer client than this server
)


class RestoreRefused(RunbookError):
    """The dump does not load. `place_to_blame` tells whether that says something about this host, not about the backup."""

    def __init__(self, why: str, *, program: str, status: int | None) -> None:
        self.place_to_blame = any(text in why for text in _PLACE_TO_BLAME)
        fate = describe_status(status if status is not None else 1)
        if status is not None and status < 0:
            self.place_to_blame = True  # somebody killed it
        super().__init__(f"The dump does not load: {program} {fate}", why=why)


@dataclass(frozen=True)
class Dump:
    """A dump on the target: its path, its format (`directory`, `custom`, `tar` or `plain`), and how it is packed."""

    path: str
    format: str
    unpacker: str | None = None


def create_database(session: Session, name: str, like: Surroundings | None) -> list[str]:
    """Create an empty database that is made like the source. Returns notes on what could not be had here."""
    template = "CREATE DATABASE {} TEMPLATE template0"
    if like is None:
        session.execute(compose(template, name))
        return []
    clauses = " ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}"
    if like.locale_provider in ("i", "b"):
        clauses += {"i": " LOCALE_PROVIDER icu ICU_LOCALE {locale}", "b": " LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}"}[
            like.locale_provider
        ]
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


def load(target: Target, server: Server, programs: Programs, dump: Dump, db: str, *, jobs: int, work_dir: str) -> None:
    """Load the dump. The first refused statement ends it.

    Raises:
        RestoreRefused: it did not load as a whole.
    """
    conninfo, secrets = server.login.conninfo(db), server.login.environ()
    unpack_status = f"{work_dir}/unpack-status"
    if dump.format in ARCHIVE_FORMATS:
        program = "pg_restore"
        argv = [
            programs.path(program), f"--dbname={conninfo}", "--no-password", "--exit-on-error", "--no-tablespaces",
            "--no-subscriptions", "--", dump.path,
        ]  # fmt: skip
        if dump.format != "tar" and dump.unpacker is None:
            argv.insert(1, f"--jobs={jobs}")
    else:
        program = "psql"
        argv = [
            programs.path(program), f"--dbname={conninfo}", "--no-password", "--no-psqlrc", "--quiet",
            "--set=ON_ERROR_STOP=1", "--output=/dev/null",
        ]  # fmt: skip
        argv.append("--file=-" if dump.unpacker else f"--file={dump.path}")
    if dump.unpacker:
        argv = argv[: argv.index("--")] if "--" in argv else argv  # it reads standard input
        argv = ["/bin/sh", "-c", _UNPACK_INTO, "unpack", dump.unpacker, dump.path, unpack_status, *argv]
    job = target.spawn(argv, env=secrets, log=f"{work_dir}/{program}.log")
    try:
        status = _wait(job)
    finally:
        job.stop()
    if target.files.info(unpack_status) is not None:
        raise RestoreRefused(f"{dump.path} cannot be unpacked to its end: {job.tail()}", program=program, status=1)
    if status != 0:
        raise RestoreRefused(job.tail(), program=program, status=status)


def _wait(job: Job) -> int:
    while (status := job.wait(60)) is None:
        pass
    return status
