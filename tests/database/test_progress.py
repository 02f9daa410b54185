"""Progress of long statements, on every major: each statement is held half-way, seen, and ended."""

from __future__ import annotations

import contextlib
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import progress as ops
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Session
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.progress import Progress
from tests.support.backups import our_server
from tests.support.databases import Database
from tests.support.processes import until

TIMEOUT_S = 60.0
SLOW = """
CREATE FUNCTION slow(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
    IF n = 2000 AND current_setting('test.slow', true) = 'on' THEN PERFORM pg_sleep(60); END IF;
    RETURN n;
END $$
"""


@pytest.fixture(name="tables")
def _tables(any_database: Database) -> Database:
    any_database.execute(
        "CREATE TABLE \"T t\" AS SELECT n, repeat('x', 500) AS v FROM generate_series(1, 4000) n",
        'CREATE INDEX t_n ON "T t" (n)',
        SLOW,
        "CREATE TABLE f AS SELECT n FROM generate_series(1, 4000) n",
        "CREATE INDEX f_n ON f (slow(n))",
    )
    return any_database


@contextlib.contextmanager
def running(database: Database, *statements: str) -> Iterator[int]:
    """A session that runs statements, the last of which does not end by itself; its process id."""
    with contextlib.closing(database.connect()) as connection:

        def work() -> None:
            with contextlib.suppress(psycopg2.errors.QueryCanceled), connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield connection.info.backend_pid
        finally:
            connection.cancel()
            thread.join()


def found(session: Session, pid: int, fits: Callable[[Progress], bool]) -> Progress:
    """The progress of a process, once there is one that fits."""
    seen: list[Progress] = []

    def look() -> bool:
        seen[:] = [each for each in ops.look(session) if each.pid == pid and fits(each)]
        return bool(seen)

    assert until(look, TIMEOUT_S)
    return seen[0]


@pytest.fixture(name="session")
def _session(tables: Database) -> Iterator[Session]:
    with our_server(tables).connect(tables.name) as session:
        yield session


def test_every_kind_of_statement(tables: Database, session: Session) -> None:
    gently = ("SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1")
    with running(tables, 'DELETE FROM "T t" WHERE n % 2 = 0', *gently, 'VACUUM "T t"') as pid:
        seen = found(session, pid, lambda each: each.done > 0)
        assert (seen.command, seen.relation, seen.phase) == ("VACUUM", 'public."T t"', "scanning heap")
        assert seen.total is not None
        assert (seen.unit, 267 <= seen.total < 350) == ("blocks", True)  # some are extended in advance
        assert seen.share is not None
        assert 0 < seen.share < 1
    with running(tables, *gently, 'ANALYZE "T t"') as pid:
        seen = found(session, pid, lambda each: each.done > 0)
        assert (seen.command, seen.relation, seen.unit) == ("ANALYZE", 'public."T t"', "blocks")
    with running(tables, "SET test.slow = 'on'", "VACUUM FULL f") as pid:
        seen = found(session, pid, lambda each: each.phase == "rebuilding index")
        assert (seen.command, seen.relation) == ("VACUUM FULL", "public.f")
    with running(tables, "SET test.slow = 'on'", "REINDEX INDEX f_n") as pid:
        seen = found(session, pid, lambda each: each.done > 0)
        assert (seen.command, seen.relation, seen.unit) == ("REINDEX", "public.f_n", "blocks")
        assert seen.share is not None


def test_waiting_for_a_transaction_is_counted(tables: Database, session: Session) -> None:
    with contextlib.closing(tables.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("INSERT INTO f VALUES (1)")
        with running(tables, "CREATE INDEX CONCURRENTLY ON f (n)") as pid:
            seen = found(session, pid, lambda each: each.phase.startswith("waiting"))
            assert (seen.command, seen.unit) == ("CREATE INDEX CONCURRENTLY", "transactions")
            assert (seen.done, seen.total) == (0, 1)


class _Hose(io.RawIOBase):
    """A file that yields some lines, and then none until it is let go."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self._first = True

    def read(self, size: int = -1) -> Any:
        if self._first:
            self._first = False
            return b"1\n" * 20000
        self.done.wait(TIMEOUT_S)
        return b""


def test_copy_counts_bytes_of_what_has_no_known_end(tables: Database, session: Session) -> None:
    hose = _Hose()
    with contextlib.closing(tables.connect()) as connection:

        def copy() -> None:
            with connection.cursor() as cursor:
                cursor.copy_expert("COPY f FROM STDIN", hose)

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        seen = found(session, connection.info.backend_pid, lambda each: each.done > 0)
        hose.done.set()
        thread.join()
    assert (seen.command, seen.relation, seen.phase, seen.unit) == ("COPY FROM", "public.f", "pipe", "bytes")
    assert (seen.total, seen.share) == (None, None)


def test_a_base_backup_has_no_relation(database: Database, tmp_path: Path) -> None:
    server = database.server
    # Without WAL there is no second process, which would keep the connection open when the first one is ended.
    options = ["--max-rate=256k", "--checkpoint=fast", "--wal-method=none"]
    command = [server.program("pg_basebackup"), "-D", tmp_path / "base", *options]
    backup = subprocess.Popen(
        command, env=server.environment("postgres"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with our_server(database).connect(database.name) as session:
            seen: list[Progress] = []

            def look() -> bool:
                seen[:] = [each for each in ops.look(session) if each.phase == "streaming database files"]
                return bool(seen) and seen[0].done > 0

            assert until(look, TIMEOUT_S)
    finally:
        backup.terminate()
        backup.wait()
        assert until(lambda: server.query("SELECT pid FROM pg_stat_progress_basebackup") == [], TIMEOUT_S)
    assert (seen[0].command, seen[0].relation, seen[0].unit) == ("BASE_BACKUP", "", "bytes")
    assert seen[0].share is not None


def test_watching_yields_what_changed_until_it_ends(database: Database) -> None:
    database.execute("CREATE TABLE t AS SELECT n, repeat('x', 500) AS v FROM generate_series(1, 4000) n")
    looks = iter(range(1000))
    with our_server(database).connect(database.name) as session:
        assert list(ops.watch(session, lambda: next(looks) < 3, pids=[0], every_s=0.0)) == []
        with (
            running(database, "SET vacuum_cost_delay = 20", "SET vacuum_cost_limit = 1", "VACUUM t") as pid,
            running(database, "SET vacuum_cost_delay = 20", "ANALYZE t"),
        ):
            seen: list[Progress] = []
            for each in ops.watch(session, lambda: len(seen) < 3, pids=[pid], every_s=0.01):
                seen.append(each)
    assert {each.pid for each in seen} == {pid}
    assert [each.done for each in seen] == sorted({each.done for each in seen})


def test_other_databases_and_other_users_are_told_as_far_as_can_be(database: Database) -> None:
    database.execute("CREATE TABLE t AS SELECT n, repeat('x', 500) AS v FROM generate_series(1, 4000) n")
    database.execute(f"CREATE ROLE other_{database.name}")
    try:
        with (
            our_server(database).connect("postgres") as session,
            running(database, "SET vacuum_cost_delay = 100", "SET vacuum_cost_limit = 1", "VACUUM t") as pid,
        ):
            assert found(session, pid, lambda each: True).relation.startswith(f"{database.name}: ")
            session.query(f"SET ROLE other_{database.name}")
            assert [each for each in ops.look(session) if each.pid == pid] == []
    finally:
        database.execute(f"DROP ROLE other_{database.name}")
