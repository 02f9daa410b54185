"""What the tests of schedules share: images for Jobs, a site, and a look at what there is."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import yaml

from tests.conftest import COLLECTIONS, ROOT
from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.place import DATABASE, NAMESPACE, PASSWORD, USER, StandinPlace
from tests.kubernetes.standin.defaults import TOKEN_PATH
from tests.kubernetes.standin.images import MACHINE_PATH, Image, Scene
from tests.kubernetes.standin.server import Standin
from tests.support.databases import Database
from tests.support.modules import expect_success
from tests.support.workspace import workspace

LOGIN = {"login_user": USER, "login_password": PASSWORD}
SCHEDULE = "nightly"
RUNBOOK, FAILING, SLOW, IDLE = "lab/runbook:1", "lab/failing:1", "lab/slow:1", "lab/idle:1"
KINDS = ("cronjob", "configmap", "serviceaccount", "role", "rolebinding")
WORDS = {
    "backup_schedule_name": SCHEDULE,
    "backup_schedule_image": RUNBOOK,
    "backup_schedule_password_secret": "godel-db",
    "backup_schedule_password_key": "POSTGRES_PASSWORD",
    "backup_schedule_backoff_limit": 0,
}
RBAC = ROOT / "docs" / "rbac"
FAILS = "echo begun; echo 'fatal: [database]: FAILED! => there is no space left'; echo 'PLAY RECAP ***'; exit 2"


def runbook_image(served: list[Standin]) -> Image:
    """An execution environment: this checkout and its .venv.

    A pod of the stand-in has no /var/run of its own, where a client looks for its service account. So a kubeconfig
    names the mounted token instead; the rights are the account's all the same.
    """

    def prepare(scene: Scene) -> None:
        account = scene.mounts[TOKEN_PATH]
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "x", "cluster": {"server": served[0].url, "certificate-authority": str(account / "ca.crt")}}
            ],
            "users": [{"name": "x", "user": {"tokenFile": str(account / "token")}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        config = scene.folder / "account.kubeconfig"
        config.write_text(yaml.safe_dump(content))
        scene.env["KUBECONFIG"] = str(config)

    return Image(
        path=(Path(sys.executable).parent, MACHINE_PATH),
        env={"ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "LC_ALL": "C.UTF-8"},
        prepare=prepare,
    )


def new_place(name: str) -> Iterator[StandinPlace]:
    """A stand-in with PostgreSQL in a pod and a table in it, and images for Jobs."""
    served: list[Standin] = []
    images = {
        RUNBOOK: runbook_image(served),
        FAILING: Image(entrypoint=("sh", "-c", FAILS)),
        SLOW: Image(entrypoint=("sh", "-c", "sleep 600")),
        IDLE: Image(entrypoint=("true",)),
    }
    with places.prepared(name, images) as prepared:
        served.append(prepared.standin)
        host, port = prepared.standin.address(prepared.pod, 5432, NAMESPACE)
        connection = psycopg2.connect(host=host, port=port, user=USER, password=PASSWORD, dbname=DATABASE)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE users (id int PRIMARY KEY, name text)")
            cursor.execute("INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 500) AS n")
        connection.commit()
        connection.close()
        yield prepared


def new_catalog(place: StandinPlace) -> Iterator[Path]:
    """An empty directory of the pod, and no schedule, before and after."""
    volume = place.path("/backups")
    folder = Path(tempfile.mkdtemp(dir=volume))
    shutil.chown(folder, volume.stat().st_uid, volume.stat().st_gid)
    yield folder
    place.standin.faults.clear()
    for kind in KINDS:
        place.standin.delete(kind, SCHEDULE, NAMESPACE)
    place.standin.until(lambda: not place.standin.objects("jobs", NAMESPACE))
    shutil.rmtree(folder, ignore_errors=True)


def new_site(place: StandinPlace, catalog: Path, database: Database) -> Iterator[Site]:
    """A site whose host has a schedule, run by somebody who may do all."""
    folder = Path(tempfile.mkdtemp(prefix="sch-", dir=workspace()))
    made = Site(folder, catalog, database)
    made.hosts["db1"].update(
        postgres_db=DATABASE, postgres_login=LOGIN, postgres_kubernetes=place.options(), backup_status_schedule=SCHEDULE
    )
    made.hosts["db1"].update(WORDS)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def there(place: StandinPlace) -> list[str]:
    """Which of the objects of the schedule there are."""
    return [kind for kind in KINDS if place.standin.get(kind, SCHEDULE, NAMESPACE)]


def spec_of(place: StandinPlace) -> dict[str, Any]:
    found = place.standin.get("cronjob", SCHEDULE, NAMESPACE)
    assert found is not None
    return dict(found["spec"])


def scheduled(place: StandinPlace, catalog: Path, image: str = RUNBOOK, **over: Any) -> None:
    """Make the schedule as its playbook does, but for the playbook."""
    prefix = "backup_schedule_"
    words = {name.removeprefix(prefix): value for name, value in WORDS.items()}
    given = {**LOGIN, **params(place, catalog), **words, "image": image, **over}
    place.standin.apply(*expect_success("pg_backup_schedule_plan", given)["objects"])
    assert there(place) == list(KINDS)


def params(place: StandinPlace, catalog: Path, **over: Any) -> dict[str, Any]:
    """The parameters of a module."""
    return {"db": DATABASE, "backup_dir": str(catalog), "kubernetes": place.options(), **over}


def jobs(place: StandinPlace) -> list[dict[str, Any]]:
    return place.standin.objects("jobs", NAMESPACE)


def is_over(job: dict[str, Any]) -> bool:
    return any(each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions") or [])
