# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of the collection has in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Runs all queries and preflight checks, reports what would be done, and changes nothing.
    support: full
  diff_mode:
    description: Shows what was, or would be, changed.
    support: full
  platform:
    description: Where the module can run.
    platforms: posix
    support: full
  action_group:
    description: Options can be set once for all modules in C(module_defaults) with this group.
    support: full
    membership:
      - godel.postgres_runbook.all
"""

    READ_ONLY = r"""
options: {}
attributes:
  check_mode:
    description: The module changes nothing, and does the same in check mode.
    support: full
  diff_mode:
    description: The module changes nothing, and shows no difference.
    support: none
  platform:
    description: Where the module can run.
    platforms: posix
    support: full
  action_group:
    description: Options can be set once for all modules in C(module_defaults) with this group.
    support: full
    membership:
      - godel.postgres_runbook.all
"""

    ACTION = r"""
options: {}
attributes:
  action:
    description: Runs on the controller, and runs modules on the managed host.
    support: full
"""

    CONTROLLER = r"""
options: {}
attributes:
  action:
    description: Runs on the controller, and connects to no host.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Where it can run.
    platforms: posix
    support: full
"""
