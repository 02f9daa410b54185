"""The playbook ``backup_status``, run as a user runs it."""

from __future__ import annotations

import pytest

from tests.integration.site import Site


@pytest.mark.parametrize("arguments", [(), ("--check",)], ids=["run", "check mode"])
def test_young_backups_pass_and_nothing_changes(backed_up: Site, arguments: tuple[str, ...]) -> None:
    run = backed_up.run("backup_status", *arguments)
    assert run.ok, run.output
    assert run.changed() == 0
    artifact = run.stats["backup_status_result"]["db1"]
    newest = backed_up.entries()[-1]
    assert (artifact["backups"], artifact["newest"], artifact["failed"]) == (1, newest.name, False)
    assert artifact["severity"] == "warning"  # it was never verified


def test_a_broken_rpo_fails_the_play_after_the_report_was_written(backed_up: Site) -> None:
    run = backed_up.run("backup_status", report=True, backup_status_rpo="1s")
    assert run.returncode == 2
    last = run.output.rpartition("TASK [")[2]
    assert "The newest usable backup" in last
    assert "Run the playbook godel.postgres_runbook.backup." in last
    assert "never verified" not in last  # that is only a warning
    artifact = run.stats["backup_status_result"]["db1"]
    assert (artifact["severity"], artifact["failed"]) == ("critical", True)
    report = backed_up.report("backup_status")
    assert [finding["severity"] for finding in report["findings"]] == ["critical", "warning"]
    page = (backed_up.reports / "db1" / "backup_status.md").read_text()
    assert f"| {backed_up.entries()[-1].name} | complete |" in page


def test_a_database_without_a_backup_fails_the_play(site: Site) -> None:
    run = site.run("backup_status")
    assert run.returncode == 2
    assert "There is no usable backup" in run.output
    assert site.database.name in run.output


def test_without_a_database_all_of_the_catalog_is_judged(backed_up: Site) -> None:
    del backed_up.hosts["db1"]["postgres_db"]
    try:
        run = backed_up.run("backup_status", report=True)
    finally:
        backed_up.hosts["db1"]["postgres_db"] = backed_up.database.name
    assert run.ok, run.output
    report = backed_up.report("backup_status")
    assert report["title"] == f"Backups in {backed_up.backup_dir}"
    assert [backup["database"] for backup in report["backups"]] == [backed_up.database.name]
