"""pg_backup_info beside real backups: one that is there, one that is being written, one that was killed."""

from __future__ import annotations

from pathlib import Path

from tests.support.backups import back_up
from tests.support.catalogs import stopped_backup
from tests.support.databases import Database
from tests.support.modules import expect_success


def test_a_real_backup_is_listed_as_it_was_reported(database: Database, backup_dir: Path) -> None:
    database.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g")
    taken = back_up(database, backup_dir)["backup"]
    result = expect_success("pg_backup_info", {"backup_dir": str(backup_dir), "rpo": "5m"})
    (listed,) = result["backups"]
    assert {name: listed[name] for name in taken} == taken
    assert listed["fingerprint"]["rows"] == 1000
    assert (listed["state"], listed["verdict"]) == ("complete", None)
    assert 0 <= listed["age_s"] < 120
    assert {each["check"]: each["severity"] for each in result["findings"]} == {
        "backup_rpo": "ok",
        "backup_verified": "warning",
    }


def test_a_backup_being_written_is_in_progress_and_a_killed_one_is_not(database: Database, backup_dir: Path) -> None:
    asked = {"backup_dir": str(backup_dir), "db": database.name}
    with stopped_backup(database, backup_dir) as writing:
        alive = expect_success("pg_backup_info", asked)
    assert [each["in_progress"] for each in alive["incomplete"]] == [True]
    assert f"process {writing.pid} " in alive["databases"][0]["busy"]
    assert alive["backups"] == []
    dead = expect_success("pg_backup_info", asked)
    assert [each["in_progress"] for each in dead["incomplete"]] == [False]
    assert dead["databases"][0]["busy"] is None
    assert {each["check"]: each["severity"] for each in dead["findings"]} == {
        "backup_rpo": "critical",
        "backup_incomplete": "warning",
    }
