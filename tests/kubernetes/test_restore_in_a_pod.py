"""A restore in a pod, with an application beside it that is scaled down meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login, Server
from tests.conftest import ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.applications import REMEMBERED, app, application, deployment, named, pods, wait_until_ready
from tests.kubernetes.place import DATABASE, PASSWORD, USER, Place
from tests.kubernetes.sites import judge, params, site_of
from tests.standin.faults import Request
from tests.support.catalogs import ago
from tests.support.modules import run_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("rst") as prepared:
        prepared.create(application(prepared))
        yield prepared


def query(place: Place, statement: str) -> Any:
    server = Server(place.here, Login(user=USER, password=PASSWORD))
    with server.connect(DATABASE) as session:
        return session.value(statement)


def rows(place: Place) -> int:
    return int(query(place, "SELECT count(*) FROM users"))


@pytest.fixture
def site(place: Place) -> Iterator[Site]:
    """A site with a verified backup of 100 users in the pod, and 250 in its database."""
    wait_until_ready(place)
    folder = place.new_folder()
    place.execute(
        f"ALTER DATABASE {DATABASE} RESET ALL",  # the mark of a restore before
        "DROP TABLE IF EXISTS users",
        "CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n",
    )
    taken = run_module("pg_backup", params(place, folder))
    assert not taken["failed"], taken
    judge(place, folder, taken["backup"]["id"], "verified", ago(seconds=1))
    place.execute("INSERT INTO users SELECT generate_series(101, 250)")
    with site_of(place, folder) as made:
        yield made
    place.here.files.remove_tree(folder)


def scalings(place: Place) -> list[Request]:
    """The requests so far that have changed the application's replicas, which only the stand-in tells."""
    asked = place.standin.requests if place.standin is not None else []
    return [each for each in asked if each.path.endswith(f"/{app(place)}/scale") and each.method != "GET"]


def test_a_restore_scales_the_application_down_and_up_and_a_rollback_does_so_again(place: Place, site: Site) -> None:
    words = named(place, "deploy")
    evicted = f"{place.name}-evicted"  # a pod that has failed stays until it is deleted
    place.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": evicted, "labels": {"app": app(place)}},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "app", "image": place.image, "command": ["false"]}],
            },
        }
    )
    place.until(lambda: place.get("Pod", evicted)["status"].get("phase") == "Failed", place.pace.start_s)
    as_operator(place, site, ["pod", "restore"])
    assert site.run("restore", "--check", restore_application=words).ok
    assert rows(place) == 250
    before, scaled = pods(place), len(scalings(place))
    first = site.run("restore", restore_application=words)
    assert first.ok, first.output
    assert rows(place) == 100
    assert 0 < first.stats["restore_result"]["db1"]["downtime_s"] < 5 * place.pace.factor
    assert not before & pods(place)
    if place.standin is not None:  # a real cluster does not tell what was asked for
        assert len(scalings(place)) == scaled + 2
    assert deployment(place)["spec"]["replicas"] == 3
    assert REMEMBERED not in deployment(place)["metadata"].get("annotations", {})

    again = site.run("restore", restore_application=words)
    assert again.ok, again.output
    assert again.changed() == 0

    back = site.run("restore_rollback", restore_rollback_application=words, restore_rollback_keep_old="0")
    assert back.ok, back.output
    assert (rows(place), deployment(place)["spec"]["replicas"]) == (250, 3), back.output
    discarded = site.run("restore_discard")
    assert (discarded.ok, discarded.changed()) == (True, 1)


@pytest.mark.parametrize("playbook", ["restore", "restore_rollback"])
def test_what_a_run_that_died_has_scaled_down_is_scaled_up_from_anywhere(
    place: Place, site: Site, playbook: str
) -> None:
    words = named(place)
    assert site.run("restore").ok
    if playbook == "restore_rollback":
        assert site.run(playbook).ok
    as_it_died(place)
    run = site.run(playbook, **{f"{playbook}_application": words})
    assert run.ok, run.output
    assert_scaled_up(place)


def test_a_run_that_is_refused_scales_up_what_one_before_has_scaled_down(place: Place, site: Site) -> None:
    words = named(place)
    as_it_died(place)
    run = site.run("restore", restore_application=words, restore_backup="no_20260101T000000Z")
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert "There is no such backup" in message
    assert "it was started again" in message
    assert_scaled_up(place)


def as_it_died(place: Place) -> None:
    """Leave the application as a run does that dies between the swap and the start."""
    place.patch(app(place), {"metadata": {"annotations": {REMEMBERED: "2"}}, "spec": {"replicas": 0}})


def assert_scaled_up(place: Place) -> None:
    """It is what was remembered, which is forgotten."""
    assert deployment(place)["spec"]["replicas"] == 2
    assert REMEMBERED not in deployment(place)["metadata"].get("annotations", {})
    place.patch(app(place), {"spec": {"replicas": 3}})


def test_an_application_that_is_not_there_stops_the_restore_before_the_swap(place: Place, site: Site) -> None:
    run = site.run("restore", restore_application={**named(place), "workload": "deployment/nothing"})
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert 'deployments.apps "nothing" not found' in message


def test_missing_rights_are_named_before_anything_is_done(place: Place, site: Site) -> None:
    as_operator(place, site, ["pod"])
    run = site.run("restore", restore_application=named(place))
    assert run.returncode == 2
    assert rows(place) == 250
    message = run.stats["restore_result"]["db1"]["message"]
    assert "patch deployments.apps" in message
    assert "docs/rbac/restore.yml" in message


def as_operator(place: Place, site: Site, files: list[str]) -> None:
    """Have no more rights than those of the files in docs/rbac."""
    user = place.user(*(rule for file in files for rule in yaml.safe_load(rbac(file))["rules"]))
    site.hosts["db1"]["postgres_kubernetes"] = place.options(kubeconfig=user.kubeconfig)


def rbac(name: str) -> str:
    return (ROOT / "docs" / "rbac" / f"{name}.yml").read_text()
