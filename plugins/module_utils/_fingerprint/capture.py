# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a fingerprint: read every table once, in several sessions that share one snapshot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from .._errors import ConnectionFailed, QueryFailed
from .._postgres.connection import Server, Session
from .._postgres.reconnect import PATIENCE_S, LostConnections, persist
from . import definitions, server_settings
from .figures import Fingerprint, LargeObjects, SequenceFigure
from .snapshot import enter, held, locked_snapshot, refuse_replaced, storage
from .sql import content as sql
from .tables import RANGES_SINCE, ReadTables, TableReader, named

# By the oldest major that can compute it. `record` hashes a record (since 14), `text` its text form. All versions of
# one hash rows alike; definitions are comparable since the third.
ALGORITHMS = {"record-3": 14, "text-3": 13, "record-2": 14, "text-2": 13, "record-1": 14, "text-1": 13}
_T = TypeVar("_T")
_SEQUENCES_AT_ONCE = 200


def best_algorithm(server_version: int) -> str:
    """The fastest algorithm that a server of this version has."""
    return "record-3" if server_version >= 140000 else "text-3"


class Recorder:
    """Records the fingerprint of a database under a snapshot that its own session exports.

    Use it as a context manager: on entry the snapshot is taken and the sequences are read, `record` does the long
    reading (beside a dump, in another thread), `finish` reads the sequences again and returns the figures.
    """

    def __init__(
        self,
        server: Server,
        db: str,
        *,
        mode: str,
        workers: int,
        algorithm: str | None = None,
        lock_timeout_s: float = 0,
        alone: bool = False,
        keep_with: tuple[str, str] | None = None,
        copied: Collection[str] | None = None,
    ) -> None:
        """Plan it; nothing is done yet.

        Args:
            alone: no other session uses the database. Then it needs no locks, and one query may use parallel workers.
            keep_with: a psql and a directory of the target. Then that psql holds the snapshot, no table is locked, and
                a connection that is lost is made again. Without it our own session holds both.
            copied: the tables of the source that were read by COPY, when this is a copy of it.
        """
        self._server = server
        self._db = db
        self._mode = mode
        self._workers = max(1, workers)
        self._algorithm = algorithm
        self._settings = {**sql.PINNED_SETTINGS, "lock_timeout": str(round(lock_timeout_s * 1000))}
        self._locks = mode != "none" and not alone
        self._shared = not alone
        if self._shared:
            self._settings["max_parallel_workers_per_gather"] = "0"
        self._session: Session | None = None
        self._sessions: list[Session] = []
        self._stopped = threading.Event()
        self._keep_with = keep_with
        self._copied = copied
        # A copy without other sessions is read once more as a whole: its snapshot goes with the session that holds it.
        self._patience_s = 0.0 if alone else PATIENCE_S

    @contextmanager
    def open(self) -> Iterator[Recorder]:
        """Hold the snapshot open. Leaving ends every session, whatever they are doing."""
        with self._held() as snapshot:
            self.snapshot = snapshot
            self._read(self._look_around)
            # Sequences know no snapshots, and a session of its own keeps no locks on thousands of them.
            self._again(self._look_at_the_rest)
            try:
                yield self
            finally:
                self.stop()

    @contextmanager
    def _held(self) -> Iterator[str]:
        """Hold the snapshot in a session of our own, which has the tables locked, or in a psql of the target."""
        if self._keep_with is None:
            with self._connect() as session:
                self._session = session
                try:
                    yield locked_snapshot(session, lock=self._locks)
                finally:
                    self._session = None
        else:
            with held(self._server, self._db, *self._keep_with) as snapshot:
                try:
                    yield snapshot
                finally:
                    self.stop()

    def _look_around(self, session: Session) -> None:
        self.server_version = session.server_version
        self._algorithm = self._algorithm or best_algorithm(self.server_version)
        self._storage = storage(session) if self._locks else {}
        self.position = session.query(sql.POSITION)[0]
        self.source: dict[str, Any] = session.query(sql.SOURCE)[0]._asdict()
        sequences = session.query(sql.SEQUENCES)
        self._sequence_rows = [row for row in sequences if not row.unread]
        self._unread = [row.identity for row in sequences if row.unread]

    def _look_at_the_rest(self, session: Session) -> None:
        self._first = _positions(session, self._sequence_rows)
        self.source.update(server_settings.read(session))

    def _read(self, work: Callable[[Session], _T]) -> _T:
        """Do some reading under the snapshot, in the session that holds it, or in one that can be made again."""
        if self._session is not None:
            return work(self._session)
        return self._again(lambda session: self._under_snapshot(session, work))

    def _under_snapshot(self, session: Session, work: Callable[[Session], _T]) -> _T:
        enter(session, self.snapshot)
        found = work(session)
        session.query("COMMIT")
        return found

    def _again(self, work: Callable[[Session], _T]) -> _T:
        """Do something in a session of its own, and once more when its connection was lost and may come back."""
        losses = LostConnections(self._server, self._patience_s)
        while True:
            try:
                with self._connect() as session:
                    self._sessions.append(session)
                    try:
                        return work(session)
                    finally:
                        self._sessions.remove(session)
            except (QueryFailed, ConnectionFailed) as exc:
                if self._stopped.is_set():
                    raise
                losses.weigh(exc)

    @contextmanager
    def _connect(self) -> Iterator[Session]:
        with self._server.connect(self._db, settings=self._settings) as session:
            session.query(sql.NO_TIMEOUTS)
            yield session

    def stop(self) -> None:
        """End the reading early; `record` then raises or returns soon. Callable from any thread."""
        self._stopped.set()
        for session in (*([self._session] if self._session else ()), *self._sessions):
            with suppress(QueryFailed):
                session.cancel()

    def record(self) -> None:
        """Read every object, table and large object. Blocks; the figures wait for `finish`.

        Afterwards `definitions` has the texts of the definitions.

        Raises:
            QueryFailed: a table cannot be read; the subject names it.
        """
        self._objects = self._read(self._read_objects)
        self._large_objects = self._read(self._read_large_objects)
        self._tables = self._read_tables()

    def finish(self) -> Fingerprint:
        """Read the sequences a second time and put the figures together."""
        last = self._again(self._look_again)
        return Fingerprint(
            mode=self._mode,
            algorithm=self._algorithm or "",
            server_major=self.server_version // 10000,
            tables=self._tables.figures,
            sequences={
                row.identity: SequenceFigure(
                    self._first[row.identity],
                    last.get(row.identity, self._first[row.identity]),
                    row.increment,
                    row.cycles,
                )
                for row in self._sequence_rows
            },
            objects=self._objects,
            large_objects=self._large_objects,
            unread=self._unread,
            copied=self._tables.copied,
            unread_tables=self._tables.unread,
        )

    def _look_again(self, session: Session) -> dict[str, int]:
        refuse_replaced(self._storage, storage(session) if self._locks else {})
        return _positions_that_are_left(session, self._sequence_rows)

    def _read_objects(self, session: Session) -> dict[str, str]:
        def ask(about: str, statement: str) -> list[dict[str, Any]]:
            return _naming(about, session, statement, session.texts)

        self.definitions = definitions.read(ask, session.server_version)
        return {name: definitions.digest(definition) for name, definition in self.definitions.items()}

    def _read_large_objects(self, session: Session) -> LargeObjects:
        if self._mode == "counts":
            return LargeObjects(session.value("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"))
        row = _naming("large objects", session, sql.LARGE_OBJECTS)[0]
        return LargeObjects(row.objects, row.digest)

    def _read_tables(self) -> ReadTables:
        rows = self._read(lambda session: session.query(sql.TABLES))
        reader = TableReader(
            self._again,
            self.snapshot,
            mode=self._mode,
            algorithm=self._algorithm or "",
            workers=self._workers,
            ranges=self._shared and self.server_version >= RANGES_SINCE,
            stopped=self._stopped,
            copied=self._copied,
        )
        return reader.read(rows)


def _naming(
    subject: str, session: Session, statement: str, read: Callable[[str], list[Any]] | None = None
) -> list[Any]:
    try:
        return (read or session.query)(statement)
    except QueryFailed as exc:
        raise named(subject, exc) from None


def _positions(session: Session, rows: Sequence[Any]) -> dict[str, int]:
    """Where each sequence stands now: its last value, or one increment before it when that was not handed out yet."""
    found: dict[str, int] = {}
    for at in range(0, len(rows), _SEQUENCES_AT_ONCE):
        part = rows[at : at + _SEQUENCES_AT_ONCE]
        statement = " UNION ALL ".join(
            f"SELECT {number}, last_value, is_called FROM {row.identity}"  # noqa: S608  # quoted by the server
            for number, row in enumerate(part)
        )
        for number, last_value, is_called in _naming("sequences", session, statement):
            row = part[number]
            found[row.identity] = last_value if is_called else last_value - row.increment
    return found


def _positions_that_are_left(session: Session, rows: Sequence[Any]) -> dict[str, int]:
    """As `_positions`, without the sequences that were dropped meanwhile: pg_dump does not lock them."""
    try:
        return _positions(session, rows)
    except QueryFailed:
        found: dict[str, int] = {}
        for row in rows:
            with suppress(QueryFailed):
                found.update(_positions(session, [row]))
        return found


def take(
    server: Server,
    db: str,
    *,
    mode: str,
    workers: int,
    algorithm: str | None = None,
    copied: Collection[str] | None = None,
) -> Fingerprint:
    """The fingerprint of a database that no other session uses, with all the parallelism that the server has.

    A copy is read as its source was: with its `mode`, its `algorithm`, and by COPY where that one was (`copied`).
    """

    def attempt() -> Fingerprint:
        recorder = Recorder(server, db, mode=mode, workers=workers, algorithm=algorithm, alone=True, copied=copied)
        try:
            with recorder.open():
                recorder.record()
                return recorder.finish()
        except QueryFailed as exc:
            if exc.details.get("snapshot_lost"):  # with the session that held it, whose own error comes too late
                exc.details["lost"] = True
            raise

    return persist(server, attempt)
