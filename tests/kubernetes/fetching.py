"""A backup in a pod, to be fetched: what the tests of that share."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.kubernetes.place import DATABASE, NAMESPACE, StandinPlace
from tests.support.catalogs import add_backup, ago, catalog_at
from tests.support.modules import RunningModule, start_module
from tests.support.processes import command_lines, until
from tests.support.workspace import give

CRASHED = re.compile(r"was terminated by signal|terminating any other active server processes|all server processes ter")
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
def backup_in(place: StandinPlace, name: str) -> Iterator[Path]:
    """A directory of the pod with one backup, where it really is. Afterwards PostgreSQL has noticed nothing."""
    before = len(place.log())
    folder = place.path("/backups") / name
    add(folder)
    try:
        yield folder
    finally:
        place.standin.faults.clear()
        is_calm = until(lambda: not senders(place), 10)
        shutil.rmtree(folder, ignore_errors=True)
    assert is_calm, senders(place)
    assert not CRASHED.search(place.log()[before:]), place.log()[before:]


def add(folder: Path, files: Mapping[str, bytes] | None = None, **over: Any) -> Path:
    """Put a backup with these files into a catalog of the pod."""
    path = add_backup(
        folder, DATABASE, over.pop("taken", ago(hours=1)), files=FILES if files is None else files, **over
    )
    own(folder)
    return path


def own(folder: Path) -> None:
    """Give all of a folder to the user of the pod."""
    for each in (folder, *folder.rglob("*")):
        give(each)


def params(place: StandinPlace, catalog: Path, dest: Path, **over: Any) -> dict[str, Any]:
    """The parameters of pg_backup_fetch."""
    chosen = {"db": DATABASE, "backup_dir": str(catalog), "dest": str(dest), "kubernetes": place.options()}
    return {**chosen, **over}


def senders(place: StandinPlace) -> list[str]:
    """What of ours sends files in this cluster."""
    found = []
    for pid, line in command_lines().items():
        with suppress(OSError):
            is_one = re.match(r"sh -s download|cat -- /|tail -c \+\d+ -- /", line)
            if is_one and Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(place.standin.folder):
                found.append(line)
    return found


def names(dest: Path) -> list[str]:
    """The names of what is in the database's directory, but for locks."""
    return sorted(path.name for path in dest.glob("*/*") if not path.name.startswith("."))


def is_whole(catalog: Path, dest: Path) -> None:
    """Raise unless the one entry here is the one there, private, and nothing else is here."""
    [entry] = names(catalog)
    assert names(dest) == [entry]
    [there], [here] = catalog.glob(f"*/{entry}"), dest.glob(f"*/{entry}")
    for mine in (dest, *dest.rglob("*")):
        assert mine.stat().st_mode & 0o777 == (0o700 if mine.is_dir() else 0o600), mine
    expected = {path.relative_to(there): path.read_bytes() for path in there.rglob("*") if path.is_file()}
    assert {path.relative_to(here): path.read_bytes() for path in here.rglob("*") if path.is_file()} == expected
    assert catalog_at(dest).find(DATABASE, entry).problem is None


def start_slowly(
    place: StandinPlace, options: dict[str, Any], dest: Path, bytes_per_s: float = 2 * MB
) -> RunningModule:
    """A fetch that is in the middle when we get it, and takes some seconds for each connection."""
    place.standin.faults.slow(bytes_per_s=bytes_per_s, times=None, argv=SENDER)
    running = start_module("pg_backup_fetch", options)

    def large() -> bool:
        return sum(path.stat().st_size for path in dest.glob("*/*.partial/data/1.dat")) > MB

    assert until(large, 20), running.finish()
    return running


def as_operator(place: StandinPlace) -> dict[str, Any]:
    """The option `kubernetes` as somebody whose token can end."""
    place.standin.grant("operator", *OPERATOR, namespace=NAMESPACE)
    return place.options(kubeconfig=str(place.standin.kubeconfig("operator", NAMESPACE)))
