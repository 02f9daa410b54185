# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The target that is the host the module runs on: its files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from .._errors import FileProblem, Locked, NotEnoughSpace, RunbookError
from .._lock_notes import describe_holder, holder_note
from .base import FileInfo, Space

_LOCK_PATIENCE_S = 0.2
_CHUNK = 256 * 1024


def file_problem(what: str, path: str, exc: OSError) -> RunbookError:
    """The error for a path that the operating system refuses; a full disk is an error of its own."""
    reason = exc.strerror or str(exc)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughSpace(what, subject=path, why=reason, remedy="Free some space there, then run again.")
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        account = f"uid {os.geteuid()}"
        return FileProblem(
            what,
            subject=path,
            why=reason,
            remedy=f"The account that runs this ({account}) needs access to it: give it access, or set "
            "ansible_become: true and ansible_become_user to an account that has it, such as postgres.",
        )
    return FileProblem(what, subject=path, why=reason)


@contextmanager
def _naming(what: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise file_problem(what, path, exc) from None
    except ValueError as exc:  # a NUL byte in a path
        raise FileProblem(what, subject=repr(path), why=str(exc)) from None


def _sync_dir(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_file(path: str, flags: int) -> int:
    """Open a regular file only: a FIFO would keep us waiting forever."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return fd


def _nearest_existing(path: str) -> str:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1024 * 1024))
    with _naming("A file cannot be read", path), open(path, "rb", buffering=0, opener=_open_file) as stream:
        while size := stream.readinto(buffer):
            digest.update(buffer[:size])  # releases the GIL: threads do help
    return digest.hexdigest()


def _pieces(path: str, start: int) -> Iterator[bytes]:
    with _naming("A file cannot be read", path), open(path, "rb", buffering=0, opener=_open_file) as stream:
        stream.seek(start)
        while data := stream.read(_CHUNK):
            yield data


def _below(path: str) -> list[FileInfo]:
    """All that is below a directory but directories, sorted by path."""
    files: list[FileInfo] = []
    pending = [path]
    while pending:
        directory = pending.pop()
        with _naming("A directory cannot be read", directory), os.scandir(directory) as found:
            for entry in found:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)
                else:
                    files.append(_info(entry.path, status))
    return sorted(files, key=lambda info: info.path)


class LocalFiles:
    """Files of this host."""

    def info(self, path: str) -> FileInfo | None:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as exc:
            raise FileProblem("A path cannot be examined", subject=repr(path), why=str(exc)) from None
        return _info(path, found)

    def entries(self, path: str) -> list[FileInfo]:
        with _naming("A directory cannot be read", path), os.scandir(path) as found:
            infos = []
            for entry in found:
                with contextlib.suppress(FileNotFoundError):  # it went away meanwhile
                    infos.append(_info(entry.path, entry.stat(follow_symlinks=False)))
        return sorted(infos, key=lambda info: info.path)

    def walk(self, path: str) -> list[FileInfo]:
        found = _below(path)
        for info in found:
            if info.irregular:
                raise FileProblem("Neither a file nor a directory", subject=info.path, details={"irregular": True})
        return found

    def trees(self, paths: Sequence[str]) -> Iterator[tuple[str, list[FileInfo] | None]]:
        for path in paths:
            try:
                yield path, _below(path)
            except FileProblem:
                yield path, None

    def glob(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern))

    def read(self, path: str, limit: int = 256 * 1024 * 1024) -> bytes:
        with _naming("A file cannot be read", path), open(path, "rb", opener=_open_file) as stream:
            data = stream.read(limit + 1)
        if len(data) > limit:
            raise FileProblem("A file is too large", subject=path, why=f"it has more than {limit} bytes")
        return data

    def stream(self, sizes: Mapping[str, int], sink: Callable[[bytes], object], skip: int = 0) -> None:
        for path, size in sizes.items():
            at, skip = min(skip, size), max(0, skip - size)
            for data in _pieces(path, at):
                at += len(data)
                if at <= size:
                    sink(data)
            if at != size:
                why = f"it has {at} bytes instead of {size}"
                raise FileProblem("The size of a file has changed", subject=path, why=why)

    def write(self, path: str, data: bytes) -> None:
        parent = os.path.dirname(path)
        with _naming("A file cannot be written", path):
            fd, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=parent)  # mkstemp: mode 0600
            try:
                with os.fdopen(fd, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
            _sync_dir(parent)

    def make_dir(self, path: str, owner: str | None = None) -> None:
        with _naming("A directory cannot be created", path):
            missing = []
            at = path
            while not os.path.isdir(at):
                missing.append(at)
                at = os.path.dirname(at)
            for part in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700)
            if not os.path.isdir(path):
                raise FileExistsError(errno.EEXIST, "a file with that name exists")
            if owner is not None:
                shutil.chown(path, owner)

    def rename(self, source: str, destination: str) -> None:
        with _naming("A rename failed", f"{source} to {destination}"):
            if os.path.lexists(destination):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.rename(source, destination)
            _sync_dir(os.path.dirname(destination))

    def remove_tree(self, path: str) -> None:
        with _naming("A path cannot be removed", path):
            try:
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
            except FileNotFoundError:
                return

    def remove_file(self, path: str) -> None:
        with _naming("A file cannot be removed", path), contextlib.suppress(FileNotFoundError):
            *parents, name = path.strip("/").split("/")
            # Each part is opened below the one before: what is exchanged for a link meanwhile is not followed.
            flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
            at = os.open("/", flags)
            try:
                for part in parents:
                    below = os.open(part, flags, dir_fd=at)
                    os.close(at)
                    at = below
                if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                    raise OSError(errno.EINVAL, "it is not a regular file")
                os.unlink(name, dir_fd=at)
            finally:
                os.close(at)

    def resolve(self, path: str) -> str:
        with _naming("A directory cannot be read", path):
            found = os.path.realpath(path)
            if not stat.S_ISDIR(os.stat(found).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return found

    def sync_tree(self, path: str) -> None:
        with _naming("A backup cannot be made durable", path):
            for directory, _below, names in os.walk(path):
                for name in names:
                    at = os.path.join(directory, name)
                    fd = os.open(at, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        os.fchmod(fd, 0o600)
                        os.fsync(fd)
                    finally:
                        os.close(fd)
                os.chmod(directory, 0o700)
                _sync_dir(directory)

    def sha256(self, paths: Sequence[str], jobs: int = 1) -> dict[str, str]:
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            return dict(zip(paths, pool.map(_digest, paths)))

    def space(self, path: str) -> Space:
        at = _nearest_existing(path)
        with _naming("The free space cannot be read", at):
            found = os.statvfs(at)
            device = os.stat(at).st_dev
        free, total, used = found.f_bavail, found.f_blocks, found.f_blocks - found.f_bfree
        unit = found.f_frsize
        return Space(free * unit, total * unit, str(device), used * unit)

    def writable(self, path: str) -> bool:
        at = _nearest_existing(path)
        return os.path.isdir(at) and os.access(at, os.W_OK | os.X_OK, effective_ids=True)

    @contextmanager
    def lock(self, path: str, purpose: str) -> Iterator[None]:
        # flock() ends with the process, whatever kills it; the file itself stays, since removing it would race.
        with _naming("A lock file cannot be opened", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            _take_lock(path, fd)
            with contextlib.suppress(OSError):  # a full disk must not keep a prune from making room
                os.ftruncate(fd, 0)
                os.pwrite(fd, holder_note(purpose).encode(), 0)
            yield
        finally:
            os.close(fd)

    def lock_holder(self, path: str) -> str | None:
        with _naming("A lock file cannot be opened", path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(fd)
        finally:
            os.close(fd)  # the shared lock lasts for microseconds, and `lock` is more patient than that
        return None


def _take_lock(path: str, fd: int) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_LOCK_PATIENCE_S / 100)
                continue
            raise Locked(
                "The same work is already running",
                subject=path,
                why=_holder(fd),
                remedy="Wait for it to end, then run again. The lock ends by itself with that process.",
            ) from None
        return


def _holder(fd: int) -> str:
    return describe_holder(os.pread(fd, 4096, 0))


def _info(path: str, found: os.stat_result) -> FileInfo:
    is_dir = stat.S_ISDIR(found.st_mode)
    irregular = not is_dir and not stat.S_ISREG(found.st_mode)
    return FileInfo(path, is_dir, 0 if is_dir else found.st_size, found.st_mtime, irregular)
