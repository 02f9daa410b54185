"""Tables with dead rows, and pg_vacuum on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.modules import pg_vacuum
from tests.support import operations
from tests.support.databases import Database
from tests.support.modules import Result
from tests.support.processes import until

TIMEOUT_S = 30.0
# Open at any time of the day, until midnight at least; the days of tests begin and end as others do.
ALWAYS = {"start": "00:00", "end": "00:00"}
_DEAD = "SELECT pg_stat_get_dead_tuples(%s::regclass), pg_stat_get_live_tuples(%s::regclass)"


def table(database: Database, name: str = "t", rows: int = 4000, dead: int = 2000, columns: str = "") -> None:
    """A table with dead rows that autovacuum leaves alone, and that the statistics know of."""
    database.execute(
        f"CREATE TABLE {name} (id int PRIMARY KEY, v text{columns}) WITH (autovacuum_enabled = off)",
        f"INSERT INTO {name} (id, v) SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n",
    )
    counted(database, name, 0, rows)
    database.execute(f"VACUUM ANALYZE {name}")
    if dead:
        kill(database, name, rows, dead)


def kill(database: Database, name: str, rows: int, dead: int) -> None:
    """Delete rows, evenly all over the table."""
    database.execute(f"DELETE FROM {name} WHERE id % {rows // dead} = 0")
    counted(database, name, dead, rows - dead)


def counted(database: Database, name: str, dead: int, live: int) -> None:
    """Wait until the statistics know of so many rows: a session tells them at its end at the latest."""
    assert until(lambda: database.query(_DEAD, name, name) == [(dead, live)], TIMEOUT_S), database.query(
        _DEAD, name, name
    )


def bloat(database: Database, name: str = "t", rows: int = 20000) -> None:
    """A table that a rewrite makes half as large, and that needs no measuring."""
    table(database, name, rows, rows // 2)
    database.execute(f"VACUUM ANALYZE {name}")


def attempt(database: Database, check: bool = False, **over: Any) -> Result:
    """Run the operation of pg_vacuum, without Ansible around it; its result."""
    return operations.attempt(pg_vacuum, database, check, **over)


def vacuum(database: Database, check: bool = False, **over: Any) -> Result:
    """The same; it has to succeed."""
    result = attempt(database, check, **over)
    assert result["failure"] is None, result["failure"]
    return result


def done(result: Result) -> list[str]:
    """The tables that were done, or would be, in order."""
    return [each["name"] for each in result["tables"] if each["state"] in ("due", "done")]


def skipped(result: Result) -> dict[str, str]:
    """The tables that were not, and why."""
    return {each["name"]: each["why"] for each in result["tables"] if each["state"] in ("skipped", "failed", "left")}


def checks(result: Result) -> list[tuple[str, str]]:
    """The findings, as check and subject."""
    return [(each["check"], each["subject"]) for each in result["findings"]]


@contextlib.contextmanager
def snapshot(database: Database, name: str = "report") -> Iterator[int]:
    """A session whose snapshot holds all rows that die from now on; its process id."""
    with contextlib.closing(database.connect(autocommit=False, application_name=name)) as connection:
        connection.set_session(isolation_level="REPEATABLE READ")
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_class")
            yield connection.info.backend_pid


@contextlib.contextmanager
def locked(database: Database, name: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[int]:
    """A session that has a table locked; its process id."""
    opened = database.connect(autocommit=False, application_name="migration")
    with contextlib.closing(opened) as connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {name} IN {mode} MODE")
        yield connection.info.backend_pid
