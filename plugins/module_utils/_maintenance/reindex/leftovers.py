# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What interrupted builds of indexes have left: which to drop, which to rebuild, which to leave to people.

REINDEX CONCURRENTLY builds `name_ccnew` beside `name`, gives it the name, and drops what is `name_ccold` then. If it is
interrupted, one of the two stays, invalid; while `name` is whole at every moment. CREATE INDEX CONCURRENTLY leaves the
index itself, DROP INDEX CONCURRENTLY as well. https://www.postgresql.org/docs/current/sql-reindex.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..._errors import QueryFailed
from ..._postgres.connection import Session
from ..._postgres.statements import compose
from .. import causes
from . import sql
from . import sql as reindex_sql
from .indexes import BUILD_SUFFIX, Index

_NAME_BYTES = 63  # NAMEDATALEN - 1
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class Worker:
    """Somebody who works on a table as only one may; a prepared transaction has no process."""

    pid: int | None
    user: str
    application: str
    command: str

    def __str__(self) -> str:
        """For people."""
        if self.pid is None:
            return "a prepared transaction (see pg_prepared_xacts)"
        name = f" ({self.application})" if self.application else ""
        return f"process {self.pid} of {self.user or 'somebody'}{name}, {self.command}"


@dataclass(frozen=True)
class Leftover:
    """An invalid index, and what to do with it.

    Attributes:
        fate: `drop`, `rebuild`, or `leave`.
        of: the index that an interrupted rebuild was to replace by it; else empty.
        why: one sentence without a full stop.
        state: what came of it: `due`, `dropped`, `failed` or `left`.
    """

    index: Index
    fate: str
    why: str
    state: str = "due"
    of: str = ""

    def as_dict(self) -> dict[str, object]:
        """For a module's result."""
        return {
            "schema": self.index.schema,
            "name": self.index.name,
            "table": self.index.table_name,
            "size_bytes": self.index.size_bytes,
            "state": self.state,
            "why": self.why,
        }


def workers(session: Session, pids: Sequence[int]) -> dict[int, Worker]:
    """Who works on which table just now, but for these processes, which are ours."""
    rows = session.query(sql.WORKERS, {"pids": list(pids)})
    return {row.table_oid: Worker(row.pid, row.user or "", row.application or "", row.command) for row in rows}


def judge(indexes: Sequence[Index], busy: Mapping[int, Worker]) -> list[Leftover]:
    """What to do with each invalid index. Pure."""
    found = []
    for each in indexes:
        if each.usable or each.partitioned or each.shared:
            continue
        worker = busy.get(each.table_oid)
        if worker is not None:
            found.append(Leftover(each, "leave", f"somebody works on its table just now: {worker}", "left"))
        else:
            found.append(_judge(each, indexes))
    return found


def _judge(index: Index, indexes: Iterable[Index]) -> Leftover:
    original = _original(index, indexes)
    if original is not None:
        why = f"a rebuild of {original.identity} was interrupted"
        return _mine(Leftover(index, "drop", why, of=original.identity), index.owned)
    if not index.live:
        return _mine(Leftover(index, "drop", "somebody has dropped it, and was interrupted"), index.owned)
    if index.of_a_build:
        why = "it is called as an interrupted rebuild calls its own, but there is no index that it could be of"
        return Leftover(index, "leave", why, "left")
    return _mine(Leftover(index, "rebuild", "its build failed or was interrupted"), index.may_maintain)


def _mine(leftover: Leftover, allowed: bool) -> Leftover:
    if allowed:
        return leftover
    return replace(leftover, fate="leave", why=f"{leftover.why}, and the login has no right to change it", state="left")


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
    """Drop an invalid index without keeping anybody waiting; fine if it is gone.

    It waits for who works on the table, so that a build that began meanwhile is not disturbed.

    Raises:
        QueryFailed: it is locked for too long, or the login has no right.
    """
    now = session.query(reindex_sql.NOW, {"schema": index.schema, "name": index.name})
    if not now or now[0].oid != index.oid or now[0].usable:
        return
    try:
        session.execute(compose("DROP INDEX CONCURRENTLY IF EXISTS {}.{}", index.schema, index.name))
    except QueryFailed as exc:
        if exc.details.get("lost") or not causes.absent(session, index.oid, index.schema, index.name):
            raise
