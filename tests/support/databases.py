"""A database on a throwaway server, as tests hold it."""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.servers import Server

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Database:
    """One database of one server."""

    server: Server
    name: str

    @property
    def dsn(self) -> str:
        """A libpq connection string."""
        return self.server.dsn(self.name)

    def connect(self, autocommit: bool = True, **over: Any) -> Connection:
        """Open a connection."""
        return self.server.connect(self.name, autocommit, **over)

    def login(self, **over: Any) -> dict[str, Any]:
        """Return connection options, named as in community.postgresql."""
        return self.server.login(**{"db": self.name, **over})

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        return self.server.query(statement, *values, db=self.name)

    def execute(self, *statements: str) -> None:
        """Run statements, each by itself."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def psql(self, text: str) -> str:
        """Run SQL through psql and return its bare output."""
        return self.server.psql(text, db=self.name)

    def run(self, program: str, *arguments: Any) -> str:
        """Run a client program against this database and return its output."""
        return self.server.run(program, *arguments, db=self.name)

    def drop(self) -> None:
        """Drop the database if it is there."""
        self.server.drop_database(self.name)


def unique_name(prefix: str = "test") -> str:
    """Return a name that no other test of this run uses."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}"


def new_database(server: Server, name: str | None = None, template: str = "template0") -> Database:
    """Create a database, with a name of its own if none is given."""
    return Database(server, server.create_database(name or unique_name(), template))
