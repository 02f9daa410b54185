# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own sessions on a copy: they have the settings of the source, but for those that would stop or change the work.

Settings that a client asks for in `options` win over ALTER DATABASE SET and ALTER ROLE SET.
https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-SHELL
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .._errors import ConnectionFailed
from .connection import Login, Server, Session
from .sql import IS_SUPERUSER

# By the first version that knows them. Any session may set these.
_ALWAYS: Mapping[int, Mapping[str, str]] = {
    0: {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        "default_transaction_isolation": "read committed",
        "default_tablespace": "",
        "temp_tablespaces": "",
        "exit_on_error": "off",
        "array_nulls": "on",  # pg_dump writes arrays for it
        "transform_null_equals": "off",  # a printed "= NULL" is no "IS NULL"
        "quote_all_identifiers": "off",  # lists of names and dictionary options are stored as it quotes them
        "role": "none",
    },
    140000: {"idle_session_timeout": "0"},
    170000: {"transaction_timeout": "0"},
}
_LC_MESSAGES = {"lc_messages": "C"}  # messages are read
# https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-EVENT-TRIGGERS
_SINCE_17 = {"event_triggers": "off", "session_replication_role": "origin"}
# Before 17, only a replica's session leaves event triggers out, but for those that are ENABLE ALWAYS or REPLICA.
# Nothing else in the load of a dump depends on it: triggers and rules come after the rows, keys are checked as ever.
_BEFORE_17 = {"session_replication_role": "replica"}


def on_copy(server: Server, session: Session, *, dumped: bool = True, more: Mapping[str, str] | None = None) -> Server:
    """The same server, for sessions on a copy.

    Args:
        session: a session with this server, which tells its version and what its login may set.
        dumped: the copy comes from pg_dump as a whole. A script of another origin may rely on triggers.
        more: further settings.
    """
    settings: dict[str, str] = {}
    for since, each in _ALWAYS.items():
        if session.server_version >= since:
            settings.update(each)
    if session.value(IS_SUPERUSER):
        settings.update(_LC_MESSAGES)
        if session.server_version >= 170000:
            settings.update(_SINCE_17)
        elif dumped:
            settings.update(_BEFORE_17)
    found = with_options(server, {**settings, **(more or {})})
    try:
        with found.connect(str(session.value("SELECT pg_catalog.current_database()"))):
            return found
    except ConnectionFailed:
        return server  # a pooler in between that takes no options


def with_options(server: Server, settings: Mapping[str, str]) -> Server:
    """The same server, whose sessions have these settings, after what the login's owner wants."""
    login = server.login
    words = [login.connect_params.get("options", "")]
    words += [f"-c {name}={_escaped(value)}" for name, value in settings.items()]
    return Server(server.target, _with(login, " ".join(words).strip()))


def _with(login: Login, options: str) -> Login:
    return replace(login, connect_params={**login.connect_params, "options": options})


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
