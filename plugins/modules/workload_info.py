#!/usr/bin/python
# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: workload_info
short_description: Look at an application in Kubernetes before it is scaled down and up
version_added: 0.1.0
description:
  - Asks whether the rights are there to scale a Deployment or a StatefulSet, and names those that are missing, with the file that grants
    them. Returns how many replicas it has, and how many it shall have again if a run before has scaled it down.
  - The role P(godel.postgres_runbook.restore#role) calls it before it does anything.
author:
  - The godel.postgres_runbook authors (@godel)
extends_documentation_fragment:
  - godel.postgres_runbook.kubernetes
  - godel.postgres_runbook.attributes.read_only
seealso:
  - module: kubernetes.core.k8s_scale
"""

EXAMPLES = r"""
- name: See that the application can be scaled
  godel.postgres_runbook.workload_info:
    kubernetes:
      namespace: godel
      workload: deployment/godel
"""

RETURN = r"""
workload:
  description: The application.
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
      description: How many it shall have now.
      type: int
    selector:
      description: How its pods are selected by their labels.
      type: str
      sample: app=godel
    remembered:
      description: How many it had before a run scaled it down; null if none did, or it was scaled up since.
      type: int
msg:
  description: One sentence for people.
  returned: success
  type: str
"""

from ..module_utils._argspec import KUBERNETES, ArgumentSpec
from ..module_utils._errors import InvalidInput
from ..module_utils._module import Call, Result, run

SPEC = ArgumentSpec({}).merge(KUBERNETES)
_ANNOTATION = "godel.postgres-runbook/replicas"
_GRANT = "restore"
_KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}


def operation(call: Call) -> Result:
    """Look at the application."""
    from ..module_utils._kube.access import Right, refuse_missing
    from ..module_utils._kube.cluster import Cluster, ClusterOptions
    from ..module_utils._kube.workload import read_workload, selector_text

    words = call.params["kubernetes"]
    if not words:
        raise InvalidInput("kubernetes is missing", remedy="Name the namespace and the workload.")
    plural, name = read_workload(words["workload"])
    if plural is None or name is None:
        raise InvalidInput(
            "This workload cannot be scaled",
            subject=words["workload"],
            remedy="Use deployment/NAME or statefulset/NAME.",
        )
    cluster = Cluster(ClusterOptions.from_params(words))
    own = [Right((verb,), plural, "apps", name) for verb in ("get", "patch")]
    scale = [Right((verb,), f"{plural}/scale", "apps", name) for verb in ("get", "patch")]
    refuse_missing(cluster, [*own, *scale, Right(("list",), "pods")], _GRANT)
    found = cluster.get(cluster.path(plural, name, api="apis/apps/v1"))
    remembered = str((found["metadata"].get("annotations") or {}).get(_ANNOTATION, ""))
    workload = {
        "kind": _KINDS[plural],
        "name": name,
        "replicas": found["spec"].get("replicas", 1),
        "selector": selector_text(found["spec"]["selector"]),
        "remembered": int(remembered) if remembered.isdigit() else None,
    }
    text = f"{workload['kind']} {name} has {workload['replicas']} replicas"
    text += f", and {remembered} before a run scaled it down." if remembered else "."
    return Result(False, {"workload": workload, "msg": text})


def main() -> None:
    """Entry point."""
    run(SPEC, operation)


if __name__ == "__main__":
    main()
