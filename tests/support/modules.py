"""Run a module of the collection as Ansible does: in a process of its own, arguments on stdin, one JSON document out.

That of ``run_module`` is forked where all imports are there already, that of ``start_module`` is a new Python.
``run_module("pg_backup", {...})`` returns the result whether the module succeeded or not: ``failed`` tells.
``start_module`` returns the running process, to kill it half-way; ``finish`` reads what it has to say.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forked import COLLECTIONS, ForkedProcess

PACKAGE = "ansible_collections.godel.postgres_runbook.plugins.modules"
TIMEOUT_S = 300.0
OF_PYTHON = ("PYTHON", "LC_", "LANG", "LD_")
"""Variables that count when an interpreter starts, and not later."""

Result = dict[str, Any]


class NoResult(AssertionError):
    """A module ended without its one JSON document; the text has all that it printed."""


@dataclass(frozen=True)
class RunningModule:
    """A module at work. ``process`` leads a session of its own, so that a test can signal it alone."""

    name: str
    process: subprocess.Popen[bytes] | ForkedProcess

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def finish(self, timeout_s: float = TIMEOUT_S) -> Result:
        """Wait for the end and return the result; a traceback or no result at all raises NoResult."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            stdout, stderr = self.process.communicate()
            raise NoResult(self._told(f"ran longer than {timeout_s:g} s", stdout, stderr)) from None
        lines = stdout.decode("utf-8", "replace").strip().splitlines()
        try:
            result = json.loads(lines[-1])
        except (IndexError, ValueError):
            fate = f"ended with status {self.process.returncode} and no result"
            raise NoResult(self._told(fate, stdout, stderr)) from None
        if len(lines) != 1 or stderr.strip():
            raise NoResult(self._told("printed more than its result", stdout, stderr))
        if bool(result.get("failed")) != (self.process.returncode != 0):
            raise NoResult(self._told(f"ended with status {self.process.returncode}", stdout, stderr))
        result.setdefault("failed", False)
        return dict(result)

    def _told(self, fate: str, stdout: bytes, stderr: bytes) -> str:
        texts = (part.decode("utf-8", "replace").strip() for part in (stdout, stderr))
        return f"module {self.name} {fate}\n" + "\n".join(text for text in texts if text)


def start_module(
    name: str,
    params: Mapping[str, Any],
    *,
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    python: str | Path | None = None,
) -> RunningModule:
    """Start a module and return at once. ``env`` is added to ours; ``python`` is another interpreter."""
    full_env = {**os.environ, "PYTHONPATH": str(COLLECTIONS), **(env or {})}
    process = subprocess.Popen(
        [str(python or sys.executable), "-m", f"{PACKAGE}.{name}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=full_env,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(_arguments(params, check, diff))
    process.stdin.close()
    process.stdin = None  # communicate() must not flush it again
    return RunningModule(name, process)


def run_module(
    name: str,
    params: Mapping[str, Any],
    *,
    check: bool = False,
    diff: bool = False,
    env: Mapping[str, str] | None = None,
    python: str | Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Result:
    """Run a module to its end and return its result, a failure's as well (``result["failed"]``, ``result["msg"]``)."""
    if python is not None or any(each.startswith(OF_PYTHON) for each in env or {}):
        return start_module(name, params, check=check, diff=diff, env=env, python=python).finish(timeout_s)
    imports = ["kubernetes"] if params.get("kubernetes") else ["psycopg2"]
    full_env = {**os.environ, **(env or {})}
    process = ForkedProcess("modules", [name], full_env, stdin=_arguments(params, check, diff), imports=imports)
    return RunningModule(name, process).finish(timeout_s)


def _arguments(params: Mapping[str, Any], check: bool, diff: bool) -> bytes:
    options = {**params, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_no_log": False}
    return json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode()


def expect_success(name: str, params: Mapping[str, Any], **options: Any) -> Result:
    """Run a module that has to succeed."""
    result = run_module(name, params, **options)
    assert not result["failed"], result["msg"]
    return result


def expect_failure(name: str, params: Mapping[str, Any], **options: Any) -> Result:
    """Run a module that has to fail with a message of ours: neither success, nor an unexpected error."""
    result = run_module(name, params, **options)
    assert result["failed"], f"{name} succeeded: {result.get('msg')}"
    assert "Internal error" not in result["msg"], result.get("exception", result["msg"])
    assert "Traceback" not in result["msg"]
    return result
