# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove old log files of the server: only its own, never a current one, never through a link."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ..._errors import CommandFailed, FileProblem, InvalidInput, ProgramMissing, RunbookError
from ..._postgres import directories
from ..._postgres.connection import Session
from ..._target.base import FileInfo, Target
from ..._units import human_duration, human_size, to_rfc3339
from . import sql

LEAST_AGE = "1h"  # what was written to within the last hour may be open
# What another server writes to may be older, if it is quiet. But by log_rotation_age it takes a new file after a day.
SHARED_AGE_S = 25 * 3600.0
_LOOK_S = 60.0
# The account of the server, the regular files of the directory, and all that is open, each file by device and inode:
# a container may have another path for it. Programs and options that busybox has, too.
_OPEN = """
stat -L -c %u -- "$1" || exit 1
find "$2/." ! -name . -prune -type f -exec stat -c '%d:%i %u %n' -- {} + || exit 1
echo
find /proc/[0-9]*/fd -type l -exec stat -L -c %d:%i -- {} + 2>/dev/null | sort -u
"""
_FORMATS = (".log", ".csv", ".json")
# What strftime() makes of each escape, in the names that PostgreSQL uses. An escape that is not here is not guessed.
_WORD, _TWO = "[A-Za-z]+", "[0-9]{2}"
_ESCAPES = {
    "%": "%", "Y": "[0-9]{4}", "G": "[0-9]{4}", "j": "[0-9]{3}", "s": "[0-9]+", "u": "[1-7]", "w": "[0-6]",
    "a": _WORD, "A": _WORD, "b": _WORD, "B": _WORD, "h": _WORD, "p": "[AP]M",
    "e": "[ 0-9][0-9]", "k": "[ 0-9][0-9]", "l": "[ 0-9][0-9]",
    "F": "[0-9]{4}-[0-9]{2}-[0-9]{2}", "T": "[0-9]{2}:[0-9]{2}:[0-9]{2}", "R": "[0-9]{2}:[0-9]{2}",
    "z": "[+-][0-9]{4}", "Z": "[A-Za-z0-9+-]+",
    **dict.fromkeys("CydmHIMSUVWg", _TWO),
}  # fmt: skip


@dataclass(frozen=True)
class Cleanup:
    """What came of it.

    Attributes:
        directory: the server's log directory, links followed; None when the server writes no log files.
        due: the files to remove, the oldest first.
        removed: those that were removed, or in check mode would be.
        kept: how many log files are left alone.
        notes: what could not be seen.
        problem: why it ended early; the files before are removed all the same.
    """

    directory: str | None
    due: list[FileInfo] = field(default_factory=list)
    removed: list[FileInfo] = field(default_factory=list)
    kept: int = 0
    notes: list[str] = field(default_factory=list)
    problem: RunbookError | None = None

    @property
    def freed_bytes(self) -> int:
        """The size of what is removed."""
        return sum(each.size_bytes for each in self.removed)


def clean(session: Session, target: Target, older_than_s: float, now: datetime, *, rehearsal: bool) -> Cleanup:
    """Remove what is older than that and not current.

    Raises:
        InvalidInput: it cannot be done safely here; nothing was touched.
        FileProblem: the directory cannot be read.
    """
    told = session.query(sql.LOG_SETTINGS)[0]
    if not told.sees:
        raise InvalidInput(
            "Cleanup of log files failed",
            why="the login may not see the server's log directory",
            remedy="Grant it the role pg_monitor.",
        )
    if not told.collects:
        return Cleanup(None)
    pattern = name_pattern(told.filename)
    if directories.places(session, target) is None:
        raise InvalidInput(
            "Cleanup of log files failed",
            subject=target.name,
            why="the data directory of this server is not visible there",
            remedy="Run it on the server's host, or in its pod, as root or as the server's account.",
        )
    directory = _directory(target, told.data_directory, told.directory)
    current = _current(target, told.data_directory)
    ours = [each for each in target.files.entries(directory) if pattern.fullmatch(each.name)]
    notes: list[str] = []
    spare = set(current)
    if not _is_inside(target, told.data_directory, directory):
        closed = _closed(target, told.data_directory, directory, current)
        if closed is not None:
            spare |= {each.name for each in ours} - closed
        elif older_than_s < SHARED_AGE_S:
            older_than_s = SHARED_AGE_S
            notes.append(
                f"Other servers may write to {directory}, and open files cannot be detected there. "
                f"Only files that were not written to for {human_duration(SHARED_AGE_S)} are removed."
            )
    due = select(ours, spare, older_than_s, now)
    removed: list[FileInfo] = due
    problem: RunbookError | None = None
    if not rehearsal:
        removed, problem = _remove(target, due)
    return Cleanup(directory, due, removed, len(ours) - len(removed), notes, problem)


def select(found: Sequence[FileInfo], current: set[str], older_than_s: float, now: datetime) -> list[FileInfo]:
    """Regular files that are old enough and not current, the oldest first."""
    before = now.timestamp() - older_than_s
    due = [
        each
        for each in found
        if not each.is_dir and not each.irregular and each.name not in current and each.modified < before
    ]
    return sorted(due, key=lambda each: (each.modified, each.path))


def name_pattern(filename: str) -> re.Pattern[str]:
    """What the server's log_filename makes: in all formats, since each has its own suffix in place of `.log`.

    Raises:
        InvalidInput: it has an escape that is not known here, or a directory, or nothing that changes.
    """
    stem = filename.removesuffix(".log")
    parts: list[str] = []
    changes = False
    for escape, plain in re.findall(r"%([EO]?.)|([^%]+|%\Z)", stem, re.DOTALL):
        if not escape:
            parts.append(re.escape(plain))
        elif escape in _ESCAPES:
            parts.append(_ESCAPES[escape])
            changes |= escape != "%"
        else:
            raise _unsafe(filename, f"the escape %{escape} is not supported")
    if "/" in stem:
        raise _unsafe(filename, "it leads into other directories")
    if not changes:
        raise _unsafe(filename, "all files would have the same name as the current one")
    # Without `.log` at its end the server's own text is as it stands, and the other formats are put behind it.
    suffixes = [re.escape(suffix) for suffix in _FORMATS if stem != filename or suffix != ".log"]
    ending = f"(?:{'|'.join(suffixes)})" + ("" if stem != filename else "?")
    return re.compile("".join(parts) + ending)


def _unsafe(filename: str, why: str) -> InvalidInput:
    return InvalidInput(
        "The server's log files cannot be distinguished from other files",
        subject=f"log_filename = {filename!r}",
        why=why,
        remedy="Set a log_filename such as postgresql-%Y-%m-%d_%H%M%S.log, or remove old files manually.",
    )


def _current(target: Target, data_directory: str) -> set[str]:
    """The names of the files that the server writes to, one for each format.

    https://www.postgresql.org/docs/current/storage-file-layout.html
    """
    path = f"{data_directory}/current_logfiles"
    try:
        lines = target.files.read(path, 65536).decode("utf-8", "surrogateescape").splitlines()
    except FileProblem as exc:
        raise InvalidInput(
            "Cleanup of log files failed",
            why=f"the file that the server writes to is unknown: {exc.message}",
            remedy="Set log_destination to stderr, csvlog or jsonlog, then run SELECT pg_reload_conf();",
        ) from None
    return {posixpath.basename(line.partition(" ")[2]) for line in lines}


def _is_inside(target: Target, data_directory: str, directory: str) -> bool:
    """Whether the log directory is the server's own: no other server writes into its data directory."""
    return f"{directory}/".startswith(f"{target.files.resolve(data_directory)}/")


def _closed(target: Target, data_directory: str, directory: str, current: set[str]) -> set[str] | None:
    """The names of the files that are of the server's account and that no process has open.

    None when that cannot be seen: then not even the server's own current files are among those that are open.
    """
    script = ["sh", "-c", _OPEN, "sh", f"{data_directory}/postmaster.pid", directory]
    try:
        lines = target.run(script, timeout=_LOOK_S).text.split("\n")
        account, end = lines[0], lines.index("")
        entries = [line.split(" ", 2) for line in lines[1:end]]
        files = {path[len(f"{directory}/./") :]: (number, owner) for number, owner, path in entries}
    except (CommandFailed, ProgramMissing, ValueError):  # a name with a line break is one that is not known
        return None
    opened = set(lines[end:])
    if not all(name in files and files[name][0] in opened for name in current):
        return None
    return {name for name, (number, owner) in files.items() if owner == account and number not in opened}


def _directory(target: Target, data_directory: str, directory: str) -> str:
    """The log directory with links followed. One inside of the data directory may not lead out of it."""
    if directory.startswith("/"):
        return target.files.resolve(directory)
    inside = target.files.resolve(data_directory)
    wanted = posixpath.normpath(f"{inside}/{directory}")
    found = target.files.resolve(f"{data_directory}/{directory}")
    if found != wanted:
        raise InvalidInput(
            "The log directory is a symbolic link to another place",
            subject=f"{wanted} leads to {found}",
            why="the server's log_directory does not name the target of the link",
            remedy="Set log_directory to the absolute path of the target, then run SELECT pg_reload_conf();",
        )
    return found


def _remove(target: Target, due: Sequence[FileInfo]) -> tuple[list[FileInfo], RunbookError | None]:
    removed: list[FileInfo] = []
    for each in due:
        try:
            target.files.remove_file(each.path)
        except FileProblem as exc:
            return removed, exc
        removed.append(each)
    return removed, None


def difference(done: Cleanup) -> dict[str, object]:
    """For --diff: the files that go."""
    return {"before": "".join(f"{each.path}\n" for each in done.removed), "after": ""}


def values(done: Cleanup) -> dict[str, object]:
    """The return values of the module."""
    return {
        "directory": done.directory,
        "removed": [
            {
                "path": each.path,
                "size_bytes": each.size_bytes,
                "modified": to_rfc3339(datetime.fromtimestamp(each.modified).astimezone()),
            }
            for each in done.removed
        ],
        "kept": done.kept,
        "freed_bytes": done.freed_bytes,
        "notes": done.notes,
    }


def describe(done: Cleanup, *, rehearsal: bool) -> str:
    """One sentence for people."""
    if done.directory is None:
        return "The server writes no log files of its own (logging_collector is off)."
    if not done.removed:
        return " ".join([f"No log file in {done.directory} is old enough to be removed.", *done.notes])
    count = len(done.removed)
    verb = "would be" if rehearsal else ("was" if count == 1 else "were")
    text = (
        f"{count} log {'file' if count == 1 else 'files'} in {done.directory} {verb} removed, "
        f"{human_size(done.freed_bytes)}."
    )
    return " ".join([text, *done.notes])
