"""pg_disk_info on real servers: the disks, what holds the WAL, and files without a relation."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.disk import report as disk
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import Space
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local_files import LocalFiles
from tests.support.backups import our_server
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import Result, expect_failure, expect_success
from tests.support.processes import until
from tests.support.replicas import replica_of
from tests.support.servers import Server
from tests.support.workspace import give

MIB = 1024**2
TIMEOUT_S = 30.0


def info(where: Database | Server, **over: Any) -> Result:
    return expect_success("pg_disk_info", {**where.login(), **over})


def findings(result: Result, check: str) -> list[dict[str, Any]]:
    return [each for each in result["findings"] if each["check"] == check]


def holder(result: Result, kind: str, name: str | None = None) -> dict[str, Any]:
    found = [each for each in result["wal"]["holders"] if each["kind"] == kind and name in (None, each["name"])]
    assert len(found) == 1, result["wal"]["holders"]
    return dict(found[0])


@pytest.fixture(name="slot")
def _slot(any_server: Server) -> Iterator[str]:
    """A physical slot that holds WAL and has no consumer."""
    name = unique_name("slot")
    any_server.query("SELECT pg_create_physical_replication_slot(%s, true)", name)
    yield name
    any_server.query("SELECT pg_drop_replication_slot(%s)", name)


@pytest.fixture(name="space")
def _space(any_server: Server) -> Iterator[Path]:
    """The folder of a tablespace. While there is one, the server can have no replica on this host."""
    name = unique_name("space")
    yield any_server.create_tablespace(name)
    any_server.query(f"DROP TABLESPACE {name}")


def test_disks_and_wal_are_those_of_the_server(any_server: Server, slot: str, space: Path, backup_dir: Path) -> None:
    any_server.query("CREATE TABLE IF NOT EXISTS filler AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 8000)")
    any_server.query("SELECT pg_switch_wal()")
    any_server.query("DROP TABLE filler")
    result = info(any_server, backup_dir=str(backup_dir), held_warning="1MB")
    assert result["changed"] is False
    assert result["notes"] == []
    where = {(each["kind"], each["path"]) for system in result["file_systems"] for each in system["holds"]}
    assert {
        ("data", str(any_server.data_dir)),
        ("wal", f"{any_server.data_dir}/pg_wal"),
        ("tablespace", str(space)),
        ("backup", str(backup_dir)),
    } <= where
    for system in result["file_systems"]:
        assert 0 < system["free_bytes"] <= system["total_bytes"]
        assert system["used_ratio"] == pytest.approx(1 - system["free_bytes"] / system["total_bytes"], abs=0.0001)
    wal = result["wal"]
    assert wal["size_bytes"] >= wal["segment_size_bytes"] == 16 * MIB
    assert "frees no space" in wal["advice"]
    found = holder(result, "slot", slot)
    assert (found["active"], found["severity"], found["held_bytes"] > 2 * MIB) == (False, "warning", True)
    assert "has no consumer" in found["detail"]
    assert "max_slot_wal_keep_size is -1" in found["detail"]
    assert f"disk_space_drop_slot={slot}" in found["remedy"]
    assert slot in {each["subject"] for each in findings(result, "wal_slot")}
    assert {"checkpoint", "min_wal_size"} <= {each["kind"] for each in wal["holders"]}
    held = [each["held_bytes"] or 0 for each in wal["holders"]]
    assert held == sorted(held, reverse=True)
    assert result["temp"]["files"] == 0
    assert result["orphans"]["files"] == 0
    young = info(any_server, held_warning="10GB")
    assert [each["severity"] for each in findings(young, "wal_slot") if each["subject"] == slot] == ["info"]


def test_what_a_plain_user_may_not_see_is_said(any_database: Database) -> None:
    name = f"reader_{any_database.name}"
    any_database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    login = {"login_user": name, "login_password": "x"}
    try:
        plain = info(any_database, **login)
        assert (plain["wal"]["size_bytes"], plain["file_systems"], plain["orphans"]) == (None, [], None)
        assert "pg_monitor" in plain["notes"][0]
        assert plain["wal"]["holders"]
        any_database.execute(f"GRANT pg_monitor TO {name}")
        monitor = info(any_database, **login)
        assert monitor["wal"]["size_bytes"] > 0
        assert monitor["file_systems"]
        assert monitor["notes"] == [
            "Files without a relation cannot be searched for: only a superuser may list the server's files."
        ]
    finally:
        any_database.execute(f"DROP ROLE {name}")


def test_an_archiver_that_fails_holds_the_wal(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"archive_mode": "on", "archive_command": "false", "wal_keep_size": "48MB"})
    server.query("CREATE TABLE t AS SELECT 1")
    server.query("SELECT pg_switch_wal()")
    assert until(lambda: server.query("SELECT failed_count > 0 FROM pg_stat_archiver") == [(True,)], TIMEOUT_S)
    result = info(server)
    found = holder(result, "archiver")
    assert (found["severity"], found["held_bytes"], found["active"]) == ("warning", 16 * MIB, True)
    assert "The archiver fails: 00000001" in found["detail"]
    assert holder(result, "wal_keep_size")["held_bytes"] == min(48 * MIB, result["wal"]["size_bytes"])
    assert result["wal"]["ready_files"] == 1
    critical = info(server, held_warning="1MB")
    assert [each["severity"] for each in findings(critical, "wal_archiver")] == ["critical"]
    assert critical["severity"] == "critical"
    server.query("ALTER SYSTEM SET archive_command = ''")
    server.query("SELECT pg_reload_conf()")
    assert until(lambda: "neither archive_command" in holder(info(server), "archiver")["detail"], TIMEOUT_S)


def test_a_slot_that_is_lost(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    server.query("SELECT pg_create_physical_replication_slot('lost', true)")
    for dummy in range(4):
        server.query("CREATE TABLE t AS SELECT 1")
        server.query("DROP TABLE t")
        server.query("SELECT pg_switch_wal()")
    server.query("CHECKPOINT")
    found = holder(info(server), "slot", "lost")
    assert (found["held_bytes"], found["severity"]) == (0, "critical")
    assert "has lost WAL" in found["detail"]


def test_a_slot_with_a_consumer_and_a_standby(new_server: Callable[..., Server]) -> None:
    server = new_server()
    server.query("SELECT pg_create_physical_replication_slot('used', true)")
    with replica_of(server, "walker", primary_slot_name="used") as replica:
        assert until(lambda: holder(info(server), "slot", "used")["active"], TIMEOUT_S)
        used = holder(info(server), "slot", "used")
        assert used["severity"] == "ok"
        assert "walker" in used["detail"]
        standby = info(replica)
        assert standby["orphans"] is None
        assert "on a standby" in " ".join(standby["notes"])
        assert standby["wal"]["size_bytes"] > 0


def test_more_wal_than_the_settings_let_expect(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"max_wal_size": "32MB", "min_wal_size": "32MB"})
    server.query("SELECT pg_create_physical_replication_slot('keeps', true)")
    for dummy in range(9):
        server.query("CREATE TABLE t AS SELECT 1")
        server.query("DROP TABLE t")
        server.query("SELECT pg_switch_wal()")
    [found] = findings(info(server), "wal_size")
    assert found["severity"] == "warning"
    assert "'keeps' holds" in found["message"]
    assert "disk_space_drop_slot=keeps" in found["remedy"]


def test_files_that_no_relation_has(any_database: Database) -> None:
    any_database.execute("CREATE TABLE known AS SELECT 1 AS a")
    [(path,)] = any_database.query("SELECT pg_relation_filepath('known')")
    folder = (any_database.server.data_dir / path).parent
    old = time.time() - 7200
    for name, size, age in (
        ("987654321", 5000, old),
        ("987654321.1", 3000, old),
        ("987654321_fsm", 2000, old),
        ("987654322", 0, old),
        ("987654323", 1000, time.time()),
        ("t3_987654324", 1000, old),
        ("notes.txt", 1000, old),
    ):
        (folder / name).write_bytes(b"x" * size)
        give(folder / name)
        os.utime(folder / name, (age, age))
    result = info(any_database)
    orphans = result["orphans"]
    assert (orphans["files"], orphans["size_bytes"]) == (3, 10000)
    assert [each["path"].rsplit("/", 1)[1] for each in orphans["largest"]] == [
        "987654321",
        "987654321.1",
        "987654321_fsm",
    ]
    [found] = findings(result, "orphaned_files")
    assert (found["severity"], found["value"]) == ("info", 10000)
    assert "Do not remove them manually" in found["remedy"]
    assert info(any_database, orphan_age="3h")["orphans"]["files"] == 0
    assert info(any_database, orphans=False)["orphans"] is None
    assert (folder / "987654321").exists()


def test_a_file_of_an_open_transaction_is_not_orphaned(database: Database) -> None:
    with contextlib.closing(database.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("CREATE TABLE hidden AS SELECT 1 AS a")
        cursor.execute("SELECT pg_relation_filepath('hidden')")
        [(path,)] = cursor.fetchall()
        file = database.server.data_dir / path
        database.server.query("CHECKPOINT")
        assert info(database, orphan_age="0")["orphans"]["files"] == 0
        assert file.exists()
        other.rollback()


def test_temporary_files_of_now_are_counted(database: Database) -> None:
    with contextlib.closing(database.connect(autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("SET work_mem = '64kB'")
        cursor.execute(
            "DECLARE c CURSOR FOR SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n ORDER BY 1 DESC"
        )
        cursor.execute("FETCH 1 FROM c")
        result = info(database, temp_warning="1MB")
        assert result["temp"]["files"] > 0
        [found] = findings(result, "temp_files")
        assert found["value"] == result["temp"]["size_bytes"] > MIB
        other.rollback()
    assert findings(info(database, temp_warning="1MB"), "temp_files") == []


def test_the_wal_summarizer_is_named_where_there_is_one(any_server: Server, new_server: Callable[..., Server]) -> None:
    if any_server.major < 17:
        assert "summarizer" not in {each["kind"] for each in info(any_server)["wal"]["holders"]}
        return
    server = new_server(any_server.installation, settings={"summarize_wal": "on"})
    server.query("CREATE TABLE t AS SELECT 1")
    server.query("CHECKPOINT")
    assert until(lambda: holder(info(server), "summarizer")["severity"] == "ok", TIMEOUT_S)
    assert "runs" in holder(info(server), "summarizer")["detail"]


def test_log_files_are_summed_up(new_server: Callable[..., Server]) -> None:
    server = new_server(settings={"logging_collector": "on"})
    result = info(server, log_warning="1B")
    assert result["logs"]["directory"] == f"{server.data_dir}/log"
    assert (result["logs"]["files"], result["logs"]["size_bytes"] > 0) == (1, True)
    [found] = findings(result, "log_files")
    assert "disk_space_clean_logs=true" in found["remedy"]
    assert ("log", f"{server.data_dir}/log") in {
        (each["kind"], each["path"]) for system in result["file_systems"] for each in system["holds"]
    }


class FullFiles(LocalFiles):
    """Disks that are as full as a test wants: the WAL on one of its own, and all else on another."""

    def __init__(self, **shares: float) -> None:
        self.shares = shares

    def space(self, path: str) -> Space:
        kind = "wal" if path.endswith("pg_wal") else "data"
        return Space(round((1 - self.shares[kind]) * 1000 * MIB), 1000 * MIB, kind)


@pytest.mark.parametrize(
    ("wal", "data", "min_free", "severities"),
    [
        (0.5, 0.79, None, {"data": "ok", "wal": "ok"}),
        (0.8, 0.5, None, {"data": "ok", "wal": "warning"}),
        (0.5, 0.9, None, {"data": "critical", "wal": "ok"}),
        (0.5, 0.6, 450 * MIB, {"data": "critical", "wal": "ok"}),
    ],
)
def test_disks_are_judged(
    server: Server, wal: float, data: float, min_free: int | None, severities: dict[str, str]
) -> None:
    target = LocalTarget()
    target.files = FullFiles(wal=wal, data=data)
    database = Database(server, "postgres")
    with our_server(database).connect("postgres") as session:
        report = disk.collect(session, target, disk.DiskPlan(min_free_bytes=min_free), datetime.now(UTC))
    found = {each.subject: each for each in report.findings if each.check == "disk_used"}
    told = {"data": found[str(server.data_dir)], "wal": found[f"{server.data_dir}/pg_wal"]}
    assert {kind: each.severity for kind, each in told.items()} == severities
    assert all(bool(each.remedy) == (each.severity != "ok") for each in told.values())
    assert report.file_systems[0].used_ratio == max(wal, data)


def test_it_takes_five_statements(database: Database) -> None:
    with our_server(database).connect(database.name) as session:
        counted: list[object] = []
        plain = session._run

        def counting(statement: Any, params: Any) -> list[Any]:
            counted.append(statement)
            return plain(statement, params)

        session._run = counting  # type: ignore[method-assign]
        disk.collect(session, LocalTarget(), disk.DiskPlan(), datetime.now(UTC))
    assert len(counted) == 5


def test_a_base_backup_that_runs_is_named(server: Server, backup_dir: Path) -> None:
    database = new_database(server)
    database.execute("CREATE TABLE t AS SELECT repeat(md5(n::text), 30) AS x FROM generate_series(1, 20000) AS n")
    command = [
        str(server.program("pg_basebackup")),
        f"--pgdata={backup_dir}/copy",
        "--format=tar",
        "--wal-method=none",
        "--checkpoint=fast",
    ]
    command.append("--max-rate=1M")
    with subprocess.Popen(
        command, env=server.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        try:
            said = "SELECT count(*) FROM pg_stat_progress_basebackup WHERE phase LIKE 'streaming%%'"
            assert until(lambda: server.query(said) == [(1,)], TIMEOUT_S)
            found = holder(info(server), "base_backup")
            assert "pg_basebackup" in found["detail"]
            assert (found["active"], found["severity"]) == (True, "ok")
        finally:
            running.kill()
    assert until(lambda: server.query("SELECT count(*) FROM pg_stat_progress_basebackup") == [(0,)], TIMEOUT_S)
    database.drop()


def test_a_backup_dir_that_is_not_there_and_a_share_that_is_none(database: Database) -> None:
    result = info(database, backup_dir="/nonexistent/backups")
    assert "/nonexistent/backups (backup) does not exist" in " ".join(result["notes"])
    refused = expect_failure("pg_disk_info", {**database.login(), "used_ratio_warning": 80})
    assert "Invalid used_ratio_warning (80.0)" in refused["msg"]


def test_shares_are_those_of_df(server: Server, backup_dir: Path) -> None:
    result = info(server, backup_dir=str(backup_dir))
    for system in result["file_systems"]:
        path = system["path"]
        line = subprocess.run(["df", "-P", "-k", path], capture_output=True, text=True, check=True).stdout.splitlines()[
            1
        ]
        share = int(line.rpartition("%")[0].split()[-1]) / 100
        assert (
            system["used_ratio"] <= share + 0.005 <= system["used_ratio"] + 0.03
        )  # df rounds up, and files come and go


def test_backups_on_the_disk_of_the_data_are_a_warning(server: Server, backup_dir: Path) -> None:
    target = LocalTarget()
    with our_server(Database(server, "postgres")).connect("postgres") as session:
        for plan, told in ((disk.DiskPlan(backup_dir=str(backup_dir)), True), (disk.DiskPlan(), False)):
            report = disk.collect(session, target, plan, datetime.now(UTC))
            found = [each for each in report.findings if each.check == "backup_beside_data"]
            assert [(each.severity, each.subject) for each in found] == ([("warning", str(backup_dir))] if told else [])


def test_a_disk_that_was_not_seen_is_not_well(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.directories, "places", lambda session, target: None)
    with our_server(Database(server, "postgres")).connect("postgres") as session:
        report = disk.collect(session, LocalTarget(), disk.DiskPlan(), datetime.now(UTC))
    assert {each.check: each.severity for each in report.findings}["disk_unseen"] == "info"
