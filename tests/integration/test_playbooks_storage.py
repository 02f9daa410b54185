"""The playbooks ``storage`` and ``disk_space``, run as a user runs them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.conftest import fill, new_site
from tests.integration.site import Site
from tests.support.databases import new_database
from tests.support.servers import Server
from tests.support.workspace import give


def test_sizes_are_kept_and_the_day_the_disk_is_full_is_foretold(site: Site) -> None:
    first = site.run("storage", report=True)
    assert first.ok, first.output
    assert first.changed() == 0
    artifact = first.stats["storage_result"]["db1"]
    assert (artifact["failed"], artifact["full_at"]) == (False, None)
    assert artifact["free_bytes"] > 0
    report = site.report("storage")
    assert "Samples so far: 1" in report["forecast"]["why"]
    assert "sample" not in report

    [path] = (site.reports / "db1" / "history").glob("storage*")
    [sample] = [json.loads(line) for line in path.read_text().splitlines()]
    assert sample["databases"][site.database.name] > 0
    lines = []
    for days in range(30, 0, -1):  # each day a fifteenth of what is free now
        taken = datetime.now(UTC) - timedelta(days=days)
        free = sample["free_bytes"] + days * sample["free_bytes"] // 15
        told = {"collected_at": f"{taken:%Y-%m-%dT%H:%M:%SZ}", "free_bytes": free, "total_bytes": None}
        lines.append(json.dumps({**sample, **told}) + "\n")
    path.write_text("".join(lines))
    # In check mode it only reads, so that the forecast is there all the same.
    rehearsal = site.run("storage", "--check", report=True)
    assert rehearsal.ok, rehearsal.output
    assert path.read_text() == "".join(lines)
    told = rehearsal.stats["storage_result"]["db1"]
    assert told["severity"] == "warning"
    days = (datetime.strptime(told["full_at"], "%Y-%m-%dT%H:%M:%S%z") - datetime.now(UTC)).days
    assert 8 < days < 25


def test_a_failure_is_told_to_the_job_and_in_the_report(site: Site) -> None:
    failed = site.run("storage", report=True, storage_top=0)
    assert failed.returncode == 2
    artifact = failed.stats["storage_result"]["db1"]
    assert (artifact["failed"], artifact["full_at"]) == (True, None)
    assert "Invalid top" in artifact["message"]
    assert site.report("storage")["severity"] == "critical"


@pytest.fixture(name="logging_site")
def _logging_site(new_server: Callable[..., Server]) -> Iterator[Site]:
    """A site with a server of its own, which writes log files and archives."""
    server = new_server(
        settings={"logging_collector": "on", "archive_mode": "on", "archive_command": "true", "max_wal_size": "64MB"}
    )
    yield from new_site(fill(new_database(server)))


def test_what_takes_up_the_disk_is_told_and_removed_on_request(logging_site: Site) -> None:
    site = logging_site
    server = site.database.server
    server.query("SELECT pg_create_physical_replication_slot('old_replica', true)")
    old = _old_log(server)
    asked = {"disk_space_clean_logs": True, "disk_space_drop_slot": "old_replica", "disk_space_switch_wal": True}
    rehearsal = site.run("disk_space", "--check", "--diff", **asked)
    assert rehearsal.ok, rehearsal.output
    assert rehearsal.changed() == 3
    assert f"-{old}" in rehearsal.output
    assert old.exists()
    assert server.query("SELECT count(*) FROM pg_replication_slots") == [(1,)]

    first = site.run("disk_space", report=True, **asked)
    assert first.ok, first.output
    assert first.changed() == 3
    assert not old.exists()
    assert server.query("SELECT count(*) FROM pg_replication_slots") == [(0,)]
    artifact = first.stats["disk_space_result"]["db1"]
    assert (artifact["changed"], artifact["dropped_slot"], artifact["freed_bytes"]) == (True, "old_replica", 5)
    report = site.report("disk_space")
    assert "old_replica" in {each["name"] for each in report["wal_holders"]}
    assert "backup" in {each["kind"] for system in report["file_systems"] for each in system["holds"]}

    again = site.run("disk_space", **asked)
    assert again.ok, again.output
    assert again.changed() == 0
    assert artifact["wal_size_bytes"] > 0


def _old_log(server: Server) -> Path:
    path = server.data_dir / "log" / "postgresql-2026-01-01_000000.log"
    path.write_bytes(b"12345")
    give(path)
    then = time.time() - 8 * 86400
    os.utime(path, (then, then))
    return path
