# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge to Ansible: the only code that catches errors, and the only code that exits.

Below it nothing knows that Ansible exists: an operation takes a `Call` and returns a `Result`, or raises.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ._argspec import ArgumentSpec
from ._errors import Interrupted, RunbookError


@dataclass(frozen=True)
class Call:
    """What Ansible asks for: the parameters, checked and read by the spec, and whether it is check mode."""

    params: Mapping[str, Any]
    check_mode: bool


@dataclass(frozen=True)
class Result:
    """What an operation reports.

    Attributes:
        changed: whether anything was changed, or would be in check mode.
        values: the return values that the module documents.
        diff: `before` and `after`, when there is something to show.
        warnings: what the operator should know although it is no failure.
        failure: when set, the task fails with this text, and the values are reported all the same.
    """

    changed: bool
    values: Mapping[str, object]
    diff: Mapping[str, object] | None = None
    warnings: Sequence[str] = field(default_factory=tuple)
    failure: str | None = None


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    _handle_signals(_ignore)
    raise Interrupted(signal.Signals(signum).name)


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """For the time of cleaning up and answering. Unlike SIG_IGN it is not inherited by the programs we start."""


def _handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, handler)


def run(spec: ArgumentSpec, operation: Callable[[Call], Result]) -> None:
    """Run an operation and end the module with its result, or with its error as `fail_json`."""
    module = spec.create_module()
    try:
        try:
            _handle_signals(_interrupt)  # so that `finally` and `with` clean up
            result = operation(Call(spec.read(module.params), module.check_mode))
        finally:
            _handle_signals(_ignore)
    except RunbookError as exc:
        module.fail_json(msg=exc.message, **exc.as_result())
    except Interrupted as exc:
        left = exc.left or "The unfinished work was cleaned up; it is safe to run this again."
        module.fail_json(msg=f"Stopped by {exc}. {left}")
    except Exception as exc:  # noqa: BLE001 - a defect of ours: say so, and keep the trace for the report
        text = f"Internal error in {module._name}: {type(exc).__name__}: {exc}."
        module.fail_json(msg=f"{text} Please report it with the output of -vvv.", exception=traceback.format_exc())
    for text in result.warnings:
        module.warn(text)
    values = dict(result.values)
    if result.diff is not None:
        values["diff"] = result.diff
    if result.failure is not None:
        module.fail_json(msg=result.failure, changed=result.changed, **values)
    module.exit_json(changed=result.changed, **values)
