#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_verify
short_description: Restore a backup of a PostgreSQL database into a throwaway server, and compare it with its source
version_added: 0.1.0
description:
  - Checks every file of a backup, restores it into a throwaway server, and compares the copy with the fingerprint that
    M(godel.postgres_runbook.pg_backup) took of the source under the snapshot of the dump. This covers all tables, rows, contents,
    sequences, definitions and large objects.
  - The verdict is V(verified); V(incomplete) when all rows and sequences are equal, but definitions, comments or privileges differ;
    V(failed) when files are damaged, or rows or sequences differ; or V(inconclusive) when the verification could not decide, with the next
    step. The result lists the differences. The verdict is recorded in the catalog.
  - A statement that fails during the restore does not decide the verdict. The comparison decides it, and the notes list such statements.
  - The module does not fail because of a verdict; it fails only when the verification could not run. The role
    P(godel.postgres_runbook.backup_verify#role) fails on every verdict but V(verified).
  - The throwaway server has a private directory, listens on a private socket only, and is always removed at the end. If the module is
    killed, the server ends with it, and the next run removes the directory. The production server is not used unless O(verify_in=database)
    is set.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup:
    description:
      - V(latest), the ID of a backup in the catalog, or the absolute path of a dump not taken by this collection (a script, custom archive
        or tar archive of C(pg_dump), also compressed with gzip, bzip2, xz, zstd or lz4, or a directory archive).
      - The format of a file is detected by its content. A dump not taken by this collection has no fingerprint, so its verdict is V(failed)
        or V(inconclusive), but never V(verified). C(psql) runs a script, and a script can run any command. Verify only files that you trust.
      - V(latest) is the newest backup of the connected server, its primary or its standbys, by the system identifier. When the catalog only
        has backups of other clusters, set the ID of one. When the server cannot be reached and all backups belong to one cluster, V(latest)
        is the newest of them, and RV(notes) reports this.
    type: str
    default: latest
  verify_in:
    description:
      - V(instance) restores into a throwaway server, which the module starts with the programs of O(bin_dir).
      - V(database) restores into a throwaway database of the server itself, for hosts without the server programs. This puts the load of a
        restore on that server.
    type: str
    choices: [instance, database]
    default: instance
  scratch:
    description:
      - Where the throwaway instance runs when O(kubernetes) is used. Without O(kubernetes) this option has no effect.
      - V(pod) runs it in a separate pod, on the same node if the volume of the backups requires that. The pod reads the volume, has
        resource limits and no service, and is always deleted at the end. If the module is killed, the pod ends some minutes later, and the
        next run deletes it. The backups must be on a volume that a second pod can mount.
      - V(pod-local) runs it in the pod of the production server, and uses the memory and the disk of that pod.
    type: str
    choices: [pod, pod-local]
    default: pod
  scratch_pod:
    description: Settings of the pod of O(scratch=pod) that replace its defaults, as in a Kubernetes manifest.
    type: dict
    default: {}
    suboptions:
      image:
        description: Image with the programs of a PostgreSQL server, for example V(postgres:15). The default is the image of the server's
          container.
        type: str
      resources:
        description:
          - Resources of the container. They take precedence over the defaults.
          - Unless O(check_space=false), the estimated size of the restored database is requested as C(ephemeral-storage), and the limit is
            twice that size.
        type: dict
        default: {}
        suboptions:
          requests:
            description: The resource requests. By default 100m of C(cpu) and 512Mi of C(memory).
            type: dict
            default: {}
          limits:
            description: The resource limits. By default 2 of C(cpu) and 2Gi of C(memory).
            type: dict
            default: {}
      volume:
        description:
          - Source of the volume for the throwaway instance, for example an C(ephemeral) one with a storage class if nodes have no space for
            a whole database. The default is an C(emptyDir).
        type: dict
      timeout:
        description: How long the pod may take to start, for example V(5m).
        type: str
        default: 5m
  max_age:
    description:
      - Do nothing if the backup was found V(verified) within this time, for example V(7d).
      - By default, or with V(0), the backup is always verified.
    type: str
  jobs:
    description:
      - The number of tables and indexes to restore, and to compare, at the same time, for example V(4).
      - The default is the number of CPUs where the throwaway server runs. In a separate pod, it is at most 8.
    type: int
  scratch_dir:
    description:
      - Directory in which the module creates the directory of the throwaway server, for example V(/var/tmp). It needs space for the whole
        database.
      - With O(scratch=pod) the volume of the pod is used, and this option has no effect.
    type: path
    default: /var/tmp
  check_space:
    description: Whether to fail, before anything is restored, when the restored database will probably not fit.
    type: bool
    default: true
extends_documentation_fragment:
  - godel.postgres_runbook.connection
  - godel.postgres_runbook.database
  - godel.postgres_runbook.catalog
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.programs
  - godel.postgres_runbook.attributes
seealso:
  - module: godel.postgres_runbook.pg_backup
  - module: godel.postgres_runbook.pg_backup_info
  - name: pg_restore
    description: The program that restores.
    link: https://www.postgresql.org/docs/current/app-pgrestore.html
"""

EXAMPLES = r"""
- name: Verify the newest backup once a week
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /backups
    max_age: 7d
  register: verification
  become: true
  become_user: postgres

- name: Fail unless the backup is verified
  ansible.builtin.assert:
    that: verification.verdict == "verified"
    fail_msg: "{{ verification.why }}"

- name: Test whether a dump not taken by this collection restores at all
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /backups
    backup: /backups/godel_20250101_000000.sql.gz
"""

RETURN = r"""
verdict:
  description: V(verified), V(incomplete), V(failed) or V(inconclusive). In check mode V(failed) or null, because nothing is restored.
  returned: success
  type: str
  sample: verified
why:
  description: The reason in one sentence.
  returned: success
  type: str
  sample: "The restored copy equals the source: 1204512 rows in 14 tables, 9 sequences, 131 objects."
differences:
  description: The differences between the copy, or a file, and the record in the manifest; at most 200.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of difference.
      type: str
      sample: rows of table
    subject:
      description: The object or file that differs.
      type: str
      sample: public.sessions
    expected:
      description: The value in the source; null if it was absent there.
      type: raw
    found:
      description: The value in the copy; null if it is absent there.
      type: raw
difference_count:
  description: The number of all differences.
  returned: success
  type: int
backup:
  description: The backup that was verified, as M(godel.postgres_runbook.pg_backup) returns it.
  returned: success
  type: dict
restored:
  description: The numbers of tables, rows, sequences, objects and large objects in the copy; null when it was not restored.
  returned: success
  type: dict
notes:
  description: Remarks on the verification.
  returned: success
  type: list
  elements: str
checked_at:
  description: When it was verified, RFC 3339 in UTC.
  returned: success
  type: str
steps:
  description: The duration of each step in seconds.
  returned: when this run verified the backup
  type: dict
  sample: {"pod_s": 4.0, "files_s": 0.4, "start_s": 1.1, "restore_s": 12.0, "compare_s": 2.1}
duration_s:
  description: The total duration in seconds.
  returned: when this run verified the backup
  type: float
findings:
  description:
    - The verdict as a finding.
    - For a dump not taken by this collection also sequences that are behind the largest value of their column (C(sequence_position)).
  returned: success
  type: list
  elements: dict
msg:
  description: A summary in one sentence.
  returned: success
  type: str
"""

from typing import Any

from ..module_utils._argspec import CATALOG, CONNECTION, DATABASE, KUBERNETES, PROGRAMS, ArgumentSpec, between, duration
from ..module_utils._catalog.catalog import Catalog, Entry
from ..module_utils._module import Call, Result, run
from ..module_utils._postgres.connection import Login, Server
from ..module_utils._target.factory import create_target
from ..module_utils._units import to_rfc3339, utc_now
from ..module_utils._verify import verify
from ..module_utils._verify.restore_copy import ScratchLocation, StepTimer
from ..module_utils._verify.scratch_pod import scratch_pod

SPEC = ArgumentSpec(
    {
        "backup": {"type": "str", "default": "latest"},
        "verify_in": {"type": "str", "choices": ["instance", "database"], "default": "instance"},
        "scratch": {"type": "str", "choices": ["pod", "pod-local"], "default": "pod"},
        "scratch_pod": {
            "type": "dict",
            "default": {},
            "options": {
                "image": {"type": "str"},
                "resources": {
                    "type": "dict",
                    "default": {},
                    "options": {
                        "requests": {"type": "dict", "default": {}},
                        "limits": {"type": "dict", "default": {}},
                    },
                },
                "volume": {"type": "dict"},
                "timeout": duration("5m"),
            },
        },
        "max_age": duration(),
        "jobs": between(1, 1000),
        "scratch_dir": {"type": "path", "default": "/var/tmp"},  # noqa: S108  # below it in a directory of its own
        "check_space": {"type": "bool", "default": True},
    }
).merge(CONNECTION, DATABASE, CATALOG, PROGRAMS, KUBERNETES)


def operation(call: Call) -> Result:
    """Verify a backup, unless it was proven recently."""
    params = call.params
    target = create_target(params)
    jobs = target.cpus() if params["jobs"] is None else params["jobs"]
    plan = verify.VerifyPlan.from_params(params, place=ScratchLocation.from_params(params, jobs=jobs))
    pod = scratch_pod(target, params) if params["verify_in"] == "instance" and params["scratch"] == "pod" else None
    catalog = Catalog(target, params["backup_dir"])
    server = Server(target, Login.from_params(params, "verify"))
    notes: list[str] = []
    subject = verify.choose(target, server, catalog, plan, notes)
    recorded = isinstance(subject, Entry)  # a dump outside the catalog has no place for a verdict
    known = verify.proven_recently(subject, plan, utc_now())
    if known is not None:
        verdict = verify.remembered(known)
        return Result(False, noted(verify.report(verdict, subject, plan.db, known.checked_at), notes))
    if call.check_mode:
        found = verify.check(target, plan, subject, pod)
        diff = {"before": "", "after": "a verdict in the catalog\n"}
        return Result(recorded, noted(verify.report(found, subject, plan.db, None), notes), diff)
    clock = StepTimer()
    with verify.hold_backup(catalog, subject):
        with clock.step("all"):
            verdict = verify.verify(target, server, plan, subject, clock, pod)
        now = utc_now()
        duration_s = clock.steps.pop("all_s")
        verify.record(catalog, subject, verdict, now, clock)
    values = {
        **noted(verify.report(verdict, subject, plan.db, to_rfc3339(now)), notes),
        "steps": clock.steps,
        "duration_s": duration_s,
    }
    return Result(recorded, values, {"before": "", "after": f"{verdict.verdict}\n"})


def noted(values: dict[str, Any], notes: list[str]) -> dict[str, object]:
    """A result with further notes, before its own."""
    return {**values, "notes": [*notes, *values["notes"]]}


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
