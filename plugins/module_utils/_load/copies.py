# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An empty database to restore into, made like its source: in a scratch instance, or on the server itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from .._catalog.manifest import SourceDatabase
from .._errors import RunbookError
from .._fingerprint.figures import Fingerprint
from .._postgres import own_sessions
from .._postgres.connection import Server, Session
from .._postgres.statements import compose
from . import databases, scratch_database, source_database, source_settings, sql
from .source_settings import Lack

# Where the source's name is not known. A script may create a database of its own, which has another name.
_UNKNOWN = "pg_runbook_restored"
_FOR_INSTANCE = "Install on this host what is missing, or use verify_in: database with a server that has it."
_FOR_DATABASE = "Install on the server what is missing, or use verify_in: instance."
_FOR_ROLES = "If the content depends on one, set it with ALTER DATABASE SET, and take a new backup."
_FOR_NAME = "Use verify_in: instance, where the copy has the name of its source."


@dataclass(frozen=True)
class Copy:
    """A database that is restored into: the server for our sessions on it, and its name.

    Attributes:
        notes: how the database is not made like its source. The verdict cannot be `verified` then.
        doubts: what else it lacks, which may not matter.
        way_out: the next step for what the doubts name.
        roles: by role, settings that its sessions had in the source. They matter if it owns something that fails.
        source_name: the source's name, where the copy has another one.
        name_way_out: the next step if its objects ask for the source's name.
    """

    server: Server
    name: str
    notes: list[str] = field(default_factory=list)
    doubts: list[Lack] = field(default_factory=list)
    way_out: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)
    source_name: str | None = None
    name_way_out: str = _FOR_NAME

    def weigh(self, source: Fingerprint | None, *, differs: bool, refused: bool = False) -> list[str]:
        """Say what the copy lacks, as far as it matters. Rows of materialized views are computed, and not compared.

        Args:
            differs: the copy differs from its source.
            refused: statements of the load were refused.
        """
        if differs:
            return [*self.notes, *(self._behind_a_refusal() if refused else self._lacking(self._reaching()))]
        if source is not None and any(name.startswith("materialized view ") for name in source.objects):
            return [*self.notes, *self._lacking(self._reaching()), *self._computed_from_the_name()]
        return self.notes

    def blame(self, exc: RunbookError) -> bool:
        """Add to a failed load what the copy lacks. Returns whether the failure may come from that."""
        found = self._behind_a_refusal()
        exc.remedy = " ".join([*filter(None, [exc.remedy]), *found])
        return bool(self.notes or found)

    def _behind_a_refusal(self) -> list[str]:
        return [*self._lacking(self.doubts), *self._of_roles(), *self._asking()]

    def _lacking(self, doubts: Sequence[Lack]) -> list[str]:
        return [" ".join([*(each.text for each in doubts), self.way_out])] if doubts else []

    def _reaching(self) -> list[Lack]:
        """The doubts that reach what is loaded."""
        reaches = {"content"}
        if any(each.reach == "locale" for each in self.doubts) and any(row[0] for row in self._ask(sql.USE_THE_LOCALE)):
            reaches.add("locale")
        return [each for each in self.doubts if each.reach in reaches]

    def _of_roles(self) -> list[str]:
        owners = {row.owner for row in self._ask(sql.OWNERS)} if self.roles else set()
        texts = [f"{role} ({text})" for role, text in self.roles.items() if role in owners]
        if not texts:
            return []
        return [f"Sessions of the owner had their own settings in the source: {'; '.join(texts)}. {_FOR_ROLES}"]

    def _asking(self) -> list[str]:
        if not any(row[0] for row in self._of_the_name(sql.ASK_FOR_THE_NAME)):
            return []
        return [f"Objects of the copy use the name of the database, {self._names()}. {self.name_way_out}"]

    def _computed_from_the_name(self) -> list[str]:
        views = ", ".join(row.identity for row in self._of_the_name(sql.COMPUTED_FROM_THE_NAME))
        return [f"{views} is computed from the database's name, {self._names()}. {self.name_way_out}"] if views else []

    def _names(self) -> str:
        return f"which is {self.name} and not {self.source_name}"

    def _of_the_name(self, statement: str) -> list[Any]:
        return self._ask(statement) if self.source_name is not None else []

    def _ask(self, statement: str) -> list[Any]:
        with suppress(RunbookError), self.server.connect(self.name, settings={"search_path": ""}) as session:
            return session.query(statement)
        return []


@contextmanager
def on_server(
    server: Server, like: SourceDatabase | None, encoding: str | None, source_name: str | None
) -> Iterator[Copy]:
    """A scratch database of the server, which has a name of its own."""
    with scratch_database.created(server, like, encoding) as (name, notes):
        with databases.connect_admin(server) as session:
            visitor = own_sessions.on_copy(server, session, dumped=like is not None)
            doubts = source_settings.settle(session, visitor, name, like) if like else []
        roles = source_settings.of_other_roles(like, server.login.user) if like else {}
        yield Copy(visitor, name, notes, doubts, _FOR_DATABASE, roles, source_name)


@dataclass(frozen=True)
class WantedCopy:
    """The needs of a dump that a scratch instance has to meet.

    `name` is the source's; `enters` the database that a script creates for itself, if it does.
    """

    like: SourceDatabase | None
    roles: list[str]
    name: str | None = None
    enters: str | None = None
    encoding: str | None = None


def in_instance(scratch_server: Server, wanted: WantedCopy, lacks: list[str]) -> Copy:
    """The source's namesake in a scratch instance, whose superuser is the source's; `lacks` says what that has not."""
    like = wanted.like
    superuser = scratch_server.login.user
    name = _UNKNOWN if wanted.enters or not wanted.name else wanted.name
    with databases.connect_admin(scratch_server, databases.aside_from(name)) as session:
        source_database.create_roles(session, wanted.roles, like)
        _make_room(session, name)
        notes = source_database.create_database(session, name, like, wanted.encoding)
        doubts = [Lack(text, "load") for text in lacks]
        visitor = own_sessions.on_copy(scratch_server, session, dumped=like is not None)
        if like is not None:
            doubts += source_settings.settle(session, visitor, name, like, superuser=superuser)
    if wanted.enters:
        with scratch_server.connect(name) as session:
            _make_room(session, wanted.enters)
    roles = source_settings.of_other_roles(like, superuser) if like else {}
    return Copy(visitor, name, notes, doubts, _FOR_INSTANCE, roles)


def _make_room(session: Session, name: str) -> None:
    """Drop the empty database of this name that initdb has made, if it has."""
    if name in ("postgres", "template1"):
        session.execute(compose("ALTER DATABASE {} IS_TEMPLATE false", name))
        session.execute(compose("DROP DATABASE {}", name))
