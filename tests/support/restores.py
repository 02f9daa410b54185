"""Stage, swap and discard with the modules in tests, and read the content of production."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from tests.support.backups import CONTENT, back_up, fingerprint
from tests.support.backups import params as backup_params
from tests.support.catalogs import add_verdict
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import Result, expect_success
from tests.support.servers import Server
from tests.support.workspace import workspace


def production(server: Server, content: str = CONTENT, name: str | None = None) -> Database:
    """A database with content. Remove it, and what comes of it, with `remove`."""
    database = new_database(server, name or unique_name("prod"))
    database.execute(*content.strip().removesuffix(";").split(";\n"))
    return database


def remove(database: Database) -> None:
    """Drop a database and all that was made of it."""
    for name in family(database):
        database.server.drop_database(name)


def family(database: Database) -> list[str]:
    """The database and all that are named after it, but not other tests'."""
    return sorted(name for name in database.server.databases() if f"{name}_".startswith(f"{database.name}_"))


def verified_backup(database: Database, backup_dir: Path, **over: Any) -> str:
    """Take a backup, record that it was verified, and return its id."""
    id_ = str(back_up(database, backup_dir, **over)["backup"]["id"])
    add_verdict(backup_dir, database.name, id_, "verified", utc_now() - timedelta(seconds=1))
    return id_


def params(database: Database, backup_dir: Path, **over: Any) -> dict[str, Any]:
    """The parameters of pg_restore; keyword arguments win."""
    return {**backup_params(database, backup_dir), "scratch_dir": str(workspace()), **over}


def stage(database: Database, backup_dir: Path, **over: Any) -> Result:
    """Stage a backup, which has to succeed."""
    options = {name: over.pop(name) for name in ("check", "diff") if name in over}
    return expect_success("pg_restore", params(database, backup_dir, **over), **options)


def swap(database: Database, **over: Any) -> Result:
    """Swap, which has to succeed."""
    options = {name: over.pop(name) for name in ("check", "diff") if name in over}
    return expect_success("pg_database_swap", {**database.login(), "grace": "0", **over}, **options)


def rows(database: Database, table: str = "users") -> int:
    """How many rows a table has, in the database that has the name now."""
    return int(database.query(f"SELECT count(*) FROM {table}")[0][0])


def named(database: Database, name: str) -> Database:
    """Another database of the same server."""
    return Database(database.server, name)


def ours(database: Database) -> OurServer:
    """The server as the collection sees it."""
    words = database.login()
    login = Login(words["login_host"], words["login_port"], words["login_user"], words["login_password"])
    return OurServer(LocalTarget(), login)


def digest(database: Database) -> Any:
    """All that there is in a database."""
    return fingerprint(database).as_dict()


@dataclass
class Client:
    """A client that queries the database of this name every ten milliseconds, and reconnects after a failure."""

    answers: list[tuple[float, object]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def longest_gap_s(self) -> float:
        """The longest time between two answers."""
        moments = [moment for moment, dummy in self.answers]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def last(self) -> object:
        """What was answered last."""
        return self.answers[-1][1]


@contextlib.contextmanager
def asking(database: Database, question: str, every_s: float = 0.01) -> Iterator[Client]:
    """Ask all the time, in a thread of its own."""
    client = Client()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            try:
                with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
                    while not done.wait(every_s):
                        cursor.execute(question)
                        client.answers.append((time.monotonic(), cursor.fetchall()[0][0]))
            except psycopg2.Error as exc:
                client.failures.append(str(exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield client
    finally:
        done.set()
        thread.join()
