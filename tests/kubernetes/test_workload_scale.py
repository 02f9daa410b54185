"""An application that is stopped by scaling it to 0, and started again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.kubernetes import place as places
from tests.kubernetes.applications import REMEMBERED, app, application, deployment, named, pods, wait_until_ready
from tests.kubernetes.place import Place
from tests.standin import Standin
from tests.support.modules import expect_failure, expect_success, start_module

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("scl") as prepared:
        prepared.create(application(prepared))
        yield prepared


@pytest.fixture(autouse=True)
def _running(place: Place) -> Iterator[None]:
    """It runs with three replicas when a test begins."""
    wait_until_ready(place)
    yield
    place.patch(app(place), {"metadata": {"annotations": {REMEMBERED: None}}, "spec": {"replicas": 3}})


def words(place: Place, state: str, **more: Any) -> dict[str, Any]:
    """Options of the module. The operator has no more rights than docs/rbac/restore.yml grants."""
    return {"state": state, "kubernetes": place.options(**named(place)), "timeout": f"{place.pace.start_s:g}s", **more}


def scaled(place: Place) -> tuple[int, str | None]:
    """The number of replicas, and the one that is remembered."""
    found = deployment(place)
    return found["spec"]["replicas"], found["metadata"].get("annotations", {}).get(REMEMBERED)


def test_it_stops_and_starts_and_does_neither_twice(place: Place) -> None:
    rules = yaml.safe_load((ROOT / "docs" / "rbac" / "restore.yml").read_text())["rules"]
    operator = place.options(**named(place), kubeconfig=place.user(*rules).kubeconfig)
    stop, start = (words(place, state, kubernetes=operator) for state in ("stopped", "running"))
    before = pods(place)

    expected = expect_success("workload_scale", stop, check=True, diff=True)
    assert (expected["changed"], scaled(place), pods(place)) == (True, (3, None), before)
    assert expected["diff"] == {"before": "replicas: 3\n", "after": f"replicas: 0\nannotation {REMEMBERED}: 3\n"}
    assert (expected["workload"]["replicas"], expected["workload"]["remembered"]) == (3, None)

    stopped = expect_success("workload_scale", stop)
    assert (stopped["changed"], scaled(place), pods(place)) == (True, (0, "3"), set())
    assert stopped["msg"] == f"Deployment {app(place)} is stopped. It had 3 replicas."
    assert stopped["diff"] == expected["diff"]
    assert stopped["workload"]["remembered"] == 3
    for check in (True, False):
        again = expect_success("workload_scale", stop, check=check)
        assert (again["changed"], scaled(place)) == (False, (0, "3"))

    assert expect_success("workload_scale", start, check=True)["changed"] is True
    assert scaled(place) == (0, "3")
    started = expect_success("workload_scale", start)
    assert (started["changed"], scaled(place)) == (True, (3, None))
    assert len(pods(place)) == 3
    assert all(count == 3 for count in (deployment(place)["status"][key] for key in ("replicas", "readyReplicas")))
    for check in (True, False):
        again = expect_success("workload_scale", start, check=check)
        assert (again["changed"], scaled(place)) == (False, (3, None))


def test_one_that_had_no_replicas_gets_none(place: Place) -> None:
    place.patch(app(place), {"spec": {"replicas": 0}})
    place.until(lambda: not pods(place))
    assert expect_success("workload_scale", words(place, "running"))["changed"] is False
    assert expect_success("workload_scale", words(place, "stopped"))["changed"] is True
    assert scaled(place) == (0, "0")
    assert expect_success("workload_scale", words(place, "running"))["changed"] is True
    assert scaled(place) == (0, None)


def test_pods_that_do_not_end_are_named_and_nothing_is_forgotten(place: Place) -> None:
    place.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{place.name}-stays", "labels": {"app": app(place)}, "finalizers": ["test/stays"]},
            "spec": {"containers": application(place)["spec"]["template"]["spec"]["containers"]},
        }
    )
    try:
        failed = expect_failure("workload_scale", words(place, "stopped", timeout="3s"))
        assert f"{place.name}-stays" in failed["msg"]
        assert "after 3.0 s pods still run" in failed["msg"]
        assert scaled(place) == (0, "3")
    finally:
        place.change("Pod", f"{place.name}-stays", lambda pod: pod["metadata"].pop("finalizers"))
        place.delete("Pod", f"{place.name}-stays", grace_s=0)
    assert expect_success("workload_scale", words(place, "running"))["workload"]["replicas"] == 3


def test_pods_that_do_not_become_ready_are_named_and_the_next_run_goes_on(place: Place) -> None:
    expect_success("workload_scale", words(place, "stopped"))
    well = deployment(place)["spec"]["template"]["spec"]["containers"]
    place.patch(
        app(place), {"spec": {"template": {"spec": {"containers": [{**well[0], "image": "no-such.invalid/app:1"}]}}}}
    )
    failed = expect_failure("workload_scale", words(place, "running", timeout="2s"))
    assert (
        f"Deployment {app(place)} is not ready after 2.0 s: 0 of 3 replicas are ready; {app(place)}-" in failed["msg"]
    )
    assert scaled(place) == (3, "3")
    place.patch(app(place), {"spec": {"template": {"spec": {"containers": well}}}})
    assert expect_success("workload_scale", words(place, "running"))["changed"] is True
    assert scaled(place) == (3, None)


def test_a_signal_in_the_wait_leaves_what_the_next_run_goes_on_from(place: Place) -> None:
    name = f"{place.name}-slow"
    place.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": app(place)}},
            "spec": {"containers": application(place)["spec"]["template"]["spec"]["containers"]},
        }
    )
    try:
        module = start_module("workload_scale", words(place, "stopped"))
        place.until(lambda: scaled(place) == (0, "3"))
        module.process.send_signal(signal.SIGTERM)
        result = module.finish()
    finally:
        place.delete("Pod", name, grace_s=0)
    assert result["failed"]
    assert f"is scaled to 0. Its annotation {REMEMBERED} has the number of its replicas." in result["msg"]
    assert expect_success("workload_scale", words(place, "running"))["workload"]["replicas"] == 3


@pytest.mark.parametrize("workload", ["pod/godel", "app=godel", "godel"])
def test_what_cannot_be_scaled_is_refused(place: Place, workload: str) -> None:
    options = words(place, "stopped", kubernetes=place.options(workload=workload))
    assert f"Invalid workload: {workload!r}" in expect_failure("workload_scale", options)["msg"]
    assert "kubernetes is missing" in expect_failure("workload_scale", {"state": "stopped"})["msg"]


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(place: Place, standin: Standin) -> None:
    standin.faults.answer(503, times=2, method="PATCH", path=f"/{app(place)}$")
    standin.faults.answer(503, times=2, method="PATCH", path="/scale$")
    standin.faults.answer(503, times=2, path="/pods$")
    assert expect_success("workload_scale", words(place, "stopped"))["workload"]["remembered"] == 3
    assert expect_success("workload_scale", words(place, "running"))["workload"]["replicas"] == 3
