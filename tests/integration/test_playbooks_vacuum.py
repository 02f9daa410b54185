"""The playbook ``vacuum``, run as a user runs it."""

from __future__ import annotations

from tests.integration.site import Site
from tests.support.vacuums import ALWAYS, bloat, table


def test_what_needs_it_is_listed_then_done_then_left_alone(site: Site) -> None:
    table(site.database)
    checked = site.run("vacuum", "--check", "--diff")
    assert checked.ok, checked.output
    assert checked.changed() == 1
    assert "+public.t: vacuum" in checked.output
    assert site.database.query("SELECT pg_stat_get_dead_tuples('t'::regclass)") == [(2000,)]

    first = site.run("vacuum", report=True, vacuum_cost_delay="1ms", vacuum_parallel=0, vacuum_window=ALWAYS)
    assert first.ok, first.output
    assert first.changed() == 1
    artifact = first.stats["vacuum_result"]["db1"]
    assert (artifact["failed"], artifact["done"], artifact["skipped"], artifact["left"]) == (False, 1, 0, [])
    [row] = site.report("vacuum")["tables"]
    assert (row["name"], row["before"]["dead_tuples"], row["after"]["dead_tuples"]) == ("t", 2000, 0)

    again = site.run("vacuum")
    assert again.ok, again.output
    assert again.changed() == 0


def test_a_rewrite_needs_a_window_and_a_load_limit_leaves_the_rest_for_another_run(site: Site) -> None:
    bloat(site.database)
    rewrite = {"vacuum_full": True, "vacuum_min_bloat_bytes": "100kB"}
    refused = site.run("vacuum", **rewrite)
    assert refused.returncode == 2
    assert "full needs a maintenance window" in refused.output
    assert refused.stats["vacuum_result"]["db1"]["failed"]

    limited = site.run("vacuum", report=True, **rewrite, vacuum_window=ALWAYS, vacuum_max_wal_size="1kB")
    assert limited.ok, limited.output
    assert limited.changed() == 0
    artifact = limited.stats["vacuum_result"]["db1"]
    assert (artifact["left"], artifact["changed"]) == (["public.t"], False)
    assert "max_wal_size allows 1.0 KiB" in artifact["stopped_by"]
    assert site.report("vacuum")["severity"] == "warning"

    done = site.run("vacuum", **rewrite, vacuum_window=ALWAYS)
    assert done.ok, done.output
    assert (done.changed(), done.stats["vacuum_result"]["db1"]["freed_bytes"] > 1_000_000) == (1, True)
