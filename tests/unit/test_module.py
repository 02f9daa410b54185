"""The edge to Ansible: results, errors, signals, and what must not be printed."""

from __future__ import annotations

import json
import os
import signal
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import CONNECTION, ArgumentSpec
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import CommandFailed, InvalidInput, Locked
from ansible_collections.godel.postgres_runbook.plugins.module_utils._module import Call, Result, run
from tests.support.module_args import patch_module_args

Run = Callable[..., dict[str, Any]]
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture(name="answer")
def _answer(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an operation as a module and return its JSON document with the exit status."""

    def run_it(
        operation: Callable[[Call], Result], params: Mapping[str, Any] | None = None, *, check: bool = False
    ) -> dict[str, Any]:
        spec = ArgumentSpec({"subject": {"type": "str"}}).merge(CONNECTION)
        with patch_module_args({**(params or {}), "_ansible_check_mode": check}), pytest.raises(SystemExit) as exited:
            run(spec, operation)
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return {**json.loads(told.out), "status": exited.value.code, "stderr": told.err}

    return run_it


def test_a_result_becomes_the_answer(answer: Run) -> None:
    def operation(call: Call) -> Result:
        assert call.params["subject"] == "x"
        return Result(True, {"value": 1}, {"before": "a", "after": "b"}, warnings=["look"])

    found = answer(operation, {"subject": "x"})
    assert (found["status"], found["changed"], found["value"]) == (0, True, 1)
    assert found["diff"] == {"before": "a", "after": "b"}
    assert "look" in json.dumps(found)  # where the controller's display is loaded, it prints warnings
    assert "failed" not in found


@pytest.mark.parametrize("check", [True, False])
def test_the_operation_knows_whether_it_is_a_rehearsal(answer: Run, check: bool) -> None:
    assert answer(lambda call: Result(call.check_mode, {}), check=check)["changed"] is check


def test_a_failing_result_fails_and_reports_all_the_same(answer: Run) -> None:
    found = answer(lambda dummy: Result(True, {"verdict": "failed"}, failure="Not proven."))
    assert (found["status"], found["failed"], found["changed"]) == (1, True, True)
    assert (found["verdict"], found["msg"]) == ("failed", "Not proven.")


def test_an_error_becomes_a_message_and_fields(answer: Run) -> None:
    def operation(dummy: Call) -> Result:
        raise CommandFailed("pg_dump ended", subject="db", why="reason.", remedy="Do this.", details={"returncode": 1})

    found = answer(operation)
    assert (found["status"], found["failed"]) == (1, True)
    assert found["msg"] == "pg_dump ended (db): reason. Do this."
    assert found["error"] == {
        "kind": "CommandFailed",
        "what": "pg_dump ended",
        "subject": "db",
        "why": "reason.",
        "remedy": "Do this.",
        "returncode": 1,
    }
    assert "Traceback" not in json.dumps(found)


def test_the_kind_of_an_error_is_its_class(answer: Run) -> None:
    for kind in (InvalidInput, Locked):

        def operation(dummy: Call, kind: type[InvalidInput] | type[Locked] = kind) -> Result:
            raise kind("No")

        assert answer(operation)["error"]["kind"] == kind.__name__


def test_a_defect_of_ours_is_told_without_a_trace_in_the_message(answer: Run) -> None:
    found = answer(lambda dummy: Result(bool(1 / 0), {}))
    assert found["status"] == 1
    assert "Internal error" in found["msg"]
    assert "ZeroDivisionError" in found["msg"]
    assert "Traceback" not in found["msg"]
    assert "File " not in found["msg"]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_the_work_in_order(answer: Run, signum: signal.Signals) -> None:
    cleaned = []

    def operation(dummy: Call) -> Result:
        try:
            os.kill(os.getpid(), signum)
            pytest.fail("the signal was ignored")
        finally:
            os.kill(os.getpid(), signum)  # an impatient operator: cleaning up goes on
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(1)

    found = answer(operation)
    assert cleaned == [1]
    assert found["status"] == 1
    assert found["msg"].startswith(f"Stopped by {signum.name}.")


def test_a_signal_is_not_stopped_by_a_handler_of_exceptions(answer: Run) -> None:
    def operation(dummy: Call) -> Result:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:  # noqa: BLE001
            return Result(False, {})
        return Result(False, {})

    assert answer(operation)["msg"].startswith("Stopped by SIGTERM")


def test_a_signal_that_comes_too_late_changes_nothing(answer: Run) -> None:
    class LateMapping(UserDict[str, object]):
        def keys(self) -> Any:  # read after the operation
            os.kill(os.getpid(), signal.SIGTERM)
            return super().keys()

    found = answer(lambda dummy: Result(True, LateMapping(done=True), {"before": "", "after": ""}))
    assert (found["status"], found["done"]) == (0, True)


@pytest.mark.parametrize("name", ["password", "sslpassword", "PASSWORD", "oauth_client_password"])
def test_a_secret_of_connect_params_is_printed_nowhere(answer: Run, name: str) -> None:
    secret = "s3cret-of-the-test"

    def operation(call: Call) -> Result:
        assert call.params["connect_params"][name] == secret
        raise InvalidInput(f"It is {secret}", details={"also": [secret]})

    found = answer(
        operation, {"connect_params": {name: secret, "keepalives_idle": 5}, "login_password": "other-s3cret"}
    )
    assert secret not in json.dumps(found)
    assert "other-s3cret" not in json.dumps(found)
    assert found["invocation"]["module_args"]["connect_params"]["keepalives_idle"] == 5
