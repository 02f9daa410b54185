"""The playbook ``query_performance``, run as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.conftest import new_site
from tests.integration.site import Site
from tests.support.databases import Database
from tests.support.queries import PRELOADED, counting_database, counting_installations, repeat
from tests.support.servers import Server

HOSTILE = 'SELECT /* <script>alert(1)</script> \x1b[31m\u202e {{ 7 * 7 }} */ 1 AS "a|b <img src=x>"'


@pytest.fixture(scope="module")
def counted() -> Iterator[Database]:
    """A database of a server that counts queries."""
    with Server(counting_installations()[-1], settings=PRELOADED) as server, counting_database(server) as database:
        yield database


@pytest.fixture
def counting_site(counted: Database) -> Iterator[Site]:
    """A site with it."""
    yield from new_site(counted)


def test_queries_are_compared_with_last_time_and_kept_before_they_are_forgotten(counting_site: Site) -> None:
    site, database = counting_site, counting_site.database
    repeat(database, HOSTILE, 150)
    repeat(database, "SELECT pg_sleep(0.001)", 20)
    first = site.run("query_performance", report=True, query_performance_explain=True)
    assert first.ok, first.output
    assert first.changed() == 0
    artifact = first.stats["query_performance_result"]["db1"]
    assert (artifact["failed"], artifact["available"], artifact["compared_with"]) == (False, True, "")
    history = site.reports / "db1" / "history" / f"query_performance_{database.name}.jsonl"
    [kept] = [json.loads(line) for line in history.read_text().splitlines()]
    report = site.report("query_performance")
    assert any("<script>alert(1)</script> \x1b[31m" in query["query"] for query in report["queries"])
    assert report["sample"] == kept
    assert any("{{ 7 * 7 }}" in query["query"] for query in report["queries"])
    for suffix in ("html", "md"):
        page = (site.reports / "db1" / f"query_performance.{suffix}").read_text()
        assert "alert(1)" in page
        assert not [each for each in ("<script>", "\x1b", "\u202e") if each in page]
        assert page.count("<img") == page.count("\\<img")  # Markdown has its own way to make it harmless

    repeat(database, "SELECT pg_sleep(0.02)", 20)
    words = {"query_performance_reset": True, "query_performance_reset_min_age": "0"}
    second = site.run("query_performance", "--diff", report=True, **words)
    assert second.ok, second.output
    assert second.changed() == 1
    artifact = second.stats["query_performance_result"]["db1"]
    assert (artifact["compared_with"], artifact["slower"], artifact["changed"]) == (kept["collected_at"], 1, True)
    assert "were reset. Discarded: " in artifact["message"]
    assert len(history.read_text().splitlines()) == 2
    [(left,)] = database.query("SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%%<script>%%' AND calls > 1")
    assert left == 0

    again = site.run("query_performance", report=True, query_performance_reset=True)
    assert again.ok, again.output
    assert again.changed() == 0
    assert any(
        "were reset at" in note or "restarted after" in note for note in site.report("query_performance")["notes"]
    )


def test_nothing_is_reset_when_it_cannot_be_kept(counting_site: Site) -> None:
    site, database = counting_site, counting_site.database
    repeat(database, "SELECT 1, 2, 3, 4 AS precious", 150)
    words = {"query_performance_reset": True, "query_performance_reset_min_age": "0"}
    nowhere = site.run("query_performance", **words)
    assert nowhere.returncode == 2
    assert "Missing postgres_report_dir: query_performance_reset requires it." in nowhere.output

    (site.reports / "db1").mkdir(parents=True)
    (site.reports / "db1" / "history").write_text("in the way")
    failed = site.run("query_performance", report=True, **words, query_performance_baseline="none")
    assert failed.returncode == 2
    assert "Keeping the history failed" in failed.stats["query_performance_result"]["db1"]["message"]
    assert site.report("query_performance")["severity"] == "critical"
    assert database.query("SELECT calls FROM pg_stat_statements WHERE query LIKE '%%precious%%' AND calls > 1") == [
        (150,)
    ]
