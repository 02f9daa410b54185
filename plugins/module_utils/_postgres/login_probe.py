# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in once more after a failed connection, so that libpq prints the SQLSTATE.

psycopg2 has no SQLSTATE for a connection that failed, and the text is in the language of the server (lc_messages), of
libpq and of the C library (LC_MESSAGES of this process). An asynchronous connection can be set to verbose before
the server answers (PQsetErrorVerbosity). libpq then prints the code and the C function that raised the error, which are
the same in every language. psycopg2 does not wrap that call, and links the library that has it.
https://www.postgresql.org/docs/current/libpq-control.html#LIBPQ-PQSETERRORVERBOSITY
"""

from __future__ import annotations

import ctypes
import errno
import locale
import os
import re
import select
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from .login_failure import TIMEOUT, Answer, LoginFailure, LoginRefusal, classify

with suppress(ImportError):  # `connection` says so when it is missing
    import psycopg2
    import psycopg2.extensions

_VERBOSE = 2  # PQERRORS_VERBOSE
# "FATAL:  3D000: ...", then perhaps DETAIL and HINT, then "LOCATION:  InitPostgres, postinit.c:948". Poolers send no
# location. Words such as FATAL are translated; two spaces follow each of them in every catalog.
_REFUSAL = re.compile(r":  ([0-9A-Z]{5}): ")
_FUNCTION = re.compile(r":  (\w+), [^\s:]+:\d+\s*$", re.M)
_ERRNOS = (
    errno.ECONNREFUSED,
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.ECONNRESET,
    errno.EPIPE,
)
_TIMEOUT_S = 10.0
_QUICK_S = 5.0  # an attempt that took longer is not repeated
_SAME_INSTANT_S = 0.5
_ONE_AT_A_TIME = threading.Lock()  # the locale is that of the process


def explain(exc: Exception, parameters: Mapping[str, Any], took_s: float, *, forwarded: bool = False) -> LoginFailure:
    """Why a connection failed, by another attempt with the same libpq parameters.

    Args:
        exc: what psycopg2 raised.
        took_s: how long the attempt took, in seconds.
        forwarded: the connection leads through a port-forward, and reaches the server over TCP.
    """
    text = str(exc).strip()
    limit_s = _seconds(str(parameters.get("connect_timeout", "")))
    if limit_s and took_s >= limit_s - _SAME_INSTANT_S:
        return LoginFailure(f"{text.rstrip('.')} (within {limit_s} s)", TIMEOUT)
    answer = ask(parameters, limit_s or _TIMEOUT_S) if took_s < _QUICK_S else Answer()
    if not answer.text and not answer.succeeded:
        answer = read(text)
    host = str(parameters.get("host", ""))
    socket = host.startswith(("/", "@")) or not (host or "hostaddr" in parameters)
    reason = classify(answer, socket=socket and not forwarded)
    if isinstance(exc, UnicodeError) and answer.text:
        text = answer.text
    return LoginFailure(text, reason, answer.refusals[0].sqlstate if answer.refusals else "")


def databases(parameters: Mapping[str, Any], through: Sequence[str]) -> list[str]:
    """The names of the server's databases, read in one of those named; empty when it cannot be asked."""
    for db in through:
        with (
            suppress(psycopg2.Error),
            closing(psycopg2.connect(**{**parameters, "dbname": db})) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT datname::text FROM pg_catalog.pg_database WHERE NOT datistemplate")
            return [str(row[0]) for row in cursor.fetchall()]
    return []


def _seconds(text: str) -> int:
    """As libpq takes a connect_timeout: 1 is 2, and 0 is no limit."""
    try:
        number = int(text)
    except ValueError:
        return 0
    return max(number, 2) if number > 0 else 0


def ask(parameters: Mapping[str, Any], timeout_s: float) -> Answer:
    """Log in with these libpq parameters, and close the connection.

    Args:
        timeout_s: how long to wait for the server, in seconds.
    """
    with _english():
        try:
            connection = psycopg2.connect(**parameters, async_=1)
        except (psycopg2.Error, UnicodeError, ValueError) as exc:  # before anything was sent
            return read(str(exc))
        try:
            return _follow(connection, timeout_s)
        finally:
            with suppress(psycopg2.Error):
                connection.close()


def read(text: str, **more: Any) -> Answer:
    """The answer in a text of libpq, verbose or not."""
    found = []
    starts = list(_REFUSAL.finditer(text))
    for match, following in zip(starts, [*starts[1:], None]):
        function = _FUNCTION.search(text, match.end(), following.start() if following else len(text))
        found.append(LoginRefusal(match[1], function[1] if function else ""))
    errnos = frozenset(number for number in _ERRNOS if os.strerror(number) in text)
    return Answer(text, tuple(found), errnos, **more)


def _follow(connection: Any, timeout_s: float) -> Answer:
    library = _libpq()
    if library is not None:
        library.PQsetErrorVerbosity(connection.pgconn_ptr, _VERBOSE)
    deadline = time.monotonic() + timeout_s
    try:
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            line = [connection.fileno()]
            reads, writes = (line, []) if state == psycopg2.extensions.POLL_READ else ([], line)
            if not any(select.select(reads, writes, [], max(0.0, deadline - time.monotonic()))):
                return Answer()
    except (psycopg2.Error, UnicodeError) as exc:  # the latter: the text is in another encoding
        if library is None:
            return read(str(exc))
        handle = connection.pgconn_ptr
        return read(
            library.PQerrorMessage(handle).decode("utf-8", "replace"),
            password_missing=bool(library.PQconnectionNeedsPassword(handle)),
            password_used=bool(library.PQconnectionUsedPassword(handle)),
        )
    return Answer(succeeded=True)


def _libpq() -> Any:
    """The libpq that psycopg2 is linked with; None where its functions cannot be found."""
    try:
        library = ctypes.CDLL(psycopg2._psycopg.__file__)
        library.PQsetErrorVerbosity.argtypes = (ctypes.c_void_p, ctypes.c_int)
        library.PQerrorMessage.argtypes = (ctypes.c_void_p,)
        library.PQerrorMessage.restype = ctypes.c_char_p
        library.PQconnectionNeedsPassword.argtypes = (ctypes.c_void_p,)
        library.PQconnectionUsedPassword.argtypes = (ctypes.c_void_p,)
    except (OSError, AttributeError):  # linked statically
        return None
    return library


@contextmanager
def _english() -> Iterator[None]:
    """Let libpq and the C library speak English, as they do in programs that run under LC_ALL=C."""
    with _ONE_AT_A_TIME:
        before = locale.setlocale(locale.LC_MESSAGES)
        locale.setlocale(locale.LC_MESSAGES, "C")
        try:
            yield
        finally:
            with suppress(locale.Error):
                locale.setlocale(locale.LC_MESSAGES, before)
