"""SQL through a port-forward that dies in the middle: a restore goes on, and what cannot go on says what happened."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    Locked,
    QueryFailed,
    RunbookError,
    WorkloadProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._fingerprint import capture
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import databases
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Server, Session
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.reconnect import persist
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.exclusive_session import exclusive
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.kubernetes import KubernetesTarget
from tests.kubernetes import place as places
from tests.kubernetes.link import Link
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.kubernetes.sites import LOGIN, fill_slow_to_load
from tests.support.modules import run_module, start_module

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("los") as prepared:
        fill_slow_to_load(prepared)
        yield prepared


@pytest.fixture
def target(place: Place, link: Link) -> Iterator[KubernetesTarget]:
    with place.target(kubeconfig=link.kubeconfig) as target:
        yield target


@pytest.fixture
def server(target: KubernetesTarget) -> Server:
    return Server(target, Login(user=USER, password=PASSWORD))


def here(place: Place) -> Server:
    return Server(place.here, Login(user=USER, password=PASSWORD))


# --- the lock


def test_a_lock_is_taken_again_and_the_former_session_ended(place: Place, link: Link, server: Server) -> None:
    with exclusive(server, DATABASE) as session:
        before = session.backend_pid
        link.drop()
        assert session.value("SELECT 7") == 7
        assert session.backend_pid != before
        with pytest.raises(Locked), exclusive(here(place), DATABASE):
            pass
        there = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        place.until(lambda: session.value(there, (before,)) == 0)
    with exclusive(here(place), DATABASE):
        pass


def test_a_read_that_is_cut_in_the_middle_is_repeated_and_a_change_is_not(link: Link, server: Server) -> None:
    sleep = "SELECT pg_catalog.pg_sleep(2)::text"
    with exclusive(server, DATABASE) as session:
        cut = threading.Timer(0.7, link.drop)
        cut.start()
        assert session.value(sleep) == ""
        cut.join()
        cut = threading.Timer(0.7, link.drop)
        cut.start()
        with pytest.raises(QueryFailed) as caught:
            session.execute(sleep)
        cut.join()
        assert "The connection through the API server was lost" in caught.value.message
        assert "terminated abnormally" not in caught.value.message
        session.execute("SELECT 1")  # the next one has a new connection


def test_a_lock_that_another_run_took_meanwhile_is_not_taken_from_it(
    place: Place, link: Link, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.exclusive_session"
                        "._LOCK_PATIENCE_S", 0.0)  # fmt: skip
    with exclusive(server, DATABASE) as session, contextlib.ExitStack() as other:
        former = session.backend_pid
        away = threading.Thread(target=link.away, args=(4 * place.pace.factor,))
        away.start()
        mine = other.enter_context(databases.connect_admin(here(place)))
        gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
        place.until(lambda: mine.value(gone, (former,)) == 0 or bool(mine.execute(
            "SELECT pg_terminate_backend(%s)", (former,))))  # fmt: skip
        other.enter_context(databases.exclusive_lock(mine, DATABASE))
        with pytest.raises(Locked, match="the connection through the API server was lost, and with it the lock"):
            session.value("SELECT 1")
        away.join()


# --- fingerprints


def test_a_copy_is_read_once_more_when_the_connection_is_lost(
    link: Link, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = capture.take(server, DATABASE, mode="content", workers=2)
    reads = capture.Recorder._read_objects
    drops = [link.drop, lambda: link.away(1), link.drop]

    def read(recorder: Any, session: Session) -> Any:
        if drops:
            drops.pop()()
        return reads(recorder, session)

    monkeypatch.setattr(capture.Recorder, "_read_objects", read)
    found = capture.take(server, DATABASE, mode="content", workers=2)
    assert not drops
    assert (found.tables, found.objects) == (expected.tables, expected.objects)


# --- what is not the connection


def test_work_that_ends_its_own_session_is_not_repeated_without_end(server: Server) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        with server.connect(DATABASE) as session:
            session.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(QueryFailed):
        persist(server, work)
    assert len(attempts) == 6


def test_an_error_of_the_statement_is_raised_at_once(server: Server) -> None:
    began = time.monotonic()

    def work(db: str, statement: str) -> None:
        with server.connect(db) as session:
            session.execute(statement)

    for db, statement in ((DATABASE, "SELECT 1/0"), ("no_such_database", "SELECT 1")):
        with pytest.raises(RunbookError, match=r"division by zero|does not exist"):
            persist(server, lambda db=db, statement=statement: work(db, statement))  # type: ignore[misc]
    assert time.monotonic() - began < 60 * 5


# --- a restore


def restore(place: Place, link: Link, backup: str, folder: str) -> Any:
    return start_module(
        "pg_restore",
        {
            **LOGIN, "db": DATABASE, "backup_dir": folder, "backup": backup, "accept_unproven": True,
            "kubernetes": place.options(kubeconfig=link.kubeconfig),
        },
    )  # fmt: skip


@pytest.mark.parametrize("event", ["connections", "away"])
def test_a_restore_goes_on_when_the_api_server_restarts_while_it_loads(place: Place, link: Link, event: str) -> None:
    folder = place.new_folder()
    with place.unnoticed():
        taken = run_module("pg_backup", {**LOGIN, "db": DATABASE, "backup_dir": folder, "kubernetes": place.options()})
        assert not taken["failed"], taken
        running = restore(place, link, taken["backup"]["id"], folder)
        loading = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_runbook %(pg_restore)'"
        with databases.connect_admin(here(place)) as session:
            place.until(lambda: session.value(loading) > 0 or running.process.poll() is not None)
            assert running.process.poll() is None
            if event == "connections":
                link.drop()
            else:
                link.away(2)
            result = running.finish()
            assert not result["failed"], result
            assert result["stage"]["verdict"] == "verified", result
            databases.drop(session, result["stage"]["name"])
    place.here.files.remove_tree(folder)


def test_a_container_that_was_restarted_is_told_with_its_end(place: Place, server: Server) -> None:
    def lose() -> None:
        place.restart_server()
        raise QueryFailed("The connection through the API server was lost", details={"lost": True})

    with pytest.raises(WorkloadProblem, match=r"The container was restarted.*exit code \d+"):
        persist(server, lose)
