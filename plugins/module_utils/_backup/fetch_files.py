# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay down the files of a backup on this host, as they come in one sequence of bytes, and prove each by its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from .._catalog.manifest import FileRecord
from .._errors import FileProblem
from .._target.base import Files
from .._target.local_files import LocalFiles, file_problem
from .._units import counted

_CHUNK = 1024 * 1024
_FLUSH_BYTES = 32 * 1024 * 1024
_TRIES = 2


class _Mismatch(Exception):
    """A file came whole, and is another one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass
class Receipt:
    """What was done, in bytes: what came, and what a run that was cut short had left and did not have to come again."""

    fetched_bytes: int = 0
    resumed_bytes: int = 0
    again: list[str] = field(default_factory=list)


def receive(source: Files, origin: str, records: Mapping[str, FileRecord], place: str) -> Receipt:
    """Bring the files of a backup from the directory `origin` of a target to the directory `place` of this host.

    What is there already, of a run that was cut short, is proven and kept.

    Raises:
        FileProblem: a file in `origin` is not the one that was written. `damaged` in the details names it.
        NotEnoughSpace: the disk is full; what has come stays.
    """
    receipt = Receipt()
    pending = _take_stock(records, place, receipt)
    while pending:
        names = list(pending)
        sizes = {f"{origin}/{name}": records[name].size_bytes for name in names}
        try:
            with _writing(place, {name: records[name] for name in names}, pending[names[0]], receipt) as writer:
                source.stream(sizes, writer.take, pending[names[0]])
                writer.finish()
            return receipt
        except _Mismatch as exc:
            _judge(source, origin, exc.name, records[exc.name], receipt)
            LocalFiles().remove_tree(f"{place}/{exc.name}")
            pending = dict.fromkeys(names[names.index(exc.name) :], 0)
    return receipt


def have_bytes(records: Mapping[str, FileRecord], place: str) -> int:
    """How much of it is there already, unproven."""
    files = LocalFiles()
    found = ((record, files.info(f"{place}/{name}")) for name, record in records.items())
    return sum(min(record.size_bytes, info.size_bytes) for record, info in found if info is not None)


def _take_stock(records: Mapping[str, FileRecord], place: str, receipt: Receipt) -> dict[str, int]:
    """The files that have to come, in order, each with how much of it is there. What is no use is removed."""
    files = LocalFiles()
    for info in files.walk(place):
        record = records.get(info.path[len(place) + 1 :])
        if record is None or info.size_bytes > record.size_bytes:
            files.remove_tree(info.path)
    pending: dict[str, int] = {}
    for name, record in records.items():
        path = f"{place}/{name}"
        found = files.info(path)
        have = found.size_bytes if found else 0
        if found and have == record.size_bytes:
            if files.sha256([path])[path] == record.sha256:
                receipt.resumed_bytes += have
                continue
            files.remove_tree(path)
            have = 0
        pending[name] = have
    return _one_to_go_on(pending, place, receipt)


def _one_to_go_on(pending: dict[str, int], place: str, receipt: Receipt) -> dict[str, int]:
    """The same with the file that has a beginning before all others, since only the first one can go on."""
    begun = [name for name, have in pending.items() if have]
    for name in begun[1:]:  # there is one, unless an operator removed others
        LocalFiles().remove_tree(f"{place}/{name}")
        pending[name] = 0
    if not begun:
        return pending
    receipt.resumed_bytes += pending[begun[0]]
    return {begun[0]: pending[begun[0]], **pending}


def _judge(source: Files, origin: str, name: str, record: FileRecord, receipt: Receipt) -> None:
    """Whose fault it is. Returns if it may help to let the file come once more."""
    path = f"{origin}/{name}"
    if source.sha256([path])[path] != record.sha256:
        raise FileProblem(
            "A file of the backup is damaged",
            subject=path,
            why="its SHA-256 differs from the manifest",
            remedy="Nothing was fetched. Do not rely on this backup: take a new one, and fetch that.",
            details={"damaged": name},
        )
    receipt.again.append(name)
    if receipt.again.count(name) >= _TRIES:
        raise FileProblem(
            "A file was damaged in transfer",
            subject=path,
            why=f"its SHA-256 is correct at the source, but was wrong here {_TRIES} times",
            remedy="Check the memory and the disk of this host for defects, then run this again.",
        )


class _Writer:
    """Cuts the bytes into files. The disk is hurried meanwhile, or the end would have to wait for all of it."""

    def __init__(self, place: str, records: Mapping[str, FileRecord], have: int, receipt: Receipt) -> None:
        self._place = place
        self._left = iter(records.items())
        self._have = have
        self._receipt = receipt
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._flushing: Future[None] | None = None
        self._unflushed = 0
        self._fd = -1
        self._missing = 0
        self._name, self._path, self._wanted = "", "", ""
        self._digest = hashlib.sha256()
        self._next()

    def take(self, data: bytes) -> None:
        """Take the next block."""
        self._receipt.fetched_bytes += len(data)
        view = memoryview(data)
        while view:
            piece = view[: self._missing]
            self._write(piece)
            view = view[len(piece) :]
            self._missing -= len(piece)
            if not self._missing:
                self._end()
                self._next()

    def finish(self) -> None:
        """All has come: raise unless it was enough."""
        if self._fd >= 0:
            raise FileProblem(
                "A file is truncated", subject=self._path, why=f"missing: {counted(self._missing, 'byte')}"
            )

    def close(self) -> None:
        """Let go of the file that is open."""
        self._pool.shutdown()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _next(self) -> None:
        """Open the next file; those without content come of themselves."""
        for name, record in self._left:
            self._name, self._path, self._wanted = name, f"{self._place}/{name}", record.sha256
            LocalFiles().make_dir(os.path.dirname(self._path))
            self._digest = hashlib.sha256()
            try:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                self._read_on(self._have)
            except OSError as exc:
                raise file_problem("A file cannot be written", self._path, exc) from None
            self._missing = record.size_bytes - self._have
            self._have = 0
            if self._missing:
                return
            self._end()

    def _read_on(self, size: int) -> None:
        """Begin after the bytes that are already there."""
        while size:
            data = os.read(self._fd, min(size, _CHUNK))
            if not data:
                raise FileProblem("A file is truncated", subject=self._path, why=f"missing: {counted(size, 'byte')}")
            self._digest.update(data)
            size -= len(data)

    def _write(self, piece: memoryview) -> None:
        self._digest.update(piece)
        try:
            rest = piece
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._flush(len(piece))
        except OSError as exc:
            raise file_problem("A file cannot be written", self._path, exc) from None

    def _flush(self, size: int) -> None:
        self._unflushed += size
        if self._unflushed >= _FLUSH_BYTES and (self._flushing is None or self._flushing.done()):
            self._await_flush()
            self._flushing = self._pool.submit(os.fdatasync, self._fd)
            self._unflushed = 0

    def _await_flush(self) -> None:
        if self._flushing is not None:
            self._flushing.result()
            self._flushing = None

    def _end(self) -> None:
        try:
            self._await_flush()
        except OSError as exc:
            raise file_problem("A file cannot be written", self._path, exc) from None
        os.close(self._fd)
        self._fd = -1
        if self._digest.hexdigest() != self._wanted:
            raise _Mismatch(self._name)


@contextmanager
def _writing(place: str, records: Mapping[str, FileRecord], have: int, receipt: Receipt) -> Iterator[_Writer]:
    writer = _Writer(place, records, have, receipt)
    try:
        yield writer
    finally:
        writer.close()
