"""Databases with traits that people have met with in the field: what a backup, its proof and a restore make of them.

`make test` runs a sample on one major, `make test-majors` all of them on every major at hand. Each case stands for a kind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import psycopg2
import psycopg2.errors
import pytest

from tests.support.corpus import CORPUS, FieldCase, check, loaded, served
from tests.support.databases import Database
from tests.support.extended import MAJOR, SHARE
from tests.support.programs import Installation, at_hand, client_for, installations
from tests.support.servers import Server
from tests.support.verifications import scratch_folder


def schedule_in(database: Database) -> None:
    """Have pg_cron look for its jobs in this database."""
    database.server.restart(settings={"shared_preload_libraries": "pg_cron", "cron.database_name": database.name})


def lay_down_stop_words(database: Database) -> None:
    """A file of the house beside the server's own, which no other installation has."""
    folder = database.server.bin_dir.parents[3] / SHARE / "tsearch_data"
    if folder.is_symlink():
        files = list(folder.resolve().iterdir())
        folder.unlink()
        folder.mkdir(mode=0o755)
        for file in files:
            (folder / file.name).symlink_to(file)
    (folder / "fieldhouse.stop").write_text("of\nthe\n")
    (folder / "fieldhouse.stop").chmod(0o644)


def interrupt_a_detachment(database: Database) -> None:
    """Leave a partition half-way out: a transaction that sees both keeps the second half from being done."""
    with contextlib.closing(database.connect(autocommit=False)) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM m")
        with contextlib.closing(database.connect()) as other, other.cursor() as detaching:
            detaching.execute("SET statement_timeout = '3s'")
            with pytest.raises(psycopg2.errors.QueryCanceled):
                detaching.execute("ALTER TABLE m DETACH PARTITION m2 CONCURRENTLY")


READER = {"login_user": "reader_all", "login_password": "dummy-of-the-case"}


def let_in(database: Database) -> None:
    """Give the login of the case its password."""
    database.psql(f"ALTER ROLE reader_all PASSWORD '{READER['login_password']}'")


CASES = [
    FieldCase("01-public-recreated"),
    FieldCase("02-subscription-comment", refused="DROP SUBSCRIPTION"),
    FieldCase("22-setof-grown"),
    FieldCase("55-exists-constant", quick=True),
    FieldCase("03-database-guc", answers={"SELECT count(*) FROM mine": 50}),
    FieldCase("04-database-owner-role", answers={"SELECT total FROM totals": 50500}, since=15),
    FieldCase("05-ddl-audit", answers={"SELECT count(*) FROM ddl_log": 1}),
    FieldCase("06-1600-columns", quick=True),
    FieldCase("10-stale-regclass"),
    FieldCase(
        "11-template-flag",
        answers={"SELECT datistemplate FROM pg_database WHERE datname = current_database()": True},
    ),
    FieldCase("15-member-policy", packages=()),
    FieldCase("16-member-config", packages=()),
    FieldCase(
        "17-pg-cron",
        answers={"SELECT count(*) FROM cron.job": 1},
        settings={},
        packages=("cron",),
        prepare=schedule_in,
    ),
    FieldCase("20-pgaudit", settings={"shared_preload_libraries": "pgaudit"}, packages=("pgaudit",)),
    FieldCase("19-periods", packages=("periods",)),
    # Its view needs the version that CREATE EXTENSION does not make. All rows are there, and the backup says so before.
    FieldCase(
        "37-old-statements-view",
        verdict="incomplete",
        findings=(r"extension pg_stat_statements 1\.4 \(\S+ here without a version\)",),
        says=("view public.slow is missing", "pg_stat_statements.total_time does not exist"),
        refused="view public.slow is missing",
        settings={"shared_preload_libraries": "pg_stat_statements"},
        packages=(),
    ),
    FieldCase("39-big-values", majors=False),
    FieldCase("44-too-big-value", not_dumped="invalid memory alloc request size", majors=False),
    FieldCase("46-preloaded-view", settings={"shared_preload_libraries": "pg_stat_statements"}, packages=()),
    FieldCase("35-client-encoding", quick=True),
    FieldCase("27-timezone-check"),
    FieldCase(
        "28-timezone-matview",
        answers={"SELECT count(*) FROM per_day": 3, "SELECT min(n) FROM per_day": 24},
        quick=True,
    ),
    FieldCase(
        "26-dictionary-file",
        verdict="inconclusive",
        says=("CREATE TEXT SEARCH DICTIONARY public.house", "fieldhouse.stop", "Install the file"),
        packages=(),
        prepare=lay_down_stop_words,
        verify={"bin_dir": str(client_for(MAJOR).bin_dir)},
    ),
    FieldCase(
        "38-dangling-init-privs", says=("statements? w.* refused", "REVOKE SELECT ON TABLE fg.conf FROM"), packages=()
    ),
    FieldCase("40-many-large-objects"),
    # All rows are there, and proven; the index is one that no restore can make.
    FieldCase("chado", verdict="incomplete", says=("index public.t_b_idx",), refused="t_b_idx", majors=False),
    FieldCase(
        "47-detach-pending",
        findings=("1 partition has an unfinished DETACH CONCURRENTLY: public.m2 of public.m",),
        after=interrupt_a_detachment,
    ),
    FieldCase(
        "48-user-mapping-reader",
        findings=("1 user mapping hides its options from this login: app_owner on other",),
        packages=(),
        after=let_in,
        backup=READER,
    ),
    FieldCase("53-foreign-keys", since=15),
    FieldCase(
        "54-newer-major-view",
        verdict="inconclusive",
        says=("CREATE VIEW public.checkpoints", "use programs of version 15"),
        verify={"bin_dir": str(at_hand()[-1].bin_dir)},
        majors=False,
    ),
]
# What a test elsewhere holds, and where.
ELSEWHERE: dict[str, str] = {
    "09-member-table": "test_losses.py: test_a_sample_of_losses_is_in_the_backup_and_before_the_swap",
    "07-money-locale": "test_source_settings.py: test_money_keeps_the_locale_of_its_server",
    "33-database-tablespace": "test_source_settings.py: test_a_database_stays_on_its_disks",
}


def test_every_case_is_held_by_a_test() -> None:
    """A file that nothing runs proves nothing."""
    files = {path.stem for path in (CORPUS / "cases").glob("*.sql")}
    assert files == {case.name for case in CASES} | ELSEWHERE.keys()


def run(case: FieldCase, server: Server, backup_dir: Path) -> None:
    """Take a case through backup, verification, restore and rollback on this server, or on one of its own."""
    with served(case, server) as where, loaded(case, where) as database, scratch_folder() as scratch:
        check(case, database, backup_dir, scratch)


@pytest.mark.parametrize("case", [case for case in CASES if case.quick], ids=lambda case: case.name)
def test_a_sample_of_the_cases(case: FieldCase, server: Server, backup_dir: Path) -> None:
    """The cases that tell most for their time."""
    run(case, server, backup_dir)


@pytest.mark.majors
@pytest.mark.parametrize(
    ("case", "programs"),
    [
        pytest.param(case, programs, id=f"{case.name}-pg{programs.major}")
        for programs in installations()
        for case in CASES
        if case.runs_on(programs.major)
    ],
)
def test_the_cases_on_every_major(
    case: FieldCase, programs: Installation, servers: Callable[[Installation], Server], backup_dir: Path
) -> None:
    """All cases; those with extensions that only one major has here run on that one."""
    run(case, servers(programs), backup_dir)
