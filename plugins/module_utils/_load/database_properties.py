# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties of a database besides its content: owner, comment, settings and grants; and how to copy them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .._catalog.manifest import SourceDatabase
from .._errors import QueryFailed
from .._postgres.connection import Session
from .._postgres.statements import compose, together
from . import sql
from .databases import Database

# Their values are lists of names (GUC_LIST_QUOTE in src/backend/utils/misc/guc_tables.c).
_LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")
# https://www.postgresql.org/docs/current/ddl-priv.html#PRIVILEGES-SUMMARY-TABLE
_GRANT = re.compile(r"(CREATE|CONNECT|TEMPORARY)( WITH GRANT OPTION)?")
_EVERYBODY = "public"  # no role can have this name
_OURS = "pg_runbook."
_SETTING = "the setting "
_ELEMENT = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s",]+))\s*(?:,|$)')


@dataclass(frozen=True)
class DatabaseProperties:
    """`settings` has a value for each role (empty: the database itself) and name.

    `grants` says for each grantee (None: PUBLIC) and privilege whether it may be passed on.
    """

    owner: str
    comment: str | None = None
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    grants: Mapping[tuple[str | None, str], bool] = field(default_factory=dict)

    def owned_by(self, owner: str) -> Mapping[tuple[str | None, str], bool]:
        """The grants as they are when the database gets another owner: they go with it."""
        found: dict[tuple[str | None, str], bool] = {}
        for (grantee, privilege), grantable in self.grants.items():
            key = (owner if grantee == self.owner else grantee, privilege)
            found[key] = found.get(key, False) or grantable
        return found


def of(session: Session, database: Database) -> DatabaseProperties:
    """What a database is like now."""
    settings = session.query(sql.SETTINGS, (database.oid,))
    grants = session.query(sql.GRANTS, (database.oid,))
    return DatabaseProperties(
        database.owner,
        database.comment,
        {(row.role, row.name): row.value for row in settings},
        {(row.grantee, row.privilege): row.grantable for row in grants},
    )


def of_source(session: Session, now: DatabaseProperties, like: SourceDatabase, notes: list[str]) -> DatabaseProperties:
    """What a backup's source was like, as far as this server can reproduce it; `notes` gets what it cannot.

    A manifest of before knows no grants: then they stay as they are.
    """
    there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
    owner = like.owner if like.owner in there else now.owner
    if owner != like.owner:
        notes.append(
            f"The role {like.owner}, which owned the source, is missing here: the restored database belongs to {owner}."
        )
    settings = {"": like.settings, **{role: texts for role, texts in like.role_settings.items() if role in there}}
    grants: dict[tuple[str | None, str], bool] = {}
    for grantee, texts in (like.grants or {}).items():
        for match in filter(None, map(_GRANT.fullmatch, texts)):
            key = (None if grantee == _EVERYBODY else grantee, match[1])
            grants[key] = grants.get(key, False) or match[2] is not None
    granted = DatabaseProperties(like.owner, grants=grants).owned_by(owner)
    absent = {role for role in like.role_settings if role not in there}
    absent |= {role for role, dummy in granted if role is not None and role not in there}
    notes.extend(
        f"The role {role} is missing here: its privileges and settings on the database are left out."
        for role in sorted(absent)
    )
    return DatabaseProperties(
        owner,
        like.comment,
        {
            (role, name): value
            for role, texts in settings.items()
            for name, dummy, value in (text.partition("=") for text in texts)
            if not name.startswith(_OURS)
        },
        {key: value for key, value in granted.items() if key[0] is None or key[0] in there}
        if like.grants is not None
        else now.owned_by(owner),
    )


def apply_each(session: Session, name: str, now: DatabaseProperties, wanted: DatabaseProperties) -> dict[str, str]:
    """Make a database what is wanted, as far as this server can. Returns what it refuses, and why.

    A source of another time may have settings that this server does not know. They are not worth a loaded database.
    """
    refused = {}
    for subject, step in _steps(name, now, wanted):
        try:
            session.execute(step)
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise
            refused[subject] = exc.why
    return refused


def apply(session: Session, name: str, now: DatabaseProperties, wanted: DatabaseProperties) -> bool:
    """Set the wanted properties of a database in one transaction. Returns whether there were changes."""
    steps = [step for dummy, step in _steps(name, now, wanted)]
    if steps:
        try:
            session.execute(together([compose("BEGIN"), *steps, compose("COMMIT")]))
        except QueryFailed:
            with suppress(QueryFailed):
                session.execute("ROLLBACK")
            raise
    return bool(steps)


def _steps(name: str, now: DatabaseProperties, wanted: DatabaseProperties) -> Iterator[tuple[str, Any]]:
    """Statements, and what each of them is about."""
    if now.owner != wanted.owner:
        yield f"the owner {wanted.owner}", compose("ALTER DATABASE {} OWNER TO {}", name, wanted.owner)
    if now.comment != wanted.comment:
        text = "NULL" if wanted.comment is None else "{text}"
        yield "the comment", compose(f"COMMENT ON DATABASE {{}} IS {text}", name, text=wanted.comment or "")
    for role, setting in sorted(now.settings.keys() - wanted.settings.keys()):
        yield f"{_SETTING}{setting}", altering(name, role, setting, None)
    for (role, setting), value in wanted.settings.items():
        if now.settings.get((role, setting)) != value:
            yield setting_of(setting, value), altering(name, role, setting, value)
    if now.owned_by(wanted.owner) != wanted.grants:
        for step in _grants(name, now, wanted):
            yield "a privilege on the database", step


def setting_of(name: str, value: str) -> str:
    """How what is refused names a setting; `named_setting` reads it."""
    return f"{_SETTING}{name} = {value}"


def named_setting(subject: str) -> tuple[str, str]:
    """The name and the value of a setting that was refused; empty if something else was."""
    name, dummy, value = subject.partition(" = ")
    return (name[len(_SETTING) :], value) if subject.startswith(_SETTING) else ("", "")


def altering(database: str, role: str, setting: str, value: str | None) -> Any:
    """ALTER DATABASE, ALTER ROLE or, with both, ALTER ROLE IN DATABASE: SET a value as the catalog has it, or RESET."""
    from psycopg2 import sql as pieces

    if role:
        whose = compose("ALTER ROLE {} IN DATABASE {}", role, database) if database else compose("ALTER ROLE {}", role)
    else:
        whose = compose("ALTER DATABASE {}", database)
    what = pieces.Identifier(*setting.split("."))
    if value is None:
        return pieces.SQL("{} RESET {}").format(whose, what)
    elements = listed(value) if setting.lower() in _LISTS else [value]
    values = pieces.SQL(", ").join(pieces.Literal(element) for element in elements)
    return pieces.SQL("{} SET {} TO {}").format(whose, what, values)


def listed(value: str) -> list[str]:
    """The elements of a list setting, of which some are quoted; the server quotes each again.

    As pg_dump does it (SplitGUCList in src/bin/pg_dump/dumputils.c). A list that cannot be read is left as it is.
    """
    found: list[str] = []
    at = 0
    while at < len(value) and (match := _ELEMENT.match(value, at)):
        found.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        at = match.end()
    return found if found and at == len(value) else [value]


def _grants(name: str, now: DatabaseProperties, wanted: DatabaseProperties) -> Iterator[Any]:
    grantees = {wanted.owner} | {grantee for grantee, dummy in (*now.owned_by(wanted.owner), *wanted.grants) if grantee}
    for grantee in sorted(grantees):
        yield compose("REVOKE ALL ON DATABASE {} FROM {} CASCADE", name, grantee)
    yield compose("REVOKE ALL ON DATABASE {} FROM PUBLIC CASCADE", name)
    for (to, privilege), grantable in wanted.grants.items():
        option = " WITH GRANT OPTION" if grantable and to is not None else ""
        if to is None:
            yield compose(f"GRANT {privilege} ON DATABASE {{}} TO PUBLIC", name)
        else:
            yield compose(f"GRANT {privilege} ON DATABASE {{}} TO {{}}{option}", name, to)
