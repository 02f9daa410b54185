# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify in a throwaway pod, where production lends nothing but a look at its backups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .._errors import FileProblem
from .._kube.scratch_pod import ScratchPodOptions, ScratchPodWork
from .._target.base import Target
from .._target.kubernetes import KubernetesTarget
from .restore_copy import ScratchLocation

_MOST_JOBS = 8  # each takes memory, and a node's limits cannot always be seen from inside a pod


@dataclass(frozen=True)
class ScratchPod:
    """A pod to create beside that of the server; `jobs` is None for as many as it has CPUs, at most 8."""

    beside: KubernetesTarget
    wanted: ScratchPodOptions
    jobs: int | None

    def rehearse(self, path: str, space_bytes: int | None) -> None:
        """Raise what keeps it from being made, and make nothing."""
        self.beside.rehearse_beside(ScratchPodWork(path, space_bytes), self.wanted)

    @contextmanager
    def opened(
        self, place: ScratchLocation, path: str, space_bytes: int | None
    ) -> Iterator[tuple[Target, ScratchLocation]]:
        """The pod, and the place in it, for a backup at this path that needs this much space; removed afterwards."""
        with self.beside.beside(ScratchPodWork(path, space_bytes), self.wanted) as pod:
            if _look(self.beside, path) != _look(pod, path):
                raise FileProblem(
                    "The scratch pod sees another backup than the pod of the server",
                    subject=path,
                    why="another volume is mounted there",
                    remedy="Name backup_dir without symbolic links, as the volume is mounted. Nothing was recorded.",
                )
            scratch_dir = pod.run(["sh", "-c", 'printf %s "$TMPDIR"']).text
            yield pod, replace(place, scratch_dir=scratch_dir, jobs=self.jobs or min(_MOST_JOBS, pod.cpus()))


def _look(target: Target, path: str) -> list[tuple[str, int, float]]:
    """Identifies a backup without reading it."""
    found = target.files.info(path)
    if found is None:
        return []
    every = target.files.entries(path) if found.is_dir else [found]
    return [(info.path, info.size_bytes, info.modified) for info in every]


# --- _target.factory


def scratch_pod(target: Target, params: Mapping[str, Any]) -> ScratchPod | None:
    """The throwaway pod that a module may work in, as its parameters `scratch_pod` and `jobs` say; None on a host."""
    if not params.get("kubernetes"):
        return None
    from .._kube.scratch_pod import ScratchPodOptions
    from .._target.kubernetes import KubernetesTarget

    if not isinstance(target, KubernetesTarget):
        raise AssertionError("create_target makes one, when kubernetes is given")
    return ScratchPod(target, ScratchPodOptions.from_params(params["scratch_pod"]), params["jobs"])
