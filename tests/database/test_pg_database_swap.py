"""pg_database_swap and pg_database_discard on real servers: one of the two is in production at every moment, whole."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import discard
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.plan import DiscardPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from tests.support.databases import Database, unique_name
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.processes import until
from tests.support.relay import relayed
from tests.support.restores import (
    asking,
    digest,
    family,
    named,
    ours,
    production,
    remove,
    rows,
    stage,
    swap,
    verified_backup,
)
from tests.support.servers import Server

CONTENT = "CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n"


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = production(server, CONTENT)
    yield database
    remove(database)


@pytest.fixture(name="staged")
def _staged(prod: Database, backup_dir: Path) -> Database:
    """A database of 250 rows, and beside it a stage with 100."""
    verified_backup(prod, backup_dir)
    stage(prod, backup_dir)
    prod.execute("INSERT INTO users SELECT generate_series(101, 250)")
    return prod


def test_a_stage_goes_into_production_and_back_and_is_discarded(staged: Database, backup_dir: Path) -> None:
    former = digest(staged)
    rehearsal = swap(staged, check=True, diff=True)
    assert rehearsal["changed"]
    assert f"{staged.name}: not from a restore" in rehearsal["diff"]["before"]
    assert rows(staged) == 250

    first = swap(staged)
    assert (first["changed"], rows(staged)) == (True, 100)
    assert 0 < first["downtime_s"] < 5
    assert rows(named(staged, first["replaced"])) == 250
    assert swap(staged)["changed"] is False
    assert stage(staged, backup_dir)["changed"] is False  # production came from this very backup

    back = swap(staged, replacement="replaced", keep_old="0")
    assert (back["changed"], digest(staged)) == (True, former)
    assert swap(staged, replacement="replaced")["changed"] is False

    for check in (True, False):
        dropped = expect_success("pg_database_discard", staged.login(), check=check)
        assert (dropped["changed"], dropped["dropped"]) == (True, [back["replaced"]])
    assert expect_success("pg_database_discard", staged.login())["changed"] is False
    assert family(staged) == [staged.name]


def test_what_is_kept_is_not_discarded_before_its_time(staged: Database) -> None:
    replaced = swap(staged, keep_old="1h")["replaced"]
    assert expect_success("pg_database_discard", staged.login())["changed"] is False
    later = utc_now() + timedelta(hours=2)
    assert discard.discard(ours(staged), DiscardPlan(staged.name, due_only=True), later).dropped == [replaced]


def test_everything_beside_production_can_be_discarded_at_once(staged: Database, backup_dir: Path) -> None:
    swap(staged)
    stage(staged, backup_dir, force=True)
    result = expect_success("pg_database_discard", {**staged.login(), "due_only": False})
    assert result["changed"]
    assert family(staged) == [staged.name]


def test_what_somebody_has_renamed_is_never_dropped(staged: Database) -> None:
    # A hand swaps back and, for good measure, puts the restored one into an archive.
    former = swap(staged, keep_old="0")["replaced"]
    staged.server.query(f"ALTER DATABASE {staged.name} RENAME TO {staged.name}_bad")
    staged.server.query(f'ALTER DATABASE "{former}" RENAME TO {staged.name}')
    for due_only in (True, False):
        result = expect_success("pg_database_discard", {**staged.login(), "due_only": due_only})
        assert (result["changed"], result["dropped"], rows(staged)) == (False, [], 250)
    # And another time renames what was replaced, to keep it.
    staged.server.query(f"ALTER DATABASE {staged.name} RENAME TO {staged.name}_archive")
    discarded = expect_success("pg_database_discard", {**staged.login(), "due_only": False})
    assert discarded["dropped"] == []
    assert f"{staged.name}_archive is marked as {former} (replaced), but was renamed since" in discarded["msg"]
    refused = expect_failure("pg_database_swap", {**staged.login(), "replacement": "replaced"})
    assert "There is no replaced database" in refused["msg"]
    assert "was renamed since" in refused["msg"]
    assert rows(named(staged, f"{staged.name}_archive")) == 250


def test_production_whose_removal_was_interrupted_is_replaced(staged: Database) -> None:
    change = f"UPDATE pg_database SET datconnlimit = -2 WHERE datname = '{staged.name}'"  # as DROP DATABASE leaves it
    staged.server.query(change)
    swap(staged)
    limit = staged.query("SELECT datconnlimit FROM pg_database WHERE datname = current_database()")
    assert (limit, rows(staged)) == ([(-1,)], 100)


def test_limits_of_production_are_those_of_the_next(staged: Database) -> None:
    staged.execute(f"ALTER DATABASE {staged.name} CONNECTION LIMIT 17")
    swap(staged)
    assert staged.query("SELECT datconnlimit FROM pg_database WHERE datname = current_database()") == [(17,)]


def test_a_lost_database_comes_back_from_its_stage(staged: Database) -> None:
    staged.drop()
    result = swap(staged)
    assert (result["replaced"], rows(staged)) == (None, 100)


def test_any_name_can_be_swapped(server: Server, backup_dir: Path) -> None:
    name = f'Ö "q" \'s {unique_name("x")} ' + "ü" * 12
    prod = production(server, CONTENT, name.encode()[:63].decode(errors="ignore"))
    try:
        verified_backup(prod, backup_dir)
        stage(prod, backup_dir)
        prod.execute("DELETE FROM users")
        replaced = swap(prod)["replaced"]
        assert (rows(prod), rows(named(prod, replaced))) == (100, 0)
        assert len(replaced.encode()) <= 63
        prod.server.drop_database(replaced)
    finally:
        prod.drop()


# --- people at work -----------------------------------------------------------------------------------------


def test_clients_that_connect_all_the_time_are_without_it_for_a_moment(staged: Database) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asking(staged, "SELECT count(*) FROM users")) for dummy in range(8)]
        until(lambda: all(len(client.answers) > 20 for client in clients), 30)
        result = swap(staged)
        until(lambda: all(client.last() == 100 for client in clients), 30)
    assert len(result["ended_sessions"]) >= 8
    assert all({answer for dummy, answer in client.answers} == {250, 100} for client in clients)
    switched = [[answer for dummy, answer in client.answers] for client in clients]
    assert all(len(list(itertools.groupby(answers))) == 2 for answers in switched)  # and never back


def test_a_long_transaction_has_the_grace_and_is_then_ended(staged: Database) -> None:
    job = staged.connect(autocommit=False, application_name="night job")
    with contextlib.closing(job) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE users SET id = 0")
        started = time.monotonic()
        result = swap(staged, grace="1s")
        assert time.monotonic() - started > 1
    [ended] = result["ended_sessions"]
    assert (ended["application"], ended["state"]) == ("night job", "idle in transaction")
    assert ended["transaction_s"] > 1
    former = named(staged, result["replaced"])
    assert former.query("SELECT count(*) FROM users WHERE id = 0") == [(0,)]  # it was rolled back


def test_a_transaction_that_ends_within_the_grace_is_not_lost(staged: Database) -> None:
    with contextlib.closing(staged.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users VALUES (0)")
        timer = threading.Timer(1, connection.commit)
        timer.start()
        result = swap(staged, grace="30s")
        timer.join()
    assert rows(named(staged, result["replaced"])) == 251


def test_what_a_swap_would_break_is_named_and_may_be_allowed(
    new_server: Callable[..., Server], backup_dir: Path
) -> None:
    server = new_server(settings={"max_prepared_transactions": 5, "wal_level": "logical"})
    prod = production(server, CONTENT)
    verified_backup(prod, backup_dir)
    stage(prod, backup_dir)
    with contextlib.closing(prod.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users VALUES (0)")
        cursor.execute("PREPARE TRANSACTION 'half'")
    refused = expect_failure("pg_database_swap", prod.login())
    assert "prepared transaction half" in refused["msg"]
    prod.execute("ROLLBACK PREPARED 'half'", "SELECT pg_create_logical_replication_slot('listener', 'pgoutput')")
    for check in (True, False):
        assert "slot listener" in expect_failure("pg_database_swap", prod.login(), check=check)["msg"]
    assert rows(prod) == 100
    assert swap(prod, allow=["replication_slot"])["changed"]


def test_a_backup_that_a_swap_would_end_is_named(staged: Database) -> None:
    with contextlib.closing(staged.connect(application_name="pg_dump")):
        found = swap(staged, check=True)["findings"]
    (finding,) = (each for each in found if each["check"] == "swap_running_procedure")
    assert re.match(rf"The running procedure backup, since 20\S+Z is tied to .* {staged.name}\.", finding["message"])
    assert (finding["severity"], finding["value"]) == ("warning", "running_procedure")
    assert "the swap terminates its sessions" in finding["remedy"]


def test_a_lock_that_is_not_to_be_had_is_tried_for_and_then_told(staged: Database) -> None:
    with contextlib.closing(staged.server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_database IN SHARE MODE")  # no session can rename a database
        over = {"block": "200ms", "attempts": 2, "grace": "0"}
        told = expect_failure("pg_database_swap", {**staged.login(), **over})["msg"]
        assert "could not be swapped" in told
        assert "Nothing was changed" in told
        assert rows(staged) == 250
        running = start_module("pg_database_swap", {**staged.login(), "block": "200ms", "grace": "0", "attempts": 100})
        seen: set[tuple[Any, ...]] = set()
        assert until(lambda: seen.update(waiting(staged)) or len(seen) > 1, 60)
        connection.rollback()
    result = running.finish()
    assert not result["failed"], result["msg"]
    assert result["attempts"] > 1
    assert rows(staged) == 100


def test_two_at_once_are_one_too_many(staged: Database) -> None:
    with contextlib.closing(staged.server.connect()) as connection, connection.cursor() as cursor:
        key = f"pg_runbook restore {staged.name}"
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (key,))
        for module in ("pg_database_swap", "pg_database_discard"):
            assert "Another restore or swap" in expect_failure(module, staged.login())["msg"]


# --- deaths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_one_that_is_stopped_in_the_middle_leaves_production_and_is_finished_by_the_next(
    staged: Database, signum: int
) -> None:
    with contextlib.closing(staged.server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_database IN SHARE MODE")
        running = start_module(
            "pg_database_swap", {**staged.login(), "grace": "0", "block": "60s" if signum == signal.SIGKILL else "2s"}
        )
        until(lambda: waiting(staged), 30)
        running.process.send_signal(signum)
        running.process.wait(60)
        connection.rollback()
    assert until(lambda: not at_work(staged), 30)  # the server may finish what a killed client has begun
    running.process.communicate()
    assert rows(staged) in (250, 100)
    swap(staged)
    assert rows(staged) == 100
    assert len(family(staged)) == 2


def at_work(database: Database) -> bool:
    """Whether a session of a module is there."""
    sessions = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_runbook swap' AND %s"
    return bool(database.server.query(sessions, True))


def waiting(database: Database) -> set[tuple[Any, ...]]:
    """The start of each rename that waits for its lock."""
    asked = "SELECT query_start FROM pg_stat_activity WHERE query LIKE 'BEGIN; SET LOCAL%' AND wait_event_type = 'Lock'"
    return set(database.server.query(asked))


@pytest.mark.parametrize("after_s", [0.1, 0.25, 0.3, 0.35, 0.5])
def test_killed_at_any_moment_one_of_the_two_is_in_production(staged: Database, after_s: float) -> None:
    running = start_module("pg_database_swap", {**staged.login(), "grace": "0"})
    time.sleep(after_s)
    running.process.kill()
    running.process.communicate()
    assert until(lambda: not at_work(staged), 30)
    assert rows(staged) in (250, 100)
    assert len(family(staged)) == 2
    swap(staged)
    assert rows(staged) == 100
    assert len(family(staged)) == 2


def test_a_server_that_goes_in_the_middle_leaves_one_of_the_two(
    new_server: Callable[..., Server], backup_dir: Path
) -> None:
    server = new_server()
    prod = production(server, CONTENT)
    verified_backup(prod, backup_dir)
    stage(prod, backup_dir)
    prod.execute("DELETE FROM users")
    with contextlib.closing(server.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_database IN SHARE MODE")
        running = start_module("pg_database_swap", {**prod.login(), "grace": "0", "block": "60s"})
        until(lambda: waiting(prod), 30)
        server.restart("immediate")
    result = running.finish()
    assert "The connection was lost during the swap" in result["msg"]
    assert "The swap was not done" in result["msg"]
    assert result["error"]["swapped"] is False
    assert rows(prod) == 0
    swap(prod)
    assert rows(prod) == 100


def test_an_answer_that_is_lost_after_the_commit_is_no_failure(staged: Database) -> None:
    with relayed(staged.server) as relay:
        relay.loses = lambda answer: b"ALTER DATABASE\0" in answer and b"COMMIT\0" in answer
        result = swap(staged, login_port=relay.port)
    assert (result["changed"], rows(staged)) == (True, 100)
    assert rows(named(staged, result["replaced"])) == 250
    assert swap(staged, replacement=result["replaced"])["changed"]
    assert rows(staged) == 250


def test_one_that_goes_on_at_the_server_after_the_connection_is_lost_is_waited_for(staged: Database) -> None:
    with (
        relayed(staged.server) as relay,
        contextlib.closing(staged.server.connect(autocommit=False)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("LOCK TABLE pg_database IN SHARE MODE")
        words = {**staged.login(login_port=relay.port), "grace": "0", "block": "60s"}
        running = start_module("pg_database_swap", words)
        until(lambda: waiting(staged), 30)
        relay.cut(b"RENAME TO")
        timer = threading.Timer(5, connection.rollback)
        timer.start()
        result = running.finish()
        timer.join()
    assert not result["failed"], result
    assert (rows(staged), rows(named(staged, result["replaced"]))) == (100, 250)


# --- bad input ----------------------------------------------------------------------------------------------


def test_a_database_that_was_not_made_for_it_is_refused(prod: Database) -> None:
    other = production(prod.server, CONTENT, f"{prod.name}_other")
    for replacement, told in (
        (other.name, "cannot be swapped in"),
        ("nothing_here", "The database to swap in does not exist"),
        (prod.name, "The database to swap in does not exist"),
        ("template1", "cannot be replaced"),
        ("staged", "There is no staged database"),
        ("replaced", "There is no replaced database"),
    ):
        result = expect_failure("pg_database_swap", {**prod.login(), "replacement": replacement})
        assert told in result["msg"]
    assert family(prod) == sorted([prod.name, other.name])


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"keep_old": "soon"}, "Invalid keep_old"),
        ({"grace": "x"}, "Invalid grace"),
        ({"attempts": 0}, "Invalid attempts"),
        ({"db": "postgres"}, "cannot be replaced"),
    ],
)
def test_bad_input_is_told(prod: Database, over: dict[str, object], told: str) -> None:
    assert told in expect_failure("pg_database_swap", {**prod.login(), **over})["msg"]


def test_a_login_that_is_no_superuser_is_told(staged: Database) -> None:
    role = f"{staged.name}_weak"
    staged.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'dummy' CREATEDB")
    try:
        over = {"login_user": role, "login_password": "dummy"}
        assert "is not a superuser" in expect_failure("pg_database_swap", {**staged.login(), **over})["msg"]
    finally:
        staged.execute(f"DROP ROLE {role}")
    assert rows(staged) == 250
