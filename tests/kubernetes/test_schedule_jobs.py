"""Jobs of a schedule: run, judged, started by hand, joined and cancelled.

They run the real `ansible-playbook` in a pod, as the service account that `backup_schedule` makes, with just its rights.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.site import Site
from tests.kubernetes.place import DATABASE, PASSWORD, Place
from tests.kubernetes.scheduling import (
    FAILING,
    IDLE,
    SLOW,
    is_over,
    jobs,
    new_catalog,
    new_place,
    new_site,
    params,
    schedule,
    scheduled,
)
from tests.kubernetes.sites import entries
from tests.standin import Request, Standin
from tests.support.modules import expect_failure, expect_success, run_module, start_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    yield from new_place("scj")


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    yield from new_catalog(place)


@pytest.fixture
def site(place: Place, catalog: str) -> Iterator[Site]:
    yield from new_site(place, catalog)


# --- Jobs


@pytest.mark.usefixtures("runbook")
def test_a_job_from_the_schedule_takes_the_same_backup_as_the_operator(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog, backup_options={"backup_change_id": "{{ no template }}"})
    rehearsal = site.run("backup", "--check", "--diff", backup_from_schedule=schedule(place))
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), jobs(place), entries(place, catalog)) == (1, [], [])

    first = site.run("backup", "-vvv", report=True, backup_from_schedule=schedule(place))
    assert first.returncode == 0, first.output
    assert first.changed() == 1
    [entry] = entries(place, catalog)
    manifest = place.here.files.read(f"{catalog}/{DATABASE}/{entry}/manifest.json")
    assert json.loads(manifest)["change_id"] == "{{ no template }}"
    [job] = jobs(place)
    assert job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual"
    assert job["metadata"]["ownerReferences"][0]["name"] == schedule(place)
    told = first.stats["backup_result"]["db1"]
    assert (told["backup"], told["failed"], told["changed"]) == (entry, False, True)
    assert site.report("backup")["job"]["state"] == "complete"
    assert PASSWORD not in first.output
    [pod] = place.pods(f"job-name={job['metadata']['name']}")
    assert PASSWORD not in place.log_of(pod["metadata"]["name"])

    again = site.run("backup", backup_from_schedule=schedule(place))
    assert again.ok, again.output
    assert (again.changed(), entries(place, catalog)) == (0, [entry])
    another = site.run("backup", backup_from_schedule=schedule(place), backup_max_age=0)
    assert another.ok, another.output
    assert (another.changed(), len(entries(place, catalog))) == (1, 2)

    status = site.run("backup_status", report=True)
    assert status.ok, status.output
    report = site.report("backup_status")
    found = {finding["check"]: finding["severity"] for finding in report["findings"]}
    assert found == {
        "backup_rpo": "ok",
        "backup_verified": "warning",
        "schedule_success": "ok",
        "schedule_missed": "ok",
    }
    assert [each["state"] for each in report["jobs"]] == ["complete"] * 2
    assert len(report["backups"]) == 2
    for suffix in (".md", ".html"):
        page = (site.reports / "db1" / "backup_status").with_suffix(suffix).read_text()
        assert job["metadata"]["name"] in page
        assert entry in page


@pytest.mark.usefixtures("runbook")
def test_the_schedule_itself_takes_a_backup(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog)
    name = place.fire(schedule(place))
    place.until(lambda: is_over(jobs(place)[0]), place.pace.start_s)
    assert len(entries(place, catalog)) == 1
    result = run_module(
        "pg_backup_schedule_info", {"name": schedule(place), "kubernetes": place.options(), "rpo": "1h"}
    )
    assert result["severity"] == "ok", result
    [job] = result["jobs"]
    assert (job["name"], job["state"], job["manual"]) == (name, "complete", False)
    assert result["schedule"]["last_success"]


def test_a_failed_job_is_told_with_its_log_and_judged_against_the_rpo(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog, *FAILING)
    run = site.run("backup", report=True, backup_from_schedule=schedule(place))
    assert run.returncode == 2
    assert "The backup's Job failed" in run.output
    assert "BackoffLimitExceeded: fatal: [database]: FAILED! => there is no space left" in run.output
    assert "begun" in run.output  # the rest of the log
    assert entries(place, catalog) == []
    assert run.stats["backup_result"]["db1"]["failed"]

    status = site.run("backup_status", report=True, backup_status_rpo="")
    assert status.returncode == 2  # there is no backup
    report = site.report("backup_status")
    [failed] = [finding for finding in report["findings"] if finding["check"] == "schedule_failed"]
    assert failed["severity"] == "warning"
    assert "there is no space left" in failed["message"]
    assert report["failed_job_log"][0] == "begun"
    for suffix in (".md", ".html"):
        page = (site.reports / "db1" / "backup_status").with_suffix(suffix).read_text()
        assert "there is no space left" in page
        assert "begun" in page

    late = site.run("backup_status", report=True, backup_status_rpo="1s")
    assert late.returncode == 2
    assert f"No Job of CronJob {schedule(place)} has succeeded" in late.output.rpartition("TASK [")[2]
    severities = {finding["check"]: finding["severity"] for finding in site.report("backup_status")["findings"]}
    assert (severities["backup_rpo"], severities["schedule_success"]) == ("critical", "critical")


def test_a_schedule_that_is_not_there_or_suspended_is_found(site: Site, place: Place, catalog: str) -> None:
    missing = site.run("backup_status", report=True)
    assert missing.returncode == 2
    assert (
        f"There is no CronJob '{schedule(place)}' in namespace {place.namespace}"
        in missing.output.rpartition("TASK [")[2]
    )
    assert {"backup_rpo", "schedule_exists"} <= {each["check"] for each in site.report("backup_status")["findings"]}
    scheduled(place, catalog, suspend=True)
    suspended = run_module("pg_backup_schedule_info", {"name": schedule(place), "kubernetes": place.options()})
    assert (suspended["severity"], suspended["schedule"]["next"]) == ("warning", None)
    assert "is suspended" in suspended["msg"]


def test_a_schedule_that_is_not_there_starts_nothing(place: Place, catalog: str) -> None:
    result = expect_failure("pg_backup_job", params(place, catalog, schedule="nothing"))
    assert f"There is no such CronJob (nothing in namespace {place.namespace})" in result["msg"]
    assert "backup_schedule" in result["msg"]


@pytest.mark.usefixtures("runbook")
def test_a_job_without_a_backup_is_a_failure(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog)
    expect_success("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    scheduled(place, catalog, *IDLE)
    result = expect_failure("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    assert "The backup's Job succeeded, but there is no new backup" in result["msg"]
    assert len(entries(place, catalog)) == 1


def test_a_job_that_runs_is_joined_and_goes_on_when_the_time_is_up(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog, *SLOW)
    given = params(place, catalog, schedule=schedule(place), wait=f"{2 * place.pace.factor:g}s")
    for dummy in range(2):
        result = expect_failure("pg_backup_job", given)
        assert "The backup's Job has not finished" in result["msg"]
        assert "run again to wait for it" in result["msg"]
        [job] = jobs(place)
        assert result["error"]["job"] == job["metadata"]["name"]
    assert job["status"]["active"] == 1
    check = run_module("pg_backup_job", given, check=True)
    assert f"would wait for Job {job['metadata']['name']}" in check["msg"]
    status = run_module("pg_backup_schedule_info", {"name": schedule(place), "kubernetes": place.options()})
    [found] = [finding for finding in status["findings"] if finding["check"] == "schedule_running"]
    assert "has been running for" in found["message"]


def test_cancelling_ends_the_job_that_was_started_and_no_other(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog, *SLOW)
    running = start_module("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    place.until(lambda: jobs(place) and jobs(place)[0]["status"].get("ready"), place.pace.start_s)
    running.process.send_signal(signal.SIGINT)
    result = running.finish()
    assert "Stopped by SIGINT" in result["msg"]
    assert jobs(place) == []

    name = place.fire(schedule(place))
    place.until(lambda: jobs(place)[0]["status"].get("ready"), place.pace.start_s)
    before = len(requests(place))
    running = start_module("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    if place.standin is not None:  # a real cluster does not tell what was asked for
        place.until(lambda: any(each.path.endswith(f"/jobs/{name}") for each in requests(place)[before:]))
    else:
        time.sleep(3 * place.pace.factor)
    running.process.send_signal(signal.SIGINT)
    assert "Stopped by SIGINT" in running.finish()["msg"]
    [job] = jobs(place)
    assert (job["metadata"]["name"], job["metadata"].get("deletionTimestamp")) == (name, None)
    assert not [request for request in requests(place)[before:] if request.method == "DELETE"]


def requests(place: Place) -> list[Request]:
    """The requests so far, which only the stand-in tells."""
    return place.standin.requests if place.standin is not None else []


def test_a_job_that_is_deleted_is_told(site: Site, place: Place, catalog: str) -> None:
    scheduled(place, catalog, *SLOW)
    running = start_module("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    place.until(lambda: jobs(place))
    place.delete("Job", jobs(place)[0]["metadata"]["name"])
    result = running.finish()
    assert result["failed"]
    assert "The backup's Job was deleted" in result["msg"]


@pytest.mark.usefixtures("runbook")
def test_an_api_server_that_cannot_be_reached_ends_no_job(place: Place, catalog: str) -> None:
    scheduled(place, catalog)
    with place.link() as link:
        given = params(place, catalog, schedule=schedule(place))
        running = start_module("pg_backup_job", {**given, "kubernetes": place.options(kubeconfig=link.kubeconfig)})
        place.until(lambda: jobs(place))
        link.away(4)
        result = running.finish()
    assert not result["failed"], result
    assert entries(place, catalog) == [result["backup"]["id"]]
    assert len(jobs(place)) == 1


@pytest.mark.usefixtures("runbook")
def test_an_api_server_that_is_away_for_the_job_as_well_ends_none(place: Place, catalog: str, standin: Standin) -> None:
    scheduled(place, catalog)
    running = start_module("pg_backup_job", params(place, catalog, schedule=schedule(place)))
    place.until(lambda: jobs(place))
    standin.leave(4)
    place.forget()  # its own connection has ended as well
    result = running.finish()
    assert not result["failed"], result
    assert entries(place, catalog) == [result["backup"]["id"]]
    assert len(jobs(place)) == 1


def test_what_keeps_a_job_from_starting_is_told(site: Site, place: Place, catalog: str) -> None:
    # A name that no registry has to be asked about: a capital letter is not allowed.
    scheduled(place, catalog, image="registry.invalid/Nothing:1")
    wait = f"{2 * place.pace.factor:g}s"
    result = expect_failure("pg_backup_job", params(place, catalog, schedule=schedule(place), wait=wait))
    assert "The backup's Job has not finished" in result["msg"]
    assert "registry.invalid/Nothing:1" in result["msg"]
