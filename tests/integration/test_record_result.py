"""``record_result`` in a play of a user's own."""

from __future__ import annotations

from typing import Any

from tests.integration.site import COLLECTION, Site


def record(**options: Any) -> dict[str, Any]:
    """A task that records a result, and whose own result is kept as ``recorded``."""
    return {
        f"{COLLECTION}.record_result": {"playbook": "nightly", "title": "Nightly", **options},
        "register": "recorded",
    }


def test_a_result_is_recorded_and_a_report_only_written_where_a_directory_is_given(site: Site) -> None:
    result = {"failed": True, "changed": True, "msg": "The disk is full.", "rows": [{"a": 1, "b": 2}]}
    task = record(result=result, summary={"rows": 1}, directory=str(site.reports), columns={"rows": ["b"]})
    play = site.play(roles=[], tasks=[task])
    wanted = {"failed": True, "changed": True, "message": "The disk is full.", "rows": 1}

    checked = site.run(play, "--check")
    assert checked.ok, checked.output
    assert checked.stats["nightly_result"] == {"db1": wanted}
    assert not site.reports.exists()

    done = site.run(play)
    assert done.ok, done.output
    assert done.changed() == 0
    assert done.stats["nightly_result"] == {"db1": wanted}
    assert site.report("nightly")["severity"] == "critical"
    page = (site.reports / "db1" / "nightly.md").read_text()
    assert "| B |" in page
    assert "| A |" not in page


def test_hosts_are_merged_and_a_summary_replaces_what_the_result_says(site: Site) -> None:
    site.add_host("db2", site.database)
    same = {"failed": True, "message": "{{ inventory_hostname }}"}
    tasks = [record(result={"msg": "Done."}, summary=same), record(playbook="nothing", result={})]
    done = site.run(site.play(roles=[], tasks=tasks), report=True)
    assert done.ok, done.output
    assert done.stats["nightly_result"] == {
        host: {"failed": True, "changed": False, "message": host} for host in ("db1", "db2")
    }
    assert done.stats["nothing_result"]["db1"] == {"failed": True, "changed": False, "message": ""}
    assert not site.reports.exists()


def test_what_cannot_be_written_is_returned_after_the_statistics_are_set(site: Site) -> None:
    site.reports.write_text("a file, where a directory should be")
    tasks = [
        record(result={"msg": "Done."}, directory=str(site.reports)),
        {"ansible.builtin.fail": {"msg": "{{ recorded.report_error }}"}, "when": "recorded.report_error is defined"},
    ]
    done = site.run(site.play(roles=[], tasks=tasks))
    assert done.returncode == 2
    assert f"Writing the report failed on the controller ({site.reports / 'db1'})" in done.output
    assert done.stats["nightly_result"]["db1"]["message"] == "Done."


def test_a_name_that_no_variable_can_have_is_refused(site: Site) -> None:
    done = site.run(site.play(roles=[], tasks=[record(playbook="at-night", result={"msg": "Done."})]))
    assert done.returncode == 2
    assert "Invalid playbook: 'at-night'" in done.output
    assert done.stats == {}
