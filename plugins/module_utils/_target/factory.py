# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the target that a module's parameters ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .base import Target
from .local import LocalTarget

if TYPE_CHECKING:
    pass


def create_target(params: Mapping[str, Any]) -> Target:
    """The place where the work of a module happens: a pod, or the host that the module runs on."""
    cluster = params.get("kubernetes")
    if not cluster:
        return LocalTarget()
    # Only here: it takes a tenth of a second, which a plain host need not pay.
    from .._kube.cluster import ClusterOptions
    from .kubernetes import KubernetesTarget

    return KubernetesTarget.of(ClusterOptions.from_params(cluster), cluster["workload"], cluster["container"])
