#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report_history
short_description: Keep samples over time on the controller
version_added: 0.1.0
description:
  - Reads the samples that earlier runs have kept for a host, and adds one. The samples serve for comparisons over time and for forecasts.
  - The file has one JSON document a line, and is replaced atomically, so that an interrupted run loses nothing. Concurrent runs do not lose
    samples.
  - A missing file is an empty history. A damaged line is left out, and reported in RV(notes).
  - The playbooks of this collection use it when C(postgres_report_dir) is set.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  directory:
    description:
      - Directory on the controller. The file is C(<directory>/<inventory_hostname>/history/<name>.jsonl). Missing directories are created.
    type: str
    required: true
  name:
    description: Name of the history, such as that of a playbook.
    type: str
    required: true
  sample:
    description:
      - Sample to add, with its time as C(collected_at), like V(2026-02-06T03:04:05Z). A missing time is set to the current time.
      - A sample is not added if the history already has one with the same time.
      - By default nothing is written.
    type: dict
  keep:
    description:
      - Number of samples to keep. Beyond that the older half is thinned, closest samples first, so that the history becomes coarse
        but reaches far back.
    type: int
    default: 400
  older_than:
    description:
      - The minimum age of RV(baseline), for example V(7d).
    type: str
  list_samples:
    description: Whether to return RV(samples). With V(false) a task that only needs RV(baseline) does not return large samples.
    type: bool
    default: true
  most_samples:
    description: The maximum number of RV(samples) to return, for example V(100). They are spread evenly, and include the oldest and the
      newest. By default all are returned.
    type: int
extends_documentation_fragment: [godel.postgres_runbook.attributes.controller]
attributes:
  check_mode:
    description: Reads the history, and writes nothing.
    support: full
notes:
  - The module never reports a change, because a new sample does not change the database.
seealso:
  - module: godel.postgres_runbook.record_result
"""

EXAMPLES = r"""
- name: Read the sample to compare with
  godel.postgres_runbook.report_history:
    directory: /srv/reports
    name: query_performance
    older_than: 7d
  register: history

- name: Report the queries
  godel.postgres_runbook.pg_query_info:
    db: godel_production
    baseline: "{{ history.baseline or omit }}"
  register: queries

- name: Keep today's figures
  godel.postgres_runbook.report_history:
    directory: /srv/reports
    name: query_performance
    sample: "{{ queries.sample }}"
"""

RETURN = r"""
samples:
  description: The samples before this run, oldest first. The one that was added is not included.
  returned: success
  type: list
  elements: dict
  sample:
    - collected_at: "2026-02-06T03:04:05Z"
      size_bytes: 8192
sample_count:
  description: The number of samples before this run.
  returned: success
  type: int
  sample: 1
baseline:
  description: The newest sample that is at least O(older_than) old, or else the oldest; null when there is none.
  returned: when O(older_than) is given
  type: dict
path:
  description: The file.
  returned: success
  type: str
  sample: /srv/reports/db1/history/query_performance.jsonl
notes:
  description: Lines that could not be read, as sentences.
  returned: success
  type: list
  elements: str
"""
