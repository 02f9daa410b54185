#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_info
short_description: List the backups of a catalog, and check whether they are recent enough and verified
version_added: 0.1.0
description:
  - Lists backups with their age, size and latest verdict, leftovers of interrupted runs, and backups that are being written.
  - Reports findings, each with a severity and the safe next step. The checks are C(backup_rpo),
    C(backup_verified), C(backup_unreadable), C(backup_incomplete), C(backup_clusters), C(backup_missing), C(backup_server) and C(backup_clock).
  - Reads manifests, and names and sizes of files, but no data. M(godel.postgres_runbook.pg_restore_verify) verifies that a backup
    restores.
  - Asks the server for its system identifier (O(ask_server)). Only backups with this identifier in their manifests count. A catalog without
    any backup of this server is critical, even if it has backups of others.
  - When the server does not answer, the finding C(backup_server) reports this as V(info). If the backups of several clusters alternate,
    each cluster is then checked separately. If one cluster replaced the others, only that one is checked.
  - C(backup_clusters) reports that the catalog has backups of databases with the same name from several clusters. It is critical when their
    backups alternate and the server did not report its own identifier.
  - C(backup_missing) lists databases of the server that have no backup in the catalog, when O(db) is left out.
  - A finding never fails the task. Test RV(severity), or use the playbook C(godel.postgres_runbook.backup_status).
  - Dumps that were not taken by this collection are not listed.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  db:
    description:
      - Name of the database. When it is left out, all databases of the catalog are listed and checked.
    type: str
    aliases: [login_db, database]
  rpo:
    description:
      - The recovery point objective, that is, how old the newest usable backup may be, for example V(1h) or V(1d). When it is older, the
        finding C(backup_rpo) is critical.
      - A backup is not usable when its verification failed, when it cannot be read, when files are missing or have a different size, or
        when it is dated in the future.
      - Without any usable backup the finding is critical even when this option is left out.
    type: str
  verified_within:
    description:
      - How old the last verdict V(verified) of a database may be, for example V(1d). When it is older, the finding
        C(backup_verified) is a warning.
      - By default the newest backup itself must be verified.
    type: str
  ask_server:
    description:
      - Whether to ask the server for its system identifier and its databases, with the connection options. This takes one statement and at
        most five seconds.
      - Use V(false) on a host whose server is not the one in the catalog.
    type: bool
    default: true
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
seealso:
  - module: godel.postgres_runbook.pg_backup
  - module: godel.postgres_runbook.pg_backup_prune
  - module: godel.postgres_runbook.pg_restore_verify
"""

EXAMPLES = r"""
- name: List all backups
  godel.postgres_runbook.pg_backup_info:
    backup_dir: /backups
  register: catalog

- name: Check the backups of one database
  godel.postgres_runbook.pg_backup_info:
    backup_dir: /backups
    db: godel_production
    rpo: 1h
    verified_within: 1d
  register: catalog
  failed_when: catalog is failed or catalog.severity == 'critical'
"""

RETURN = r"""
backups:
  description: The backups, sorted by database, then newest first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its name in the catalog.
      type: str
      sample: godel_production_20260206T030405Z
    database:
      description: Its database.
      type: str
    path:
      description: Its directory.
      type: str
      sample: /backups/godel_production/godel_production_20260206T030405Z
    cluster:
      description: System identifier of its cluster; null when the manifest has none.
      type: str
      sample: "7412345678901234567"
    state:
      description:
        - V(complete), or V(unreadable) when its manifest is missing, damaged, or belongs to another backup, or when its files differ from the
          manifest in name or size.
      type: str
      sample: complete
    why:
      description: Why it is unreadable, and what to do; empty otherwise.
      type: str
    started:
      description: When its snapshot was taken, RFC 3339 in UTC.
      type: str
      sample: "2026-02-06T03:04:05Z"
    age_s:
      description: How old it is, in seconds; negative when it is dated in the future.
      type: int
    verdict:
      description: The latest verdict, V(verified), V(incomplete), V(failed) or V(inconclusive); null when it was never verified.
      type: str
      sample: verified
    verified_at:
      description: When that verdict was recorded, RFC 3339 in UTC.
      type: str
      sample: "2026-02-06T04:00:00Z"
    verdict_why:
      description: The reason for the verdict.
      type: str
    size_bytes:
      description: Size of its files. This and the other values from the manifest are absent when it is unreadable.
      type: int
    fingerprint:
      description: The numbers of tables, rows, sequences, objects and large objects that its fingerprint covers; null without a
        fingerprint.
      type: dict
incomplete:
  description: Directories that are not backups, because they are being written or removed, or because a run was interrupted.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The directory.
      type: str
    database:
      description: The database that it belongs to.
      type: str
    age_s:
      description: Seconds since a file was last added to it or removed from it.
      type: int
    in_progress:
      description: Whether a process is working on it. Otherwise an interrupted run left it.
      type: bool
databases:
  description:
    - Totals for each database, and the IDs of its newest, newest usable and newest verified backup. When RV(cluster) is known, only backups
      of that cluster are considered. Otherwise the IDs are null if the backups of several clusters alternate.
    - C(clusters) has the number of backups and the newest one for each cluster.
  returned: success
  type: list
  elements: dict
  sample:
    - database: godel_production
      backups: 24
      total_size_bytes: 12884901888
      newest: godel_production_20260206T030405Z
      newest_usable: godel_production_20260206T030405Z
      newest_verified: godel_production_20260206T020405Z
      busy:
      clusters:
        - cluster: "7412345678901234567"
          backups: 24
          newest: godel_production_20260206T030405Z
cluster:
  description: System identifier of the server; null when it was not asked or did not answer.
  returned: success
  type: str
  sample: "7412345678901234567"
notes:
  description: Remarks, for example on data that could not be read.
  returned: success
  type: list
  elements: str
total_size_bytes:
  description: Size of all readable backups together.
  returned: success
  type: int
findings:
  description: The findings. The remedy of each is the safe next step.
  returned: success
  type: list
  elements: dict
  sample:
    - check: backup_rpo
      severity: critical
      subject: godel_production
      value: 7512
      threshold: 3600.0
      message: >-
        The newest usable backup of 'godel_production' is 2 h 5 min old (godel_production_20260206T030405Z);
        at most 1 h are allowed.
      remedy: Run the playbook godel.postgres_runbook.backup.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
  sample: ok
msg:
  description: The number of backups and the problems, in one or two sentences.
  returned: success
  type: str
"""

from ..module_utils._argspec import CATALOG, CONNECTION, KUBERNETES, ArgumentSpec, duration
from ..module_utils._backup import status, status_judgement
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres import cluster_id
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "db": {"type": "str", "aliases": ["login_db", "database"]},
        "rpo": duration(least="1s"),
        "verified_within": duration(least="1s"),
        "ask_server": {"type": "bool", "default": True},
    }
).merge(CONNECTION, CATALOG, KUBERNETES)


def operation(call: Call) -> Result:
    """Read the catalog and judge it."""
    params = call.params
    standards = status_judgement.BackupStandards.from_params(params)
    target = create_target(params)
    catalog = Catalog(target, params["backup_dir"])
    now = utc_now()
    server = cluster_id.ClusterIdentity()
    if params["ask_server"]:
        server = cluster_id.identify(Server(target, Login.from_params(params, "backup info")), params["db"])
    states = status.survey(target.files, catalog, params["db"], now, server)
    findings = status_judgement.judge(states, standards, now, catalog.root, server)
    values = {
        "backups": [backup.as_dict() for state in states for backup in state.backups],
        "incomplete": [left.as_dict() for state in states for left in state.incomplete],
        "databases": [state.as_dict() for state in states],
        "total_size_bytes": sum(backup.size_bytes for state in states for backup in state.backups),
        "cluster": server.cluster,
        "notes": [server.note] if server.note else [],
        **judged(findings),
        "msg": status_judgement.describe(states, findings, catalog.root),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
