# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The procedures that swap databases while the application is stopped: a restore, and its rollback.

What an interrupted run leaves is in the server and in the cluster (marks of databases, an annotation of the workload):
the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._application import Application
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._managed_host import (
    ManagedHost,
    ModuleResult,
    refuse_failure,
)
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import (
    ProcedureFailed,
    Step,
    StepFailed,
    run,
)

RESTORE = "godel.postgres_runbook.pg_restore"
SWAP = "godel.postgres_runbook.pg_database_swap"
BACKUP = "godel.postgres_runbook.pg_backup"


@dataclass(frozen=True)
class ModuleOptions:
    """Options of the modules that a procedure runs; those of the swap but `replacement`."""

    db: str
    swap: Mapping[str, Any]
    restore: Mapping[str, Any] = field(default_factory=dict)
    backup: Mapping[str, Any] | None = None  # None: no safety backup
    application_down: bool = False


class _SwapProcedure:
    """What both have in common.

    Attributes:
        swapped: the result of the swap, also that of a failed one; empty as long as it was not tried.
        exchanging: whether the application may have been stopped, or a database swapped.
    """

    def __init__(self, host: ManagedHost, application: Application, options: ModuleOptions) -> None:
        self._host = host
        self._application = application
        self._options = options
        self.swapped: ModuleResult = {}
        self.exchanging = False

    def run(self) -> dict[str, Any]:
        """Run it; the result of the task."""
        try:
            run(self._steps())
        except ProcedureFailed as exc:
            unreachable = isinstance(exc.cause, StepFailed) and exc.cause.unreachable and not self.exchanging
            return {**self._result(str(exc)), ("unreachable" if unreachable else "failed"): True}
        return {**self._result(""), "failed": False}

    def _steps(self) -> Iterator[Step]:
        raise NotImplementedError

    def _result(self, failure: str) -> dict[str, Any]:
        raise NotImplementedError

    def _look(self) -> Iterator[Step]:
        """See what can be seen of the application before anything is done."""
        if self._application.is_managed:
            yield Step(self._application.look, undo=self._resume)

    def _resume(self) -> Iterable[str]:
        return () if self._host.check_mode else self._application.resume()

    def _execute(self, what: str, module: str, args: Mapping[str, Any], *, check_mode: bool = False) -> ModuleResult:
        self._host.say(what)
        return self._host.execute(module, args, check_mode=check_mode or self._host.check_mode)

    def _stop(self) -> None:
        self.exchanging = True
        self._application.stop()

    def _swap(self, what: str, replacement: str) -> None:
        # Until the module answers, it may have done anything.
        self.swapped = {"failed": True}
        self.swapped = self._execute(what, SWAP, {**self._options.swap, "replacement": replacement})
        refuse_failure(what, self.swapped)

    def _start_with_what_is_there(self) -> Iterator[str]:
        """Start the application that was stopped, after something failed."""
        yield self._in_production()
        self._application.start()
        if self._application.has_health:
            yield "The application was started again and is healthy."

    def _in_production(self) -> str:
        """Which database is in production after a failure."""
        db = self._options.db
        if self.swapped.get("live"):
            return f"The restored database stays in production as {db}: there is no previous database to swap back."
        if not self.swapped or _is_known_not_swapped(self.swapped):
            return "Nothing was swapped: production is unchanged."
        return (
            f"It is unknown whether the databases were swapped: one of the two, complete, is in production as {db}. "
            "Run this again."
        )


def _is_known_not_swapped(result: ModuleResult) -> bool:
    """Whether the module has said so. One that was killed says nothing."""
    return (result.get("error") or {}).get("swapped", "?") is False


class Restore(_SwapProcedure):
    """Stage a backup and swap it in; swap back if the application is not healthy then."""

    def __init__(self, host: ManagedHost, application: Application, options: ModuleOptions) -> None:
        super().__init__(host, application, options)
        self.staged: ModuleResult = {}
        self.returned: ModuleResult = {}

    def _steps(self) -> Iterator[Step]:
        application = self._application
        yield from self._look()
        yield Step(lambda: application.reach(has_to_answer=not self._options.application_down))
        yield Step(self._stage)
        if self._host.check_mode:
            return
        if self.staged.get("stage") is None:
            if application.is_managed:
                yield Step(application.start_again, undo=self._point_to_rollback, keeps_earlier=True)
            return
        if self._options.backup is not None:
            yield Step(self._back_up)
        yield Step(
            self._stop,
            undo=self._start_with_what_is_there,
            undo_fails="Starting the application again failed, too",
            keeps_earlier=True,
        )
        yield Step(
            lambda: self._swap("Swap the staged database into production", self.staged["stage"]["name"]),
            undo=self._swap_back,
            undo_fails="The previous database could not be swapped back",
        )
        yield Step(
            application.start,
            undo=self._stop_again,
            undo_fails="The application could not be stopped before the swap back",
        )

    def _stage(self) -> None:
        what = "Restore the backup next to production and verify it"
        self.staged = self._execute(what, RESTORE, self._options.restore)
        refuse_failure(what, self.staged)
        for text in _remarks(self.staged):
            self._host.say(text)

    def _back_up(self) -> None:
        what = "Take a safety backup of the current database"
        refuse_failure(what, self._execute(what, BACKUP, self._options.backup or {}))

    @property
    def _former(self) -> str:
        """The name of the database that was in production; empty if nothing was replaced, as far as is known."""
        return str(self.swapped.get("replaced") or "")

    def _stop_again(self) -> Iterable[str]:
        # An application that died of the restored data cannot always be stopped. The swap ends its sessions anyway.
        if self._former:
            self._application.stop()
        return ()

    def _swap_back(self) -> Iterable[str]:
        if self._former:
            what = "Swap the previous database back"
            args = {**self._options.swap, "replacement": self._former, "grace": "0"}
            self.returned = self._execute(what, SWAP, args)
            refuse_failure(what, self.returned)
        return ()

    def _point_to_rollback(self) -> Iterable[str]:
        yield (
            "An earlier run restored the database that is in production. If this database is the cause, run the "
            "playbook "
            "godel.postgres_runbook.restore_rollback to swap the previous database back."
        )

    def _in_production(self) -> str:
        if not self._former:
            return super()._in_production()
        db = self._options.db
        if self.returned.get("live"):
            kept = self.returned.get("replaced")
            return (
                "The previous database was swapped back: production is as it was before the restore. "
                f"The restored database is kept as {kept}."
            )
        if _is_known_not_swapped(self.returned):
            return f"The restored database is still in production as {db}; the previous database is {self._former}."
        return (
            "It is unknown whether the databases were swapped back: one of the two, complete, is in production as "
            f"{db}."
        )

    def _result(self, failure: str) -> dict[str, Any]:
        said = [self.staged.get("msg"), self.swapped.get("msg")]
        replaced = None if self.returned.get("live") else self.swapped.get("replaced")
        return {
            **self.staged,
            "changed": any([self.staged.get("changed"), self.swapped.get("changed"), self._application.changed]),
            "msg": failure or " ".join(str(text) for text in said if text),
            "swap": {
                "downtime_s": self.swapped.get("downtime_s"),
                "replaced": replaced,
                "attempts": self.swapped.get("attempts"),
                "ended_sessions": len(self.swapped.get("ended_sessions") or ()),
            },
        }


def _remarks(staged: ModuleResult) -> Iterator[str]:
    """What the operator should read before the swap."""
    preflight = staged.get("preflight") or {}
    if preflight.get("change_count"):
        yield f"{staged.get('msg')} The backup is of {preflight.get('backup_taken') or 'an unknown time'}."
    for finding in staged.get("findings") or ():  # what pg_dump does not carry
        if str(finding["check"]).startswith(("lost_", "unread_")) and finding["severity"] != "info":
            yield str(finding["message"])
    stage = staged.get("stage") or {}
    if stage.get("lost"):
        yield f"{stage['backup']} is restored although it lacks definitions (option accept): {'; '.join(stage['lost'])}"


class Rollback(_SwapProcedure):
    """Swap the previous database back."""

    def __init__(self, host: ManagedHost, application: Application, options: ModuleOptions) -> None:
        super().__init__(host, application, options)
        self.expected: ModuleResult = {}

    def _steps(self) -> Iterator[Step]:
        application = self._application
        yield from self._look()
        # It may be down because of what is rolled back.
        yield Step(lambda: application.reach(has_to_answer=False))
        yield Step(self._expect)
        if self._host.check_mode:
            return
        if self.expected.get("changed"):
            yield Step(
                self._stop,
                undo=self._start_with_what_is_there,
                undo_fails="Starting the application again failed, too",
                keeps_earlier=True,
            )
            yield Step(lambda: self._swap("Swap the previous database back", "replaced"))
            yield Step(application.start, keeps_earlier=True)
        elif application.is_managed:
            yield Step(application.start_again, keeps_earlier=True)

    def _expect(self) -> None:
        """See whether there is anything to do."""
        what = "Find the database to swap back"
        args = {**self._options.swap, "replacement": "replaced"}
        self.expected = self._execute(what, SWAP, args, check_mode=True)
        refuse_failure(what, self.expected)

    def _result(self, failure: str) -> dict[str, Any]:
        done = self.swapped if self.swapped.get("msg") else self.expected
        swapped = self.swapped.get("msg") if self.swapped.get("live") else ""
        changed = self._host.check_mode and bool(self.expected.get("changed"))
        diff = {"diff": self.expected["diff"]} if "diff" in self.expected else {}
        return {
            **done,
            **diff,
            "changed": changed or bool(self.swapped.get("changed")) or self._application.changed,
            "msg": " ".join(filter(None, [swapped, failure])) if failure else done.get("msg", ""),
        }
