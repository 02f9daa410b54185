"""Backups of a server in a pod: through the playbooks as a user calls them, and through what goes wrong on the way."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.place import PASSWORD, Place
from tests.kubernetes.sites import entries, params, site_of
from tests.standin import Standin
from tests.support.modules import run_module, start_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("bak") as prepared:
        # Long enough to be in the middle of it, and quick to write: what is hard to pack.
        prepared.execute(
            "CREATE TABLE noise (id int PRIMARY KEY, text text)",
            "INSERT INTO noise SELECT n, string_agg(md5(n::text || s), '')"
            f" FROM generate_series(1, {prepared.pace.rows}) AS n, generate_series(1, 12) AS s GROUP BY n",
            "CREATE TABLE users (id int PRIMARY KEY, name text)",
            "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) AS n",
        )
        yield prepared


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    """An empty directory of the pod. Afterwards PostgreSQL has noticed nothing."""
    folder = place.new_folder()
    with place.unnoticed():
        yield folder
    place.here.files.remove_tree(folder)


def is_proven(place: Place, catalog: str) -> bool:
    """Whether the newest backup restores to its source."""
    result = run_module("pg_restore_verify", params(place, catalog, verify_in="instance", scratch="pod-local"))
    assert not result["failed"], result
    return str(result["verdict"]) == "verified"


def processes(place: Place) -> str:
    """The arguments of all that runs in the pod."""
    return place.here.run(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' '; exit 0"]).text


def leftovers(place: Place, catalog: str) -> list[str]:
    """What of ours still runs and has this catalog in its arguments."""
    listing = processes(place)
    return re.findall(rf"\S*pg_\w+[^/]*{re.escape(catalog)}", listing)


# --- the playbooks


@pytest.fixture
def site(place: Place, catalog: str) -> Iterator[Site]:
    with site_of(place, catalog) as made:
        yield made


def test_check_mode_a_backup_then_nothing_to_do_then_proof_status_and_retention(
    site: Site, place: Place, catalog: str
) -> None:
    rehearsal = site.run("backup", "--check", "--diff")
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), entries(place, catalog)) == (1, [])

    first = site.run("backup", "-vvv", report=True)
    assert first.returncode == 0, first.output
    assert first.changed() == 1
    [entry] = entries(place, catalog)
    assert site.report("backup")["backup"]["id"] == entry
    assert PASSWORD not in first.output

    again = site.run("backup")
    assert again.ok, again.output
    assert (again.changed(), entries(place, catalog)) == (0, [entry])

    assert site.run("backup_verify", "--check").ok
    for changed in (1, 0):
        proof = site.run("backup_verify")
        assert proof.ok, proof.output
        assert proof.changed() == changed
    status = site.run("backup_status", report=True)
    assert status.ok, status.output
    [found] = site.report("backup_status")["backups"]
    assert (found["id"], found["verdict"]) == (entry, "verified")
    retention = site.run("backup_retention")
    assert retention.ok, retention.output
    assert (retention.changed(), entries(place, catalog)) == (0, [entry])


# --- what goes wrong on the way


def wait_for_the_dump(place: Place, catalog: str) -> None:
    """Return when pg_dump writes its second file or so."""
    place.until(lambda: place.glob(f"{catalog}/*/*.partial/data/*.dat*"))


@pytest.mark.parametrize("event", ["connections", "away"])
def test_a_backup_survives_what_the_connection_does_not(place: Place, catalog: str, event: str) -> None:
    with place.link() as link:
        running = start_module(
            "pg_backup", params(place, catalog, kubernetes=place.options(kubeconfig=link.kubeconfig))
        )
        wait_for_the_dump(place, catalog)
        before = link.connections
        if event == "connections":
            link.drop()
        else:
            link.away(5)
        result = running.finish()
        assert not result["failed"], result
        assert link.connections > before
    assert entries(place, catalog) == [result["backup"]["id"]]
    assert is_proven(place, catalog)


def test_a_backup_survives_a_kubelet_that_restarts(place: Place, catalog: str, standin: Standin) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(place, catalog)
    standin.restart_kubelet()
    result = running.finish()
    assert not result["failed"], result
    assert entries(place, catalog) == [result["backup"]["id"]]
    assert is_proven(place, catalog)


def test_a_backup_that_is_cancelled_leaves_nothing_and_postgresql_notices_nothing(place: Place, catalog: str) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(place, catalog)
    running.process.send_signal(signal.SIGINT)
    result = running.finish()
    assert result["failed"]
    assert "Stopped by SIGINT" in result["msg"]
    assert entries(place, catalog) == []
    assert leftovers(place, catalog) == []


def test_a_secret_is_in_no_process_list_of_the_pod(place: Place, catalog: str) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(place, catalog)
    listing = processes(place)
    assert "pg_dump" in listing
    assert PASSWORD not in listing
    result = running.finish()
    assert not result["failed"]
    assert PASSWORD not in json.dumps(result)
    if place.standin is not None:  # only the stand-in records the requests
        assert not [request for request in place.standin.requests if PASSWORD in " ".join(request.argv)]


def test_a_container_that_restarts_is_told_and_its_half_made_backup_is_none(place: Place, catalog: str) -> None:
    running = start_module("pg_backup", params(place, catalog))
    wait_for_the_dump(place, catalog)
    place.restart_server()
    result = running.finish()
    assert result["failed"]
    # Which of these depends on what the API server knows of it by then, and on what noticed first: a look at the processes
    # of the container, or a session with its server.
    told = "The container (was restarted|no longer exists)|The connection to the server was lost|The fingerprint lost its snapshot"
    assert re.search(told, result["msg"]), result["msg"]
    assert not [name for name in entries(place, catalog) if not name.endswith(".partial")]
    following = run_module("pg_backup", params(place, catalog))
    assert not following["failed"], following
    assert entries(place, catalog) == [following["backup"]["id"]]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workload": "deployment/nothing"}, ["deployments", "nothing", "not found"]),
        ({"workload": "pod/nothing"}, ["pods", "nothing", "not found"]),
        ({"workload": "app=nothing"}, ["There is no such pod", "app=nothing"]),
        ({"workload": "cronjob/x"}, ["Invalid kubernetes.workload ('cronjob/x')", "deployment/NAME"]),
        ({"container": "sidecar"}, ["The pod has no container sidecar", "postgres"]),
        ({"kubeconfig": "/nonexistent/config"}, ["The kubeconfig cannot be used", "/nonexistent/config"]),
        ({"context": "nothing"}, ["The kubeconfig cannot be used", "nothing"]),
    ],
)
def test_bad_options_are_named(place: Place, catalog: str, options: dict[str, Any], told: list[str]) -> None:
    result = run_module("pg_backup", params(place, catalog, kubernetes=place.options(**options)))
    assert result["failed"]
    for text in told:
        assert text in result["msg"]


def test_another_namespace_is_named(place: Place, catalog: str) -> None:
    result = run_module("pg_backup", params(place, catalog, kubernetes=place.options(namespace="no-such-place")))
    assert result["failed"]
    # A user without rights beyond its own namespace gets that message instead.
    assert re.search("not found.*no-such-place|no-such-place.*(not found|get pods)", result["msg"]), result["msg"]


def test_a_wrong_token_is_told(place: Place, catalog: str) -> None:
    user = place.user("get pods")  # another kubeconfig may have a certificate, which counts before a token
    options = place.options(kubeconfig=user.kubeconfig, api_key="wrong")
    result = run_module("pg_backup", params(place, catalog, kubernetes=options))
    assert result["failed"]
    for text in ("The API server refuses", "Unauthorized", "expired"):
        assert text in result["msg"]


def test_a_missing_right_is_named(place: Place, catalog: str) -> None:
    # A server asks for one of the two verbs of an exec, depending on its release; either alone will not do.
    user = place.user("get deployments.apps", "list pods", "create pods/exec")
    result = run_module("pg_backup", params(place, catalog, kubernetes=place.options(kubeconfig=user.kubeconfig)))
    assert result["failed"]
    assert f"Rights are missing (namespace {place.namespace}): get pods, get pods/exec, " in result["msg"]
    assert "docs/rbac/pod.yml" in result["msg"]
    missing = ["get and create pods/portforward", "get pods", "get pods/exec"]
    assert sorted(result["error"]["missing"]) == missing
    if place.standin is not None:  # only the stand-in records the requests
        asked = [request for request in place.standin.requests if user.name in request.user]
        assert asked
        assert not [request for request in asked if "/pods/" in request.path]


def test_the_role_that_is_documented_is_enough(place: Place, catalog: str) -> None:
    role = yaml.safe_load((ROOT / "docs" / "rbac" / "pod.yml").read_text())
    options = place.options(kubeconfig=place.user(*role["rules"]).kubeconfig)
    for module in ("pg_backup", "pg_backup_info", "pg_backup_prune", "pg_restore_verify"):
        more: dict[str, Any] = {"pg_restore_verify": {"scratch": "pod-local"}, "pg_backup_prune": {"keep_last": 1}}
        result = run_module(module, params(place, catalog, kubernetes=options, **more.get(module, {})))
        assert not result["failed"], result["msg"]


def test_another_login_host_is_refused(place: Place, catalog: str) -> None:
    result = run_module("pg_backup", params(place, catalog, login_host="db.example.com"))
    assert result["failed"]
    assert "Invalid login_host" in result["msg"]


def test_a_wrong_password_and_a_port_where_nobody_listens_are_told(place: Place, catalog: str) -> None:
    wrong = run_module("pg_backup", params(place, catalog, login_password="wrong"))
    assert "password authentication failed" in wrong["msg"]
    closed = run_module("pg_backup", params(place, catalog, login_port=5999))
    assert closed["failed"]
    assert "Cannot connect to PostgreSQL" in closed["msg"]
