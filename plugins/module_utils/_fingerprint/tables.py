# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the rows of tables: the server counts and hashes them, or this side does where no query can be planned."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .._errors import QueryFailed
from .._postgres import sqlstate
from .._postgres.connection import Session
from .figures import TableFigure
from .snapshot import enter

# A record's hash is a linear sum of its columns' hashes (31 * a + b): added up over rows, it would not notice values
# that swap rows. Hashing it once more, as eight bytes, ends that; it is as fast.
_ROW_HASH = {
    "record": "pg_catalog.hashfloat8extended(pg_catalog.float8(pg_catalog.hash_record_extended(ROW({}), 0)), 0)",
    "text": "pg_catalog.hashtextextended(ROW({})::pg_catalog.text, 0)",
}
# A large table is read in ranges of so many blocks (128 MiB), so that all workers share it: digests are sums. Since 14
# the server reads a range without the rest (TID Range Scan). https://www.postgresql.org/docs/14/release-14.html
_RANGE_BLOCKS = 16384
RANGES_SINCE = 140000
# SQLSTATEs (classes) that say nothing of the table: connection, operator, resources, locks, transaction.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING = ("08", "25", "40", "53", "55", "57")
_NO_RIGHT = sqlstate.INSUFFICIENT_PRIVILEGE
_READS_ALL = "The login needs to read everything: use a superuser, or grant pg_read_all_data and BYPASSRLS."


@dataclass(frozen=True)
class ReadTables:
    """What was read. `copied` names the tables that were read by COPY, `unread` those that were not, and why."""

    figures: Mapping[str, TableFigure]
    copied: list[str] = field(default_factory=list)
    unread: Mapping[str, str] = field(default_factory=dict)


def named(subject: str, exc: QueryFailed) -> QueryFailed:
    """The error as one of the fingerprint, on this subject."""
    denied = exc.details.get("sqlstate") == _NO_RIGHT
    return QueryFailed(
        "The fingerprint cannot be taken",
        subject=subject,
        why=exc.why,
        remedy=_READS_ALL if denied else exc.remedy,
        details=exc.details,
    )


def says_something(exc: QueryFailed) -> bool:
    """Whether the server refuses this very statement, and would refuse it again."""
    state = str(exc.details.get("sqlstate"))
    if exc.details.get("raised"):  # by code in the database, with a code of its own choice
        return True
    return bool(state) and not exc.details.get("lost") and not state.startswith(_PASSING)


@dataclass(frozen=True)
class _TablePart:
    """What one query reads: a table, or the rows in its blocks from `first` until before `end` (None: the last one).

    A row that the snapshot sees stays where it is: what moves rows gives the table another file, which is noticed.
    """

    row: Any
    first: int = 0
    end: int | None = None

    @property
    def condition(self) -> str:
        """A WHERE clause, or nothing."""
        limits = [f"t.ctid >= '({self.first},0)'"] if self.first else []
        limits += [f"t.ctid < '({self.end},0)'"] if self.end else []
        return "WHERE " + " AND ".join(limits) if limits else str(self.row.condition)


class TableReader:
    """Reads tables in several sessions that share one snapshot, each table in transactions of its own.

    A query on a table is planned with its indexes, whose expressions may call functions that fail: pg_dump, which uses
    COPY, does not notice. Such a table is read by COPY here as well, and its rows are hashed on this side.
    """

    def __init__(
        self,
        again: Callable[[Callable[[Session], None]], None],
        snapshot: str,
        *,
        mode: str,
        algorithm: str,
        workers: int,
        ranges: bool,
        stopped: threading.Event,
        copied: Collection[str] | None = None,
    ) -> None:
        """Plan it.

        Args:
            again: does something in a session of its own, and once more when the connection was lost.
            ranges: read large tables in ranges of blocks. Not where one query may use parallel workers: of a range it
                does not.
            copied: the tables whose source was read by COPY, when this is the copy of one; None for a source.
        """
        self._again = again
        self._snapshot = snapshot
        self._mode = mode
        self._algorithm = algorithm
        self._workers = workers
        self._ranges = ranges and mode == "content" and workers > 1
        self._stopped = stopped
        self._copied = copied

    def read(self, rows: Sequence[Any]) -> ReadTables:
        """Read all of them, in this order.

        Raises:
            QueryFailed: the connection was lost, reading was cancelled, or the login has no right to a table.
        """
        copied = set(self._copied or ())
        plain = [row for row in rows if _name(row) not in copied]
        figures, refused = self._all(self._in_parts(plain), self._by_query, last=False)
        # Digests of partitions that count as a whole are added up, so that all of them have to be of one kind.
        names = {_name(row) for row in plain if row.identity in refused}
        copied |= names
        read, unreadable = self._all(
            [_TablePart(row) for row in rows if _name(row) in copied], self._by_copy, last=True
        )
        figures.update(read)
        unread = {_name(row): unreadable[row.identity] for row in rows if row.identity in unreadable}
        found = _together([row for row in rows if _name(row) not in unread], figures)
        if (
            self._copied is not None
        ):  # the source's digest is of the other kind: only the number of rows can be compared
            reasons = {_name(row): refused[row.identity] for row in plain if row.identity in refused}
            for name in names & found.keys() if self._mode == "content" else ():
                found[name] = TableFigure(found[name].rows)
                unread[name] = reasons[name]
        return ReadTables(found, sorted(copied & found.keys()), unread)

    def _in_parts(self, rows: Iterable[Any]) -> list[_TablePart]:
        """The tables, in the same order, with the large ones in ranges where that lets more workers share them."""
        found: list[_TablePart] = []
        for row in rows:
            starts = range(0, int(row.blocks), _RANGE_BLOCKS) if self._ranges and row.expressions else ()
            ends: Sequence[int | None] = [*starts[1:], None]
            found += [_TablePart(row, start, end) for start, end in zip(starts or (0,), ends)]
        return found

    def _all(
        self, parts: Sequence[_TablePart], read: Callable[[Session, _TablePart], TableFigure], *, last: bool
    ) -> tuple[dict[str, TableFigure], dict[str, str]]:
        """The figures by identity, and why the others were refused; `last` if there is no other way to read them."""
        todo: queue.SimpleQueue[_TablePart] = queue.SimpleQueue()
        for part in parts:  # largest first, so that no worker is left with one at the end
            todo.put(part)
        figures: dict[str, TableFigure] = {}
        refused: dict[str, str] = {}
        ended, adding = threading.Event(), threading.Lock()

        def share(session: Session) -> None:
            while not self._stopped.is_set() and not ended.is_set():
                part = todo.get_nowait()
                name = part.row.identity
                try:
                    found = self._one(session, part, read, last=last)
                except QueryFailed:
                    todo.put(part)  # for the session after a lost connection
                    raise
                with adding:
                    if isinstance(found, TableFigure):
                        figures[name] = _sum(figures[name], found) if name in figures else found
                    else:
                        refused[name] = found

        def work() -> None:
            try:
                with suppress(queue.Empty):
                    self._again(share)
            except BaseException:
                ended.set()
                raise

        _at_once(work, min(self._workers, len(parts)))
        return figures, refused

    def _one(
        self, session: Session, part: _TablePart, read: Callable[[Session, _TablePart], TableFigure], *, last: bool
    ) -> TableFigure | str:
        """The figure of a table or a part of it, or why the server refuses to read it so."""
        enter(session, self._snapshot)  # a transaction each: all tables and their indexes would fill the lock table
        try:
            figure = read(session, part)
        except QueryFailed as exc:
            if not says_something(exc) or (last and exc.details["sqlstate"] == _NO_RIGHT):
                raise named(part.row.identity, exc) from None
            session.query("ROLLBACK")
            return exc.why
        session.query("COMMIT")
        return figure

    def _by_query(self, session: Session, part: _TablePart) -> TableFigure:
        row = part.row
        if row.unread:
            return self._nothing(row)
        source = f"FROM ONLY {row.identity} AS t {part.condition}"
        if self._mode == "counts" or not row.expressions:
            return TableFigure(session.query(f"SELECT pg_catalog.count(*) {source}")[0][0])
        # sum(bigint) adds up in 128 bits and cannot overflow; unlike an XOR it notices doubled rows.
        row_hash = _ROW_HASH[self._algorithm.split("-")[0]].format(row.expressions)
        figures = f"pg_catalog.count(*), coalesce(pg_catalog.sum({row_hash}), 0)::pg_catalog.text"
        found = session.query(f"SELECT {figures} {source}")[0]
        return TableFigure(found[0], found[1])

    def _by_copy(self, session: Session, part: _TablePart) -> TableFigure:
        """As pg_dump reads it. Generated columns are left out: no dump has them."""
        row = part.row
        if row.unread:
            return self._nothing(row)
        columns = f"({row.columns})" if row.columns else ""
        what = f"{row.identity} {columns}"
        if row.condition:
            what = f"(SELECT {row.columns} FROM ONLY {row.identity} {row.condition})"  # noqa: S608  # quoted by the server
        rows = _Rows()
        # The server's own encoding: texts of an SQL_ASCII database need not be UTF-8.
        encoding = session.value("SELECT pg_catalog.current_setting('server_encoding')")
        session.copy_out(f"COPY {what} TO STDOUT (ENCODING '{encoding}')", rows.write)
        return TableFigure(rows.number, str(rows.sum) if self._mode == "content" and row.expressions else None)

    def _nothing(self, row: Any) -> TableFigure:
        return TableFigure(0, "0" if self._mode == "content" and row.expressions else None)


def _at_once(work: Callable[[], None], number: int) -> None:
    """Do it in so many threads, and raise the first failure. They do not keep the process from ending."""
    failures: list[BaseException] = []

    def one() -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001  # handed to the caller below, whatever it is
            failures.append(exc)

    threads = [threading.Thread(target=one, daemon=True) for dummy in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _Rows:
    """Counts the lines of COPY, each of which is a row, and adds up their hashes."""

    def __init__(self) -> None:
        self.number = 0
        self.sum = 0
        self._begun = b""

    def write(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        self.number += len(lines)
        for line in lines:
            self.sum += int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big", signed=True)


def _name(row: Any) -> str:
    """The table that a row counts for: its own, or the root of partitions that only count as a whole."""
    return str(row.counts_for or row.identity)


def _together(rows: Iterable[Any], figures: Mapping[str, TableFigure]) -> dict[str, TableFigure]:
    """The figures by name, with those of partitions that only count as a whole added up: digests are sums."""
    found: dict[str, TableFigure] = {}
    for row in rows:
        name, figure = _name(row), figures[row.identity]
        found[name] = _sum(found.get(name, TableFigure(0, figure.digest and "0")), figure)
    return found


def _sum(one: TableFigure, other: TableFigure) -> TableFigure:
    """The figure of the rows of both: digests are sums. Without a digest if one has none."""
    digest = str(int(one.digest) + int(other.digest)) if one.digest and other.digest else None
    return TableFigure(one.rows + other.rows, digest)
