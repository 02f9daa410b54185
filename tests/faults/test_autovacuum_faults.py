"""pg_vacuum, pg_reindex and pg_analyze beside an autovacuum of the same table, which they must not cancel."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from ansible_collections.godel.postgres_runbook.plugins.modules import pg_analyze, pg_reindex, pg_vacuum
from tests.support import operations
from tests.support.databases import Database, new_database
from tests.support.modules import Result
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.vacuums import counted

TIMEOUT_S = 60.0
NOW = "autovacuum is processing it"
# At this pace the worker takes minutes for the table.
SLOWLY = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1"
WORKER = "SELECT pid FROM pg_stat_progress_vacuum WHERE relid = 'busy'::regclass"


@pytest.fixture(name="busy")
def _busy(new_server: Callable[..., Server]) -> Database:
    """A server at the autovacuum of the table ``busy``, which needs everything; and so does ``free``."""
    database = new_database(new_server(settings={"autovacuum_naptime": "1s", "autovacuum_max_workers": 1}))
    database.execute("CREATE ROLE owner LOGIN PASSWORD 'x'")
    for name in ("busy", "free"):
        database.execute(
            f"CREATE TABLE {name} (id int, v text) WITH (autovacuum_enabled = off)",
            f"INSERT INTO {name} SELECT n, 'x' FROM generate_series(1, 20000) n",
            f"ALTER TABLE {name} OWNER TO owner",
            f"CREATE INDEX {name}_id ON {name} (id)",
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}_id'::regclass",
            f"DELETE FROM {name} WHERE id % 2 = 0",
        )
        counted(database, name, 10000, 10000)
    database.execute(f"ALTER TABLE busy SET (autovacuum_enabled = on, {SLOWLY})")
    assert until(lambda: len(database.query(WORKER)) == 1, TIMEOUT_S)
    return database


def states(module: ModuleType, result: Result) -> dict[str, tuple[str, str]]:
    """What came of each table or index, and why."""
    rows = result["indexes"] if module is pg_reindex else result["tables"]
    return {row["name"].removesuffix("_id"): (row["state"], row["why"]) for row in rows}


def test_a_table_that_autovacuum_works_on_is_left_to_it(busy: Database) -> None:
    [[worker]] = busy.query(WORKER)
    mine = {"login_user": "owner", "login_password": "x"}  # a role that does not see the activity of others
    for module, over in ((pg_vacuum, {"analyze": False}), (pg_reindex, {}), (pg_analyze, {})):
        for login in ({}, mine):
            checked = states(module, operations.attempt(module, busy, True, **login, **over))
            assert checked["busy"] == ("skipped", NOW)
            assert checked["free"][0] == "due"
        result = operations.attempt(module, busy, **mine, **over)
        assert result["failure"] is None
        found = states(module, result)
        assert found["free"][0] == "done"
        assert found["busy"] == ("skipped", NOW)
        named = {} if module is pg_reindex else {"tables": ["busy"]}
        assert operations.attempt(module, busy, **named)["failure"] is None
    assert busy.query(WORKER) == [(worker,)]
    assert "canceling autovacuum task" not in busy.server.log()
