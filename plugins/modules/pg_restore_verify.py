#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_restore_verify
short_description: Prove that a backup of a PostgreSQL database restores to exactly its source
version_added: 0.1.0
description:
  - Checks every file of a backup, restores it into a throwaway server, and compares the copy with the fingerprint that
    M(godel.postgres_runbook.pg_backup) took of the source under the dump's own snapshot, that is all tables, rows, contents,
    sequences, definitions and large objects.
  - The verdict is V(verified); V(incomplete) when all rows and sequences are equal, but definitions, comments or privileges
    differ; V(failed) when files are damaged, or rows or sequences differ; or V(inconclusive) when it could not be found out, with
    the way out. The differences are listed. Only V(verified) counts as proven. The verdict is recorded in the catalog.
  - A statement that the server refuses does not decide by itself. The comparison decides, and the notes list such statements.
  - The module does not fail on a verdict; it fails when it could not try. The role P(godel.postgres_runbook.backup_verify#role)
    fails on every verdict but V(verified).
  - The throwaway server has a private directory, listens on a private socket only, and is removed whatever happens. If the
    module is killed, the server ends with it and the next run removes the directory. The production server is never used,
    unless O(verify_in=database) asks for it.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  backup:
    description:
      - V(latest), the id of a backup in the catalog, or the absolute path of a backup made by hand (a file that C(pg_dump)
        wrote as script, custom archive or tar archive, also packed by gzip, bzip2, xz, zstd or lz4, or a directory archive).
      - What a file is, is judged by its content. A backup made by hand has no fingerprint, so that it can be V(failed) or
        V(inconclusive), but never V(verified). Its script is run by C(psql), so verify only files that you trust.
      - V(latest) is the newest backup of the server that the connection leads to, or of its primary or standbys, which the system
        identifier tells. When only other clusters have backups there, one of them has to be named by its id. Where the server cannot be
        reached, V(latest) is the newest backup there is, if all are of one cluster; the RV(notes) say so.
    type: str
    default: latest
  verify_in:
    description:
      - V(instance) restores into a throwaway server, started with the programs beside the source's.
      - V(database) restores into a throwaway database of the server itself, where no server programs are to be had. It puts the
        load of a restore on that server.
    type: str
    choices: [instance, database]
    default: instance
  scratch:
    description:
      - Where the throwaway instance runs when O(kubernetes) is used. Without O(kubernetes) this means nothing.
      - V(pod) runs it in a pod of its own, on the same node when the volume of the backups needs that. That pod reads the volume,
        has limits and no service, and is deleted whatever happens; if the module is killed, it ends by itself some minutes
        later, and the next run deletes it. The backups have to be on a volume that another pod can mount.
      - V(pod-local) runs it in the pod of the production server, whose memory and disk it then shares, and is therefore never
        chosen by itself.
    type: str
    choices: [pod, pod-local]
    default: pod
  scratch_pod:
    description: How the pod of O(scratch=pod) differs from its defaults, in the words of Kubernetes.
    type: dict
    default: {}
    suboptions:
      image:
        description: Another image with the programs of a PostgreSQL server. When it is left out, that of the server's container.
        type: str
      resources:
        description:
          - Resources of the container. They go before the defaults.
          - Unless O(check_space=false), the space that the restored database is estimated to take is requested as
            C(ephemeral-storage), and twice of it is the limit.
        type: dict
        default: {}
        suboptions:
          requests:
            description: What the scheduler looks for. By default 100m of C(cpu) and 512Mi of C(memory).
            type: dict
            default: {}
          limits:
            description: What it gets at most. By default 2 of C(cpu) and 2Gi of C(memory).
            type: dict
            default: {}
      volume:
        description:
          - Source of the volume for the throwaway instance, for example an C(ephemeral) one with a storage class, when nodes have no
            room for a whole database. When it is left out, an C(emptyDir).
        type: dict
      timeout:
        description: How long the pod may take to start.
        type: str
        default: 5m
  max_age:
    description:
      - Do nothing if the backup was found V(verified) within this time, for example V(7d).
      - When it is left out, or V(0), the backup is always verified.
    type: str
  jobs:
    description:
      - How many tables and indexes to restore, and to compare, at the same time.
      - When it is left out, the number of CPUs where the throwaway server runs; in a pod of its own at most 8.
    type: int
  scratch_dir:
    description:
      - Directory below which the throwaway server gets its own. It needs room for the whole database.
      - With O(scratch=pod) it is the pod's own volume, and this means nothing.
    type: path
    default: /var/tmp
  check_space:
    description: Whether to refuse when the restored database will probably not fit.
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
- name: Prove the newest backup once a week
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /backups
    max_age: 7d
  register: verification
  become: true
  become_user: postgres

- name: Insist on it
  ansible.builtin.assert:
    that: verification.verdict == "verified"
    fail_msg: "{{ verification.reason }}"

- name: See whether an old hand-made dump restores at all
  godel.postgres_runbook.pg_restore_verify:
    db: godel_production
    backup_dir: /backups
    backup: /backups/godel_20250101_000000.sql.gz
"""

RETURN = r"""
verdict:
  description: V(verified), V(incomplete), V(failed) or V(inconclusive). In check mode V(failed) or null, as nothing is restored.
  returned: success
  type: str
  sample: verified
reason:
  description: One sentence that says why.
  returned: success
  type: str
  sample: "The restored copy equals the source: 1204512 rows in 14 tables, 9 sequences, 131 objects."
differences:
  description: How the copy, or a file, differs from what was recorded; at most 200.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What differs.
      type: str
      sample: rows of table
    subject:
      description: On what.
      type: str
      sample: public.sessions
    expected:
      description: What the source had; null if it had none of it.
      type: raw
    found:
      description: What the copy has; null if it has none of it.
      type: raw
difference_count:
  description: How many differences there are.
  returned: success
  type: int
backup:
  description: The backup that was verified, as M(godel.postgres_runbook.pg_backup) returns it.
  returned: success
  type: dict
restored:
  description: How many tables, rows, sequences, objects and large objects the copy held; null when it was not restored.
  returned: success
  type: dict
notes:
  description: What people should know about the verification.
  returned: success
  type: list
  elements: str
checked_at:
  description: When it was verified, RFC 3339 in UTC.
  returned: success
  type: str
steps:
  description: Seconds that each step took.
  returned: when the backup was verified now
  type: dict
  sample: {"pod_s": 4.0, "files_s": 0.4, "start_s": 1.1, "restore_s": 12.0, "compare_s": 2.1}
duration_s:
  description: Seconds that it took in all.
  returned: when the backup was verified now
  type: float
findings:
  description:
    - The verdict as a finding.
    - For a backup made by hand also its sequences that stand behind the column that they number (C(sequence_position)).
  returned: success
  type: list
  elements: dict
msg:
  description: One sentence for people.
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
    recorded = isinstance(subject, Entry)  # a file made by hand has no place for a verdict
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
