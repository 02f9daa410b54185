"""What the tests of schedules share: a place, a site, and a look at what there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.conftest import ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes import sites
from tests.kubernetes.place import DATABASE, Place
from tests.kubernetes.sites import site_of
from tests.support.modules import expect_success

KINDS = ("CronJob", "ConfigMap", "ServiceAccount", "Role", "RoleBinding")
RBAC = ROOT / "docs" / "rbac"
# What Jobs run instead of the backup.
FAILS = "echo begun; echo 'fatal: [database]: FAILED! => there is no space left'; echo 'PLAY RECAP ***'; exit 2"
FAILING = ("sh", "-c", FAILS)
SLOW = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
IDLE = ("true",)


def schedule(place: Place) -> str:
    """The name of the schedule."""
    return f"{place.name}-nightly"


def options(place: Place) -> dict[str, Any]:
    """The options of the module for the schedule."""
    return {
        "name": schedule(place),
        "image": place.runbook_image or place.image,
        "password_secret": place.secret,
        "password_key": "POSTGRES_PASSWORD",
        "backoff_limit": 0,
        **place.schedule_options(),
    }


def new_place(name: str) -> Iterator[Place]:
    """PostgreSQL in a pod, and a table in it."""
    with places.chosen(name) as prepared:
        prepared.execute(
            "CREATE TABLE users (id int PRIMARY KEY, name text)",
            "INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) AS n",
        )
        yield prepared


def new_catalog(place: Place) -> Iterator[str]:
    """An empty directory of the pod, and no schedule, before and after."""
    folder = place.new_folder()
    yield folder
    for kind in KINDS:
        place.delete(kind, schedule(place))
    place.until(lambda: not jobs(place))
    place.here.files.remove_tree(folder)


def new_site(place: Place, catalog: str) -> Iterator[Site]:
    """A site whose host has a schedule, with all rights."""
    with site_of(place, catalog) as made:
        made.hosts["db1"]["backup_status_schedule"] = schedule(place)
        made.hosts["db1"].update({f"backup_schedule_{name}": value for name, value in options(place).items()})
        yield made


def there(place: Place) -> list[str]:
    """Which of the objects of the schedule there are."""
    return [kind for kind in KINDS if place.find(kind, schedule(place))]


def spec_of(place: Place) -> dict[str, Any]:
    return dict(place.get("CronJob", schedule(place))["spec"])


def scheduled(place: Place, catalog: str, *command: str, **over: Any) -> None:
    """Make or change the schedule as its playbook does, but for the playbook.

    With a command, Jobs run this in the image of the server, instead of the backup.
    """
    given = {**sites.params(place, catalog), **options(place), **({"image": place.image} if command else {}), **over}
    for item in expect_success("pg_backup_schedule_plan", given)["objects"]:
        if command and item["kind"] == "CronJob":
            [container] = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
            container["command"] = list(command)
        _put(place, item)
    assert there(place) == list(KINDS)


def _put(place: Place, item: dict[str, Any]) -> None:
    """Make an object, or give the one that is there this content."""
    kind, name = item["kind"], item["metadata"]["name"]
    if place.find(kind, name) is None:
        place.create(item)
    else:
        content = {key: value for key, value in item.items() if key != "metadata"}
        place.change(kind, name, lambda found: found.update(content))


def params(place: Place, catalog: str, **over: Any) -> dict[str, Any]:
    """The parameters of a module."""
    return {"db": DATABASE, "backup_dir": catalog, "kubernetes": place.options(), **over}


def jobs(place: Place) -> list[dict[str, Any]]:
    """The Jobs of the schedule."""
    return place.jobs(schedule(place))


def is_over(job: dict[str, Any]) -> bool:
    return any(each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions") or [])
