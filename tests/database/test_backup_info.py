"""pg_backup_info beside real backups: one that is there, one that is being written, one that was killed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.godel.postgres_runbook.plugins.modules import pg_backup_info, pg_health_info
from tests.support.backups import back_up
from tests.support.catalogs import add_backup, stopped_backup
from tests.support.databases import Database, new_database
from tests.support.modules import expect_success
from tests.support.operations import attempt
from tests.support.replicas import replica_of
from tests.support.servers import Server


def test_a_real_backup_is_listed_as_it_was_reported(database: Database, backup_dir: Path) -> None:
    database.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g")
    taken = back_up(database, backup_dir)["backup"]
    asked = {**database.login(), "backup_dir": str(backup_dir), "rpo": "5m"}
    result = expect_success("pg_backup_info", asked)
    assert result["notes"] == []
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
    asked = {**database.login(), "backup_dir": str(backup_dir)}
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


def test_only_the_servers_own_backups_count(database: Database, backup_dir: Path) -> None:
    asked = {"backup_dir": str(backup_dir)}
    add_backup(backup_dir, database.name, datetime.now(UTC), cluster="42", verdict="verified")
    [(cluster,)] = database.query("SELECT system_identifier::text FROM pg_control_system()")
    for words in (asked, {**asked, "db": None}):
        seen = attempt(pg_backup_info, database, **words)
        assert (seen["cluster"], seen["severity"]) == (cluster, "critical")
        [rpo] = [each for each in seen["findings"] if each["check"] == "backup_rpo"]
        assert "of this server" in rpo["message"]
    found = attempt(pg_health_info, database, **asked, sections=["backups"])
    assert {each["check"]: each["severity"] for each in found["findings"]}["backup_rpo"] == "critical"

    back_up(database, backup_dir)
    seen = attempt(pg_backup_info, database, **asked)
    assert {each["check"]: each["severity"] for each in seen["findings"]} == {
        "backup_rpo": "ok",
        "backup_verified": "warning",
        "backup_clusters": "info",
    }
    assert [each["cluster"] for each in seen["databases"][0]["clusters"]] == [cluster, "42"]
    found = attempt(pg_health_info, database, **asked, sections=["backups"])
    assert "critical" not in {each["severity"] for each in found["findings"]}


def test_a_server_that_does_not_answer_is_a_note_and_one_without_the_database_still_tells(
    database: Database, backup_dir: Path
) -> None:
    add_backup(backup_dir, "app", datetime.now(UTC), cluster="42", verdict="verified")
    down = attempt(pg_backup_info, database, backup_dir=str(backup_dir), db="app", login_port=1)
    told = {each["check"]: each["severity"] for each in down["findings"] if each["check"] != "backup_verified"}
    assert (down["cluster"], told) == (None, {"backup_rpo": "ok", "backup_server": "info"})
    assert "of cluster 42" in down["findings"][0]["message"]
    assert "did not report its cluster id" in down["notes"][0]
    assert down["databases"][0]["clusters"][0]["cluster"] == "42"
    dropped = attempt(pg_backup_info, database, backup_dir=str(backup_dir), db="app")
    assert dropped["cluster"] is not None
    assert dropped["severity"] == "critical"


def test_a_standby_has_the_backups_of_its_primary(new_server: Callable[..., Server], backup_dir: Path) -> None:
    server = new_server()
    database = new_database(server)
    back_up(database, backup_dir)
    with replica_of(server) as standby:
        seen = attempt(pg_backup_info, Database(standby, database.name), backup_dir=str(backup_dir))
    assert {each["check"]: each["severity"] for each in seen["findings"]}["backup_rpo"] == "ok"
