"""A module that is forked gives what a module in a new Python gives."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.forked import ForkedProcess
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
