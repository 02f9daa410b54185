"""Wraparound on real servers: the holders of the oldest rows are named, catalogs are vacuumed, and each remedy works."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.modules import pg_health_info, pg_terminate, pg_vacuum
from tests.support.databases import Database, new_database
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.programs import Installation, installations
from tests.support.servers import Server

LIMIT = 100_000
SETTINGS = {
    "autovacuum_freeze_max_age": LIMIT,
    "autovacuum_multixact_freeze_max_age": 10_000,
    "autovacuum": "off",
    "autovacuum_naptime": "1h",
    "max_prepared_transactions": 5,
    "wal_level": "logical",
    "synchronous_commit": "off",
}
_BURN = "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
_AGE = "SELECT age(datfrozenxid) FROM pg_database WHERE datname = %s"


def _majors() -> list[Any]:
    """The newest; all of them for `make test-majors`: before 16 a server does not tell whose a temporary schema is."""
    *older, newest = installations()
    return [
        *(pytest.param(each, id=f"pg{each.major}", marks=pytest.mark.majors) for each in older),
        pytest.param(newest, id=f"pg{newest.major}"),
    ]


@pytest.fixture(name="old", scope="module", params=_majors())
def _old(request: pytest.FixtureRequest) -> Iterator[Server]:
    installation: Installation = request.param
    with Server(installation, settings=SETTINGS) as server:
        yield server


@pytest.fixture(name="here")
def _here(old: Server) -> Iterator[Database]:
    database = new_database(old)
    yield database
    database.drop()


def burn(database: Database, count: int = LIMIT * 4 // 5) -> None:
    """Use up transaction ids: enough for us, and too few for autovacuum, which then comes although it is off."""
    database.execute(_BURN.format(count))


def age(database: Database, name: str = "") -> int:
    return int(database.query(_AGE, name or database.name)[0][0])


def health(database: Database) -> dict[str, Any]:
    """The findings of the health of the server by database."""
    result = attempt(pg_health_info, database, sections=["server"])
    return {each["subject"]: each for each in result["findings"] if each["check"] == "server_wraparound"}


def follow(database: Database, remedy: str) -> Result:
    """Do what a remedy says of the playbook vacuum."""
    words = re.search(r"postgres_runbook\.vacuum with -e vacuum_freeze=true -e postgres_db=(\w+)", remedy)
    assert words, remedy
    result = attempt(pg_vacuum, database, freeze=True, db=words[1])
    assert result["failure"] is None, result["failure"]
    return result


def test_what_health_says_makes_each_database_young_again(here: Database) -> None:
    here.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")
    burn(here)
    found = health(here)
    assert {here.name, "postgres", "template1", "template0"} <= set(found)
    assert "ALLOW_CONNECTIONS true" in found["template0"]["remedy"]
    for name in (here.name, "postgres"):
        assert age(here, name) > LIMIT * 0.75
        result = follow(here, found[name]["remedy"])
        assert result["changed"], result
        assert age(here, name) < LIMIT // 10, result
        assert result["database_freeze_age"] < LIMIT // 10
    assert age(here, "template1") < LIMIT // 10  # done along with them: it allows connections
    again = attempt(pg_vacuum, here, freeze=True)
    assert again["changed"] is False
    here.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS true")
    follow(here, found["template0"]["remedy"])
    here.execute("ALTER DATABASE template0 ALLOW_CONNECTIONS false")
    assert age(here, "template0") < LIMIT // 10


def test_a_temporary_table_is_named_with_its_session(here: Database) -> None:
    burn(here, 1)
    with (
        contextlib.closing(here.connect()) as other,
        contextlib.closing(here.connect(application_name="etl")) as holder,
    ):
        with holder.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE scratchpad AS SELECT generate_series(1, 1000) AS i")
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        burn(here)
        (finding,) = (each for name, each in health(here).items() if name == here.name)
        assert "scratchpad" in finding["message"]
        assert f"process {pid} of" in finding["message"]
        result = attempt(pg_vacuum, here, freeze=True)
        assert f"process {pid} of" in result["msg"]
        assert "nothing to do" not in result["msg"]
        assert age(here) > LIMIT * 0.75
        del other
        told = re.search(
            r"terminate_sessions_pid=(\d+) -e terminate_sessions_backend_start=([0-9TZ.:-]+)\.", finding["remedy"]
        )
        assert told or here.server.installation.major < 16  # before, it may be one of several
        if told:
            assert told[1] == str(pid)
            ended = attempt(pg_terminate, here, sessions=[{"pid": pid, "backend_start": told[2]}])
            assert ended["changed"], ended
    follow(here, finding["remedy"])
    assert age(here) < LIMIT // 10


@contextlib.contextmanager
def _transaction(database: Database) -> Iterator[str]:
    """A transaction in another database: it holds the shared catalogs."""
    other = new_database(database.server)
    with contextlib.closing(other.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id(), pg_backend_pid()")
        yield f"process {cursor.fetchone()[1]} of"
    other.drop()


@contextlib.contextmanager
def _prepared(database: Database) -> Iterator[str]:
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE p (i int)")
        cursor.execute("BEGIN; INSERT INTO p VALUES (1); PREPARE TRANSACTION 'forgotten'")
    yield "the prepared transaction forgotten of"
    database.execute("ROLLBACK PREPARED 'forgotten'")


@contextlib.contextmanager
def _slot(database: Database) -> Iterator[str]:
    database.query("SELECT pg_create_logical_replication_slot('gone', 'pgoutput')")
    yield "the logical replication slot gone, not in use"
    database.query("SELECT pg_drop_replication_slot('gone')")


@pytest.mark.parametrize(
    "holder",
    [_transaction, pytest.param(_prepared, marks=pytest.mark.majors), pytest.param(_slot, marks=pytest.mark.majors)],
)
def test_who_holds_the_oldest_rows_is_named(
    here: Database, holder: Callable[[Database], contextlib.AbstractContextManager[str]]
) -> None:
    attempt(pg_vacuum, here, freeze=True)
    with holder(here) as told:
        burn(here)
        result = attempt(pg_vacuum, here, freeze=True)
        assert age(here) > LIMIT * 0.75
        assert told in result["msg"], result["msg"]
        finding = health(here)[here.name]
        assert told in finding["message"]
        assert finding["severity"] == "warning"
    follow(here, finding["remedy"])
    assert age(here) < LIMIT // 10


def test_an_age_that_is_older_than_all_tables_is_brought_up_to_date(here: Database) -> None:
    with contextlib.closing(here.connect()) as session, session.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE gone_soon AS SELECT 1 AS i")
        burn(here)
        attempt(pg_vacuum, here, freeze=True)
    assert age(here) > LIMIT * 0.75
    result = attempt(pg_vacuum, here, freeze=True)
    assert (result["changed"], age(here) < LIMIT * 0.75) == (True, True), result["msg"]


def test_multixacts_count_alike(here: Database) -> None:
    here.execute(
        "VACUUM (FREEZE)"
    )  # its rows are those of the template, which may be older by now than what is made here
    here.execute("CREATE TABLE m (i int)", "INSERT INTO m VALUES (1)")
    with contextlib.closing(here.connect(autocommit=False)) as one, one.cursor() as first:
        first.execute("SELECT FROM m FOR KEY SHARE")
        here.execute("DO $$ BEGIN FOR i IN 1..8000 LOOP PERFORM FROM m FOR KEY SHARE; COMMIT; END LOOP; END $$")
    finding = health(here)[here.name]
    assert " multixacts old; autovacuum freezes them from 10,000 on" in finding["message"]
    result = follow(here, finding["remedy"])
    assert result["database_multixact_age"] < 1000, result
    assert here.name not in health(here)
