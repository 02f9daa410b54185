"""pg_backup_prune as a user calls it, and what may come between its decision and its deed; no server needed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup import prune
from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.retention import Policy
from ansible_collections.godel.postgres_runbook.plugins.module_utils._catalog.catalog import Catalog, Entry
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._units import utc_now
from tests.support.catalogs import (
    add_backup,
    add_verdict,
    ago,
    backups,
    catalog_at,
    ids,
    leave_half_done,
    tree_of,
)
from tests.support.modules import RunningModule, expect_failure, expect_success, run_module, start_module

NAME = "pg_backup_prune"


def params(root: Path, **over: Any) -> dict[str, Any]:
    return {"backup_dir": str(root), "db": "app", **over}


def names(listed: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in listed]


def hourly(root: Path, count: int, db: str = "app", **over: Any) -> list[Path]:
    """Backups of the last hours, newest first."""
    return [add_backup(root, db, ago(hours=number + 1), **over) for number in range(count)]


# --- what it does -------------------------------------------------------------------------------------


def test_what_no_rule_keeps_is_gone_and_the_rest_is_untouched(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 5, size_bytes=1000)
    add_verdict(tmp_path, "app", paths[3].name, "verified", ago(minutes=5))
    other = hourly(tmp_path, 3, "other")
    by_hand = tmp_path / "godel_20200101_000000.sql.gz"
    by_hand.write_bytes(b"by hand")
    stays = {str(path): tree_of(path) for path in (paths[0], paths[1], paths[3], *other, by_hand)}
    result = expect_success(NAME, params(tmp_path, keep_last=2), diff=True)
    assert result["changed"] is True
    assert names(result["deleted"]) == [paths[2].name, paths[4].name]
    assert result["deleted"][0] == {
        "id": paths[2].name,
        "path": str(paths[2]),
        "size_bytes": 1000,
        "why": "no rule keeps it",
    }
    assert {each["id"]: each["why"] for each in result["kept"]} == {
        paths[0].name: "keep_last: 1 of 2; newest",
        paths[1].name: "keep_last: 2 of 2",
        paths[3].name: "newest verified",
    }
    assert (result["freed_bytes"], result["removed"]) == (2000, [])
    assert result["msg"] == "Deleted 2 backups of 'app' (2.0 KiB), kept 3."
    assert result["diff"]["before"] == "".join(f"{path}\n" for path in sorted(map(str, paths)))
    assert result["diff"]["after"] == "".join(f"{path}\n" for path in sorted(map(str, (paths[0], paths[1], paths[3]))))
    assert {str(path): tree_of(Path(path)) for path in stays} == stays
    assert sorted(path.name for path in (tmp_path / "app").iterdir() if path.name != ".lock") == sorted(
        ids(tmp_path, "app")
    )


def test_check_mode_lists_exactly_what_would_be_deleted_and_changes_nothing(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 6)
    add_verdict(tmp_path, "app", paths[2].name, "failed", ago(minutes=5))
    add_verdict(tmp_path, "app", paths[1].name, "verified", ago(minutes=5))
    left = leave_half_done(tmp_path, "app", ago(days=1))
    before = tree_of(tmp_path)
    rehearsed = expect_success(NAME, params(tmp_path, keep_last=3), check=True, diff=True)
    assert tree_of(tmp_path) == before
    assert rehearsed["msg"].startswith("Would delete 3 backups of 'app'")
    done = expect_success(NAME, params(tmp_path, keep_last=3), diff=True)
    for key in ("changed", "deleted", "kept", "freed_bytes", "removed", "diff"):
        assert rehearsed[key] == done[key], key
    assert done["changed"] is True
    assert done["removed"] == [str(left)]
    assert ids(tmp_path, "app") == [paths[0].name, paths[1].name, paths[3].name]


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    for number in range(12):
        add_backup(tmp_path, "app", ago(hours=9 * number + 1), verdict=[None, "verified", "failed"][number % 3])
    policy = {"keep_last": 2, "keep_daily": 2, "keep_weekly": 1, "min_age": "1h"}
    first = expect_success(NAME, params(tmp_path, **policy))
    before = tree_of(tmp_path / "app" / ids(tmp_path, "app")[0])
    second = expect_success(NAME, params(tmp_path, **policy))
    assert (first["changed"], second["changed"]) == (True, False)
    assert (second["deleted"], second["removed"], second["freed_bytes"]) == ([], [], 0)
    assert names(second["kept"]) == names(first["kept"])
    assert second["msg"] == f"All {len(first['kept'])} backups of 'app' are kept."
    assert tree_of(tmp_path / "app" / ids(tmp_path, "app")[0]) == before


def test_days_weeks_and_months_are_kept(tmp_path: Path) -> None:
    now = utc_now().replace(hour=0, minute=0, second=1)
    for days in range(120):
        add_backup(tmp_path, "app", ago(now=now, days=days))
    result = expect_success(NAME, params(tmp_path, keep_daily=7, keep_weekly=4, keep_monthly=3))
    rules = [reason.split(":")[0] for each in result["kept"] for reason in each["why"].split("; ")]
    assert [rules.count(rule) for rule in ("keep_daily", "keep_weekly", "keep_monthly", "keep_last")] == [7, 4, 3, 0]
    assert ids(tmp_path, "app") == names(result["kept"])


def test_nothing_younger_than_min_age_goes(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 6)
    result = expect_success(NAME, params(tmp_path, keep_last=1, min_age="4h30m"))
    assert names(result["deleted"]) == [path.name for path in paths[4:]]
    assert result["kept"][3]["why"] == "younger than min_age"


def test_the_last_backup_stays_whatever_it_is(tmp_path: Path) -> None:
    path = add_backup(tmp_path, "app", ago(days=900), verdict="failed")
    assert expect_success(NAME, params(tmp_path, keep_last=1, keep_unreadable=False))["changed"] is False
    (path / "manifest.json").unlink()
    assert expect_success(NAME, params(tmp_path, keep_last=1, keep_unreadable=False))["changed"] is False


def test_what_dead_runs_left_is_swept(tmp_path: Path) -> None:
    add_backup(tmp_path, "app", ago(hours=1))
    left = [leave_half_done(tmp_path, "app", ago(hours=2), suffix) for suffix in ("partial", "deleted")]
    result = expect_success(NAME, params(tmp_path, keep_last=5), diff=True)
    assert (result["changed"], result["removed"]) == (True, sorted(map(str, left), key=lambda path: path))
    assert not any(path.exists() for path in left)
    assert str(left[0]) in result["diff"]["before"]
    assert str(left[0]) not in result["diff"]["after"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    root = tmp_path / "backups"
    doomed = hourly(root, 3)[2]
    (doomed / "data").symlink_to(outside)
    link = root / "app" / "app_20200101T000000Z"
    link.symlink_to(outside)
    result = expect_success(NAME, params(root, keep_last=1, keep_unreadable=False))
    assert doomed.name in names(result["deleted"])
    assert link.is_symlink()
    assert (outside / "precious").read_text() == "precious"


# --- what cannot be counted on ------------------------------------------------------------------------


def test_a_backup_without_its_data_does_not_push_out_the_one_that_has_them(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    for path in paths[:2]:
        (path / "data.sql").unlink()
    result = expect_success(NAME, params(tmp_path, keep_last=1))
    assert (result["changed"], names(result["kept"])) == (False, [path.name for path in paths])
    assert result["kept"][2]["why"] == "keep_last: 1 of 1; newest"
    add_backup(tmp_path, "app", ago(minutes=1))
    result = expect_success(NAME, params(tmp_path, keep_last=1, keep_unreadable=False))
    assert names(result["deleted"]) == [path.name for path in paths]


def test_the_backups_of_each_cluster_are_judged_by_themselves(tmp_path: Path) -> None:
    paths = [add_backup(tmp_path, "app", ago(hours=hours), cluster=f"{hours % 2}") for hours in range(1, 7)]
    add_verdict(tmp_path, "app", paths[3].name, "verified", ago(minutes=5))
    result = expect_success(NAME, params(tmp_path, keep_last=1))
    assert {each["id"]: each["why"] for each in result["kept"]} == {
        paths[0].name: "keep_last: 1 of 1; newest",
        paths[1].name: "keep_last: 1 of 1; newest",
        paths[3].name: "newest verified",
    }
    assert "belong to 2 clusters" in result["msg"]


def test_what_failed_stays_until_a_newer_one_is_proven(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    for path in paths[1:]:
        add_verdict(tmp_path, "app", path.name, "failed", ago(minutes=5))
    result = expect_success(NAME, params(tmp_path, keep_last=1))
    assert (result["changed"], len(result["kept"])) == (False, 3)
    assert "no newer backup is verified" in result["kept"][2]["why"]
    add_verdict(tmp_path, "app", paths[0].name, "verified", ago(minutes=4))
    result = expect_success(NAME, params(tmp_path, keep_last=1))
    assert names(result["deleted"]) == [path.name for path in paths[1:]]


# --- what cannot be read ------------------------------------------------------------------------------


def spoil(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"{}")


def from_a_newer_version(path: Path) -> None:
    at = path / "manifest.json"
    at.write_text(json.dumps({**json.loads(at.read_text()), "schema_version": 99}))


def from_another_time(path: Path) -> None:
    newer = path.parent / ids(path.parents[1], "app")[0]
    shutil.copy(newer / "manifest.json", path / "manifest.json")


def behind_a_loop(path: Path) -> None:
    (path / "manifest.json").unlink()
    (path / "manifest.json").symlink_to("manifest.json")


@pytest.mark.parametrize(
    ("harm", "goes"),
    [(spoil, True), (from_a_newer_version, False), (from_another_time, False), (behind_a_loop, False)],
)
def test_only_what_is_damaged_in_itself_can_go(tmp_path: Path, harm: Callable[[Path], None], goes: bool) -> None:
    paths = hourly(tmp_path, 3)
    harm(paths[2])
    kept = expect_success(NAME, params(tmp_path, keep_last=2))
    assert (kept["changed"], names(kept["kept"])) == (False, [path.name for path in paths])
    told = expect_success(NAME, params(tmp_path, keep_last=2, keep_unreadable=False))
    assert names(told["deleted"]) == [paths[2].name] * goes
    assert paths[2].exists() is not goes
    if goes:
        assert told["deleted"][0]["size_bytes"] is None
        assert told["freed_bytes"] == 0


# --- another run is at work -----------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_a_running_backup_is_a_clear_error_and_nothing_goes(tmp_path: Path, check: bool) -> None:
    hourly(tmp_path, 3)
    left = leave_half_done(tmp_path, "app", ago(minutes=1))
    with catalog_at(tmp_path).lock("app", "backup of 'app'"):
        before = tree_of(tmp_path)
        result = expect_failure(NAME, params(tmp_path, keep_last=1), check=check)
        assert tree_of(tmp_path) == before
    assert result["error"]["kind"] == "Locked"
    assert "backup of 'app' by process" in result["msg"]
    assert left.exists()


def test_another_databases_backup_does_not_keep_us(tmp_path: Path) -> None:
    hourly(tmp_path, 3)
    with catalog_at(tmp_path).lock("other", "backup of 'other'"):
        assert len(expect_success(NAME, params(tmp_path, keep_last=1))["deleted"]) == 2


@pytest.mark.parametrize("check", [False, True])
def test_a_backup_that_is_being_read_stays(tmp_path: Path, check: bool) -> None:
    paths = hourly(tmp_path, 3)
    catalog = catalog_at(tmp_path)
    with catalog.use(catalog.find("app", paths[1].name), "a verification"):
        result = expect_success(NAME, params(tmp_path, keep_last=1), check=check)
    assert names(result["deleted"]) == [paths[2].name]
    assert result["kept"][1]["why"].startswith("in use: a verification by process ")


class Meanwhile(Catalog):
    """A catalog where something happens between the decision and the first deletion."""

    def __init__(self, root: Path, happens: Callable[[], object]) -> None:
        super().__init__(LocalTarget(), str(root))
        self._happens: Callable[[], object] | None = happens

    def find(self, database: str, reference: str) -> Entry:
        happens, self._happens = self._happens, None
        if happens is not None:
            happens()
        return super().find(database, reference)


def test_a_backup_that_is_verified_meanwhile_stays(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 4)
    catalog = Meanwhile(tmp_path, lambda: add_verdict(tmp_path, "app", paths[3].name, "verified", utc_now()))
    pruned = prune.prune(catalog, "app", Policy(keep_last=1), utc_now())
    assert [each.backup.id for each in pruned.deleted] == [paths[1].name, paths[2].name]
    assert ids(tmp_path, "app") == [paths[0].name, paths[3].name]


def test_a_backup_that_fails_its_verification_meanwhile_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)

    def fail_the_newest() -> None:
        add_verdict(tmp_path, "app", paths[0].name, "failed", utc_now())
        add_verdict(tmp_path, "app", paths[2].name, "inconclusive", utc_now())

    pruned = prune.prune(Meanwhile(tmp_path, fail_the_newest), "app", Policy(keep_last=1), utc_now())
    assert [each.backup.id for each in pruned.deleted] == [paths[2].name]
    assert ids(tmp_path, "app") == [paths[0].name, paths[1].name]


def test_a_backup_that_is_taken_into_use_meanwhile_stays(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    catalog = catalog_at(tmp_path)
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(catalog.use(catalog.find("app", paths[2].name), "a restore"))

        pruned = prune.prune(Meanwhile(tmp_path, begin), "app", Policy(keep_last=1), utc_now())
    assert [each.backup.id for each in pruned.deleted] == [paths[1].name]
    assert paths[2].exists()


def test_a_backup_that_somebody_removes_meanwhile_is_not_reported_as_ours(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    catalog = Meanwhile(tmp_path, lambda: shutil.rmtree(paths[2]))
    pruned = prune.prune(catalog, "app", Policy(keep_last=1), utc_now())
    assert [each.backup.id for each in pruned.deleted] == [paths[1].name]
    assert pruned.problem is None


def test_a_catalog_that_never_comes_to_rest_is_given_up_without_harm(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    add_verdict(tmp_path, "app", paths[0].name, "verified", ago(minutes=5))

    class Restless(Catalog):
        verdicts = 0

        def find(self, database: str, reference: str) -> Entry:
            self.verdicts += 1
            verdict = ["failed", "inconclusive"][self.verdicts % 2]
            add_verdict(tmp_path, "app", paths[2].name, verdict, utc_now())
            return super().find(database, reference)

    pruned = prune.prune(Restless(LocalTarget(), str(tmp_path)), "app", Policy(keep_last=1), utc_now())
    assert pruned.problem is not None
    assert "keep changing" in pruned.problem.message
    assert (pruned.deleted, len(ids(tmp_path, "app"))) == ([], 3)


# --- killed, or refused by the disk ----------------------------------------------------------------------


def half_deleted(root: Path, gone: int) -> tuple[RunningModule, list[Path]]:
    """Start a prune of three backups to one, and return when so many files of the oldest have gone."""
    paths = hourly(root, 3)
    (paths[2] / "verifications").mkdir()  # where more files make no other backup of it
    for number in range(3000):
        (paths[2] / "verifications" / f"more_{number}").touch()
    running = start_module(NAME, params(root, keep_last=1))
    places = (paths[2] / "verifications", Path(f"{paths[2]}.deleted", "verifications"))
    while True:
        left = 0
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                left += len(os.listdir(place))
        assert left, "it was too quick for this test"
        assert running.process.poll() is None, running.finish()
        if left <= 3000 - gone:
            return running, paths


def assert_only_whole_backups(root: Path, paths: list[Path]) -> None:
    assert ids(root, "app") == [path.name for path in paths]
    for entry in backups(root, "app"):
        assert entry.problem is None
        assert {each.name for each in Path(entry.path).iterdir()} == {"manifest.json", "data.sql"}


@pytest.mark.parametrize("gone", [1, 1500])
def test_a_kill_leaves_nothing_half_deleted_that_looks_like_a_backup(tmp_path: Path, gone: int) -> None:
    running, paths = half_deleted(tmp_path, gone)
    running.process.kill()
    running.process.communicate()
    assert running.process.returncode == -signal.SIGKILL
    left = catalog_at(tmp_path).unfinished("app")
    assert left == [f"{paths[2]}.deleted"]
    assert_only_whole_backups(tmp_path, paths[:2])
    again = expect_success(NAME, params(tmp_path, keep_last=1))
    assert (again["removed"], names(again["deleted"])) == (left, [paths[1].name])
    assert_only_whole_backups(tmp_path, paths[:1])
    assert catalog_at(tmp_path).unfinished("app") == []


def test_a_polite_stop_ends_it_with_an_answer(tmp_path: Path) -> None:
    running, paths = half_deleted(tmp_path, 1)
    running.process.terminate()
    result = running.finish()
    assert result["failed"]
    assert "Stopped by SIGTERM" in result["msg"]
    assert_only_whole_backups(tmp_path, paths[:2])


class Refusing(Catalog):
    """A catalog whose disk refuses to remove one backup, before or after it lost its name."""

    def __init__(self, root: Path, id_: str, *, renamed: bool) -> None:
        super().__init__(LocalTarget(), str(root))
        self._id, self._renamed = id_, renamed

    def delete(self, entry: Entry) -> None:
        if entry.id != self._id:
            super().delete(entry)
            return
        if self._renamed:
            Path(entry.path).rename(f"{entry.path}.deleted")
        raise FileProblem("A path cannot be removed", subject=entry.path, why="Input/output error")


@pytest.mark.parametrize("renamed", [False, True])
def test_what_was_deleted_before_a_failure_is_reported_with_it(tmp_path: Path, renamed: bool) -> None:
    paths = hourly(tmp_path, 4)
    pruned = prune.prune(Refusing(tmp_path, paths[2].name, renamed=renamed), "app", Policy(keep_last=1), utc_now())
    assert pruned.problem is not None
    assert "Input/output error" in pruned.problem.message
    gone = [paths[2].name] * renamed + [paths[3].name]
    assert [each.backup.id for each in pruned.deleted] == gone
    assert pruned.changed
    listed = {each.backup.id: each.reasons for each in pruned.kept}
    assert sorted([*listed, *gone]) == sorted(path.name for path in paths)
    assert listed[paths[1].name] == ["could not be deleted"]


def test_a_failed_deletion_fails_the_task_and_still_lists_what_is_gone(tmp_path: Path) -> None:
    paths = hourly(tmp_path, 3)
    (tmp_path / "app" / f".{paths[1].name}.lock").mkdir()  # in the place of a lock file
    result = run_module(NAME, params(tmp_path, keep_last=1))
    assert result["failed"]
    assert (result["changed"], names(result["deleted"])) == (True, [paths[2].name])
    assert result["error"]["kind"] == "FileProblem"
    assert paths[1].name in result["msg"]
    assert ids(tmp_path, "app") == [paths[0].name, paths[1].name]


# --- nothing there, and bad input ------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_an_unknown_database_is_a_warning_and_nothing_is_created(tmp_path: Path, check: bool) -> None:
    add_backup(tmp_path, "app", ago(hours=1))
    before = tree_of(tmp_path)
    for given in (params(tmp_path, db="typo", keep_last=1), params(tmp_path / "nowhere", keep_last=1)):
        result = expect_success(NAME, given, check=check)
        assert (result["changed"], result["deleted"], result["kept"]) == (False, [], [])
        assert "has no backup" in result["msg"]
        assert any("Check db and backup_dir" in str(warning) for warning in result["warnings"])
    assert tree_of(tmp_path) == before


BAD_INPUT = [
    ({}, "one of the following is required"),
    ({"min_age": "1d"}, "one of the following is required"),
    ({"keep_last": 0, "keep_daily": 0}, "Invalid retention rules"),
    ({"keep_last": 0}, "Invalid retention rules"),
    ({"keep_last": -1}, "Invalid keep_last (-1)"),
    ({"keep_last": 5, "keep_monthly": -1}, "Invalid keep_monthly"),
    ({"keep_last": "many"}, "keep_last"),
    ({"keep_last": 1.5}, "keep_last"),
    ({"keep_last": 1, "min_age": "old"}, "Invalid min_age"),
    ({"keep_last": 1, "min_age": "-1d"}, "Invalid min_age"),
    ({"keep_last": 1, "db": ""}, "Invalid db ('')"),
    ({"keep_last": 1, "backup_dir": "backups"}, "not an absolute path"),
    ({"keep_last": 1, "keep": 1}, "Unsupported parameters"),
]


@pytest.mark.parametrize(("over", "message"), BAD_INPUT, ids=[f"{over}" for over, dummy in BAD_INPUT])
def test_bad_input_is_a_clear_error_and_deletes_nothing(tmp_path: Path, over: dict[str, Any], message: str) -> None:
    hourly(tmp_path, 2)
    result = expect_failure(NAME, params(tmp_path, **over))
    assert message in result["msg"]
    assert len(ids(tmp_path, "app")) == 2


def test_a_database_has_to_be_named(tmp_path: Path) -> None:
    assert "db" in expect_failure(NAME, {"backup_dir": str(tmp_path), "keep_last": 1})["msg"]


def test_options_of_a_connection_are_accepted_and_not_used(tmp_path: Path) -> None:
    hourly(tmp_path, 2)
    login = {"login_host": "no.such.host.invalid", "login_port": 1, "login_password": "dummy-9d1f"}
    result = expect_success(NAME, params(tmp_path, keep_last=1, **login))
    assert len(result["deleted"]) == 1
    assert "dummy-9d1f" not in json.dumps(result)
