# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements of a dump that the server refused: which ones, why, and whether this place is to blame. Pure.

Judged by SQLSTATE, and by names that PostgreSQL does not translate: messages come in the language of the server.
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .._postgres import sqlstate

_STATEMENT_CHARS = 160
_TOLD = 5
# How psql reports with VERBOSITY=verbose and ECHO=errors. Notices and warnings look the same, with their own classes.
_FROM_PSQL = re.compile(r"^psql:<stdin>:\d+: ", re.M)
_WITH_STATE = re.compile(r"[^:\n]+:  ([0-9A-Z]{5}): (.*)")
_OF_PSQL = re.compile(r"error: (.*)")
_STATEMENT = "STATEMENT:  "
_FIELD = re.compile(r"^(DETAIL|HINT|CONTEXT|LINE \d+|[A-Z ]+ NAME|LOCATION):  ?(.*)", re.M)
_NO_ERROR = ("00", "01", "02")

# Statements that define nothing but rights, owners and remarks: without one of them no row is missing.
_MARGINAL = re.compile(
    r"GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|ALTER .* OWNER TO|COMMENT ON|SECURITY LABEL|(?:CREATE|ALTER) POLICY", re.S
)
# Statements that name roles. No dump of one database carries roles.
_NAMES_ROLES = re.compile(
    r"GRANT|REVOKE|ALTER DEFAULT PRIVILEGES|.* OWNER TO |SET SESSION AUTHORIZATION|(?:CREATE|ALTER) POLICY"
    r"|CREATE USER MAPPING|CREATE SCHEMA .*AUTHORIZATION|ALTER ROLE|SET ROLE|REASSIGN",
    re.S,
)
# Undefined function, table, column, object, schema: often because the statement before was refused.
_UNDEFINED = (
    sqlstate.UNDEFINED_FUNCTION,
    sqlstate.UNDEFINED_TABLE,
    sqlstate.UNDEFINED_COLUMN,
    sqlstate.UNDEFINED_OBJECT,
    sqlstate.INVALID_SCHEMA_NAME,
)
# Of a role, a collation, a setting: it is not there, or has no such value.
_UNKNOWN = (sqlstate.UNDEFINED_OBJECT, sqlstate.INVALID_PARAMETER_VALUE)
_UNKNOWN_OR_DENIED = (*_UNKNOWN, sqlstate.INSUFFICIENT_PRIVILEGE)
# What the server answers where a library is not preloaded, or cannot be.
_NOT_PRELOADED = (
    sqlstate.OBJECT_NOT_IN_PREREQUISITE_STATE,
    sqlstate.INTERNAL_ERROR,
    sqlstate.RAISE_EXCEPTION,
    sqlstate.FEATURE_NOT_SUPPORTED,
    sqlstate.UNDEFINED_FILE,
)

# Where to correct it, and what else can be done, by the place of the load.
_WHERE = {
    "instance": ("the host that verifies", ", or verify on the server itself with verify_in: database"),
    "database": ("the server", ", or verify with verify_in: instance"),
    "stage": ("the server", ", then run again"),
}
_FILES = "Install the file, or the package that it belongs to, on {host}{else_}."
_BUILD = "Use a PostgreSQL on {host} that is built with it{else_}."
_OTHER_SERVERS = "Check that the other server can be reached from {host} and accepts the login, then run again."
_RESOURCES = "Give {host} that resource (disk, memory, locks or connections), then run again."
_OPERATOR = "The statement was cancelled, or the server was stopped. Run again."
_OTHER_SESSIONS = "Another session conflicted with the statement. Run again when it has ended."
_STORAGE = "The storage of {host} is damaged. Check its disk{else_}."
_PRIVILEGE = "Give the login, or the role that the statement runs as, that privilege on {host}{else_}."
_PRELOAD = "Use a server that has the library in shared_preload_libraries{else_}."
_NAMES = "Install what the statement names (a collation, or the source's version of an extension) on {host}{else_}."
_MAJOR = (
    "The source is PostgreSQL {source}, and this server is {server}: use programs of version {source} (bin_dir){else_}."
)
_BY_STATE = (
    (("58", "F0"), _FILES),
    (("08", "28", sqlstate.PROHIBITED_SQL_STATEMENT_ATTEMPTED, "HV"), _OTHER_SERVERS),
    (("0A",), _BUILD),
    (("53",), _RESOURCES),
    (("57", sqlstate.READ_ONLY_SQL_TRANSACTION), _OPERATOR),
    (("40", sqlstate.LOCK_NOT_AVAILABLE), _OTHER_SESSIONS),
    ((sqlstate.INSUFFICIENT_PRIVILEGE,), _PRIVILEGE),
    ((sqlstate.DATA_CORRUPTED, sqlstate.INDEX_CORRUPTED), _STORAGE),
)

# What an empty database of today brings, and what older dumps create all the same.
_BROUGHT = re.compile(
    r"CREATE (?:EXTENSION|(?:OR REPLACE )?(?:TRUSTED )?(?:PROCEDURAL )?LANGUAGE|ROLE|USER|GROUP"
    r"|FUNCTION (?:\w+\.)?plpgsql_)\b",
    re.S,
)
_TAKES_AWAY = re.compile(r"DROP |ALTER .* DROP (?:CONSTRAINT|DEFAULT|IDENTITY|EXPRESSION|COLUMN)", re.S)
_ON_THE_BROUGHT = re.compile(r"(?:COMMENT ON|ALTER) (?:EXTENSION|SCHEMA public|LANGUAGE|PROCEDURAL LANGUAGE)\b", re.S)
_SETS = re.compile(r"SET |SELECT pg_catalog\.set_config\(", re.S)
# What a terminal printed before the dump becomes a part of its first statement, which is a SET.
_BEFORE_THE_DUMP = "-- PostgreSQL database dump -- "
_UNKNOWN_TO_PSQL = re.compile(r"invalid command \\(?:un)?restrict\b")


@dataclass(frozen=True)
class Refusal:
    """A statement that the server refused.

    Attributes:
        statement: on one line, and shortened.
        why: the server's message.
        sqlstate: empty where it is not known.
        more: its detail or its hint.
        inside: whether it came from code that the statement runs, such as the body of a function.
    """

    statement: str
    why: str
    sqlstate: str = ""
    more: str = ""
    inside: bool = False

    def __str__(self) -> str:
        return f"{self.statement} ({self.why}{f'; {self.more}' if self.more else ''})"


@dataclass(frozen=True)
class Circumstances:
    """Where a dump was loaded.

    Attributes:
        where: `instance` (a scratch server of our own), `database` or `stage`.
        source_major: of the server that the dump is of; 0 where it is not known.
        server_major: of the server that it was loaded into.
        absent_roles: roles of the source that this server does not have.
    """

    where: str
    source_major: int
    server_major: int
    absent_roles: Sequence[str] = ()

    @property
    def other_major(self) -> bool:
        """Whether the dump was loaded into a server of another major version."""
        return bool(self.source_major) and self.source_major != self.server_major


@dataclass(frozen=True)
class Blame:
    """A refused statement that this place is to blame for, and the way out."""

    refusal: Refusal
    remedy: str

    def __str__(self) -> str:
        return f"The server refused a statement of the backup: {self.refusal}. {self.remedy}"


def shortened(statement: str) -> str:
    """A statement on one line."""
    text = " ".join(statement.split())
    return text if len(text) <= _STATEMENT_CHARS else f"{text[: _STATEMENT_CHARS - 4]} ..."


def from_psql(text: str) -> list[Refusal]:
    """The refusals in what psql printed with VERBOSITY=verbose and ECHO=errors, in their order."""
    found: list[Refusal] = []
    for part in _FROM_PSQL.split(text)[1:]:
        if part.startswith(_STATEMENT):
            if found and not found[-1].statement:
                found[-1] = replace(found[-1], statement=shortened(part[len(_STATEMENT) :]))
            else:
                found.append(Refusal(shortened(part[len(_STATEMENT) :]), "the server's message was lost"))
        elif (head := _WITH_STATE.match(part)) and not head[1].startswith(_NO_ERROR):
            found.append(Refusal("", head[2].strip(), head[1], _more(part), _is_inside(part)))
        elif head := _OF_PSQL.match(part):
            found.append(Refusal("", head[1].strip()))
    return [each if each.statement else replace(each, statement="a command of psql") for each in found]


def _more(part: str) -> str:
    return next((match[2].strip() for match in _FIELD.finditer(part) if match[1] in ("DETAIL", "HINT")), "")


def _is_inside(part: str) -> bool:
    """Whether the context names more than the row of COPY."""
    context = next((match for match in _FIELD.finditer(part) if match[1] == "CONTEXT"), None)
    if context is None:
        return False
    end = next((match.start() for match in _FIELD.finditer(part, context.end())), len(part))
    lines = part[context.start(2) : end].strip().splitlines()
    return any(not line.startswith("COPY ") for line in lines)


def told(refusals: Sequence[Refusal], count: int) -> str:
    """The refusals in words, the first few of them by name."""
    named = "; ".join(map(str, refusals[:_TOLD]))
    more = max(count, len(refusals)) - len(refusals[:_TOLD])
    return f"{named}; and {more} more" if more > 0 else named


def blamed(refusals: Sequence[Refusal], around: Circumstances, *, rows: bool) -> Blame | None:
    """The first refusal that this place is to blame for, if there is one that may be a cause.

    With `rows` it has to be a cause for rows that are missing, which a right or a comment is not.
    """
    before = False
    for each in refusals:
        if rows and _MARGINAL.match(each.statement):
            continue
        follows = before and each.sqlstate in _UNDEFINED
        before = True
        remedy = None if follows else _way_out(each, around)
        if remedy:
            return Blame(each, remedy)
    return None


def _way_out(refusal: Refusal, around: Circumstances) -> str | None:
    """What to do, where the place is to blame; None where it is not, or where that cannot be known."""
    remedy = _remedy(refusal, around)
    host, else_ = _WHERE[around.where]
    values = {"host": host, "else_": else_, "source": around.source_major, "server": around.server_major}
    return remedy and remedy.format(**values, roles=", ".join(around.absent_roles))


def _remedy(refusal: Refusal, around: Circumstances) -> str | None:
    state = refusal.sqlstate
    if around.other_major:
        return _MAJOR
    if "preload" in f"{refusal.why} {refusal.more}" and state in _NOT_PRELOADED:
        return _PRELOAD
    if state in _UNKNOWN and _NAMES_ROLES.match(refusal.statement):
        # A role that the source does not have either is missing everywhere.
        return "Create the roles that the source has: {roles}." if around.absent_roles else None
    if state in _UNKNOWN:
        return None if refusal.inside else _NAMES
    return next((remedy for states, remedy in _BY_STATE if state.startswith(states)), None)


def harmless(refusal: Refusal) -> bool:
    """Whether the rows and definitions of a dump are complete without the statement, as far as it shows itself."""
    statement, state = refusal.statement, refusal.sqlstate
    return (
        state == sqlstate.DUPLICATE_SCHEMA  # the schema is there
        or (state in (sqlstate.DUPLICATE_OBJECT, sqlstate.DUPLICATE_FUNCTION) and bool(_BROUGHT.match(statement)))
        or (
            state in (*_UNDEFINED, sqlstate.INVALID_CATALOG_NAME)
            and bool(_TAKES_AWAY.match(statement))
            and not refusal.inside
        )
        or (state in _UNKNOWN_OR_DENIED and bool(_SETS.match(statement)))
        or (state in _UNKNOWN_OR_DENIED and bool(_NAMES_ROLES.match(statement)))
        or (
            state in (sqlstate.INSUFFICIENT_PRIVILEGE, sqlstate.UNDEFINED_OBJECT)
            and bool(_ON_THE_BROUGHT.match(statement))
        )
        or (state == sqlstate.SYNTAX_ERROR and _BEFORE_THE_DUMP in statement)
        or bool(_UNKNOWN_TO_PSQL.match(refusal.why) and not state)
    )
