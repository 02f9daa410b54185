"""Backups on disk: names, what is listed and what never is, damage, and the record of verifications."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog import manifest as manifests
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import Catalog, directory_name
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.manifest import FileRecord
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.verifications import Verification
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    BackupNotFound,
    InvalidInput,
    Locked,
    ManifestProblem,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import from_rfc3339, to_rfc3339, utc_now
from tests.support.zoo import HOSTILE_DATABASE_NAMES
from tests.unit.samples import put_backup, sample_manifest

EXTRA_NAMES = (
    ".",
    "..",
    "...",
    "~",
    "~root",
    "a~b",
    "-",
    "%2e",
    "%",
    "%%",
    "a%00b",
    ".lock",
    "lost+found",
    "a" * 63,
    "😀" * 15,
)
TIMES = ("2026-02-06T03:04:05Z", "2026-02-07T00:00:00Z", "2025-12-31T23:59:59Z")
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=63).filter(
    lambda name: len(name.encode()) <= 63
)


@pytest.fixture(name="catalog")
def _catalog(tmp_path: Path) -> Catalog:
    return Catalog(LocalTarget(), str(tmp_path / "backups"))


def listed(catalog: Catalog, database: str = "gödel") -> list[str]:
    """The stamps of the backups that the catalog lists."""
    return [entry.id.rsplit("_", 1)[1] for entry in catalog.entries(database)]


# --- names --------------------------------------------------------------------------------------------


def check_name(database: str) -> None:
    """A directory's name that is safe, and says which database it is."""
    name = directory_name(database)
    assert re.fullmatch(r"[A-Za-z0-9_%-][A-Za-z0-9_.%-]*", name)
    assert unquote(name) == database  # so no two databases have one name
    assert len(f"{name}_20260206T030405Z.partial") < 255
    assert os.path.normpath(f"/root/{name}") == f"/root/{name}"


@pytest.mark.parametrize("database", [*HOSTILE_DATABASE_NAMES, *EXTRA_NAMES])
def test_a_hostile_name_makes_a_safe_directory(database: str) -> None:
    check_name(database)


@given(names)
@settings(max_examples=300)
def test_any_name_makes_a_safe_directory(database: str) -> None:
    check_name(database)


def test_names_alike_do_not_meet() -> None:
    alike = [
        "a b",
        "a%20b",
        "a+b",
        "a_b",
        "A b",
        "a  b",
        ".a",
        "%2Ea",
        "a.",
        "a",
        "é",
        "e\u0301",
        "a/b",
        "a%2Fb",
        "..",
        "%2E.",
    ]
    assert len({directory_name(name) for name in alike}) == len(alike)


@pytest.mark.parametrize("database", ["", "a\0b", "\udcff"])
def test_what_no_database_can_be_called_is_refused(catalog: Catalog, database: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid db"):
        catalog.directory(database)


@pytest.mark.parametrize("database", [*HOSTILE_DATABASE_NAMES, *EXTRA_NAMES])
def test_a_database_of_any_name_has_its_backups(catalog: Catalog, database: str) -> None:
    entry = put_backup(catalog, database)
    assert catalog.databases() == [database]
    [found] = catalog.entries(database)
    assert found.usable().database == database
    assert catalog.find(database, "latest").path == found.path == entry.path
    assert os.path.dirname(os.path.dirname(found.path)) == catalog.root


def test_the_directory_of_one_name_never_lists_for_another(catalog: Catalog) -> None:
    put_backup(catalog, "a")
    put_backup(catalog, "a_b")
    os.rename(f"{catalog.root}/a_b/a_b_20260206T030405Z", f"{catalog.root}/a/a_b_20260206T030405Z")
    assert listed(catalog, "a") == ["20260206T030405Z"]
    assert [entry.id for entry in catalog.entries("a")] == ["a_20260206T030405Z"]


@pytest.mark.parametrize("root", ["backups", "./backups", "", "~/backups"])
def test_a_catalog_has_an_absolute_place(root: str) -> None:
    with pytest.raises(InvalidInput, match="not an absolute path"):
        Catalog(LocalTarget(), root)


def test_slashes_at_the_end_make_no_difference(tmp_path: Path) -> None:
    assert Catalog(LocalTarget(), f"{tmp_path}//").directory("a") == f"{tmp_path}/a"
    assert Catalog(LocalTarget(), "/").directory("a").lstrip("/") == "a"


# --- what is listed -----------------------------------------------------------------------------------


def test_an_empty_place_has_no_backups(catalog: Catalog) -> None:
    assert catalog.databases() == []
    assert listed(catalog) == []
    assert catalog.unfinished("gödel") == []
    assert not os.path.exists(catalog.root)


def test_backups_come_newest_first(catalog: Catalog) -> None:
    for started in TIMES:
        put_backup(catalog, started=started)
    assert listed(catalog) == ["20260207T000000Z", "20260206T030405Z", "20251231T235959Z"]
    entry = next(catalog.entries("gödel"))
    assert entry.taken == datetime(2026, 2, 7, tzinfo=UTC)
    assert (entry.problem, entry.verdict) == (None, None)


def test_a_backup_is_listed_from_the_rename_on(catalog: Catalog) -> None:
    draft = catalog.begin("gödel", from_rfc3339(TIMES[0]))
    LocalTarget().files.write(f"{draft.path}/manifest.json", manifests.dump(sample_manifest()))
    assert listed(catalog) == []
    assert catalog.unfinished("gödel") == [draft.path]
    with pytest.raises(BackupNotFound):
        catalog.find("gödel", "latest")
    path = draft.commit(sample_manifest())
    assert [entry.path for entry in catalog.entries("gödel")] == [path]
    assert catalog.unfinished("gödel") == []


def test_a_discarded_draft_leaves_nothing(catalog: Catalog) -> None:
    draft = catalog.begin("gödel", from_rfc3339(TIMES[0]))
    draft.discard()
    draft.discard()
    assert os.listdir(catalog.directory("gödel")) == []


def test_two_backups_within_one_second_have_two_names(catalog: Catalog) -> None:
    for dummy in range(3):
        put_backup(catalog)
    assert listed(catalog) == ["20260206T030407Z", "20260206T030406Z", "20260206T030405Z"]
    assert all(entry.problem is None for entry in catalog.entries("gödel"))


def test_nothing_unfinished_is_listed_and_the_sweep_takes_it(catalog: Catalog) -> None:
    kept = put_backup(catalog)
    directory = Path(catalog.directory("gödel"))
    name = directory_name("gödel")
    left = [f"{name}_20260207T000000Z.partial", f"{name}_20260101T000000Z.deleted"]
    foreign = [
        "notes",
        f"{name}_20260207T000000Z.bak",
        f"{name}_2026.partial",
        "other.partial",
        f"{name}_99999999T999999Z",
    ]
    for each in [*left, *foreign]:
        (directory / each / "data").mkdir(parents=True)
        (directory / each / "manifest.json").write_bytes(manifests.dump(sample_manifest()))
    (directory / f"{name}_20260208T000000Z").write_text("a file is no backup")
    (directory / f"{name}_20260209T000000Z").symlink_to(directory / "notes")
    assert [entry.path for entry in catalog.entries("gödel")] == [kept.path]
    assert sorted(catalog.sweep("gödel")) == sorted(str(directory / each) for each in left)
    assert catalog.sweep("gödel") == []
    assert set(foreign) <= set(os.listdir(directory))
    assert [entry.path for entry in catalog.entries("gödel")] == [kept.path]


def test_a_deleted_backup_is_gone(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    catalog.delete(entry)
    assert listed(catalog) == []
    assert [name for name in os.listdir(catalog.directory("gödel")) if not name.startswith(".")] == []


def test_a_backup_in_use_is_not_deleted(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    with catalog.use(entry, "a verification"), pytest.raises(Locked, match="a verification"):
        catalog.delete(entry)
    assert listed(catalog) == ["20260206T030405Z"]


def test_a_half_deleted_backup_is_none(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    os.rename(entry.path, f"{entry.path}.deleted")  # and then the power went
    assert listed(catalog) == []
    assert catalog.sweep("gödel") == [f"{entry.path}.deleted"]


def test_only_directories_of_databases_count_as_databases(catalog: Catalog, tmp_path: Path) -> None:
    put_backup(catalog, "real")
    for name in ("lost+found", "with space", ".snapshot", "lower%2f", "%zz", "ünquoted"):
        (tmp_path / "backups" / name).mkdir()
    (tmp_path / "backups" / "file").write_text("")
    assert catalog.databases() == ["real"]


def test_find_takes_latest_or_an_id(catalog: Catalog) -> None:
    entries = [put_backup(catalog, started=started) for started in TIMES]
    assert catalog.find("gödel", "latest").id == entries[1].id
    for entry in entries:
        assert catalog.find("gödel", entry.id) == entry


@pytest.mark.parametrize("reference", ["", "newest", "g%C3%B6del", "../gödel", "*", "LATEST"])
def test_find_says_what_there_is_when_there_is_no_such(catalog: Catalog, reference: str) -> None:
    with pytest.raises(BackupNotFound, match=r"this directory does not exist\. Check postgres_backup_dir"):
        catalog.find("gödel", reference)
    Path(catalog.root).mkdir(parents=True)
    with pytest.raises(BackupNotFound, match="the catalog has no backup of this database"):
        catalog.find("gödel", reference)
    entry = put_backup(catalog)
    with pytest.raises(BackupNotFound, match=f"the newest are {re.escape(entry.id)}"):
        catalog.find("gödel", reference)


# --- damage -------------------------------------------------------------------------------------------


def test_a_backup_without_a_manifest_is_listed_with_its_problem(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    os.unlink(f"{entry.path}/manifest.json")
    [found] = catalog.entries("gödel")
    assert found.manifest is None
    with pytest.raises(ManifestProblem, match="no manifest"):
        found.usable()


@pytest.mark.parametrize(
    "how",
    [
        lambda path: os.truncate(path, 0),
        lambda path: os.truncate(path, 100),
        lambda path: (os.unlink(path), os.mkdir(path)),
        lambda path: (os.unlink(path), os.mkfifo(path)),
        lambda path: (os.unlink(path), os.symlink("/nowhere", path)),
        lambda path: Path(path).write_bytes(b"\xff\xfe"),
        lambda path: Path(path).write_text("[" * 100_000),
        lambda path: Path(path).write_text("null"),
        lambda path: Path(path).write_text('"' * 3),
        lambda path: Path(path).write_text(json.dumps({"schema_version": 1})),
        lambda path: Path(path).write_text(json.dumps({"schema_version": "1", "manifest_sha256": ""})),
        lambda path: Path(path).write_text("1" * 10_000),
    ],
)  # fmt: skip
def test_a_broken_manifest_is_a_problem_of_its_entry_alone(catalog: Catalog, how) -> None:  # type: ignore[no-untyped-def]
    broken, whole = put_backup(catalog, started=TIMES[1]), put_backup(catalog)
    how(f"{broken.path}/manifest.json")
    first, second = catalog.entries("gödel")
    assert (first.id, first.manifest) == (broken.id, None)
    assert first.problem is not None
    assert second == whole


@pytest.mark.parametrize("version", [2, 3, 999])
def test_a_manifest_of_a_future_version_asks_for_an_upgrade(catalog: Catalog, version: int) -> None:
    entry = put_backup(catalog)
    path = Path(entry.path, "manifest.json")
    path.write_text(path.read_text().replace('"schema_version": 1', f'"schema_version": {version}'))
    with pytest.raises(ManifestProblem, match=f"schema version {version}.*Upgrade the collection"):
        catalog.find("gödel", "latest").usable()


def test_a_backup_moved_to_another_time_is_refused(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    os.rename(entry.path, entry.path.replace("20260206", "20260306"))
    with pytest.raises(ManifestProblem, match="belongs to another backup"):
        catalog.find("gödel", "latest").usable()


def test_a_backup_moved_to_another_database_is_refused(catalog: Catalog) -> None:
    entry = put_backup(catalog, "other")
    os.mkdir(catalog.directory("gödel"))
    os.rename(entry.path, f"{catalog.directory('gödel')}/{directory_name('gödel')}_20260206T030405Z")
    with pytest.raises(ManifestProblem, match=r"belongs to another backup.*'other'"):
        catalog.find("gödel", "latest").usable()
    os.rename(catalog.directory("gödel"), catalog.directory("third"))
    assert list(catalog.entries("third")) == []


@pytest.mark.parametrize(
    "how",
    [
        lambda path: (path / "data" / "toc.dat").unlink(),
        lambda path: os.truncate(path / "data" / "toc.dat", 4),
        lambda path: (path / "more").write_text(""),
        lambda path: (path / "odd").symlink_to("manifest.json"),
    ],
    ids=["missing", "cut", "more", "link"],
)
def test_files_that_are_not_those_of_the_manifest_are_seen(catalog: Catalog, how) -> None:  # type: ignore[no-untyped-def]
    entry = put_backup(catalog, files={"data/toc.dat": FileRecord(5, "ab" * 32)})
    assert catalog.find("gödel", entry.id).differences != ()
    Path(entry.path, "data").mkdir()
    Path(entry.path, "data", "toc.dat").write_text("12345")
    Path(entry.path, "verifications").mkdir()
    Path(entry.path, "verifications", "notes.txt").write_text("of an operator")
    [whole] = catalog.entries("gödel")
    assert (whole.trouble, whole.damaged) == (None, False)
    how(Path(entry.path))
    [found] = catalog.entries("gödel")
    assert found == catalog.find("gödel", "latest")
    assert (found.manifest, found.damaged) == (whole.manifest, True)
    assert "files of a backup differ from its manifest" in found.trouble.message


# --- clusters -----------------------------------------------------------------------------------------


def test_latest_is_the_newest_of_the_cluster_that_fits(catalog: Catalog) -> None:
    theirs, ours, ours_too = (
        put_backup(catalog, started=f"2026-03-0{day}T00:00:00Z", system_identifier=cluster)
        for day, cluster in ((3, "2"), (2, "1"), (1, "1"))
    )
    assert catalog.latest("gödel", "1").id == ours.id
    assert catalog.latest("gödel", "2").id == theirs.id
    assert catalog.latest("gödel", "1", lambda entry: entry.id == ours_too.id).id == ours_too.id
    for cluster in ("3", None):
        with pytest.raises(BackupNotFound, match=f"{theirs.id} is of cluster 2, {ours.id} is of cluster 1") as caught:
            catalog.latest("gödel", cluster)
        assert "by its id" in caught.value.remedy
    with pytest.raises(BackupNotFound, match=r"no verified backup of this server.* Verify one"):
        catalog.latest(
            "gödel", "1", lambda entry: entry.verdict == "verified", wanted="verified backup", remedy="Verify one."
        )
    catalog.delete(theirs)
    assert catalog.latest("gödel", None).id == ours.id
    with pytest.raises(BackupNotFound, match="no backup of this server"):
        catalog.latest("other", "1")


@pytest.mark.parametrize("nothing", ["", None])
def test_what_does_not_say_of_which_cluster_it_is_counts_as_ours(catalog: Catalog, nothing: str | None) -> None:
    entry = put_backup(catalog, system_identifier="" if nothing is not None else "2")
    if nothing is None:
        os.unlink(f"{entry.path}/manifest.json")
    for cluster in ("1", None):
        assert catalog.latest("gödel", cluster).id == entry.id


# --- verifications ------------------------------------------------------------------------------------


def test_the_latest_verification_counts(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    for day, verdict in enumerate(("verified", "inconclusive", "failed"), start=1):
        catalog.record(entry, Verification(verdict, f"2026-03-0{day}T00:00:00Z", "the reason", {"differences": [day]}))
        found = catalog.find("gödel", "latest").verification
        assert found == Verification(verdict, f"2026-03-0{day}T00:00:00Z", "the reason", {"differences": [day]})
    modes = {oct(path.stat().st_mode & 0o777) for path in Path(entry.path, "verifications").iterdir()}
    assert modes == {"0o600"}
    assert catalog.find("gödel", "latest").usable() == entry.usable()


def test_a_clock_that_was_wrong_hides_no_later_verdict(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    now = utc_now()
    for at, verdict, counts in (
        (now + timedelta(days=99), "verified", None),
        (now + timedelta(days=98), "failed", "failed"),  # no proof, but a warning
        (now, "verified", "verified"),
        (now - timedelta(days=9), "failed", "failed"),  # by a clock that was late: the last one that was written
        (now - timedelta(days=9), "verified", "verified"),
    ):
        catalog.record(entry, Verification(verdict, to_rfc3339(at), "", {}))
        assert catalog.find("gödel", "latest").verdict == counts
    assert len(list(Path(entry.path, "verifications").iterdir())) == 5


RECORD = {"schema_version": 1, "verdict": "verified", "checked_at": "2026-03-02T00:00:00Z", "why": ""}
TORN = [
    b"",
    b"{",
    json.dumps(RECORD).encode()[:-10],
    b"\xff",
    b"null",
    b"[]",
    b"[" * 100_000,
    json.dumps({**RECORD, "verdict": "splendid"}).encode(),
    json.dumps({**RECORD, "verdict": ["verified"]}).encode(),
    json.dumps({**RECORD, "checked_at": "yesterday"}).encode(),
    json.dumps({**RECORD, "checked_at": None}).encode(),
    json.dumps({"verdict": "verified"}).encode(),
]


@pytest.mark.parametrize("data", TORN)
def test_a_torn_record_proves_nothing(catalog: Catalog, data: bytes) -> None:
    entry = put_backup(catalog)
    folder = Path(entry.path, "verifications")
    folder.mkdir()
    (folder / "20260302T000000Z.json").write_bytes(data)
    assert catalog.find("gödel", "latest").verdict is None
    catalog.record(entry, Verification("failed", "2026-03-01T00:00:00Z", "", {}))
    assert catalog.find("gödel", "latest").verdict == "failed"


def test_what_was_not_renamed_into_place_is_no_record(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    folder = Path(entry.path, "verifications")
    folder.mkdir()
    for name in (".x1y2.tmp", "20260302T000000Z.json.bak", "notes.txt"):
        (folder / name).write_text(json.dumps(RECORD))
    (folder / "20260303T000000Z.json").mkdir()
    assert catalog.find("gödel", "latest").verdict is None


def test_verifications_are_not_recorded_on_what_was_removed(catalog: Catalog) -> None:
    entry = put_backup(catalog)
    catalog.delete(entry)
    with pytest.raises(BackupNotFound):
        catalog.record(entry, Verification("verified", "2026-03-01T00:00:00Z", "", {}))
    assert not os.path.exists(entry.path)


# --- locks --------------------------------------------------------------------------------------------


def test_a_database_is_locked_by_itself(catalog: Catalog) -> None:
    with catalog.lock("a", "backup"):
        with catalog.lock("b", "backup"):
            pass
        with pytest.raises(Locked, match="backup by process"), catalog.lock("a", "backup"):
            pytest.fail("locked twice")
        assert catalog.busy("a")
    assert catalog.busy("a") is None


@pytest.mark.parametrize("database", ["a", ".lock"])
def test_the_lock_is_no_backup(catalog: Catalog, database: str) -> None:
    with catalog.lock(database, "backup"):
        assert listed(catalog, database) == catalog.unfinished(database) == []
