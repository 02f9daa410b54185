#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: workload_scale
short_description: Stop an application in Kubernetes by scaling it to 0, and start it again
version_added: 0.1.0
description:
  - Scales a Deployment or a StatefulSet to 0 and waits until its pods have ended, or scales it to the number of replicas that it had
    and waits until they are ready.
  - The number of replicas is kept in the annotation C(godel.postgres-runbook/replicas) of the workload for as long as it is stopped. Any
    later run can therefore start the workload again, also from another controller.
  - The module checks the rights for both before it changes anything. A message names missing rights, and the file that grants them.
author:
  - The godel.postgres_runbook authors (@godel)
options:
  state:
    description:
      - V(stopped) scales the workload to 0. If an earlier run has stored the number of replicas, that number is kept.
      - V(running) scales a workload that was stopped in this way to the number of replicas that it had. Any other workload is not changed.
    type: str
    choices: [stopped, running]
    required: true
  timeout:
    description:
      - How long the pods may take to end, or to become ready, for example V(10m).
      - The task fails after that, and leaves the workload scaled. The number of replicas stays in the annotation.
    type: str
    default: 5m
extends_documentation_fragment:
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes
notes:
  - O(kubernetes) is required. Its O(kubernetes.workload) is C(deployment/NAME) or C(statefulset/NAME).
seealso:
  - module: godel.postgres_runbook.restore_procedure
"""

EXAMPLES = r"""
- name: Stop the application
  godel.postgres_runbook.workload_scale:
    state: stopped
    kubernetes:
      namespace: godel
      workload: deployment/godel

- name: Start it with as many replicas as it had
  godel.postgres_runbook.workload_scale:
    state: running
    timeout: 10m
    kubernetes:
      namespace: godel
      workload: deployment/godel
"""

RETURN = r"""
workload:
  description: The current state of the workload, also in check mode.
  returned: success
  type: dict
  contains:
    kind:
      description: C(Deployment) or C(StatefulSet).
      type: str
    name:
      description: Its name.
      type: str
    replicas:
      description: The number of replicas that it is scaled to.
      type: int
    selector:
      description: The label selector of its pods.
      type: str
      sample: app=godel
    remembered:
      description: The number of replicas that it had before it was stopped; null when it was not stopped, or was started again.
      type: int
msg:
  description: A summary in one sentence.
  returned: success
  type: str
  sample: Deployment godel is stopped. It had 3 replicas.
"""

from dataclasses import replace

from ..module_utils._argspec import KUBERNETES, ArgumentSpec, duration
from ..module_utils._kube.cluster import connect
from ..module_utils._kube.scaling import ANNOTATION, Replicas, ScalableWorkload
from ..module_utils._module import Call, Result, run

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["stopped", "running"], "required": True},
        "timeout": duration("5m"),
    }
).merge(KUBERNETES)


def operation(call: Call) -> Result:
    """Stop or start the workload."""
    params = call.params
    with connect(params["kubernetes"]) as cluster:
        workload = ScalableWorkload(cluster, params["kubernetes"]["workload"])
        workload.refuse_missing_rights()
        if call.check_mode:
            found = workload.read()
            wanted = _wanted(found, params["state"])
            return Result(
                wanted != found, {"workload": found.as_dict(), "msg": _would(found, wanted)}, _diff(found, wanted)
            )
        before, after = (workload.stop if params["state"] == "stopped" else workload.start)(params["timeout"])
    text = f"{after} runs with {_count(after.replicas)}."
    if params["state"] == "stopped":
        text = f"{after} is stopped. It had {_count(after.remembered or 0)}."
    return Result(before != after, {"workload": after.as_dict(), "msg": text}, _diff(before, after))


def _wanted(found: Replicas, state: str) -> Replicas:
    """How the workload would be scaled."""
    if state == "stopped":
        return replace(found, replicas=0, remembered=found.replicas if found.remembered is None else found.remembered)
    return found if found.remembered is None else replace(found, replicas=found.remembered, remembered=None)


def _would(found: Replicas, wanted: Replicas) -> str:
    if wanted == found:
        return f"{found} is already in the requested state, with {_count(found.replicas)}."
    return f"{found} would be scaled from {found.replicas} to {_count(wanted.replicas)}."


def _count(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"


def _diff(before: Replicas, after: Replicas) -> dict[str, str]:
    return {"before": _text(before), "after": _text(after)}


def _text(workload: Replicas) -> str:
    remembered = "" if workload.remembered is None else f"annotation {ANNOTATION}: {workload.remembered}\n"
    return f"replicas: {workload.replicas}\n{remembered}"


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
