"""The playbook ``backup``, run as a user runs it."""

from __future__ import annotations

import json

import pytest

from tests.integration.conftest import fill
from tests.integration.site import Site, by_path
from tests.support.databases import new_database, unique_name

SECRET = "dummy-secret-of-this-test-77ab"


def test_check_mode_then_a_backup_then_nothing_to_do(site: Site) -> None:
    rehearsal = site.run("backup", "--check", "--diff", report=True)
    assert rehearsal.ok, rehearsal.output
    assert rehearsal.changed() == 1
    assert list(site.backup_dir.iterdir()) == []
    assert not site.reports.exists()

    first = site.run("backup", "-vvv", report=True)
    assert first.returncode == 0, first.output
    assert first.changed() == 1
    [entry] = site.entries()
    artifact = first.stats["backup_result"]["db1"]
    assert (artifact["backup"], artifact["changed"], artifact["failed"]) == (entry.name, True, False)
    assert artifact["size_bytes"] > 0
    report = site.report("backup")
    assert (report["playbook"], report["host"], report["database"]) == ("backup", "db1", site.database.name)
    assert (report["severity"], report["backup"]["id"]) == ("ok", entry.name)
    assert site.database.server.password not in first.output + json.dumps(report)

    again = site.run("backup")
    assert again.ok, again.output
    assert again.changed() == 0
    assert site.entries() == [entry]
    assert again.stats["backup_result"]["db1"]["backup"] == entry.name
    # Its cost is its tasks: two checks of arguments, that of the options, the module and the artifact.
    assert again.recap["db1"]["ok"] == 5


def test_by_path_and_with_max_age_0_there_is_always_another_backup(site: Site) -> None:
    for number in (1, 2):
        run = site.run(by_path("backup"), backup_max_age=0, backup_format="custom", backup_change_id="CHG-7")
        assert run.ok, run.output
        assert len(site.entries()) == number
    manifest = json.loads((site.entries()[-1] / "manifest.json").read_text())
    assert (manifest["format"], manifest["change_id"]) == ("custom", "CHG-7")


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"backup_format": "tarball"}, ["backup_format must be one of", "directory, custom, plain", "tarball"]),
        ({"backup_jobs": "many"}, ["backup_jobs", "many"]),
        ({"backup_jobs": -1}, ["Invalid jobs", "-1", "Use 1 to 1000"]),
        ({"backup_compress": "rot13"}, ["Invalid compress", "rot13"]),
        ({"backup_max_age": "soon"}, ["Invalid max_age", "soon", "15m"]),
        ({"postgres_db": None}, ["Missing postgres_db", "Nothing was done"]),
        ({"postgres_login": {"login_hots": "127.0.0.1"}}, ["login_hots", "login_host"]),
    ],
    ids=["format", "jobs", "negative jobs", "compression", "duration", "no database", "misspelt login"],
)
def test_a_value_that_cannot_work_is_refused_by_name(site: Site, variables: dict[str, object], told: list[str]) -> None:
    for host in site.hosts.values():
        host.update({name: value for name, value in variables.items() if value is not None})
        for name in [name for name, value in variables.items() if value is None]:
            del host[name]
    run = site.run("backup")
    assert run.returncode == 2
    assert "Traceback" not in run.output
    assert [word for word in told if word not in run.output] == [], run.output
    assert site.entries() == []


def test_a_refused_login_is_reported_without_its_password(site: Site) -> None:
    site.hosts["db1"]["postgres_login"]["login_password"] = SECRET
    run = site.run("backup", "-vvvv", report=True)
    assert run.returncode == 2
    assert "Cannot connect to PostgreSQL" in run.output
    assert SECRET not in run.output
    artifact = run.stats["backup_result"]["db1"]
    assert (artifact["failed"], artifact["backup"]) == (True, "")
    report = site.report("backup")
    assert report["severity"] == "critical"
    assert "login_password" in report["findings"][0]["remedy"]
    assert not any(SECRET in path.read_text() for path in (site.reports / "db1").iterdir())


def test_a_report_that_cannot_be_written_fails_the_play_but_not_the_backup(site: Site) -> None:
    site.reports.write_text("a file, where a directory should be")
    run = site.run("backup", report=True)
    assert run.returncode == 2
    assert "The report cannot be written on the controller" in run.output
    assert "postgres_report_dir" in run.output
    [entry] = site.entries()
    assert run.stats["backup_result"]["db1"]["backup"] == entry.name


def test_each_host_has_its_own_backup_report_and_artifact(site: Site) -> None:
    other = fill(new_database(site.database.server))
    spare = new_database(site.database.server)
    site.add_host("db2", other)
    site.add_host("spare1", spare, group="spares")
    try:
        run = site.run("backup", report=True)
        assert run.ok, run.output
        assert {host: counts["changed"] for host, counts in run.recap.items()} == {"db1": 1, "db2": 1}
        artifacts = run.stats["backup_result"]
        assert {host: found["backup"].rpartition("_")[0] for host, found in artifacts.items()} == {
            "db1": site.database.name,
            "db2": other.name,
        }
        assert site.report("backup", "db2")["database"] == other.name

        elsewhere = site.run("backup", target_hosts="spares")
        assert elsewhere.ok, elsewhere.output
        assert list(elsewhere.recap) == ["spare1"]
    finally:
        other.drop()
        spare.drop()


def test_a_login_that_a_play_gives_to_all_modules_counts(site: Site) -> None:
    login = site.hosts["db1"].pop("postgres_login")
    own = site.play(roles=["backup"], module_defaults={"group/godel.postgres_runbook.all": login})
    run = site.run(own)
    assert run.ok, run.output
    assert len(site.entries()) == 1


def test_a_name_made_to_break_things_reaches_the_report_as_it_is(site: Site) -> None:
    name = unique_name("<b>a|b</b> {{ 7 * 7 }} \"q\" 'é' %s")
    database = new_database(site.database.server, name)
    try:
        own = site.play(roles=["backup"])
        # What a user writes as `!unsafe` in YAML, so that Ansible itself takes it literally.
        unsafe = site.folder / "name.yml"
        unsafe.write_text("postgres_db: !unsafe " + json.dumps(name, ensure_ascii=False) + "\n")
        run = site.run(own, "-e", f"@{unsafe}", report=True)
        assert run.ok, run.output
        report = site.report("backup")
        assert report["title"] == f"Backup of {name}"
        assert report["backup"]["database"] == name
        page = (site.reports / "db1" / "backup.html").read_text()
        assert "<b>" not in page
        assert "&lt;b&gt;a|b&lt;/b&gt; {{ 7 * 7 }}" in page
    finally:
        database.drop()
