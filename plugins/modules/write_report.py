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
  - Turns the result of any module of this collection into a report, with the worst finding on top.
  - A failed result makes a report as well, with the failure as its worst finding, so that an old report never hides a new failure.
  - The HTML is one file that loads nothing. All text from servers is escaped.
  - The playbooks of this collection use it when C(postgres_report_dir) is set.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  directory:
    description:
      - Directory on the controller. The files are C(<directory>/<inventory_hostname>/<playbook>.json), C(.md) and
        C(.html). Missing directories are created.
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
    description: The result of the module, as C(register) keeps it.
    type: dict
    required: true
  database:
    description: The database that the result is about, if it is about one.
    type: str
    default: ""
  columns:
    description:
      - The columns of tables in Markdown and HTML, by the name of the return value. Other tables show all columns.
      - The JSON file has all values.
    type: dict
    default: {}
attributes:
  action:
    description: Runs on the controller, and asks nothing of the host.
    support: full
  check_mode:
    description: Writes nothing, and returns the paths.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
  platform:
    description: Where it can run.
    platforms: posix
    support: full
notes:
  - It never reports a change, although each report has the time of its run.
seealso:
  - module: godel.postgres_runbook.pg_backup_info
"""

EXAMPLES = r"""
- name: Judge the backups
  godel.postgres_runbook.pg_backup_info:
    backup_dir: /backups
    rpo: 1h
  register: catalog

- name: Write the report
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
