"""The playbook ``maintenance``, run as a user runs it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.conftest import new_site
from tests.integration.site import Run, Site
from tests.support.databases import Database, new_database
from tests.support.servers import Server
from tests.support.vacuums import ALWAYS, table

BACKUPS = {"postgres_backup_dir": ""}
COUNTS = "SELECT sum(vacuum_count)::int, sum(analyze_count)::int FROM pg_stat_user_tables"
INVALID = "SELECT count(*)::int FROM pg_index WHERE NOT indisvalid"


@pytest.fixture(name="quiet", scope="module")
def _quiet() -> Iterator[Site]:
    """A site on a server that writes nothing by itself."""
    settings = {"autovacuum": "off", "wal_level": "minimal", "max_wal_senders": 0}
    with Server(settings=settings) as server:
        yield from new_site(new_database(server))


def steps(run: Run) -> list[str]:
    found: list[str] = run.stats["maintenance_result"]["db1"]["steps"]
    return found


def wal(database: Database) -> str:
    return str(database.query("SELECT pg_current_wal_insert_lsn()")[0][0])


def needy(database: Database) -> None:
    """Something for each step."""
    table(database)
    database.execute(
        "CREATE TABLE never AS SELECT n AS id FROM generate_series(1, 1000) n",
        "CREATE INDEX never_id ON never (id)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'never_id'::regclass",
    )


def test_what_is_due_is_listed_then_done_then_nothing_is_written(quiet: Site) -> None:
    database = quiet.database
    needy(database)
    before = database.query(COUNTS)
    checked = quiet.run("maintenance", "--check", **BACKUPS)
    assert checked.ok, checked.output
    assert checked.changed() == 3
    assert (database.query(COUNTS), database.query(INVALID)) == (before, [(1,)])

    first = quiet.run("maintenance", report=True, **BACKUPS, maintenance_window=ALWAYS)
    assert first.ok, first.output
    assert (first.changed(), database.query(INVALID)) == (3, [(0,)])
    report = quiet.report("maintenance")
    assert [(each["step"], each["changed"]) for each in report["steps"]] == [
        ("vacuum", True),
        ("analyze", True),
        ("bloat_report", False),
        ("reindex", True),
    ]
    assert quiet.report("vacuum")["tables"][0]["name"] == "t"

    database.execute("VACUUM", "CHECKPOINT")  # what reading the catalogs would prune and mark, is
    position = wal(database)
    again = quiet.run("maintenance", **BACKUPS)
    assert again.ok, again.output
    assert (again.changed(), wal(database)) == (0, position)
    assert steps(again) == ["vacuum", "analyze", "bloat_report", "reindex"]


def test_tags_are_the_schedule(backed_up: Site) -> None:
    weekly = backed_up.run("maintenance", "--tags", "weekly", report=True)
    assert weekly.ok, weekly.output
    assert steps(weekly) == ["analyze", "backup_verify"]
    assert backed_up.report("backup_verify")["verdict"] == "verified"
    again = backed_up.run("maintenance", "--tags", "weekly,daily", maintenance_steps=["vacuum", "backup_verify"])
    assert again.ok, again.output
    assert (steps(again), again.changed()) == (["vacuum", "backup_verify"], 0)


def hours_from_now(start: int, end: int) -> dict[str, str]:
    now = datetime.now(UTC)
    return {name: f"{now + timedelta(hours=hours):%H:%M}" for name, hours in (("start", start), ("end", end))}


def test_at_the_end_of_the_window_the_rest_is_left_and_told(site: Site) -> None:
    needy(site.database)
    over = {**BACKUPS, "maintenance_window": hours_from_now(2, 3)}
    closed = site.run("maintenance", "--tags", "weekly", **over)
    assert closed.returncode == 2
    assert "It opens at" in closed.stats["maintenance_result"]["db1"]["message"]
    # As if it had ended while the first step was under way.
    ended = site.run("maintenance", report=True, **over, vacuum_window=ALWAYS)
    assert ended.ok, ended.output
    assert (ended.changed(), site.database.query(INVALID)) == (1, [(1,)])
    assert ended.stats["maintenance_result"]["db1"]["left"] == ["analyze", "reindex"]
    report = site.report("maintenance")
    assert (report["severity"], report["left"]) == ("warning", ["analyze", "reindex"])


def test_what_fails_keeps_the_others_from_nothing(site: Site) -> None:
    needy(site.database)
    run = site.run("maintenance", "--tags", "weekly,monthly", report=True, **BACKUPS, analyze_tables=["missing"])
    assert run.returncode == 2
    assert site.database.query(INVALID) == [(0,)]
    assert [(each["step"], each["failed"]) for each in site.report("maintenance")["steps"]] == [
        ("analyze", True),
        ("bloat_report", False),
        ("reindex", False),
    ]
    lost = site.run("maintenance", **BACKUPS, postgres_login={"login_unix_socket": str(site.folder)})
    assert lost.returncode == 2
    assert lost.stats["maintenance_result"]["db1"]["left"] == ["analyze", "bloat_report", "reindex"]
