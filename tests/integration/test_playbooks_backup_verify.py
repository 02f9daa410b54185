"""The playbook ``backup_verify``, run as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.integration.site import Site


def verdicts(entry: Path) -> list[str]:
    """The verdicts that are recorded for a backup."""
    return [json.loads(path.read_text())["verdict"] for path in sorted(entry.glob("verifications/*.json"))]


def test_check_mode_then_a_proof_then_nothing_to_do(site: Site) -> None:
    assert site.run("backup").ok
    [entry] = site.entries()

    rehearsal = site.run("backup_verify", "--check", report=True)
    assert rehearsal.ok, rehearsal.output
    assert verdicts(entry) == []
    assert rehearsal.stats["backup_verify_result"]["db1"]["verdict"] == ""
    assert not site.reports.exists()

    first = site.run("backup_verify", report=True)
    assert first.ok, first.output
    assert first.changed() == 1
    assert verdicts(entry) == ["verified"]
    artifact = first.stats["backup_verify_result"]["db1"]
    assert (artifact["verdict"], artifact["backup"], artifact["failed"]) == ("verified", entry.name, False)
    report = site.report("backup_verify")
    assert (report["severity"], report["verdict"]) == ("ok", "verified")

    again = site.run("backup_verify")
    assert again.ok, again.output
    assert again.changed() == 0
    assert verdicts(entry) == ["verified"]


def test_a_damaged_backup_fails_the_play_after_the_report_was_written(site: Site) -> None:
    assert site.run("backup").ok
    [entry] = site.entries()
    largest = max((path for path in entry.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)

    rehearsal = site.run("backup_verify", "--check")
    assert rehearsal.returncode == 2
    assert verdicts(entry) == []

    run = site.run("backup_verify", report=True)
    assert run.returncode == 2
    assert verdicts(entry) == ["failed"]
    last = run.output.rpartition("TASK [")[2]
    assert f"{entry.name} is failed." in last
    artifact = run.stats["backup_verify_result"]["db1"]
    assert (artifact["verdict"], artifact["failed"]) == ("failed", True)
    report = site.report("backup_verify")
    [finding] = report["findings"]
    assert (report["severity"], finding["severity"], finding["value"]) == ("critical", "critical", "failed")
    assert finding["remedy"] in last
    assert largest.name in (site.reports / "db1" / "backup_verify.html").read_text()


def test_a_backup_made_by_hand_is_not_taken_for_proven(backed_up: Site) -> None:
    by_hand = backed_up.folder / "by_hand.sql"
    by_hand.write_text(backed_up.database.run("pg_dump"))
    run = backed_up.run("backup_verify", backup_verify_backup=str(by_hand))
    assert run.returncode == 2
    artifact = run.stats["backup_verify_result"]["db1"]
    assert (artifact["verdict"], artifact["path"]) == ("inconclusive", str(by_hand))
    assert "inconclusive" in run.output.rpartition("TASK [")[2]


def test_a_backup_that_is_not_there_is_an_error_that_lists_what_is(backed_up: Site) -> None:
    run = backed_up.run("backup_verify", backup_verify_backup="nothing_20200101T000000Z", report=True)
    assert run.returncode == 2
    assert "There is no such backup" in run.output
    assert backed_up.entries()[0].name in run.output
    assert backed_up.report("backup_verify")["severity"] == "critical"
    shutil.rmtree(backed_up.reports)


def test_an_older_backup_is_verified_in_the_server_itself_when_asked(backed_up: Site) -> None:
    older = backed_up.entries()[0].name
    assert backed_up.run("backup", backup_max_age=0).ok
    run = backed_up.run("backup_verify", backup_verify_backup=older, backup_verify_in="database", backup_verify_jobs=1)
    assert run.ok, run.output
    assert run.stats["backup_verify_result"]["db1"]["backup"] == older
