"""The playbook ``backup_retention``, run as a user runs it."""

from __future__ import annotations

from tests.integration.site import Site

ONE_ONLY = {
    "backup_retention_keep_last": 1,
    "backup_retention_keep_daily": 0,
    "backup_retention_keep_weekly": 0,
    "backup_retention_keep_monthly": 0,
}


def test_young_backups_stay_and_old_ones_are_listed_then_deleted_then_gone(site: Site) -> None:
    for dummy in range(3):
        assert site.run("backup", backup_max_age=0).ok
    oldest, middle, newest = site.entries()

    young = site.run("backup_retention", **ONE_ONLY)
    assert young.ok, young.output
    assert young.changed() == 0
    assert site.entries() == [oldest, middle, newest]

    rehearsal = site.run("backup_retention", "--check", **ONE_ONLY, backup_retention_min_age="0")
    assert rehearsal.ok, rehearsal.output
    assert rehearsal.changed() == 1
    assert site.entries() == [oldest, middle, newest]
    assert set(rehearsal.stats["backup_retention_result"]["db1"]["deleted"]) == {oldest.name, middle.name}

    first = site.run("backup_retention", **ONE_ONLY, backup_retention_min_age="0", report=True)
    assert first.ok, first.output
    assert first.changed() == 1
    assert site.entries() == [newest]
    artifact = first.stats["backup_retention_result"]["db1"]
    assert (set(artifact["deleted"]), artifact["kept"]) == ({oldest.name, middle.name}, 1)
    assert artifact["freed_bytes"] > 0
    assert {each["id"] for each in site.report("backup_retention")["deleted"]} == {oldest.name, middle.name}

    again = site.run("backup_retention", **ONE_ONLY, backup_retention_min_age="0")
    assert again.ok, again.output
    assert again.changed() == 0


def test_rules_that_keep_nothing_are_refused(backed_up: Site) -> None:
    run = backed_up.run("backup_retention", **{**ONE_ONLY, "backup_retention_keep_last": 0})
    assert run.returncode == 2
    assert "Invalid retention rules" in run.output
    assert len(backed_up.entries()) == 1
