"""pg_backup_prune beside real backups: it deletes old ones, removes those of killed runs, and leaves running ones alone."""

from __future__ import annotations

from pathlib import Path

from tests.support.backups import back_up, catalog_of, entries
from tests.support.catalogs import stopped_backup
from tests.support.databases import Database
from tests.support.modules import expect_failure, expect_success


def test_a_backup_that_is_kept_is_as_good_as_before(database: Database, backup_dir: Path) -> None:
    database.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g")
    taken = [back_up(database, backup_dir)["backup"] for dummy in range(3)]
    keep = {"backup_dir": str(backup_dir), "db": database.name, "keep_last": 1}
    result = expect_success("pg_backup_prune", keep)
    assert [each["id"] for each in result["deleted"]] == [taken[1]["id"], taken[0]["id"]]
    assert result["freed_bytes"] == taken[0]["size_bytes"] + taken[1]["size_bytes"]
    (left,) = entries(backup_dir, database)
    assert left.id == taken[2]["id"]
    files = {path: record.sha256 for path, record in left.usable().files.items()}
    found = catalog_of(backup_dir)._files.sha256([f"{left.path}/{name}" for name in files])
    assert {f"{left.path}/{name}": digest for name, digest in files.items()} == found


def test_a_running_backup_is_left_alone_and_a_killed_one_is_swept(database: Database, backup_dir: Path) -> None:
    taken = [back_up(database, backup_dir)["backup"]["id"] for dummy in range(2)]
    keep = {"backup_dir": str(backup_dir), "db": database.name, "keep_last": 1}
    with stopped_backup(database, backup_dir) as running:
        for check in (True, False):
            refused = expect_failure("pg_backup_prune", keep, check=check)
            assert refused["error"]["kind"] == "Locked"
            assert f"process {running.pid} " in refused["msg"]
        assert [entry.id for entry in entries(backup_dir, database)] == taken[::-1]
    left = catalog_of(backup_dir).unfinished(database.name)
    result = expect_success("pg_backup_prune", keep)
    assert (result["removed"], [each["id"] for each in result["deleted"]]) == (left, taken[:1])
    assert len(left) == 1
    assert [entry.id for entry in entries(backup_dir, database)] == taken[1:]
