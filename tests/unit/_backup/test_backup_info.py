"""pg_backup_info as a user calls it, on catalogs that need no server."""

from __future__ import annotations

import json
import shutil
import threading
import time
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.status import survey
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import to_rfc3339, utc_now
from tests.support.catalogs import DATA, add_backup, ago, catalog_at, leave_half_done, tree_of
from tests.support.modules import expect_failure, expect_success

NAME = "pg_backup_info"


def info(root: Path, **params: Any) -> dict[str, Any]:
    return expect_success(NAME, {"backup_dir": str(root), "ask_server": False, **params})


def findings(result: dict[str, Any], check: str) -> list[tuple[str, str]]:
    """Severity and subject of the findings of this kind."""
    return [(each["severity"], each["subject"]) for each in result["findings"] if each["check"] == check]


def test_backups_are_listed_by_database_newest_first_with_what_is_known_of_them(tmp_path: Path) -> None:
    verified_at = ago(hours=1)
    old = add_backup(tmp_path, "app", ago(hours=3), verdict="verified", verified_at=verified_at, size_bytes=2048)
    new = add_backup(tmp_path, "app", ago(hours=2), size_bytes=1024, tables=3)
    other = add_backup(tmp_path, 'Odd "name" %/ü\n', ago(hours=1))
    result = info(tmp_path)
    assert [each["path"] for each in result["backups"]] == [str(other), str(new), str(old)]
    first, second, third = result["backups"]
    assert first["database"] == 'Odd "name" %/ü\n'
    assert second["id"] == new.name
    assert 7200 <= second["age_s"] < 7300
    assert (second["state"], second["why"], second["size_bytes"]) == ("complete", "", 1024)
    assert (second["verdict"], second["verified_at"], second["verdict_why"]) == (None, None, None)
    assert second["fingerprint"]["tables"] == 3
    assert not {"files", "source"} & second.keys()
    assert (third["verdict"], third["verified_at"], third["verdict_why"]) == (
        "verified",
        to_rfc3339(verified_at),
        "by a test",
    )
    assert result["total_size_bytes"] == 3072 + len(DATA)
    assert [each["database"] for each in result["databases"]] == ['Odd "name" %/ü\n', "app"]
    assert result["databases"][1] == {
        "database": "app",
        "backups": 2,
        "total_size_bytes": 3072,
        "newest": new.name,
        "newest_usable": new.name,
        "newest_verified": old.name,
        "busy": None,
        "clusters": [{"cluster": "7000000000000000000", "backups": 2, "newest": new.name}],
    }


def test_one_database_can_be_asked_for(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=2))
    add_backup(tmp_path, "other", ago(hours=1))
    result = info(tmp_path, db="app")
    assert [each["database"] for each in result["backups"]] == ["app"]
    assert {each["subject"] for each in result["findings"]} == {"app"}


@pytest.mark.parametrize(("rpo", "severity"), [("3h", "ok"), ("1h", "critical")])
def test_the_rpo_is_judged(tmp_path: Path, rpo: str, severity: str) -> None:
    add_backup(tmp_path, "app", ago(hours=2), verdict="verified")
    result = info(tmp_path, rpo=rpo)
    assert findings(result, "backup_rpo") == [(severity, "app")]
    assert result["severity"] == severity
    assert ("at most 1 h" in result["msg"]) == (severity == "critical")


def test_the_age_of_the_last_proof_is_judged(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(days=3), verdict="verified", verified_at=ago(days=2))
    add_backup(tmp_path, "app", ago(hours=2))
    assert findings(info(tmp_path, verified_within="3d"), "backup_verified") == [("ok", "app")]
    assert findings(info(tmp_path, verified_within="1d"), "backup_verified") == [("warning", "app")]


def test_a_failed_newest_backup_counts_for_nothing(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=9))
    add_backup(tmp_path, "app", ago(hours=1), verdict="failed")
    result = info(tmp_path, rpo="2h")
    assert findings(result, "backup_rpo") == [("critical", "app")]
    assert findings(result, "backup_verified") == [("critical", "app")]


def test_a_backup_whose_files_are_gone_counts_for_nothing(tmp_path: Path) -> None:
    good = add_backup(tmp_path, "app", ago(hours=3), verdict="verified")
    bad = add_backup(tmp_path, "app", ago(hours=1), verdict="verified")
    (bad / "data.sql").unlink()
    result = info(tmp_path, rpo="2h")
    assert [each["state"] for each in result["backups"]] == ["unreadable", "complete"]
    assert "data.sql is missing" in result["backups"][0]["why"]
    assert findings(result, "backup_rpo") == [("critical", "app")]
    assert findings(result, "backup_unreadable") == [("critical", bad.name)]
    assert [result["databases"][0][name] for name in ("newest_usable", "newest_verified")] == [good.name, good.name]


def test_two_clusters_in_one_directory_are_told(tmp_path: Path) -> None:
    for hours in range(3):
        add_backup(tmp_path, "app", ago(hours=hours), cluster=f"{hours % 2}", verdict="verified")
    result = info(tmp_path, rpo="2h")
    assert findings(result, "backup_clusters") == [("critical", "app")]


# --- nothing there, or nothing good --------------------------------------------------------------------


def test_a_directory_that_is_not_there_breaks_the_rpo_and_is_not_created(tmp_path: Path) -> None:
    root = tmp_path / "nowhere" / "backups"
    for params, subject in (({"rpo": "1h"}, str(root)), ({"rpo": "1h", "db": "app"}, "app"), ({}, str(root))):
        result = info(root, **params)
        assert (result["backups"], result["severity"]) == ([], "critical")
        assert findings(result, "backup_rpo") == [("critical", subject)]
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_nobody_backed_up_breaks_the_rpo(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=2), verdict="verified")
    result = info(tmp_path, db="typo", rpo="1h")
    assert findings(result, "backup_rpo") == [("critical", "typo")]
    assert "There is no usable backup of 'typo'" in result["msg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app"]


def test_a_database_that_lost_its_backups_is_still_judged(tmp_path: Path) -> None:
    shutil.rmtree(add_backup(tmp_path, "app", ago(hours=2)))
    assert findings(info(tmp_path), "backup_rpo") == [("critical", "app")]


def test_other_directories_are_no_databases(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=1), verdict="verified")
    for name in ("lost+found", "20260206", "%zz", "a%00b", "with space", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "godel_20260206_030405.sql.gz").write_bytes(b"by hand")
    (tmp_path / "app" / "app_20261399T990000Z").mkdir()  # no such date
    (tmp_path / "app" / "app_20260206T030405Z").write_text("a file of that name")
    result = info(tmp_path, rpo="2h")
    assert [each["database"] for each in result["databases"]] == ["app"]
    assert (len(result["backups"]), result["severity"]) == (1, "ok")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda at: at.unlink(), "has no manifest"),
        (lambda at: at.write_text(at.read_text().replace("0/1500000", "0/1500001")), "changed after it was written"),
        (lambda at: at.write_bytes(at.read_bytes()[:300]), "cannot be read"),
        (lambda at: at.write_bytes(b"[" * 100_000), "cannot be read"),
        (lambda at: at.write_text(json.dumps({**json.loads(at.read_text()), "schema_version": 99})), "newer version"),
        (lambda at: (at.unlink(), at.mkdir()), "cannot be read"),
    ],
    ids=["missing", "edited", "cut", "nested", "newer", "directory"],
)
def test_a_bad_manifest_is_a_critical_finding_and_not_an_error(tmp_path: Path, harm: Any, why: str) -> None:
    good = add_backup(tmp_path, "app", ago(hours=2), verdict="verified")
    bad = add_backup(tmp_path, "app", ago(hours=1))
    harm(bad / "manifest.json")
    result = info(tmp_path, rpo="3h")
    first, second = result["backups"]
    assert (first["id"], first["state"], second["state"]) == (bad.name, "unreadable", "complete")
    assert why in first["why"]
    assert "size_bytes" not in first
    assert findings(result, "backup_unreadable") == [("critical", bad.name)]
    assert findings(result, "backup_rpo") == [("ok", "app")]
    assert result["databases"][0]["newest_usable"] == good.name


def test_a_damaged_record_of_a_verification_proves_nothing(tmp_path: Path) -> None:
    path = add_backup(tmp_path, "app", ago(hours=2), verdict="failed")
    for name, data in (("20990101T000000Z.json", b'{"verdict": "verified"'), ("20990102T000000Z.json", b"[" * 100_000)):
        (path / "verifications" / name).write_bytes(data)
    (path / "verifications" / "20990103T000000Z.json").mkdir()
    assert info(tmp_path)["backups"][0]["verdict"] == "failed"


# --- half done ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["partial", "deleted"])
def test_what_a_dead_run_left_is_told_from_what_is_being_written(tmp_path: Path, suffix: str) -> None:
    add_backup(tmp_path, "app", ago(hours=1), verdict="verified")
    left = leave_half_done(tmp_path, "app", ago(minutes=30), suffix)
    dead = info(tmp_path)
    assert [(each["path"], each["in_progress"]) for each in dead["incomplete"]] == [(str(left), False)]
    assert 0 <= dead["incomplete"][0]["age_s"] < 60
    assert findings(dead, "backup_incomplete") == [("warning", str(left))]
    assert (len(dead["backups"]), dead["severity"]) == (1, "warning")
    with catalog_at(tmp_path).lock("app", "backup of 'app'"):
        alive = info(tmp_path)
    assert [(each["path"], each["in_progress"]) for each in alive["incomplete"]] == [(str(left), True)]
    assert alive["databases"][0]["busy"].startswith("backup of 'app' by process ")
    assert findings(alive, "backup_incomplete") == [("info", str(left))]


def test_a_backup_that_is_removed_while_it_is_read_is_no_unreadable_one(tmp_path: Path) -> None:
    for hours in range(1, 4):
        add_backup(tmp_path, "app", ago(hours=hours))
    entries = catalog_at(tmp_path).entries("app")
    first = next(entries)
    shutil.rmtree(tmp_path / "app", ignore_errors=True)
    assert first.problem is None
    assert list(entries) == []


def test_a_backup_that_ends_while_we_look_is_not_called_dead(tmp_path: Path) -> None:
    catalog = catalog_at(tmp_path)
    left = leave_half_done(tmp_path, "app", ago(minutes=1))

    class Ends(type(catalog)):  # type: ignore[misc]
        """The writer ends its work between our first look and our question for the lock."""

        def busy(self, database: str) -> str | None:
            left.rename(left.with_suffix(""))
            return super().busy(database)  # type: ignore[no-any-return]

    target = LocalTarget()
    (state,) = survey(target.files, Ends(target, str(tmp_path)), "app", utc_now())
    assert list(state.incomplete) == []


def test_asking_who_is_at_work_keeps_nobody_from_working(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=1))
    catalog, done = catalog_at(tmp_path), threading.Event()

    def ask() -> None:
        while not done.is_set():
            catalog.busy("app")
            time.sleep(0.001)

    threads = [threading.Thread(target=ask) for dummy in range(3)]
    for thread in threads:
        thread.start()
    try:
        for dummy in range(200):
            with catalog.lock("app", "a backup"):
                pass
    finally:
        done.set()
        for thread in threads:
            thread.join()


# --- read only, quick, and clear about bad input --------------------------------------------------------


def test_nothing_is_changed_in_check_mode_or_out_of_it(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=1), verdict="verified")
    leave_half_done(tmp_path, "app", ago(minutes=30))
    before = tree_of(tmp_path)
    results = [expect_success(NAME, {"backup_dir": str(tmp_path)}, check=check, diff=True) for check in (False, True)]
    assert tree_of(tmp_path) == before
    for result in results:
        assert result["changed"] is False
        for each in result["backups"] + result["incomplete"]:
            del each["age_s"]
        del result["findings"], result["msg"]
    assert results[0] == results[1]


def test_options_of_a_connection_are_accepted_and_not_used(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=1))
    login = {"login_host": "no.such.host.invalid", "login_port": 1, "login_user": "x", "login_password": "dummy-9d1f"}
    result = info(tmp_path, **login, ssl_mode="verify-full", connect_params={"password": "dummy-77ab"})
    assert len(result["backups"]) == 1
    assert "dummy-9d1f" not in json.dumps(result)
    assert "dummy-77ab" not in json.dumps(result)


BAD_INPUT = [
    ({"backup_dir": "backups"}, "not an absolute path"),
    ({"backup_dir": ""}, "not an absolute path"),
    ({"backup_dir": "{tmp}/file"}, "Invalid backup_dir"),
    ({"backup_dir": "{tmp}/loop"}, "cannot be examined"),
    ({"backup_dir": "{tmp}/a\0b"}, "cannot be examined"),
    ({"db": ""}, "Invalid db"),
    ({"db": "a\0b"}, "Invalid db"),
    ({"rpo": "soon"}, "Invalid rpo"),
    ({"rpo": "-1h"}, "Invalid rpo"),
    ({"rpo": "0"}, "Invalid rpo ('0')"),
    ({"verified_within": "1 moon"}, "Invalid verified_within"),
    ({"verified_within": "0s"}, "Invalid verified_within ('0s')"),
    ({"rpo": ["1h"]}, "Invalid rpo"),
    ({"keep": 1}, "Unsupported parameters"),
]


@pytest.mark.parametrize(("params", "message"), BAD_INPUT, ids=[f"{params}" for params, dummy in BAD_INPUT])
def test_bad_input_is_a_clear_error(tmp_path: Path, params: dict[str, Any], message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    given = {"backup_dir": str(tmp_path), **params}
    given["backup_dir"] = given["backup_dir"].replace("{tmp}", str(tmp_path))
    assert message in expect_failure(NAME, given)["msg"]


def test_memory_does_not_grow_with_the_manifests(tmp_path: Path) -> None:
    target = LocalTarget()
    peaks = []
    for count in (2, 8):
        root = tmp_path / str(count)
        for hours in range(count):
            add_backup(root, "app", ago(hours=hours), tables=500)
        tracemalloc.start()
        try:
            survey(target.files, catalog_at(root), "app", utc_now())
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    size_bytes = (root / "app").glob("*/manifest.json").__next__().stat().st_size
    assert size_bytes > 100_000
    assert peaks[1] < peaks[0] + size_bytes


def test_hundreds_of_backups_are_listed_quickly(tmp_path: Path) -> None:
    for number in range(300):
        add_backup(tmp_path, "app", ago(hours=number), verdict="verified" if number % 10 == 0 else None)
    result = expect_success(NAME, {"backup_dir": str(tmp_path), "rpo": "1h"}, timeout_s=10)
    assert len(result["backups"]) == 300
    newest, oldest = result["backups"][0], result["backups"][-1]
    assert newest["age_s"] < 60 < timedelta(hours=299).total_seconds() <= oldest["age_s"]
