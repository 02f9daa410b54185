"""A module that is forked gives what a module in a new Python gives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forked import COLLECTIONS, ForkedProcess, forked_python
from tests.support.modules import NoResult, run_module, start_module
from tests.support.processes import alive, until


@pytest.fixture(name="silent")
def _silent() -> Iterator[dict[str, Any]]:
    """A login to a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"login_host": "127.0.0.1", "login_port": server.getsockname()[1], "db": "a", "ssl_mode": "disable"}


@pytest.mark.parametrize("params", [{}, {"db": "a", "backup_dir": "relative"}, {"nonsense": 1}])
def test_its_result_is_the_same(params: dict[str, object]) -> None:
    forked = run_module("pg_backup", params)
    assert forked == start_module("pg_backup", params).finish()
    assert forked["failed"]


def test_it_has_a_session_and_an_end_of_its_own(silent: dict[str, Any]) -> None:
    process = ForkedProcess(
        "modules", ["pg_index_info"], os.environ, stdin=json.dumps({"ANSIBLE_MODULE_ARGS": silent}).encode()
    )
    assert until(lambda: os.getsid(process.pid) == process.pid, 10)
    process.kill()
    assert process.communicate(60) == (b"", b"")
    assert process.returncode == -signal.SIGKILL
    assert not alive(process.pid)


def test_its_environment_is_the_one_it_is_given() -> None:
    result = run_module("pg_index_info", {"db": "a", "login_host": ""}, env={"PGHOST": "/of-the-test"})
    assert "/of-the-test/.s.PGSQL" in result["msg"]
    assert "PGHOST" not in os.environ


def test_one_that_takes_too_long_is_killed_and_told(silent: dict[str, Any]) -> None:
    with pytest.raises(NoResult, match=r"ran longer than 0\.5 s"):
        run_module("pg_index_info", silent, timeout_s=0.5)


def test_a_forked_python_is_one_to_its_caller(tmp_path: Path) -> None:
    script = "import os, sys\nprint(sys.argv, os.getcwd(), os.environ['A'])\nprint('x', file=sys.stderr)\nsys.exit(3)\n"
    file = tmp_path / "a script.py"
    file.write_text(script)
    for arguments, given, argv in (([], script, ["-"]), ([str(file), "b"], "", [str(file), "b"])):
        ran = subprocess.run(
            [forked_python(), *arguments],
            input=given,
            cwd=tmp_path,
            env={"A": "é"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (3, f"{argv} {tmp_path} é\n", "x\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_a_forked_python_and_its_caller(signum: int) -> None:
    script = b"import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    with subprocess.Popen([forked_python()], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(script)
        process.stdin.close()
        pid = int(process.stdout.readline())
        process.send_signal(signum)
        assert process.wait(30) == -signum
    assert until(lambda: not alive(pid), 10)


def test_a_forked_python_imports_what_is_in_the_archive(tmp_path: Path) -> None:
    known = COLLECTIONS / "ansible_collections/godel/postgres_runbook/plugins/module_utils/_version.py"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("same.py", known.read_bytes())
        archive.writestr("changed.py", known.read_bytes() + b"\nADDED = 1\n")
    script = f"import sys\nsys.path.insert(0, {str(tmp_path / 'a.zip')!r})\nimport same, changed\n"
    script += "print(same.COLLECTION_VERSION == changed.COLLECTION_VERSION, hasattr(same, 'ADDED'), changed.ADDED)\n"
    ran = subprocess.run([forked_python()], input=script, capture_output=True, text=True, check=True)
    assert ran.stdout == "True False 1\n"
