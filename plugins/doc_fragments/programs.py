# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of every module that runs PostgreSQL's programs."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  bin_dir:
    description:
      - Directory of PostgreSQL's programs.
      - When it is left out, the usual places of packages are searched for the server's major version, then for a newer one.
    type: path
"""
