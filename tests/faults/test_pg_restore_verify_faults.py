"""pg_restore_verify and bad backups: whatever is wrong with one, it is never verified, and the reason is named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import directory_name
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.integrity import check_files
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.backups import back_up, catalog_of
from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import expect_failure, expect_success
from tests.support.servers import Server
from tests.support.verifications import MODULE, flip, forge, params, scratch_folder, tables_of, verdicts, verify

CONTENT = """
    CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL);
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 20) n;
    CREATE TABLE others (id int, name text); INSERT INTO others SELECT n, 'other ' || n FROM generate_series(1, 20) n;
    CREATE VIEW names AS SELECT name FROM users;
    SELECT lo_from_bytea(77777, 'a large object');
"""


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield folder


@pytest.fixture(name="source", scope="module")
def _source(server: Server) -> Iterator[Database]:
    """A small database. Shared: do not write to it."""
    database = new_database(server, unique_name("source"))
    database.execute(CONTENT)
    yield database
    database.drop()


@pytest.fixture(name="kept", scope="module")
def _kept(source: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with one good backup. Shared: do not write to it."""
    folder = tmp_path_factory.mktemp("kept")
    back_up(source, folder, compress="none", globals=False)
    return folder


@pytest.fixture(name="entry")
def _entry(kept: Path, source: Database, backup_dir: Path) -> Path:
    """A copy of that backup to damage, in a catalog of its own."""
    shutil.copytree(kept, backup_dir, dirs_exist_ok=True)
    return Path(catalog_of(backup_dir).find(source.name, "latest").path)


def files_of(entry: Path) -> list[Path]:
    """Every file of a backup, the manifest among them."""
    return sorted(path for path in entry.rglob("*") if path.is_file())


# --- files ---------------------------------------------------------------------------------------------


def test_one_flipped_bit_in_any_byte_of_any_file_is_found(entry: Path, source: Database, backup_dir: Path) -> None:
    manifest = catalog_of(backup_dir).find(source.name, "latest").usable()
    files = LocalTarget().files
    assert check_files(files, str(entry), manifest, 1) == []
    count = 0
    for name in manifest.files:
        path = entry / name
        for at in range(path.stat().st_size):
            flip(path, at, at % 8)
            [difference] = check_files(files, str(entry), manifest, 1)
            assert (difference.kind, difference.subject) == ("content of file", name)
            flip(path, at, at % 8)
            count += 1
    assert count > 3000
    assert check_files(files, str(entry), manifest, 1) == []


def test_one_flipped_bit_fails_the_backup_from_end_to_end(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    chance = random.Random(20260206)
    for path in files_of(entry):
        at, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
        flip(path, at, bit)
        result = verify(source, backup_dir, scratch, check=True)
        assert result["verdict"] == "failed", (path, at, bit)
        flip(path, at, bit)
    assert verify(source, backup_dir, scratch, check=True)["verdict"] is None
    flip(entry / "manifest.json", 1000, 0)
    assert verify(source, backup_dir, scratch)["verdict"] == "failed"
    flip(entry / "manifest.json", 1000, 0)
    assert verify(source, backup_dir, scratch)["verdict"] == "verified"


def largest(entry: Path) -> Path:
    """A file with rows."""
    return max(
        (path for path in entry.glob("data/*.dat") if path.name != "toc.dat"), key=lambda path: path.stat().st_size
    )


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in a file's place."""
    path.rename(aside(path))
    make(path)


def aside(path: Path) -> Path:
    return path.parents[3] / f"{path.name}.aside"


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (lambda entry: os.truncate(largest(entry), largest(entry).stat().st_size * 6 // 10), "size of file"),
    "emptied": (lambda entry: os.truncate(entry / "data" / "toc.dat", 0), "size of file"),
    "longer": (lambda entry: os.truncate(largest(entry), largest(entry).stat().st_size + 1), "size of file"),
    "missing": (lambda entry: largest(entry).unlink(), "file"),
    "all missing": (lambda entry: shutil.rmtree(entry / "data"), "file"),
    "one too many": (lambda entry: (entry / "data" / "9999.dat").write_bytes(b"1\tx\n\\.\n"), "file"),
    "a link to the same content": (
        lambda entry: replace_by(largest(entry), lambda path: path.symlink_to(aside(path))),
        "file",
    ),
    "a link out of the backup": (lambda entry: (entry / "data" / "x").symlink_to("/etc/passwd"), "file"),
    "a FIFO": (lambda entry: replace_by(largest(entry), os.mkfifo), "file"),
    "a directory": (lambda entry: replace_by(largest(entry), Path.mkdir), "file"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_fails_the_backup_before_anything_is_restored(
    entry: Path, source: Database, backup_dir: Path, scratch: Path, damage: str
) -> None:
    change, kind = DAMAGES[damage]
    change(entry)
    result = verify(source, backup_dir, scratch)
    assert result["verdict"] == "failed"
    assert {each["kind"] for each in result["differences"]} == {kind}
    assert result["restored"] is None
    assert "start_s" not in result["steps"]
    assert verdicts(entry) == ["failed"]
    assert result["findings"][0]["severity"] == "critical"
    assert "take a new one" in result["findings"][0]["remedy"]


# --- manifests -----------------------------------------------------------------------------------------


def test_any_edited_field_of_the_manifest_fails_the_backup(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    path = entry / "manifest.json"
    good = path.read_bytes()
    document = json.loads(good)
    for name, value in document.items():
        edited = {**document, name: f"{value}x" if isinstance(value, str) else None if value else 1}
        path.write_text(json.dumps(edited, indent=1, sort_keys=True) + "\n")
        problem = catalog_of(backup_dir).find(source.name, "latest").problem
        assert problem is not None, name
    path.write_bytes(good.replace(b'"rows": 20', b'"rows": 21'))
    assert verify(source, backup_dir, scratch)["verdict"] == "failed"
    path.write_bytes(good[: len(good) * 6 // 10])
    assert verify(source, backup_dir, scratch)["verdict"] == "failed"
    path.unlink()
    assert verify(source, backup_dir, scratch)["verdict"] == "failed"


USERS = "public.users"
LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a row more": lambda document: tables_of(document)[USERS].update(rows=21),
    "another digest": lambda document: tables_of(document)[USERS].update(digest="1"),
    "no digest": lambda document: tables_of(document)[USERS].update(digest=None),
    "a table less": lambda document: tables_of(document).pop(USERS),
    "a table more": lambda document: tables_of(document).update(more={"rows": 0, "digest": "0"}),
    "no tables": lambda document: document["fingerprint"].update(tables={}),
    "another sequence": lambda document: document["fingerprint"]["sequences"]["public.users_id_seq"].update(first=1, last=1),
    "no sequences": lambda document: document["fingerprint"].update(sequences={}),
    "another definition": lambda document: document["fingerprint"]["objects"].update({"view public.names": "0" * 16}),
    "no objects": lambda document: document["fingerprint"].update(objects={}),
    "no large objects": lambda document: document["fingerprint"].update(large_objects={"objects": 0, "digest": "0"}),
    "another algorithm": lambda document: document["fingerprint"].update(algorithm="text-3"),
    "counts only, with digests": lambda document: document["fingerprint"].update(mode="counts"),
}  # fmt: skip
# What a lie about definitions only comes to. Where digests differ, the texts beside the manifest decide.
ABOUT_DEFINITIONS = {"another definition": "verified", "no objects": "incomplete"}


def test_a_manifest_that_lies_under_a_good_signature_fails_by_comparison(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    good = (entry / "manifest.json").read_bytes()
    for lie, change in LIES.items():
        (entry / "manifest.json").write_bytes(good)
        forge(entry, change)
        result = verify(source, backup_dir, scratch, verify_in="database")
        expected = ABOUT_DEFINITIONS.get(lie, "failed")
        assert (result["verdict"], bool(result["differences"])) == (expected, expected != "verified"), lie
        assert result["restored"]["rows"] == 40


NONSENSE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format that is not there": (lambda document: document.update(format="custom"), "failed"),
    "unknown format": (lambda document: document.update(format="punched cards"), "failed"),
    "unknown algorithm": (lambda document: document["fingerprint"].update(algorithm="record-9"), "inconclusive"),
    "unknown mode": (lambda document: document["fingerprint"].update(mode="smell"), "inconclusive"),
    "files elsewhere": (lambda document: document["files"].update({"../../x": {"size_bytes": 1, "sha256": "0" * 64}}), "failed"),
    "tool without a version": (lambda document: document.update(tool="scissors"), "verified"),
    "encoding": (lambda document: document["source"].update(encoding="KLINGON"), "error"),
    "provider": (lambda document: document["source"].update(locale_provider="x"), "verified"),
    "size as text": (lambda document: document.update(database_size_bytes="much"), "any"),
    "size below nothing": (lambda document: document.update(database_size_bytes=-(2**70)), "any"),
    "roles that are no list": (lambda document: document["source"].update(roles=7), "any"),
    "role of nothing": (lambda document: document["source"].update(roles=[""]), "any"),
    "superuser of nothing": (lambda document: document["source"].update(bootstrap_role=""), "any"),
    "superuser like an option": (lambda document: document["source"].update(bootstrap_role="-h"), "any"),
    "empty fingerprint": (lambda document: document.update(fingerprint={}), "failed"),
    "size of a file as text": (
        lambda document: next(iter(document["files"].values())).update(size_bytes="1"), "failed",
    ),
    "started as number": (lambda document: document.update(started=7), "failed"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_under_a_good_signature_is_a_verdict_or_a_clear_error(
    entry: Path, source: Database, backup_dir: Path, scratch: Path, kind: str
) -> None:
    change, expected = NONSENSE[kind]
    forge(entry, change)
    options = params(source, backup_dir, scratch)
    place = "instance" if "superuser" in kind or "role" in kind else "database"
    result = _outcome({**options, "verify_in": place})
    if expected != "any":
        assert result == expected
    elif result == "verified":  # then it was equal, in spite of all
        assert "size" in kind or "superuser" in kind


def _outcome(options: dict[str, Any]) -> str:
    from tests.support.modules import run_module

    result = run_module(MODULE, options)
    assert "Internal error" not in result["msg"], result.get("exception")
    return "error" if result["failed"] else str(result["verdict"])


def test_a_manifest_of_a_newer_version_is_an_error_and_no_verdict(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    forge(entry, lambda document: document.update(schema_version=2, novelty=True))
    for check in (False, True):
        result = expect_failure(MODULE, params(source, backup_dir, scratch), check=check)
        assert result["error"]["kind"] == "NewerManifest"
        assert "Upgrade the collection" in result["msg"]
    assert verdicts(entry) == []


def test_a_manifest_that_cannot_be_read_is_the_places_fault(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    (entry / "manifest.json").unlink()
    (entry / "manifest.json").mkdir()
    result = expect_failure(MODULE, params(source, backup_dir, scratch))
    assert result["error"]["kind"] == "FileProblem"
    assert verdicts(entry) == []


# --- other backups -------------------------------------------------------------------------------------


@pytest.fixture(name="other")
def _other(server: Server) -> Iterator[Database]:
    """A database of the same tables, in which one name differs."""
    database = new_database(server, unique_name("other"))
    database.execute(CONTENT, "UPDATE users SET name = 'another name' WHERE id = 7")
    yield database
    database.drop()


def test_a_backup_of_another_database_under_this_name_fails(
    entry: Path, source: Database, other: Database, backup_dir: Path, scratch: Path
) -> None:
    taken = back_up(other, backup_dir)["backup"]
    shutil.rmtree(entry)
    shutil.copytree(taken["path"], entry)
    result = verify(source, backup_dir, scratch)
    assert result["verdict"] == "failed"
    assert taken["id"] in result["why"]


def test_data_of_another_backup_fail_even_under_a_good_signature(
    entry: Path, source: Database, other: Database, backup_dir: Path, scratch: Path
) -> None:
    theirs = Path(back_up(other, backup_dir, compress="none", globals=False)["backup"]["path"])
    shutil.rmtree(entry / "data")
    shutil.copytree(theirs / "data", entry / "data")
    assert verify(source, backup_dir, scratch)["verdict"] == "failed"
    files = json.loads((theirs / "manifest.json").read_text())["files"]
    forge(entry, lambda document: document.update(files=files))
    result = verify(source, backup_dir, scratch)
    assert result["verdict"] == "failed"
    assert [(each["kind"], each["subject"]) for each in result["differences"]] == [("content of table", USERS)]


def resign_files(entry: Path) -> None:
    """Write the files as they are now into the manifest."""
    import hashlib

    found = {
        str(path.relative_to(entry)): {
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in entry.rglob("*")
        if path.is_file() and path.name != "manifest.json" and path.parent.name != "verifications"
    }
    forge(entry, lambda document: document.update(files=found))


def test_changed_rows_fail_even_under_a_good_signature(
    entry: Path, source: Database, backup_dir: Path, scratch: Path
) -> None:
    rows = next(path for path in entry.glob("data/*.dat") if b"user 7\n" in path.read_bytes())
    good = rows.read_bytes()
    for bad in (
        good.replace(b"user 7\n", b"user 8\n"),
        good.replace(b"7\tuser 7\n", b""),
        good.replace(b"7\tuser 7\n8\tuser 8\n", b"7\tuser 8\n8\tuser 7\n"),
        good.replace(b"7\tuser 7\n", b"7\tuser 7\n7\tuser 7\n"),
        good.replace(b"7\tuser 7\n", b"seven\tuser 7\n"),
        good[: good.index(b"7\tuser 7")] + b"\\.\n\n",
    ):
        assert bad != good
        rows.write_bytes(bad)
        resign_files(entry)
        assert verify(source, backup_dir, scratch, verify_in="database")["verdict"] == "failed", bad[:200]
    rows.write_bytes(good)
    resign_files(entry)
    assert verify(source, backup_dir, scratch, verify_in="database")["verdict"] == "verified"


# --- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backup", "kind"),
    [
        ("/nonexistent/a.sql", "InvalidInput"),
        ("./a.sql", "InvalidInput"),
        ("/etc", "InvalidInput"),
        ("nothing_20260101T000000Z", "BackupNotFound"),
        ("", "BackupNotFound"),
        ("..", "BackupNotFound"),
    ],
)
def test_a_backup_that_is_not_there_is_named(
    entry: Path, source: Database, backup_dir: Path, scratch: Path, backup: str, kind: str
) -> None:
    result = expect_failure(MODULE, params(source, backup_dir, scratch, backup=backup))
    assert result["error"]["kind"] == kind
    assert verdicts(entry) == []


@pytest.mark.parametrize(
    "over",
    [
        {"jobs": 0},
        {"jobs": -1},
        {"jobs": 1001},
        {"max_age": "soon"},
        {"verify_in": "cloud"},
        {"backup_dir": "relative"},
    ],
)
def test_wrong_words_are_refused(
    entry: Path, source: Database, backup_dir: Path, scratch: Path, over: dict[str, Any]
) -> None:
    expect_failure(MODULE, {**params(source, backup_dir, scratch), **over})
    assert verdicts(entry) == []


def test_an_empty_catalog_has_nothing_to_verify(source: Database, backup_dir: Path, scratch: Path) -> None:
    result = expect_failure(MODULE, params(source, backup_dir, scratch))
    assert result["error"]["kind"] == "BackupNotFound"
    assert not (backup_dir / directory_name(source.name)).exists()
    back_up(source, backup_dir, fingerprint="none")
    assert expect_success(MODULE, params(source, backup_dir, scratch), check=True)["verdict"] is None
