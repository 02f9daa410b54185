"""Sessions of other people: idle in a transaction, in a long query, waiting for a lock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2

from tests.support.databases import Database
from tests.support.processes import until

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

TIMEOUT_S = 20.0


@dataclass
class Person:
    """One session. ``error`` is how its last statement in the background ended, if it ended badly."""

    connection: Connection
    pid: int
    start: str
    error: str = ""
    thread: threading.Thread | None = None

    def run(self, statement: str) -> None:
        """Run a statement and wait for it."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)

    def begin(self, statement: str) -> None:
        """Run a statement in the background: it will take long, or wait."""

        def work() -> None:
            try:
                self.run(statement)
            except psycopg2.Error as error:
                self.error = f"{error.pgcode} {error}"

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def alive(self) -> bool:
        """Whether the session still answers."""
        try:
            self.run("SELECT 1")
        except psycopg2.Error as error:
            return error.pgcode == "25P02"  # in a failed transaction, but there
        return True

    @property
    def name(self) -> dict[str, Any]:
        """What identifies it, as an option of pg_terminate."""
        return {"pid": self.pid, "backend_start": self.start}


@dataclass
class Crowd:
    """Sessions with one database, closed in the end."""

    database: Database
    people: list[Person] = field(default_factory=list)

    def join(self, application: str = "app", **over: Any) -> Person:
        """A new session."""
        connection = self.database.connect(application_name=application, **over)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
                " FROM pg_stat_get_activity(pg_backend_pid())"
            )
            [start] = cursor.fetchone() or [""]
        person = Person(connection, connection.info.backend_pid, str(start))
        self.people.append(person)
        return person

    def waiting(self, *people: Person) -> None:
        """Wait until all of these wait for a lock, and the server says so."""
        pids = [person.pid for person in people]
        count = (
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL AND pid = ANY (%s)"
        )
        assert until(lambda: self.database.query(count, pids) == [(len(pids),)], TIMEOUT_S)

    def in_state(self, state: str, *people: Person) -> None:
        """Wait until all of these are in this state."""
        pids = [person.pid for person in people]
        count = "SELECT count(*) FROM pg_stat_activity WHERE state = %s AND pid = ANY (%s)"
        assert until(lambda: self.database.query(count, state, pids) == [(len(pids),)], TIMEOUT_S)

    def leave(self) -> None:
        """End all of them."""
        pids = [person.pid for person in self.people]
        self.database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s)", pids)
        for person in self.people:
            if person.thread is not None:
                person.thread.join(TIMEOUT_S)
            with contextlib.suppress(psycopg2.Error):
                person.connection.close()


@contextlib.contextmanager
def crowd(database: Database) -> Iterator[Crowd]:
    """Sessions with a database for a while."""
    found = Crowd(database)
    try:
        yield found
    finally:
        found.leave()
