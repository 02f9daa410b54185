"""pg_backup when disks fill up and processes die: no half backup, and the next run succeeds."""

from __future__ import annotations

import json
import os
import random
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pythons
from tests.support.backups import (
    SLOW,
    back_up,
    dumping,
    entries,
    fill,
    in_the_middle,
    leftovers,
    nobody_dumps,
    params,
    pids,
    slow_backup,
)
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure, expect_success, start_module
from tests.support.processes import command_lines, until
from tests.support.servers import Server

QUICK: dict[str, Any] = {"fingerprint": "none", "globals": False}


@pytest.fixture(name="big", scope="module")
def _big(server: Server) -> Iterator[Database]:
    """A database whose dump takes some seconds. Shared: do not write to it."""
    database = fill(new_database(server, unique_name("big")), 40)
    database.execute("CREATE TABLE noise2 AS SELECT * FROM noise LIMIT 20000")
    yield database
    database.drop()


@pytest.fixture(name="small")
def _small(database: Database) -> Database:
    database.execute("CREATE TABLE sentinel (v text); INSERT INTO sentinel VALUES ('here')")
    return database


# --- space and places ---------------------------------------------------------------------------------


@pytest.fixture(name="ordinary_python")
def _ordinary_python(tmp_path: Path) -> str:
    """A Python for which modes of files hold, although the tests may run as root."""
    return pythons.that_minds_modes(tmp_path / "python")


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("place", ["there", "there/new", "file", "file/below"])
def test_a_place_that_cannot_be_written_is_named(
    small: Database, backup_dir: Path, ordinary_python: str, place: str, check: bool
) -> None:
    (backup_dir / "there").mkdir(mode=0o500)
    (backup_dir / "file").write_text("in the way")
    result = expect_failure("pg_backup", params(small, backup_dir / place), check=check, python=ordinary_python)
    assert result["error"]["kind"] == "FileProblem"
    assert str(backup_dir / place) in result["msg"]
    assert list((backup_dir / "there").iterdir()) == []
    assert (backup_dir / "file").read_text() == "in the way"


def on_a_small_disk(folder: Path, megabytes: int, wrapper: Path, then: str) -> str:
    """A Python that has a small tmpfs of its own at the folder, and lists afterwards what is there."""
    how = "unshare -m" if os.geteuid() == 0 else "unshare -rm"
    place, listing = shlex.quote(str(folder)), shlex.quote(then)
    inner = f"""mount -t tmpfs -o size={megabytes}m,mode=700 tmpfs {place} || exit 99
{shlex.quote(sys.executable)} "$@"
status=$?
cd {place}; find . -mindepth 1 > {listing}
exit $status"""
    wrapper.write_text(f'#!/bin/sh\nexec {how} sh -c {shlex.quote(inner)} sh "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


@pytest.mark.parametrize(
    "over", [{}, {"format": "custom"}, {"format": "plain", "compress": "none"}, {"fingerprint": "none"}]
)
def test_a_disk_that_fills_up_is_told_and_cleaned(
    database: Database, backup_dir: Path, tmp_path: Path, over: dict[str, Any]
) -> None:
    fill(database, 12)
    python = on_a_small_disk(backup_dir, 3, tmp_path / "python", f"{tmp_path}/left")
    result = expect_failure("pg_backup", params(database, backup_dir, check_space=False, **over), python=python)
    assert result["error"]["kind"] == "NotEnoughSpace"
    assert "backup_retention" in result["msg"]
    left = {line for line in (tmp_path / "left").read_text().splitlines() if not line.endswith("/.lock")}
    assert left == {f"./{database.name}"}
    assert dumping(backup_dir) == []


@pytest.mark.parametrize("check", [False, True])
def test_too_little_space_is_noticed_before(database: Database, backup_dir: Path, tmp_path: Path, check: bool) -> None:
    fill(database, 12)
    python = on_a_small_disk(backup_dir, 3, tmp_path / "python", f"{tmp_path}/left")
    result = expect_failure("pg_backup", params(database, backup_dir), python=python, check=check)
    assert result["error"]["kind"] == "NotEnoughSpace"
    assert result["error"]["estimate_bytes"] > result["error"]["free_bytes"] > 0
    assert "check_space" in result["msg"]
    assert (tmp_path / "left").read_text() == ""


# --- two at once -------------------------------------------------------------------------------------


def test_two_backups_of_one_database_at_once_are_refused(big: Database, small: Database, backup_dir: Path) -> None:
    with in_the_middle(big, backup_dir) as first:
        result = expect_failure("pg_backup", params(big, backup_dir))
        assert result["error"]["kind"] == "Locked"
        assert f"process {first.pid}" in result["msg"]
        assert not expect_success("pg_backup", params(small, backup_dir))["failed"]  # another database is free
        assert not first.finish()["failed"]
    assert len(entries(backup_dir, big)) == 1
    assert leftovers(backup_dir, big) == []


# --- death --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pg_dump_is_no_backup(big: Database, backup_dir: Path, number: signal.Signals) -> None:
    with in_the_middle(big, backup_dir) as module:
        leader = min(pids("--snapshot", backup_dir))
        os.kill(leader, number)
        result = module.finish()
    assert result["failed"]
    assert "pg_dump" in result["msg"]
    assert "Internal error" not in result["msg"]
    if number == signal.SIGKILL:
        assert "SIGKILL" in result["msg"]
    assert nobody_dumps(backup_dir)
    assert entries(backup_dir, big) == []
    assert leftovers(backup_dir, big) == []


def test_a_killed_worker_of_pg_dump_is_no_backup(big: Database, backup_dir: Path) -> None:
    with in_the_middle(big, backup_dir) as module:
        os.kill(max(pids("--snapshot", backup_dir)), signal.SIGKILL)
        result = module.finish()
    assert result["failed"]
    assert result["error"]["kind"] == "CommandFailed"
    assert nobody_dumps(backup_dir)
    assert leftovers(backup_dir, big) == []


@pytest.mark.parametrize("mode", ["content", "none"])
def test_a_server_that_dies_is_no_backup(new_server: Callable[..., Server], backup_dir: Path, mode: str) -> None:
    server = new_server()
    database = fill(new_database(server), 25)
    with in_the_middle(database, backup_dir, fingerprint=mode) as module:
        server.kill()
        result = module.finish()
    assert result["failed"]
    assert "Internal error" not in result["msg"]
    assert result["error"]["kind"] in ("CommandFailed", "QueryFailed", "ConnectionFailed")
    assert result["error"]["what"] == "The server stopped while the backup was taken"
    assert nobody_dumps(backup_dir)
    assert leftovers(backup_dir, database) == []
    server.start()
    back_up(database, backup_dir, **QUICK)


@pytest.mark.parametrize("victim", ["pg_runbook backup (pg_dump)", "pg_runbook backup"])
def test_a_lost_connection_is_no_backup(big: Database, backup_dir: Path, victim: str) -> None:
    whose = "FROM pg_stat_activity WHERE datname = %s AND application_name = %s"
    # A connection that has done its part may go: this one is still reading. And libpq tells the death of one that was
    # only being made on the error output, past psycopg2.
    reading = f"EXISTS (SELECT {whose} AND query ~ 'noise')"
    kill = f"SELECT pg_terminate_backend(pid) {whose} AND xact_start IS NOT NULL AND {reading}"
    with slow_backup(big, backup_dir) as module:
        assert until(lambda: bool(big.server.query(kill, big.name, victim, big.name, victim)), 60)
        result = module.finish()
    assert result["failed"]
    assert result["error"]["what"] == "A session of the backup was terminated by another session (pg_terminate_backend)"
    assert "begins with pg_runbook" in result["error"]["remedy"]
    assert nobody_dumps(backup_dir)
    assert leftovers(backup_dir, big) == []


def test_a_restart_of_the_server_is_called_one(new_server: Callable[..., Server], backup_dir: Path) -> None:
    server = new_server()
    database = fill(new_database(server), 25)
    with in_the_middle(database, backup_dir) as module:
        server.stop("fast")
        server.start()
        result = module.finish()
    assert result["error"]["what"] == "The server was restarted while the backup was taken"
    assert leftovers(backup_dir, database) == []


def test_a_cancelled_dump_says_so(big: Database, backup_dir: Path) -> None:
    whose = "FROM pg_stat_activity WHERE datname = %s AND application_name = 'pg_runbook backup (pg_dump)'"
    cancel = f"SELECT pg_cancel_backend(pid) {whose} AND query ~ '^COPY'"
    with slow_backup(big, backup_dir) as module:
        assert until(lambda: bool(big.server.query(cancel, big.name)), 60)
        result = module.finish()
    assert result["error"]["what"].startswith("A statement of the backup was cancelled by another session")
    assert leftovers(backup_dir, big) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_backup_in_order(big: Database, backup_dir: Path, number: signal.Signals) -> None:
    with in_the_middle(big, backup_dir) as module:
        module.process.send_signal(number)
        time.sleep(0.05)
        module.process.send_signal(number)
        result = module.finish(60)
    assert result["failed"]
    assert result["msg"].startswith(f"Stopped by {number.name}.")
    assert dumping(backup_dir) == []
    assert entries(backup_dir, big) == []
    assert leftovers(backup_dir, big) == []


def test_a_kill_at_any_moment_leaves_nothing_that_looks_like_a_backup(database: Database, backup_dir: Path) -> None:
    fill(database, 12)
    over = {"compress": "gzip:6"}
    back_up(database, backup_dir / "first", **over)
    started = time.monotonic()
    back_up(database, backup_dir / "second", **over)
    whole_s = time.monotonic() - started
    chance = random.Random(os.getpid())
    found: set[str] = set()
    for part in (0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0):
        module = start_module("pg_backup", params(database, backup_dir, **over))
        time.sleep(whole_s * part * chance.uniform(0.9, 1.05))
        module.process.kill()
        module.process.communicate()
        assert nobody_dumps(backup_dir)
        for entry in entries(backup_dir, database):  # one may have been completed in time: then it is whole
            manifest = entry.usable()
            assert all(
                Path(entry.path, name).stat().st_size == record.size_bytes for name, record in manifest.files.items()
            )
        found.update(leftovers(backup_dir, database))
    assert found, "no moment was in the middle: the test proves nothing"
    assert all(path.endswith(".partial") for path in found)
    left = leftovers(backup_dir, database)
    before = len(entries(backup_dir, database))
    result = back_up(database, backup_dir, **over)
    assert result["removed"] == left
    assert leftovers(backup_dir, database) == []
    assert len(entries(backup_dir, database)) == before + 1
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    assert until(lambda: database.query(sessions, database.name) == [(0,)], 15)


# --- secrets ------------------------------------------------------------------------------------------


def test_no_secret_gets_out(new_server: Callable[..., Server], backup_dir: Path, tmp_path: Path) -> None:
    secret = f"pw-{secrets.token_hex(12)}"
    server = new_server(password=secret, settings={"log_statement": "all", "log_connections": "on"})
    database = fill(new_database(server), 10)
    lines: set[str] = set()
    printed = []
    connect_params = {"login_password": "", "connect_params": {"password": secret}}
    for over in ({}, {"globals_passwords": True}, connect_params, {"bin_dir": "/nonexistent"}, {"login_port": 1}):
        module = start_module("pg_backup", params(database, backup_dir, **{**SLOW, **over}))
        while module.process.poll() is None:
            lines.update(command_lines().values())
        printed.append(json.dumps(module.finish()))
    assert any("pg_dump" in line and str(backup_dir) in line for line in lines)
    assert any("pg_dumpall" in line and str(backup_dir) in line for line in lines)
    assert not [line for line in lines if secret in line]
    assert not [text for text in printed if secret in text]
    assert secret not in server.log()
    files = [path for path in backup_dir.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    hashed = [path for path in files if b"SCRAM-SHA-256" in path.read_bytes()]
    assert len(hashed) == 1  # the one that was asked for
    assert tmp_path.exists()
