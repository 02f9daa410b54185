#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup
short_description: Take a backup of a PostgreSQL database that can be verified
version_added: 0.1.0
description:
  - Dumps a database with C(pg_dump), in parallel and compressed, into a catalog of backups.
  - Computes a fingerprint of the content under the same snapshot as the dump. It covers the number of rows and a digest of every table, the
    value of every sequence, the definition of every object, and all large objects. M(godel.postgres_runbook.pg_restore_verify) later
    compares the restored backup with this fingerprint.
  - The module writes the backup to a directory with another name, and renames it when all files are on disk. If the module is killed before
    that, no module uses the directory as a backup, and the next run removes it.
  - Saves roles, memberships and tablespaces as well, without password hashes unless O(globals_passwords) is set.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  format:
    description:
      - V(directory) can be dumped and restored in parallel. V(custom) is one file that can be restored in parallel. V(plain) is an SQL
        script.
    type: str
    choices: [directory, custom, plain]
    default: directory
  jobs:
    description:
      - The number of tables to dump, and to fingerprint, at the same time, for example V(4).
      - The default is the number of CPUs where the module runs, at most 8.
    type: int
  compress:
    description:
      - V(auto) uses the first that C(pg_dump) supports of V(zstd:1), V(lz4:1) and V(gzip:1). For O(format=plain) it is V(gzip:1).
      - Other values are V(none), V(gzip), V(lz4) and V(zstd), with an optional level, for example V(gzip:6).
    type: str
    default: auto
  fingerprint:
    description:
      - The coverage of the fingerprint. V(content) covers rows and their content, V(counts) only the number of rows. With V(none) there is
        no fingerprint, and the backup can never be verified.
    type: str
    choices: [content, counts, none]
    default: content
  max_age:
    description:
      - Take no backup if the newest one is younger than this, for example V(30m) or V(12h). It must have a fingerprint if
        O(fingerprint) is not V(none), must not have failed its verification, and must have all its files.
      - Only a backup of this server, its primary or its standbys counts, by the system identifier, since another server may write backups
        of a database with the same name to the same directory. The module therefore asks the server even when there is nothing to do.
      - By default, or with V(0), a backup is always taken.
    type: str
  globals:
    description: Whether to save roles, memberships and tablespaces with the backup.
    type: bool
    default: true
  globals_passwords:
    description: Whether to save the password hashes of roles. The login must be a superuser for this.
    type: bool
    default: false
  lock_timeout:
    description: How long to wait for a table that another session has locked exclusively, for example V(30s).
    type: str
    default: 5m
  check_space:
    description: Whether to fail, before anything is written, when the backup will probably not fit on the disk.
    type: bool
    default: true
  change_id:
    description: Number of the change or ticket that the backup belongs to, for example V(CHG0012345). It is recorded in the manifest.
    type: str
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_restore_verify
  - module: godel.postgres_runbook.pg_backup_info
  - module: godel.postgres_runbook.pg_backup_prune
  - name: pg_dump
    description: The program that takes the dump.
    link: https://www.postgresql.org/docs/current/app-pgdump.html
"""

EXAMPLES = r"""
- name: Take a backup unless there is one from the last 12 hours
  godel.postgres_runbook.pg_backup:
    login_unix_socket: /var/run/postgresql
    db: godel_production
    backup_dir: /backups
    max_age: 12h
  become: true
  become_user: postgres

- name: Take a backup before a migration, even if the newest one is recent
  godel.postgres_runbook.pg_backup:
    login_host: db.example.com
    login_user: backup
    login_password: "{{ vault_backup_password }}"
    ssl_mode: verify-full
    db: godel_production
    backup_dir: /backups
    jobs: 4
    compress: zstd:3
    change_id: CHG0012345
"""

RETURN = r"""
backup:
  description: The backup that was taken, or the newest one if it is recent enough. Absent in check mode when a backup would be taken.
  returned: success
  type: dict
  contains:
    id:
      description: Its name in the catalog.
      type: str
      sample: godel_production_20260206T030405Z
    path:
      description: Its directory.
      type: str
      sample: /backups/godel_production/godel_production_20260206T030405Z
    started:
      description: When its snapshot was taken, RFC 3339 in UTC. It has the data of this moment.
      type: str
      sample: "2026-02-06T03:04:05Z"
    duration_s:
      description: How long it took, in seconds.
      type: float
    size_bytes:
      description: Size of its files.
      type: int
    database_size_bytes:
      description: Size of the database, including indexes.
      type: int
    compression:
      description: Its compression.
      type: str
      sample: zstd:1
    fingerprint:
      description: The numbers of tables, rows, sequences, objects and large objects that its fingerprint covers; null without a
        fingerprint.
      type: dict
    lsn:
      description: The position of the server in its write-ahead log.
      type: str
preflight:
  description: Free space, and the predicted size and duration of the backup.
  returned: when a backup was, or would be, taken
  type: dict
  contains:
    estimate_bytes:
      description: The estimated size of the backup.
      type: int
    free_bytes:
      description: The free space before the backup.
      type: int
    predicted_duration_s:
      description: How long it is predicted to take, in seconds, from the duration of the last backup; null when there is none.
      type: float
findings:
  description:
    - Parts of the database that are not in the backup, because C(pg_dump) does not save them or this login cannot see them. The findings
      are recorded in the manifest, and M(godel.postgres_runbook.pg_restore) reports them again.
    - RV(findings[].severity) is V(critical) when rows or secrets are missing, otherwise V(warning) or V(info).
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: The name of the check, for example V(lost_rows), V(lost_comment), V(lost_user_mapping) or V(unread_table).
      type: str
      sample: lost_rows
    severity:
      description: V(info), V(warning) or V(critical).
      type: str
    subject:
      description: The affected objects, at most five names.
      type: str
      sample: public.orders
    value:
      description: The number of rows or objects.
      type: int
    threshold:
      description: The number that is allowed.
      type: int
    message:
      description: A summary in one sentence.
      type: str
    remedy:
      description: The next step, with the statements that create the missing objects where they are known.
      type: str
severity:
  description: The highest severity among RV(findings); V(ok) when there are none.
  returned: success
  type: str
removed:
  description: Paths of leftovers of interrupted runs that were removed.
  returned: when a backup was taken
  type: list
  elements: str
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, PROGRAMS, ArgumentSpec, between, duration
from ..module_utils._backup.plan import LONGEST_LOCK_TIMEOUT, BackupPlan, young_enough
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._findings import judged
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.base import Target
from ..module_utils._target.factory import create_target
from ..module_utils._units import human_duration, utc_now

SPEC = ArgumentSpec(
    {
        "format": {"type": "str", "choices": ["directory", "custom", "plain"], "default": "directory"},
        "jobs": between(1, 1000),
        "compress": {"type": "str", "default": "auto"},
        "fingerprint": {"type": "str", "choices": ["content", "counts", "none"], "default": "content"},
        "max_age": duration(),
        "globals": {"type": "bool", "default": True},
        "globals_passwords": {"type": "bool", "default": False, "no_log": False},
        "lock_timeout": duration("5m", most=LONGEST_LOCK_TIMEOUT),
        "check_space": {"type": "bool", "default": True},
        "change_id": {"type": "str"},
    }
).merge(CONNECTION, DATABASE, CATALOG, PROGRAMS, KUBERNETES)


def operation(call: Call) -> Result:
    """Take a backup, unless a young enough one is there."""
    params = call.params
    plan = BackupPlan.from_params(params)
    plan.check()
    target = create_target(params)
    catalog = Catalog(target, params["backup_dir"])
    server = Server(target, Login.from_params(params, "backup"), check_mode=call.check_mode)
    young = young_enough(catalog, server, plan, utc_now())
    if young is not None:
        text = f"Backup {young.id} is younger than {human_duration(params['max_age'])}; nothing to do."
        known = young.usable()
        return Result(False, {"backup": {**known.summary(), "path": young.path}, **judged(known.losses), "msg": text})
    return _take(call, target, server, catalog, plan)


def _take(call: Call, target: Target, server: Server, catalog: Catalog, plan: BackupPlan) -> Result:
    # Here, so that a run with nothing to do, as most of a schedule are, does not load it.
    from ..module_utils._backup import losses, preflight, take

    found = preflight.preflight(target, server, catalog, plan)
    values: dict[str, object] = {"preflight": found.as_dict()}
    if call.check_mode:
        diff = {"before": "", "after": f"a new backup of {plan.db}\n"}
        text = f"A backup of {plan.db} would be taken. {losses.told(found.findings)}".rstrip()
        return Result(True, {**values, **judged(found.findings), "msg": text}, diff)
    taken = take.take(target, server, catalog, plan, found)
    values.update(
        backup={**taken.manifest.summary(), "path": taken.path},
        removed=taken.removed,
        **judged(taken.findings),
        msg=take.describe(taken),
    )
    return Result(True, values, {"before": "", "after": f"{taken.path}\n"})


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
