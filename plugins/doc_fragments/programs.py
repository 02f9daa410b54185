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
      - Directory of the PostgreSQL programs, for example V(/usr/lib/postgresql/15/bin).
      - By default the usual directories of packages are searched for the major version of the server, then for a newer one.
    type: path
"""
