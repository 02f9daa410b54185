"""pg_vacuum with full: no table is locked for what another way gives back, or for what cannot be had."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.vacuum import xmin_horizon
from tests.support.databases import Database
from tests.support.modules import Result
from tests.support.processes import until
from tests.support.vacuums import ALWAYS, attempt, checks, counted, done, kill, skipped, snapshot, table, vacuum

FULL = {"full": True, "window": ALWAYS, "min_bloat_bytes": "100kB"}
TIMEOUT_S = 60.0


def file(database: Database) -> int:
    return int(database.query("SELECT pg_relation_filenode('t'::regclass)")[0][0])


def mostly_dead(database: Database) -> None:
    """A table, half of whose rows are dead."""
    database.execute("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    kill(database, "t", 20000, 10000)


def test_dead_rows_that_have_to_stay_are_no_reason_for_a_rewrite(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xmin_horizon, "_MOMENT_S", 0.2)
    table(database, rows=20000, dead=0)
    before = file(database)
    with snapshot(database) as pid:
        mostly_dead(database)
        for check in (True, False):
            result = vacuum(database, check, tables=["t"], **FULL)
            assert (result["changed"], checks(result)) == (False, [("vacuum_xmin_horizon", str(pid))])
            assert "cannot be removed yet" in skipped(result)["t"]
    assert file(database) == before
    result = vacuum(database, **FULL)
    assert (done(result), result["findings"]) == (["t"], [])
    assert result["freed_bytes"] > 1_000_000


def test_who_is_gone_after_a_moment_is_in_nobodys_way(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmin_horizon, "_MOMENT_S", TIMEOUT_S)
    table(database, rows=20000, dead=0)
    results: list[Result] = []
    run = threading.Thread(target=lambda: results.append(attempt(database, **FULL)))
    looking = (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        " AND query LIKE '%%a.xact_start AS began%%'"
    )
    with snapshot(database):
        mostly_dead(database)
        run.start()
        assert until(lambda: database.query(looking, database.name) == [(True,)], TIMEOUT_S)
    run.join(TIMEOUT_S)
    assert [done(result) for result in results] == [["t"]]


def test_a_rewrite_that_gave_nothing_back_for_somebodys_sake_is_not_called_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session began after the last look."""
    monkeypatch.setattr(xmin_horizon, "staying", lambda session: None)
    table(database, rows=20000, dead=0)
    with snapshot(database) as pid:
        mostly_dead(database)
        result = vacuum(database, **FULL)
    assert (result["changed"], checks(result)) == (False, [("vacuum_xmin_horizon", str(pid))])
    assert "it was rewritten, which freed 0 B" in skipped(result)["t"]


def test_what_reindex_gives_back_without_a_lock_is_no_reason_for_a_rewrite(database: Database) -> None:
    table(database, rows=60000, dead=0)
    before = file(database)
    database.execute("DELETE FROM t WHERE id > 6000")
    counted(database, "t", 54000, 6000)
    database.execute("VACUUM ANALYZE t")  # the table ends there now, and its index does not
    for over in ({}, {"tables": ["t"]}):
        for check in (True, False):
            result = vacuum(database, check, **FULL, **over)
            assert (result["changed"], result["tables"]) == (False, [])
            assert "public.t (" in str(result["notes"])
            assert "The playbook godel.postgres_runbook.reindex" in str(result["notes"])
    assert file(database) == before
