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
  - Writes a page for each host as HTML, Markdown and JSON, with the worst findings on top and what to do about each, and one overview of all
    hosts with a row for each.
  - A host that could not be reached, and one whose module failed, has a page and a row, too.
  - The HTML is one file that loads nothing and runs nothing. It can be read on a phone, in the dark, on paper, and by a screen reader.
    Everything that came from a server is escaped.
  - Earlier runs are kept in C(<directory>/<inventory_hostname>/history/health.jsonl), so that a page shows lines over time from the third on.
  - What was read of storage and of queries is kept beside it, as C(storage.jsonl) and C(query_performance_<database>.jsonl), at most one
    sample of queries in six hours. The playbooks of these subjects keep theirs in the same files. M(godel.postgres_runbook.report_history) reads
    them for the next run. Two runs at once do not lose each other's samples.
  - It is meant to run once for all hosts (C(run_once)).
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
        C(<directory>/health.html), C(.md) and C(.json) for the overview. Directories are created if need be.
      - No page is written when it is empty.
    type: str
    default: ""
  prometheus_dir:
    description:
      - Directory on the controller that node_exporter's textfile collector reads. The file in it is C(godel_postgres.prom), with all hosts.
      - None is written when it is empty.
    type: str
    default: ""
  fail_at:
    description: From which severity on a host is said to fail, in RV(hosts).
    type: str
    choices: [never, warning, critical]
    default: never
  keep:
    description:
      - How many samples of earlier runs to keep for each host. Of queries it is 60 at most.
      - Of storage and queries no more are dropped than are added, since another playbook may keep more of them.
    type: int
    default: 400
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
  - It never reports a change. A page tells the time of the run, so that it is new each time.
seealso:
  - module: godel.postgres_runbook.pg_health_info
  - module: godel.postgres_runbook.report_history
  - module: godel.postgres_runbook.record_result
"""

EXAMPLES = r"""
- name: Look at everything
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
  description: How many hosts need somebody.
  returned: success
  type: str
  sample: Of 50 hosts 2 need somebody now, 5 need somebody soon.
hosts:
  description: Each host by its name. C(fails) is as O(fail_at) says, and C(reasons) are the findings for it, at most five.
  returned: success
  type: dict
  sample:
    db1:
      severity: ok
      reachable: true
      message: All is well.
      fails: false
      reasons: []
paths:
  description: The files of the overview, C(json), C(md) and C(html), and C(prometheus). Those that were not asked for are not there.
  returned: success
  type: dict
  sample:
    json: /srv/reports/health.json
    md: /srv/reports/health.md
    html: /srv/reports/health.html
"""
