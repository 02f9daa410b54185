# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: human_size
short_description: Format a size
version_added: 0.1.0
description:
  - Formats a number of bytes with a binary unit, as the reports and messages of this collection do.
author:
  - The godel.postgres_runbook authors (@godel)
positional: _input
options:
  _input:
    description: The size in bytes.
    type: float
    required: true
seealso:
  - plugin: godel.postgres_runbook.human_duration
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show how large the backups are
  ansible.builtin.debug:
    msg: "{{ catalog.total_size_bytes | godel.postgres_runbook.human_size }}" # 2.1 GiB
"""

RETURN = r"""
_value:
  description: The size with its unit.
  type: str
  sample: 2.1 GiB
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import human_size as _human_size


def human_size(size_bytes: Any) -> str:
    """The filter."""
    try:
        return _human_size(float(size_bytes))
    except (TypeError, ValueError):
        raise AnsibleFilterError(f"human_size takes a number of bytes, not {size_bytes!r}.") from None


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """The filters by name."""
        return {"human_size": human_size}
