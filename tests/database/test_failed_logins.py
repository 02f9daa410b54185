"""Why a connection failed, for every reason, from servers that do not speak English."""

from __future__ import annotations

import contextlib
import locale
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
import pytest

from ansible_collections.godel.postgres_runbook.plugins.module_utils._errors import ConnectionFailed
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres import login_failure
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Login
from ansible_collections.godel.postgres_runbook.plugins.module_utils._postgres.connection import Server as OurServer
from ansible_collections.godel.postgres_runbook.plugins.module_utils._target.local import LocalTarget
from tests.support.languages import GERMAN, Foreign, german, rewritten
from tests.support.processes import until
from tests.support.programs import installations
from tests.support.servers import PASSWORD, Server, ServerError

HBA = """
local all peered peer
host all ghost,nologin 127.0.0.1/32 trust
host all rejected 127.0.0.1/32 reject
hostssl all only_with_tls 127.0.0.1/32 scram-sha-256
host all missing_role,postgres,app,limited,with_library 127.0.0.1/32 scram-sha-256
"""
ROLES = """
CREATE ROLE nologin;
CREATE ROLE rejected LOGIN;
CREATE ROLE only_with_tls LOGIN;
CREATE ROLE app LOGIN PASSWORD '{password}';
CREATE ROLE limited LOGIN PASSWORD '{password}' CONNECTION LIMIT 0;
CREATE ROLE with_library LOGIN PASSWORD '{password}';
ALTER ROLE with_library SET session_preload_libraries = 'no_such_library';
"""
DATABASES = (
    "CREATE DATABASE filled CONNECTION LIMIT 0",
    "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
)
ENGLISH = re.compile(
    "does not exist|authentication failed|too many|not accepting|permission denied|could not|starting up"
)


def spoken() -> list[Any]:
    """Every major through a relay that rewrites its messages, and real German ones where there is a catalog."""
    ours = [pytest.param((each, False), id=f"rewritten{each.major}") for each in installations()]
    return ours + [pytest.param((each, True), id=f"german{each.major}") for each in german()]


def prepare(server: Server) -> None:
    """Give the server a login for each reason."""
    for statement in DATABASES:
        server.query(statement)
    server.query(ROLES.format(password=server.password))
    (server.data_dir / "pg_hba.conf").write_text(HBA)
    server.query("SELECT pg_reload_conf()")
    assert until(lambda: _refused_by_hba(server), 10)


def _refused_by_hba(server: Server) -> bool:
    try:
        server.connect(user="rejected").close()
    except psycopg2.OperationalError as exc:
        return "pg_hba.conf" in str(exc)
    return False


@pytest.fixture(params=spoken())
def place(request: pytest.FixtureRequest) -> Iterator[Foreign]:
    """A small server with every login, and a port on which it does not speak English."""
    installation, is_german = request.param
    settings = {"max_connections": 5, "superuser_reserved_connections": 2, "max_wal_senders": 0}
    settings |= GERMAN if is_german else {}
    with Server(installation, settings=settings, language="de" if is_german else "") as server:
        prepare(server)
        if is_german:
            yield Foreign(server, server.port)
            return
        with rewritten(server) as found:
            yield found


@pytest.fixture(autouse=True)
def our_process_speaks_german(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a module does under LANG=de_DE.UTF-8: ansible-core calls setlocale(LC_ALL, '')."""
    monkeypatch.setenv("LANGUAGE", "de")
    before = locale.setlocale(locale.LC_MESSAGES)
    locale.setlocale(locale.LC_MESSAGES, "C.UTF-8")
    yield
    assert locale.setlocale(locale.LC_MESSAGES) == "C.UTF-8"
    locale.setlocale(locale.LC_MESSAGES, before)


def failure(port: int, db: str = "postgres", **over: Any) -> ConnectionFailed:
    """The error of a connection to this port."""
    options = {
        "host": "127.0.0.1",
        "port": port,
        "user": "postgres",
        "password": PASSWORD,
        "ssl": {"sslmode": "disable"},
    }
    with (
        pytest.raises(ConnectionFailed) as caught,
        OurServer(LocalTarget(), Login(**{**options, **over})).connect(db),
    ):
        pass
    return caught.value


def reason(port: int, **over: Any) -> object:
    """The word for why a connection to this port failed."""
    return failure(port, **over).details["reason"]


REFUSALS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "role": ({"user": "ghost"}, "login_user"),
    "password": ({"password": "wrong"}, "login_password"),
    "no_password": ({"password": ""}, "login_password"),
    "pg_hba": ({"user": "rejected"}, "pg_hba.conf"),
    "no_database": ({"db": "postgers"}, "Did you mean 'postgres'?"),
    "database_closed": ({"db": "template0"}, "ALLOW_CONNECTIONS"),
    "no_connect_privilege": ({"user": "app", "db": "template1"}, "GRANT CONNECT"),
    "database_full": ({"user": "app", "db": "filled"}, "ALTER DATABASE ... CONNECTION LIMIT"),
    "role_full": ({"user": "limited"}, "ALTER ROLE ... CONNECTION LIMIT"),
    "library": ({"user": "with_library"}, "session_preload_libraries"),
    "settings": ({"connect_params": {"options": "-c no_such_setting=1"}}, "connect_params"),
}
MORE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "may not log in": ("role", {"user": "nologin"}),
    "no role, but a password": ("password", {"user": "missing_role"}),
    "no entry": ("pg_hba", {"user": "stranger"}),
    "with TLS only": ("pg_hba", {"user": "only_with_tls"}),
    "invalid value": ("settings", {"connect_params": {"options": "-c work_mem=much"}}),
    "no privilege to set": ("settings", {"user": "app", "connect_params": {"options": "-c lc_messages=C"}}),
}


def test_every_reason_is_known_in_every_language(place: Foreign) -> None:
    what_the_server_refuses(place)
    what_is_wrong_on_the_way(place)
    a_full_server_then_one_that_stops_and_recovers(place)


def what_the_server_refuses(place: Foreign) -> None:
    found = {word: failure(place.port, **over) for word, (over, dummy) in REFUSALS.items()}
    assert {word: error.details["reason"] for word, error in found.items()} == {word: word for word in REFUSALS}
    assert [word for word, (dummy, remedy) in REFUSALS.items() if remedy not in found[word].remedy] == []
    assert [error.why for error in found.values() if ENGLISH.search(error.why)] == []
    more = {case: reason(place.port, **over) for case, (dummy, over) in MORE.items()}
    assert more == {case: word for case, (word, dummy) in MORE.items()}


def what_is_wrong_on_the_way(place: Foreign) -> None:
    direct = place.server.port
    found = {
        "refused": failure(_closed_port()),
        "unknown_host": failure(place.port, host="no-such-host.invalid"),
        "no_socket": failure(place.port, unix_socket=str(place.server.folder)),
        "tls": failure(direct, ssl={"sslmode": "require"}),
        "peer": failure(direct, unix_socket=str(place.server.socket_dir), user="peered"),
    }
    assert {word: error.details["reason"] for word, error in found.items()} == {word: word for word in found}
    assert "the server runs" in found["refused"].remedy
    assert "ssl_mode" in found["tls"].remedy
    assert "ansible_become: true" in found["peer"].remedy


def a_full_server_then_one_that_stops_and_recovers(place: Foreign) -> None:
    server = place.server
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.closing(server.connect(user="app"))) for dummy in range(3)]
        assert reason(place.port, user="app") == "server_full"  # but for superusers
        held += [stack.enter_context(contextlib.closing(server.connect())) for dummy in range(2)]
        full = failure(place.port)
        assert full.details["reason"] == "server_full"
        assert "terminate_sessions" in full.remedy
        held.pop().close()
        os.kill(server.pid, signal.SIGTERM)  # a smart shutdown waits for the others
        assert until(lambda: reason(place.port) == "not_ready", 10)
    assert until(lambda: not server.running, 20)

    def start() -> None:
        with contextlib.suppress(ServerError):  # it is killed
            server.start()

    (server.data_dir / "recovery.signal").touch()
    server.settings["restore_command"] = "sleep 60"
    starter = threading.Thread(target=start, daemon=True)
    starter.start()
    try:
        assert until(lambda: reason(place.port) == "not_ready", 20)
    finally:
        server.kill()
        starter.join()


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("word", "answer"),
    [("not_postgres", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("closed", b""), ("timeout", None)],
)
def test_another_program_none_at_all_and_a_silent_one(word: str, answer: bytes | None) -> None:
    peers = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, dummy = listener.accept()
                peers.append(stack.enter_context(peer))
                if answer is not None:
                    with contextlib.suppress(OSError):
                        peer.recv(1024)
                        peer.sendall(answer)
                    peer.close()

    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        found = reason(listener.getsockname()[1], connect_params={"connect_timeout": "2"})
        listener.shutdown(socket.SHUT_RDWR)
    assert found == word
    assert len(peers) == 1 or word != "timeout"  # which is not waited for twice


def test_every_reason_has_a_headline_of_its_own_and_a_remedy() -> None:
    assert len(login_failure.REASONS) == len({each.headline for each in login_failure.REASONS.values()})
    assert all(each.remedy for each in login_failure.REASONS.values())
