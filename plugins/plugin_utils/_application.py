# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application of a database: stop it, start it, and check its health."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._plan import Plan
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._managed_host import (
    ManagedHost,
    ModuleResult,
    failed,
    refuse_failure,
)
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import StepFailed, reason

SCALE = "godel.postgres_runbook.workload_scale"
COMMAND = "ansible.builtin.command"
URI = "ansible.builtin.uri"
_ANSWER_S = 10
_NO_ADDRESS = re.compile(r"Errno -[0-9]")  # getaddrinfo() alone has negative ones, see gai_strerror(3)


@dataclass(frozen=True)
class ApplicationOptions(Plan):
    """How an application is stopped and started, and how its health is checked.

    Attributes:
        scale: options of the module workload_scale but `state`; None if it is not scaled.
        stop_command, start_command: a program and its arguments; None for none.
        health_url: None or empty if its health is not checked.
        health_body: a regular expression that the answer has to contain; None or empty for any answer.
        health_retries: how many times to ask again, `health_delay_s` seconds after the time before.
    """

    scale: Mapping[str, Any] | None = None
    stop_command: list[str] | None = None
    start_command: list[str] | None = None
    health_url: str | None = None
    health_status: tuple[int, ...] = (200,)
    health_body: str | None = None
    health_retries: int = 0
    health_delay_s: float = 0.0


class Application:
    """An application on, or beside, a managed host.

    Attributes:
        changed: whether it was stopped or started.
        remembered: how many replicas an earlier run has left to be restored; None if it has not.
    """

    def __init__(self, host: ManagedHost, options: ApplicationOptions) -> None:
        self._host = host
        self._options = options
        self.changed = False
        self.remembered: int | None = None

    @property
    def is_managed(self) -> bool:
        """Whether there is a way to stop or to start it."""
        options = self._options
        return bool(options.scale or options.stop_command or options.start_command)

    @property
    def has_health(self) -> bool:
        """Whether its health can be checked."""
        return bool(self._options.health_url)

    def look(self) -> None:
        """See that it can be stopped and started, and what an earlier run has left. Changes nothing."""
        if self._options.scale is not None:
            result = self._scale("stopped", "Check that the application can be stopped and started", check_mode=True)
            self.remembered = result["workload"]["remembered"]

    def reach(self, *, has_to_answer: bool) -> None:
        """Raise StepFailed if the host of its URL has no address, or if nothing answers and that is not expected.

        After a swap, such a URL would count as an unhealthy application, and cost a swap back. Any answer will do: an
        unhealthy application may be the reason for a restore. One that an earlier run has stopped cannot answer.
        """
        if not self.has_health or self.remembered is not None:
            return
        self._host.say("Check that the health URL can be reached")
        url = self._options.health_url
        answer = self._host.execute(URI, {"url": url, "timeout": _ANSWER_S}, check_mode=False)
        if int(answer.get("status") or -1) > 0:
            return
        why = str(answer.get("msg") or "no reason").strip().rstrip(".")
        remedy = "Correct the URL."
        if not _NO_ADDRESS.search(why):
            if not has_to_answer:
                return
            remedy = "Correct the URL, start the application, or set application_down to true if it is down on purpose."
        raise StepFailed(
            f"Invalid health_url: {url} does not answer ({why}). After the swap the application would count as "
            f"unhealthy. Nothing was done. {remedy}"
        )

    def stop(self) -> None:
        """Stop it."""
        if self._options.stop_command:
            self._command("Stop the application", self._options.stop_command, changes=True)
        if self._options.scale is not None:
            self._scale("stopped", "Stop the application")

    def start(self, *, changes: bool = True) -> None:
        """Start it, and check its health. `changes`: whether its start command counts as a change."""
        if self._options.start_command:
            self._command("Start the application", self._options.start_command, changes=changes)
        if self._options.scale is not None:
            self._scale("running", "Start the application")
        self._check_health()

    def start_again(self) -> None:
        """Start it where nothing was swapped, in case an earlier run has stopped it.

        A healthy one is not started. A command has no memory: without a URL, it has to succeed for one that runs.
        """
        if self._options.scale is None and self.has_health and self._why_unhealthy() is None:
            return
        self.start(changes=self.has_health)

    def resume(self) -> Iterator[str]:
        """Start what an earlier run has scaled down, after a run that has not stopped it failed."""
        if self._options.start_command:
            yield "The application was neither stopped nor started. If an earlier run stopped it, start it."
        if self.remembered is None:
            return
        try:
            self._scale("running", "Start the application that an earlier run has stopped")
        except StepFailed as exc:
            yield f"An earlier run had stopped the application, and it could not be started again: {reason(exc)}"
        else:
            yield "An earlier run had stopped the application: it was started again."

    def _scale(self, state: str, what: str, *, check_mode: bool = False) -> ModuleResult:
        self._host.say(what)
        args = {**(self._options.scale or {}), "state": state}
        result = refuse_failure(what, self._host.execute(SCALE, args, check_mode=check_mode))
        self.changed = self.changed or (bool(result.get("changed")) and not check_mode)
        return result

    def _command(self, what: str, argv: list[str], *, changes: bool) -> None:
        self._host.say(what)
        refuse_failure(what, self._host.execute(COMMAND, {"argv": argv}, check_mode=False))
        self.changed = self.changed or changes

    def _check_health(self) -> None:
        """Raise StepFailed if it does not become healthy."""
        if not self.has_health:
            return
        self._host.say("Check the health of the application")
        why = self._why_unhealthy()
        for dummy in range(max(self._options.health_retries, 0)):
            if why is None:
                return
            self._host.sleep(self._options.health_delay_s)
            why = self._why_unhealthy()
        if why is not None:
            raise StepFailed(f"The application is unhealthy: {why}.")

    def _why_unhealthy(self) -> str | None:
        """Why it is not healthy; None if it is."""
        options = self._options
        url = options.health_url
        asked = {
            "url": url,
            "status_code": list(options.health_status),
            "return_content": True,
            "timeout": _ANSWER_S,
        }
        answer = self._host.execute(URI, asked, check_mode=False)
        status = int(answer.get("status") or -1)
        if status not in options.health_status:
            message = str(answer.get("msg") or "it does not answer").strip().rstrip(".")
            return f"{url} answers with status {status}" if status > 0 else f"{url}: {message}"
        if options.health_body and not re.search(options.health_body, str(answer.get("content") or "")):
            return f"the answer of {url} does not contain {options.health_body}"
        return f"{url}: {answer.get('msg')}" if failed(answer) else None
