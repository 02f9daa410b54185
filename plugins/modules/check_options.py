#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: check_options
short_description: Check the options of a role of this collection before it does anything
version_added: 0.1.0
description:
  - Ansible ignores a variable that no task reads, so that a misspelt option has no effect. This action compares the names of all variables
    with the options of the roles of this collection. It fails on a misspelt one, and the message suggests the most similar name.
  - On the command line, in a survey of AWX, or among the parameters of the role, any other variable whose name begins like an option of
    this collection is an error. In an inventory or a play, only a misspelt name is an error. Any other name that begins with the name of
    the role causes a warning.
  - Keys of dictionaries, such as C(postgres_login), are checked in the same way.
  - The message also lists required options that are missing and values that are invalid.
  - Every role of this collection runs this action first, through the role P(godel.postgres_runbook.check_options#role).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  role:
    description: Name of the role that is about to run, for example V(backup).
    type: str
    required: true
  ignore:
    description: Names of your own variables that are not checked, as shell patterns, for example V(backup_window_*).
    type: list
    elements: str
    default: []
  required_if:
    description:
      - Options that are required if another option has a value. Each entry is a list of the other option, its value, and the options that
        are then required, as in C(required_if) of a module.
    type: list
    elements: list
    default: []
extends_documentation_fragment: [godel.postgres_runbook.attributes.controller]
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
"""

EXAMPLES = r"""
- name: Check the options of the role backup
  godel.postgres_runbook.check_options:
    role: backup
    ignore: [backup_window_host]
"""

RETURN = r"""
msg:
  description: The errors, and for each misspelt name the most similar one.
  type: str
  returned: failure
  sample: >-
    Invalid variable: 'restore_bakcup' on the command line is not an option of this collection. Did you mean restore_backup? Nothing was
    done. See ansible-doc -t role godel.postgres_runbook.restore for the options. A variable of your own can be listed in
    check_options_ignore.
"""
