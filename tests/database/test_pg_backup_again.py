"""pg_backup a second time, in check mode and with a diff: it changes what it says, and nothing twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest as manifests
from tests.support.backups import CONTENT, back_up, entries, params
from tests.support.databases import Database, new_database
from tests.support.modules import expect_failure, expect_success
from tests.support.servers import Server


@pytest.fixture(name="filled")
def _filled(database: Database) -> Database:
    database.execute(CONTENT)
    return database


def snapshot_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with sizes and times."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_check_mode_reports_and_changes_nothing(filled: Database, backup_dir: Path) -> None:
    for place in (backup_dir, backup_dir / "new"):
        before = snapshot_of(backup_dir)
        result = expect_success("pg_backup", params(filled, place), check=True, diff=True)
        assert snapshot_of(backup_dir) == before
        assert result["changed"]
        assert "backup" not in result
        preflight = result["preflight"]
        assert preflight["estimate_bytes"] > 0
        assert preflight["free_bytes"] > preflight["estimate_bytes"]
        assert (preflight["jobs"], preflight["predicted_duration_s"]) == (2, None)
        assert filled.name in result["diff"]["after"]
    back_up(filled, backup_dir)
    assert expect_success("pg_backup", params(filled, backup_dir), check=True)["preflight"]["predicted_duration_s"] > 0


def test_check_mode_finds_what_will_fail(filled: Database, backup_dir: Path) -> None:
    for over in ({"login_password": "wrong"}, {"bin_dir": "/nonexistent"}, {"compress": "bzip2"}):
        expect_failure("pg_backup", params(filled, backup_dir, **over), check=True)
    assert list(backup_dir.iterdir()) == []


def test_a_second_run_within_max_age_changes_nothing(filled: Database, backup_dir: Path) -> None:
    first = back_up(filled, backup_dir, max_age="1h")
    assert first["changed"]
    before = snapshot_of(backup_dir)
    for check in (False, True):
        second = expect_success("pg_backup", params(filled, backup_dir, max_age="1h"), check=check, diff=True)
        assert not second["changed"]
        assert second["backup"]["id"] == first["backup"]["id"]
        assert second["backup"]["path"] == first["backup"]["path"]
        assert "diff" not in second or second["diff"]["before"] == second["diff"]["after"]
    assert snapshot_of(backup_dir) == before


def test_a_young_backup_of_another_cluster_is_none_of_this_one(
    filled: Database, new_server: Callable[..., Server], backup_dir: Path
) -> None:
    twin = new_database(new_server(own_identity=True), filled.name)
    ours = back_up(filled, backup_dir)["backup"]
    theirs = back_up(twin, backup_dir, max_age="1h")
    assert theirs["changed"]
    for database, backup in ((filled, ours), (twin, theirs["backup"])):
        again = back_up(database, backup_dir, max_age="1h")
        assert (again["changed"], again["backup"]["id"]) == (False, backup["id"])


def test_without_the_server_nobody_knows_whether_a_young_backup_is_of_it(filled: Database, backup_dir: Path) -> None:
    back_up(filled, backup_dir)
    refused = expect_failure("pg_backup", params(filled, backup_dir, max_age="1h", login_port=1))
    assert refused["error"]["kind"] == "ConnectionFailed"


@pytest.mark.parametrize("max_age", [None, "0", "0s"])
def test_without_max_age_every_run_takes_a_backup(filled: Database, backup_dir: Path, max_age: str | None) -> None:
    over = {} if max_age is None else {"max_age": max_age}
    results = [back_up(filled, backup_dir, fingerprint="none", globals=False, **over) for dummy in range(2)]
    assert all(result["changed"] for result in results)
    assert [entry.id for entry in entries(backup_dir, filled)] == [
        result["backup"]["id"] for result in reversed(results)
    ]


def test_a_backup_that_is_too_old_is_followed_by_another(filled: Database, backup_dir: Path) -> None:
    back_up(filled, backup_dir, fingerprint="none", globals=False)
    time.sleep(2.1)  # ages are whole seconds
    assert back_up(filled, backup_dir, fingerprint="none", globals=False, max_age="1s")["changed"]


def test_a_backup_without_a_fingerprint_is_not_enough_for_who_wants_one(filled: Database, backup_dir: Path) -> None:
    back_up(filled, backup_dir, fingerprint="none")
    assert not back_up(filled, backup_dir, fingerprint="none", max_age="1h")["changed"]
    assert back_up(filled, backup_dir, max_age="1h")["changed"]
    assert not back_up(filled, backup_dir, max_age="1h")["changed"]


@pytest.mark.parametrize("damage", ["manifest", "verdict", "data"])
def test_a_bad_backup_is_not_young_enough(filled: Database, backup_dir: Path, damage: str) -> None:
    path = Path(back_up(filled, backup_dir)["backup"]["path"])
    if damage == "manifest":
        (path / "manifest.json").write_text("{}")
    elif damage == "data":
        shutil.rmtree(path / "data")
    else:
        (path / "verifications").mkdir()
        record = {"schema_version": 1, "verdict": "failed", "checked_at": "2026-02-06T03:04:05Z", "why": ""}
        (path / "verifications" / "20260206T030405Z.json").write_text(json.dumps(record))
    assert back_up(filled, backup_dir, max_age="1h")["changed"]


def test_a_backup_from_the_future_is_not_young_for_ever(filled: Database, backup_dir: Path) -> None:
    path = Path(back_up(filled, backup_dir)["backup"]["path"])
    future = path.with_name(f"{filled.name}_20990101T000000Z")
    path.rename(future)
    text = (future / "manifest.json").read_text()
    assert path.name in text
    changed = replace(manifests.load(text.encode(), "x"), id=future.name, started="2099-01-01T00:00:00Z")
    (future / "manifest.json").write_bytes(manifests.dump(changed))
    assert back_up(filled, backup_dir, max_age="1h")["changed"]


def test_a_diff_names_the_backup(filled: Database, backup_dir: Path) -> None:
    result = expect_success("pg_backup", params(filled, backup_dir), diff=True)
    assert result["diff"] == {"before": "", "after": f"{result['backup']['path']}\n"}
