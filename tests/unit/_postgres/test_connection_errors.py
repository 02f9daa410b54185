"""The step that helps, for a connection that failed and for a statement that the server refused."""

from __future__ import annotations

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection_errors import (
    not_connected,
    refused,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.waits import _wanted

SOCKET = 'connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: '


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{SOCKET}FATAL:  Peer authentication failed for user "postgres"', "ansible_become: true"),
        (f"{SOCKET}FATAL:  Peer-Authentifizierung für Benutzer »postgres« fehlgeschlagen", "login_password"),
        (f"{SOCKET}Permission denied", "ansible_become_user"),
        ('FATAL:  database "shpo" does not exist', "Did you mean 'shop'?"),
        ('FATAL:  role "x" does not exist', "login_user"),
        ('FATAL:  password authentication failed for user "x"', "pg_hba.conf"),
        ('FATAL:  could not access file "audit": No such file or directory', "session_preload_libraries"),
        ("Connection refused", "the server runs"),
    ],
)
def test_a_failed_connection_has_a_step_that_helps(text: str, said: str) -> None:
    assert said in not_connected("database 'shpo'", "shpo", "postgres", text, ["other", "shop"]).message


class _Refusal(Exception):
    pgcode = ""


@pytest.mark.parametrize(("code", "said"), [("42501", "as the owner"), ("40001", "hot_standby_feedback")])
def test_a_refused_statement_has_a_step_that_helps(code: str, said: str) -> None:
    error = _Refusal("must be owner of table users")
    error.pgcode = code
    assert said in refused(error).message


@pytest.mark.parametrize(
    ("names", "count"),
    [("", 0), ("s1", 1), ("s1, s2", 1), ("*", 1), ("2 (s1, s2)", 2), ("FIRST 1 (a, b)", 1), ("any 2 (a,b,c)", 2)],
)
def test_how_many_standbys_a_commit_waits_for(names: str, count: int) -> None:
    assert _wanted(names) == count
