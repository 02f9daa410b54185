#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_prune
short_description: Delete old backups from a catalog, but never the last good one
version_added: 0.1.0
description:
  - Deletes the backups of a database that no rule keeps. The rules work as in restic. O(keep_last) keeps the newest backups. O(keep_daily),
    O(keep_weekly) and O(keep_monthly) keep the newest backup of each day, ISO week and month, for the given number of days, weeks and
    months in UTC. Only those that have a backup are counted. A backup is kept when at least one rule keeps it.
  - Regardless of the rules, the module never deletes the newest usable backup and the newest backup with the verdict V(verified). It also
    keeps backups that are younger than O(min_age), in use (for example by M(godel.postgres_runbook.pg_restore_verify)), or dated in the
    future.
  - A backup whose verification failed satisfies no rule. It is deleted when a newer backup is V(verified) and it is older than O(min_age).
    Until then it is kept, because it may be the only one, or the verification may have been wrong. Without any usable backup, nothing is
    deleted.
  - When several clusters share O(backup_dir) and have databases with the same name, the rules apply to each cluster separately, by the
    system identifier in the manifests.
  - A backup that was never verified, or whose verdict is V(incomplete) or V(inconclusive), counts like a verified one.
  - A backup is renamed before any of its files is deleted. If the module is killed, no partly deleted backup looks like a complete one, and
    the next run removes the rest. The module also removes leftovers of other interrupted runs.
  - Dumps that were not taken by this collection are never touched.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  keep_last:
    description: The number of newest backups to keep, for example V(24). At least one of the rules must be 1 or more.
    type: int
  keep_daily:
    description: The number of days (UTC) with a backup for which to keep the newest backup of the day, for example V(7).
    type: int
  keep_weekly:
    description: The number of ISO weeks with a backup for which to keep the newest backup of the week, for example V(5).
    type: int
  keep_monthly:
    description: The number of months with a backup for which to keep the newest backup of the month, for example V(12).
    type: int
  min_age:
    description: The age that a backup must have before it may be deleted, for example V(12h) or V(7d).
    type: str
    default: "0"
  keep_unreadable:
    description:
      - Whether to keep entries whose manifest is missing or damaged, or whose files are missing or differ from the manifest in size. They
        are not complete backups, but some of their data may still be usable. With V(false) they are deleted when there is a newer usable
        backup.
      - An entry that cannot be read for another reason, such as a missing permission or a newer version of this collection, is always kept,
        and so is one that was moved here from another database.
    type: bool
    default: true
notes:
  - The connection options are accepted, so that C(module_defaults) can set them for all modules, but they are not used.
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_backup
  - module: godel.postgres_runbook.pg_backup_info
  - module: godel.postgres_runbook.pg_restore_verify
"""

EXAMPLES = r"""
- name: Keep 24 hourly, 7 daily, 5 weekly and 12 monthly backups
  godel.postgres_runbook.pg_backup_prune:
    backup_dir: /backups
    db: godel_production
    keep_last: 24
    keep_daily: 7
    keep_weekly: 5
    keep_monthly: 12
    min_age: 1d

- name: List what would be deleted
  godel.postgres_runbook.pg_backup_prune:
    backup_dir: /backups
    db: godel_production
    keep_last: 3
  check_mode: true
  diff: true
"""

RETURN = r"""
deleted:
  description: The backups that were, or in check mode would be, deleted, newest first.
  returned: always, unless the task fails before it applies the rules
  type: list
  elements: dict
  sample:
    - id: godel_production_20260101T030405Z
      path: /backups/godel_production/godel_production_20260101T030405Z
      size_bytes: 536870912
      why: no rule keeps it
kept:
  description: The backups that are kept, newest first. C(why) lists the rules that keep each of them.
  returned: always, unless the task fails before it applies the rules
  type: list
  elements: dict
  sample:
    - id: godel_production_20260206T030405Z
      path: /backups/godel_production/godel_production_20260206T030405Z
      size_bytes: 536870912
      why: "keep_last: 1 of 24; keep_daily: 2026-02-06; newest"
freed_bytes:
  description: The total size of the deleted backups whose manifests could be read.
  returned: always, unless the task fails before it applies the rules
  type: int
removed:
  description: Paths of leftovers of interrupted runs that were removed, or would be in check mode.
  returned: always, unless the task fails before it applies the rules
  type: list
  elements: str
msg:
  description: A summary in one sentence.
  returned: always
  type: str
"""

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, ArgumentSpec, between, duration
from ..module_utils._backup import prune
from ..module_utils._backup.retention import Judged, Policy
from ..module_utils._catalog.catalog import Catalog
from ..module_utils._module import Call, Result, run
from ..module_utils._target.factory import create_target
from ..module_utils._units import utc_now

RULES = ("keep_last", "keep_daily", "keep_weekly", "keep_monthly")
SPEC = ArgumentSpec(
    {
        **{rule: between(0, None) for rule in RULES},
        "min_age": duration("0"),
        "keep_unreadable": {"type": "bool", "default": True},
    },
    required_one_of=[RULES],
).merge(CONNECTION, DATABASE, CATALOG, KUBERNETES)


def operation(call: Call) -> Result:
    """Delete what no rule keeps."""
    params = call.params
    db = params["db"]
    policy = Policy.from_params(params)
    policy.check()
    catalog = Catalog(create_target(params), params["backup_dir"])
    work = prune.preview if call.check_mode else prune.prune
    done = work(catalog, db, policy, utc_now())

    def path(judged: Judged) -> str:
        return f"{catalog.directory(db)}/{judged.backup.id}"

    def described(judged: Judged) -> dict[str, object]:
        return {"id": judged.backup.id, "path": path(judged), "size_bytes": judged.backup.size_bytes}

    values: dict[str, object] = {
        "deleted": [{**described(each), "why": each.why} for each in done.deleted],
        "kept": [{**described(each), "why": each.why} for each in done.kept],
        "freed_bytes": done.freed_bytes,
        "removed": done.removed,
    }
    stay, gone = [path(each) for each in done.kept], [path(each) for each in done.deleted] + done.removed
    diff = {"before": lines(stay + gone), "after": lines(stay)}
    if done.problem is not None:
        return Result(done.changed, {**values, **done.problem.as_result()}, diff, failure=done.problem.message)
    text = prune.describe(done, db, check_mode=call.check_mode)
    warnings = [] if done.kept else [f"{text} Check db and backup_dir."]
    return Result(done.changed, {**values, "msg": text}, diff, warnings)


def lines(paths: list[str]) -> str:
    """Paths as a text for a diff."""
    return "".join(f"{path}\n" for path in sorted(paths))


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
