"""The playbook ``health``, run as a user runs it: pages, an overview, figures for Prometheus, and an exit code."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.conftest import new_site
from tests.integration.site import Site
from tests.support.databases import Database
from tests.support.queries import PRELOADED, counting_database, counting_installations, repeat
from tests.support.servers import Server

# A server of the tests runs without fsync, which is no finding of these tests.
IGNORED = ["server_fsync", "server_full_page_writes"]


@pytest.fixture
def closed_port() -> int:
    """A port of this machine where no process listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_server_that_is_well_has_a_page_and_the_run_succeeds(site: Site) -> None:
    prometheus = site.folder / "textfile"
    words = {"health_ignore": IGNORED, "health_prometheus_dir": str(prometheus), "postgres_backup_dir": ""}
    rehearsal = site.run("health", "--check", report=True, **words)
    assert rehearsal.ok, rehearsal.output
    assert not site.reports.exists()
    assert not prometheus.exists()

    done = site.run("health", report=True, **words)
    assert done.ok, done.output
    assert done.changed() == 0
    page = site.report("health")
    assert page["reachable"]
    assert page["severity"] in ("ok", "info", "warning")
    assert set(page) >= {"findings", "sections", "collected_at"}
    assert {section["state"] for section in page["sections"].values()} == {"read"}
    assert "backups" not in page["sections"]
    assert not [each for each in page["findings"] if each["check"] in IGNORED]
    assert "2 findings left out because of the option ignore." in page["sections"]["server"]["notes"]
    artifact = done.stats["health_result"]["db1"]
    assert (artifact["failed"], artifact["severity"], artifact["reachable"]) == (False, page["severity"], True)
    figures = (prometheus / "godel_postgres.prom").read_text()
    assert 'godel_postgres_up{host="db1"} 1.0\n' in figures
    assert f'godel_postgres_database_size_bytes{{host="db1",datname="{site.database.name}"}} ' in figures
    assert len((site.reports / "db1" / "history" / "health.jsonl").read_text().splitlines()) == 1


@pytest.fixture
def counting_site() -> Iterator[Site]:
    """A site with a server that counts queries."""
    with Server(counting_installations()[-1], settings=PRELOADED) as server, counting_database(server) as database:
        yield from new_site(database)


def test_the_page_tells_what_has_changed_since_earlier_runs(counting_site: Site) -> None:
    site, database = counting_site, counting_site.database
    words: dict[str, Any] = {"health_ignore": IGNORED, "health_fail_at": "never", "postgres_backup_dir": ""}
    words["health_sections"] = ["queries", "storage", "replication"]
    repeat(database, "SELECT pg_sleep(0.001)", 20)
    first = site.run("health", report=True, **words)
    assert first.ok, first.output
    history = site.reports / "db1" / "history"
    by_queries = history / f"query_performance_{database.name}.jsonl"
    kept = {path.name: json.loads(path.read_text()) for path in history.iterdir()}
    assert set(kept) == {"health.jsonl", "storage.jsonl", by_queries.name}
    sizes = kept["storage.jsonl"]
    lines = []
    for days in range(500, 0, -1):  # the playbook storage may keep more than we do
        at = f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        free = sizes["free_bytes"] + days * sizes["free_bytes"] // 15
        lines.append(json.dumps({**sizes, "collected_at": at, "free_bytes": free, "total_bytes": None}) + "\n")
    (history / "storage.jsonl").write_text("".join(lines))
    repeat(database, "SELECT pg_sleep(0.02)", 20)
    old = time.time() - 86400
    os.utime(by_queries, (old, old))

    words["health_thresholds"] = {"replication": {"expected_replicas": 1}}
    second = site.run("health", report=True, **words)
    assert second.ok, second.output
    assert second.changed() == 0
    page = site.report("health")
    told = {each["check"]: each for each in page["findings"]}
    assert told["query_slower"]["section"] == "queries"
    assert told["disk_forecast"]["severity"] == "warning"
    assert told["replication_replicas"]["section"] == "replication"
    assert page["sections"]["storage"]["data"]["forecast"]["samples"] == 31
    assert page["sections"]["storage"]["data"]["free_bytes"] > 0
    html = (site.reports / "db1" / "health.html").read_text()
    assert ">Changes<" in html
    counts = {path.name: len(path.read_text().splitlines()) for path in history.iterdir()}
    assert counts == {"health.jsonl": 2, "storage.jsonl": 500, by_queries.name: 2}


def test_a_fleet_has_one_overview_whoever_is_down(site: Site, closed_port: int) -> None:
    down = Database(site.database.server, "nowhere")
    site.add_host("db2", down)
    site.hosts["db2"]["postgres_login"] = {**site.hosts["db2"]["postgres_login"], "login_port": closed_port}
    site.add_host("db3", site.database)
    site.hosts["db3"] |= {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": closed_port}
    done = site.run("health", report=True, health_ignore=IGNORED, health_statement_timeout="2s")
    assert done.returncode == 2
    assert {host: counts["failed"] for host, counts in done.recap.items()} == {"db1": 1, "db2": 1, "db3": 1}
    assert "The server cannot be reached" in done.output
    assert f"There is no usable backup of '{site.database.name}'." in done.output
    assert not done.stats["health_result"]["db2"]["reachable"]
    for host in ("db1", "db2", "db3"):
        assert site.report("health", host)["severity"] == "critical"
    overview = json.loads((site.reports / "health.json").read_text())
    rows = {row["host"]: row for row in overview["sections"]["hosts"]}
    assert {host: row["reachable"] for host, row in rows.items()} == {"db1": True, "db2": False, "db3": False}
    assert rows["db1"]["connections"] >= 1
    assert rows["db1"]["worst"]["check"] == "backup_rpo"
    assert rows["db2"]["worst"]["check"] == "health_connection"
    assert "Ansible could not reach the host" in rows["db3"]["worst"]["message"]
    html = (site.reports / "health.html").read_text()
    for host in rows:
        assert f'<a href="{host}/health.html">{host}</a>' in html
        assert (site.reports / rows[host]["page"]).is_file()

    tolerant = site.run("health", "--limit", "db1,db2", health_fail_at="never")
    assert tolerant.ok, tolerant.output
