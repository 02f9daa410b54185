"""pg_restore that dies after the load: the next run loads nothing, and verifies the stage in full."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import Locked, QueryFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import preflight as outlook
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore import stage_steps
from ansible_collections.godel.postgres_runbook.plugins.modules import pg_restore
from tests.support.databases import Database
from tests.support.modules import RunningModule, expect_failure, expect_success, start_module
from tests.support.operations import attempt
from tests.support.processes import until
from tests.support.restores import (
    digest,
    family,
    named,
    params,
    production,
    remove,
    rows,
    stage,
    swap,
    verified_backup,
)
from tests.support.servers import Server
from tests.support.verifications import forge, hand_made, watched

# `accounts` is loaded first, and nothing else touches it.
CONTENT = "CREATE TABLE accounts AS SELECT n AS id, n AS balance FROM generate_series(1, 9) n;\n"
# The load takes two seconds, ANALYZE as well.
SLOW = (
    f"{CONTENT}CREATE FUNCTION public.nap(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM pg_catalog.pg_sleep(2); RETURN $1; END $$;\n"
    "CREATE TABLE slow (id int CHECK (pg_sleep(2)::text = ''));\n"
    "CREATE INDEX ON slow (public.nap(id));\n"
    "INSERT INTO slow VALUES (1);"
)
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(datname, %s)"
COMPARES = f"{SESSIONS} AND wait_event_type = 'Lock'"
ANALYZES = f"{SESSIONS} AND query LIKE 'ANALYZE%%slow'"
LOADS = f"{SESSIONS} AND application_name LIKE 'pg_runbook %%(pg_restore)'"
MARK = (
    "SELECT split_part(c, '=', 2)::jsonb ->> 'state' FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase,"
    " unnest(setconfig) c WHERE datname = %s AND c LIKE 'pg_runbook.mark=%%'"
)


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = production(server, CONTENT)
    yield database
    remove(database)


@pytest.fixture(name="slow_prod")
def _slow_prod(server: Server) -> Iterator[Database]:
    database = production(server, SLOW)
    yield database
    remove(database)


@pytest.fixture(name="bin_dir")
def _bin_dir(server: Server) -> Iterator[Path]:
    with watched(server) as folder:
        yield folder


def asked(database: Database, statement: str) -> bool:
    """Whether sessions with the stage of a database are in this state."""
    return bool(database.server.query(statement, f"{database.name}_staged")[0][0])


def loads(bin_dir: Path) -> int:
    """How often pg_restore was asked to write into a database."""
    return (bin_dir / "pg_restore.log").read_text().count("--dbname=")


def stage_of(database: Database) -> str:
    """The only database beside production."""
    [name] = [each for each in family(database) if each != database.name]
    return name


def oid(database: Database, name: str) -> Any:
    """The OID of a database of the same server."""
    return database.server.query("SELECT oid FROM pg_database WHERE datname = %s", name)[0][0]


def state(database: Database, name: str) -> Any:
    """The state in its mark."""
    return database.server.query(MARK, name)[0][0]


@contextlib.contextmanager
def comparing(database: Database, backup_dir: Path, **over: Any) -> Iterator[RunningModule]:
    """A restore that waits in its comparison until this block ends."""
    running = start_module("pg_restore", params(database, backup_dir, jobs=1, **over))
    try:
        with contextlib.ExitStack() as stack:
            assert until(lambda: is_locked(database, stack), 60)
            assert until(lambda: asked(database, COMPARES), 60)
            yield running
    finally:
        running.process.kill()
        running.process.communicate()


def is_locked(database: Database, stack: contextlib.ExitStack) -> bool:
    """Lock `accounts` in the stage as soon as its rows are there."""
    found = [name for name in family(database) if name != database.name]
    if not found:
        return False
    with contextlib.suppress(psycopg2.Error):
        connection = stack.enter_context(contextlib.closing(named(database, found[0]).connect(autocommit=False)))
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM public.accounts")
        if cursor.fetchall() == [(9,)]:
            cursor.execute("LOCK TABLE public.accounts IN ACCESS EXCLUSIVE MODE")
            return True
    stack.close()
    return False


def killed_after_the_load(database: Database, backup_dir: Path, **over: Any) -> str:
    """Kill a restore while it compares; returns the name of its stage."""
    with comparing(database, backup_dir, **over) as running:
        running.process.kill()
    name = stage_of(database)
    assert state(database, name) == "loaded"
    return name


@pytest.mark.parametrize("moment", ["compare", "analyze"])
def test_one_that_is_killed_after_the_load_is_gone_on_with(
    slow_prod: Database, backup_dir: Path, bin_dir: Path, moment: str
) -> None:
    prod = slow_prod
    id_ = verified_backup(prod, backup_dir)
    over: dict[str, Any] = {"bin_dir": str(bin_dir)}
    if moment == "compare":
        killed_after_the_load(prod, backup_dir, **over)
    else:
        running = start_module("pg_restore", params(prod, backup_dir, jobs=1, **over))
        assert until(lambda: asked(prod, ANALYZES), 60)
        running.process.kill()
        running.process.communicate()
    name = stage_of(prod)
    before = oid(prod, name)
    done = loads(bin_dir)
    assert done > 0

    # It may not get into production as it is, and is kept for the next run.
    told = expect_failure("pg_database_swap", {**prod.login(), "replacement": name})["msg"]
    assert "cannot be swapped in" in told
    assert "There is no staged database" in expect_failure("pg_database_swap", prod.login())["msg"]
    kept = expect_success("pg_database_discard", prod.login())
    assert (kept["dropped"], kept["kept"][0]["state"]) == ([], "loaded")
    assert f"the next restore of {id_} continues with it" in kept["msg"]
    looked = stage(prod, backup_dir, check=True, **over)
    assert looked["preflight"]["loaded_as"] == name
    assert f"An earlier run has loaded it as {name}" in looked["msg"]
    assert state(prod, name) == "loaded"

    result = stage(prod, backup_dir, **over)
    assert (result["stage"]["name"], result["stage"]["verdict"]) == (name, "verified")
    assert (oid(prod, name), loads(bin_dir)) == (before, done)
    assert (result["resumed"], result["removed"], result["changed"]) == (True, [], True)
    assert "was loaded by an earlier run" in result["msg"]
    assert any("was not loaded again" in note for note in result["preflight"]["notes"])
    assert {"compare_s", "analyze_s"} <= set(result["steps"])
    assert not {"create_s", "restore_s"} & set(result["steps"])
    original = digest(prod)
    prod.execute("DELETE FROM accounts")
    swap(prod)
    assert digest(prod) == original


def test_one_that_is_killed_in_the_load_is_loaded_anew(slow_prod: Database, backup_dir: Path, bin_dir: Path) -> None:
    prod = slow_prod
    verified_backup(prod, backup_dir)
    over = {"bin_dir": str(bin_dir)}
    running = start_module("pg_restore", params(prod, backup_dir, **over))
    assert until(lambda: asked(prod, LOADS), 60)
    running.process.kill()
    running.process.communicate()
    name = stage_of(prod)
    before = oid(prod, name)
    done = loads(bin_dir)
    assert state(prod, name) == "staging"
    result = stage(prod, backup_dir, **over)
    assert (result["stage"]["verdict"], result["removed"], result["resumed"]) == ("verified", [name], False)
    assert oid(prod, result["stage"]["name"]) != before
    assert loads(bin_dir) > done


@pytest.mark.parametrize("other", ["backup", "force", "bin_dir"])
def test_a_loaded_stage_is_dropped_when_it_is_not_what_is_asked_for(
    prod: Database, backup_dir: Path, bin_dir: Path, other: str
) -> None:
    first, second = verified_backup(prod, backup_dir), verified_backup(prod, backup_dir)
    name = killed_after_the_load(prod, backup_dir, backup=first)
    before = oid(prod, name)
    over = {
        "backup": {"backup": second},
        "force": {"backup": first, "force": True},
        "bin_dir": {"backup": first, "bin_dir": str(bin_dir)},
    }[other]
    assert stage(prod, backup_dir, check=True, **over)["preflight"]["loaded_as"] is None
    result = stage(prod, backup_dir, **over)
    assert (result["removed"], result["resumed"], result["stage"]["backup"]) == ([name], False, over["backup"])
    assert oid(prod, result["stage"]["name"]) != before
    assert len(family(prod)) == 2


def test_a_forced_run_goes_on_from_what_a_forced_run_has_loaded(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    name = killed_after_the_load(prod, backup_dir, force=True)
    result = stage(prod, backup_dir, force=True)
    assert (result["stage"]["name"], result["resumed"]) == (name, True)


@pytest.mark.parametrize("keep_failed", [False, True])
def test_a_loaded_stage_that_was_changed_fails_its_proof(prod: Database, backup_dir: Path, keep_failed: bool) -> None:
    verified_backup(prod, backup_dir)
    before = digest(prod)
    name = killed_after_the_load(prod, backup_dir)
    named(prod, name).execute("UPDATE accounts SET balance = 10 WHERE id = 7")
    result = expect_failure("pg_restore", params(prod, backup_dir, keep_failed=keep_failed))
    assert "The staged copy is not verified" in result["msg"]
    assert "a session may have changed it since. Run this again to load the backup again." in result["msg"]
    assert "Production was not touched." in result["msg"]
    assert family(prod) == ([prod.name, name] if keep_failed else [prod.name])
    assert "There is no staged database" in expect_failure("pg_database_swap", prod.login())["msg"]
    assert digest(prod) == before
    again = stage(prod, backup_dir)
    assert (again["resumed"], again["removed"]) == (False, [name] if keep_failed else [])
    assert rows(named(prod, again["stage"]["name"]), "accounts WHERE balance = id") == 9


def test_who_is_in_a_loaded_stage_is_put_out_before_the_proof(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    name = killed_after_the_load(prod, backup_dir)
    with contextlib.closing(named(prod, name).connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE accounts SET balance = 10 WHERE id = 7")
        assert stage(prod, backup_dir)["resumed"]
        with pytest.raises(psycopg2.Error):
            connection.commit()
    assert rows(named(prod, name), "accounts WHERE balance = id") == 9


def test_one_that_is_stopped_after_the_load_says_what_it_leaves(prod: Database, backup_dir: Path) -> None:
    verified_backup(prod, backup_dir)
    with comparing(prod, backup_dir) as running:
        running.process.send_signal(signal.SIGTERM)
        told = running.finish()["msg"]
    name = stage_of(prod)
    assert "Stopped by SIGTERM. Production was not touched." in told
    assert f"The backup is loaded as {name}: the next restore of this backup continues with it." in told
    assert stage(prod, backup_dir)["stage"]["name"] == name


@pytest.mark.parametrize("unlogged", [False, True])
def test_a_server_that_restarts_after_the_load_keeps_what_is_loaded(
    new_server: Callable[..., Server], backup_dir: Path, unlogged: bool
) -> None:
    server = new_server()
    prod = production(server, f"{CONTENT}\nCREATE {'UNLOGGED' if unlogged else ''} TABLE t AS SELECT 1 AS a")
    verified_backup(prod, backup_dir)
    with comparing(prod, backup_dir) as running:
        server.restart("immediate")
        told = running.finish()
    name = stage_of(prod)
    assert told["failed"]
    assert f"The backup is loaded as {name}: the next restore of this backup continues with it." in told["msg"]
    assert "Production was not touched." in told["msg"]
    # A crash empties unlogged tables, in production as well.
    result = stage(prod, backup_dir)
    assert (result["resumed"], result["stage"]["verdict"]) == (not unlogged, "verified")
    assert rows(named(prod, result["stage"]["name"]), "t") == 1


def test_what_cannot_be_compared_is_loaded_anew(slow_prod: Database, backup_dir: Path) -> None:
    prod = slow_prod
    path = str(hand_made(prod, backup_dir / "by_hand", "--format=custom"))
    running = start_module("pg_restore", params(prod, backup_dir, backup=path, accept_unproven=True, jobs=1))
    assert until(lambda: asked(prod, ANALYZES), 60)
    running.process.kill()
    running.process.communicate()
    name = stage_of(prod)
    assert state(prod, name) == "staging"
    result = stage(prod, backup_dir, backup=path, accept_unproven=True)
    assert (result["resumed"], result["removed"]) == (False, [name])


def test_a_loaded_stage_that_goes_away_is_not_loaded_without_a_look_at_the_space(
    prod: Database, backup_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified_backup(prod, backup_dir)
    name = killed_after_the_load(prod, backup_dir)
    preflight = outlook.preflight

    def overtaken(*args: Any) -> Any:
        found = preflight(*args)
        assert not found.loads
        prod.server.drop_database(name)
        return found

    monkeypatch.setattr(outlook, "preflight", overtaken)
    with pytest.raises(Locked, match=r"The staged copy no longer exists.*Nothing was done"):
        attempt(pg_restore, prod, **params(prod, backup_dir))
    assert family(prod) == [prod.name]


def test_what_the_load_was_refused_is_known_to_the_next_run(
    prod: Database, backup_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"{prod.name}_gone"
    prod.execute(f"CREATE ROLE {role}", f"ALTER TABLE accounts OWNER TO {role}")
    id_ = verified_backup(prod, backup_dir)
    forge(backup_dir / prod.name / id_, lambda document: document["source"].update(roles=[]))
    prod.execute("ALTER TABLE accounts OWNER TO CURRENT_USER", f"DROP ROLE {role}")
    losses = [QueryFailed("The connection was lost", details={"lost": True})]
    analyze = stage_steps.analyze

    def lost(*args: Any) -> None:
        if losses:
            raise losses.pop()
        analyze(*args)

    monkeypatch.setattr(stage_steps, "analyze", lost)
    over = params(prod, backup_dir, backup=id_, accept=["definitions"])
    with pytest.raises(QueryFailed, match="The connection was lost"):
        attempt(pg_restore, prod, **over)
    again, whole = attempt(pg_restore, prod, **over), attempt(pg_restore, prod, **over, force=True)
    assert (again["resumed"], whole["resumed"]) == (True, False)
    for result in (again, whole):
        assert result["stage"]["verdict"] == "incomplete"
        assert len(result["stage"]["lost"]) == 1
        notes = " ".join(result["preflight"]["notes"])
        assert f'was refused: ALTER TABLE public.accounts OWNER TO {role}; (role "{role}" does not exist)' in notes
    assert again["findings"] == whole["findings"]
