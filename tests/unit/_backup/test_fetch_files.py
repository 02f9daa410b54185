"""Files that come as one stream: how they are cut, what is believed, and whose fault a difference is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.fetch import Depot, FetchPlan
from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.fetch_files import receive
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest as manifests
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.manifest import FileRecord
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem, ManifestProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local_files import LocalFiles
from tests.support.catalogs import add_backup, ago, catalog_at

CONTENTS = {"a": b"first", "b/empty": b"", "b/c": random.Random(7).randbytes(100_000), "d": b"", "e": b"last"}


class Source(LocalFiles):
    """Files that come in pieces of any size, and that a defect changes on their way, so many times."""

    def __init__(self, defects: int = 0) -> None:
        self.defects = defects
        self.came = 0

    def stream(self, sizes: Mapping[str, int], sink: Callable[[bytes], object], skip: int = 0) -> None:
        whole = bytearray()
        super().stream(sizes, whole.extend, skip)
        if self.defects and any(path.endswith("c") for path in sizes):
            self.defects -= 1
            whole[-1_000] ^= 1
        chance = random.Random(self.defects)
        while whole:
            size = chance.choice((1, 4, 5, 6, 1_000, 40_000))
            sink(bytes(whole[:size]))
            self.came += min(size, len(whole))
            del whole[:size]


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    for name, data in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def records() -> dict[str, FileRecord]:
    return {name: FileRecord(len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()}


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_files_are_cut_where_they_end(origin: Path, place: Path) -> None:
    receipt = receive(Source(), str(origin), records(), str(place))
    assert contents(place) == CONTENTS
    assert (receipt.fetched_bytes, receipt.resumed_bytes, receipt.again) == (100_009, 0, [])


@pytest.mark.parametrize("have", [1, 50_000, 99_999])
def test_what_is_there_does_not_come_again(origin: Path, place: Path, have: int) -> None:
    (place / "b").mkdir()
    (place / "a").write_bytes(CONTENTS["a"])
    (place / "b" / "c").write_bytes(CONTENTS["b/c"][:have])
    source = Source()
    receipt = receive(source, str(origin), records(), str(place))
    assert contents(place) == CONTENTS
    assert (source.came, receipt.fetched_bytes) == (100_004 - have, 100_004 - have)
    assert receipt.resumed_bytes == 5 + have


def test_only_one_file_goes_on(origin: Path, place: Path) -> None:
    (place / "b").mkdir()
    (place / "a").write_bytes(b"fir")
    (place / "b" / "c").write_bytes(CONTENTS["b/c"][:60_000])
    receipt = receive(Source(), str(origin), records(), str(place))
    assert contents(place) == CONTENTS
    assert receipt.resumed_bytes == 3


def test_a_defect_on_the_way_is_made_good_once(origin: Path, place: Path) -> None:
    assert receive(Source(1), str(origin), records(), str(place)).again == ["b/c"]
    assert contents(place) == CONTENTS


def test_a_defect_that_stays_is_told(origin: Path, place: Path) -> None:
    with pytest.raises(FileProblem, match=r"damaged in transfer.*memory and the disk of this host"):
        receive(Source(2), str(origin), records(), str(place))


def test_a_damage_at_the_origin_is_told_apart(origin: Path, place: Path) -> None:
    (origin / "a").write_bytes(b"frost")
    with pytest.raises(FileProblem, match="A file of the backup is damaged") as caught:
        receive(Source(), str(origin), records(), str(place))
    assert caught.value.details["damaged"] == "a"


@pytest.mark.parametrize(
    "name",
    ["../escape", "/etc/cron.d/x", "a/../../b", "a//b", "./a", "", "manifest.json", "verifications/x.json", "a\0"],
)
def test_a_manifest_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = add_backup(tmp_path / "catalog", "app", ago(hours=1))
    at = path / manifests.FILE_NAME
    found = manifests.load(at.read_bytes(), str(at))
    at.write_bytes(manifests.dump(replace(found, files={name: FileRecord(1, "0" * 64)})))
    depot = Depot(LocalTarget(), catalog_at(tmp_path / "catalog"), FetchPlan("app", "latest", str(tmp_path / "dest")))
    with pytest.raises(ManifestProblem, match="a file that cannot belong to a backup"):
        depot.look()
    assert not (tmp_path / "dest").exists()
