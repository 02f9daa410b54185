# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: human_duration
short_description: Format a duration
version_added: 0.1.0
description:
  - Formats a number of seconds with its two largest units, as the reports and messages of this collection do.
author:
  - The godel.postgres_runbook authors (@godel)
positional: _input
options:
  _input:
    description: The duration in seconds.
    type: float
    required: true
seealso:
  - plugin: godel.postgres_runbook.human_size
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show how long the backup took
  ansible.builtin.debug:
    msg: "{{ taken.backup.duration_s | godel.postgres_runbook.human_duration }}" # 2 min 5 s
"""

RETURN = r"""
_value:
  description: The duration with its units.
  type: str
  sample: 2 min 5 s
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import human_duration as _human_duration


def human_duration(duration_s: Any) -> str:
    """The filter."""
    try:
        return _human_duration(float(duration_s))
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"human_duration takes a number of seconds, not {duration_s!r}.") from None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters by name."""
        return {"human_duration": human_duration}
