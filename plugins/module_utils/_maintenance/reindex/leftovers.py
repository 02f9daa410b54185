# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted builds of indexes have left: which to drop, which to rebuild, which to keep for the operator.

REINDEX CONCURRENTLY builds `name_ccnew` beside `name`, gives it the name, and drops what is `name_ccold` then. If it is
interrupted, one of the two stays, invalid; while `name` is whole at every moment. CREATE INDEX CONCURRENTLY leaves the
index itself, DROP INDEX CONCURRENTLY as well. https://www.postgresql.org/docs/current/sql-reindex.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..._errors import QueryFailed
from ..._postgres.connection import Session
from ..._postgres.statements import compose
from .. import causes
from ..work import Item
from . import sql
from .indexes import BUILD_SUFFIX, Index
from .workers import Worker

DROP, REBUILD, KEEP = "drop", "rebuild", "keep"

_NAME_BYTES = 63  # NAMEDATALEN - 1
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class Leftover:
    """An invalid index. `of` is the index that an interrupted rebuild was to replace by it; else empty."""

    index: Index
    of: str = ""

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "schema": self.index.schema,
            "name": self.index.name,
            "table": self.index.table_name,
            "size_bytes": self.index.size_bytes,
        }


def examine(indexes: Sequence[Index], busy: Mapping[int, Worker]) -> list[Item[Leftover]]:
    """What to do with each invalid index: the reason is `DROP`, `REBUILD` or `KEEP`. Pure."""
    found = []
    for each in indexes:
        if each.usable or each.partitioned or each.shared:
            continue
        worker = busy.get(each.table_oid)
        if worker is not None:
            found.append(item(each, KEEP, f"its table is in use: {worker}", state="left"))
        else:
            found.append(_examine(each, indexes))
    return found


def item(index: Index, reason: str, why: str, *, state: str = "due", of: str = "") -> Item[Leftover]:
    """An item of work."""
    return Item(index.identity, Leftover(index, of), reason, why, state)


def _examine(index: Index, indexes: Iterable[Index]) -> Item[Leftover]:
    original = _original(index, indexes)
    if original is not None:
        why = f"a rebuild of {original.identity} was interrupted"
        return _permitted(item(index, DROP, why, of=original.identity), index.owned)
    if not index.live:
        return _permitted(item(index, DROP, "its DROP INDEX CONCURRENTLY was interrupted"), index.owned)
    if index.of_a_build:
        why = (
            "its name looks like a leftover of REINDEX CONCURRENTLY, but the index that it would replace does not exist"
        )
        return item(index, KEEP, why, state="left")
    return _permitted(item(index, REBUILD, "it is invalid: its build failed or was interrupted"), index.may_maintain)


def _permitted(found: Item[Leftover], allowed: bool) -> Item[Leftover]:
    if allowed:
        return found
    why = f"{found.why}, and the login lacks the privilege to change it"
    return item(found.facts.index, KEEP, why, state="left", of=found.facts.of)


def _original(index: Index, indexes: Iterable[Index]) -> Index | None:
    """What an interrupted rebuild was to replace."""
    stem, found = BUILD_SUFFIX.subn("", index.name)
    if not found:
        return None
    cut = len(index.name.encode()) > _NAME_BYTES - _LONGEST_CHARACTER  # the stem was shortened to make room
    for other in indexes:
        same = other.definition == index.definition and other.unique == index.unique and other.oid != index.oid
        if same and (
            other.name == stem or (cut and other.name.startswith(stem) and not BUILD_SUFFIX.search(other.name))
        ):
            return other
    return None


def of_rebuild(index: Index, indexes: Sequence[Index]) -> list[Index]:
    """What an interrupted rebuild of this very index has left."""
    found = []
    for each in indexes:
        if each.usable or each.table_oid != index.table_oid:
            continue
        original = _original(each, indexes)
        if original is not None and original.identity == index.identity:
            found.append(each)
    return found


def drop(session: Session, index: Index) -> None:
    """Drop an invalid index without blocking other sessions; fine if it does not exist any more.

    It waits for the session that works on the table, so that a build that began meanwhile is not disturbed.

    Raises:
        QueryFailed: it is locked for too long, or the login has no right.
    """
    now = session.query(sql.NOW, {"schema": index.schema, "name": index.name})
    if not now or now[0].oid != index.oid or now[0].usable:
        return
    try:
        session.execute(compose("DROP INDEX CONCURRENTLY IF EXISTS {}.{}", index.schema, index.name))
    except QueryFailed as exc:
        if exc.details.get("lost") or not causes.absent(session, index.oid, index.schema, index.name):
            raise
