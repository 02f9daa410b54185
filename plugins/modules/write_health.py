#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: write_health
short_description: Write pages about the health of all hosts on the controller
version_added: 0.1.0
description:
  - Writes a page for each host as HTML, Markdown and JSON, with the worst findings and their remedies on top, and one overview with a row
    for each host.
  - A host that could not be reached, or whose module failed, has a page and a row, too.
  - The HTML is one file that loads nothing and runs nothing. It works on phones, in dark mode, on paper and with screen readers. All text
    from servers is escaped.
  - Samples of earlier runs are kept in C(<directory>/<inventory_hostname>/history/health.jsonl). From the third run on a page has charts
    over time.
  - Samples of storage and queries are kept in C(storage.jsonl) and C(query_performance_<database>.jsonl) in the same directory, at most
    one sample of queries in six hours. The playbooks C(storage) and C(query_performance) use the same files. M(godel.postgres_runbook.report_history)
    reads them for the next run. Concurrent runs do not lose samples.
  - Run it once for all hosts (C(run_once)).
author:
  - The godel.postgres_runbook authors (@godel)
options:
  results:
    description: The result of M(godel.postgres_runbook.pg_health_info) of each host, as C(register) keeps it, by the name of the host.
    type: dict
    required: true
  databases:
    description: The name of the database of each host, for the heading.
    type: dict
    default: {}
  directory:
    description:
      - Directory on the controller. The files are C(<directory>/<inventory_hostname>/health.html), C(.md) and C(.json), and
        C(<directory>/health.html), C(.md) and C(.json) for the overview. Missing directories are created.
      - No page is written when it is empty.
    type: str
    default: ""
  prometheus_dir:
    description:
      - Directory on the controller that the textfile collector of node_exporter reads. The module writes one file for all hosts there,
        C(godel_postgres.prom).
      - No file is written when it is empty.
    type: str
    default: ""
  fail_at:
    description: The lowest severity of a finding at which a host fails, see RV(hosts).
    type: str
    choices: [never, warning, critical]
    default: never
  keep:
    description:
      - Number of samples of earlier runs to keep for each host. At most 60 samples of queries are kept.
      - A run drops no more samples of storage and queries than it adds, because another playbook may keep more of them.
    type: int
    default: 400
extends_documentation_fragment: [godel.postgres_runbook.attributes.controller]
attributes:
  check_mode:
    description: Writes nothing, and returns the paths.
    support: full
notes:
  - The module never reports a change, although each page has the time of its run.
seealso:
  - module: godel.postgres_runbook.pg_health_info
  - module: godel.postgres_runbook.report_history
  - module: godel.postgres_runbook.record_result
"""

EXAMPLES = r"""
- name: Read all sections
  godel.postgres_runbook.pg_health_info:
    db: godel_production
  register: health

- name: Write the pages
  godel.postgres_runbook.write_health:
    directory: /srv/reports
    prometheus_dir: /var/lib/node_exporter/textfile
    results: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars, 'health'))) }}"
  run_once: true
"""

RETURN = r"""
severity:
  description: The worst of all hosts, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: warning
msg:
  description: The number of hosts with critical findings and with warnings.
  returned: success
  type: str
  sample: "50 hosts: 2 critical, 5 with warnings."
hosts:
  description: The hosts by name. C(fails) follows O(fail_at); C(reasons) has the findings that cause it, at most five.
  returned: success
  type: dict
  sample:
    db1:
      severity: ok
      reachable: true
      message: No problems found.
      fails: false
      reasons: []
paths:
  description: The files of the overview, C(json), C(md) and C(html), and C(prometheus). Files that were not requested are absent.
  returned: success
  type: dict
  sample:
    json: /srv/reports/health.json
    md: /srv/reports/health.md
    html: /srv/reports/health.html
"""
