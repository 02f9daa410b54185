# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A psycopg2 session: `query()` reads, `execute()` writes, and writes are gated once for check mode."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

from .._errors import ConnectionFailed, InvalidInput, MissingLibrary, QueryFailed
from .._target.base import Target
from . import login_failure
from .any_text import as_bytes, escaped, readable
from .connection_errors import refused
from .statements import local_settings, with_values

try:  # not when it is needed: a signal that comes while it is loaded would be lost
    import psycopg2
    import psycopg2.extensions
    import psycopg2.extras
    from psycopg2 import sql

    from . import login_probe

    _MISSING = ""
except ImportError as exc:
    _MISSING = str(exc)

# Every session of this collection, and of a program under it, has a name that begins with this word, so that others can
# tell that a procedure runs: `pg_runbook backup`, `pg_runbook backup (pg_dump)`.
APPLICATION = "pg_runbook"
# The databases to connect to while others are created and dropped. The second one blocks CREATE DATABASE meanwhile.
MAINTENANCE_DB, _LAST_DB = "postgres", "template1"
_QUICK_S = 5.0
# libpq sends these variables as settings, which win over those of the database and the role, and decide what a load
# computes. "default" is its word for none. https://www.postgresql.org/docs/current/libpq-envars.html
_NO_SETTINGS = dict.fromkeys(("PGTZ", "PGDATESTYLE", "PGGEQO"), "default")
_CONNECT_TIMEOUT_S = 10
_GRACE_S = 2.0  # after the server's own limit, which leaves the connection in order
_IDLE, _ACTIVE = 0, 1  # of PQtransactionStatus: no transaction, and a command is in progress
# unnest() of several arrays is only known by its bare name.
_SET = (
    "SELECT pg_catalog.set_config(name, value, false)"
    " FROM unnest(%s::pg_catalog.text[], %s::pg_catalog.text[]) AS setting (name, value)"
)


@dataclass(frozen=True)
class Login:
    """How libpq logs in; options are named as in community.postgresql.

    `connect_params` are libpq parameters that override. `work` names the procedure (`backup`, `verify` ...) in the
    application_name of its sessions.
    """

    host: str = ""
    port: int = 5432
    user: str = "postgres"
    password: str = field(default="", repr=False)
    unix_socket: str = ""
    ssl: Mapping[str, str] = field(default_factory=dict)
    connect_params: Mapping[str, str] = field(default_factory=dict, repr=False)
    work: str = ""

    @classmethod
    def from_params(cls, params: Mapping[str, Any], work: str = "") -> Login:
        """The login that a module's parameters describe (`CONNECTION` in `_argspec`)."""
        ssl = {"sslmode": params["ssl_mode"]}
        for option, parameter in (("ca_cert", "sslrootcert"), ("ssl_cert", "sslcert"), ("ssl_key", "sslkey")):
            if params[option]:
                ssl[parameter] = params[option]
        _check_port(params["connect_params"].get("port", params["login_port"]))
        if "sslpassword" in params["connect_params"]:  # libpq takes it from arguments only, where ps shows it
            raise InvalidInput(
                "Invalid connect_params",
                subject="sslpassword",
                why="it would appear in the process list",
                remedy="Use a client key without a passphrase that only this account can read.",
            )
        return cls(
            host=params["login_host"],
            port=params["login_port"],
            user=params["login_user"],
            password=params["login_password"],
            unix_socket=params["login_unix_socket"],
            ssl=ssl,
            connect_params={name: str(value) for name, value in params["connect_params"].items()},
            work=work,
        )

    def application(self, program: str = "") -> str:
        """The application_name of a session: of ours, or of a program that we start. The user's own name comes last."""
        own = self.connect_params.get("application_name")
        name = " ".join(filter(None, (APPLICATION, self.work))) + (f" ({program})" if program else "")
        return f"{name}, {own}" if own else name

    def parameters(self, db: str, program: str = "") -> dict[str, str]:
        """Every libpq parameter, secrets among them.

        https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
        """
        found = {
            "host": self.unix_socket or self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "connect_timeout": str(_CONNECT_TIMEOUT_S),
            **self.ssl,
            **self.connect_params,
            "application_name": self.application(program),
            "dbname": db,
        }
        return {name: value for name, value in found.items() if value}

    def conninfo(self, db: str, program: str) -> str:
        """A connection string without secrets, fit for the arguments of the named program."""
        parameters = self.parameters(db, program)
        parameters.pop("password", None)
        return " ".join(f"{name}={_quote(value)}" for name, value in parameters.items())

    def environ(self) -> dict[str, str]:
        """What goes into a program's environment: the secrets, and no settings of the account that runs it."""
        password = self.parameters("-").get("password")
        return {**_NO_SETTINGS, **({"PGPASSWORD": password} if password else {})}


def _check_port(port: object) -> None:
    if not re.fullmatch(r"[0-9]{1,5}", str(port)) or not 0 < int(str(port)) < 65536:
        raise InvalidInput(
            "Invalid login_port", subject=repr(port), why="it is not a port", remedy="Use one number from 1 to 65535."
        )


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Session:
    """One connection in autocommit mode. Rows are named tuples."""

    def __init__(
        self,
        connection: Any,
        check_mode: bool,
        cancel: Callable[[], None] | None = None,
        *,
        patience_s: float | None = None,
        local: Mapping[str, str] | None = None,
        any_text: bool = False,
    ) -> None:
        """A session that is open already.

        Args:
            patience_s: how long to wait for an answer, in seconds, before the connection is given up.
            local: settings for each transaction, which go with its first statement.
            any_text: take texts that are not UTF-8, with a sign in place of what cannot be read.
        """
        self._connection = connection
        self._check_mode = check_mode
        self._cancel = cancel
        self._patience_s = patience_s
        self._local = local_settings(local) if local else None
        self._any_text = any_text
        self._silent = False
        if any_text:
            as_bytes(connection)

    def query(self, statement: Any, params: Sequence[object] | Mapping[str, object] | None = None) -> list[Any]:
        """Read: run a statement that changes nothing and return its rows.

        Raises:
            QueryFailed: with the SQLSTATE in `details`.
        """
        return self._run(statement, params)

    def texts(self, statement: str) -> list[dict[str, Any]]:
        """Read rows by the names of their columns. In a database without an encoding, texts need not be UTF-8.

        Bytes that cannot be read come as lone surrogates, as with Python's `surrogateescape`, and can be encoded again.
        """
        with self._awaiting(), _mapped_errors(), self._connection.cursor() as cursor:
            unknown = self._connection.info.parameter_status("server_encoding") == "SQL_ASCII"
            if unknown:  # the server would refuse to send what is not UTF-8
                cursor.execute("SET client_encoding = 'SQL_ASCII'")
            psycopg2.extensions.register_type(psycopg2.extensions.BYTES, cursor)
            cursor.execute(statement)
            names = [column.name for column in cursor.description]
            rows = [dict(zip(names, map(escaped, row))) for row in cursor.fetchall()]
            if unknown:
                cursor.execute("SET client_encoding = 'UTF8'")
            return rows

    def value(self, statement: Any, params: Sequence[object] | Mapping[str, object] | None = None) -> Any:
        """Read one value: the first column of the first row."""
        return self._run(statement, params)[0][0]

    def execute(self, statement: Any, params: Sequence[object] | Mapping[str, object] | None = None) -> None:
        """Write: run a statement that changes something; in check mode it is not sent."""
        if not self._check_mode:
            self._run(statement, params)

    def copy_out(self, statement: str, write: Callable[[bytes], object]) -> None:
        """Read by `COPY ... TO STDOUT`: what the server sends is handed to `write`, piece by piece.

        Raises:
            QueryFailed: with the SQLSTATE in `details`.
        """
        with self._awaiting(), _mapped_errors(), self._connection.cursor() as cursor:
            cursor.copy_expert(statement, SimpleNamespace(write=write))

    @property
    def backend_pid(self) -> int:
        """The server process by the handshake; a pooler in between reports a pid of its own."""
        return int(self._connection.info.backend_pid)

    @property
    def server_version(self) -> int:
        """As `server_version_num`: 150004 for 15.4."""
        return int(self._connection.server_version)

    def cancel(self) -> None:
        """Ask the server to end the running statement; callable from another thread."""
        with _mapped_errors():
            if self._cancel is None:
                self._connection.cancel()
            elif self._connection.info.transaction_status == _ACTIVE:
                self._cancel()

    def _run(self, statement: Any, params: Any) -> list[Any]:
        rows = psycopg2.extras.NamedTupleCursor
        if self._local is not None and self._connection.info.transaction_status == _IDLE:
            text = sql.SQL(statement) if isinstance(statement, str) else statement
            statement = sql.Composed([*self._local.seq, *(text.seq if isinstance(text, sql.Composed) else [text])])
        if params is not None:
            statement = with_values(statement, self._connection)
        relayed = self._cancel is not None
        with self._awaiting(), _mapped_errors(relayed=relayed), self._connection.cursor(cursor_factory=rows) as cursor:
            cursor.execute(statement, params)
            found = list(cursor.fetchall()) if cursor.description else []
            return readable(found, cursor.description) if self._any_text else found

    @contextmanager
    def _awaiting(self) -> Iterator[None]:
        """End the connection when there is no answer in time.

        `statement_timeout` is kept by the server: one that is stopped, or that a network hides, does not keep it.
        """
        if self._patience_s is None:
            yield
            return
        watch = threading.Timer(self._patience_s, self._hang_up)
        watch.daemon = True
        watch.start()
        try:
            yield
        except QueryFailed:
            if not self._silent:
                raise
            raise QueryFailed(
                "The server did not answer",
                why=f"there was no answer for {self._patience_s:g} s, and none by its own statement_timeout",
                remedy="Check whether its processes are stopped or wait for a disk (ps: T or D), and the network.",
                details={"sqlstate": "", "lost": True},
            ) from None
        finally:
            watch.cancel()

    def _hang_up(self) -> None:
        """Shut the socket: libpq, which waits in another thread, sees its end. The descriptor stays libpq's own."""
        self._silent = True
        with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


@contextmanager
def _mapped_errors(*, relayed: bool = False) -> Iterator[None]:
    try:
        yield
    except UnicodeError as exc:
        raise QueryFailed(
            "A text cannot be converted between the server and this session",
            why=str(exc),
            remedy="A name of a database or a role is not UTF-8, perhaps of another database's encoding: rename it.",
            details={"sqlstate": "", "lost": False},
        ) from None
    except psycopg2.Error as exc:
        raise refused(exc, relayed=relayed) from None


def _cancel_backend(parameters: Mapping[str, Any], pid: int) -> None:
    with closing(psycopg2.connect(**parameters)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (pid,))


class Server:
    """A running PostgreSQL as seen from a target. Opens sessions; keeps none."""

    def __init__(self, target: Target, login: Login, *, check_mode: bool = False) -> None:
        self.target = target
        self.login = login
        self._check_mode = check_mode

    @contextmanager
    def connect(
        self, db: str, *, settings: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> Iterator[Session]:
        """A session with a database, with the given settings made for it; closed on exit.

        Args:
            timeout_s: how long a statement may take, in seconds, whether the server keeps it or not. This and the other
                settings then hold for each transaction only: in the pool of a PgBouncer, those of a session would
                outlive it and meet the queries of others. Such a session tells people what there is: names of shared
                catalogs need not be UTF-8, and then have a sign in place of what cannot be read.

        Raises:
            MissingLibrary: psycopg2 is not installed for the module's Python.
            ConnectionFailed: no server, no such database, or a refused login.
        """
        if _MISSING:
            raise MissingLibrary(
                "The Python library psycopg2 is missing",
                subject=self.target.name,
                why=_MISSING,
                remedy="Install psycopg2-binary for the Python that ansible_python_interpreter names.",
            )
        with ExitStack() as stack:
            parameters: dict[str, Any] = dict(self.login.parameters(db))
            endpoint = stack.enter_context(self.target.endpoint(parameters.get("host"), int(parameters["port"])))
            if endpoint.host is not None:
                parameters["host"] = endpoint.host
            parameters["port"] = str(endpoint.port)
            parameters["client_encoding"] = "UTF8"
            os.environ.update(_NO_SETTINGS)
            began = time.monotonic()
            try:
                connection = psycopg2.connect(**parameters)
            except (psycopg2.Error, UnicodeError, ValueError) as exc:
                raise self._connection_failed(db, exc, parameters, time.monotonic() - began) from None
            stack.callback(connection.close)
            connection.autocommit = True
            # psycopg2 keeps all other threads waiting while it cancels, and so would wait for our own port-forward.
            through_us = self.target.connections_may_break
            cancel = partial(_cancel_backend, parameters, connection.info.backend_pid) if through_us else None
            if timeout_s is not None:
                local = {**(settings or {}), "statement_timeout": str(max(1, round(timeout_s * 1000)))}  # 0 is no limit
                session = Session(
                    connection, self._check_mode, cancel, patience_s=timeout_s + _GRACE_S, local=local, any_text=True
                )
            else:
                session = Session(connection, self._check_mode, cancel)
                if settings:
                    session.query(_SET, (list(settings), list(settings.values())))
            yield session

    @contextmanager
    def connect_aside(
        self, *, settings: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> Iterator[Session]:
        """A session for work on whole databases: with `postgres`, or with `template1` where that was dropped."""
        with ExitStack() as stack:
            began = time.monotonic()
            try:
                session = stack.enter_context(self.connect(MAINTENANCE_DB, settings=settings, timeout_s=timeout_s))
            except ConnectionFailed as exc:
                if time.monotonic() - began > _QUICK_S:  # the server does not answer
                    raise
                try:
                    session = stack.enter_context(self.connect(_LAST_DB, settings=settings, timeout_s=timeout_s))
                except ConnectionFailed:
                    raise exc from None
            yield session

    def _connection_failed(
        self, db: str, exc: Exception, parameters: Mapping[str, Any], took_s: float
    ) -> ConnectionFailed:
        where = self.login.unix_socket or self.login.host or "the default socket"
        subject = f"database {db!r} on {where}, port {self.login.port}, as {self.login.user}"
        through_us = self.target.connections_may_break
        failure = login_probe.explain(exc, parameters, took_s, forwarded=through_us)
        missing = failure.reason is login_failure.NO_DATABASE
        names = login_probe.databases(parameters, (MAINTENANCE_DB, _LAST_DB)) if missing else []
        return login_failure.not_connected(subject, db, self.login.user, failure, names)
