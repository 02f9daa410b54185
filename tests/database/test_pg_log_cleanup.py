"""pg_log_cleanup on real servers: only old files of the server's own go, and never through a link."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import Result, expect_failure, expect_success
from tests.support.processes import until
from tests.support.servers import Server
from tests.support.workspace import give

DAY_S = 86400
TIMEOUT_S = 30.0


def put(path: Path, days: float, size: int = 10) -> Path:
    """A file of the server's account that was written to so long ago."""
    path.write_bytes(b"x" * size)
    give(path)
    then = time.time() - days * DAY_S
    os.utime(path, (then, then))
    return path


def clean(server: Server, **over: Any) -> Result:
    check = bool(over.pop("check", False))
    return expect_success("pg_log_cleanup", {**server.login(), **over}, check=check, diff=True)


def names(result: Result) -> list[str]:
    return [each["path"].rsplit("/", 1)[1] for each in result["removed"]]


def logging(**over: object) -> dict[str, object]:
    return {"logging_collector": "on", "log_filename": "pg-%Y-%m-%d_%H%M%S.log", **over}


def test_old_files_go_and_all_else_stays(new_server: Callable[..., Server]) -> None:
    server = new_server(settings=logging(log_destination="stderr,csvlog"))
    folder = server.data_dir / "log"
    assert until(lambda: len(list(folder.glob("pg-*"))) == 2, TIMEOUT_S)
    current = list(folder.glob("pg-*"))
    for path in current:  # as old as can be, and still the ones that are written
        os.utime(path, (1000, 1000))
    outside = put(server.folder / "outside.log", 30)
    due = [put(folder / name, 9) for name in ("pg-2026-01-02_000000.csv", "pg-2026-01-02_000000.log")]
    due.insert(0, put(folder / "pg-2026-01-01_000000.json", 10, size=1000))
    kept = [
        put(folder / "pg-2026-01-05_000000.log", 6),
        put(folder / "pg-2026-01-01_000000.log.gz", 30),
        put(folder / "notes.log", 30),
    ]
    link = folder / "pg-2026-01-03_000000.log"
    link.symlink_to(outside)
    os.utime(link, (1000, 1000), follow_symlinks=False)
    (folder / "pg-2026-01-04_000000.log").mkdir()
    os.utime(folder / "pg-2026-01-04_000000.log", (1000, 1000))

    rehearsal = clean(server, check=True)
    assert (rehearsal["changed"], rehearsal["freed_bytes"]) == (True, 1020)
    assert names(rehearsal) == [path.name for path in due]
    assert all(path.exists() for path in due)
    assert rehearsal["diff"]["before"].splitlines() == [str(path) for path in due]

    done = clean(server)
    assert (done["changed"], names(done), done["freed_bytes"]) == (True, names(rehearsal), 1020)
    assert not any(path.exists() for path in due)
    assert all(path.exists() for path in [*kept, *current, link, outside])
    again = clean(server)
    assert (again["changed"], again["removed"], again["freed_bytes"]) == (False, [], 0)
    assert names(clean(server, older_than="5d")) == ["pg-2026-01-05_000000.log"]


def test_every_major_tells_its_current_files(any_server: Server) -> None:
    result = clean(any_server)
    assert (result["changed"], result["directory"]) == (False, None)
    assert "logging_collector is off" in result["msg"]


def test_a_link_to_elsewhere_is_refused_unless_the_server_names_that_place(new_server: Callable[..., Server]) -> None:
    server = new_server(settings=logging())
    folder, elsewhere = server.data_dir / "log", server.folder / "elsewhere"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)
    old = put(elsewhere / "pg-2026-01-01_000000.log", 30)
    refused = expect_failure("pg_log_cleanup", server.login())
    assert "is a symbolic link to another place" in refused["msg"]
    assert old.exists()
    for directory in (elsewhere, folder):  # by its own name, and by that of the link
        server.query(f"ALTER SYSTEM SET log_directory = '{directory}'")
        server.query("SELECT pg_reload_conf()")
        assert until(lambda d=directory: server.query("SHOW log_directory") == [(str(d),)], TIMEOUT_S)
        put(old, 30)
        done = clean(server)
        assert (names(done), done["directory"], old.exists()) == ([old.name], str(elsewhere), False)


def test_the_current_file_of_another_server_in_the_same_directory_stays(
    new_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = new_server()
    folder = server.folder / "logs"
    folder.mkdir()
    give(folder)
    shared = logging(log_directory=folder)
    server.restart(settings=shared)
    assert until(lambda: len(list(folder.glob("pg-*"))) == 1, TIMEOUT_S)
    began = time.time()
    assert until(lambda: time.time() > began + 1, TIMEOUT_S)  # else both would have the same file
    new_server(settings=shared)
    assert until(lambda: len(list(folder.glob("pg-*"))) == 2, TIMEOUT_S)
    quiet = time.time() - DAY_S / 8
    current = sorted(folder.glob("pg-*"))
    for path in current:
        os.utime(path, (quiet, quiet))
    old, older = put(folder / "pg-2026-01-02_000000.log", 1 / 8), put(folder / "pg-2026-01-01_000000.log", 2)
    foreign = put(folder / "pg-2026-01-01_111111.log", 2)
    os.chown(foreign, 12345, -1)

    blind = tmp_path / "find"
    blind.write_text("#!/bin/sh\nexit 1\n")
    blind.chmod(0o755)
    unseen = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    careful = expect_success("pg_log_cleanup", {**server.login(), "older_than": "2h"}, check=True, env=unseen)
    assert set(names(careful)) == {older.name, foreign.name}
    [note] = careful["notes"]
    assert "open files cannot be detected" in note
    assert note in careful["msg"]

    done = clean(server, older_than="2h")
    assert (names(done), done["notes"], done["kept"]) == ([older.name, old.name], [], 3)
    assert [path.name for path in sorted(folder.iterdir())] == sorted(path.name for path in [foreign, *current])


def test_what_is_not_safe_is_refused(new_server: Callable[..., Server]) -> None:
    server = new_server(settings=logging(log_filename="postgresql.log"))
    old = put(server.data_dir / "log" / "postgresql-1.log", 30)
    assert "cannot be distinguished from other files" in expect_failure("pg_log_cleanup", server.login())["msg"]
    assert (
        "Invalid older_than ('59m')" in expect_failure("pg_log_cleanup", {**server.login(), "older_than": "59m"})["msg"]
    )
    server.query("CREATE ROLE plain LOGIN PASSWORD 'x'")
    plain = {**server.login(), "login_user": "plain", "login_password": "x"}
    assert "pg_monitor" in expect_failure("pg_log_cleanup", plain)["msg"]
    server.query("GRANT pg_monitor TO plain")
    server.query("ALTER SYSTEM SET log_filename = 'pg-%d.log'")
    server.query("SELECT pg_reload_conf()")
    put(server.data_dir / "log" / "pg-00.log", 30)
    assert until(lambda: server.query("SHOW log_filename") == [("pg-%d.log",)], TIMEOUT_S)
    assert names(expect_success("pg_log_cleanup", plain)) == ["pg-00.log"]
    assert old.exists()


@pytest.mark.parametrize("value", ["soon", "-1"])
def test_an_age_that_is_none_is_refused(server: Server, value: str) -> None:
    refused = expect_failure("pg_log_cleanup", {**server.login(), "older_than": value})
    assert "Invalid older_than" in refused["msg"]
