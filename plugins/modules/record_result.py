#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: record_result
short_description: Record the result of a module in the statistics of the job and as a report on the controller
version_added: 0.1.0
description:
  - Sets the variable C(<playbook>_result) for the job, as M(ansible.builtin.set_stats) does. It has one entry for each host, with
    C(failed), C(changed), C(message) and the keys of O(summary). AWX keeps it as an artifact.
  - With O(directory) it also writes the result as JSON, Markdown and HTML on the controller, the worst finding first.
  - A failed result is recorded as well. Its report has the failure as its worst finding, so that an old report never hides a new failure.
    An empty result, from a module that did not run, counts as failed.
  - The HTML is one file that loads nothing. All text from servers is escaped.
  - The task does not fail when the report cannot be written, because Ansible drops the statistics of a failed task. It warns, and
    returns RV(report_error). Fail in the next task, as the example does.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  playbook:
    description:
      - Name of the playbook, for example V(nightly). The variable and the files are named after it. Use letters, digits and underscores.
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
  summary:
    description:
      - Further keys for the statistics. V(failed), V(changed) and V(message) replace those of the result.
    type: dict
    default: {}
  directory:
    description:
      - Directory on the controller. The files are C(<directory>/<inventory_hostname>/<playbook>.json), C(.md) and
        C(.html). Missing directories are created.
      - When it is empty, no report is written.
    type: str
    default: ""
  database:
    description: The database, if the whole report is about one.
    type: str
    default: ""
  columns:
    description:
      - The columns that a table shows in Markdown and HTML, by the name of the return value. A value that is not named
        here shows all columns.
      - The JSON has everything.
    type: dict
    default: {}
extends_documentation_fragment: [godel.postgres_runbook.attributes.controller]
attributes:
  check_mode:
    description: Sets the statistics, writes no files, and returns their paths.
    support: full
notes:
  - The module never reports a change, because each report has the time of its run.
seealso:
  - module: godel.postgres_runbook.pg_backup_info
  - module: ansible.builtin.set_stats
"""

EXAMPLES = r"""
- name: Check the backups and record the result
  block:
    - name: Check the backups
      godel.postgres_runbook.pg_backup_info:
        backup_dir: /backups
        rpo: 1h
      register: catalog
  always:
    - name: Set nightly_result for the job, and write a report
      godel.postgres_runbook.record_result:
        playbook: nightly
        title: Backups
        result: "{{ catalog }}"
        summary: "{{ {'backups': catalog.backups | default([]) | length} }}"
        directory: /srv/reports
        columns:
          backups: [id, age_s, size_bytes, verdict]
      register: recorded

    - name: Fail if the report cannot be written
      ansible.builtin.fail:
        msg: "{{ recorded.report_error }}"
      when: recorded.report_error is defined
"""

RETURN = r"""
paths:
  description: The files, C(json), C(md) and C(html).
  returned: when O(directory) is set and the report could be written
  type: dict
  sample:
    json: /srv/reports/db1/nightly.json
    md: /srv/reports/db1/nightly.md
    html: /srv/reports/db1/nightly.html
report_error:
  description: Why the report could not be written, and the next step.
  returned: when the report could not be written
  type: str
severity:
  description: The worst of the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: ok
"""
