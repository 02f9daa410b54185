"""Backups of a server in a pod: through the playbooks as a user calls them, and through what goes wrong on the way."""

from __future__ import annotations

import json
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from tests.conftest import ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.support.databases import Database
from tests.support.modules import run_module, start_module
from tests.support.workspace import workspace

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOGIN = {"login_user": USER, "login_password": PASSWORD}
# Long enough to be in the middle of it, and quick to write: what is hard to pack.
ROWS = 120_000
CRASHED = re.compile(r"was terminated by signal|terminating any other active server processes|all server processes ter")


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.prepared("bak") as prepared:
        host, port = prepared.standin.address(prepared.pod, 5432, places.NAMESPACE)
        connection = psycopg2.connect(host=host, port=port, user=USER, password=PASSWORD, dbname=DATABASE)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE noise (id int PRIMARY KEY, text text)")
            cursor.execute(
                "INSERT INTO noise SELECT n, string_agg(md5(n::text || s), '')"
                f" FROM generate_series(1, {ROWS}) AS n, generate_series(1, 12) AS s GROUP BY n"
            )
            cursor.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
            cursor.execute("INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) AS n")
        connection.commit()
        connection.close()
        yield prepared


@pytest.fixture
def catalog(place: Place) -> Iterator[Path]:
    """An empty directory of the pod, and where it really is. Afterwards PostgreSQL has noticed nothing."""
    before = len(place.log())
    folder = Path(tempfile.mkdtemp(dir=place.backups))
    shutil.chown(folder, *_owner(place.backups))
    yield folder
    place.standin.faults.clear()
    assert not CRASHED.search(place.log()[before:]), place.log()[before:]
    shutil.rmtree(folder, ignore_errors=True)


def _owner(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def params(place: Place, catalog: Path, **over: Any) -> dict[str, Any]:
    """The parameters of a module that works in the pod."""
    return {**LOGIN, "db": DATABASE, "backup_dir": str(catalog), "kubernetes": place.options(), **over}


def entries(catalog: Path) -> list[str]:
    """The names of what is in the database's directory, but for locks."""
    return sorted(path.name for path in catalog.glob("*/*") if not path.name.startswith("."))


def is_proven(place: Place, catalog: Path) -> bool:
    """Whether the newest backup restores to its source."""
    result = run_module("pg_restore_verify", params(place, catalog, verify_in="instance", scratch="pod-local"))
    assert not result["failed"], result
    return str(result["verdict"]) == "verified"


def processes(place: Place) -> str:
    """The arguments of all that runs in the pod."""
    with place.target() as target:
        return target.run(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' '; exit 0"]).text


def leftovers(place: Place, catalog: Path) -> list[str]:
    """What of ours still runs and has this catalog in its arguments."""
    listing = processes(place)
    return re.findall(rf"\S*pg_\w+[^/]*{re.escape(str(catalog))}", listing)


# --- the playbooks


@pytest.fixture
def site(place: Place, catalog: Path, database: Database) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="pod-", dir=workspace()))
    made = Site(folder, catalog, database)
    made.hosts["db1"].update(postgres_db=DATABASE, postgres_login=LOGIN, postgres_kubernetes=place.options())
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_check_mode_a_backup_then_nothing_to_do_then_proof_status_and_retention(site: Site, catalog: Path) -> None:
    rehearsal = site.run("backup", "--check", "--diff")
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), entries(catalog)) == (1, [])

    first = site.run("backup", "-vvv", report=True)
    assert first.returncode == 0, first.output
    assert first.changed() == 1
    [entry] = entries(catalog)
    assert site.report("backup")["data"]["backup"]["id"] == entry
    assert PASSWORD not in first.output

    again = site.run("backup")
    assert again.ok, again.output
    assert (again.changed(), entries(catalog)) == (0, [entry])

    assert site.run("backup_verify", "--check").ok
    for changed in (1, 0):
        proof = site.run("backup_verify")
        assert proof.ok, proof.output
        assert proof.changed() == changed
    status = site.run("backup_status", report=True)
    assert status.ok, status.output
    [found] = site.report("backup_status")["data"]["backups"]
    assert (found["id"], found["verdict"]) == (entry, "verified")
    retention = site.run("backup_retention")
    assert retention.ok, retention.output
    assert (retention.changed(), entries(catalog)) == (0, [entry])


# --- what goes wrong on the way


def wait_for_the_dump(catalog: Path) -> None:
    """Return when pg_dump writes its second file or so."""
    deadline = time.monotonic() + 60
    while not list(catalog.glob("*/*.partial/data/*.dat*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("event", ["connections", "kubelet", "away"])
def test_a_backup_survives_what_the_connection_does_not(place: Place, catalog: Path, event: str) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(catalog)
    if event == "connections":
        place.standin.drop_connections()
    elif event == "kubelet":
        place.standin.restart_kubelet()
    else:
        place.standin.leave(5)
    result = running.finish()
    assert not result["failed"], result
    assert entries(catalog) == [result["backup"]["id"]]
    assert is_proven(place, catalog)


def test_a_backup_that_is_cancelled_leaves_nothing_and_postgresql_notices_nothing(place: Place, catalog: Path) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(catalog)
    running.process.send_signal(signal.SIGINT)
    result = running.finish()
    assert result["failed"]
    assert "Stopped by SIGINT" in result["msg"]
    assert entries(catalog) == []
    assert leftovers(place, catalog) == []


def test_a_secret_is_in_no_process_list_of_the_pod(place: Place, catalog: Path) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(catalog)
    listing = processes(place)
    assert "pg_dump" in listing
    assert PASSWORD not in listing
    result = running.finish()
    assert not result["failed"]
    assert PASSWORD not in json.dumps(result)
    assert not [request for request in place.standin.requests if PASSWORD in " ".join(request.argv)]


def test_a_container_that_restarts_is_told_and_its_half_made_backup_is_none(place: Place, catalog: Path) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(catalog)
    place.standin.restart_container(place.pod, namespace=places.NAMESPACE)
    result = running.finish()
    assert result["failed"]
    assert "The container was restarted" in result["msg"], result["msg"]
    place.standin.ready_pod(places.NAMESPACE, "app=postgres")
    assert not [name for name in entries(catalog) if not name.endswith(".partial")]
    following = run_module("pg_backup", params(place, catalog))
    assert not following["failed"], following
    assert entries(catalog) == [following["backup"]["id"]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workload": "deployment/nothing"}, ["deployments", "nothing", "not found"]),
        ({"workload": "pod/nothing"}, ["pods", "nothing", "not found"]),
        ({"workload": "app=nothing"}, ["There is no such pod", "app=nothing"]),
        ({"workload": "cronjob/x"}, ["workload is not a workload", "deployment/NAME"]),
        ({"container": "sidecar"}, ["The pod has no container sidecar", "postgres"]),
        ({"namespace": "elsewhere"}, ["elsewhere", "not found"]),
        ({"kubeconfig": "/nonexistent/config"}, ["The kubeconfig cannot be used", "/nonexistent/config"]),
        ({"context": "nothing"}, ["The kubeconfig cannot be used", "nothing"]),
        ({"api_key": "wrong"}, ["The API server refuses", "Unauthorized", "lapsed"]),
    ],
)
def test_bad_options_are_named(place: Place, catalog: Path, options: dict[str, Any], told: list[str]) -> None:
    result = run_module("pg_backup", params(place, catalog, kubernetes=place.options(**options)))
    assert result["failed"]
    for text in told:
        assert text in result["msg"]


def test_a_missing_right_is_named(place: Place, catalog: Path) -> None:
    user = "reader"
    place.standin.grant(user, "get deployments.apps", "list pods", namespace=places.NAMESPACE)
    kubeconfig = str(place.standin.kubeconfig(user, places.NAMESPACE))
    result = run_module("pg_backup", params(place, catalog, kubernetes=place.options(kubeconfig=kubeconfig)))
    assert result["failed"]
    assert f"Rights are missing (namespace {places.NAMESPACE}): get pods, get or create pods/exec" in result["msg"]
    assert "docs/rbac/pod.yml" in result["msg"]
    missing = ["get or create pods/exec", "get or create pods/portforward", "get pods"]
    assert sorted(result["error"]["missing"]) == missing
    assert not [request for request in place.standin.requests if user in request.user and "/pods/" in request.path]


def test_the_role_that_is_documented_is_enough(place: Place, catalog: Path) -> None:
    role = yaml.safe_load((ROOT / "docs" / "rbac" / "pod.yml").read_text())
    place.standin.grant("operator", *role["rules"], namespace=places.NAMESPACE)
    options = place.options(kubeconfig=str(place.standin.kubeconfig("operator", places.NAMESPACE)))
    for module in ("pg_backup", "pg_backup_info", "pg_backup_prune", "pg_restore_verify"):
        more: dict[str, Any] = {"pg_restore_verify": {"scratch": "pod-local"}, "pg_backup_prune": {"keep_last": 1}}
        result = run_module(module, params(place, catalog, kubernetes=options, **more.get(module, {})))
        assert not result["failed"], result["msg"]


def test_another_login_host_is_refused(place: Place, catalog: Path) -> None:
    result = run_module("pg_backup", params(place, catalog, login_host="db.example.com"))
    assert result["failed"]
    assert "login_host is not the pod" in result["msg"]


def test_a_wrong_password_and_a_port_where_nobody_listens_are_told(place: Place, catalog: Path) -> None:
    wrong = run_module("pg_backup", params(place, catalog, login_password="wrong"))
    assert "password authentication failed" in wrong["msg"]
    closed = run_module("pg_backup", params(place, catalog, login_port=5999))
    assert closed["failed"]
    assert "Cannot connect to PostgreSQL" in closed["msg"]
