"""pg_restore_verify when places are bad and processes die: the backup is not blamed, and nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import pythons
from tests.support.backups import back_up, fill
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import Result, RunningModule, expect_failure, expect_success, run_module, start_module
from tests.support.processes import alive, children, command_lines, until
from tests.support.programs import run_user
from tests.support.servers import Server
from tests.support.verifications import (
    MODULE,
    PREFIX,
    leftovers,
    params,
    scratch_folder,
    scratch_servers,
    verdicts,
    verify,
)


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(name="big", scope="module")
def _big(server: Server) -> Iterator[Database]:
    """A database whose restore takes a while. Shared: do not write to it."""
    database = fill(new_database(server, unique_name("big")), 12)
    database.execute(
        "CREATE TABLE slow AS SELECT n AS id, md5(n::text) AS v FROM generate_series(1, 100000) n",
        "CREATE INDEX ON slow (v, id); CREATE INDEX ON slow (reverse(v), id)",
    )
    yield database
    database.drop()


@pytest.fixture(name="catalog", scope="module")
def _catalog(big: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a good backup of it."""
    folder = tmp_path_factory.mktemp("catalog")
    back_up(big, folder, globals=False)
    return folder


@contextlib.contextmanager
def in_the_middle(database: Database, catalog: Path, scratch: Path, **over: Any) -> Iterator[RunningModule]:
    """A verification that is restoring when we get it."""
    module = start_module(MODULE, params(database, catalog, scratch, **over))
    try:
        assert until(lambda: bool(restorers(scratch)), 60)
        yield module
    finally:
        module.process.kill()
        module.process.communicate()


def restorers(scratch: Path) -> list[int]:
    """The processes that restore from there."""
    return [
        pid
        for pid, line in command_lines().items()
        if str(scratch) in line and "--use-list" in line and ("pg_restore" in line.split()[0])
    ]


def postmasters(scratch: Path) -> list[int]:
    """The scratch servers that run there."""
    return [pid for pid, line in command_lines().items() if f"{scratch}/{PREFIX}" in line and "/postgres -D" in line]


def everybody_ended(scratch: Path) -> bool:
    """Whether all that worked there has ended, soon."""
    return until(lambda: not scratch_servers(scratch) and not restorers(scratch), 20)


def shared_memory_of(pids: list[int]) -> list[str]:
    """System V segments that these processes created."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return [row[1] for row in rows if int(row[4]) in pids]


# --- places --------------------------------------------------------------------------------------------


def on_a_small_disk(folder: Path, megabytes: int, wrapper: Path) -> str:
    """A Python that has a small tmpfs of its own at the folder."""
    place = shlex.quote(str(folder))
    mount = f"mount -t tmpfs -o size={megabytes}m,mode=755 tmpfs {place} || exit 99"
    python = f'{shlex.quote(sys.executable)} "$@"'
    if os.geteuid() == 0:
        command = f'exec unshare -m sh -c {shlex.quote(f"{mount}; {python}")} sh "$@"'
    else:  # root in a namespace, for the mount alone: PostgreSQL would refuse it
        back = f"exec unshare --user --map-user={os.getuid()} --map-group={os.getgid()} {python}"
        command = f'exec unshare -rm sh -c {shlex.quote(f"{mount}; {back}")} sh "$@"'
    wrapper.write_text(f"#!/bin/sh\n{command}\n")
    wrapper.chmod(0o755)
    return str(wrapper)


def judgement(result: Result) -> str:
    """The verdict, or `error` for a message of ours."""
    assert "Internal error" not in result["msg"], result.get("exception", result["msg"])
    return "error" if result["failed"] else str(result["verdict"])


def test_too_little_space_is_noticed_before(big: Database, catalog: Path, scratch: Path, tmp_path: Path) -> None:
    python = on_a_small_disk(scratch, 60, tmp_path / "python")
    for check in (False, True):
        result = expect_failure(MODULE, params(big, catalog, scratch), python=python, check=check)
        assert result["error"]["kind"] == "NotEnoughSpace"
        assert result["error"]["estimate_bytes"] > result["error"]["free_bytes"] > 0
        assert "check_space" in result["msg"]


@pytest.mark.parametrize("megabytes", [1, 24, 45, 56, 60, 64, 68])
def test_a_disk_that_fills_up_is_never_held_against_the_backup(
    big: Database, catalog: Path, scratch: Path, tmp_path: Path, megabytes: int
) -> None:
    python = on_a_small_disk(scratch, megabytes, tmp_path / "python")
    result = run_module(MODULE, params(big, catalog, scratch, check_space=False), python=python)
    assert judgement(result) in ("inconclusive", "error"), result["msg"]
    if megabytes >= 60:  # then there was room to start
        assert judgement(result) == "inconclusive", result["msg"]
        assert verdicts(next(catalog.glob("*/*_*Z")))[-1] == "inconclusive"
    assert everybody_ended(scratch)


@pytest.mark.parametrize("place", ["missing", "closed", "file"])
@pytest.mark.parametrize("check", [False, True])
def test_a_scratch_dir_that_cannot_be_used_is_named(
    big: Database, catalog: Path, scratch: Path, tmp_path: Path, place: str, check: bool
) -> None:
    (scratch / "closed").mkdir(mode=0o500)
    (scratch / "file").touch()
    python = pythons.that_minds_modes(tmp_path / "python")
    result = expect_failure(MODULE, params(big, catalog, scratch / place), python=python, check=check)
    assert result["error"]["kind"] == "InvalidInput"
    assert str(scratch / place) in result["msg"]
    assert not (scratch / "missing").exists()


def test_a_scratch_dir_with_a_long_path_is_refused(big: Database, catalog: Path, scratch: Path) -> None:
    long = scratch / ("x" * 80)
    long.mkdir()
    result = expect_failure(MODULE, params(big, catalog, long))
    assert result["error"]["kind"] == "InvalidInput"
    assert "too long" in result["msg"]
    assert leftovers(long) == []


def test_a_scratch_dir_that_the_servers_account_cannot_enter_is_an_error(
    big: Database, catalog: Path, scratch: Path
) -> None:
    if run_user() is None:
        return  # then there is only one account
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    result = expect_failure(MODULE, params(big, catalog, closed))
    assert "scratch_dir" in result["msg"]
    assert leftovers(closed) == []


def test_a_strange_scratch_dir_does(big: Database, catalog: Path, scratch: Path) -> None:
    strange = scratch / "a 'b' [c] %s é\""
    strange.mkdir()
    strange.chmod(0o755)
    assert verify(big, catalog, strange)["verdict"] == "verified"


def test_without_programs_it_says_what_to_install(big: Database, catalog: Path, scratch: Path, tmp_path: Path) -> None:
    only_clients = tmp_path / "bin"
    only_clients.mkdir()
    for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
        (only_clients / name).symlink_to(big.server.program(name))
    for bin_dir in (tmp_path, only_clients):
        result = expect_failure(MODULE, params(big, catalog, scratch, bin_dir=str(bin_dir)))
        assert result["error"]["kind"] == "ProgramMissing"
        assert "Install the package postgresql" in result["msg"]
    assert leftovers(scratch) == []


def test_a_scratch_server_that_does_not_start_is_an_error(big: Database, catalog: Path, scratch: Path) -> None:
    with scratch_folder() as programs:  # its account has to enter this, too
        for name in ("pg_dump", "pg_dumpall", "pg_restore", "psql"):
            (programs / name).symlink_to(big.server.program(name))
        for name in ("initdb", "pg_resetwal"):
            (programs / name).write_text(f'#!/bin/sh\nexec {big.server.program(name)} "$@"\n')
        (programs / "postgres").write_text("#!/bin/sh\necho 'FATAL:  no luck today' >&2; exit 1\n")
        for name in ("initdb", "pg_resetwal", "postgres"):
            (programs / name).chmod(0o755)
        result = expect_failure(MODULE, params(big, catalog, scratch, bin_dir=str(programs)))
    assert result["error"]["kind"] == "CommandFailed"
    assert "no luck today" in result["msg"]
    assert leftovers(scratch) == []


# --- deaths --------------------------------------------------------------------------------------------


def test_a_kill_at_any_moment_leaves_no_process_and_the_next_run_sweeps(
    big: Database, catalog: Path, scratch: Path
) -> None:
    chance = random.Random(5)
    servers: list[int] = []
    for sign in (
        lambda: list(scratch.iterdir()),
        lambda: postmasters(scratch),
        lambda: restorers(scratch),
        lambda: restorers(scratch),
    ):
        module = start_module(MODULE, params(big, catalog, scratch))
        assert until(lambda: bool(sign()), 30)  # noqa: B023  # called at once
        time.sleep(chance.uniform(0, 0.4))
        servers += postmasters(scratch)
        module.process.kill()
        module.process.communicate()
        assert everybody_ended(scratch)
    assert servers  # else no kill hit a running server
    assert until(lambda: not shared_memory_of(servers), 5)
    for aside in scratch.glob(f".{PREFIX}*"):  # killed within the moment before it had its name
        os.utime(aside, (0, 0))
    result = verify(big, catalog, scratch)
    assert result["verdict"] == "verified"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_verification_in_order(
    big: Database, catalog: Path, scratch: Path, number: signal.Signals
) -> None:
    with in_the_middle(big, catalog, scratch) as module:
        servers = postmasters(scratch)
        os.kill(module.pid, number)
        result = module.finish(60)
    assert result["failed"]
    assert "safe to run this again" in result["msg"]
    assert everybody_ended(scratch)
    assert leftovers(scratch) == []
    assert until(lambda: not shared_memory_of(servers), 5)  # goes with the last process, a moment after its name


def kill_servers(scratch: Path) -> None:
    for pid in postmasters(scratch):
        family = children(pid)
        for each in (pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)


def kill_one(find: Callable[[], list[int]]) -> None:
    """Kill the first that is found and still there: some last for a moment only."""

    def killed() -> bool:
        for pid in find():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    assert until(killed, 10)


def kill_a_backend(scratch: Path) -> None:
    """As the OOM killer would: the server then restarts itself."""
    kill_one(lambda: backends(scratch))


def backends(scratch: Path) -> list[int]:
    found = [child for pid in postmasters(scratch) for child in children(pid)]
    lines = command_lines()
    return [pid for pid in found if " big_" in lines.get(pid, "")]  # the copy has the name of its source


def kill_restorers(scratch: Path) -> None:
    for pid in restorers(scratch):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_a_worker(scratch: Path) -> None:
    """One of those that restore in parallel."""
    kill_one(lambda: [child for pid in restorers(scratch) for child in children(pid)])


@pytest.mark.parametrize("kill", [kill_servers, kill_a_backend, kill_restorers, kill_a_worker])
def test_a_death_in_the_middle_is_not_held_against_the_backup(
    big: Database, catalog: Path, scratch: Path, kill: Callable[[Path], None]
) -> None:
    with in_the_middle(big, catalog, scratch, jobs=2) as module:
        kill(scratch)
        result = module.finish(60)
    assert judgement(result) == "inconclusive", result["msg"]
    assert everybody_ended(scratch)
    assert leftovers(scratch) == []


def test_a_killed_verification_in_a_database_is_swept_by_the_next(big: Database, catalog: Path, scratch: Path) -> None:
    def ours() -> set[str]:
        return {name for name in big.server.databases() if name.startswith("pg_runbook_verify_")}

    module = start_module(MODULE, params(big, catalog, scratch, verify_in="database"))
    assert until(lambda: bool(ours()), 30)
    module.process.kill()
    module.process.communicate()
    left = ours()
    assert left
    assert until(lambda: not restorers(scratch), 10)
    if not until(lambda: not big.query("SELECT FROM pg_stat_activity WHERE datname LIKE 'pg_runbook_verify_%%'"), 10):
        raise AssertionError("a process still works there")
    assert verify(big, catalog, scratch, verify_in="database")["verdict"] == "verified"
    assert not left & ours()


# --- meanwhile -----------------------------------------------------------------------------------------


def test_a_backup_is_not_pruned_while_it_is_verified(
    big: Database, catalog: Path, backup_dir: Path, scratch: Path
) -> None:
    shutil.copytree(catalog, backup_dir, dirs_exist_ok=True)
    [old] = [path.name for path in (backup_dir / big.name).iterdir() if path.is_dir()]
    back_up(big, backup_dir, fingerprint="none")
    with in_the_middle(big, backup_dir, scratch, backup=old) as module:
        run_module("pg_backup_prune", {"db": big.name, "backup_dir": str(backup_dir), "keep_last": 1})
        assert (backup_dir / big.name / old / "manifest.json").exists()
        result = module.finish()
    assert result["verdict"] == "verified"


def test_a_backup_that_is_removed_by_force_meanwhile_is_an_error_and_not_failed(
    big: Database, catalog: Path, backup_dir: Path, scratch: Path
) -> None:
    shutil.copytree(catalog, backup_dir, dirs_exist_ok=True)
    with in_the_middle(big, backup_dir, scratch, jobs=1) as module:
        shutil.rmtree(backup_dir / big.name, ignore_errors=True)
        result = module.finish()
    assert judgement(result) in ("error", "inconclusive"), result["msg"]
    assert not list((backup_dir / big.name).glob("*/verifications"))


# --- secrets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["instance", "database"])
def test_no_secret_gets_out(new_server: Callable[..., Server], backup_dir: Path, scratch: Path, place: str) -> None:
    secret = f"secret-{secrets.token_hex(8)}"
    server = new_server(password=secret)
    database = fill(new_database(server), 1)
    entry = back_up(database, backup_dir, globals_passwords=True)["backup"]["path"]
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            seen.update(command_lines().values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = expect_success(MODULE, params(database, backup_dir, scratch, verify_in=place), diff=True)
    finally:
        stop.set()
        watcher.join()
    assert result["verdict"] == "verified"
    assert any("pg_restore" in line for line in seen)
    assert not [line for line in seen if secret in line]
    result.pop("invocation", None)  # Ansible shows the arguments, and hides what is no_log
    assert secret not in json.dumps(result)
    for record in Path(entry, "verifications").iterdir():
        assert secret not in record.read_text()
    assert verdicts(entry) == ["verified"]
    wrong = expect_failure(
        MODULE, params(database, backup_dir, scratch, verify_in="database", login_password=f"{secret}x")
    )
    assert secret not in wrong["msg"]
    assert alive(os.getpid())
