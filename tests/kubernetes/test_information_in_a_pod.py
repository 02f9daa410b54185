"""The playbooks that look at a server and maintain it, in a pod: the same as beside a server, and PostgreSQL notices nothing.

Several playbooks share a run of `ansible-playbook`, as a user may write them.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.integration.site import COLLECTION, Run, Site
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.support.workspace import workspace

# The stand-in leaves sockets open that a port-forward had; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOGIN = {"login_user": USER, "login_password": PASSWORD}
NOTICED = re.compile(
    r"was terminated by signal|server processes|\b(ERROR|FATAL|PANIC):|unexpected EOF|could not receive"
)
MAINTENANCE = ("vacuum", "reindex", "analyze")
# Each with what its report has to say of this server, whose name says where.
REPORTS = {
    "bloat_report": lambda report: [each["name"] for each in report["relations"] if each["name"] == "t"] == ["t"],
    "connections": lambda report: (
        report["reachability"] == "accepting" and DATABASE in {each["database"] for each in report["by_database"]}
    ),
    "disk_space": lambda report: (
        report["wal"]["size_bytes"] > 0
        and {"data", "wal"} <= {held["kind"] for each in report["file_systems"] for held in each["holds"]}
    ),
    "health": lambda report: (
        {name for name, section in report["sections"].items() if section.get("state") == "read"}
        >= {"server", "activity", "queries", "storage", "disk", "replication", "maintenance"}
    ),
    # The server in the pod has not loaded the library, and the message has to say so.
    "query_performance": lambda report: (
        report["available"] is False and [each["check"] for each in report["findings"]] == ["query_stats_missing"]
    ),
    "replication": lambda report: (report["role"], report["receiver"]) == ("primary", {}),
    "storage": lambda report: DATABASE in {each["name"] for each in report["databases"]} and report["free_bytes"] > 0,
}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("inf") as prepared:
        prepared.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off)",
            "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 4000) AS n",
            "DELETE FROM t WHERE id % 2 = 0",
            "CREATE INDEX t_v ON t (v)",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_v'::regclass",
            "CREATE TABLE unknown (id int) WITH (autovacuum_enabled = off)",
            "INSERT INTO unknown SELECT generate_series(1, 1000)",
        )
        counted = "SELECT pg_stat_get_dead_tuples('t'::regclass) = 2000"
        prepared.until(lambda: ask(prepared, counted) == [(True,)])
        yield prepared


def ask(place: Place, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement in the pod's database."""
    with place.here.endpoint(None, None) as at:
        connected = psycopg2.connect(host=at.host, port=at.port, user=USER, password=PASSWORD, dbname=DATABASE)
        with contextlib.closing(connected) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


@dataclass(frozen=True)
class InAPod:
    """What a site wants to know of a database."""

    name: str = DATABASE

    def login(self) -> dict[str, str]:
        """Connection options, named as in community.postgresql."""
        return LOGIN


@pytest.fixture
def site(place: Place) -> Iterator[Site]:
    """A site of the pod. Afterwards PostgreSQL has noticed nothing."""
    before = len(place.log())
    folder = Path(tempfile.mkdtemp(prefix="pod-", dir=workspace()))
    made = Site(folder, folder / "backups", InAPod())  # type: ignore[arg-type]
    made.hosts["db1"].update(postgres_kubernetes=place.options())
    yield made
    log = place.log()[before:]
    assert not NOTICED.search(log), log
    shutil.rmtree(folder, ignore_errors=True)


def run_all(site: Site, playbooks: tuple[str, ...], *arguments: str, **options: Any) -> Run:
    """Run playbooks one after the other, in one run."""
    first, *others = playbooks
    run = site.run(first, *(f"{COLLECTION}.{each}" for each in others), *arguments, **options)
    assert run.ok, run.output
    assert PASSWORD not in run.output
    return run


def outcomes(run: Run) -> dict[str, Any]:
    """What the playbooks have set for the job: it is printed after each of them."""
    found: dict[str, Any] = {}
    for text in re.findall(r"^\tRUN: (\{.*\})$", run.output, re.MULTILINE):
        found.update(json.loads(text))
    return found


def test_reports_have_the_data_of_the_pod(site: Site) -> None:
    run = run_all(site, tuple(REPORTS), "-v", report=True, health_fail_at="never", health_statement_timeout="30s")
    assert run.changed() == 0
    for playbook, says_it in REPORTS.items():
        report = site.report(playbook)
        assert says_it(report), (playbook, report)
        assert outcomes(run)[f"{playbook}_result"]["db1"]["failed"] is False


def test_maintenance_is_rehearsed_done_and_then_left_alone(site: Site, place: Place) -> None:
    state = (
        "SELECT pg_stat_get_dead_tuples('t'::regclass), (SELECT indisvalid FROM pg_index WHERE indexrelid = 't_v'::regclass),"
        " EXISTS (SELECT FROM pg_stats WHERE tablename = 'unknown')"
    )
    rehearsal = run_all(site, MAINTENANCE, "--check", "--diff")
    assert rehearsal.changed() == len(MAINTENANCE), rehearsal.output
    assert ask(place, state) == [(2000, False, False)]

    first = run_all(site, MAINTENANCE, report=True)
    assert first.changed() == len(MAINTENANCE), first.output
    assert ask(place, state) == [(0, True, True)]
    for playbook in MAINTENANCE:
        assert outcomes(first)[f"{playbook}_result"]["db1"]["changed"] is True
        assert site.report(playbook)["severity"] in ("ok", "info", "warning")

    again = run_all(site, MAINTENANCE)
    assert again.changed() == 0, again.output
