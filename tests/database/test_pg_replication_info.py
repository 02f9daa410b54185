"""pg_replication_info on real servers: replicas that follow, lag, pause, hang and go, slots, and subscriptions."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest
from psycopg2.extras import PhysicalReplicationConnection, ReplicationCursor

from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.processes import until
from tests.support.programs import Installation, installations
from tests.support.replicas import replica_of
from tests.support.servers import PASSWORD, Server, default_installation
from tests.support.workspace import give

MODULE = "pg_replication_info"
WAIT_S = 30
SOME_WAL = "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 2000)"


def look(server: Server, **options: Any) -> dict[str, Any]:
    """What the module says of a server."""
    return expect_success(MODULE, {**server.login(), **options})


def findings(result: dict[str, Any], check: str) -> list[dict[str, Any]]:
    """The findings of a check."""
    return [each for each in result["findings"] if each["check"] == check]


def lsn_of(text: str) -> int:
    """A position as a number, as the protocol has it."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def answer(cursor: ReplicationCursor, **positions: int) -> None:
    """Send a status message of the replication protocol, and read what the server has sent meanwhile."""
    while cursor.read_message():
        pass
    cursor.send_feedback(reply=True, force=True, **positions)


@contextlib.contextmanager
def role(server: Server, *grants: str) -> Iterator[dict[str, str]]:
    """The login of a role with just these."""
    name = unique_name("looker")
    server.psql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    for grant in grants:
        server.psql(f"GRANT {grant} TO {name}")
    yield {"login_user": name}
    server.psql(f"DROP ROLE {name}")


# --- the primary, on every major


def test_a_primary_shows_lag_by_stage_and_slots(any_server: Server, any_database: Database) -> None:
    slot = unique_name("slot")
    any_database.execute("CREATE TABLE noise (t text)")
    any_server.query("SELECT pg_create_physical_replication_slot(%s, true)", slot)
    started = lsn_of(any_server.query("SELECT pg_current_wal_lsn()")[0][0])
    try:
        receiver = psycopg2.connect(
            any_server.dsn(application_name="<b>one"), connection_factory=PhysicalReplicationConnection
        )
        with contextlib.closing(receiver), receiver.cursor() as cursor:
            cursor.start_replication(slot_name=slot, start_lsn=started)
            any_database.execute(SOME_WAL)
            here = lsn_of(any_server.query("SELECT pg_current_wal_flush_lsn()")[0][0])
            state = "SELECT state, replay_lsn FROM pg_stat_replication WHERE application_name = '<b>one'"

            def has_answered() -> bool:
                answer(cursor, write_lsn=here, flush_lsn=here, apply_lsn=started)
                return bool(any_server.query(state) and any_server.query(state)[0][0] == "streaming")

            assert until(has_answered, WAIT_S)
            result = look(any_server, lag_bytes_warning="1MB", lag_bytes_critical="1GB", expected_replicas=2)
            with role(any_server) as nobody, role(any_server, "pg_monitor") as monitor:
                hidden, seen = look(any_server, **nobody, expected_replicas=1), look(any_server, **monitor)
    finally:
        assert until(lambda: any_server.query("SELECT 1 FROM pg_stat_replication") == [], WAIT_S)
        idle = look(any_server, inactive_warning="1h"), look(any_server, inactive_warning="0")
        any_server.query("SELECT pg_drop_replication_slot(%s)", slot)

    assert (result["role"], result["changed"], result["severity"]) == ("primary", False, "critical")
    [replica] = result["replicas"]
    assert (replica["application"], replica["client"], replica["kind"]) == ("<b>one", "127.0.0.1", "replica")
    assert (replica["state"], replica["sync_state"], replica["slot"]) == ("streaming", "async", slot)
    assert replica["replayed_lag_bytes"] > 2_000_000 > 1_000_000 > replica["flushed_lag_bytes"]
    assert replica["sent_lag_bytes"] <= replica["written_lag_bytes"] <= replica["flushed_lag_bytes"]
    [lag] = findings(result, "replication_lag_bytes")
    assert (lag["severity"], lag["subject"], lag["threshold"]) == ("warning", "<b>one", 1024**2)
    assert lag["value"] == replica["replayed_lag_bytes"]
    assert "waits for replay" in lag["remedy"]
    [missing] = findings(result, "replication_replicas")
    assert (missing["severity"], missing["value"], missing["threshold"]) == ("critical", 1, 2)
    [shown] = [each for each in result["slots"] if each["name"] == slot]
    assert (shown["type"], shown["active"], shown["wal_status"]) == ("physical", True, "reserved")
    assert (shown["plugin"], shown["two_phase"], shown["safe_wal_size_bytes"]) == (None, False, None)

    assert (seen["replicas"][0]["state"], hidden["replicas"][0]["state"]) == ("streaming", None)
    assert (hidden["replicas"][0]["application"], hidden["severity"]) == ("<b>one", "ok")
    assert hidden["replicas"][0]["replayed_lag_bytes"] is None
    assert any("hidden from this login" in note for note in hidden["notes"])
    assert not any("hidden from this login" in note for note in seen["notes"])

    knows_since = any_server.major >= 17
    for answer_, severity in zip(idle, ("info" if knows_since else "warning", "warning"), strict=True):
        [finding] = findings(answer_, "replication_slot_inactive")
        assert (finding["subject"], finding["severity"]) == (slot, severity)
        assert finding["remedy"].endswith(f"godel.postgres_runbook.disk_space with -e disk_space_drop_slot={slot}.")
        [shown] = [each for each in answer_["slots"] if each["name"] == slot]
        assert shown["held_bytes"] > 0
        assert (shown["inactive_since"] is not None) is knows_since


# --- a standby


def majors() -> list[Installation]:
    """The oldest and the newest, for what is the same statement on all."""
    found = installations()
    return [found[0], found[-1]]


@pytest.mark.parametrize("installation", majors(), ids=lambda each: f"pg{each.major}")
def test_a_standby_is_followed_through_its_life(installation: Installation) -> None:
    # A standby of the standby needs a backup of it. What autovacuum removes would end queries on it.
    settings = {"full_page_writes": "on", "autovacuum": "off"}
    with Server(installation, settings=settings) as primary:
        primary.psql("CREATE TABLE noise (t text)")
        with replica_of(primary, max_standby_streaming_delay=0, wal_retrieve_retry_interval="100ms") as replica:
            caught_up(primary, replica)
            streams(primary, replica)
            passes_on(replica)
            delayed(primary, replica)
            paused(primary, replica)
            in_conflict(primary, replica)
            hangs(replica)
            primary.stop("immediate")
            receives_nothing(replica)


def caught_up(primary: Server, replica: Server) -> None:
    """Wait until the replica has it all, and some of what it has is a transaction."""
    primary.psql("INSERT INTO noise VALUES ('x')")
    here = primary.query("SELECT pg_current_wal_lsn()")[0][0]
    assert until(lambda: replica.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", here) == [(True,)], WAIT_S)


def streams(primary: Server, replica: Server) -> None:
    result = look(replica)
    assert (result["role"], result["severity"], result["findings"]) == ("standby", "ok", [])
    assert (result["receiver"]["status"], result["receiver"]["sender_port"]) == ("streaming", primary.port)
    assert result["receiver"]["last_message_age_s"] < 10
    assert (result["replay"]["lag_bytes"], result["replay"]["lag_s"], result["replay"]["state"]) == (0, 0, "not paused")
    assert result["replay"]["last_transaction_at"]
    assert any("the lag is 0 s" in note for note in result["notes"])
    assert any("A standby cannot see WAL" in note for note in result["notes"])
    assert PASSWORD not in json.dumps(result)
    assert set(result["conflicts"].values()) == {0}
    assert look(primary, expected_replicas=1)["severity"] == "ok"
    with role(primary) as nobody:
        caught_up(primary, replica)
        hidden = look(replica, **nobody)
    assert (hidden["receiver"]["running"], hidden["receiver"]["status"], hidden["severity"]) == (True, None, "ok")
    assert any("hidden from this login" in note for note in hidden["notes"])


def passes_on(replica: Server) -> None:
    replica.query("SELECT pg_create_physical_replication_slot('for_later', true)")
    with replica_of(replica, "third"):
        result = look(replica, expected_replicas=1, inactive_warning="0")
    replica.query("SELECT pg_drop_replication_slot('for_later')")
    assert (result["role"], result["replica_count"]) == ("standby", 1)
    assert (result["replicas"][0]["application"], result["replicas"][0]["replayed_lag_bytes"]) == ("third", 0)
    assert [(each["check"], each["severity"]) for each in result["findings"]] == [("replication_slot_inactive", "info")]


def delayed(primary: Server, replica: Server) -> None:
    replica.psql("ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
    replica.psql("SELECT pg_reload_conf()")
    primary.psql(SOME_WAL)
    primary.psql(SOME_WAL)  # for it is the first one's COMMIT that waits

    def has_received() -> bool:
        return bool(replica.query("SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 1000000")[0][0])

    assert until(has_received, WAIT_S)
    result = look(replica, lag_bytes_warning="1MB", lag_bytes_critical="1MB", lag_warning="0", lag_critical="0")
    assert (result["severity"], result["replay"]["delay_s"]) == ("ok", 3600)
    assert result["replay"]["lag_bytes"] > 1_000_000
    assert any("delayed by 1 h on purpose" in note for note in result["notes"])
    [lag] = findings(look(primary, lag_bytes_warning="1MB", lag_bytes_critical="1MB"), "replication_lag_bytes")
    assert (lag["severity"], lag["subject"]) == ("critical", "standby1")
    assert "paused, delayed or in conflict" in lag["remedy"]
    replica.psql("ALTER SYSTEM RESET recovery_min_apply_delay")
    replica.psql("SELECT pg_reload_conf()")
    caught_up(primary, replica)


def paused(primary: Server, replica: Server) -> None:
    replica.psql("SELECT pg_wal_replay_pause()")
    primary.psql(SOME_WAL)

    def is_behind() -> bool:
        found = replica.query("SELECT pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 1000000")[0][0]
        return bool(found) and replica.query("SELECT pg_get_wal_replay_pause_state()") == [("paused",)]

    assert until(is_behind, WAIT_S)
    result = look(replica, lag_bytes_warning="1MB", lag_warning="0", lag_critical="0")
    assert result["severity"] == "critical"
    assert result["replay"]["lag_s"] > 0
    [pause] = findings(result, "replication_paused")
    assert (pause["severity"], pause["value"]) == ("warning", "paused")
    assert "pg_wal_replay_resume()" in pause["remedy"]
    assert pause["message"].startswith("Replay is paused; this replica has not replayed ")
    [lag] = findings(result, "replication_lag_time")
    assert (lag["severity"], lag["threshold"]) == ("critical", 0)
    [alone] = findings(
        look(replica, lag_bytes_warning="1GB", lag_warning="0", lag_critical="0"), "replication_lag_time"
    )
    assert alone["severity"] == "warning", "an upper bound alone is not critical"
    replica.psql("SELECT pg_wal_replay_resume()")
    caught_up(primary, replica)


def in_conflict(primary: Server, replica: Server) -> None:
    with contextlib.closing(replica.connect(autocommit=False)) as reader, reader.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM noise")
        primary.psql("DELETE FROM noise")
        primary.psql("VACUUM noise")
        caught_up(primary, replica)
        counted = "SELECT sum(confl_snapshot + confl_lock) > 0 FROM pg_stat_database_conflicts"
        with contextlib.suppress(psycopg2.Error):
            cursor.execute("SELECT count(*) FROM noise")
    assert until(lambda: replica.query(counted) == [(True,)], WAIT_S)
    result = look(replica)
    [conflict] = findings(result, "replication_conflicts")
    assert (conflict["severity"], conflict["value"]) == ("info", sum(result["conflicts"].values()))
    assert "ALTER SYSTEM SET hot_standby_feedback = on;" in conflict["remedy"]


def hangs(replica: Server) -> None:
    receiver = replica.query("SELECT pid FROM pg_stat_wal_receiver")[0][0]
    os.kill(receiver, signal.SIGSTOP)  # and so it does not hear of the timeout
    replica.psql("ALTER SYSTEM SET wal_receiver_timeout = '1s'")
    replica.psql("SELECT pg_reload_conf()")
    try:
        silent = "SELECT clock_timestamp() - last_msg_receipt_time > '1100ms' FROM pg_stat_wal_receiver"
        assert until(lambda: replica.query(silent) == [(True,)], WAIT_S)
        [finding] = findings(look(replica), "replication_receiver")
    finally:
        os.kill(receiver, signal.SIGCONT)
    assert (finding["severity"], finding["threshold"]) == ("critical", 1)
    assert "but its status is streaming" in finding["message"]
    assert f"pg_terminate_backend({receiver})" in finding["remedy"]


def receives_nothing(replica: Server) -> None:
    assert until(lambda: replica.query("SELECT pid FROM pg_stat_wal_receiver") == [], WAIT_S)
    result = look(replica)
    assert result["severity"] == "critical"
    [finding] = findings(result, "replication_receiver")
    assert "The WAL receiver does not run" in finding["message"]
    assert "primary_conninfo" in finding["remedy"]
    assert (result["receiver"]["running"], result["replay"]["lag_bytes"]) == (False, 0)
    assert result["replay"]["lag_s"] > 0, "the standby cannot know what the primary has written since"
    assert "not running" in result["msg"]


def test_a_standby_that_lives_on_an_archive_is_judged_by_the_age_of_what_it_has(
    new_server: Callable[..., Server],
) -> None:
    primary = new_server(settings={"archive_mode": "on", "archive_command": "cp %p ../archive/%f"})
    archive = primary.folder / "archive"
    archive.mkdir()
    give(archive)
    primary.psql(f"CREATE TABLE t (id int); CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}'")
    with replica_of(primary, wal_retrieve_retry_interval="100ms", restore_command=f"cp {archive}/%f %p") as replica:
        replica.psql("ALTER SYSTEM SET primary_conninfo = ''")
        replica.psql("SELECT pg_reload_conf()")
        assert until(lambda: replica.query("SELECT pid FROM pg_stat_wal_receiver") == [], WAIT_S)
        primary.psql("INSERT INTO t VALUES (1)")
        primary.psql("SELECT pg_switch_wal()")
        assert until(lambda: replica.query("SELECT id FROM t") == [(1,)], WAIT_S)
        well = look(replica)
        assert (well["severity"], well["replay"]["from_archive"], "archive" in well["msg"]) == ("ok", True, True)
        hidden = look(replica, login_user="plain")
        assert [(each["check"], each["severity"]) for each in hidden["findings"]] == [
            ("replication_receiver", "warning")
        ]
        assert "pg_monitor" in hidden["findings"][0]["remedy"]

        age = "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > '1s'"
        assert until(lambda: replica.query(age) == [(True,)], WAIT_S)
        [finding] = look(replica, archive_lag_warning="1s")["findings"]
        assert (finding["check"], finding["severity"], finding["threshold"]) == ("replication_lag_time", "warning", 1)
        assert "restore_command" in finding["remedy"]


# --- what waits, what is lost, and what goes away


def test_a_commit_that_waits_for_nobody_is_critical(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"synchronous_standby_names": "FIRST 2 (a, b)"})
    connection = server.connect()
    with contextlib.closing(connection):

        def commit() -> None:
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE t ()")

        thread = threading.Thread(target=commit)
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        assert until(lambda: server.query(waiting) == [(1,)], WAIT_S)
        result = look(server)
        connection.cancel()
        thread.join()
    [finding] = findings(result, "replication_synchronous")
    assert (finding["severity"], finding["value"], finding["threshold"]) == ("critical", 0, 2)
    assert "Now waiting: 1 session." in finding["message"]
    assert (result["synchronous"]["required"], result["synchronous"]["waiting"]) == (2, 1)
    server.psql("ALTER SYSTEM SET synchronous_commit = 'local'")
    server.psql("SELECT pg_reload_conf()")
    [finding] = findings(look(server), "replication_synchronous")
    assert finding["severity"] == "warning"
    with role(server) as nobody:
        hidden = look(server, **nobody)
    assert (hidden["synchronous"]["present"], hidden["synchronous"]["waiting"], hidden["severity"]) == (
        None,
        None,
        "ok",
    )


@pytest.mark.parametrize("installation", majors(), ids=lambda each: f"pg{each.major}")
def test_a_slot_that_lost_its_wal_is_critical(new_server: Callable[..., Server], installation: Installation) -> None:
    server = new_server(
        installation, settings={"max_slot_wal_keep_size": "16MB", "max_replication_slots": 2, "log_statement": "all"}
    )
    server.psql("SELECT pg_create_physical_replication_slot('late', true)")
    server.psql("SELECT pg_create_physical_replication_slot('never')")
    before = server.log().count("LOG:  statement: ")
    result = look(server)
    assert server.log().count("LOG:  statement: ") - before == 4
    [full] = findings(result, "replication_capacity")
    assert (full["subject"], full["value"], full["threshold"]) == ("max_replication_slots", 2, 2)
    [unused] = [each for each in findings(result, "replication_slot_inactive") if each["subject"] == "never"]
    assert (unused["severity"], unused["value"]) == ("info", None)
    for dummy in range(4):
        server.psql("SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal()")
    server.psql("CHECKPOINT")
    result = look(server)
    [lost] = findings(result, "replication_slot_lost")
    assert (lost["severity"], lost["subject"], lost["value"]) == ("critical", "late", "lost")
    assert "-e disk_space_drop_slot=late, then " in lost["remedy"]
    assert "pg_basebackup" in lost["remedy"]
    assert ("(wal_removed)" in lost["message"]) is (server.major >= 17)


def test_what_cannot_be_read_is_told_and_a_server_that_goes_is_a_finding(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with contextlib.closing(server.connect(autocommit=False)) as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE pg_subscription IN ACCESS EXCLUSIVE MODE")
        result = look(server, statement_timeout="300ms", expected_replicas=0)
        [unread] = findings(result, "replication_unreadable")
        assert (unread["severity"], unread["subject"]) == ("warning", "subscriptions and publications")
        assert result["role"] == "primary"
        running = start_module(MODULE, server.login())
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert until(lambda: server.query(blocked) == [(1,)], WAIT_S)
        server.kill()
    gone = running.finish()
    assert not gone["failed"], gone
    assert (gone["role"], gone["severity"]) == ("primary", "critical")
    [finding] = findings(gone, "replication_server")
    assert "connection was lost while the server was read" in finding["message"]
    unreachable = expect_failure(MODULE, server.login())
    assert "Cannot connect to PostgreSQL" in unreachable["msg"]


# --- subscriptions


@pytest.fixture
def publisher(new_server: Callable[..., Server]) -> Server:
    """A server that may publish to itself."""
    return new_server(default_installation(), settings={"wal_level": "logical", "wal_retrieve_retry_interval": "100ms"})


def test_subscriptions_are_judged(publisher: Server) -> None:
    source, target = new_database(publisher), new_database(publisher)
    for each in (source, target):
        each.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("INSERT INTO t VALUES (1)", "CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert, update')")
    source.query("SELECT pg_create_logical_replication_slot('sub', 'pgoutput')")
    target.execute(
        f"""CREATE SUBSCRIPTION "<b>""x" CONNECTION '{source.dsn}' PUBLICATION p WITH (create_slot = false, slot_name = sub)"""
    )
    assert until(lambda: target.query("SELECT id FROM t") == [(1,)], WAIT_S)
    ready = "SELECT srsubstate FROM pg_subscription_rel"
    assert until(lambda: target.query(ready) == [("r",)], WAIT_S)

    result = look(publisher, db=target.name)
    [subscription] = result["subscriptions"]
    assert (subscription["name"], subscription["database"], subscription["enabled"]) == ('<b>"x', target.name, True)
    assert subscription["pid"]
    assert (subscription["publications"], subscription["slot"]) == (["p"], "sub")
    assert (subscription["tables"], subscription["tables_not_ready"]) == (1, 0)
    assert PASSWORD not in json.dumps(result)
    assert (result["severity"], result["publications"]) == ("ok", [])
    [sender] = result["replicas"]
    assert (sender["kind"], sender["slot"], result["replica_count"]) == ("logical", "sub", 0)
    assert result["slots"][0]["plugin"] == "pgoutput"
    [publication] = look(publisher, db=source.name)["publications"]
    assert (publication["name"], publication["tables"], publication["operations"]) == ("p", 1, ["insert", "update"])
    with role(publisher) as nobody:
        assert look(publisher, db=target.name, **nobody)["subscriptions"][0]["name"] == '<b>"x'

    target.execute("INSERT INTO t VALUES (2)")
    source.execute("INSERT INTO t VALUES (2)")  # which cannot be applied, again and again
    no_worker = "SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL"

    def is_told() -> bool:
        found = findings(look(publisher, db=target.name), "replication_subscription")
        return bool(found) and found[0]["value"] == "no worker"

    publisher.psql("ALTER SYSTEM SET wal_retrieve_retry_interval = '1min'")
    publisher.psql("SELECT pg_reload_conf()")
    assert until(lambda: target.query(no_worker) == [(0,)], WAIT_S)
    assert until(is_told, WAIT_S)
    broken = look(publisher, db=target.name)
    [finding] = findings(broken, "replication_subscription")
    assert (finding["severity"], broken["subscriptions"][0]["apply_errors"] >= 1) == ("critical", True)
    target.execute('ALTER SUBSCRIPTION "<b>""x" DISABLE')
    [finding] = findings(look(publisher, db=target.name), "replication_subscription")
    assert (finding["severity"], finding["value"]) == ("warning", "disabled")
    assert 'ALTER SUBSCRIPTION "<b>""x" ENABLE;' in finding["remedy"]


# --- options


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"lag_warning": "soon"}, "Invalid lag_warning"),
        ({"lag_bytes_critical": "much"}, "Invalid lag_bytes_critical"),
        ({"expected_replicas": -1}, "Invalid expected_replicas"),
    ],
)
def test_bad_options_are_named(server: Server, options: dict[str, Any], told: str) -> None:
    assert told in expect_failure(MODULE, {**server.login(), **options})["msg"]
