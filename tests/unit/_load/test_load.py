"""Restoring: whose fault a failed restore is, what feeds a program, and in which order an archive is loaded. No server."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ProgramMissing
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load import load, loaders
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.archive_entries import in_pieces, passes
from ansible_collections.godel.postgres_runbook.plugins.module_utils._load.loaders import (
    Dump,
    LoaderEnd,
    RestoreRefused,
    Runner,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget

# --- whose fault ---------------------------------------------------------------------------------------

THE_PLACE = [
    'pg_restore: error: could not execute query: ERROR:  could not extend file "base/5/1": No space left on device',
    "pg_restore: error: could not execute query: server closed the connection unexpectedly",
    "psql:<stdin>:12: server closed the connection unexpectedly",
    "psql:<stdin>:12: error: connection to server was lost",
    "pg_restore: error: could not execute query: FATAL:  terminating connection due to administrator command",
    'psql: error: connection to server on socket "/x/.s.PGSQL.5432" failed: FATAL:  the database system is shutting down',
    'pg_restore: error: could not open input file "/x/toc.dat": Permission denied',
    "pg_restore: error: unsupported version (1.16) in file header",
    'PANIC:  could not write to file "pg_wal/xlogtemp.7": No space left on device',
    "pg_restore: error: a worker process died unexpectedly",
    "",
    "pg_restore: warning: something",
    'pg_restore: creating TABLE "public.error: something closed"',
]
THE_BACKUP = [
    'pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "x"',
    "pg_restore: error: could not read from input file: end of file",
    'pg_restore: error: COPY failed for table "t": ERROR:  missing data for column "v"\nCONTEXT:  COPY t, line 1: "No space left on device"',
    'psql:<stdin>:9: ERROR:  42601: syntax error at or near "x"\nLINE 1: x -- server closed the connection',
    "psql:<stdin>:9: ERROR:  42601: syntax error\npsql:<stdin>:9: STATEMENT:  SELECT 'error: connection to server was lost'",
    "pg_restore: error: could not execute query: ERROR:  relation \"t\" does not exist\nCommand was: SELECT 'out of memory';",
    (
        "pg_restore: error: x: ERROR:  duplicate key value\nDETAIL:  Key (v)=(No space left on device) already exists.\n"
        "pg_restore: error: a worker process died unexpectedly"
    ),
    'psql:<stdin>:9: ERROR:  42703: column "role" does not exist',
]


@pytest.mark.parametrize("text", THE_PLACE)
def test_the_place_is_to_blame(text: str) -> None:
    assert LoaderEnd("pg_restore", 1, text).refused().place_to_blame


@pytest.mark.parametrize("text", THE_BACKUP)
def test_the_backup_is_to_blame(text: str) -> None:
    error = LoaderEnd("pg_restore", 1, text).refused()
    assert not error.place_to_blame
    assert text.splitlines()[0] in error.message


@pytest.mark.parametrize("text", [*THE_PLACE[1:4], THE_PLACE[0]])
def test_a_server_that_is_gone_and_a_full_disk_end_a_load(text: str) -> None:
    assert LoaderEnd("pg_restore", 1, f"{text}\npg_restore: warning: errors ignored on restore: 7").lost()
    assert not any(LoaderEnd("pg_restore", 1, each).lost() for each in THE_BACKUP)


def test_a_long_statement_does_not_hide_the_message() -> None:
    text = f"pg_restore: error: could not execute query: ERROR:  syntax error\nCommand was: {'x' * 100_000}"
    error = LoaderEnd("pg_restore", 1, text).refused()
    assert not error.place_to_blame
    assert "syntax error" in error.message
    assert len(error.message) < 5000


def test_a_full_disk_is_to_blame_whatever_was_told() -> None:
    assert LoaderEnd("pg_restore", 1, THE_BACKUP[0], cramped=True).refused().place_to_blame


@pytest.mark.parametrize("status", [-9, 137, -15, 143])
def test_a_killed_program_says_nothing_about_the_backup(status: int) -> None:
    error = RestoreRefused(THE_BACKUP[0], program="psql", status=status)
    assert error.place_to_blame
    assert "signal" in error.message


# --- feeding ------------------------------------------------------------------------------------------


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Runner:
    return Runner(LocalTarget(), {}, str(tmp_path))


@pytest.fixture(name="packed")
def _packed(tmp_path: Path) -> Dump:
    path = tmp_path / "a 'b' $c.sql.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n" * 100_000))
    return Dump(str(path), "plain", "gzip")


def test_a_program_is_fed_what_is_packed_and_a_line_more(run: Runner, packed: Dump) -> None:
    told = run.run(["/bin/sh", "-c", 'wc -l; echo "$1"', "sh", "a 'b' $c"], packed, more=r"\n\\echo mark\n").text
    assert told.split()[0] == "200002"
    assert "a 'b' $c" in told
    assert run.run(["/usr/bin/tail", "-n1"], packed, more=r"\n\\echo mark\n").text == "\\echo mark\n"


def test_a_script_that_is_not_packed_is_fed_as_well(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "-n").write_bytes(b"one\n")
    assert run.run(["/bin/cat"], Dump(str(tmp_path / "-n"), "plain"), more=r"\ntwo\n").text == "one\n\ntwo\n"


def test_a_script_is_edited_on_its_way(run: Runner, packed: Dump) -> None:
    run.write("more", b"here\n")
    told = run.run(["/usr/bin/head", "-n4"], packed, edit="1r more\n3r more").text
    assert told == "one\nhere\ntwo\none\n"


def test_a_reader_that_has_enough_is_no_failure(run: Runner, packed: Dump) -> None:
    ended = run.run(["/usr/bin/head", "-n1"], packed)
    assert (ended.status, ended.text) == (0, "one\n")


def test_a_packed_file_that_ends_early_is_the_backups_fault(run: Runner, packed: Dump) -> None:
    path = Path(packed.path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RestoreRefused, match="cannot be unpacked completely") as caught:
        run.run(["/bin/cat"], packed)
    assert not caught.value.place_to_blame


def test_an_unpacker_that_is_missing_is_named(run: Runner, packed: Dump) -> None:
    with pytest.raises(ProgramMissing, match="no-such-unpacker"):
        run.run(["/bin/cat"], Dump(packed.path, "plain", "no-such-unpacker"))


def test_a_reader_that_fails_has_the_say_and_not_the_broken_pipe(run: Runner, packed: Dump) -> None:
    ended = run.run(["/bin/sh", "-c", "echo 'psql:<stdin>:1: ERROR:  42601: syntax error' >&2; exit 3"], packed)
    assert (ended.status, ended.refused().place_to_blame) == (3, False)
    assert "syntax error" in ended.refused().message


@pytest.mark.parametrize("who", ["reader", "unpacker"])
def test_a_killed_program_in_the_pipe_is_the_places_fault(run: Runner, packed: Dump, tmp_path: Path, who: str) -> None:
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    reader = [str(killed)] if who == "reader" else ["/bin/cat"]
    dump = Dump(packed.path, "plain", str(killed) if who == "unpacker" else "gzip")
    with pytest.raises(RestoreRefused) as caught:
        run.output(reader, dump)
    assert caught.value.place_to_blame


def test_a_program_whose_errors_do_not_end_is_ended(run: Runner, packed: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "_SAMPLE_S", 0.05)
    monkeypatch.setattr(loaders, "_LOG_BYTES", 100_000)
    many = "while :; do echo 'psql:<stdin>:1: ERROR:  42P01: relation \"t\" does not exist' >&2; done"
    with pytest.raises(RestoreRefused, match="does not exist") as caught:
        run.run(["/bin/sh", "-c", many], packed)
    assert not caught.value.place_to_blame


def test_a_full_disk_ends_a_load_at_once(run: Runner, packed: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "_SAMPLE_S", 0.05)
    with pytest.raises(RestoreRefused, match="No space left") as caught:
        run.run(["/bin/sh", "-c", f"echo '{THE_PLACE[0]}' >&2; sleep 60"], packed)
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


# --- what workers write at the same time -----------------------------------------------------------------

TWO_WORKERS = """pg_restore:pg_restore:  while PROCESSING TOC:
while PROCESSING TOC:
pg_restore: pg_restore: from TOC entry 3203; 1259 16397 INDEX slow_v_id_idx postgres
pg_restore: from TOC entry 3202; 1259 16398 INDEX slow_reverse_id_idx postgres
error: pg_restore:could not execute query: ERROR:  could not extend file "base/1/2": No space left on device
HINT:  Check free disk space.
Command was: CREATE INDEX slow_v_id_idx ON public.slow USING btree (v, id);


 error: could not execute query: ERROR:  could not extend file "base/1/3": wrote only 4096 of 8192 bytes at block 461
HINT:  Check free disk space.
Command was: CREATE INDEX slow_reverse_id_idx ON public.slow USING btree (reverse(v), id);


pg_restore: warning: errors ignored on restore: 4
"""


def test_errors_of_two_workers_are_both_seen() -> None:
    errors = load._errors(TWO_WORKERS)
    assert [each.command.split()[2] for each in errors] == ["slow_v_id_idx", "slow_reverse_id_idx"]
    assert not load._is_mixed_up(TWO_WORKERS, errors)


@pytest.mark.parametrize(
    ("whole", "torn"),
    [
        (
            'could not execute query: ERROR:  could not extend file "base/1/2"',
            "could not execute query: ERROpg_restore: R",
        ),
        ("from TOC entry 3202; 1259", "from TOC entry 32pg_restore: 02; 1259"),
    ],
)
def test_messages_that_are_mixed_up_are_noticed(whole: str, torn: str) -> None:
    text = TWO_WORKERS.replace(whole, torn, 1)
    assert text != TWO_WORKERS
    assert load._is_mixed_up(text, load._errors(text))
