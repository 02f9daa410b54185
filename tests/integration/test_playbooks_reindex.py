"""The playbook ``reindex``, run as a user runs it."""

from __future__ import annotations

from tests.integration.site import Site


def test_check_mode_the_work_and_nothing_to_do(site: Site) -> None:
    database = site.database
    database.execute(
        "CREATE INDEX users_name ON users (name)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_name'::regclass",
    )
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    checked = site.run("reindex", "--check")
    assert checked.ok, checked.output
    assert (checked.changed(), database.query(invalid)) == (1, [(1,)])
    for changed in (1, 0):
        run = site.run("reindex", report=True)
        assert run.ok, run.output
        assert (run.changed(), database.query(invalid)) == (changed, [(0,)])
        assert run.stats["reindex_result"]["db1"]["changed"] is bool(changed)
