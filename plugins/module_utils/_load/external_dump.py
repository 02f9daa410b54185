# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumps not taken by this collection: what a file is, judged by its content, and what it needs to be restored."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .._errors import CommandFailed, FileProblem, InvalidInput, ProgramMissing
from .._postgres.programs import Programs
from .._target.base import Target
from .loaders import UNPACKERS, Dump, missing_unpacker

_PACKED = (
    (b"\x1f\x8b", ".gz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
    (b"\x04\x22\x4d\x18", ".lz4"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\0", ".xz"),
)
# A byte order mark: PowerShell writes so what a program prints into `>`.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 4096
# A FIFO would keep us waiting.
_HEAD_OF_FILE = f'[ -f "$1" ] || {{ echo "it is not a regular file" >&2; exit 1; }}; exec head -c {_HEAD_BYTES} -- "$1"'
_END_MARK = "-- PostgreSQL database dump complete"
_CLUSTER_MARK = "-- PostgreSQL database cluster dump"

_END_LINES = 12  # what may follow the end mark: comments, blanks and \unrestrict
# Keeps the statements that name roles, extensions and databases, and the numbers of the last line and of that with the
# end mark; rows of COPY are dropped first, so that they forge nothing. POSIX sed, constant script.
_WANTED = (
    "OWNER TO ", "^GRANT ", "^REVOKE ", "SESSION AUTHORIZATION", "DEFAULT PRIVILEGES", "^CREATE POLICY ",
    "^CREATE EXTENSION ", "^CREATE SUBSCRIPTION ", r"^\\connect ", "^SET client_encoding ",
    "^-- Dumped by pg_dump version ", "^-- Dumped from database version ",
)  # fmt: skip
# A dump that came through a terminal has a carriage return before each end of a line.
_SIFT = "sed -n -e '/^COPY .* FROM stdin;[[:space:]]*$/,/^\\\\\\.[[:space:]]*$/d'" + "".join(
    f" -e '/{pattern}/p'" for pattern in _WANTED
)
_SIFT += f" -e '/^{_END_MARK}[[:space:]]*$/=' -e '$='"
_SIFT_FILE = _SIFT + ' -- "$1"'
_SIFT_PACKED = '"$2" -dc -- "$1" | ' + _SIFT
_SIFT_ARCHIVE = '"$2" --schema-only --file=- -- "$1" | ' + _SIFT
_SIFT_PACKED_ARCHIVE = '"$3" -dc -- "$1" | "$2" --schema-only --file=- | ' + _SIFT

# pg_restore takes a tar archive or an unpacked table that is cut off between two rows for a whole one. The ends tell:
# a tar archive's is 1024 NULs, a table's that of COPY or of INSERT in one of its forms, or blank.
_TAR_END = '"${2:-cat}" ${2:+-dc} -- "$1" | tail -c 1024'
_TABLE_ENDS = (
    """find "$1" -name '[0-9]*.dat' -exec sh -c 'for f; do tail -c 32 -- "$f"; printf "\\\\0"; done' sh {} +"""
)
_ENDS_OF_ROWS = (b"\\.\n\n\n", b");\n\n\n", b" DEFAULT VALUES;\n\n\n", b" ON CONFLICT DO NOTHING;\n\n\n")
_ENDS_WITHOUT_ROWS = (b"\n\n", b"")

_NAME = r'("(?:[^"]|"")+"|[\w$]+)'
_ROLES = (
    re.compile(rf"OWNER TO {_NAME};"),
    re.compile(rf"^(?:GRANT|REVOKE) .* (?:TO|FROM) {_NAME}(?: WITH GRANT OPTION)?;"),
    re.compile(rf"DEFAULT PRIVILEGES FOR ROLE {_NAME}"),
    re.compile(rf"^CREATE POLICY .*? TO ((?:{_NAME}(?:, )?)+)"),
)
_AUTHORIZATION = re.compile(r"SESSION AUTHORIZATION '((?:[^']|'')+)'")
_EXTENSION = re.compile(rf"^CREATE EXTENSION IF NOT EXISTS {_NAME}")
_SOURCE = re.compile(r"^-- Dumped from database version (\d+)")
_TOOL = re.compile(r"^-- Dumped by pg_dump version (\d+)")
_ENCODING = re.compile(r"^SET client_encoding = '(\w+)'")
_CONNECT = re.compile(rf"^\\connect (?:-reuse-previous=on \"dbname='(.+)'\"|{_NAME})")


@dataclass(frozen=True)
class ExternalDump:
    """An external dump: where and what it is, what it needs, and whether it ends as a dump ends.

    `database` is set when the dump creates and enters a database of its own (`pg_dump --create`); `tool_major` is the
    version of the pg_dump that wrote it; `encoding` when its text fits only a database of that encoding; `subscribes`
    says that a script creates subscriptions; `source_major` is that of the server, 0 where the dump does not say it.
    """

    dump: Dump
    size_bytes: int
    roles: list[str]
    extensions: list[str]
    database: str | None
    tool_major: int
    complete: bool
    encoding: str | None
    subscribes: bool
    source_major: int


def identify(target: Target, path: str) -> Dump:
    """What the file is, by its first bytes, whatever its name.

    Raises:
        InvalidInput: no such file, or nothing that pg_dump writes.
    """
    if not path.startswith("/"):
        raise InvalidInput(
            "Invalid path of a dump", subject=path, why="it is not absolute", remedy="Begin it with a slash."
        )
    found = target.files.info(path)
    if found is None:
        raise InvalidInput(
            "There is no such file", subject=path, remedy="Name `latest`, a backup's id, or an existing file."
        )
    if found.is_dir:
        if target.files.info(f"{path}/toc.dat") is None:
            raise InvalidInput("Invalid dump directory", subject=path, why="it has no toc.dat")
        return Dump(path, "directory")
    head = _head(target, ["/bin/sh", "-c", _HEAD_OF_FILE, "head", path], path)
    unpacker = next((UNPACKERS[suffix] for magic, suffix in _PACKED if head.startswith(magic)), None)
    if unpacker:
        try:
            target.run([unpacker, "--version"], timeout=60)  # else a missing program would look like an empty file
        except ProgramMissing as exc:
            raise missing_unpacker(unpacker, exc.why) from None
        head = _head(
            target,
            ["/bin/sh", "-c", f'"$1" -dc -- "$2" | head -c {_HEAD_BYTES}', "head", unpacker, path],
            path,
        )
        if not head:
            raise InvalidInput(
                "Invalid dump file", subject=path, why=f"{unpacker} cannot unpack its beginning: it may be damaged",
                remedy="Name another file, or a backup of the catalog.",
            )  # fmt: skip
    return Dump(path, _format_of(head, path), unpacker)


def _format_of(head: bytes, path: str) -> str:
    """The format of a dump by its first bytes. Raises InvalidInput for what cannot be restored."""
    if head.startswith(b"PGDMP"):
        return "custom"
    if head.startswith(b"toc.dat\0"):
        return "tar"
    if b"PostgreSQL database dump" in head:
        return "plain"
    if _CLUSTER_MARK.encode() in head:
        raise InvalidInput(
            "This is a dump of a whole cluster", subject=path, why="it was made by pg_dumpall",
            remedy="Verify dumps of single databases, made by pg_dump.",
        )  # fmt: skip
    if head.startswith(_UTF_16):
        raise InvalidInput(
            "This dump is in UTF-16, which psql cannot read", subject=path,
            why="PowerShell redirects the output of programs in UTF-16",
            remedy="Convert it: iconv -f UTF-16 -t UTF-8. For the next one, use pg_dump's option --file.",
        )  # fmt: skip
    raise InvalidInput(
        "Invalid dump file", subject=path, why="it is neither an archive nor a script of pg_dump",
        remedy="Name a file that pg_dump wrote (.sql, .dump or .tar, also packed), or a backup of the catalog.",
    )  # fmt: skip


def _head(target: Target, argv: list[str], path: str) -> bytes:
    try:
        return target.run(argv, timeout=60).stdout
    except CommandFailed as exc:
        raise FileProblem("A file cannot be read", subject=path, why=exc.why) from None


def examine(target: Target, programs: Programs, dump: Dump) -> ExternalDump:
    """Read through an external dump for what a restore of it needs."""
    pg_restore = programs.path("pg_restore")
    if dump.format == "plain":
        script = [_SIFT_PACKED, "sift", dump.path, dump.unpacker] if dump.unpacker else [_SIFT_FILE, "sift", dump.path]
    elif dump.unpacker:
        script = [_SIFT_PACKED_ARCHIVE, "sift", dump.path, pg_restore, dump.unpacker]
    else:
        script = [_SIFT_ARCHIVE, "sift", dump.path, pg_restore]
    lines = target.run(["/bin/sh", "-c", *script]).text.splitlines()
    roles: list[str] = []
    extensions: list[str] = []
    database = None
    encoding = None
    tool_major = source_major = 0
    for line in lines:
        roles += _roles_of(line)
        if extension := _EXTENSION.match(line):
            extensions.append(_plain(extension[1]))
        if tool := _TOOL.match(line):
            tool_major = int(tool[1])
        if source := _SOURCE.match(line):
            source_major = int(source[1])
        if found_encoding := _ENCODING.match(line):
            encoding = found_encoding[1]
        if connect := _CONNECT.match(line):
            database = _of_conninfo(connect[1]) if connect[1] else _plain(connect[2])
    found = target.files.info(dump.path)
    size = sum(info.size_bytes for info in target.files.walk(dump.path)) if found and found.is_dir else 0
    database = database if dump.format == "plain" else None
    return ExternalDump(
        dump=replace(dump, enters=database),
        size_bytes=size or (found.size_bytes if found else 0),
        roles=list(dict.fromkeys(roles)),
        extensions=list(dict.fromkeys(extensions)),
        database=database,
        tool_major=tool_major or programs.major,
        complete=_ends_well(lines) if dump.format == "plain" else _is_whole(target, dump),
        # All else is converted on the way in.
        encoding=encoding if encoding == "SQL_ASCII" else None,
        subscribes=dump.format == "plain" and any(line.startswith("CREATE SUBSCRIPTION ") for line in lines),
        source_major=source_major,
    )


def _is_whole(target: Target, dump: Dump) -> bool:
    """Whether an archive ends as pg_dump ends it, as far as pg_restore does not see to that itself."""
    if dump.format == "tar":
        end = target.run(["/bin/sh", "-c", _TAR_END, "end", dump.path, dump.unpacker or ""]).stdout
        found = target.files.info(dump.path)
        blocks = dump.unpacker is not None or (found is not None and found.size_bytes % 512 == 0)
        return blocks and len(end) == 1024 and not end.strip(b"\0")
    if dump.format == "directory":
        ends = target.run(["/bin/sh", "-c", _TABLE_ENDS, "ends", dump.path]).stdout
        return all(end in _ENDS_WITHOUT_ROWS or end.endswith(_ENDS_OF_ROWS) for end in ends.split(b"\0"))
    return True


def _of_conninfo(text: str) -> str:
    """A name as psql and then libpq unquote it."""
    return re.sub(r"\\(.)", r"\1", text.replace('""', '"'))


def _ends_well(lines: list[str]) -> bool:
    """Whether the end mark is at the end: the last number is that of the last line, the one before is the mark's."""
    numbers = [int(line) for line in lines if line.isdigit()]
    return len(numbers) >= 2 and numbers[-1] - numbers[-2] <= _END_LINES


def _roles_of(line: str) -> list[str]:
    found: list[str] = []
    for pattern in _ROLES:
        if match := pattern.search(line):
            found += [_plain(name) for name in re.findall(_NAME, match[1])]
    if match := _AUTHORIZATION.search(line):
        found.append(match[1].replace("''", "'"))
    return [name for name in found if name.lower() not in ("public", "current_user", "session_user", "current_role")]


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
