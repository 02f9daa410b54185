# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a copy live where its source lives, while it is loaded and read: its owner, privileges and settings.

A check of local times, a materialized view by day or an amount of money are computed again by the load. They come out
as in the source only under the source's settings, as with `pg_dump --create` and `pg_restore --create`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from .._catalog.manifest import SourceDatabase
from .._errors import ConnectionFailed, QueryFailed
from .._fingerprint.sql import server_settings as sql
from .._postgres.connection import Server, Session
from . import database_properties, databases
from .database_properties import DatabaseProperties
from .sql import HERE, MAY_GIVE_TO

# Libraries for each session may carry types of labels and hooks that the content needs.
_LIBRARIES = ("session_preload_libraries", "local_preload_libraries")
_LIMITS = (*_LIBRARIES, "max_stack_depth", "lo_compat_privileges")
_CARRIED = {name.lower() for name in sql.CONTENT}
# All of these are one locale in what they do to money, numbers and times.
_PLAIN_LOCALES = {"c", "posix"}
_UNIVERSAL_TIME = {"utc", "gmt", "uct", "zulu", "universal", "greenwich"}


@dataclass(frozen=True)
class Lack:
    """A sentence on something that a copy has not of its source, and what can depend on it.

    `reach` is `load` (only whether it loads), `locale` (amounts of money, and texts of numbers and times), or `content`
    (whatever is computed).
    """

    text: str
    reach: str


def settle(
    session: Session, visitor: Server, copy: str, like: SourceDatabase, *, superuser: str | None = None
) -> list[Lack]:
    """Give an empty database what its source's content can depend on besides the database itself.

    Args:
        session: a session with another database of the server.
        visitor: the server for sessions on the copy.
        superuser: the role that loads, if it stands for the source's superuser: it gets that one's settings.

    Returns:
        Everything that this server refuses.
    """
    now = database_properties.of(session, databases.find(session, copy))
    here = {row.name.lower(): row.value for row in session.query(HERE)}
    wanted = _wanted(session, now, like, here)
    refused = database_properties.apply_each(session, copy, now, wanted)
    if superuser is not None:
        for name, value in _carried(_parsed(like.login_settings.get(superuser, ()))).items():
            try:
                session.execute(database_properties.altering("", superuser, name, value))
            except QueryFailed as exc:
                refused[database_properties.setting_of(name, value)] = exc.why
    if wanted.owner != like.owner:
        refused[f"the owner {like.owner}"] = f"it belongs to {wanted.owner}"
    lacks = [
        Lack(f"The copy lacks {subject} of its source: {why}.", reach)
        for subject, why in refused.items()
        if (reach := _reach(subject, here))
    ]
    return [*lacks, *without_libraries(session, visitor, copy, superuser)]


def _reach(subject: str, here: Mapping[str, str]) -> str:
    """The reach of something that was refused; empty if the place has as much."""
    name, value = database_properties.named_setting(subject)
    if not name or name.lower() in _LIMITS:
        return "load"
    if name.lower() == "timezone" and {_plain_zone(here["timezone"]), _plain_zone(value)} <= _UNIVERSAL_TIME:
        return ""
    return "locale" if name.startswith("lc_") else "content"


def _plain_zone(zone: str) -> str:
    return zone.lower().rpartition("/")[2]


def of_other_roles(like: SourceDatabase, loader: str) -> dict[str, str]:
    """Settings that sessions of other roles than the one that loads had in the source, as texts by role.

    The load cannot know which role wrote what. `pg_restore` by hand has the settings of its login, too.
    """
    found = {}
    for role in sorted({*like.login_settings, *like.role_settings} - {"", loader}):
        texts = [*like.login_settings.get(role, ()), *like.role_settings.get(role, ())]
        settings = _carried(_parsed(texts))
        if settings:
            found[role] = ", ".join(f"{name} = {value}" for name, value in settings.items())
    return found


def _refusal(visitor: Server, copy: str) -> str | None:
    """Why no session with the copy can begin; None if one can."""
    try:
        with visitor.connect(copy):
            return None
    except ConnectionFailed as exc:
        return exc.why


def without_libraries(session: Session, visitor: Server, copy: str, superuser: str | None = None) -> list[Lack]:
    """See that a session with the copy can begin; libraries that keep it from that are left out, and named."""
    why = _refusal(visitor, copy)
    if why is None:
        return []
    for name in _LIBRARIES:
        for database, role in ((copy, ""), (copy, visitor.login.user), *([("", superuser)] if superuser else [])):
            with suppress(QueryFailed):  # a login that may not set it has not set it
                session.execute(database_properties.altering(database, role, name, None))
    with visitor.connect(copy):
        return [Lack(f"It lacks the libraries that sessions of its source load: {why}.", "load")]


def _wanted(
    session: Session, now: DatabaseProperties, like: SourceDatabase, here: Mapping[str, str]
) -> DatabaseProperties:
    source = database_properties.of_source(session, now, like, [])
    settings = {(role, name): value for (role, name), value in source.settings.items() if _is_carried(name)}
    there = {name.lower() for role, name in settings if not role}
    for name, value in _of_server(like).items():
        if name.lower() not in there and not _same(name, here.get(name.lower()), value):
            settings["", name] = value
    owner = source.owner if _may_give(session, source.owner) else now.owner
    grants = (
        DatabaseProperties(source.owner, grants=source.grants).owned_by(now.owner)
        if owner == now.owner
        else source.grants
    )
    return replace(source, owner=owner, comment=now.comment, settings=settings, grants=grants)


def _of_server(like: SourceDatabase) -> Mapping[str, str]:
    """The settings that the source's server gave to every session, ALTER ROLE ALL SET among them."""
    return _carried({**like.server_settings, **_parsed(like.login_settings.get("", ()))})


def _parsed(texts: Iterable[str]) -> dict[str, str]:
    return {name: value for name, dummy, value in (text.partition("=") for text in texts)}


def _carried(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in settings.items() if _is_carried(name)}


def _is_carried(name: str) -> bool:
    """Whether content can depend on a setting. Limits, planner costs and the like are left to the place."""
    return name.lower() in _CARRIED or "." in name


def _same(name: str, here: str | None, there: str) -> bool:
    if name.startswith("lc_") and here is not None:
        return here == there or {_plain(here), _plain(there)} <= _PLAIN_LOCALES
    return here == there


def _plain(locale: str) -> str:
    return locale.lower().partition(".")[0]


def _may_give(session: Session, owner: str) -> bool:
    """Whether the login can give a database to this role, and drop it then all the same."""
    return bool(session.value(MAY_GIVE_TO, (owner,)))
