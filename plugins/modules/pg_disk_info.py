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
  - Reports how much WAL there is, and what holds it. Holders are replication slots, a failing archiver, C(wal_keep_size), running base
    backups, checkpoints, and the WAL summarizer. Each is listed with its bytes and its remedy.
  - Switching the WAL file (C(pg_switch_wal)) frees no space.
  - Lists temporary files, log files, and orphaned files, that is, files in the directory of the database that belong to no relation.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup_dir:
    description: Directory of the backups on the server's host or in its pod, for example V(/backups). By default its file system is not
      reported.
    type: path
  used_ratio_warning:
    description: The used share of a file system, 0 to 1, from which it is a V(warning).
    type: float
    default: 0.8
  used_ratio_critical:
    description: The used share of a file system, 0 to 1, from which it is V(critical).
    type: float
    default: 0.9
  min_free:
    description: The space that must be free on each file system, for example V(20GB). Less is V(critical), whatever the used share. By
      default only the share is checked.
    type: str
  held_warning:
    description: How much WAL one holder, such as a slot, may hold before that is a V(warning).
    type: str
    default: 1GB
  temp_warning:
    description: How large the current temporary files may be before that is a V(warning).
    type: str
    default: 1GB
  log_warning:
    description: How large the log files may be before that is a finding.
    type: str
    default: 1GB
  orphans:
    description: Whether to look for orphaned files of O(db). The login must be allowed to list the server's files.
    type: bool
    default: true
  orphan_age:
    description:
      - The age from which an orphaned file is listed, for example V(1h). A file that is younger than the oldest transaction of O(db) is
        never listed.
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
  - The login needs the role C(pg_monitor). Without it, RV(notes) says what is hidden, and the rest is shown.
  - File systems are reported only if the module runs on the server's host, as C(root) or as the server's account, or in its pod.
seealso:
  - module: godel.postgres_runbook.pg_storage_info
  - module: godel.postgres_runbook.pg_log_cleanup
  - module: godel.postgres_runbook.pg_slot_drop
  - name: WAL configuration
    description: The settings that make the server keep WAL.
    link: https://www.postgresql.org/docs/current/wal-configuration.html
"""

EXAMPLES = r"""
- name: Report how full the disks are
  godel.postgres_runbook.pg_disk_info:
    db: godel_production
    backup_dir: /backups
    min_free: 20GB
  register: disk
"""

RETURN = r"""
file_systems:
  description:
    - The file systems, the fullest first. C(used_ratio) is C(used_bytes) divided by the sum of C(used_bytes) and C(free_bytes), 0 to 1, as
      C(df) computes it. Blocks that are reserved for root count in C(total_bytes) only.
    - C(path) is one of the directories on it. C(holds) lists all of them, each with a C(kind) (V(data), V(wal), V(tablespace), V(log) or
      V(backup)) and a C(path), and C(kinds) lists their kinds.
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
  description: The WAL and its holders.
  returned: success
  type: dict
  contains:
    size_bytes:
      description: The size of C(pg_wal); null when the login may not see it.
      type: int
    files:
      description: The number of files in C(pg_wal).
      type: int
    segment_size_bytes:
      description: The size of one WAL file.
      type: int
    max_wal_size_bytes:
      description: The setting C(max_wal_size), which triggers checkpoints. It is not a hard limit.
      type: int
    min_wal_size_bytes:
      description: The setting C(min_wal_size). The server always keeps this much for reuse.
      type: int
    ready_files:
      description: The number of files that wait for the archiver; null when the login may not see it.
      type: int
    advice:
      description: Why switching the WAL file does not help.
      type: str
    holders:
      description: The holders of WAL, the one with the most bytes first. WAL that several of them hold counts for each.
      type: list
      elements: dict
      contains:
        kind:
          description: V(slot), V(archiver), V(wal_keep_size), V(min_wal_size), V(base_backup), V(checkpoint) or V(summarizer).
          type: str
        name:
          description: Its name, for example that of the slot.
          type: str
        held_bytes:
          description: How much WAL it holds; null when it is unknown.
          type: int
        active:
          description: Whether it is active; null when this does not apply.
          type: bool
        severity:
          description: V(ok), V(info), V(warning) or V(critical).
          type: str
        detail:
          description: A summary in one sentence.
          type: str
        remedy:
          description: How to release the WAL; empty when nothing needs to be done.
          type: str
temp:
  description:
    - The current temporary files (C(size_bytes), C(files); null when they are hidden), and how much queries of O(db) have written to
      temporary files (C(written_bytes), C(written_files)) since the statistics were last reset (C(since), null if never).
  returned: success
  type: dict
orphans:
  description: The orphaned files of O(db), with C(files), C(size_bytes) and the C(largest) 20; null when the module did not look for them.
  returned: success
  type: dict
logs:
  description: The server's log files, with C(directory), C(size_bytes), C(files) and C(oldest); null when they are hidden or when the
    server writes none.
  returned: success
  type: dict
notes:
  description: Remarks, for example on data that the login has no privilege to see.
  returned: success
  type: list
  elements: str
findings:
  description: One finding for each file system, and all other findings.
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
        Start its consumer. If no consumer will use it again, run the playbook godel.postgres_runbook.disk_space with
        -e disk_space_drop_slot=old_replica.
severity:
  description: The worst severity among the findings, V(ok), V(info), V(warning) or V(critical).
  returned: success
  type: str
msg:
  description: A summary in a few sentences.
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
