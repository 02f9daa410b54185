# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of long statements, as the server reports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from .connection import Session

_EVERY_S = 1.0


@dataclass(frozen=True)
class Progress:
    """How far one statement is.

    Attributes:
        pid: the backend that runs it.
        command: `VACUUM`, `VACUUM FULL`, `CLUSTER`, `CREATE INDEX`, `REINDEX`, `ANALYZE`, `COPY FROM`, `BASE_BACKUP`.
        relation: on what, quoted where it has to be; the OID if it is in another database; or empty.
        phase: in the server's words.
        done: in `unit` (`blocks`, `rows`, `indexes`, `bytes`, `transactions` that are waited for).
        total: likewise, or None when it is not known.
        share: of this phase, 0 to 1, or None.
    """

    pid: int
    command: str
    relation: str
    phase: str
    done: int
    total: int | None
    unit: str
    share: float | None


def look(session: Session) -> list[Progress]:
    """All that runs now, on the whole server; without pg_read_all_stats only what the login itself runs."""
    statement = PROGRESS_17 if session.server_version >= 170000 else PROGRESS
    return [_progress(*row) for row in session.query(statement)]


def watch(
    session: Session,
    still: Callable[[], bool],
    *,
    pids: Collection[int] | None = None,
    every_s: float = _EVERY_S,
) -> Iterator[Progress]:
    """What changed since the last look, once in a while, until `still` is false.

    Args:
        session: a connection of its own, not the one that works.
        pids: only these backends; all of them, when it is left out.
    """
    before: list[Progress] = []
    while still():
        now = [each for each in look(session) if pids is None or each.pid in pids]
        yield from (each for each in now if each not in before)
        before = now
        time.sleep(every_s)


def _progress(
    pid: int, command: str, relation: str, phase: str, done: int | None, total: int | None, unit: str
) -> Progress:
    share = min(1.0, (done or 0) / total) if total else None
    return Progress(pid, command, relation, phase, done or 0, total, unit, share)


# --- progress

# pid, database, relation (OID), command, phase, done, total, unit. What cannot be counted in a phase is null.
_VACUUM = """
SELECT pid, datname, relid, 'VACUUM' AS command, phase,
       CASE phase WHEN 'vacuuming heap' THEN heap_blks_vacuumed ELSE heap_blks_scanned END AS done,
       heap_blks_total AS total, 'blocks' AS unit
FROM pg_catalog.pg_stat_progress_vacuum
"""

# Since 17 indexes are counted, too.
_VACUUM_17 = """
SELECT pid, datname, relid, 'VACUUM' AS command, phase,
       CASE WHEN phase IN ('vacuuming indexes', 'cleaning up indexes') THEN indexes_processed
            WHEN phase = 'vacuuming heap' THEN heap_blks_vacuumed ELSE heap_blks_scanned END AS done,
       CASE WHEN phase IN ('vacuuming indexes', 'cleaning up indexes') THEN indexes_total
            ELSE heap_blks_total END AS total,
       CASE WHEN phase IN ('vacuuming indexes', 'cleaning up indexes') THEN 'indexes' ELSE 'blocks' END AS unit
FROM pg_catalog.pg_stat_progress_vacuum
"""

# Of VACUUM FULL as well. Scanning an index counts rows, whose number is not known.
_OTHERS = """
SELECT pid, datname, relid, command, phase,
       CASE WHEN heap_blks_total > 0 THEN heap_blks_scanned ELSE heap_tuples_scanned END,
       nullif(heap_blks_total, 0), CASE WHEN heap_blks_total > 0 THEN 'blocks' ELSE 'rows' END
FROM pg_catalog.pg_stat_progress_cluster
UNION ALL
SELECT pid, datname, coalesce(nullif(index_relid, 0), relid), command, phase,
       CASE WHEN phase LIKE 'waiting%' THEN lockers_done WHEN blocks_total > 0 THEN blocks_done ELSE tuples_done END,
       nullif(CASE WHEN phase LIKE 'waiting%' THEN lockers_total WHEN blocks_total > 0 THEN blocks_total
                   ELSE tuples_total END, 0),
       CASE WHEN phase LIKE 'waiting%' THEN 'transactions' WHEN blocks_total > 0 THEN 'blocks' ELSE 'rows' END
FROM pg_catalog.pg_stat_progress_create_index
UNION ALL
SELECT pid, datname, coalesce(nullif(current_child_table_relid, 0), relid), 'ANALYZE', phase,
       sample_blks_scanned, nullif(sample_blks_total, 0), 'blocks'
FROM pg_catalog.pg_stat_progress_analyze
UNION ALL
SELECT pid, datname, nullif(relid, 0), command, lower(type), bytes_processed, nullif(bytes_total, 0), 'bytes'
FROM pg_catalog.pg_stat_progress_copy
UNION ALL
SELECT pid, NULL, NULL, 'BASE_BACKUP', phase, backup_streamed, nullif(backup_total, 0), 'bytes'
FROM pg_catalog.pg_stat_progress_basebackup
"""

# Names of other databases' relations cannot be had. A null phase: the login may not see this session.
_NAMED = """
SELECT p.pid, p.command,
       CASE WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', n.nspname, c.relname)
            WHEN p.relid IS NOT NULL THEN pg_catalog.format('%s: %s', p.datname, p.relid) ELSE '' END AS relation,
       p.phase, p.done::bigint AS done, p.total::bigint AS total, p.unit
FROM ({union}) AS p
LEFT JOIN pg_catalog.pg_class c ON c.oid = p.relid AND p.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE p.phase IS NOT NULL
ORDER BY p.pid, p.command
"""

PROGRESS = _NAMED.replace("{union}", f"{_VACUUM} UNION ALL {_OTHERS}")

PROGRESS_17 = _NAMED.replace("{union}", f"{_VACUUM_17} UNION ALL {_OTHERS}")
