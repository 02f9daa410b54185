"""The scripts of a pod, run by a shell of this host: cases that are too slow or too rare to wait for in a pod."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import detached, lease, port_forward
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.processes import FUNCTIONS
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.scratch_pod import _LIVE
from tests.conftest import COLLECTIONS

_FOUND = {name: shutil.which(name) for name in ("dash", "bash", "busybox")}
SHELLS = [[path, "sh"] if name == "busybox" else [path] for name, path in _FOUND.items() if path]
# Takes no time, and writes what it was asked for into a file. The rest of it is what happens meanwhile.
SLEEP = '#!/bin/sh\necho "$1" >>"$TICKS"\nn=$(grep -c "" "$TICKS")\n'


def run(shell: list[str], script: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*shell, "-c", script, "sh", *args],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def ticking(folder: Path, meanwhile: str) -> Mapping[str, str]:
    """An environment with a sleep that takes no time."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "sleep").write_text(SLEEP + meanwhile)
    (programs / "sleep").chmod(0o755)
    return {"PATH": f"{programs}:{os.environ['PATH']}", "TICKS": str(folder / "ticks"), "TMPDIR": str(folder)}


def ticks(folder: Path) -> int:
    return len((folder / "ticks").read_text().splitlines())


@pytest.fixture(params=SHELLS, ids=lambda shell: Path(shell[0]).name)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


# --- a throwaway pod


def test_a_pod_ends_soon_after_its_lease_has_gone(shell: list[str], tmp_path: Path) -> None:
    # The watchers in the pod see the lease of a killed run expire, and remove it.
    home = tmp_path / ".pg_runbook_x"
    home.mkdir()
    (home / "lease").write_text("7 1 boot 300\n")
    done = run(shell, _LIVE, "60", **ticking(tmp_path, f'[ "$n" != 30 ] || rm -r "{home}"\n'))
    assert done.returncode == 0, done.stderr
    assert 40 <= ticks(tmp_path) <= 43  # of two seconds: 30 until it lapsed; it was 30 + 60 once


def test_a_pod_that_never_had_a_lease_ends_after_its_limit(shell: list[str], tmp_path: Path) -> None:
    assert run(shell, _LIVE, "15", **ticking(tmp_path, "")).returncode == 0
    assert ticks(tmp_path) == 15


def test_a_lease_that_is_renewed_keeps_a_pod_and_a_further_one_does_too(shell: list[str], tmp_path: Path) -> None:
    home = tmp_path / ".pg_runbook_x"
    # Let go for less than the pod waits, between two uses, and renewed until tick 60.
    meanwhile = (
        f'mkdir -p "{home}"; [ "$n" -gt 60 ] || echo "$n 1 boot 300" >"{home}/lease"\n'
        f'case $n in 4[0-4]) rm -r "{home}" ;; esac\n'
    )
    assert run(shell, _LIVE, "20", **ticking(tmp_path, meanwhile)).returncode == 0
    assert 75 <= ticks(tmp_path) <= 82


# --- leases


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def left(folder: Path, name: str, text: str | None, age_days: float = 0) -> Path:
    home = folder / f".pg_runbook_{name}"
    home.mkdir()
    aged = time.time() - age_days * 86400
    if text is not None:
        (home / "lease").write_text(text)
        os.utime(home / "lease", (aged, aged))
    os.utime(home, (aged, aged))
    return home


def test_what_killed_runs_have_left_is_removed_and_what_lives_is_not(shell: list[str], tmp_path: Path) -> None:
    now = uptime() + 100_000  # as if it were so long since the start
    script = lease._MAKE.replace("up=${up%%.*}", f"up={now}")
    dead = [
        left(tmp_path, "lapsed", f"5 {now - 700} {boot()} 300\n"),
        left(tmp_path, "other-boot", "5 1 another 300\n", 3),
        left(tmp_path, "no-lease", None, 3),
        left(tmp_path, "unreadable", "\n", 3),
    ]
    alive = [
        left(tmp_path, "renewed", f"5 {now - 40} {boot()} 300\n", 3),  # whatever the clock says
        left(tmp_path, "silent", f"5 {now - 500} {boot()} 300\n"),
        left(tmp_path, "patient", f"5 {now - 5000} {boot()} 3000\n"),
        left(tmp_path, "other-node", "5 1 another 300\n"),
        left(tmp_path, "begun", None),
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lease").write_text(f"5 1 {boot()} 300\n")
    (tmp_path / ".pg_runbook_link").symlink_to(elsewhere)
    done = run(shell, script, "new", "300", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/.pg_runbook_new"), done.stderr
    assert (tmp_path / ".pg_runbook_new" / "lease").read_text() == f"0 {now} {boot()} 300\n"
    assert not [path.name for path in dead if path.exists()]
    assert [path.name for path in alive if not path.exists()] == []
    assert elsewhere.exists()


def test_a_lease_that_has_gone_is_not_renewed(shell: list[str], tmp_path: Path) -> None:
    home = left(tmp_path, "x", "1 1 boot 300\n")
    assert run(shell, lease._RENEW, str(home), "2", "300").returncode == 0
    number, seen, where, lasts = (home / "lease").read_text().split()
    assert (number, where, lasts) == ("2", boot(), "300")
    assert abs(int(seen) - uptime()) < 60
    (home / "lease").unlink()
    assert run(shell, lease._RENEW, str(home), "3", "300").returncode == lease._LAPSED
    assert not (home / "lease").exists()


# --- what runs detached


def test_a_lock_whose_holder_was_killed_is_not_waited_for_without_a_bound(shell: list[str], tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (tmp_path / "job.held").touch()
    done = run(shell, FUNCTIONS + detached._UNLOCK, str(job), **ticking(tmp_path, ""))
    assert done.returncode == 0
    assert ticks(tmp_path) == 200  # ten seconds
    assert list(tmp_path.glob("job*")) == []


def test_what_is_counted_is_time_where_sleep_knows_no_fractions(shell: list[str], tmp_path: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (tmp_path / "job.held").touch()
    done = run(shell, FUNCTIONS + detached._UNLOCK, str(job), **ticking(tmp_path, "case $1 in *.*) exit 1 ;; esac\n"))
    assert done.returncode == 0
    assert ticks(tmp_path) == 20  # ten seconds, in each of which a fraction was tried first


# --- sockets of this host

HOLD = """
import importlib, sys, time
root = "ansible_collections.godel.postgres_runbook.plugins.module_utils._kube."
print(importlib.import_module(root + "port_forward")._private_directory()[0], flush=True)
time.sleep(600)
"""


def test_the_socket_directory_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(COLLECTIONS), "TMPDIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", HOLD], env=env, stdout=subprocess.PIPE, text=True) for dummy in range(2)
    ]
    try:
        paths = [Path(process.stdout.readline().strip()) for process in started if process.stdout]
        for path in paths:
            (path / ".s.PGSQL.5432").touch()
        started[0].send_signal(signal.SIGKILL)
        started[0].wait()
        foreign = tmp_path / "pg-runbook-notes"
        foreign.mkdir()
        (foreign / "text").touch()
        (tmp_path / "pg-runbook-link").symlink_to(foreign)
        port_forward._sweep.cache_clear()
        port_forward._sweep(str(tmp_path))
        assert [path.exists() for path in (*paths, foreign / "text")] == [False, True, True]
    finally:
        port_forward._sweep.cache_clear()
        for process in started:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
