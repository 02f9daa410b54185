"""The step that helps, for a connection that failed and for a statement that the server refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection_errors import refused
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.login_failure import (
    Answer,
    LoginFailure,
    LoginRefusal,
    classify,
    not_connected,
)
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.login_probe import read
from ansible_collections.godel.postgres_runbook.plugins.module_utils._restore.waits import _wanted

SOCKET = 'connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: '


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(refusals=(LoginRefusal("28000", "auth_failed"),)), "ansible_become: true"),
        (Answer(refusals=(LoginRefusal("28000", "auth_failed"),), password_used=True), "pg_hba.conf"),  # LDAP, PAM
        (Answer(refusals=(LoginRefusal("3D000", "InitPostgres"),)), "Did you mean 'shop'?"),
        (Answer(refusals=(LoginRefusal("28000", "InitializeSessionUserId"),)), "login_user"),
        (Answer(refusals=(LoginRefusal("28P01", "auth_failed"),)), "login_password"),
        (Answer(refusals=(LoginRefusal("28P01"),)), "login_password"),  # as a pooler answers
        (Answer(refusals=(LoginRefusal("58P01", "internal_load_library"),)), "session_preload_libraries"),
        (Answer(refusals=(LoginRefusal("XX000", "incompatible_module_error"),)), "session_preload_libraries"),
        (Answer(refusals=(LoginRefusal("P0001", "exec_stmt_raise"),)), "server's log"),  # an event trigger for logins
        (
            Answer(refusals=(LoginRefusal("28000", "ClientAuthentication"), LoginRefusal("28P01", "auth_failed"))),
            "login_password",
        ),
        (Answer(refusals=(LoginRefusal("08006"),)), "port-forward"),
        (Answer(succeeded=True), "Run this again"),
        (read("SSL SYSCALL error: EOF detected"), "the server runs"),
        (read(f"{SOCKET}Permission denied"), "ansible_become_user"),
        (read(f"{SOCKET}Connection refused"), "the server runs"),
        (read("server does not support SSL, but SSL was required"), "ssl_mode"),
        (read('root certificate file "/x" does not exist'), "ca_cert"),
        (read("session is read-only"), "the server runs"),
    ],
)
def test_a_failed_connection_has_a_step_that_helps(answer: Answer, said: str) -> None:
    reason = classify(answer, socket=True)
    error = not_connected("database 'shpo'", "shpo", "postgres", LoginFailure("x", reason), ["other", "shop"])
    assert said in error.message
    assert error.details == {"sqlstate": "", "reason": reason.word}


def test_a_text_of_two_attempts_has_two_refusals() -> None:
    text = """FATAL:  28P01: Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen
ORT:  auth_failed, auth.c:331
Verbindung zum Server auf »db«, Port 5432 fehlgeschlagen: ВАЖНО:  28000: 没有用于主机
DETAIL:  x
HINT:  y
MESTO:  ClientAuthentication, auth.c:543
"""
    assert read(text).refusals == (LoginRefusal("28P01", "auth_failed"), LoginRefusal("28000", "ClientAuthentication"))
    assert read("FATAL:  08P01: no such user\n").refusals == (LoginRefusal("08P01"),)


class _Refusal(Exception):
    pgcode = ""
    diag = SimpleNamespace(source_function="")


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


@pytest.mark.parametrize(
    ("code", "function", "conflict"),
    [
        ("40001", "ProcessInterrupts", True),
        ("40001", "ProcessRecoveryConflictInterrupt", True),
        ("40P01", "CheckRecoveryConflictDeadlock", True),
        ("40001", "heapam_tuple_update", False),
        ("40P01", "DeadLockReport", False),
        ("57014", "ProcessInterrupts", False),
    ],
)
def test_a_conflict_with_replay_is_known_by_its_function(code: str, function: str, conflict: bool) -> None:
    error = _Refusal("Anweisung wird storniert")
    error.pgcode, error.diag = code, SimpleNamespace(source_function=function)
    assert refused(error).details["conflict"] is conflict
