# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create an empty database, and the roles, that are made like those of a backup's source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace

from .._catalog.manifest import SourceDatabase
from .._errors import InvalidInput, QueryFailed
from .._postgres import sqlstate
from .._postgres.connection import Server, Session
from .._postgres.statements import compose, together
from . import database_properties, databases
from .databases import Mark

DEFAULT = "pg_default"
# Extensions that can be created in one database of a server only, which a setting names; and the other name under which
# their script creates them all the same, for their own tests.
# https://github.com/citusdata/pg_cron/blob/main/pg_cron--1.0.sql
BOUND_TO_A_NAME = {"pg_cron": "contrib_regression"}
_SETTINGS_OF_BOUND = {"pg_cron": "cron.database_name"}

# What CREATE DATABASE raises for a locale, or a provider, that this server or its operating system does not have.
_NO_SUCH_LOCALE = (
    sqlstate.WRONG_OBJECT_TYPE,
    sqlstate.INVALID_PARAMETER_VALUE,
    sqlstate.INVALID_OBJECT_DEFINITION,
    sqlstate.FEATURE_NOT_SUPPORTED,
    sqlstate.SYNTAX_ERROR,
)
# https://www.postgresql.org/docs/current/predefined-roles.html
_REACHES_THE_HOST = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")
_MADE = """
SELECT pg_catalog.pg_get_userbyid(d.datdba) AS owner, pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate, d.datctype AS ctype,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c') AS locale_provider,
       coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale') AS locale,
       pg_catalog.to_jsonb(d) ->> 'daticurules' AS icu_rules
FROM pg_catalog.pg_database d WHERE d.datname = %s
"""


def create_database(
    session: Session, name: str, like: SourceDatabase | None, encoding: str | None = None, *, tablespace: str = DEFAULT
) -> list[str]:
    """Create an empty database that is made like the source. Returns notes on what this server lacks for that.

    With `encoding` it gets that one, whatever it is to be like. The tablespace has to exist.
    """
    template, names = "CREATE DATABASE {} TEMPLATE template0", [name]
    if tablespace != DEFAULT:
        template, names = f"{template} TABLESPACE {{}}", [name, tablespace]
    # Before 15 there was no other provider. Else template0 has its own, which is that of initdb.
    libc = " LOCALE_PROVIDER libc" if session.server_version >= 150000 else ""
    plain = f" ENCODING {{encoding}} LC_COLLATE 'C' LC_CTYPE 'C'{libc}"
    if like is None:
        session.execute(compose(template + (plain if encoding else ""), *names, encoding=encoding or ""))
        return []
    like = replace(like, encoding=encoding or like.encoding)
    clauses = " ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}" + {
        "i": " LOCALE_PROVIDER icu ICU_LOCALE {locale}",
        "b": " LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}",
    }.get(like.locale_provider, libc)
    if like.icu_rules:
        clauses += " ICU_RULES {icu_rules}"
    values = {word: value or "" for word, value in asdict(like).items() if isinstance(value, (str, type(None)))}
    try:
        session.execute(compose(template + clauses, *names, **values))
        return []
    except QueryFailed as exc:
        state = exc.details.get("sqlstate")
        unknown_to_icu = state == sqlstate.INTERNAL_ERROR and like.locale_provider == "i"  # up to 15
        if state not in _NO_SUCH_LOCALE and not unknown_to_icu:
            raise
        session.execute(compose(template + plain, *names, **values))
        locale = like.locale if like.locale_provider in ("i", "b") else like.collate
        return [f"Restored with locale C because {locale} is not available here: {exc.why}"]


def like_of(session: Session, name: str) -> SourceDatabase | None:
    """How a database of this server was made; None if there is none of this name."""
    rows = session.query(_MADE, (name,))
    return SourceDatabase(**rows[0]._asdict(), bootstrap_role="") if rows else None


def create_roles(session: Session, names: Sequence[str], like: SourceDatabase | None) -> list[str]:
    """Create the roles that are not there, none of which can log in. Returns the created ones.

    They can do what they could in the source, and nothing more: what the dump has of theirs is run in their name, and a
    superuser may run programs of this host. Without a source to be like, they have no more than the dump grants them.
    """
    there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
    missing = [name for name in dict.fromkeys(names) if name not in there]
    for name in missing:
        mighty = " SUPERUSER" if like and name in like.superusers else ""
        blind = " BYPASSRLS" if like and name in like.bypassrls else ""
        session.execute(compose(f"CREATE ROLE {{}} NOLOGIN{mighty}{blind}", name))
    # They have its rights, but cannot become it.
    only = " WITH INHERIT TRUE, SET FALSE" if session.server_version >= 160000 else ""
    for role, members in (like.members if like else {}).items():
        if role not in _REACHES_THE_HOST and role in there.union(missing):
            for member in set(members).intersection(missing):
                session.execute(compose(f"GRANT {{}} TO {{}}{only}", role, member))
    return missing


def missing_extensions(session: Session, names: Sequence[str]) -> list[str]:
    """The extensions that this server cannot create."""
    there = {row.name for row in session.query("SELECT name FROM pg_catalog.pg_available_extensions")}
    return [name for name in names if name not in there]


def unfit_for(session: Session, extensions: Sequence[str]) -> str:
    """Why the extensions that one database of a server only can have cannot be created here; empty if they can."""
    for extension in extensions:
        setting, other = _SETTINGS_OF_BOUND.get(extension, ""), BOUND_TO_A_NAME.get(extension, "")
        if setting and session.value("SELECT current_setting(%s, true)", (setting,)) is None:
            return f"{extension} is not loaded (shared_preload_libraries)"
        if other and other in databases.list_databases(session):
            return f"{extension} must be created in a database with the name {other}, which already exists"
    return ""


def create_bound(server: Server, session: Session, name: str, mark: Mark, extensions: Sequence[str]) -> None:
    """Create the extensions that a database of this name cannot have, while it has the name that it takes.

    The mark goes with the name, so that the next run finds the database if this one dies in between.

    Raises:
        InvalidInput: it cannot be done.
    """
    for extension in extensions:
        other = BOUND_TO_A_NAME.get(extension)
        if other is None:
            continue
        try:
            _rename(session, name, other, mark)
            try:
                with server.connect(other) as inside:
                    inside.execute(compose("CREATE EXTENSION IF NOT EXISTS {}", extension))
            finally:
                _rename(session, other, name, mark)
        except QueryFailed as exc:
            raise InvalidInput(
                f"The extension {extension} cannot be created next to production",
                why=exc.why,
                remedy=f"Move {extension} to a separate database, take a new backup, and restore that one. "
                "Production was not touched.",
            ) from None


def _rename(session: Session, now: str, then: str, mark: Mark) -> None:
    steps = [compose("BEGIN; ALTER DATABASE {} RENAME TO {}", now, then), databases.marking(then, mark)]
    try:
        session.execute(together([*steps, compose("COMMIT")]))
    except QueryFailed:
        with suppress(QueryFailed):
            session.execute("ROLLBACK")
        raise


def make_anew(server: Server, db: str) -> int:
    """Put an empty database of the same kind, and with the same settings, into the place of one that is half loaded.

    Returns its OID.
    """
    with databases.connect_admin(server, databases.aside_from(db)) as session:
        like, known = like_of(session, db), databases.find(session, db)
        with server.connect(db) as inside:
            bound = [row.extname for row in inside.query("SELECT extname FROM pg_catalog.pg_extension")]
        wanted = database_properties.of(session, known)
        session.execute(compose("DROP DATABASE {} WITH (FORCE)", db))
        create_database(session, db, like, tablespace=known.tablespace)
        if known.mark:
            databases.put_mark(session, db, known.mark)
        database_properties.apply_each(
            session, db, database_properties.of(session, databases.find(session, db)), wanted
        )
        session.execute(compose(f"ALTER DATABASE {{}} CONNECTION LIMIT {known.connection_limit}", db))
        if known.mark:
            create_bound(server, session, db, known.mark, bound)
        return databases.find(session, db).oid
