"""Disks, sizes and old log files of a server in a pod."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.support.modules import Result, expect_success

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("disk") as prepared:
        prepared.execute(
            "CREATE TABLE users AS SELECT n AS id, 'user ' || n AS name FROM generate_series(1, 5000) AS n"
        )
        with prepared.here.endpoint(None, None) as at:
            login = {"user": USER, "password": PASSWORD, "dbname": DATABASE}
            with contextlib.closing(psycopg2.connect(host=at.host, port=at.port, **login)) as connection:
                connection.autocommit = True
                connection.cursor().execute("ALTER SYSTEM SET logging_collector = 'on'")
        prepared.restart_server()
        yield prepared


def run(name: str, place: Place, check: bool = False, **over: Any) -> Result:
    login = {"login_user": USER, "login_password": PASSWORD, "db": DATABASE}
    return expect_success(name, {**login, "kubernetes": place.options(), **over}, check=check)


def test_the_disks_of_the_pod_are_seen(place: Place) -> None:
    result = run("pg_disk_info", place, backup_dir=place.volume)
    assert result["notes"] == []
    kinds = {each["kind"] for system in result["file_systems"] for each in system["holds"]}
    assert kinds == {"data", "wal", "log", "backup"}
    assert all(0 < each["free_bytes"] <= each["total_bytes"] for each in result["file_systems"])
    storage = run("pg_storage_info", place, top=500)
    assert "public.users" in {each["identity"] for each in storage["tables"]}
    assert 0 < storage["free_bytes"] <= storage["total_bytes"]


def test_old_log_files_of_the_pod_go(place: Place) -> None:
    logs = run("pg_disk_info", place)["logs"]["directory"]
    files = place.here.files
    for name in ("postgresql-2020-01-01_000000.log", "notes.txt"):
        place.here.run(["touch", "-t", "202001010000", f"{logs}/{name}"])
    place.here.run(["ln", "-s", "notes.txt", f"{logs}/postgresql-2020-01-02_000000.log"])
    old = f"{logs}/postgresql-2020-01-01_000000.log"
    rehearsal = run("pg_log_cleanup", place, check=True)
    assert [each["path"] for each in rehearsal["removed"]] == [f"{files.resolve(logs)}/{old.rpartition('/')[2]}"]
    assert files.info(old) is not None
    done = run("pg_log_cleanup", place)
    assert (done["changed"], done["removed"]) == (True, rehearsal["removed"])
    assert files.info(old) is None
    assert {"notes.txt", "postgresql-2020-01-02_000000.log"} < {info.name for info in files.entries(logs)}
    assert run("pg_log_cleanup", place)["changed"] is False
