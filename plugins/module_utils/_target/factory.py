# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the target that a module's parameters ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._units import parse_duration
from .base import Target
from .local import LocalTarget

if TYPE_CHECKING:
    from .._ops.apart import ScratchPod


def create_target(params: Mapping[str, Any]) -> Target:
    """The place where the work of a module happens: a pod, or the host that the module runs on."""
    cluster = params.get("kubernetes")
    if not cluster:
        return LocalTarget()
    # Only here: it takes a tenth of a second, which a plain host need not pay.
    from .._kube.cluster import ClusterOptions
    from .kubernetes import KubernetesTarget

    return KubernetesTarget.of(ClusterOptions.from_params(cluster), cluster["workload"], cluster["container"])


def scratch_pod(target: Target, params: Mapping[str, Any]) -> ScratchPod | None:
    """The throwaway pod that a module may work in, as its parameters `scratch_pod` and `jobs` say; None on a host."""
    if not params.get("kubernetes"):
        return None
    from .._kube.scratch_pod import Wanted
    from .._ops.apart import ScratchPod
    from .kubernetes import KubernetesTarget

    if not isinstance(target, KubernetesTarget):
        raise AssertionError("create_target makes one, when kubernetes is given")
    words = params["scratch_pod"]
    timeout_s = parse_duration(words["timeout"], "scratch_pod.timeout")
    return ScratchPod(target, Wanted(words["image"], words["resources"], words["volume"], timeout_s), params["jobs"])
