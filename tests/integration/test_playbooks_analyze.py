"""The playbook ``analyze``, run as a user runs it."""

from __future__ import annotations

from tests.integration.site import Site


def test_check_mode_the_work_and_nothing_to_do(site: Site) -> None:
    known = "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'users'"
    checked = site.run("analyze", "--check")
    assert checked.ok, checked.output
    assert (checked.changed(), site.database.query(known)) == (1, [(False,)])
    for changed in (1, 0):
        run = site.run("analyze", report=True)
        assert run.ok, run.output
        assert (run.changed(), site.database.query(known)) == (changed, [(True,)])
        assert run.stats["analyze_result"]["db1"]["changed"] is bool(changed)
