# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole databases: their marks, what they are like, and what is tied to them.

A mark is a setting of a database (`ALTER DATABASE ... SET pg_runbook.mark`), which says what it is for: it goes with
the database through every rename, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from .._errors import ConnectionFailed, InvalidInput, Locked, ObjectNotFound, QueryFailed
from .._findings import Finding
from .._fingerprint.sql.content import NO_TIMEOUTS
from .._postgres.connection import MAINTENANCE_DB, Server, Session
from .._postgres.statements import compose
from . import sql

NO_LIMIT = -1
_MARK = "pg_runbook.mark"
_SET_MARK = f"ALTER DATABASE {{}} SET {_MARK} = {{mark}}"
# A session that works neither ends while it waits, nor may it only read, whatever its login or the server are set to.
_WORKING = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    # A missing synchronous standby would keep it waiting, and during a swap, all new connections. A standby that
    # takes over has either database whole: it has the swap once it has any later commit of the application.
    "synchronous_commit": "local",
}
_NAME_BYTES = 63  # NAMEDATALEN - 1
_STAMP = "%Y%m%dT%H%M%SZ"
_REMEDIES = {
    "prepared_transaction": "End it with COMMIT PREPARED or ROLLBACK PREPARED.",
    "replication_slot": "Stop its consumer and drop the slot; create it again after the swap, with a new initial copy.",
    "subscription": "Drop it with DROP SUBSCRIPTION, and create it again after the swap.",
    "publication": "Check that it is in the backup as well, and give its subscribers a new initial copy.",
    "event_trigger": "Check that it is in the backup as well.",
    "running_procedure": "Wait until it ends: the swap terminates its sessions, which makes it fail.",
    "foreign_server": "After the swap it leads to the restored database. Check that this is intended.",
}


@dataclass(frozen=True)
class Mark:
    """What a database is for.

    `state` is `staging` (being loaded, or left half-way), `loaded` (not proven yet), `staged` (proven, to be swapped
    in), `live` (in production, restored from `backup`) or `replaced` (was in production until `at`, kept until
    `keep_until`). Times are RFC 3339.
    `rolled_back` says that it came back to production after something else had replaced it. `name` is the name that it
    was given with the mark; `digest` is the SHA-256 of a dump not taken by this collection, whose path says little;
    `connection_limit` and `is_template` are what a stage gets in production, when none is there by then; `lost` is what
    it lacks of its source, as the operator has accepted it; `loading` is what `loaded_stage` says of a loaded one.
    """

    state: str
    database: str
    backup: str
    at: str
    keep_until: str | None = None
    verdict: str | None = None
    rows: int | None = None
    rolled_back: bool = False
    name: str = ""
    digest: str | None = None
    connection_limit: int = NO_LIMIT
    is_template: bool = False
    lost: list[str] = field(default_factory=list)
    loading: dict[str, Any] | None = None

    def as_text(self) -> str:
        """As it stands in the setting."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Database:
    """A database as its server knows it."""

    oid: int
    name: str
    owner: str
    connection_limit: int
    tablespace: str
    is_template: bool
    comment: str | None
    mark: Mark | None

    @property
    def is_as_marked(self) -> bool:
        """Whether it still has the name that it was marked under."""
        return self.mark is not None and self.mark.name == self.name


@contextmanager
def connect_admin(server: Server, db: str | None = None) -> Iterator[Session]:
    """A session to change something in, which may take its time; without a name, to work on whole databases."""
    with server.connect(db, settings=_WORKING) if db else server.connect_aside(settings=_WORKING) as session:
        session.query(NO_TIMEOUTS)
        yield session


def aside_from(database: str) -> str | None:
    """For `working`, to stand in while this one is made or dropped."""
    return None if database != MAINTENANCE_DB else "template1"


def list_databases(session: Session) -> dict[str, Database]:
    """All databases by name."""
    rows = session.query(sql.DATABASES, {"prefix": f"{_MARK}="})
    return {row.name: Database(**{**row._asdict(), "mark": _read(row.mark)}) for row in rows}


def _read(text: str | None) -> Mark | None:
    with suppress(ValueError, TypeError):  # a text that is no mark of ours
        mark = Mark(**json.loads(text or ""))
        return mark if isinstance(mark.connection_limit, int) and isinstance(mark.is_template, bool) else None
    return None


def marking(name: str, mark: Mark) -> Any:
    """The statement that marks a database."""
    return compose(_SET_MARK, name, mark=replace(mark, name=name).as_text())


def put_mark(session: Session, name: str, mark: Mark) -> None:
    """Mark a database; part of the transaction, if there is one."""
    session.execute(marking(name, mark))


def drop(session: Session, name: str) -> None:
    """Drop a database and end the sessions with it. The server keeps templates, so it stops being one first."""
    if name in list_databases(session):
        session.execute(compose("ALTER DATABASE {} IS_TEMPLATE false", name))
    session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", name))


def find(session: Session, name: str) -> Database:
    """A database that has to be there."""
    found = list_databases(session).get(name)
    if found is None:
        raise ObjectNotFound("There is no such database", subject=repr(name), remedy="Check db and the login.")
    return found


def find_marked(session: Session, database: str, *states: str) -> list[Database]:
    """The databases that are marked for this one in one of these states, the newest first.

    A mark goes with every rename. A database with another name than it was marked under was renamed by an operator, to
    keep it or to put it into production by hand: it is not among these.
    """
    found = [item for item in _marked(session, database) if item.is_as_marked and item.name != database]
    return sorted((item for item in found if item.mark and item.mark.state in states), key=_age, reverse=True)


def renamed(session: Session, database: str) -> list[str]:
    """Sentences on those that were renamed since, apart from what is in production."""
    return [
        f"{item.name} is marked as {item.mark.name or 'another one'} ({item.mark.state}), but was renamed since:"
        " it is not touched."
        for item in _marked(session, database)
        if item.mark and item.mark.state != "live" and not item.is_as_marked and item.name != database
    ]


def _marked(session: Session, database: str) -> list[Database]:
    return [item for item in list_databases(session).values() if item.mark and item.mark.database == database]


def _age(database: Database) -> str:
    return database.mark.at if database.mark else ""


def unique_name(session: Session, database: str, word: str, now: datetime) -> str:
    """A free name for a database beside this one, such as `shop_staged_20260206T030405Z`."""
    there = list_databases(session)
    while True:
        suffix = f"_{word}_{now.strftime(_STAMP)}"
        name = database.encode()[: _NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix
        if name not in there:
            return name
        now += timedelta(seconds=1)


@contextmanager
def exclusive_lock(session: Session, database: str) -> Iterator[None]:
    """One restore, swap or removal for a database at a time, wherever it is run from; ends with the session."""
    key = (f"pg_runbook restore {database}",)
    if not session.value("SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", key):
        raise Locked(
            "Another restore or swap of this database is running",
            subject=repr(database),
            remedy="Wait for it to end, then run again.",
        )
    try:
        yield
    finally:
        with suppress(QueryFailed):  # a lost session has none
            session.query("SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", key)


def refuse_maintenance_db(database: str) -> None:
    """Raise InvalidInput for the database that renames are run from."""
    if database in (MAINTENANCE_DB, "template0", "template1"):
        raise InvalidInput(
            "This database cannot be replaced",
            subject=repr(database),
            why="it is the maintenance database or a template",
            remedy="Name the database of the application.",
        )


def dependents(server: Server, session: Session, database: Database) -> list[Finding]:
    """What is tied to a database and would break, or has to be thought of, when another one takes its name."""
    names = {"oid": database.oid, "name": database.name}
    rows = list(session.query(sql.DEPENDENTS, names))
    for other in list_databases(session).values():
        inside = other.oid == database.oid
        if other.name.startswith("template") or (other.mark and not inside):
            continue
        with suppress(ConnectionFailed), server.connect(other.name) as there:  # one that takes no connections
            rows += there.query(sql.DEPENDENTS_INSIDE if inside else sql.DEPENDENTS_ELSEWHERE, names)
    return [
        Finding(
            check=f"swap_{row.kind}",
            severity="critical" if row.blocks else "warning",
            subject=row.subject,
            value=row.kind,
            threshold="none",
            message=f"The {row.kind.replace('_', ' ')} {row.subject} is tied to the database {database.name}.",
            remedy=_REMEDIES[row.kind],
        )
        for row in rows
    ]


def refuse_blocking(findings: Sequence[Finding], database: str, allow: Sequence[str]) -> None:
    """Raise InvalidInput if something would break that is not to be broken knowingly."""
    blocking = [finding for finding in findings if finding.severity == "critical" and finding.value not in allow]
    if blocking:
        raise InvalidInput(
            "The database cannot be replaced now",
            subject=repr(database),
            why=" ".join(finding.message for finding in blocking),
            remedy=" ".join(dict.fromkeys(finding.remedy for finding in blocking)),
            details={"findings": [finding.as_dict() for finding in blocking]},
        )
