# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target that is a pod: its files, by programs that busybox has, too.

Every script may be run again without harm, so that a connection that was cut is only a delay.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from uuid import uuid4

from .._errors import FileProblem, NotEnoughSpace, RunbookError
from .._kube import detached
from .._kube.cluster import is_passing
from .._kube.download import download
from .._kube.lease import Lease
from .._kube.pod import Pod
from .._kube.shell import ScriptEnd
from .base import FileInfo, Space

_IS_ODD, _IS_TOO_LARGE, _EXISTS = 41, 42, 43
_ARGUMENTS_AT_ONCE = 200
_PIECE_BYTES = 16 * 1024
# Who wants the newest only asks for little, and who wants them all does not ask often.
_TREES_AT_ONCE = (1, 8, 64)
_DIRECTORY = 0o040000
_REGULAR = 0o100000
_TYPE = 0o170000

# A token of ours stands before each entry, since any other character may be part of a name.
_STAT = """
[ -e "$1" ] && exec stat -L -c "$2%f %s %Y" -- "$1"
case $(LC_ALL=C ls -d -- "$1/" 2>&1) in *"No such file"* | *"Not a directory"*) exit 0 ;; esac
exec ls -d -- "$1/"
"""
_ENTRIES = """
[ -d "$1/." ] || { ls -d -- "$1/."; exit 1; }
find "$1/." ! -name . -prune -exec sh -c 't=$1; shift; stat -c "$t%f %s %Y %n" -- "$@" 2>/dev/null; :' sh "$2" {} +
"""
_WALK = """
[ -d "$1/." ] || { ls -d -- "$1/."; exit 1; }
find "$1" ! -type d -exec stat -c "$2%f %s %Y %n" -- {} +
"""
# After each directory stands how that went: one that cannot be read says nothing of the others.
_TREES = """
t=$1; shift
for d; do
    [ -d "$d/." ] && find "$d" ! -type d -exec stat -c "$t%f %s %Y %n" -- {} + 2>/dev/null
    printf '%s' "$t= $?"
done
"""
_GLOB = r"""IFS=; for f in $1; do [ -e "$f" ] && printf '%s\0' "$f"; done; exit 0"""
_READ = f"""
[ -e "$1" ] || {{ cat -- "$1"; exit 1; }}
[ -f "$1" ] || exit {_IS_ODD}
[ "$(stat -L -c %s -- "$1")" -le "$2" ] || exit {_IS_TOO_LARGE}
exec cat -- "$1"
"""
# Syncs a path: fsync of a single file where the program can, and else of all there is.
_SYNC = 'sync "$1" 2>/dev/null || sync'
_WRITE_END = f"""
}} >"$t" && [ "$(($(wc -c <"$t")))" = "$2" ] && {{ set -- "$1" "$t"; sync "$2" 2>/dev/null || sync; }} &&
    mv -f -- "$t" "$1" && {{ set -- "${{1%/*}}/"; {_SYNC}; }} && exit 0
rm -f -- "$t"; exit 1
"""
_WRITE = '[ ! -d "$1" ] || { echo "write: $1: Is a directory" >&2; exit 1; }; t=${1%/*}/.$3.$$.tmp; {\n'
_MAKE_DIR = """
mkdir -p -- "$1" || exit 1
[ -z "$2" ] || chown -- "$2" "$1"
"""
_RENAME = f"""
if [ -e "$2" ] || [ -L "$2" ]; then
    [ -n "$3" ] && [ ! -e "$1" ] && [ ! -L "$1" ] && exit 0  # done before the connection was cut
    exit {_EXISTS}
fi
if [ "$(stat -c %d -- "$1")" = "$(stat -c %d -- "${{2%/*}}/")" ]; then
    mv -- "$1" "$2" && {{ set -- "${{2%/*}}/"; {_SYNC}; exit; }}
else
    echo "rename: Invalid cross-device link" >&2
fi
# What was cut off may run on, and may have done it just now.
[ -n "$3" ] && [ ! -e "$1" ] && [ ! -L "$1" ] && {{ [ -e "$2" ] || [ -L "$2" ]; }}
"""
_REMOVE = 'rm -rf -- "$1" 2>/dev/null; [ ! -e "$1" ] && [ ! -L "$1" ] && exit 0; rm -rf -- "$1"'
# What is exchanged for a link after `cd -P` is not followed: we stay in the directory that was checked.
_REMOVE_FILE = """
d=${1%/*} n=./${1##*/}
[ -e "$d/" ] || exit 0
cd -P -- "$d/" || exit 1
[ "$(pwd -P; echo .)" = "$(echo "${d:-/}"; echo .)" ] || { echo "remove: Not a directory, but a link" >&2; exit 1; }
[ -e "$n" ] || [ -L "$n" ] || exit 0
[ -f "$n" ] && [ ! -L "$n" ] || { echo "remove: it is not a regular file" >&2; exit 1; }
exec rm -f -- "$n"
"""
_RESOLVE = 'cd -P -- "$1" && pwd -P'
_SYNC_TREE = """
find "$1" -type d -exec chmod 700 {} + && find "$1" -type f -exec chmod 600 {} + || exit 1
find "$1" -exec sync {} + 2>/dev/null || sync
"""
_SHA256 = """for f; do [ -f "$f" ] || { cat -- "$f" >/dev/null; exit 1; }; sha256sum <"$f" || exit 1; done"""
_SPACE = """
p=$1; until [ -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
stat -L -c %d -- "$p"
df -P -k "$p"
"""
_WRITABLE = """
p=$1; until [ -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
[ -d "$p" ] && [ -w "$p" ] && [ -x "$p" ]
"""


class PodFiles:
    """Files of a container."""

    def __init__(self, pod: Pod, lease: Lease) -> None:
        self._pod = pod
        self._lease = lease

    def info(self, path: str) -> FileInfo | None:
        found = self._stats("A path cannot be examined", path, _STAT, follow=True)
        return found[0] if found else None

    def entries(self, path: str) -> list[FileInfo]:
        found = self._stats("A directory cannot be read", path, _ENTRIES)
        marker = f"{path}/./"
        return sorted(
            (replace(info, path=f"{path.rstrip('/')}/{info.path[len(marker) :]}") for info in found),
            key=lambda info: info.path,
        )

    def walk(self, path: str) -> list[FileInfo]:
        return sorted(self._stats("A directory cannot be read", path, _WALK, regular=True), key=lambda info: info.path)

    def trees(self, paths: Sequence[str]) -> Iterator[tuple[str, list[FileInfo] | None]]:
        at = 0
        for number in itertools.chain(_TREES_AT_ONCE, itertools.repeat(_TREES_AT_ONCE[-1])):
            some = paths[at : at + number]
            if not some:
                return
            at += number
            token = uuid4().hex
            at_end = 0
            found: list[FileInfo] = []
            output = self._text(self._do("Directories cannot be read", some[0], _TREES, token, *some))
            for record in output.split(token)[1:]:
                if record.startswith("="):
                    yield some[at_end], sorted(found, key=lambda info: info.path) if record == "= 0" else None
                    at_end += 1
                    found = []
                else:
                    found.append(_file_info(record))

    def glob(self, pattern: str) -> list[str]:
        return sorted(self._text(self._do("Paths cannot be listed", pattern, _GLOB, pattern)).split("\0")[:-1])

    def read(self, path: str, limit: int = 256 * 1024 * 1024) -> bytes:
        what = "A file cannot be read"
        try:
            return self._do(what, path, _READ, path, str(limit))
        except FileProblem as exc:
            status = exc.details.get("returncode")
            if status == _IS_TOO_LARGE:
                raise FileProblem("A file is too large", subject=path, why=f"it has more than {limit} bytes") from None
            if status == _IS_ODD:
                raise FileProblem(what, subject=path, why="it is not a regular file") from None
            raise

    def stream(self, sizes: Mapping[str, int], sink: Callable[[bytes], object], skip: int = 0) -> None:
        download(self._pod, sizes, sink, skip, self._lease.duration_s)

    def write(self, path: str, data: bytes) -> None:
        pieces = [data[at : at + _PIECE_BYTES] for at in range(0, len(data), _PIECE_BYTES)]
        body = "".join(f"printf '%b' '{_escaped(piece)}'\n" for piece in pieces) or ":\n"
        self._do(
            "A file cannot be written", path, _WRITE + body + _WRITE_END, path, str(len(data)), secrets.token_hex(6)
        )

    def make_dir(self, path: str, owner: str | None = None) -> None:
        self._do("A directory cannot be created", path, _MAKE_DIR, path, owner or "")

    def rename(self, source: str, destination: str) -> None:
        # Only a repetition may find its work done already.
        what, subject = "A rename failed", f"{source} to {destination}"
        try:
            self._check(what, subject, self._pod.run(_RENAME, source, destination, ""))
        except RunbookError as exc:
            if not is_passing(exc):
                raise
            self._check(what, subject, self._pod.repeat(_RENAME, source, destination, "again")[0])

    def remove_tree(self, path: str) -> None:
        self._do("A path cannot be removed", path, _REMOVE, path)

    def remove_file(self, path: str) -> None:
        self._do("A file cannot be removed", path, _REMOVE_FILE, path)

    def resolve(self, path: str) -> str:
        return self._text(self._do("A directory cannot be read", path, _RESOLVE, path)).removesuffix("\n")

    def sync_tree(self, path: str) -> None:
        self._do("A backup cannot be made durable", path, _SYNC_TREE, path)

    def sha256(self, paths: Sequence[str], jobs: int = 1) -> dict[str, str]:
        jobs = max(1, min(jobs, len(paths)))
        shares = [paths[number::jobs] for number in range(jobs)] if paths else []
        found: dict[str, str] = {}
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            for part in pool.map(self._digests, shares):
                found.update(part)
        return {path: found[path] for path in paths}

    def _digests(self, paths: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for at in range(0, len(paths), _ARGUMENTS_AT_ONCE):
            some = paths[at : at + _ARGUMENTS_AT_ONCE]
            lines = self._text(self._do("A file cannot be read", some[0], _SHA256, *some)).splitlines()
            if len(lines) != len(some):
                raise FileProblem("A file cannot be read", subject=some[0], why="checksums are missing")
            found.update({path: line[:64] for path, line in zip(some, lines)})
        return found

    def space(self, path: str) -> Space:
        output = self._text(self._do("The free space cannot be read", path, _SPACE, path))
        # Size, used and available in KiB stand before a percentage; the device's name may have blanks.
        lines = output.splitlines()
        words = lines[-1].rpartition("%")[0].split()
        total, used, free = (int(word) * 1024 for word in words[-4:-1])
        return Space(free, total, device=lines[0], used_bytes=used)

    def writable(self, path: str) -> bool:
        return self._pod.repeat(_WRITABLE, path)[0].returncode == 0

    def lock(self, path: str, purpose: str) -> AbstractContextManager[None]:
        return detached.lock(self._pod, self._lease, path, purpose)

    def lock_holder(self, path: str) -> str | None:
        return detached.lock_holder(self._pod, path)

    def _stats(
        self, what: str, path: str, script: str, *, follow: bool = False, regular: bool = False
    ) -> list[FileInfo]:
        token = uuid4().hex
        output = self._text(self._do(what, path, script, path, token))
        found = []
        for record in output.split(token)[1:]:
            info = _file_info(record, path if follow else None)
            if regular and (info.is_dir or info.irregular):
                raise FileProblem("Neither a file nor a directory", subject=info.path, details={"irregular": True})
            found.append(info)
        return found

    def _do(self, what: str, subject: str, script: str, *args: str) -> bytes:
        if any("\0" in arg for arg in args):
            raise FileProblem(what, subject=repr(subject), why="it has a NUL character")
        done, output = self._pod.repeat(script, *args)
        self._check(what, subject, done)
        return output

    def _check(self, what: str, subject: str, done: ScriptEnd) -> None:
        if done.returncode == 0:
            return
        if done.returncode == _EXISTS:
            raise FileProblem(what, subject=subject, why="File exists")
        raise self._problem(what, subject, done)

    def _problem(self, what: str, subject: str, done: ScriptEnd) -> RunbookError:
        why = detached.reason(done.stderr)
        if "No space left" in why or "quota exceeded" in why:
            return NotEnoughSpace(what, subject=subject, why=why, remedy="Free some space there, then run again.")
        return FileProblem(
            what,
            subject=subject,
            why=f"{why} (in {self._pod.name})" if why else f"in {self._pod.name}",
            details={"returncode": done.returncode},
        )

    @staticmethod
    def _text(output: bytes) -> str:
        return output.decode("utf-8", "surrogateescape")


def _file_info(record: str, path: str | None = None) -> FileInfo:
    """What `stat` said of a file: mode, size, time, and the path where it is not known."""
    mode, size, modified, *name = record.removesuffix("\n").split(" ", 3)
    kind = int(mode, 16) & _TYPE
    is_dir = kind == _DIRECTORY
    irregular = not is_dir and kind != _REGULAR
    return FileInfo(name[0] if path is None else path, is_dir, 0 if is_dir else int(size), float(modified), irregular)


def _escaped(data: bytes) -> str:
    """Bytes as printf's %b writes them, inside of single quotes."""
    return "".join(chr(byte) if byte in _PLAIN_BYTES else f"\\0{byte:03o}" for byte in data)


_PLAIN_BYTES = frozenset(range(32, 127)) - frozenset(b"\\'") | {10}
