"""Backups brought from a pod to the controller: whole, once, and nothing else in their place."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import Catalog
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._kube import download as downloads
from tests.kubernetes import place as places
from tests.kubernetes.fetching import FILES, SIZE, add, backup_in, is_whole, names, params, start_slowly
from tests.kubernetes.place import DATABASE, Place
from tests.kubernetes.sites import entries, judge
from tests.support.catalogs import add_backup, add_verdict, ago, catalog_at, tree_of
from tests.support.modules import COLLECTIONS, expect_failure, expect_success

# The stand-in leaves sockets open that a test has cut; that is not what is tested here.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with places.chosen("fet") as prepared:
        yield prepared


@pytest.fixture
def catalog(place: Place) -> Iterator[str]:
    with backup_in(place) as folder:
        yield folder


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "fetched"


# --- no faults


def test_check_mode_a_fetch_and_nothing_to_do(place: Place, catalog: str, dest: Path) -> None:
    rehearsal = expect_success("pg_backup_fetch", params(place, catalog, dest), check=True, diff=True)
    assert rehearsal["changed"]
    assert not dest.exists()
    assert not place.glob(f"{catalog}/*/.*_*.lock")

    first = expect_success("pg_backup_fetch", params(place, catalog, dest), diff=True)
    assert (first["changed"], first["fetched_bytes"], first["resumed_bytes"]) == (True, SIZE, 0)
    assert first["backup"]["path"] == rehearsal["backup"]["path"]
    assert first["diff"] == rehearsal["diff"]
    is_whole(place.digests(catalog), dest)

    before = tree_of(dest)
    for check in (True, False):
        again = expect_success("pg_backup_fetch", params(place, catalog, dest), check=check)
        assert not again["changed"]
        assert "already exists in" in again["msg"]
    assert tree_of(dest) == before


def test_the_id_that_is_named_is_fetched(place: Place, catalog: str, dest: Path) -> None:
    older = add(place, catalog, {"data.sql": b"older"}, taken=ago(hours=5))
    result = expect_success("pg_backup_fetch", params(place, catalog, dest, backup=older))
    assert names(dest) == [result["backup"]["id"]] == [older]


def test_verdicts_come_along_and_new_ones_later(place: Place, catalog: str, dest: Path) -> None:
    [entry] = entries(place, catalog)
    judge(place, catalog, entry, "verified", ago(minutes=50))
    first = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert (first["verdicts"], first["backup"]["verdict"]) == (1, "verified")
    is_whole(place.digests(catalog), dest)
    add_verdict(dest, DATABASE, entry, "verified", ago(minutes=40))  # of the copy
    assert not expect_success("pg_backup_fetch", params(place, catalog, dest))["changed"]
    judge(place, catalog, entry, "failed", ago(minutes=30))
    rehearsal = expect_success("pg_backup_fetch", params(place, catalog, dest), check=True)
    assert rehearsal["changed"]
    later = expect_success("pg_backup_fetch", params(place, catalog, dest))
    assert (later["changed"], later["verdicts"], later["fetched_bytes"]) == (True, 1, 0)
    assert "failed its verification" in str(later["warnings"])
    assert catalog_at(dest).find(DATABASE, entry).verdict == "failed"
    assert not expect_success("pg_backup_fetch", params(place, catalog, dest))["changed"]


def test_thousands_of_files_take_few_connections(place: Place, catalog: str, dest: Path) -> None:
    for entry in place.glob(f"{catalog}/*/*"):
        place.here.files.remove_tree(entry)
    add(place, catalog, {f"data/{number}.dat": b"%d" % number for number in range(3_000)})
    with place.link() as link:
        before = link.connections
        options = place.options(kubeconfig=link.kubeconfig)
        expect_success("pg_backup_fetch", params(place, catalog, dest, kubernetes=options))
        assert 1 < link.connections - before < 15
    is_whole(place.digests(catalog), dest)


# --- what is refused


def test_a_file_that_is_damaged_in_the_pod_is_refused(place: Place, catalog: str, dest: Path) -> None:
    [path] = place.glob(f"{catalog}/*/*/data/1.dat")
    data = bytearray(FILES["data/1.dat"])
    data[4_000_000] ^= 1
    place.here.files.write(path, bytes(data))
    result = expect_failure("pg_backup_fetch", params(place, catalog, dest))
    assert result["error"]["damaged"] == "data/1.dat"
    assert "SHA-256" in result["msg"]
    assert names(dest) == []


@pytest.mark.parametrize("change", ["shorter", "missing", "more", "link"])
def test_files_that_are_not_those_of_the_manifest_are_refused_before(
    place: Place, catalog: str, dest: Path, change: str
) -> None:
    [path] = place.glob(f"{catalog}/*/*/data/1.dat")
    if change == "shorter":
        place.here.files.write(path, b"short")
    elif change == "more":
        place.here.files.write(path.replace("1.dat", "more"), b"")
    else:
        place.here.files.remove_file(path)
        if change == "link":
            place.here.run(["ln", "-s", "/etc/passwd", path])
    for check in (True, False):
        result = expect_failure("pg_backup_fetch", params(place, catalog, dest), check=check)
        assert "differ from its manifest" in result["msg"]
        assert names(dest) == []


def test_another_backup_under_the_same_name_is_left_alone(place: Place, catalog: str, dest: Path) -> None:
    taken = Catalog(place.here, catalog).find(DATABASE, "latest").taken
    add_backup(dest, DATABASE, taken)
    before = tree_of(dest)
    result = expect_failure("pg_backup_fetch", params(place, catalog, dest))
    assert "The destination already has another directory with the name of the backup" in result["msg"]
    assert tree_of(dest) == before


def test_a_copy_that_was_damaged_here_is_told(place: Place, catalog: str, dest: Path) -> None:
    expect_success("pg_backup_fetch", params(place, catalog, dest))
    [path] = dest.glob("*/*/data/1.dat")
    path.write_bytes(b"cut")
    result = expect_failure("pg_backup_fetch", params(place, catalog, dest))
    assert "The existing copy is damaged" in result["msg"]
    assert path.read_bytes() == b"cut"


def test_two_fetches_at_once_are_refused(place: Place, catalog: str, dest: Path) -> None:
    with place.link() as link:
        running = start_slowly(link, params(place, catalog, dest), dest)
        with link.silent():
            result = expect_failure("pg_backup_fetch", params(place, catalog, dest))
        assert result["error"]["kind"] == "Locked"
        assert "fetch of latest" in result["msg"]
        link.bytes_per_s = None
        assert not running.finish()["failed"]
    is_whole(place.digests(catalog), dest)


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"backup": "nothing"}, "There is no such backup"),
        ({"db": "nothing"}, "There is no such backup"),
        ({"dest": "relative"}, "Invalid dest ('relative')"),
        ({"dest": "/etc/passwd/nothing"}, "cannot be written"),
    ],
)
def test_what_cannot_work_is_told(place: Place, catalog: str, dest: Path, over: dict[str, Any], told: str) -> None:
    for check in (True, False):
        assert told in expect_failure("pg_backup_fetch", {**params(place, catalog, dest), **over}, check=check)["msg"]


def test_a_file_that_shrinks_meanwhile_is_told(place: Place, catalog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_QUIET_S", 0.5 * place.pace.factor)
    [path] = place.glob(f"{catalog}/*/*/toc.dat")
    arrived = bytearray()
    with place.target() as target, pytest.raises(FileProblem, match=r"The size of a file has changed.*7 bytes too few"):
        target.files.stream({path: 3_007}, arrived.extend)
    assert bytes(arrived) == FILES["toc.dat"]


# --- little room, and much to fetch

# A program begins with this; its first argument is the option `kubernetes`.
OPENED = """
import json, sys
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.factory import create_target
from ansible_collections.godel.postgres_runbook.plugins.module_utils._argspec import KUBERNETES
words = dict.fromkeys(KUBERNETES.options["kubernetes"]["options"]) | json.loads(sys.argv[1])
files = create_target({"kubernetes": words}).files
"""
BIG = """
import hashlib
digest, size = hashlib.sha256(), 0
def sink(data):
    global size
    size += len(data)
    digest.update(data)
files.stream({sys.argv[2]: int(sys.argv[3])}, sink)
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(json.dumps([size, digest.hexdigest(), int(peak) * 1024]))
"""


def test_too_little_space_is_noticed_before(place: Place, catalog: str, dest: Path, tmp_path: Path) -> None:
    dest.mkdir(mode=0o700)
    python = on_a_small_disk(dest, 3, tmp_path / "python")
    for check in (True, False):
        result = expect_failure("pg_backup_fetch", params(place, catalog, dest), python=python, check=check)
        assert result["error"]["kind"] == "NotEnoughSpace"
        assert result["error"]["needed_bytes"] > SIZE > result["error"]["free_bytes"]
        assert (tmp_path / "left").read_text() == ""


def test_a_disk_that_fills_up_is_told_and_what_came_stays(
    place: Place, catalog: str, dest: Path, tmp_path: Path
) -> None:
    dest.mkdir(mode=0o700)
    [entry] = place.glob(f"{catalog}/*/*/manifest.json")
    code = (
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest\n"
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import NotEnoughSpace\n"
        "from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.fetch_files import receive\n"
        "found = manifest.load(files.read(sys.argv[2]), '')\n"
        "try: receive(files, sys.argv[2].rpartition('/')[0], found.files, sys.argv[3])\n"
        "except NotEnoughSpace as exc: print(exc.message)\n"
    )
    python = on_a_small_disk(dest, 3, tmp_path / "python")
    done = subprocess.run(
        [python, "-c", OPENED + code, json.dumps(place.options()), entry, dest],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "data/1.dat): No space left on device" in done.stdout
    assert (tmp_path / "left").read_text().splitlines() == ["./data", "./data/1.dat"]


def on_a_small_disk(folder: Path, megabytes: int, wrapper: Path) -> str:
    """A Python that has a small tmpfs of its own at the folder, and lists afterwards what is there."""
    how = "unshare -m" if os.geteuid() == 0 else "unshare -rm"
    place, listing = shlex.quote(str(folder)), shlex.quote(str(wrapper.with_name("left")))
    inner = f"""mount -t tmpfs -o size={megabytes}m,mode=700 tmpfs {place} || exit 99
{shlex.quote(sys.executable)} "$@"
status=$?
cd {place}; find . -mindepth 1 > {listing}
exit $status"""
    wrapper.write_text(f'#!/bin/sh\nexec {how} sh -c {shlex.quote(inner)} sh "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def test_a_gigabyte_takes_no_memory(place: Place, catalog: str) -> None:
    """`make bench` does this with five."""
    size = 1024**3
    path = f"{catalog}/large"
    place.here.run(["truncate", "-s", str(size), path])  # zeros that take no disk
    done = subprocess.run(
        [sys.executable, "-c", OPENED + BIG, json.dumps(place.options()), path, str(size)],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    arrived, digest, peak = json.loads(done.stdout)
    assert arrived == size
    assert digest == "49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
    assert peak < 100 * 1024**2, peak
