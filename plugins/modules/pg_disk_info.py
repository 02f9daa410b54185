#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_disk_info
short_description: Report how full the disks of a PostgreSQL server are, and what holds its WAL
version_added: 0.1.0
description:
  - Lists the file systems of the data directory, the WAL, the tablespaces, the logs and the backups.
  - Says how much WAL there is, and what holds it. Replication slots with their consumers, an archiver that fails, C(wal_keep_size), base
    backups that run, checkpoints, the WAL summarizer. Each with its bytes and its remedy.
  - A switch of the WAL file (C(pg_switch_wal)) frees nothing.
  - Lists temporary files, log files, and files of the database that no relation has.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup_dir:
    description: The directory of the backups, where the server runs. It is not looked at when it is left out.
    type: path
  used_ratio_warning:
    description: From which used share of a file system on to warn, 0 to 1.
    type: float
    default: 0.8
  used_ratio_critical:
    description: From which used share of a file system on it is critical, 0 to 1.
    type: float
    default: 0.9
  min_free:
    description: How much has to be free, for example V(20GB). Less is critical, whatever the share. Not judged when it is left out.
    type: str
  held_warning:
    description: How much WAL one thing may hold without a warning.
    type: str
    default: 1GB
  temp_warning:
    description: How large temporary files may be just now without a warning.
    type: str
    default: 1GB
  log_warning:
    description: How large the log files may be without a finding.
    type: str
    default: 1GB
  orphans:
    description: Whether to look for files of O(db) that no relation has. The login has to be allowed to list the server's files.
    type: bool
    default: true
  orphan_age:
    description:
      - How old such a file has to be. One that is younger than the oldest transaction of O(db) is never listed, whatever its age.
    type: str
    default: 1h
  statement_timeout:
    description: How long each statement may take.
    type: str
    default: 10s
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
notes:
  - It needs the role C(pg_monitor). Without it, RV(notes) says what is hidden, and the rest is shown.
  - File systems can only be seen where the server's own directories are, on its host or in its pod, by C(root) or its account.
seealso:
  - module: godel.postgres_runbook.pg_storage_info
  - module: godel.postgres_runbook.pg_log_cleanup
  - module: godel.postgres_runbook.pg_slot_drop
  - name: WAL configuration
    description: What makes the server keep WAL.
    link: https://www.postgresql.org/docs/current/wal-configuration.html
"""

EXAMPLES = r"""
- name: See how full the disks are
  godel.postgres_runbook.pg_disk_info:
    db: godel_production
    backup_dir: /backups
    min_free: 20GB
  register: disk
"""

RETURN = r"""
file_systems:
  description:
    - The file systems, the fullest first. C(used_ratio) is C(used_bytes) of the sum of C(used_bytes) and C(free_bytes), 0 to 1, as C(df)
      says it. Blocks that are reserved for root are in C(total_bytes) alone.
    - C(path) is that of one directory on it. C(kinds) is what lies there, and C(holds) has a C(kind) (V(data), V(wal),
      V(tablespace), V(log) or V(backup)) and a C(path) for each directory.
  returned: success
  type: list
  elements: dict
  sample:
    - kinds: [data, wal]
      path: /var/lib/postgresql/15/main
      holds:
        - kind: data
          path: /var/lib/postgresql/15/main
        - kind: wal
          path: /var/lib/postgresql/15/main/pg_wal
      total_bytes: 107374182400
      free_bytes: 10737418240
      used_bytes: 96636764160
      used_ratio: 0.9
wal:
  description: The WAL.
  returned: success
  type: dict
  contains:
    size_bytes:
      description: The size of C(pg_wal); null when the login may not see it.
      type: int
    files:
      description: How many files it has.
      type: int
    segment_size_bytes:
      description: The size of one.
      type: int
    max_wal_size_bytes:
      description: The setting C(max_wal_size), by which checkpoints are made. It is no limit.
      type: int
    min_wal_size_bytes:
      description: The setting C(min_wal_size). So much is kept for use in any case.
      type: int
    ready_files:
      description: How many files wait for the archiver; null when the login may not see it.
      type: int
    advice:
      description: Why a switch of the WAL file is of no use.
      type: str
    holders:
      description: What holds it, the one with the most bytes first. What several hold is counted for each of them.
      type: list
      elements: dict
      contains:
        kind:
          description: V(slot), V(archiver), V(wal_keep_size), V(min_wal_size), V(base_backup), V(checkpoint) or V(summarizer).
          type: str
        name:
          description: Which one.
          type: str
        held_bytes:
          description: How much; null when that is not known.
          type: int
        active:
          description: Whether it is at work; null when that is no question.
          type: bool
        severity:
          description: V(ok), V(info), V(warning) or V(critical).
          type: str
        detail:
          description: One sentence for people.
          type: str
        remedy:
          description: What lets go of the WAL; empty when all is well.
          type: str
temp:
  description:
    - Temporary files of now (C(size_bytes), C(files); null when they are hidden), and what queries of O(db) have written to such files
      (C(written_bytes), C(written_files)) since the statistics were reset (C(since), null for never).
  returned: success
  type: dict
orphans:
  description: Files of O(db) that no relation has, C(files), C(size_bytes) and the C(largest) 20; null when they were not looked for.
  returned: success
  type: dict
logs:
  description: The server's log files, C(directory), C(size_bytes), C(files) and C(oldest); null when hidden or when it writes none.
  returned: success
  type: dict
notes:
  description: What could not be seen.
  returned: success
  type: list
  elements: str
findings:
  description: Every file system, and what else somebody has to know of.
  returned: success
  type: list
  elements: dict
  sample:
    - check: wal_slot
      severity: warning
      subject: old_replica
      value: 5368709120
      threshold: 1073741824
      message: The physical replication slot 'old_replica' holds 5.0 GiB; it has no consumer.
      remedy: >-
        Start its consumer. Run the playbook godel.postgres_runbook.disk_space with -e disk_space_drop_slot=old_replica if nobody will use
        it again.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: A few sentences for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, duration, ratio, size
from ..module_utils._diagnostics.disk import report as disk
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

SPEC = ArgumentSpec(
    {
        "backup_dir": {"type": "path"},
        "used_ratio_warning": ratio(0.8),
        "used_ratio_critical": ratio(0.9),
        "min_free": size(),
        "held_warning": size("1GB"),
        "temp_warning": size("1GB"),
        "log_warning": size("1GB"),
        "orphans": {"type": "bool", "default": True},
        "orphan_age": duration("1h"),
        "statement_timeout": duration("10s"),
    }
).merge(CONNECTION, DATABASE, KUBERNETES)


def operation(call: Call) -> Result:
    """Look at the disks and judge them."""
    params = call.params
    plan = disk.DiskPlan.from_params(params)
    target = create_target(params)
    server = Server(target, Login.from_params(params, "disk info"), check_mode=call.check_mode)
    with server.connect(params["db"], timeout_s=params["statement_timeout"]) as session:
        report = disk.collect(session, target, plan, utc_now())
    values = {
        **report.values(),
        **judged(report.findings),
        "msg": disk.describe(report),
    }
    return Result(False, values)


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
