# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a report on the controller: in one step, where the modules for files would take a process for each of ten."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339, utc_now
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._files import host_folder, one_part, replace_text
from ansible_collections.godel.postgres_runbook.plugins.plugin_utils._report import About, build

SPEC = {
    "directory": {"type": "str", "required": True},
    "playbook": {"type": "str", "required": True},
    "title": {"type": "str", "required": True},
    "result": {"type": "dict", "required": True},
    "database": {"type": "str", "default": ""},
    "columns": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible has no types
    """The action; its documentation is in plugins/modules/write_report.py."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write the report, and say where."""
        outcome: dict[str, Any] = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=SPEC)
        host = str((task_vars or {})["inventory_hostname"])
        about = About(
            playbook=options["playbook"],
            title=options["title"],
            host=host,
            database=options["database"],
            time=to_rfc3339(utc_now()),
        )
        report = build(options["result"], about, options["columns"])
        texts = {"json": report.as_json(), "md": report.as_markdown(), "html": report.as_html()}
        folder = host_folder(options["directory"], host)
        paths = {suffix: os.path.join(folder, f"{one_part(about.playbook)}.{suffix}") for suffix in texts}
        if not self._task.check_mode:
            try:
                os.makedirs(folder, mode=0o755, exist_ok=True)
                for suffix, path in paths.items():
                    replace_text(path, texts[suffix])
            except OSError as exc:
                raise AnsibleActionFail(
                    f"Writing the report failed on the controller ({folder}): {exc.strerror}. "
                    "Set postgres_report_dir to a directory that the account that runs Ansible can write to."
                ) from None
        # A report tells the time of the run, so that it is new each time; what the play is about has not changed by it.
        outcome.update(changed=False, severity=report.severity, paths=paths)
        return outcome
