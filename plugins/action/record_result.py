# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record the result of a procedure on the controller: the job's statistics and the report, in one task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339, utc_now
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._files import host_folder, one_part, replace_text
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._report import ReportHeader, ResultReport, build

SPEC = {
    "playbook": {"type": "str", "required": True},
    "title": {"type": "str", "required": True},
    "result": {"type": "dict", "required": True},
    "summary": {"type": "dict", "default": {}},
    "directory": {"type": "str", "default": ""},
    "database": {"type": "str", "default": ""},
    "columns": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/record_result.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Set the statistics, write the report if there is a directory, and say where."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=SPEC)
        name = f"{options['playbook']}_result"
        if not name.isidentifier():
            raise AnsibleActionFail(
                f"Invalid playbook: {options['playbook']!r}. The statistics are set as the variable <playbook>_result. "
                "Use letters, digits and underscores."
            )
        host = str((task_vars or {})["inventory_hostname"])
        about = ReportHeader(
            playbook=options["playbook"],
            title=options["title"],
            host=host,
            database=options["database"],
            time=to_rfc3339(utc_now()),
        )
        report = build(options["result"], about, options["columns"])
        # A report tells the time of the run, so that it is new each time; what the play is about has not changed by it.
        outcome.update(changed=False, severity=report.severity)
        outcome["ansible_stats"] = {
            "data": {name: {host: statistics(options["result"], options["summary"])}},
            "per_host": False,
            "aggregate": True,
        }
        if options["directory"]:
            outcome.update(self._write(report, options["directory"]))
        return outcome

    def _write(self, report: ResultReport, directory: str) -> dict[str, Any]:
        """Write the files, and return their paths, or why they cannot be written.

        ansible-core drops the statistics of a task that fails (StrategyBase), so that this one must not: the role fails
        in its next task, when the statistics are set.
        """
        texts = {"json": report.as_json(), "md": report.as_markdown(), "html": report.as_html()}
        folder = host_folder(directory, report.about.host)
        paths = {suffix: os.path.join(folder, f"{one_part(report.about.playbook)}.{suffix}") for suffix in texts}
        if not self._task.check_mode:
            try:
                os.makedirs(folder, mode=0o755, exist_ok=True)
                for suffix, path in paths.items():
                    replace_text(path, texts[suffix])
            except OSError as exc:
                why = (
                    f"Writing the report failed on the controller ({folder}): {exc.strerror}. "
                    "Set postgres_report_dir to a directory that the account that runs Ansible can write to."
                )
                return {"report_error": why, "warnings": [why]}
        return {"paths": paths}


def statistics(result: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """One host's entry in the statistics. A module that did not run has no result, which counts as a failure."""
    return {
        "failed": not result or bool(result.get("failed") or result.get("unreachable")),
        "changed": bool(result.get("changed")),
        "message": str(result.get("msg") or ""),
        **summary,
    }
