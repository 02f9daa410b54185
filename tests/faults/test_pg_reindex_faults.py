"""pg_reindex under bad luck: what a dead server leaves is dropped by the next run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from tests.support.databases import new_database
from tests.support.modules import expect_success, start_module
from tests.support.processes import until
from tests.support.servers import Server


def test_what_a_restart_of_the_server_leaves_is_dropped_by_the_next_run(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"autovacuum": "off"})
    database = new_database(server)
    database.execute("CREATE TABLE t AS SELECT n AS id FROM generate_series(1, 100) n", "CREATE INDEX t_id ON t (id)")
    database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_id'::regclass")
    with contextlib.closing(database.connect(autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE t IN ROW EXCLUSIVE MODE")
        module = start_module("pg_reindex", {**database.login(), "lock_timeout": "60s"})
        assert until(lambda: database.query("SELECT count(*) FROM pg_class WHERE relname = 't_id_ccnew'") == [(1,)], 60)
        server.restart("immediate")
    result = module.finish()
    assert result["failed"]
    assert "connection to the server was lost" in result["msg"]
    done = expect_success("pg_reindex", database.login())
    assert [(each["name"], each["state"]) for each in done["leftovers"]] == [("t_id_ccnew", "dropped")]
    assert [(each["name"], each["state"]) for each in done["indexes"]] == [("t_id", "rebuilt")]
    assert expect_success("pg_reindex", database.login())["changed"] is False
