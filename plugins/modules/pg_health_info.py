#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_health_info
short_description: Check the health of a PostgreSQL server, all subjects at once
version_added: 0.1.0
description:
  - Reads the server and its settings, sessions, queries, storage, disks, replication, maintenance, schema and backups, over one connection
    and in at most 30 statements. Each section has the values that the module of its subject returns.
  - The server limits the time of each statement (O(statement_timeout)). Two seconds later the module itself ends the connection, so that
    it returns even if the server hangs.
  - A section that fails becomes a finding, and the other sections are still read. When the connection is lost, the module connects once
    more.
  - If no section could be read, the server is critical (C(health_nothing_read)), regardless of O(ignore).
  - The task does not fail when the server cannot be reached. The result has a critical finding, and RV(reachable) is false.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  sections:
    description: The sections to read.
    type: list
    elements: str
    choices: [server, activity, queries, storage, disk, replication, maintenance, schema, backups]
    default: [server, activity, queries, storage, disk, replication, maintenance, schema, backups]
  ignore:
    description:
      - Checks whose findings are left out because they are known and accepted, by their C(check). For example V(server_fsync)
        for a test server.
      - The notes of a section have the number of findings left out.
    type: list
    elements: str
    default: []
  thresholds:
    description:
      - "Thresholds by section. For example C({server: {min_hit_ratio: 0.95}, maintenance: {dead_rows: 100000}})."
      - Values are numbers; the names have their units. An unknown name is an error that lists the known ones.
      - "Facts about the site are thresholds, too: C({replication: {expected_replicas: 2}}), C({disk: {min_free_bytes: 10737418240}})
        and C({activity: {cores: 8}})."
    type: dict
    default: {}
  storage_history:
    description:
      - Earlier values of C(sections.storage.data.sample), in any order, to compute how the databases grow and when the disk will be full.
        Two of them, over six hours, are needed. Samples of M(godel.postgres_runbook.pg_storage_info) have the same form.
    type: list
    elements: dict
    default: []
  queries_baseline:
    description:
      - An earlier value of C(sections.queries.data.sample), to find queries that got slower. A sample of
        M(godel.postgres_runbook.pg_query_info) has the same form.
    type: dict
  server_baseline:
    description:
      - An earlier sample with C(collected_at) and C(deadlocks), to find how many deadlocks are new. M(godel.postgres_runbook.write_health)
        keeps such samples. Without one, the number is known only if the server reports since when it has counted.
    type: dict
  backup_dir:
    description:
      - Directory that holds the backups of all databases, the catalog. The module checks the backups of the database O(db), and the file
        system of the directory. There is no section C(backups) without it. Only backups of the server's own cluster count.
    type: path
  backup_rpo:
    description: Maximum age of the newest usable backup. Without it, the age is not checked.
    type: str
  backup_verified_within:
    description: Maximum time since a backup was last verified. Without it, the age of the last verification is not checked.
    type: str
  statement_timeout:
    description: Maximum time of each statement, and of connecting.
    type: str
    default: 5s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - The role C(pg_monitor) is sufficient. A login without it sees less. The warning C(server_rights) reports this, and the notes of
    RV(sections) say what is hidden.
  - The module checks dead rows, tables and indexes of the database O(db), but sessions, disks and replication of the whole server.
seealso:
  - module: godel.postgres_runbook.write_health
  - module: godel.postgres_runbook.report_history
  - module: godel.postgres_runbook.pg_backup_info
  - module: godel.postgres_runbook.pg_activity_info
  - module: godel.postgres_runbook.pg_query_info
  - module: godel.postgres_runbook.pg_storage_info
  - module: godel.postgres_runbook.pg_disk_info
  - module: godel.postgres_runbook.pg_replication_info
"""

EXAMPLES = r"""
- name: Read all sections
  godel.postgres_runbook.pg_health_info:
    db: godel_production
  register: health

- name: Show the worst finding
  ansible.builtin.debug:
    msg: "{{ (health.findings | first).message }} {{ (health.findings | first).remedy }}"
  when: health.findings | length > 0
"""

RETURN = r"""
collected_at:
  description: Time of the collection, RFC 3339 in UTC.
  returned: success
  type: str
  sample: "2026-02-06T03:04:05Z"
reachable:
  description: Whether any section could be read.
  returned: success
  type: bool
statements:
  description: Number of statements sent to the server.
  returned: success
  type: int
  sample: 23
duration_s:
  description: Time that it took, in seconds.
  returned: success
  type: float
  sample: 0.4
sections:
  description: The sections by name, in the order in which they were read.
  returned: success
  type: dict
  contains:
    server:
      description:
        - One of the sections. Its C(data) are version, role, start, settings that matter, counters and the age of each database; C(databases)
          are those with the oldest rows.
        - The sections C(activity), C(queries), C(storage), C(disk) and C(replication) have the same C(data) as the module of that subject.
      type: dict
      contains:
        state:
          description: V(read), V(failed), or V(not read) if the connection was lost before.
          type: str
        severity:
          description: The worst of its findings, V(ok), V(info), V(warning) or V(critical).
          type: str
        message:
          description: A summary, or the error of a section that failed.
          type: str
        notes:
          description: Figures that the login cannot see, and how to read the others.
          type: list
          elements: str
        duration_s:
          description: Time that it took, in seconds.
          type: float
        data:
          description: The figures.
          type: dict
    backups:
      description: It has the same C(data) as M(godel.postgres_runbook.pg_backup_info). It is only read with O(backup_dir).
      type: dict
    schema:
      description:
        - Its C(data) are traits of the database's objects, each as a number and a list of some of them. These are sequences with the used
          share of their values (C(fullest_sequences)), C(disabled_triggers), C(unenforced_constraints) whose internal triggers are off,
          C(not_validated_constraints), C(not_populated_views), C(tables_without_primary_key), C(duplicate_indexes),
          C(redundant_indexes) and C(keys_without_index).
        - Each has thresholds, such as C(sequence_used_warning) and C(sequence_used_critical), shares, or C(disabled_triggers_warning) and
          C(disabled_triggers_critical), numbers of objects. Indexes smaller than C(index_min_bytes) are not checked.
      type: dict
    maintenance:
      description:
        - Its C(data) are the tables with most dead rows (C(most_dead)), those that were never analyzed, and invalid indexes, of the database.
      type: dict
findings:
  description: The findings of all sections, the worst first. C(section) is the section of a finding.
  returned: success
  type: list
  elements: dict
  sample:
    - check: server_wraparound
      severity: critical
      subject: godel_production
      value: 1610000000
      threshold: 1500000000
      message: >-
        The oldest rows of godel_production are 1,610,000,000 transactions old; autovacuum freezes them from 200,000,000 on. The server stops
        accepting writes after another 534,483,648.
      remedy: Run the playbook godel.postgres_runbook.vacuum with -e vacuum_freeze=true -e postgres_db=godel_production.
      section: server
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: The number of findings, and the worst one.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration
from ..module_utils._health import plan as health_plan
from ..module_utils._health import report, sections
from ..module_utils._health.session import line
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "sections": {
            "type": "list",
            "elements": "str",
            "choices": list(sections.NAMES),
            "default": list(sections.NAMES),
        },
        "ignore": {"type": "list", "elements": "str", "default": []},
        "thresholds": {"type": "dict", "default": {}},
        "storage_history": {"type": "list", "elements": "dict", "default": []},
        "queries_baseline": {"type": "dict"},
        "server_baseline": {"type": "dict"},
        "backup_dir": {"type": "path"},
        "backup_rpo": duration(least="1s"),
        "backup_verified_within": duration(least="1s"),
        "statement_timeout": duration("5s", least="100ms"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Look at all of it, and judge it."""
    params = call.params
    plan = report.HealthPlan.from_params(params, plans=health_plan.plans(params))
    timeout_s = params["statement_timeout"]
    with line(create_target(params), Login.from_params(params, "health"), params["db"], timeout_s) as way:
        return Result(False, report.collect(way, plan, utc_now()).values())


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
