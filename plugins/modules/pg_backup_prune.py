#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_backup_prune
short_description: Delete old backups from a catalog, never the last good one
version_added: 0.1.0
description:
  - Deletes the backups of a database that no rule keeps. The rules are those of restic. O(keep_last) keeps the
    newest ones. O(keep_daily), O(keep_weekly) and O(keep_monthly) keep the newest backup of each of the last so many
    days, ISO weeks and months, in UTC, that have a backup; days without one are not counted. A backup stays when at
    least one rule keeps it.
  - Whatever the rules say, it never deletes the newest usable backup, the newest backup with the verdict
    V(verified), a backup that is younger than O(min_age), one that is being read just now (see
    M(godel.postgres_runbook.pg_restore_verify)), or one that is dated in the future.
  - A backup whose verification failed satisfies no rule. It is deleted when a newer backup is V(verified) and it is
    older than O(min_age); until then it may be all that is left, or the verification may have been wrong. Without any
    usable backup, nothing is deleted.
  - When clusters share O(backup_dir) and have databases of one name, the backups of each cluster are judged by
    themselves. The system identifier of the cluster stands in a backup's manifest.
  - A backup that was never verified, or whose verdict is V(incomplete) or V(inconclusive), counts for the rules like a verified one.
  - A backup loses its name by one rename before any of its files goes. Whatever kills the module, nothing half
    deleted looks like a backup, and the next run removes what is left. What other runs left when they died is
    removed as well.
  - Files of backups that were made by hand beside the catalog are never touched.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  keep_last:
    description: How many of the newest backups to keep. At least one of the rules has to be 1 or more.
    type: int
  keep_daily:
    description: For how many days (UTC) that have a backup to keep the newest one of the day.
    type: int
  keep_weekly:
    description: For how many ISO weeks that have a backup to keep the newest one of the week.
    type: int
  keep_monthly:
    description: For how many months that have a backup to keep the newest one of the month.
    type: int
  min_age:
    description: Nothing younger than this is ever deleted, for example V(12h) or V(7d).
    type: str
    default: "0"
  keep_unreadable:
    description:
      - Whether to keep entries whose manifest is missing or damaged, or whose files are not all there with the sizes
        of the manifest. They are no backups, but their data may be of use to somebody. With V(false) they are deleted
        when a newer usable backup is there.
      - An entry that cannot be read for another reason, such as a missing permission or a newer version of this
        collection, and one that was moved here from another database, is always kept.
    type: bool
    default: true
notes:
  - The options of the connection are accepted, so that C(module_defaults) can give them to all modules, but not used.
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
  returned: always, unless the task fails before it judges
  type: list
  elements: dict
  sample:
    - id: godel_production_20260101T030405Z
      path: /backups/godel_production/godel_production_20260101T030405Z
      size_bytes: 536870912
      why: no rule keeps it
kept:
  description: The backups that stay, newest first. C(why) has every rule that keeps it.
  returned: always, unless the task fails before it judges
  type: list
  elements: dict
  sample:
    - id: godel_production_20260206T030405Z
      path: /backups/godel_production/godel_production_20260206T030405Z
      size_bytes: 536870912
      why: "keep_last: 1 of 24; keep_daily: 2026-02-06; newest"
freed_bytes:
  description: The sizes of the deleted backups together, as far as their manifests could be read.
  returned: always, unless the task fails before it judges
  type: int
removed:
  description: Paths that were, or would be, removed because a run that died had left them.
  returned: always, unless the task fails before it judges
  type: list
  elements: str
msg:
  description: One sentence for people.
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
