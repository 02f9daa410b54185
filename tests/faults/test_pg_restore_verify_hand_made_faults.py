"""pg_restore_verify and broken dumps not taken by this collection: any loss or error in one fails it."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Database, new_database, unique_name
from tests.support.modules import Result, expect_failure
from tests.support.servers import Server
from tests.support.verifications import MODULE, flip, params, scratch_folder, verify

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


@pytest.fixture(name="script", scope="module")
def _script(source: Database) -> bytes:
    """A dump of the database as a script."""
    return source.run("pg_dump").encode()


def judged(source: Database, path: Path, scratch: Path, **over: Any) -> Result:
    """The judgement of a file, restored into a database, and nothing left."""
    databases = source.server.databases()
    result = verify(source, path.parent, scratch, backup=str(path), **{"verify_in": "database", **over})
    assert source.server.databases() == databases
    assert not result["changed"]
    return result


def cut(content: bytes, share: float = 0.6) -> bytes:
    return content[: int(len(content) * share)]


@pytest.mark.parametrize("share", [0.1, 0.6, 0.999])
@pytest.mark.parametrize("kind", ["sql", "sql.gz", "dump", "tar", "dump.gz", "tar.gz"])
def test_a_backup_made_by_hand_that_was_cut_off_fails(
    source: Database, script: bytes, backup_dir: Path, scratch: Path, kind: str, share: float
) -> None:
    path = backup_dir / f"a.{kind}"
    format_ = {"dump": "custom", "tar": "tar"}.get(kind.split(".")[0])
    if format_:
        source.run("pg_dump", f"--format={format_}", f"--file={path}", "--compress=0")
    else:
        path.write_bytes(script)
    if kind.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    path.write_bytes(cut(path.read_bytes(), share))
    result = judged(source, path, scratch)
    assert result["verdict"] == "failed", result["why"]


def test_a_table_of_a_directory_that_was_cut_off_between_two_rows_fails(
    source: Database, backup_dir: Path, scratch: Path
) -> None:
    folder = backup_dir / "a"
    for arguments in ((), ("--inserts",)):
        source.run("pg_dump", "--format=directory", "--compress=0", f"--file={folder}", *arguments)
        assert judged(source, folder, scratch)["verdict"] == "inconclusive"
        rows = next(path for path in folder.glob("*.dat") if b"user 7" in path.read_bytes())
        good = rows.read_bytes()
        rows.write_bytes(good[: good.index(b"\n", good.index(b"user 7")) + 1])
        assert judged(source, folder, scratch)["verdict"] == "failed"
        shutil.rmtree(folder)


COPY = b"COPY public.users (id, name) FROM stdin;\n"
END = b"--\n-- PostgreSQL database dump complete\n--\n\n"
BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "an error in the middle": lambda script: script.replace(COPY, b"SELECT nothing_like_this;\n" + COPY),
    "a bad row": lambda script: script.replace(b"7\tuser 7\n", b"7\tuser 7\textra\n"),
    "a doubled row": lambda script: script.replace(b"7\tuser 7\n", b"7\tuser 7\n7\tuser 7\n"),
    "an error at the end": lambda script: script + b"SELECT nothing_like_this;\n",
    "an unknown table": lambda script: script.replace(COPY, COPY.replace(b"users", b"losers")),
    "no end mark": lambda script: script.replace(b"-- PostgreSQL database dump complete", b"--"),
    "an end mark that is not the end": lambda script: script + b"\n" * 99 + b"SELECT 1;\n",
    "cut between two statements": lambda script: script[: script.index(b"\n--\n-- Data for Name: users")],
    "cut in the rows after an end mark": lambda script: script[: script.index(b"7\tuser 7")] + b"7\t\n" + END,
    "cut in the rows after an end mark, with a mark that is a comment": lambda script: (
        script[: script.index(b"7\tuser 7")] + b"7\t\\.x\n" + END
    ),
    "an open string before the end": lambda script: script.replace(END, b"SELECT 'open\n" + END),
    "an open statement before the end": lambda script: script.replace(END, b"CREATE TABLE x (a int,\n" + END),
    "an open comment before the end": lambda script: script.replace(END, b"/* open\n" + END),
    "an open body before the end": lambda script: script.replace(END, b"CREATE FUNCTION x() RETURNS int LANGUAGE sql AS $_$SELECT\n" + END),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_script_fails(source: Database, script: bytes, backup_dir: Path, scratch: Path, kind: str) -> None:
    broken = BREAKS[kind](script)
    assert broken != script
    for path, content in ((backup_dir / "a.sql", broken), (backup_dir / "a.sql.gz", gzip.compress(broken))):
        path.write_bytes(content)
        result = judged(source, path, scratch)
        assert result["verdict"] == "failed", result["why"]


def test_a_script_cut_anywhere_fails(source: Database, script: bytes, backup_dir: Path, scratch: Path) -> None:
    chance = random.Random(7)
    path = backup_dir / "a.sql"
    last = script.rindex(b"dump complete")
    for at in [*(chance.randrange(2000, last) for dummy in range(6)), last, last + len(b"dump complete") - 1]:
        path.write_bytes(script[:at])
        assert judged(source, path, scratch)["verdict"] == "failed", at
    path.write_bytes(script)
    assert judged(source, path, scratch)["verdict"] == "inconclusive"


def test_a_packed_script_with_a_wrong_check_sum_fails(
    source: Database, script: bytes, backup_dir: Path, scratch: Path
) -> None:
    path = backup_dir / "a.sql.gz"
    path.write_bytes(gzip.compress(script))
    flip(path, path.stat().st_size - 6, 0)
    result = judged(source, path, scratch)
    assert result["verdict"] == "failed"
    assert "unpacked" in result["why"]


def test_rows_that_look_like_faults_of_the_place_do_not_excuse_a_bad_backup(
    source: Database, script: bytes, backup_dir: Path, scratch: Path
) -> None:
    path = backup_dir / "a.sql"
    row = b"7\tNo space left on device; server closed the connection; out of memory\textra\n"
    path.write_bytes(script.replace(b"7\tuser 7\n", row))
    result = judged(source, path, scratch)
    assert result["verdict"] == "failed", result["why"]


NOTHING = {
    "empty": b"",
    "text": b"hello\n",
    "blanks": b"\0" * 9999,
    "half a word": b"PGDM",
    "half a packed file": b"\x1f\x8b",
    "packed text": gzip.compress(b"hello"),
}


@pytest.mark.parametrize("content", NOTHING.values(), ids=NOTHING)
def test_what_is_no_dump_is_refused(source: Database, backup_dir: Path, scratch: Path, content: bytes) -> None:
    path = backup_dir / "a.sql"
    path.write_bytes(content)
    result = expect_failure(MODULE, params(source, backup_dir, scratch, backup=str(path)))
    assert result["error"]["kind"] == "InvalidInput"
    assert "Invalid dump file" in result["msg"]


def test_a_dump_of_a_whole_cluster_is_refused(source: Database, backup_dir: Path, scratch: Path) -> None:
    path = backup_dir / "all.sql"
    path.write_text(source.run("pg_dumpall", "--globals-only"))
    result = expect_failure(MODULE, params(source, backup_dir, scratch, backup=str(path)))
    assert "pg_dumpall" in result["msg"]
