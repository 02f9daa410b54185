"""pg_wal_switch and pg_slot_drop on real servers: they act once, only where that is useful, and never on a slot in use."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.databases import unique_name
from tests.support.modules import expect_failure, expect_success
from tests.support.processes import until
from tests.support.replicas import replica_of
from tests.support.servers import Server

TIMEOUT_S = 30.0
FILE = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"


def test_it_switches_once_where_it_is_of_use(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"archive_mode": "on", "archive_command": "true"})
    server.query("CREATE TABLE t AS SELECT 1 AS a")
    [(file,)] = server.query(FILE)
    rehearsal = expect_success("pg_wal_switch", server.login(), check=True, diff=True)
    assert (rehearsal["changed"], rehearsal["ended_file"], server.query(FILE)) == (True, file, [(file,)])
    done = expect_success("pg_wal_switch", server.login(), diff=True)
    assert (done["changed"], done["ended_file"]) == (True, file)
    assert done["current_file"] > file
    assert done["diff"] == {"before": f"{file}\n", "after": f"{done['current_file']}\n"}
    server.query("CHECKPOINT")  # what an idle server writes does not count
    again = expect_success("pg_wal_switch", server.login())
    assert (again["changed"], again["ended_file"], again["current_file"]) == (False, None, done["current_file"])
    assert expect_success("pg_wal_switch", {**server.login(), "force": True})["changed"] is True
    said = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
    assert until(lambda: server.query(said, file) == [(True,)], TIMEOUT_S)


def test_without_an_archive_it_is_of_no_use(any_server: Server) -> None:
    [(file,)] = any_server.query(FILE)
    result = expect_success("pg_wal_switch", any_server.login())
    assert (result["changed"], result["ended_file"]) == (False, None)
    assert "archive_mode is off" in result["msg"]
    assert "frees no space" in result["msg"]
    assert any_server.query(FILE) == [(file,)]
    forced = expect_success("pg_wal_switch", {**any_server.login(), "force": True})
    assert (forced["changed"], forced["ended_file"] >= file) == (True, True)


def test_one_slot_is_dropped_by_its_name(any_server: Server) -> None:
    name = unique_name("slot")
    any_server.query("SELECT pg_create_physical_replication_slot(%s, true)", name)
    any_server.query("SELECT pg_create_physical_replication_slot(%s)", f"{name}_too")
    words = {**any_server.login(), "name": name}
    present = "SELECT slot_name::text FROM pg_replication_slots WHERE slot_name LIKE %s ORDER BY 1"
    rehearsal = expect_success("pg_slot_drop", words, check=True, diff=True)
    assert (rehearsal["changed"], rehearsal["diff"]["before"]) == (True, f"{name}\n")
    assert any_server.query(present, f"{name}%") == [(name,), (f"{name}_too",)]
    done = expect_success("pg_slot_drop", words)
    assert (done["changed"], done["slot"]["type"], done["held_bytes"] is None) == (True, "physical", False)
    assert "It held" in done["msg"]
    again = expect_success("pg_slot_drop", words)
    assert (again["changed"], again["slot"]) == (False, None)
    assert any_server.query(present, f"{name}%") == [(f"{name}_too",)]
    for pattern in (f"{name}%", ""):
        refused = expect_failure("pg_slot_drop", {**words, "name": pattern})
        assert "Invalid name" in refused["msg"]
    any_server.query("SELECT pg_drop_replication_slot(%s)", f"{name}_too")


def test_a_slot_in_use_is_refused_and_a_standby_does_not_switch(new_server: Callable[..., Server]) -> None:
    server, name = new_server(), "used"
    server.query("SELECT pg_create_physical_replication_slot(%s)", name)
    words = {**server.login(), "name": name}
    with replica_of(server, "walker", primary_slot_name=name) as replica:
        active = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
        assert until(lambda: server.query(active, name) == [(True,)], TIMEOUT_S)
        for check in (True, False):
            refused = expect_failure("pg_slot_drop", words, check=check)
            assert "Dropping a replication slot failed" in refused["msg"]
            assert "walker" in refused["msg"]
        assert "is a standby" in expect_failure("pg_wal_switch", replica.login())["msg"]
        replica.stop()
        assert until(lambda: server.query(active, name) == [(False,)], TIMEOUT_S)
        assert expect_success("pg_slot_drop", words)["changed"] is True


def test_without_the_right_it_says_so(server: Server) -> None:
    name = unique_name("plain")
    server.query(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    slot = unique_name("slot")
    server.query("SELECT pg_create_physical_replication_slot(%s)", slot)
    login = {**server.login(), "login_user": name, "login_password": "x"}
    try:
        assert "permission denied" in expect_failure("pg_wal_switch", {**login, "force": True})["msg"]
        assert "refused a statement" in expect_failure("pg_slot_drop", {**login, "name": slot})["msg"]
    finally:
        server.query("SELECT pg_drop_replication_slot(%s)", slot)
        server.query(f"DROP ROLE {name}")
