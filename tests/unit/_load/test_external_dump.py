"""Dumps not taken by this collection: the format and needs of a file, by its content. No server."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    FileProblem,
    InvalidInput,
    ProgramMissing,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.external_dump import (
    ExternalDump,
    examine,
    identify,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.load import Dump
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import Programs
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

PROGRAMS = Programs("/nonexistent", "17.2", 17)
HEAD = """--
-- PostgreSQL database dump
--

\\restrict abc

-- Dumped from database version 15.18
-- Dumped by pg_dump version 16.4 (Debian 16.4-1)

SET client_encoding = 'UTF8';
"""
END = """
--
-- PostgreSQL database dump complete
--

\\unrestrict abc

"""


def examined(tmp_path: Path, text: str, *, head: str = HEAD, end: str = END) -> ExternalDump:
    """What is found in a script."""
    path = tmp_path / "a.sql"
    path.write_text(head + text + end)
    return examine(LocalTarget(), PROGRAMS, identify(LocalTarget(), str(path)))


@pytest.mark.parametrize(
    ("content", "format_", "unpacker"),
    [
        (HEAD.encode(), "plain", None),
        (gzip.compress(HEAD.encode()), "plain", "gzip"),
        (b"PGDMP\x01\x0e\x00", "custom", None),
        (gzip.compress(b"PGDMP\x01\x0e\x00"), "custom", "gzip"),
        (b"toc.dat\0" + b"\0" * 600, "tar", None),
        (gzip.compress(b"toc.dat\0" + b"\0" * 600), "tar", "gzip"),
    ],
    ids=["script", "packed script", "custom", "packed custom", "tar", "packed tar"],
)
@pytest.mark.parametrize("name", ["a.sql", "a.sql.gz", "a.dump", "a.tar", "a", "-f 'x'\n"])
def test_a_file_is_what_its_content_says(
    tmp_path: Path, content: bytes, format_: str, unpacker: str | None, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert identify(LocalTarget(), str(path)) == Dump(str(path), format_, unpacker)


def test_a_directory_with_a_table_of_contents_is_an_archive(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no toc\.dat"):
        identify(LocalTarget(), str(tmp_path))
    (tmp_path / "toc.dat").write_bytes(b"PGDMP")
    assert identify(LocalTarget(), str(tmp_path)) == Dump(str(tmp_path), "directory")


NOTHING = {
    "empty": b"",
    "text": b"hello",
    "half a word": b"PGDM",
    "half a packed file": b"\x1f\x8b",
    "packed text": gzip.compress(b"hello"),
    "blanks": b"\0" * 9999,
}


@pytest.mark.parametrize("content", NOTHING.values(), ids=NOTHING)
def test_anything_else_is_no_dump(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.sql").write_bytes(content)
    with pytest.raises(InvalidInput, match="Invalid dump file"):
        identify(LocalTarget(), str(tmp_path / "a.sql"))


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    for path, message in ((str(tmp_path / "nothing"), "no such file"), ("a/b.sql", "not absolute")):
        with pytest.raises(InvalidInput, match=message):
            identify(LocalTarget(), path)
    (tmp_path / "all.sql").write_text("--\n-- PostgreSQL database cluster dump\n--\n")
    with pytest.raises(InvalidInput, match="pg_dumpall"):
        identify(LocalTarget(), str(tmp_path / "all.sql"))


def test_a_missing_unpacker_is_named_and_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sql.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 20)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("head", "sh"):
        (programs / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ProgramMissing, match="zstd"):
        identify(LocalTarget(), str(tmp_path / "a.sql.zst"))


def test_a_whole_script_is_told_from_one_that_ends_early(tmp_path: Path) -> None:
    assert examined(tmp_path, "SELECT 1;\n").complete
    assert examined(tmp_path, "SELECT 1;\n", end=END.rstrip("\n")).complete
    assert examined(tmp_path, "SELECT 1;\n", end="\n--\n-- PostgreSQL database dump complete\n--\n").complete
    assert not examined(tmp_path, "SELECT 1;\n", end="").complete
    assert not examined(tmp_path, "SELECT 1;\n", end="\n--\n-- PostgreSQL database dump comp").complete
    assert not examined(tmp_path, "SELECT 1;\n", end=END + "SELECT 1;\n" * 20).complete
    assert not examined(tmp_path, f"COPY public.t (a) FROM stdin;\n{END}", end="").complete
    assert examined(tmp_path, f"COPY public.t (a) FROM stdin;\n{END}\\.\n").complete


def test_roles_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        """
ALTER TABLE public.t OWNER TO app;
ALTER TABLE public.t OWNER TO "Quo""ted Röle";
GRANT SELECT ON TABLE public.t TO reader;
GRANT SELECT ON TABLE public.t TO "with option" WITH GRANT OPTION;
GRANT ALL ON SCHEMA public TO PUBLIC;
REVOKE ALL ON FUNCTION public.f(a text) FROM former;
SET SESSION AUTHORIZATION 'grant''or';
ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA public GRANT SELECT ON TABLES TO later;
CREATE POLICY p ON public.t FOR SELECT TO one, "two 2" USING (true);
CREATE POLICY q ON public.t USING ((a = CURRENT_USER));
""",
    ).roles
    assert set(found) >= {
        "app", 'Quo"ted Röle', "reader", "with option", "former", "grant'or", "maker", "one", "two 2",
    }  # fmt: skip
    assert not {"public", "PUBLIC", "current_user", "CURRENT_USER"} & set(found)


def test_rows_forge_no_roles_extensions_or_databases(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        """COPY public.t (a) FROM stdin;
ALTER TABLE public.t OWNER TO forged;
CREATE EXTENSION IF NOT EXISTS forged WITH SCHEMA public;
\\\\connect forged
-- Dumped by pg_dump version 99.1
\\.
""",
    )
    assert (found.roles, found.extensions, found.database, found.tool_major) == ([], [], None, 16)


def test_extensions_and_the_program_that_wrote_it_are_found(tmp_path: Path) -> None:
    text = 'CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;\nCREATE EXTENSION IF NOT EXISTS "uuid-ossp" WITH SCHEMA x;\n'
    found = examined(tmp_path, text)
    assert found.extensions == ["citext", "uuid-ossp"]
    assert found.tool_major == 16
    assert examined(tmp_path, "", head="--\n-- PostgreSQL database dump\n--\n").tool_major == 17


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("\\connect godel", "godel"),
        ('\\connect "Gö del"', "Gö del"),
        ('\\connect "a""b"', 'a"b'),
        ("\\connect -reuse-previous=on \"dbname='a b'\"", "a b"),
        ('\\connect -reuse-previous=on "dbname=\'a ""b"" \\\'c\\\' \\\\d\'"', "a \"b\" 'c' \\d"),
    ],
)
def test_a_database_of_its_own_is_found(tmp_path: Path, line: str, name: str) -> None:
    assert examined(tmp_path, f"CREATE DATABASE x;\n{line}\n").database == name
    assert examined(tmp_path, "").database is None


def test_only_the_encoding_that_converts_nothing_is_needed_in_the_copy(tmp_path: Path) -> None:
    assert examined(tmp_path, "").encoding is None
    assert examined(tmp_path, "", head=HEAD.replace("UTF8", "LATIN1")).encoding is None
    assert examined(tmp_path, "", head=HEAD.replace("UTF8", "SQL_ASCII")).encoding == "SQL_ASCII"


def test_a_fifo_is_no_backup_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileProblem, match="not a regular file"):
        identify(LocalTarget(), str(tmp_path / "pipe"))
