"""pg_dump's command line, the choice of compression, and what failures mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._backup.pg_dump import (
    DumpCommand,
    _without_queries,
    check_compression,
    choose_compression,
    dump_failure,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import (
    CommandFailed,
    InvalidInput,
    NotEnoughSpace,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.programs import Programs
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

TARGET = LocalTarget()
STATEMENT_TIMEOUT = """pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout
pg_dump: detail: Query was: LOCK TABLE public.t IN ACCESS SHARE MODE"""
FAKE = """#!/bin/sh
for argument in "$@"; do
    case "$argument" in
        --compress=*) method=${argument#--compress=} ;;
    esac
done
case " @offers@ " in
    *" ${method%%:*} "*) echo 'pg_dump: error: connection to server on socket failed' >&2 ;;
    *) echo "pg_dump: error: this build does not support compression with ${method%%:*}" >&2 ;;
esac
exit 1
"""


@pytest.fixture(name="pg_dump")
def _pg_dump(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Programs with a pg_dump that was built with these compressions only."""

    def make(major: int, offers: str) -> Programs:
        program = tmp_path / "pg_dump"
        program.write_text(FAKE.replace("@offers@", offers))
        program.chmod(0o755)
        return Programs(str(tmp_path), f"{major}.1", major)

    return make


@pytest.mark.parametrize(
    "text",
    ["auto", "none", "gzip", "lz4", "zstd", "gzip:1", "gzip:9", "lz4:1", "lz4:12", "zstd:1", "zstd:22"],
)
def test_a_compression_is_a_method_and_perhaps_a_level(text: str) -> None:
    check_compression(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "gz", "bzip2", "GZIP", "gzip:", "gzip:0", "gzip:10", "lz4:0", "lz4:13", "zstd:0", "zstd:23", "zstd:-1",
        "none:1", "auto:1", "zstd:1:2", "zstd:1,long", "6", "zstd:1\n", " zstd", "zstd:\u0661", "zstd:001", "--help",
    ],
)  # fmt: skip
def test_anything_else_is_no_compression(text: str) -> None:
    with pytest.raises(InvalidInput, match="Invalid compress"):
        check_compression(text)


@pytest.mark.parametrize(
    ("major", "offers", "format_", "chosen"),
    [
        (16, "gzip lz4 zstd", "directory", "zstd:1"),
        (18, "gzip lz4 zstd", "custom", "zstd:1"),
        (16, "gzip lz4", "directory", "lz4:1"),
        (16, "gzip", "directory", "gzip:1"),
        (16, "gzip lz4 zstd", "plain", "gzip:1"),
        (15, "gzip lz4 zstd", "directory", "gzip:1"),  # --compress=METHOD came with 16
    ],
)
def test_auto_takes_the_best_that_pg_dump_offers(pg_dump, major: int, offers: str, format_: str, chosen: str) -> None:  # type: ignore[no-untyped-def]
    assert choose_compression(TARGET, pg_dump(major, offers), "auto", format_) == chosen


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("none", "none"),
        ("gzip", "gzip:6"),
        ("gzip:9", "gzip:9"),
        ("lz4", "lz4:1"),
        ("zstd", "zstd:3"),
        ("zstd:19", "zstd:19"),
    ],
)
def test_the_wanted_compression_is_taken(pg_dump, wanted: str, chosen: str) -> None:  # type: ignore[no-untyped-def]
    assert choose_compression(TARGET, pg_dump(16, "gzip lz4 zstd"), wanted, "directory") == chosen


@pytest.mark.parametrize(("major", "wanted"), [(16, "zstd"), (16, "zstd:3"), (16, "lz4"), (15, "zstd"), (14, "lz4:1")])
def test_a_wanted_compression_that_is_not_offered_is_refused(pg_dump, major: int, wanted: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInput, match=rf"does not support the compression {wanted} .*pg_dump {major}\.1.*bin_dir"):
        choose_compression(TARGET, pg_dump(major, "gzip"), wanted, "directory")


@pytest.mark.parametrize(
    ("major", "compression", "argument"),
    [
        (16, "zstd:3", "--compress=zstd:3"),
        (16, "none", "--compress=none"),
        (18, "gzip:1", "--compress=gzip:1"),
        (15, "gzip:1", "--compress=1"),
        (15, "none", "--compress=0"),
    ],
)
def test_compression_is_told_in_the_words_of_the_version(major: int, compression: str, argument: str) -> None:
    command = DumpCommand(Programs("/bin", f"{major}.0", major), "directory", 2, compression, 300, "UTF8")
    assert argument in command.argv("dbname='a'", "/b/data", "0-1")


@pytest.mark.parametrize("format_", ["directory", "custom", "plain"])
def test_the_command_says_all_that_matters(format_: str) -> None:
    command = DumpCommand(Programs("/opt/bin", "16.1", 16), format_, 3, "none", 1.5, "EUC_JP")
    argv = command.argv("dbname='a b'", "/b/data", "00000003-1")
    assert argv[0] == "/opt/bin/pg_dump"
    wanted = {
        "--dbname=dbname='a b'", f"--format={format_}", "--file=/b/data", "--snapshot=00000003-1", "--no-password",
        "--lock-wait-timeout=1500", "--encoding=EUC_JP",
    }  # fmt: skip
    assert wanted <= set(argv)
    assert ("--jobs=3" in argv) == (format_ == "directory")
    assert all(argument.startswith("--") for argument in argv[1:])


@pytest.mark.parametrize(
    ("format_", "compression", "name"),
    [
        ("directory", "zstd:1", "data"),
        ("custom", "zstd:1", "data.dump"),
        ("plain", "none", "data.sql"),
        ("plain", "gzip:1", "data.sql.gz"),
        ("plain", "lz4:1", "data.sql.lz4"),
        ("plain", "zstd:22", "data.sql.zst"),
    ],
)
def test_the_file_has_the_name_of_its_format(format_: str, compression: str, name: str) -> None:
    assert DumpCommand(Programs("/bin", "16.1", 16), format_, 1, compression, 0, "UTF8").file_name == name


@pytest.mark.parametrize(
    ("messages", "remedy"),
    [
        ("pg_dump: error: query failed: ERROR:  permission denied for table secret", "pg_read_all_data"),
        ('ERROR:  query would be affected by row-level security policy for table "t"', "BYPASSRLS"),
        ("ERROR:  canceling statement due to lock timeout", "lock_timeout"),
        (STATEMENT_TIMEOUT, "lock_timeout"),
        ('pg_dump: error: could not obtain lock on relation "public.t"', "lock_timeout"),
        ("pg_dump: error: server closed the connection unexpectedly", "See the server's log"),
        ("FATAL:  terminating connection due to administrator command", "See the server's log"),
        ("FATAL:  terminating connection due to x\nQuery was: LOCK TABLE public.t", "See the server's log"),
        ("FATAL:  remaining connection slots are reserved", "jobs"),
        ("FATAL:  sorry, too many clients already", "jobs"),
        ("something else", "safe to run this again"),
        ("", "safe to run this again"),
    ],
)
def test_a_failure_says_what_to_do(tmp_path: Path, messages: str, remedy: str) -> None:
    job = TARGET.spawn(["sh", "-c", 'printf %s "$1"; exit 3', "sh", messages], log=str(tmp_path / "log"))
    job.wait()
    error = dump_failure(TARGET, job, "pg_dump", str(tmp_path))
    assert isinstance(error, CommandFailed)
    assert remedy in error.remedy
    assert error.what == "pg_dump ended with status 3"
    assert error.details == {"program": "pg_dump", "returncode": 3, "messages": messages.strip()}


def test_a_failure_by_a_signal_names_it(tmp_path: Path) -> None:
    job = TARGET.spawn(["sh", "-c", "kill -9 $$"], log=str(tmp_path / "log"))
    job.wait()
    assert "signal 9 (SIGKILL)" in dump_failure(TARGET, job, "pg_dump", str(tmp_path)).message


def test_a_full_disk_is_told_apart(tmp_path: Path) -> None:
    job = TARGET.spawn(
        ["sh", "-c", "echo 'pg_dump: error: could not write to file: No space left on device'; exit 1"],
        log=str(tmp_path / "log"),
    )
    job.wait()
    error = dump_failure(TARGET, job, "pg_dump", str(tmp_path))
    assert isinstance(error, NotEnoughSpace)
    assert "backup_retention" in error.remedy


def test_a_failure_quotes_the_beginning_of_a_query() -> None:
    page = "SELECT\n" + ",\n".join(f"  c.column_{number}" for number in range(300)) + "\nFROM pg_class c\n"
    told = f"pg_dump: error: query failed: ERROR:  no such thing\npg_dump: detail: Query was: {page}pg_dump: the end"
    short = _without_queries(told)
    assert short.startswith(
        "pg_dump: error: query failed: ERROR:  no such thing\npg_dump: detail: Query was: SELECT c.column_0,"
    )
    assert short.endswith(" ...\npg_dump: the end")
    assert len(short) < 300
