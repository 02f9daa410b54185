"""A restore in a pod, with an application beside it that is scaled down meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import yaml

from tests.conftest import ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, NAMESPACE, PASSWORD, USER, Place
from tests.kubernetes.standin import Image
from tests.support.catalogs import add_verdict, ago
from tests.support.databases import Database
from tests.support.modules import run_module
from tests.support.processes import until
from tests.support.workspace import workspace

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOGIN = {"login_user": USER, "login_password": PASSWORD}
REMEMBERED = "godel.postgres-runbook/replicas"
APPLICATION = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: godel, namespace: {NAMESPACE}}}
spec:
  replicas: 3
  selector: {{matchLabels: {{app: godel}}}}
  template:
    metadata: {{labels: {{app: godel}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: godel, image: lab/godel:1}}]
"""
EVICTED = f"""
apiVersion: v1
kind: Pod
metadata: {{name: evicted, namespace: {NAMESPACE}, labels: {{app: godel}}}}
spec:
  restartPolicy: Never
  containers: [{{name: godel, image: lab/godel:1, command: ["false"]}}]
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.prepared("rst", {"lab/godel:1": Image()}) as prepared:
        prepared.standin.apply(APPLICATION)
        yield prepared


@contextlib.contextmanager
def connected(place: Place) -> Iterator[Any]:
    host, port = place.standin.address(place.pod, 5432, NAMESPACE)
    connection = psycopg2.connect(host=host, port=port, user=USER, password=PASSWORD, dbname=DATABASE)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def rows(place: Place) -> int:
    with connected(place) as cursor:
        cursor.execute("SELECT count(*) FROM users")
        return int(cursor.fetchone()[0])


@pytest.fixture
def site(place: Place, database: Database) -> Iterator[Site]:
    """A site with a verified backup of 100 users in the pod, and 250 in its database."""
    catalog = Path(tempfile.mkdtemp(dir=place.backups))
    shutil.chown(catalog, place.backups.stat().st_uid, place.backups.stat().st_gid)
    folder = Path(tempfile.mkdtemp(prefix="rst-", dir=workspace()))
    with connected(place) as cursor:
        cursor.execute(f"ALTER DATABASE {DATABASE} RESET ALL")  # the mark of a restore before
        cursor.execute("DROP TABLE IF EXISTS users")
        cursor.execute("CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n")
        words = {**LOGIN, "db": DATABASE, "backup_dir": str(catalog), "kubernetes": place.options()}
        taken = run_module("pg_backup", words)
        assert not taken["failed"], taken
        add_verdict(catalog, DATABASE, taken["backup"]["id"], "verified", ago(seconds=1))
        for path in catalog.rglob("*"):
            shutil.chown(path, place.backups.stat().st_uid, place.backups.stat().st_gid)
        cursor.execute("INSERT INTO users SELECT generate_series(101, 250)")
    made = Site(folder, catalog, database)
    made.hosts["db1"].update(postgres_db=DATABASE, postgres_login=LOGIN, postgres_kubernetes=place.options())
    yield made
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(catalog, ignore_errors=True)


def deployment(place: Place) -> Any:
    found = place.standin.get("deployments", "godel", NAMESPACE)
    assert found is not None
    return found


def test_a_restore_scales_the_application_down_and_up_and_a_rollback_does_so_again(place: Place, site: Site) -> None:
    application = {"namespace": NAMESPACE, "workload": "deploy/godel"}
    place.standin.apply(EVICTED)  # nobody removes one that has failed
    assert until(lambda: (place.standin.get("pods", "evicted", NAMESPACE) or {})["status"]["phase"] == "Failed", 30)
    as_operator(place, site, ["pod", "restore"])
    assert site.run("restore", "--check", restore_application=application).ok
    assert rows(place) == 250
    with place.standin.watching() as requests:
        first = site.run("restore", restore_application=application)
    assert first.ok, first.output
    assert rows(place) == 100
    assert 0 < first.stats["restore_result"]["db1"]["downtime_s"] < 5
    scaled = [
        request for request in requests if request.path.endswith("deployments/godel/scale") and request.method != "GET"
    ]
    assert len(scaled) == 2
    assert deployment(place)["spec"]["replicas"] == 3
    assert REMEMBERED not in deployment(place)["metadata"].get("annotations", {})

    again = site.run("restore", restore_application=application)
    assert again.ok, again.output
    assert again.changed() == 0

    back = site.run("restore_rollback", restore_rollback_application=application, restore_rollback_keep_old="0")
    assert back.ok, back.output
    assert (rows(place), deployment(place)["spec"]["replicas"]) == (250, 3), back.output
    discarded = site.run("restore_discard")
    assert (discarded.ok, discarded.changed()) == (True, 1)


@pytest.mark.parametrize("playbook", ["restore", "restore_rollback"])
def test_what_a_run_that_died_has_scaled_down_is_scaled_up_from_anywhere(
    place: Place, site: Site, playbook: str
) -> None:
    application = {"namespace": NAMESPACE, "workload": "deployment/godel"}
    assert site.run("restore").ok
    if playbook == "restore_rollback":
        assert site.run(playbook).ok
    as_it_died(place)
    run = site.run(playbook, **{f"{playbook}_application": application})
    assert run.ok, run.output
    assert_scaled_up(place)


def test_a_run_that_is_refused_scales_up_what_one_before_has_scaled_down(place: Place, site: Site) -> None:
    application = {"namespace": NAMESPACE, "workload": "deployment/godel"}
    as_it_died(place)
    run = site.run("restore", restore_application=application, restore_backup="no_20260101T000000Z")
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert "There is no such backup" in message
    assert "it was started again" in message
    assert_scaled_up(place)


def as_it_died(place: Place) -> None:
    """Leave the application as a run does that dies between the swap and the start."""
    place.standin.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "godel", "namespace": NAMESPACE, "annotations": {REMEMBERED: "2"}},
            "spec": {"replicas": 0},
        }
    )


def assert_scaled_up(place: Place) -> None:
    """It is what was remembered, which is forgotten."""
    assert deployment(place)["spec"]["replicas"] == 2
    assert REMEMBERED not in deployment(place)["metadata"].get("annotations", {})
    place.standin.apply(APPLICATION)


def test_an_application_that_is_not_there_stops_the_restore_before_the_swap(place: Place, site: Site) -> None:
    run = site.run("restore", restore_application={"namespace": NAMESPACE, "workload": "deployment/nothing"})
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert 'deployments.apps "nothing" not found' in message


def test_missing_rights_are_named_before_anything_is_done(place: Place, site: Site) -> None:
    as_operator(place, site, ["pod"])
    run = site.run("restore", restore_application={"namespace": NAMESPACE, "workload": "deployment/godel"})
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert "patch deployments.apps" in message
    assert "docs/rbac/restore.yml" in message


def as_operator(place: Place, site: Site, files: list[str]) -> None:
    """Have no more rights than those of the files in docs/rbac."""
    rules = [rule for file in files for rule in yaml.safe_load(rbac(file))["rules"]]
    place.standin.grant("operator", *rules, namespace=NAMESPACE)
    kubeconfig = str(place.standin.kubeconfig("operator", NAMESPACE))
    site.hosts["db1"]["postgres_kubernetes"] = place.options(kubeconfig=kubeconfig)


def rbac(name: str) -> str:
    return (ROOT / "docs" / "rbac" / f"{name}.yml").read_text()
