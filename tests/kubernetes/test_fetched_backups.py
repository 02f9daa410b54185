"""Backups of a pod with the controller as their second place: the playbooks, and a login that ends in the middle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.fetching import CRASHED, as_operator, is_whole, names
from tests.kubernetes.place import DATABASE, NAMESPACE, PASSWORD, USER, StandinPlace
from tests.support.databases import Database
from tests.support.modules import expect_success, run_module, start_module
from tests.support.processes import until
from tests.support.workspace import give, workspace

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LOGIN = {"login_user": USER, "login_password": PASSWORD}
ROWS = 60_000


@pytest.fixture(scope="module")
def place() -> Iterator[StandinPlace]:
    with places.prepared("feb") as prepared:
        host, port = prepared.standin.address(prepared.pod, 5432, NAMESPACE)
        connection = psycopg2.connect(host=host, port=port, user=USER, password=PASSWORD, dbname=DATABASE)
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE noise (id int PRIMARY KEY, text text)")
            cursor.execute(
                "INSERT INTO noise SELECT n, string_agg(md5(n::text || s), '')"
                f" FROM generate_series(1, {ROWS}) AS n, generate_series(1, 12) AS s GROUP BY n"
            )
        connection.commit()
        connection.close()
        yield prepared


@pytest.fixture
def catalog(place: StandinPlace) -> Iterator[Path]:
    """An empty directory of the pod, and where it really is. Afterwards PostgreSQL has noticed nothing."""
    before = len(place.log())
    folder = Path(tempfile.mkdtemp(dir=place.path("/backups")))
    give(folder)
    yield folder
    place.standin.faults.clear()
    assert not CRASHED.search(place.log()[before:]), place.log()[before:]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def site(place: StandinPlace, catalog: Path, database: Database) -> Iterator[Site]:
    folder = Path(tempfile.mkdtemp(prefix="fetch-", dir=workspace()))
    folder.chmod(0o755)
    made = Site(folder, catalog, database)
    made.hosts["db1"].update(postgres_db=DATABASE, postgres_login=LOGIN, postgres_kubernetes=place.options())
    yield made
    shutil.rmtree(folder, ignore_errors=True)


def test_a_backup_is_fetched_by_its_playbook_and_proven_here(site: Site, catalog: Path) -> None:
    dest = site.folder / "fetched"
    wanted = {"backup_fetch": True, "backup_fetch_dir": str(dest)}

    nowhere = site.run("backup", backup_fetch=True)
    assert nowhere.returncode != 0
    assert "does not say where to" in nowhere.output
    rehearsal = site.run("backup", "--check", "--diff", **wanted)
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), names(catalog), dest.exists()) == (1, [], False)

    first = site.run("backup", report=True, **wanted)
    assert first.ok, first.output
    assert first.changed() == 2
    is_whole(catalog, dest)
    [entry] = names(dest)
    report = site.report("backup")
    assert (report["changed"], report["backup"]["id"]) == (True, entry)
    assert report["fetched"]["path"] == first.stats["backup_result"]["db1"]["fetched"]
    assert Path(report["fetched"]["path"]).name == entry
    assert report["fetched"]["fetched_bytes"] == report["backup"]["size_bytes"] > 0

    for again in (site.run("backup", **wanted), site.run("backup", "--check", **wanted)):
        assert again.ok, again.output
        assert again.changed() == 0

    for changed in (1, 0):
        proof = site.run("backup_verify", backup_verify_fetched_dir=str(dest))
        assert proof.ok, proof.output
        assert proof.changed() == changed
        assert proof.stats["backup_verify_result"]["db1"]["verdict"] == "verified"
        assert proof.stats["backup_verify_result"]["db1"]["path"].startswith(str(dest))
    assert len(list(dest.glob("*/*/verifications/*.json"))) == 1
    assert not list(catalog.glob("*/*/verifications"))


def test_a_fetch_that_fails_is_told_although_the_backup_is_there(site: Site, catalog: Path) -> None:
    (site.folder / "file").write_text("in the way")
    failed = site.run("backup", report=True, backup_fetch=True, backup_fetch_dir=str(site.folder / "file" / "x"))
    assert failed.returncode != 0
    [entry] = names(catalog)
    told = failed.stats["backup_result"]["db1"]
    assert (told["failed"], told["changed"], told["backup"]) == (True, True, entry)
    assert "cannot be written" in told["message"]
    report = site.report("backup")
    assert (report["severity"], report["backup"]["id"]) == ("critical", entry)


def test_a_catalog_of_this_host_can_be_copied_but_not_into_itself(
    place: StandinPlace, catalog: Path, tmp_path: Path
) -> None:
    backup = {**LOGIN, "db": DATABASE, "backup_dir": str(catalog)}
    taken = expect_success("pg_backup", {**backup, "kubernetes": place.options(), "fingerprint": "none"})
    options = {"db": DATABASE, "backup_dir": str(catalog), "backup": taken["backup"]["id"]}
    assert expect_success("pg_backup_fetch", {**options, "dest": str(tmp_path / "copy")})["changed"]
    is_whole(catalog, tmp_path / "copy")
    assert not expect_success("pg_backup_fetch", {**options, "dest": str(tmp_path / "copy")})["changed"]
    (tmp_path / "link").symlink_to(catalog)
    refused = run_module("pg_backup_fetch", {**options, "dest": str(tmp_path / "link")})
    assert refused["failed"]
    assert "dest is the catalog itself" in refused["msg"]


# --- a token that ends


@pytest.mark.parametrize(
    "renewed",
    [True, pytest.param(False, marks=pytest.mark.leaves("the lock, which nobody may let go, ends with its lease"))],
)
def test_a_token_that_ends_during_a_dump(place: StandinPlace, catalog: Path, renewed: bool) -> None:
    options: dict[str, Any] = {**LOGIN, "db": DATABASE, "backup_dir": str(catalog), "kubernetes": as_operator(place)}
    running = start_module("pg_backup", options)
    assert until(lambda: bool(list(catalog.glob("*/*.partial/data/*.dat*"))), 60)
    place.standin.expire_token("operator", NAMESPACE)
    if renewed:
        place.standin.kubeconfig("operator", NAMESPACE)  # the same file, with a new token
    place.standin.drop_connections()
    result = running.finish()
    assert result["failed"] is not renewed, result
    if not renewed:
        assert "renew it, then run again" in result["msg"]
        assert not [name for name in names(catalog) if not name.endswith(".partial")]
        return
    assert names(catalog) == [result["backup"]["id"]]
