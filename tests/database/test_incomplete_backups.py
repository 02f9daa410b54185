"""Backups that lack definitions only, and statements that a server refused: what the verdict says, and what a restore takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ProofFailed
from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_backup,
    pg_database_swap,
    pg_restore,
    pg_restore_verify,
)
from tests.support.backups import params as backup_params
from tests.support.databases import Database, unique_name
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.programs import client_for
from tests.support.restores import params as restore_params
from tests.support.restores import production, remove
from tests.support.servers import Server
from tests.support.verifications import forge, leftovers, params, scratch_folder, tables_of, verdicts

CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 300) n;
    CREATE VIEW names AS SELECT name FROM users;
"""


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(name="prod")
def _prod(server: Server) -> Iterator[Database]:
    database = production(server, CONTENT)
    yield database
    remove(database)


def back_up(database: Database, backup_dir: Path, **over: Any) -> Path:
    """Take a backup; its directory."""
    return Path(attempt(pg_backup, database, **backup_params(database, backup_dir, **over))["backup"]["path"])


def verify(database: Database, backup_dir: Path, scratch: Path, **over: Any) -> Result:
    """Verify the newest backup; nothing may be left of it."""
    options = {"verify_in": "database", **over}
    result = attempt(pg_restore_verify, database, **params(database, backup_dir, scratch, **options))
    assert leftovers(scratch) == []
    return result


def stage(database: Database, backup_dir: Path, entry: Path, **over: Any) -> Result:
    """Stage this backup."""
    return attempt(pg_restore, database, **restore_params(database, backup_dir, backup=entry.name, **over))


def refused(database: Database, backup_dir: Path, entry: Path, **over: Any) -> ProofFailed:
    """How the staging of this backup is refused."""
    with pytest.raises(ProofFailed) as caught:
        stage(database, backup_dir, entry, **over)
    return caught.value


def add_object(document: dict[str, Any]) -> None:
    """The source has a view that the dump does not bring."""
    document["fingerprint"]["objects"]["view public.more"] = "0" * 32


# --- incomplete -------------------------------------------------------------------------------------------


def test_a_backup_that_lacks_a_definition_is_incomplete_and_restored_only_if_that_is_accepted(
    prod: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = back_up(prod, backup_dir)
    forge(entry, add_object)
    # Before a verification has found it: after the load.
    error = refused(prod, backup_dir, entry)
    assert "view public.more" in error.why
    assert "restore_accept: [definitions]" in error.remedy
    assert error.details["difference_count"] == 1
    result = verify(prod, backup_dir, scratch)
    assert (result["verdict"], verdicts(entry)) == ("incomplete", ["incomplete"])
    assert (
        "All rows and sequences are there (300 rows in 1 table, 1 sequence), but 1 definition differs" in result["why"]
    )
    assert "view public.more is missing" in result["why"]
    [finding] = result["findings"]
    assert finding["severity"] == "warning"
    assert "restore_accept: [definitions]" in finding["remedy"]
    assert "take a new one" not in finding["remedy"]
    # Now it is known before the load.
    error = refused(prod, backup_dir, entry)
    assert (error.what, error.details["lost"]) == ("This backup is incomplete", ["object view public.more is missing"])
    checked = attempt(
        pg_restore,
        prod,
        check=True,
        **restore_params(prod, backup_dir, backup=entry.name, accept=["definitions"]),
    )
    assert [each["check"] for each in checked["findings"]] == ["restore_incomplete"]
    assert "view public.more" in checked["findings"][0]["message"]
    staged = stage(prod, backup_dir, entry, accept=["definitions"])
    assert (staged["stage"]["verdict"], staged["stage"]["lost"]) == (
        "incomplete",
        ["object view public.more is missing"],
    )
    assert [each["check"] for each in staged["findings"]] == ["restore_incomplete"]
    # Who does not accept it does not get it as a stage that is there already, either.
    assert refused(prod, backup_dir, entry).what == "This backup is incomplete"
    assert not stage(prod, backup_dir, entry, accept=["definitions"])["changed"]
    attempt(pg_database_swap, prod, **{**prod.login(), "grace": "0"})
    assert mark_of(prod)["lost"] == ["object view public.more is missing"]
    assert mark_of(prod)["verdict"] == "incomplete"
    assert prod.query("SELECT count(*) FROM users") == [(300,)]


def mark_of(database: Database) -> dict[str, Any]:
    """The mark of the database that has this name now."""
    [(settings,)] = database.query(
        "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
        f" WHERE d.datname = '{database.name}' AND s.setrole = 0"
    )
    [text] = [each.partition("=")[2] for each in settings if each.startswith("pg_runbook.mark=")]
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda document: tables_of(document)["public.users"].update(rows=301),
        lambda document: tables_of(document)["public.users"].update(digest="7"),
        lambda document: document["fingerprint"]["sequences"]["public.users_id_seq"].update(first=7, last=7),
    ],
    ids=["rows", "content", "sequence"],
)
def test_rows_and_sequences_that_differ_fail_a_backup_whatever_is_accepted(
    prod: Database, backup_dir: Path, scratch: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    entry = back_up(prod, backup_dir)
    forge(entry, add_object)
    forge(entry, change)
    error = refused(prod, backup_dir, entry, accept=["definitions"], accept_unproven=True)
    assert error.what == "The staged copy is not verified"
    result = verify(prod, backup_dir, scratch)
    assert result["verdict"] == "failed", result["why"]
    assert "take a new one" in result["findings"][0]["remedy"]
    error = refused(prod, backup_dir, entry, accept=["definitions"], accept_unproven=True)
    assert error.what == "This backup failed its verification"


# --- refused statements -----------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_a_statement_that_is_refused_without_harm_is_noted_and_decides_nothing(
    prod: Database, backup_dir: Path, scratch: Path, format_: str
) -> None:
    gone = unique_name("gone")
    prod.execute(f"CREATE ROLE {gone}; GRANT SELECT ON users TO {gone}; GRANT SELECT ON names TO PUBLIC")
    entry = back_up(prod, backup_dir, format=format_)

    def without_role(document: dict[str, Any]) -> None:
        after = document["fingerprint"]["objects"]
        before = fingerprint["objects"]
        document["fingerprint"]["objects"] = {name: before.get(name, text) for name, text in after.items()}
        document["source"]["roles"].remove(gone)

    prod.execute(f"DROP OWNED BY {gone}; DROP ROLE {gone}; GRANT SELECT ON names TO PUBLIC")
    fingerprint = json.loads((back_up(prod, backup_dir) / "manifest.json").read_text())["fingerprint"]
    forge(entry, without_role)
    result = verify(prod, backup_dir, scratch, backup=entry.name)
    assert (result["verdict"], result["differences"]) == ("verified", []), result["why"]
    [note] = result["notes"]
    assert f"GRANT SELECT ON TABLE public.users TO {gone};" in note
    assert "1 statement was refused" in note
    staged = stage(prod, backup_dir, entry)
    assert staged["stage"]["verdict"] == "verified"
    assert any(gone in each for each in staged["preflight"]["notes"])


# Its rows are loaded before what they need.
IN_NO_ORDER = (
    "CREATE TABLE z (a int); INSERT INTO z VALUES (1)",
    "CREATE FUNCTION z_is_filled() RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT count(*) = 1 FROM public.z'",
    "CREATE TABLE t (a int CHECK (public.z_is_filled())); INSERT INTO t VALUES (1)",
)


def test_a_dump_that_no_server_restores_fails_with_the_statement(
    prod: Database, backup_dir: Path, scratch: Path
) -> None:
    prod.execute(*IN_NO_ORDER)
    back_up(prod, backup_dir, format="custom")
    result = verify(prod, backup_dir, scratch, jobs=1)
    assert result["verdict"] == "failed", result["why"]
    assert "violates check constraint" in result["why"]
    assert "correct it in the source first" in result["findings"][0]["remedy"]


def test_without_a_fingerprint_a_refused_statement_decides(prod: Database, backup_dir: Path, scratch: Path) -> None:
    prod.execute(*IN_NO_ORDER)
    entry = back_up(prod, backup_dir, fingerprint="none")
    result = verify(prod, backup_dir, scratch, jobs=1)
    assert (result["verdict"], "does not restore completely" in result["why"]) == ("failed", True), result["why"]
    (entry / "verifications").rename(backup_dir / "aside")
    error = refused(prod, backup_dir, entry, accept_unproven=True, accept=["definitions"], jobs=1)
    assert error.what == "The backup does not restore completely"
    assert "violates check constraint" in error.why


def test_a_table_that_was_not_read_is_named_and_all_else_is_compared(
    prod: Database, backup_dir: Path, scratch: Path
) -> None:
    entry = back_up(prod, backup_dir)
    forge(entry, lambda document: document["fingerprint"].update(unread_tables={"public.users": "no such function"}))
    result = verify(prod, backup_dir, scratch)
    assert result["verdict"] == "inconclusive"
    assert "was not compared: public.users (no such function)" in result["why"]
    assert stage(prod, backup_dir, entry, accept_unproven=True)["stage"]["verdict"] == "inconclusive"
    forge(entry, add_object)
    result = verify(prod, backup_dir, scratch)
    assert (result["verdict"], result["difference_count"]) == ("inconclusive", 1)
    assert "public.users (no such function)" in result["why"]


def test_a_view_on_a_catalog_that_a_newer_major_has_changed_is_the_places_fault(
    prod: Database, backup_dir: Path, scratch: Path
) -> None:
    newer = client_for(17)
    if prod.server.major >= 17:
        pytest.skip("the view is one of 16 or older")
    prod.execute("CREATE VIEW checkpoints AS SELECT checkpoints_timed FROM pg_stat_bgwriter")
    back_up(prod, backup_dir)
    result = verify(prod, backup_dir, scratch, verify_in="instance", bin_dir=str(newer.bin_dir))
    assert result["verdict"] == "inconclusive", result["why"]
    assert "CREATE VIEW public.checkpoints" in result["why"]
    assert f"use programs of version {prod.server.major} (bin_dir)" in result["why"]
    assert verify(prod, backup_dir, scratch)["verdict"] == "verified"
