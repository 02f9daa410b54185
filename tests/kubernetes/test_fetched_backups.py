"""Backups of a pod with the controller as their second place: the playbooks, and a login that ends in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import Site
from tests.kubernetes import place as places
from tests.kubernetes.fetching import OPERATOR, digests, is_whole, names
from tests.kubernetes.place import Place
from tests.kubernetes.sites import entries, params, site_of
from tests.support import backups
from tests.support.databases import Database
from tests.support.modules import expect_success, run_module, start_module

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("feb") as prepared:
        prepared.execute(
            "CREATE TABLE noise (id int PRIMARY KEY, text text)",
            "INSERT INTO noise SELECT n, string_agg(md5(n::text || s), '')"
            f" FROM generate_series(1, {prepared.pace.rows // 2}) AS n, generate_series(1, 12) AS s GROUP BY n",
        )
        yield prepared


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    """An empty directory of the pod. Afterwards PostgreSQL has noticed nothing."""
    folder = place.new_folder()
    with place.unnoticed():
        yield folder
    place.here.files.remove_tree(folder)


@pytest.fixture
def site(place: Place, catalog: str) -> Iterator[Site]:
    with site_of(place, catalog) as made:
        yield made


def test_a_backup_is_fetched_by_its_playbook_and_proven_here(site: Site, place: Place, catalog: str) -> None:
    dest = site.folder / "fetched"
    wanted = {"backup_fetch": True, "backup_fetch_dir": str(dest)}

    nowhere = site.run("backup", backup_fetch=True)
    assert nowhere.returncode != 0
    assert "Missing backup_fetch_dir: backup_fetch requires it." in nowhere.output
    rehearsal = site.run("backup", "--check", "--diff", **wanted)
    assert rehearsal.ok, rehearsal.output
    assert (rehearsal.changed(), entries(place, catalog), dest.exists()) == (1, [], False)

    first = site.run("backup", report=True, **wanted)
    assert first.ok, first.output
    assert first.changed() == 2
    is_whole(place.digests(catalog), dest)
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
    assert not place.glob(f"{catalog}/*/*/verifications")


def test_a_fetch_that_fails_is_told_although_the_backup_is_there(site: Site, place: Place, catalog: str) -> None:
    (site.folder / "file").write_text("in the way")
    failed = site.run("backup", report=True, backup_fetch=True, backup_fetch_dir=str(site.folder / "file" / "x"))
    assert failed.returncode != 0
    [entry] = entries(place, catalog)
    told = failed.stats["backup_result"]["db1"]
    assert (told["failed"], told["changed"], told["backup"]) == (True, True, entry)
    assert "cannot be written" in told["message"]
    report = site.report("backup")
    assert (report["severity"], report["backup"]["id"]) == ("critical", entry)


def test_a_catalog_of_this_host_can_be_copied_but_not_into_itself(
    database: Database, backup_dir: Path, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n")
    taken = expect_success("pg_backup", backups.params(database, backup_dir, fingerprint="none"))
    options = {"db": database.name, "backup_dir": str(backup_dir), "backup": taken["backup"]["id"]}
    assert expect_success("pg_backup_fetch", {**options, "dest": str(tmp_path / "copy")})["changed"]
    is_whole(digests(backup_dir), tmp_path / "copy", database.name)
    assert not expect_success("pg_backup_fetch", {**options, "dest": str(tmp_path / "copy")})["changed"]
    (tmp_path / "link").symlink_to(backup_dir)
    refused = run_module("pg_backup_fetch", {**options, "dest": str(tmp_path / "link")})
    assert refused["failed"]
    assert "it is the catalog itself" in refused["msg"]


# --- a token that ends


@pytest.mark.parametrize(
    "renewed",
    [True, pytest.param(False, marks=pytest.mark.leaves("without a token, the lock ends with its lease"))],
)
def test_a_token_that_ends_during_a_dump(place: Place, catalog: str, renewed: bool) -> None:
    user = place.user(*OPERATOR)
    with place.link(user.kubeconfig) as link:
        options = params(place, catalog, kubernetes=place.options(kubeconfig=link.kubeconfig))
        running = start_module("pg_backup", options)
        place.until(lambda: place.glob(f"{catalog}/*/*.partial/data/*.dat*"))
        with link.silent():  # what it does must not be done before
            user.end_token()
            if renewed:
                user.renew()
        result = running.finish()
    assert result["failed"] is not renewed, result
    if not renewed:
        assert "renew them, then run again" in result["msg"]
        assert not [name for name in entries(place, catalog) if not name.endswith(".partial")]
        return
    assert entries(place, catalog) == [result["backup"]["id"]]
