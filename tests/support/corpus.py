"""Cases from the field: small databases with a trait, and what has to come of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import RunbookError
from ansible_collections.godel.postgres_runbook.plugins.modules import (
    pg_backup,
    pg_database_swap,
    pg_restore,
    pg_restore_verify,
)
from tests.support.backups import params as backup_params
from tests.support.databases import Database, new_database, unique_name
from tests.support.extended import MAJOR, installation
from tests.support.modules import Result
from tests.support.operations import attempt
from tests.support.servers import Server
from tests.support.workspace import REPOSITORY, workspace

CORPUS = REPOSITORY / "tests" / "corpus"
_ROWS = """
SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
_SUBSCRIPTIONS = """
SELECT quote_ident(subname) FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()
"""


@dataclass(frozen=True)
class FieldCase:
    """A file of `tests/corpus/cases`, and what has to come of it.

    Attributes:
        name: the file's name without its suffix.
        verdict: what a verification in a scratch instance says.
        says: patterns, each of which is in the verdict's reason or notes.
        findings: patterns, each of which is in the message of a finding of the backup.
        not_dumped: a pattern of the error by which the backup is refused; None where it succeeds.
        refused: a pattern of the error by which the restore is refused; None where it succeeds.
        answers: queries with their answers, in production before the restore, after it, and after the way back.
        settings: those of a server of its own.
        packages: Debian packages for that server, without `postgresql-15-`. It has those of `tests/corpus/extensions`.
        prepare: what is done to the empty database before the file is loaded.
        after: what is done when the file is loaded.
        backup: options of pg_backup.
        verify: options of pg_restore_verify.
        restore: options of pg_restore.
        since: the first major that knows what the file has in it.
        majors: `make test-majors` runs it on every major at hand, otherwise on that of `packages` alone.
        quick: it is a part of the sample that `make test` runs.
    """

    name: str
    verdict: str = "verified"
    says: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    not_dumped: str | None = None
    refused: str | None = None
    answers: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] | None = None
    packages: tuple[str, ...] | None = None
    prepare: Callable[[Database], object] | None = None
    after: Callable[[Database], object] | None = None
    backup: Mapping[str, Any] = field(default_factory=dict)
    verify: Mapping[str, Any] = field(default_factory=dict)
    restore: Mapping[str, Any] = field(default_factory=dict)
    since: int = 14
    majors: bool = True
    quick: bool = False

    @property
    def own_server(self) -> bool:
        """Whether it needs a server that others do not have."""
        return self.settings is not None or self.packages is not None

    def runs_on(self, major: int) -> bool:
        """Whether a server of this major can have it."""
        return major >= self.since if self.majors and self.packages is None else major == MAJOR

    @property
    def path(self) -> Path:
        """The file."""
        return CORPUS / "cases" / f"{self.name}.sql"


@contextmanager
def served(case: FieldCase, server: Server) -> Iterator[Server]:
    """The server for a case: this one, or one of its own with what the case asks for."""
    if not case.own_server:
        yield server
        return
    packages = case.packages
    programs = server.installation if packages is None else installation("-".join(["cases", *packages]), *packages)
    with Server(programs, settings=case.settings) as own:
        yield own


@contextmanager
def loaded(case: FieldCase, server: Server) -> Iterator[Database]:
    """The case as a database; it, and all that is made of it, is dropped at the end."""
    database = new_database(server, unique_name("case"))
    try:
        if case.prepare:
            case.prepare(database)
        database.run(
            "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", f"--file={case.path}"
        )
        if case.after:
            case.after(database)
        yield database
    finally:
        for name in server.databases():
            if f"{name}_".startswith(f"{database.name}_"):
                server.psql(f'ALTER DATABASE "{name}" IS_TEMPLATE false')
                for (subscription,) in Database(server, name).query(_SUBSCRIPTIONS):
                    Database(server, name).execute(f"DROP SUBSCRIPTION {subscription}")
                server.drop_database(name)


def check(case: FieldCase, database: Database, backup_dir: Path, scratch: Path) -> None:
    """Back it up, verify, restore and roll back, and hold what comes of it against what the case says."""
    assert_answers(case, database, "before")
    options = backup_params(database, backup_dir)
    if case.not_dumped is not None:
        error = refusal(pg_backup, database, {**options, **case.backup})
        assert re.search(case.not_dumped, error), error
        assert not list(backup_dir.rglob("manifest.json"))
        return
    taken = attempt(pg_backup, database, **{**options, **case.backup})
    messages = "\n".join(str(finding["message"]) for finding in taken.get("findings", []))
    assert_all_in(case.findings, messages)
    where = {**options, "scratch_dir": str(scratch)}
    proof = attempt(pg_restore_verify, database, **{**where, **case.verify})
    told = "\n".join([str(proof["why"]), *proof["notes"]])
    differences = "\n".join(map(str, proof["differences"]))
    assert proof["verdict"] == case.verdict, f"{proof['verdict']}: {told}\n{differences}"
    assert_all_in(case.says, told)
    rows = contents(database)
    restored = {**where, "scratch_dir": str(workspace()), "backup": taken["backup"]["id"], **case.restore}
    if case.refused is not None:
        error = refusal(pg_restore, database, restored)
        assert re.search(case.refused, error), error
        assert contents(database) == rows
        return
    attempt(pg_restore, database, **restored)
    attempt(pg_database_swap, database, **{**database.login(), "grace": "0"})
    assert_answers(case, database, "after the restore")
    assert contents(database) == rows
    attempt(pg_database_swap, database, **{**database.login(), "grace": "0", "replacement": "replaced"})
    assert_answers(case, database, "after the rollback")
    assert contents(database) == rows


def refusal(module: ModuleType, database: Database, options: Mapping[str, Any]) -> str:
    """The error by which a module refuses its work, all of its parts."""
    try:
        result: Result = attempt(module, database, **options)
    except RunbookError as exc:
        return "\n".join(map(str, (exc.message, exc.why, exc.remedy)))
    raise AssertionError(f"it was not refused: {result['msg']}")


def contents(database: Database) -> dict[str, object]:
    """The number of rows of each table, partitions by themselves."""
    return {name: database.query(f"SELECT count(*) FROM ONLY {name}")[0][0] for (name,) in database.query(_ROWS)}


def assert_answers(case: FieldCase, database: Database, when: str) -> None:
    """Each query has the answer that the case gives."""
    for query, answer in case.answers.items():
        found = database.query(query)[0][0]
        assert found == answer, f"{when}: {query} says {found!r}, not {answer!r}"


def assert_all_in(patterns: tuple[str, ...], text: str) -> None:
    """Each pattern is in the text."""
    for pattern in patterns:
        assert re.search(pattern, text), f"{pattern!r} is not in: {text}"
