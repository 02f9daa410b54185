"""Which files are the server's own log files, and which of them are old enough."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._diagnostics.disk.log_cleanup import (
    _remove,
    name_pattern,
    select,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import FileProblem, InvalidInput
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.base import FileInfo
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local_files import LocalFiles

NOW = datetime(2026, 3, 10, tzinfo=UTC)
DAY_S = 86400.0


@pytest.mark.parametrize(
    ("filename", "name", "ours"),
    [
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000.log", True),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000.csv", True),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000.json", True),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000.log.gz", False),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000", False),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "xpostgresql-2026-02-01_000000.log", False),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-2026-02-01_000000.log\n", False),
        ("postgresql-%Y-%m-%d_%H%M%S.log", "postgresql-notes.log", False),
        ("postgresql-%a.log", "postgresql-Mon.log", True),
        ("postgresql-%a.log", "postgresql-1.log", False),
        ("a.b%d.log", "a.b07.log", True),
        ("a.b%d.log", "axb07.log", False),
        ("100%%-%j.log", "100%-365.log", True),
        ("pg-%F", "pg-2026-02-01", True),
        ("pg-%F", "pg-2026-02-01.csv", True),
        ("pg-%F", "pg-2026-02-01.log", False),
        ("[%d]*.log", "[01]*.log", True),
        ("[%d]*.log", "1x.log", False),
    ],
)
def test_names(filename: str, name: str, ours: bool) -> None:
    assert bool(name_pattern(filename).fullmatch(name)) is ours


@pytest.mark.parametrize(
    "filename", ["postgresql.log", "100%%.log", "%d/x.log", "../%d.log", "%D.log", "%Q.log", "%EY.log"]
)
def test_names_that_could_be_anything_are_refused(filename: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be distinguished from other files"):
        name_pattern(filename)


def test_what_cannot_be_removed_ends_it_and_the_rest_is_told() -> None:
    class Stubborn(LocalFiles):
        def remove_file(self, path: str) -> None:
            if path == "/l/2":
                raise FileProblem("A file cannot be removed", subject=path)

    target = LocalTarget()
    target.files = Stubborn()
    due = [FileInfo(f"/l/{number}", False, 10, number) for number in range(4)]
    removed, problem = _remove(target, due)
    assert [each.path for each in removed] == ["/l/0", "/l/1"]
    assert problem is not None
    assert problem.subject == "/l/2"


def test_only_old_regular_files_that_are_not_current() -> None:
    then = NOW.timestamp() - 8 * DAY_S
    old = FileInfo("/l/old.log", False, 1, then)
    older = FileInfo("/l/older.log", False, 1, then - 1)
    found = [
        old,
        older,
        FileInfo("/l/young.log", False, 1, NOW.timestamp() - 6 * DAY_S),
        FileInfo("/l/current.log", False, 1, then),
        FileInfo("/l/directory.log", True, 0, then),
        FileInfo("/l/link.log", False, 1, then, irregular=True),
    ]
    assert select(found, {"current.log"}, 7 * DAY_S, NOW) == [older, old]
