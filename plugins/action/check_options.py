# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the options of a role before it does anything: their names, and then their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _command_line, _option_names, _specs
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._option_names import GivenVariables

SPEC = {
    "role": {"type": "str", "required": True},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "required_if": {"type": "list", "elements": "list", "default": []},
}
_HELP = "See ansible-doc -t role {role} for the options."


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/check_options.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Fail for what is misspelt, missing, or of a wrong type; warn of what has no effect."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, wanted = self.validate_argument_spec(argument_spec=SPEC)
        role, variables = wanted["role"], task_vars or {}
        if role not in _specs.options():
            raise AnsibleActionFail(f"Invalid role: {role!r} is not a role of this collection.")
        run = _command_line.ours(context.CLIARGS.get("args") or (), self._loader.load_from_file)
        given = GivenVariables(variables, load_extra_vars(self._loader), self._given_to_the_role(), wanted["ignore"])
        found = _option_names.examine(role, given, run.roles if run else None)
        values = self._values(role, variables)
        errors = [*found.errors, *_option_names.wrong_keys(role, values)]
        errors += _wrong_values(role, values, variables, wanted["required_if"])
        if errors:
            own = f" A variable of your own can be listed in {_option_names.WAY_OUT}." if found.errors else ""
            help_text = _HELP.format(role=f"{_specs.COLLECTION}.{role}")
            raise AnsibleActionFail(f"{' '.join(errors)} Nothing was done. {help_text}{own}")
        outcome.update(changed=False, warnings=list(found.warnings))
        return outcome

    def _given_to_the_role(self) -> set[str]:
        """The names that stand at the role, or at the task that includes it, in a play."""
        names = set(self._task.get_vars())
        role = getattr(self._task, "_role", None)
        if role is not None:
            chain = self._task.get_dep_chain() or []
            names |= set(role.get_role_params(chain))
            for parent in (*chain, role):
                names |= set(parent.vars or {})
        return names

    def _values(self, role: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The values of the role's options, as far as they can be evaluated here; a task that needs others says so."""
        found = {}
        for name in _specs.options()[role]:
            if name in variables:
                try:
                    found[name] = self._templar.template(variables[name])
                except AnsibleError:
                    continue
        return found


def _wrong_values(
    role: str, values: Mapping[str, Any], variables: Mapping[str, Any], required_if: Iterable[Sequence[Any]]
) -> Iterable[str]:
    """What Ansible's own validation would say, without the whole specification around it."""
    options = _specs.options()[role]
    missing = [name for name, option in options.items() if option.get("required") and name not in variables]
    for name in missing:
        said = options[name]["description"]
        about = (said if isinstance(said, str) else said[0]).partition(". ")[0].rstrip(".")
        yield f"Missing {name}: {about}. Set it in the inventory, or with -e {name}=..."
    # What could not be evaluated is there all the same.
    asked = {name: {**option, "required": False} for name, option in options.items()}
    validated = ArgumentSpecValidator(asked).validate(dict(values), validate_role_argument_spec=True)
    for error in validated.error_messages:
        if "supported parameters" not in error.lower():  # the keys are judged before, and by their nearest words
            yield f"{error.rstrip('.')}.{_unnamed_value(error, values)}"
    found = validated.validated_parameters
    for option, value, needed in required_if:
        for name in needed if found.get(option) == value else ():
            if not found.get(name):
                yield f"Missing {name}: {option} requires it. Set it in the inventory, or with -e {name}=..."


def _unnamed_value(error: str, values: Mapping[str, Any]) -> str:
    """The value that an error is about, if it names the option alone: before 2.19 that is so for types."""
    for name in sorted(values, key=len, reverse=True):
        if name in error and isinstance(values[name], (str, int, float)):
            return "" if str(values[name]) in error else f" The value is {str(values[name])!r}."
    return ""
