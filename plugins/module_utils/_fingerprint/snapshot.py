# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a snapshot for a dump and a fingerprint: in a session of ours, or in a psql beside the server.

The psql is for places where a session of ours may be cut off while the server and the dump live on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from .._errors import QueryFailed
from .._postgres import sqlstate
from .._postgres.connection import Server, Session
from .._postgres.connection_errors import locked
from .._units import counted
from .sql import content as sql

_LOCKS_AT_ONCE = 500
_LOCK_ATTEMPTS = 10
# pg_dump holds a lock on each table in its leader, one more in a worker, and one on a sequence if there is one.
_LOCKS_BY_PG_DUMP = 3
_PATIENCE_S = 60
_POLL_S = 0.1
# What psql waits for inside of its transaction: the end of the file, or its own. POSIX sh, constant text. A process
# whose parent has ended has another one, while the parent's number may be that of another process by then.
_WAIT = r"\! while [ -e "
_UNTIL_GONE = (
    r' ] && read -r self name state parent rest </proc/self/stat && [ "$parent" = "$PPID" ]'
    r"; do sleep 0.2 || sleep 1; done; exit 0"
)


def locked_snapshot(session: Session, *, lock: bool) -> str:
    """Begin a transaction that holds every table as it is, then export its snapshot.

    TRUNCATE and some ALTER TABLE are not MVCC-safe (https://www.postgresql.org/docs/current/mvcc-caveats.html): one
    that commits after the snapshot and before pg_dump has its own locks would show. So the locks come first; a snapshot
    is only taken by the first query after them (https://www.postgresql.org/docs/current/sql-lock.html). Tables that
    were created in between are locked next; if one was dropped meanwhile, all of it begins again. Where its lock table
    has no room for our locks beside pg_dump's, there are none, and `finish` looks whether that mattered.
    """
    for attempt in range(_LOCK_ATTEMPTS):
        names = [row.identity for row in session.query(sql.TABLES)] if lock else []
        if len(names) * _LOCKS_BY_PG_DUMP > session.value(sql.LOCK_TABLE_SIZE):
            lock = False
        session.query(sql.BEGIN)
        if not lock:
            return str(session.value(sql.EXPORT_SNAPSHOT))
        try:
            _lock(session, names)
            snapshot = str(session.value(sql.EXPORT_SNAPSHOT))
            known = set(names)
            _lock(session, [row.identity for row in session.query(sql.TABLES) if row.identity not in known])
            if not session.query(sql.REPLACED) or attempt + 1 == _LOCK_ATTEMPTS:
                return snapshot
            session.query("ROLLBACK")
        except QueryFailed as exc:
            session.query("ROLLBACK")
            dropped_meanwhile = exc.details.get("sqlstate") in (sqlstate.UNDEFINED_TABLE, sqlstate.INVALID_SCHEMA_NAME)
            if dropped_meanwhile and attempt + 1 < _LOCK_ATTEMPTS:
                continue
            raise locked(exc) from None
    raise AssertionError("unreachable")


def _lock(session: Session, names: Sequence[str]) -> None:
    for at in range(0, len(names), _LOCKS_AT_ONCE):
        some = ", ".join(f"ONLY {name}" for name in names[at : at + _LOCKS_AT_ONCE])
        session.query(f"LOCK TABLE {some} IN ACCESS SHARE MODE")


def storage(session: Session) -> dict[int, int]:
    """The file of each table. TRUNCATE, and whatever rewrites a table, gives it another one."""
    return {row.oid: row.relfilenode for row in session.query(sql.STORAGE)}


def refuse_replaced(before: Mapping[int, int], after: Mapping[int, int]) -> None:
    """Raise QueryFailed if a table has another file than before; one that was dropped is fine."""
    replaced = [oid for oid, file in before.items() if after.get(oid, file) != file]
    if replaced:
        raise QueryFailed(
            "A table was emptied or rewritten while the backup was taken",
            subject=f"{counted(len(replaced), 'table')}, the first has the OID {replaced[0]}",
            why="TRUNCATE, VACUUM FULL, CLUSTER and some ALTER TABLE do not respect snapshots",
            remedy="Take the backup again at another time, or raise max_locks_per_transaction to block them.",
        )


def enter(session: Session, snapshot: str) -> None:
    """Begin a transaction that sees this snapshot."""
    try:
        session.query(f"{sql.BEGIN}; SET TRANSACTION SNAPSHOT '{snapshot}'")
    except QueryFailed as exc:
        raise QueryFailed(
            "The fingerprint lost its snapshot",
            why=exc.why,
            remedy="The session that held it has ended: see the server's log for the reason, then run again.",
            details={**exc.details, "snapshot_lost": not exc.details.get("lost")},
        ) from None


@contextmanager
def held(server: Server, db: str, psql: str, directory: str) -> Iterator[str]:
    """A transaction that exports its snapshot and stays open; yields the snapshot's name.

    Args:
        psql: the program's path on the target.
        directory: where one of our own may be made on the target, whose removal ends the transaction. Only one run at a
            time may use it: what a dead one left there is removed.

    Raises:
        QueryFailed: the transaction could not begin.
    """
    files = server.target.files
    home = f"{directory}/.snapshot"
    flag, log = f"{home}/flag", f"{home}/log"
    files.remove_tree(home)
    files.make_dir(home)
    files.write(flag, b"")
    job = server.target.spawn(
        [
            psql, "--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align",
            "--set=ON_ERROR_STOP=1", f"--dbname={server.login.conninfo(db, 'psql')}",
            "--command=SET idle_in_transaction_session_timeout = 0", "--command=SET statement_timeout = 0",
            f"--command=DO $$ BEGIN PERFORM * FROM ({sql.NO_TIMEOUTS.strip()}) AS timeouts; END $$",
            f"--command={sql.BEGIN}", f"--command={sql.EXPORT_SNAPSHOT}",
            f"--command={_WAIT}'{_quoted(flag)}'{_UNTIL_GONE}",
        ],
        env=server.login.environ(),
        log=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not files.read(log).endswith(b"\n"):
            if job.wait(_POLL_S) is not None or time.monotonic() > deadline:
                raise QueryFailed(
                    "The snapshot cannot be taken",
                    subject=f"{db!r} on {server.target.name}",
                    why=job.tail(),
                    remedy="See the server's log for the reason, then run again.",
                )
        yield files.read(log).decode().splitlines()[-1].strip()
    finally:
        files.remove_tree(flag)
        if job.wait(_POLL_S * 50) is None:
            job.stop()
        files.remove_tree(home)


def _quoted(path: str) -> str:
    return path.replace("'", "'\\''")
