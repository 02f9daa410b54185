"""A backup in a pod, to be fetched: what the tests of that share."""

from __future__ import annotations

import hashlib
import random
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kubernetes.leftovers import processes
from tests.kubernetes.link import Link
from tests.kubernetes.place import DATABASE, Place
from tests.support.catalogs import add_backup, ago, catalog_at
from tests.support.modules import RunningModule, start_module
from tests.support.processes import until
from tests.support.workspace import workspace

SENDER = "download$"  # what the exec is called that sends files
MB = 1_000_000
FILES = {
    "toc.dat": random.Random(1).randbytes(3_000),
    "data/1.dat": random.Random(2).randbytes(6 * MB),
    "data/2.dat": b"",
    "data/3 'x' $(id).dat": random.Random(3).randbytes(40_000),
    "globals.sql": b"-- roles\n",
}
SIZE = sum(map(len, FILES.values()))

OPERATOR = ("get deployments.apps", "list,get pods", "get,create pods/exec", "get,create pods/portforward")


@contextmanager
def backup_in(place: Place) -> Iterator[str]:
    """A directory of the pod with one backup. Afterwards nothing sends files, and PostgreSQL has noticed nothing."""
    folder = place.new_folder()
    add(place, folder)
    with place.unnoticed():
        try:
            yield folder
            place.until(lambda: not senders(place), 10 * place.pace.factor)
        finally:
            place.here.files.remove_tree(folder)


def add(place: Place, folder: str, files: Mapping[str, bytes] | None = None, **over: Any) -> str:
    """Put a backup with these files into a catalog of the pod, and return its name."""
    taken = over.pop("taken", ago(hours=1))
    with tempfile.TemporaryDirectory(dir=workspace()) as here:
        path = add_backup(Path(here), DATABASE, taken, files=FILES if files is None else files, **over)
        place.put(Path(here), folder)
    return path.name


def params(place: Place, catalog: str, dest: Path, **over: Any) -> dict[str, Any]:
    """The parameters of pg_backup_fetch."""
    chosen = {"db": DATABASE, "backup_dir": catalog, "dest": str(dest), "kubernetes": place.options()}
    return {**chosen, **over}


def senders(place: Place) -> list[str]:
    """What of ours sends files in the pod."""
    found = (each.arguments for each in processes(place).values())
    return [line for line in found if re.match(r"sh -s download|cat -- /|tail -c \+\d+ -- /", line)]


def names(dest: Path) -> list[str]:
    """The names of what is in the database's directory of this host, but for locks."""
    return sorted(path.name for path in dest.glob("*/*") if not path.name.startswith("."))


def digests(folder: Path) -> dict[str, str]:
    """What `Place.digests` says, of a directory of this host."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def is_whole(catalog: Mapping[str, str], dest: Path, db: str = DATABASE) -> None:
    """Raise unless the one entry here is the one of a catalog, given as digests, private, and nothing else is here."""
    expected = {path: digest for path, digest in catalog.items() if not path.split("/")[1].startswith(".")}
    [entry] = {path.split("/")[1] for path in expected}
    assert names(dest) == [entry]
    for mine in (dest, *dest.rglob("*")):
        assert mine.stat().st_mode & 0o777 == (0o700 if mine.is_dir() else 0o600), mine
    assert {path: digest for path, digest in digests(dest).items() if f"/{entry}/" in path} == expected
    assert catalog_at(dest).find(db, entry).problem is None


def in_the_middle(options: dict[str, Any], dest: Path) -> RunningModule:
    """A fetch that has some of the largest file."""
    running = start_module("pg_backup_fetch", options)

    def large() -> bool:
        return sum(path.stat().st_size for path in dest.glob("*/*.partial/data/1.dat")) > MB

    assert until(large, 60), running.finish()
    return running


def start_slowly(link: Link, options: dict[str, Any], dest: Path) -> RunningModule:
    """A fetch over a link that is in the middle when we get it, and takes some seconds until the link is quick again."""
    link.bytes_per_s = 2 * MB
    return in_the_middle({**options, "kubernetes": {**options["kubernetes"], "kubeconfig": link.kubeconfig}}, dest)
