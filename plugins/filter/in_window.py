# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: in_window
short_description: Test whether a maintenance window is open
version_added: 0.1.0
description:
  - Returns whether a maintenance window is open now. The window has the same keys as the option
    O(godel.postgres_runbook.pg_vacuum#module:window).
  - An empty window is always open.
author:
  - The godel.postgres_runbook authors (@godel)
positional: _input
options:
  _input:
    description: The window, with C(start) and C(end), and optionally C(days) and C(timezone). It may be empty.
    type: dict
    required: true
seealso:
  - module: godel.postgres_runbook.pg_vacuum
"""

EXAMPLES = r"""
- name: Start a long task only at night
  ansible.builtin.include_role:
    name: godel.postgres_runbook.reindex
  when: "{'start': '22:00', 'end': '05:00', 'timezone': 'Europe/Berlin'} | godel.postgres_runbook.in_window"
"""

RETURN = r"""
_value:
  description: Whether the window is open.
  type: bool
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._maintenance.window import Window
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now


def in_window(words: Any) -> bool:
    """The filter."""
    if not words:
        return True
    if not isinstance(words, Mapping) or not {"start", "end"} <= words.keys():
        raise AnsibleFilterError(f"in_window takes a window with start and end, not {words!r}.")
    try:
        return Window.parse(words).at(utc_now()) is not None
    except InvalidInput as exc:
        raise AnsibleFilterError(exc.message) from None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., bool]]:
        """The filters by name."""
        return {"in_window": in_window}
