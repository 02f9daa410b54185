"""A copy of a backup is a second one only somewhere else."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.fetch import too_near
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget


def test_a_copy_on_the_file_system_of_the_backup_gets_a_warning(tmp_path: Path) -> None:
    [warning] = too_near(LocalTarget(), str(tmp_path), str(tmp_path / "not" / "there" / "yet"))
    assert "backup_fetch_dir" in warning
    assert too_near(LocalTarget(), str(tmp_path), "/proc") == []
