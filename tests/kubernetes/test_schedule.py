"""The playbook `backup_schedule`: what it makes, changes, removes and refuses, and the rights that it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest
import yaml

from tests.integration.site import Site
from tests.kubernetes.place import PASSWORD, Place
from tests.kubernetes.scheduling import (
    KINDS,
    RBAC,
    new_catalog,
    new_place,
    new_site,
    params,
    schedule,
    scheduled,
    spec_of,
    there,
)
from tests.support.modules import expect_failure, expect_success

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    yield from new_place("sch")


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    yield from new_catalog(place)


@pytest.fixture
def site(place: Place, catalog: str) -> Iterator[Site]:
    yield from new_site(place, catalog)


# --- the playbook


def test_its_whole_life_by_somebody_with_the_rights_that_are_documented(site: Site, place: Place) -> None:
    as_user(place, site, *rules_of("backup_schedule.yml"))
    rehearsal = site.run("backup_schedule", "--check", "--diff")
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), there(place)) == (1, [])

    first = site.run("backup_schedule", "-vvv", report=True)
    assert first.returncode == 0, first.output
    assert (first.changed(), there(place)) == (1, list(KINDS))
    told = first.stats["backup_schedule_result"]["db1"]
    assert (told["failed"], told["changed"], told["name"]) == (False, True, schedule(place))
    assert told["next"] in told["message"]
    assert told["next"][10:] == "T02:00:00Z"
    assert site.report("backup_schedule")["changed"]
    [container] = spec_of(place)["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"memory": "512Mi"}
    again = site.run("backup_schedule")
    assert again.ok, again.output
    assert again.changed() == 0

    words: dict[str, Any] = {"backup_schedule_cron": "30 3 * * 6", "backup_schedule_suspend": True}
    words |= {"backup_schedule_time_zone": "Europe/Berlin", "backup_schedule_resources": {"limits": {"memory": "1Gi"}}}
    would = site.run("backup_schedule", "--check", "--diff", **words)
    assert would.ok, would.output
    assert would.changed() == 1
    assert "30 3 * * 6" in would.output.partition("TASK [godel.postgres_runbook.backup_schedule : Create")[2]
    assert spec_of(place)["schedule"] == "0 2 * * *"
    run = site.run("backup_schedule", **words)
    assert run.ok, run.output
    assert run.changed() == 1
    spec = spec_of(place)
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("30 3 * * 6", "Europe/Berlin", True)
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"memory": "1Gi"}}

    back = site.run("backup_schedule")
    assert back.ok, back.output
    assert "timeZone" not in spec_of(place)

    gone = site.run("backup_schedule", "--check", backup_schedule_state="absent")
    assert gone.ok, gone.output
    assert (gone.changed(), there(place)) == (1, list(KINDS))
    for changed in (1, 0):
        gone = site.run("backup_schedule", backup_schedule_state="absent")
        assert gone.ok, gone.output
        assert (gone.changed(), there(place)) == (changed, [])


def test_the_objects_are_bounded_and_have_no_secret_and_the_rights_that_are_documented(
    place: Place, catalog: str
) -> None:
    scheduled(place, catalog)
    spec = spec_of(place)
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"], job["activeDeadlineSeconds"]) == (
        "Forbid",
        3600,
        21600,
    )
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"], job["backoffLimit"]) == (3, 3, 0)
    assert container["args"][-1] == "godel.postgres_runbook.backup"
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == (schedule(place), "Never")
    assert place.get("Role", schedule(place))["rules"] == yaml.safe_load((RBAC / "pod.yml").read_text())["rules"]
    for kind in KINDS:
        assert PASSWORD not in json.dumps(place.get(kind, schedule(place)))


def test_a_shared_service_account_stays_and_without_rbac_none_is_made(place: Place, catalog: str) -> None:
    def kinds(**over: Any) -> list[str]:
        given = params(place, catalog, name=schedule(place), image=place.image, **over)
        return [each["kind"] for each in expect_success("pg_backup_schedule_plan", given)["objects"]]

    assert "ServiceAccount" in kinds(service_account="shared")
    assert "ServiceAccount" not in kinds(service_account="shared", state="absent")
    assert kinds(service_account="mine", rbac=False) == ["ConfigMap", "CronJob"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"cron": "0 2 * *"}, ["Invalid cron", "4 fields"]),
        ({"cron": "0 2 * * 7"}, ["Invalid cron", "'7' is invalid as day of the week"]),
        ({"time_zone": "Mars/Olympus"}, ["Invalid time_zone ('Mars/Olympus')"]),
        ({"image": None}, ["Invalid image"]),
        ({"image": "two words"}, ["Invalid image"]),
        ({"name": "Nightly_Backup"}, ["Invalid name"]),
        ({"name": "n" * 53}, ["Invalid name", "at most 52"]),
        ({"service_account": "a b"}, ["Invalid service_account"]),
        ({"password_secret": "-"}, ["Invalid password_secret"]),
        ({"starting_deadline": "9s"}, ["Invalid starting_deadline ('9s')", "10s or more"]),
        ({"active_deadline": "0"}, ["Invalid active_deadline"]),
        ({"backoff_limit": -1}, ["Invalid backoff_limit"]),
        ({"backup_options": {"postgres_db": "x"}}, ["Invalid backup_options", "postgres_db"]),
        ({"backup_options": {"backup_from_schedule": "x"}}, ["Invalid backup_options"]),
        ({"login_password": "secret word"}, ["Invalid password_secret", "backup_schedule_password_secret"]),
        ({"connect_params": {"sslpassword": "secret word"}}, ["Invalid connect_params"]),
        ({"kubernetes": None}, ["kubernetes is missing", "postgres_kubernetes"]),
    ],
)
def test_bad_input_is_named(place: Place, catalog: str, words: dict[str, Any], told: list[str]) -> None:
    given = params(place, catalog, **{"name": schedule(place), "image": place.image, **words})
    result = expect_failure("pg_backup_schedule_plan", given)
    for text in told:
        assert text in result["msg"]
    assert "secret word" not in json.dumps(result)


def test_bad_input_changes_nothing(site: Site, place: Place) -> None:
    run = site.run("backup_schedule", report=True, backup_schedule_cron="61 * * * *")
    assert run.returncode == 2
    assert "'61' is invalid as minute, 0 to 59" in run.output
    assert there(place) == []
    assert site.report("backup_schedule")["severity"] == "critical"
    assert run.stats["backup_schedule_result"]["db1"]["failed"]


# --- rights


def rules_of(*files: str) -> list[Any]:
    return [rule for file in files for rule in yaml.safe_load((RBAC / file).read_text())["rules"]]


def as_user(place: Place, site: Site, *rules: Any) -> None:
    """Let the playbooks be run by a user with just these rights."""
    site.hosts["db1"]["postgres_kubernetes"] = place.options(kubeconfig=place.user(*rules).kubeconfig)


@pytest.mark.usefixtures("runbook")
def test_the_roles_that_are_documented_are_enough_to_start_and_to_look(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog)
    as_user(place, site, *rules_of("pod.yml", "backup_from_schedule.yml"))
    started = site.run("backup", backup_from_schedule=schedule(place))
    assert started.ok, started.output
    as_user(place, site, *rules_of("pod.yml", "backup_status.yml"))
    status = site.run("backup_status")
    assert status.ok, status.output


def test_a_missing_right_is_named_before_anything_is_done(site: Site, place: Place) -> None:
    less = [rule for rule in rules_of("backup_schedule.yml") if "cronjobs" not in rule["resources"]]
    as_user(place, site, *less, "get,patch,delete cronjobs.batch")
    run = site.run("backup_schedule")
    assert run.returncode == 2
    assert (
        f"Rights are missing (namespace {place.namespace}): create cronjobs.batch. Apply "
        "https://github.com/godel/postgres_runbook/blob/main/docs/rbac/backup_schedule.yml" in run.output
    )
    assert there(place) == []

    # Who grants what he has not is refused by the cluster; so that is asked beforehand as well.
    less = [rule for rule in rules_of("backup_schedule.yml") if "pods/exec" not in rule["resources"]]
    as_user(place, site, *less)
    run = site.run("backup_schedule")
    assert "get pods/exec, create pods/exec" in run.output
    assert there(place) == []

    as_user(place, site, *rules_of("pod.yml"))
    for playbook, words, right in (
        ("backup", {"backup_from_schedule": schedule(place)}, "create jobs.batch"),
        ("backup_status", {}, "get cronjobs.batch"),
    ):
        run = site.run(playbook, **words)
        assert run.returncode == 2
        assert right in run.output
        assert f"docs/rbac/{'backup_from_schedule' if words else playbook}.yml" in run.output


def test_the_api_server_lets_nobody_grant_what_he_has_not(place: Place, catalog: str) -> None:
    """Of the stand-in, and of every real one: what the preflight above foresees."""
    user = place.user("get,create,patch roles.rbac.authorization.k8s.io")
    given = params(place, catalog, name=schedule(place), image=place.image)
    plan = expect_success("pg_backup_schedule_plan", given)
    [role] = [item for item in plan["objects"] if item["kind"] == "Role"]
    client = kubernetes.config.new_client_from_config(user.kubeconfig)
    with client, pytest.raises(kubernetes.client.ApiException) as caught:
        kubernetes.client.RbacAuthorizationV1Api(client).create_namespaced_role(place.namespace, role)
    assert caught.value.status == 403
    assert "is attempting to grant RBAC permissions not currently held" in str(caught.value.body)
