# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a restore or a rollback: modules on the managed host, one after the other, and what undoes them if one fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.executor import module_common
from ansible.plugins.action import ActionBase

from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import (
    CONNECTION,
    DATABASE,
    KUBERNETES,
    PROGRAMS,
    ArgumentSpec,
    between,
    duration,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore_options import ALLOW, STAGE, SWAP
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._application import Application, ApplicationOptions
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._restore_procedure import (
    ModuleOptions,
    Restore,
    Rollback,
)
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._steps import StepFailed

_CLUSTER = {
    name: option
    for name, option in KUBERNETES.options["kubernetes"]["options"].items()
    if name not in ("namespace", "workload", "container")
}
_COMMAND = {"type": "list", "elements": "str"}
OWN = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["restored", "rolled_back"], "required": True},
        "backup_dir": {"type": "path"},
        "safety_backup": {"type": "bool", "default": False},
        "application": {
            "type": "dict",
            "options": {
                "namespace": {"type": "str"},
                "workload": {"type": "str"},
                **_CLUSTER,
                "timeout": duration("5m"),
                "stop_command": _COMMAND,
                "start_command": _COMMAND,
            },
            "required_together": [["namespace", "workload"]],
        },
        "application_down": {"type": "bool", "default": False},
        "health_url": {"type": "str"},
        "health_status": {"type": "list", "elements": "int", "default": [200]},
        "health_body": {"type": "str"},
        "health_retries": between(0, None, 30),
        "health_delay_s": between(0, None, 2),
    }
)
SPEC = OWN.merge(STAGE, SWAP, ALLOW, CONNECTION, DATABASE, PROGRAMS, KUBERNETES)
_EVERYWHERE = (*CONNECTION.options, *DATABASE.options, *KUBERNETES.options)
_OPTIONS = {
    "swap": (*_EVERYWHERE, *SWAP.options, *ALLOW.options),
    "restore": (*_EVERYWHERE, *STAGE.options, *ALLOW.options, *PROGRAMS.options, "backup_dir"),
    "backup": (*_EVERYWHERE, *PROGRAMS.options, "backup_dir"),
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/restore_procedure.py."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the procedure; the result is that of pg_restore or pg_database_swap, with what came of it."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, checked = self.validate_argument_spec(
            argument_spec=SPEC.options, required_if=[["state", "restored", ["backup_dir"]]]
        )
        try:
            options = SPEC.read(checked)
        except InvalidInput as exc:
            raise AnsibleActionFail(exc.message) from None
        host = _Host(self, dict(task_vars or {}))
        chosen = Restore if options["state"] == "restored" else Rollback
        given = self._task.args  # as the operator wrote them: a path such as ~/backups is one of the managed host
        procedure = chosen(host, Application(host, _application(options, given)), _modules(options, given))
        outcome.update(procedure.run())
        for name, values in host.noted.items():
            outcome[name] = [*outcome.get(name, []), *values]
        if host.facts:
            outcome["ansible_facts"] = host.facts
        return outcome

    def execute(self, module: str, args: Mapping[str, Any], task_vars: dict[str, Any], *, check_mode: bool) -> Any:
        """Run a module on the managed host, with what `module_defaults` say of it."""
        with _check_mode(self._task, check_mode):
            return self._execute_module(
                module_name=module, module_args=self._with_defaults(module, args), task_vars=task_vars
            )

    def _with_defaults(self, module: str, args: Mapping[str, Any]) -> dict[str, Any]:
        # As the actions `package` and `service` do it. There is no way that all releases of ansible-core have.
        apply = getattr(module_common, "_apply_action_arg_defaults", None)
        if apply is not None:  # 2.19
            return dict(apply(module, self._task, dict(args), self._templar))
        groups = self._task._parent._play._action_groups
        defaults = self._task.module_defaults
        return dict(
            module_common.get_action_args_with_defaults(
                module, dict(args), defaults, self._templar, action_groups=groups
            )
        )

    def show(self, text: str) -> None:
        """Show a line at once. Not among the output of callbacks, which may be JSON."""
        self._display.display(text, stderr=True)


class _Host:
    """The managed host of a task, for `ManagedHost`.

    Attributes:
        noted: warnings and deprecations of the modules.
        facts: what was found out of the host, such as its Python.
    """

    def __init__(self, action: ActionModule, task_vars: dict[str, Any]) -> None:
        self._action = action
        self._vars = task_vars
        self.check_mode = bool(action._task.check_mode)
        self.noted: dict[str, list[Any]] = {}
        self.facts: dict[str, Any] = {}

    def execute(self, module: str, args: Mapping[str, Any], *, check_mode: bool) -> Mapping[str, Any]:
        """Run a module, and return its result. Raises StepFailed if the host is unreachable."""
        try:
            result = dict(self._action.execute(module, args, self._vars, check_mode=check_mode))
        except AnsibleConnectionFailure as exc:
            raise StepFailed(f"The host could not be reached: {exc}", unreachable=True) from exc
        for name in ("warnings", "deprecations"):
            for each in result.pop(name, None) or []:
                if each not in self.noted.setdefault(name, []):
                    self.noted[name].append(each)
        self.facts.update(result.pop("ansible_facts", None) or {})
        result.pop("invocation", None)
        return result

    def say(self, text: str) -> None:
        """Show a line while the procedure runs."""
        self._action.show(f"[{self._vars['inventory_hostname']}] {text}")

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


@contextmanager
def _check_mode(task: Any, wanted: bool) -> Iterator[None]:
    """Let a module believe that it is check mode, or that it is not."""
    before = task.check_mode
    task.check_mode = wanted
    try:
        yield
    finally:
        task.check_mode = before


def _modules(options: Mapping[str, Any], given: Mapping[str, Any]) -> ModuleOptions:
    args = {module: _chosen(given, names) for module, names in _OPTIONS.items()}
    return ModuleOptions(
        db=options["db"],
        swap=args["swap"],
        restore=args["restore"],
        backup=args["backup"] if options["safety_backup"] else None,
        application_down=options["application_down"],
    )


def _chosen(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that are given, under the names under which they are."""
    aliases = {alias for name in names for alias in SPEC.options[name].get("aliases", ())}
    return {name: value for name, value in given.items() if name in names or name in aliases}


def _application(options: Mapping[str, Any], given: Mapping[str, Any]) -> ApplicationOptions:
    words = options["application"] or {}
    scale = None
    if words.get("workload"):
        scale = {
            "kubernetes": _cluster(given.get("kubernetes") or {}, given["application"]),
            "timeout": given["application"].get("timeout", "5m"),
        }
    return ApplicationOptions.from_params(
        options, scale=scale, stop_command=words.get("stop_command"), start_command=words.get("start_command")
    )


def _cluster(database: Mapping[str, Any], application: Mapping[str, Any]) -> dict[str, Any]:
    """The application's cluster: that of the database, but for what the application says."""
    found = {"namespace": application["namespace"], "workload": application["workload"]}
    for name, option in _CLUSTER.items():
        for words in (application, database):
            values = [words[key] for key in (name, *option.get("aliases", ())) if words.get(key) is not None]
            if values:
                found[name] = values[0]
                break
    return found
