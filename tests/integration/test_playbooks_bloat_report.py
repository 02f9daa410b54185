"""The playbook ``bloat_report``, run as a user runs it."""

from __future__ import annotations

from tests.integration.site import Site
from tests.support.vacuums import bloat

CONTRACT = {
    "schema",
    "name",
    "kind",
    "size_bytes",
    "bloat_bytes",
    "bloat_ratio",
    "method",
    "confidence",
    "recommendation",
}


def test_estimates_alone_then_measured_and_nothing_changes(site: Site) -> None:
    bloat(site.database)
    site.database.execute("CREATE EXTENSION pgstattuple")
    files = site.database.query("SELECT pg_relation_filenode('t'), pg_total_relation_size('t')")
    words = {"bloat_report_schemas": ["public"], "bloat_report_min_bloat_bytes": "100kB"}
    for budget, method in (("0", "estimate"), ("60s", "pgstattuple")):
        run = site.run("bloat_report", report=True, **words, bloat_report_measure_budget=budget)
        assert run.ok, run.output
        assert run.changed() == 0
        report = site.report("bloat_report")
        assert all(report["relations"]), report
        assert all(each.keys() >= CONTRACT for each in report["relations"])
        [table] = [each for each in report["relations"] if each["name"] == "t"]
        assert (table["kind"], table["method"], table["recommendation"]) == ("table", method, "repack")
        assert 0.45 < table["bloat_ratio"] < 0.55
        artifact = run.stats["bloat_report_result"]["db1"]
        assert (artifact["severity"], artifact["failed"]) == ("warning", False)
        assert artifact["bloat_bytes"] == report["totals"]["bloat_bytes"] > 1_000_000
    assert site.database.query("SELECT pg_relation_filenode('t'), pg_total_relation_size('t')") == files


def test_check_mode_and_a_small_list(site: Site) -> None:
    bloat(site.database)
    run = site.run("bloat_report", "--check", report=True, bloat_report_min_size="0", bloat_report_top=1)
    assert run.ok, run.output
    assert run.stats["bloat_report_result"]["db1"]["relations"] > 1
    assert not site.reports.exists()
