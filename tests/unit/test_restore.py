"""Restoring: whose fault a failed restore is, what feeds a program, and in which order an archive is loaded. No server."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ProgramMissing
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops import restore
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops.passes import in_pieces, passes
from ansible_collections.godel.postgres_runbook.plugins.module_utils._ops.restore import (
    Dump,
    RestoreRefused,
    _Runner,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

# --- whose fault ---------------------------------------------------------------------------------------

THE_PLACE = [
    'pg_restore: error: could not execute query: ERROR:  could not extend file "base/5/1": No space left on device',
    'pg_restore: error: could not execute query: ERROR:  extension "postgis" is not available',
    'pg_restore: error: could not execute query: ERROR:  role "app" does not exist',
    "pg_restore: error: could not execute query: server closed the connection unexpectedly",
    "psql:<stdin>:12: server closed the connection unexpectedly",
    "psql:<stdin>:12: error: connection to server was lost",
    'psql:<stdin>:7: ERROR:  permission denied to create extension "file_fdw"',
    "pg_restore: error: could not execute query: FATAL:  terminating connection due to administrator command",
    'psql: error: connection to server on socket "/x/.s.PGSQL.5432" failed: FATAL:  the database system is shutting down',
    'pg_restore: error: could not open input file "/x/toc.dat": Permission denied',
    "pg_restore: error: unsupported version (1.16) in file header",
    'psql:<stdin>:3: ERROR:  unrecognized configuration parameter "transaction_timeout"',
    "pg_restore: error: could not execute query: ERROR:  out of shared memory",
    'psql:<stdin>:3: ERROR:  collation "pg_catalog.de_DE" for encoding "UTF8" does not exist',
    "pg_restore: error: could not execute query: ERROR:  ICU is not supported in this build",
    'PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device',
    "pg_restore: error: a worker process died unexpectedly",
    'pg_restore: error: could not execute query: ERROR:  pg_stat_statements must be loaded via "shared_preload_libraries"',
    'psql:<stdin>:3: ERROR:  security label provider "anon" is not loaded',
    'psql:<stdin>:3: ERROR:  invalid value for parameter "default_tablespace": "fast"',
    "",
    "pg_restore: warning: something",
]
THE_BACKUP = [
    'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "x"',
    "pg_restore: error: could not read from input file: end of file",
    'pg_restore: error: COPY failed for table "t": ERROR:  missing data for column "v"\nCONTEXT:  COPY t, line 1: "No space left on device"',
    'psql:<stdin>:9: ERROR:  syntax error at or near "x"\nLINE 1: x -- server closed the connection',
    "pg_restore: error: could not execute query: ERROR:  relation \"t\" does not exist\nCommand was: SELECT 'out of memory';",
    (
        "pg_restore: error: x: ERROR:  duplicate key value\nDETAIL:  Key (v)=(No space left on device) already exists.\n"
        "pg_restore: error: a worker process died unexpectedly"
    ),
    'psql:<stdin>:9: ERROR:  column "role" does not exist',
]


class EndedJob:
    """A program that has told this."""

    def __init__(self, text: str) -> None:
        self.text = text

    def tail(self, limit: int = 4096) -> str:
        return self.text[-limit:]


@pytest.mark.parametrize("text", THE_PLACE)
def test_the_place_is_to_blame(text: str) -> None:
    assert restore._refused(EndedJob(text), "pg_restore", 1, cramped=False).place_to_blame


@pytest.mark.parametrize("text", THE_BACKUP)
def test_the_backup_is_to_blame(text: str) -> None:
    error = restore._refused(EndedJob(text), "pg_restore", 1, cramped=False)
    assert not error.place_to_blame
    assert text.splitlines()[0] in error.message


def test_a_long_statement_does_not_hide_the_message() -> None:
    text = f"pg_restore: error: could not execute query: ERROR:  syntax error\nCommand was: {'x' * 100_000}"
    error = restore._refused(EndedJob(text), "pg_restore", 1, cramped=False)
    assert not error.place_to_blame
    assert "syntax error" in error.message
    assert len(error.message) < 5000


def test_a_full_disk_is_to_blame_whatever_was_told() -> None:
    assert restore._refused(EndedJob(THE_BACKUP[0]), "pg_restore", 1, cramped=True).place_to_blame


@pytest.mark.parametrize("status", [-9, 137, -15, 143])
def test_a_killed_program_says_nothing_about_the_backup(status: int) -> None:
    error = RestoreRefused(THE_BACKUP[0], program="psql", status=status)
    assert error.place_to_blame
    assert "signal" in error.message


# --- feeding ------------------------------------------------------------------------------------------


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> _Runner:
    return _Runner(LocalTarget(), {}, str(tmp_path))


@pytest.fixture(name="packed")
def _packed(tmp_path: Path) -> Dump:
    path = tmp_path / "a 'b' $c.sql.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 100_000))
    return Dump(str(path), "plain", "gzip")


def test_a_program_is_fed_what_is_packed_and_a_line_more(run: _Runner, packed: Dump) -> None:
    told = run(["/bin/sh", "-c", 'wc -l; echo "$1"', "sh", "a 'b' $c"], packed, r"\n\\echo mark\n")
    assert told.split()[0] == b"200002"
    assert b"a 'b' $c" in told
    assert run(["/usr/bin/tail", "-n1"], packed, r"\n\\echo mark\n") == b"\\echo mark\n"


def test_a_script_that_is_not_packed_is_fed_as_well(run: _Runner, tmp_path: Path) -> None:
    (tmp_path / "-n").write_bytes(b"one\n")
    assert run(["/bin/cat"], Dump(str(tmp_path / "-n"), "plain"), r"\ntwo\n") == b"one\n\ntwo\n"


def test_a_reader_that_has_enough_is_no_failure(run: _Runner, packed: Dump) -> None:
    assert run(["/usr/bin/head", "-n1"], packed) == b"one\n"


def test_a_packed_file_that_ends_early_is_the_backups_fault(run: _Runner, packed: Dump) -> None:
    path = Path(packed.path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RestoreRefused, match="cannot be unpacked to its end") as caught:
        run(["/bin/cat"], packed)
    assert not caught.value.place_to_blame


def test_an_unpacker_that_is_missing_is_named(run: _Runner, packed: Dump) -> None:
    with pytest.raises(ProgramMissing, match="no-such-unpacker"):
        run(["/bin/cat"], Dump(packed.path, "plain", "no-such-unpacker"))


def test_a_reader_that_fails_has_the_say_and_not_the_broken_pipe(run: _Runner, packed: Dump) -> None:
    with pytest.raises(RestoreRefused, match="syntax error") as caught:
        run(["/bin/sh", "-c", "echo 'psql:<stdin>:1: ERROR:  syntax error' >&2; exit 3"], packed)
    assert not caught.value.place_to_blame


@pytest.mark.parametrize("who", ["reader", "unpacker"])
def test_a_killed_program_in_the_pipe_is_the_places_fault(run: _Runner, packed: Dump, tmp_path: Path, who: str) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    reader = [str(killed)] if who == "reader" else ["/bin/cat"]
    dump = Dump(packed.path, "plain", str(killed) if who == "unpacker" else "gzip")
    with pytest.raises(RestoreRefused) as caught:
        run(reader, dump)
    assert caught.value.place_to_blame


# --- order --------------------------------------------------------------------------------------------

LISTING = b""";
; Archive created at 2026-02-06 03:04:05 UTC
;
215; 1259 16385 TABLE public t postgres
216; 1259 16386 TABLE public g postgres
217; 1259 16387 TABLE public g1 postgres
;	depends on: 216
3219; 0 0 TABLE ATTACH public g1 postgres
;	depends on: 217 216
3350; 0 0 ACL public TABLE t postgres
3300; 0 16385 TABLE DATA public t postgres
;	depends on: 215
220; 1259 16390 MATERIALIZED VIEW public m postgres
3351; 0 0 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES postgres
3301; 0 16390 MATERIALIZED VIEW DATA public m postgres
3222; 2606 16478 CHECK CONSTRAINT public g positive postgres
;	depends on: 216
3200; 2606 16400 CONSTRAINT public t t_pkey postgres
;	depends on: 215
3201; 0 0 COMMENT public TABLE t postgres
;	depends on: 215
3243; 2620 16471 TRIGGER public g watch postgres
;	depends on: 216
3397; 0 0 COMMENT public TRIGGER watch ON g postgres
;	depends on: 3243
3239; 2606 16433 FK CONSTRAINT public t t_g_fkey postgres
;	depends on: 215 216
3241; 2606 16414 FK CONSTRAINT public t t_t_fkey postgres
;	depends on: 215 3200
3100; 3466 16410 EVENT TRIGGER - watch postgres
3101; 0 0 COMMENT - EVENT TRIGGER watch postgres
"""


def test_what_watches_rows_and_rights_come_after_the_rows_and_before_what_needs_them() -> None:
    found = passes(LISTING)
    assert [together for _entries, together in found] == [True, False, True, False]
    parts = [[line.split(b" ", 3)[3] for line in entries.splitlines()] for entries, _together in found]
    main, after, late, last = parts
    assert [b" ".join(words.split()[:-1]) for words in after] == [
        b"ACL public TABLE t",
        b"DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES",
        b"CHECK CONSTRAINT public g positive",
        b"TRIGGER public g watch",
        b"COMMENT public TRIGGER watch ON g",
        b"FK CONSTRAINT public t t_g_fkey",
    ]
    assert late == [b"MATERIALIZED VIEW DATA public m postgres"]
    # Else they would fire for the contents of materialized views.
    assert last == [b"EVENT TRIGGER - watch postgres", b"COMMENT - EVENT TRIGGER watch postgres"]
    assert b"FK CONSTRAINT public t t_t_fkey postgres" in main
    entries = [line.split(b" ", 3)[3] for line in LISTING.splitlines() if not line.startswith(b";")]
    assert sorted((*main, *after, *late, *last)) == sorted(entries)


# --- in pieces ------------------------------------------------------------------------------------------


def test_pieces_have_every_line_in_its_order_and_some_large_entries_each() -> None:
    lines = [b"1; 1259 1 TABLE public t u\n", *[b"%d; 0 %d TABLE DATA public t u\n" % (n, n) for n in range(2, 9)]]
    late = [b"%d; 2606 %d CONSTRAINT public t u\n" % (n, n) for n in range(9, 12)]
    whole = [(b"".join(lines + late), True), (b"99; 0 0 ACL public t u\n", False)]
    pieces = in_pieces(whole, jobs=1)
    assert b"".join(entries for entries, dummy in pieces) == b"".join(entries for entries, dummy in whole)
    assert [(len(entries.splitlines()), together) for entries, together in pieces] == [
        (3, True),
        (2, True),
        (2, True),
        (2, True),
        (2, True),
        (1, False),
    ]
