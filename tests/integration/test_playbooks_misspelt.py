"""Options, hosts and tags that are misspelt: each ends the run before anything is done, and the nearest word is named."""

from __future__ import annotations

import pytest

from tests.integration.site import COLLECTION, Site


@pytest.mark.parametrize(
    ("playbook", "arguments", "said"),
    [
        ("backup", ["-e", "target_hosts=db2", "--check"], "Did you mean 'db1'?"),
        ("backup", ["--limit", "other1"], "Invalid --limit: 'other1' leaves no host of 'postgres'."),
        ("maintenance", ["--tags", "dialy"], "Did you mean 'daily'?"),
    ],
)
def test_a_run_without_hosts_or_tasks_is_a_failure(
    backed_up: Site, playbook: str, arguments: list[str], said: str
) -> None:
    backed_up.groups.setdefault("others", ["other1"])
    backed_up.hosts.setdefault("other1", dict(backed_up.hosts["db1"]))
    run = backed_up.run(playbook, *arguments)
    assert run.returncode != 0
    assert "TASK" not in run.output
    for text in (said, "Nothing was done"):
        assert text in run.output


def test_a_misspelt_option_stops_the_run_before_it_does_anything(backed_up: Site) -> None:
    site = backed_up
    run = site.run("restore", restore_bakcup="20260101T000000Z", terminate_sessions_aplication="x", target_host="db2")
    assert run.returncode == 2
    for text in ("Did you mean restore_backup?", "Did you mean terminate_sessions_application?", "target_hosts?"):
        assert text in run.output
    assert f"TASK [{COLLECTION}.restore :" not in run.output
    # In the inventory, and in a play of the user's own, where the role is included.
    site.hosts["db1"]["postgres_kubernets"] = {"namespace": "x"}
    included = site.play(roles=[], tasks=[{"ansible.builtin.include_role": {"name": f"{COLLECTION}.backup"}}])
    run = site.run(included)
    del site.hosts["db1"]["postgres_kubernets"]
    assert run.returncode == 2
    assert "Did you mean postgres_kubernetes?" in run.output
    assert len(site.entries()) == 1


def test_a_missing_option_takes_one_line_and_a_users_own_variable_is_no_mistake(backed_up: Site) -> None:
    site = backed_up
    del site.hosts["db1"]["postgres_db"]
    run = site.run("backup", backup_format="zip")
    site.hosts["db1"]["postgres_db"] = site.database.name
    assert run.returncode == 2
    [line] = [line for line in run.output.splitlines() if line.startswith("fatal: ")]
    for text in (
        "Missing postgres_db: Name of the database.",
        "value of backup_format must be one of",
        "Nothing was done",
    ):
        assert text in line
    assert len(line) < 500
    site.hosts["db1"].update(backup_window_host="x", postgres_version=15)
    run = site.run("backup", "--check", check_options_ignore=["backup_window_*"], backup_window_days=3)
    for name in ("backup_window_host", "postgres_version"):
        del site.hosts["db1"][name]
    assert run.ok, run.output
