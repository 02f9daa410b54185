#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: write_report
short_description: Write the result of a module as JSON, Markdown and HTML on the controller
version_added: 0.1.0
description:
  - Turns the result of any module of this collection into a report, findings first and the worst of them on top.
  - A failed result makes a report as well, with the failure as its worst finding, so that an old report never stands
    for a new failure.
  - The HTML is one file that loads nothing. Everything that came from a server is escaped.
  - The playbooks of this collection use it when C(postgres_report_dir) is set.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  directory:
    description:
      - Directory on the controller. The files are C(<directory>/<inventory_hostname>/<playbook>.json), C(.md) and
        C(.html). Directories are created if need be.
    type: str
    required: true
  playbook:
    description: Name of the playbook that the report is of, and of the files.
    type: str
    required: true
  title:
    description: Heading of the report.
    type: str
    required: true
  result:
    description: What the module returned, as C(register) keeps it.
    type: dict
    required: true
  database:
    description: The database, if there is one that all of it is about.
    type: str
    default: ""
  columns:
    description:
      - Which columns a table shows in Markdown and HTML, by the name of the return value. A value that is not named
        here shows all of them.
      - The JSON has everything.
    type: dict
    default: {}
attributes:
  action:
    description: Runs on the controller, and asks nothing of the host.
    support: full
  check_mode:
    description: Writes nothing, and says where it would.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Where it can run.
    platforms: posix
    support: full
notes:
  - It never reports a change. A report tells the time of the run, so that it is new each time.
seealso:
  - module: godel.postgres_runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Judge the backups
  godel.postgres_runbook.pg_backup_info:
    backup_dir: /backups
    rpo: 1h
  register: catalog

- name: Write a page for people and a document for programs
  godel.postgres_runbook.write_report:
    directory: /srv/reports
    playbook: nightly
    title: Backups
    result: "{{ catalog }}"
    columns:
      backups: [id, age_s, size_bytes, verdict]
"""

RETURN = r"""
paths:
  description: The files, C(json), C(md) and C(html).
  returned: success
  type: dict
  sample:
    json: /srv/reports/db1/nightly.json
    md: /srv/reports/db1/nightly.md
    html: /srv/reports/db1/nightly.html
severity:
  description: The worst of the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: ok
"""
