# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep samples over time on the controller, beside the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import parse_duration, utc_now
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils import _history, _history_files
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._files import host_folder

SPEC = {
    "directory": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "sample": {"type": "dict"},
    "keep": {"type": "int", "default": 400},
    "older_than": {"type": "str"},
    "list_samples": {"type": "bool", "default": True},
    "most_samples": {"type": "int"},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/report_history.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Read the history, and add to it."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=SPEC)
        host = str((task_vars or {})["inventory_hostname"])
        path = _history_files.path_of(host_folder(options["directory"], host), options["name"])
        sample = options["sample"]
        try:
            older_than_s = None
            if options["older_than"] is not None:
                older_than_s = parse_duration(options["older_than"], "older_than")
            if sample is None or self._task.check_mode:
                samples, notes = _history_files.read(path)
            else:
                samples, notes = _history_files.add(path, sample, options["keep"], utc_now())
        except InvalidInput as exc:
            raise AnsibleActionFail(exc.message) from None
        except (ValueError, TypeError):
            raise AnsibleActionFail(
                f"Invalid collected_at in sample: {sample.get('collected_at')!r}. "
                "Leave it out, or write it like 2026-02-06T03:04:05Z."
            ) from None
        except OSError as exc:
            raise AnsibleActionFail(
                f"Keeping the history failed on the controller ({path}): {exc.strerror}. "
                "Set postgres_report_dir to a directory that the account that runs Ansible can write to."
            ) from None
        outcome.update(changed=False, path=path, sample_count=len(samples), notes=notes)
        most = len(samples) if options["most_samples"] is None else options["most_samples"]
        outcome["samples"] = _history.spread(samples, most) if options["list_samples"] else []
        if older_than_s is not None:
            outcome["baseline"] = _history.baseline(samples, older_than_s, utc_now())
        return outcome
