"""A throwaway pod that sees another volume than the server proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube.scratch_pod import ScratchPodOptions
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import FileInfo
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify.restore_copy import ScratchLocation
from ansible_collections.godel.postgres_runbook.plugins.module_utils._verify.scratch_pod import ScratchPod

PLACE = ScratchLocation("instance", "/var/tmp", None, 1, True)


class _Pods(LocalTarget):
    """This host, and beside it one that sees files of another age."""

    def __init__(self, shift_s: float) -> None:
        super().__init__()
        self.shift_s = shift_s

    @contextmanager
    def beside(self, dummy_work: Any, dummy_wanted: Any) -> Iterator[LocalTarget]:
        other = LocalTarget()
        entries = other.files.entries

        def shifted(path: str) -> list[FileInfo]:
            return [FileInfo(i.path, i.is_dir, i.size_bytes, i.modified + self.shift_s) for i in entries(path)]

        other.files.entries = shifted  # type: ignore[method-assign]
        yield other


def opened(tmp_path: Path, shift_s: float, jobs: int | None = None) -> ScratchLocation:
    (tmp_path / "manifest.json").write_text("{}")
    pod = ScratchPod(cast("Any", _Pods(shift_s)), ScratchPodOptions(), jobs)
    with pod.opened(PLACE, str(tmp_path), None) as (dummy, place):
        return place


def test_another_view_of_the_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="another backup"):
        opened(tmp_path, 60)


def test_the_place_is_the_pods_own_disk_and_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/pg_runbook")
    for cpus, jobs in ((2, 2), (64, 8)):  # which may be those of the whole node
        monkeypatch.setattr(LocalTarget, "cpus", lambda dummy, cpus=cpus: cpus)
        assert opened(tmp_path, 0) == ScratchLocation("instance", "/pg_runbook", None, jobs, True)
    assert opened(tmp_path, 0, jobs=17).jobs == 17
