# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that a procedure works on: it runs modules there, and describes their failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import StepFailed

ModuleResult = Mapping[str, Any]


class ManagedHost(Protocol):
    """Runs modules, and tells the operator how far it is."""

    check_mode: bool

    def execute(self, module: str, args: Mapping[str, Any], *, check_mode: bool) -> ModuleResult:
        """Run a module, and return its result, also that of a failure. Raises StepFailed if the host is unreachable."""

    def say(self, text: str) -> None:
        """Show a line while the procedure runs."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


def failed(result: ModuleResult) -> bool:
    """Whether a module failed."""
    return bool(result.get("failed")) or result.get("rc", 0) != 0


def refuse_failure(what: str, result: ModuleResult) -> ModuleResult:
    """The result. Raises StepFailed if it is one; `what` was to be done."""
    if failed(result):
        raise StepFailed(_reason(what, result))
    return result


def _reason(what: str, result: ModuleResult) -> str:
    message = str(result.get("msg") or "it failed").strip()
    if "error" in result:  # a module of this collection: its message has all of it
        return message
    return ": ".join(filter(None, [what, message.rstrip("."), str(result.get("stderr") or "").strip()]))
