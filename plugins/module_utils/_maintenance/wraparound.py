# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How near databases are to wraparound, what keeps their rows from being frozen, and what helps.

A database is as old as its oldest relation, the shared catalogs among them. VACUUM freezes what is older than every
transaction that may still see the rows; it cannot touch the temporary tables of other sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .._diagnostics.activity.facts import moment
from .._findings import Finding
from .._postgres import procedures
from .._postgres.connection import Session
from .._units import to_rfc3339
from . import sql

# The share of autovacuum_freeze_max_age from which on a database is named and `vacuum` acts: before autovacuum comes by
# itself, which then gives way to no lock. At this very share (150 of 200 million) vacuum_freeze_table_age makes VACUUM
# read whole tables.
SHARE = 0.75
_LATE = 2.0  # times that: autovacuum has had time to do it, and has not
# The server stops assigning transaction ids three million before 2^31. Autovacuum's failsafe begins at 1.6 milliards.
NEAR_THE_END = 1_500_000_000
STOPS_AT = 2**31 - 3_000_000
_NUMBERS_ARE_TOLD = 160000
_MOST_TOLD = 3
_RUN = "Run the playbook godel.postgres_runbook.vacuum with -e vacuum_freeze=true -e postgres_db="


@dataclass(frozen=True)
class DatabaseAge:
    """A database, its age in transactions and multixacts, and the ages at which autovacuum begins."""

    name: str
    current: bool
    connectable: bool
    template: bool
    freeze_age: int
    multixact_age: int
    freeze_max_age: int
    multixact_freeze_max_age: int

    def share(self) -> float:
        """The larger age as a share of its limit."""
        return max(self.freeze_age / self.freeze_max_age, self.multixact_age / self.multixact_freeze_max_age)

    def aged(self, share: float = SHARE) -> bool:
        """Whether its oldest rows should be frozen now."""
        return self.share() >= share

    @property
    def by_multixacts(self) -> bool:
        """Whether its multixacts are what makes it old."""
        return self.multixact_age / self.multixact_freeze_max_age > self.freeze_age / self.freeze_max_age

    @property
    def oldest(self) -> tuple[int, int, str]:
        """The age that counts, the age at which autovacuum begins, and of what they are."""
        if self.by_multixacts:
            return self.multixact_age, self.multixact_freeze_max_age, "multixacts"
        return self.freeze_age, self.freeze_max_age, "transactions"


@dataclass(frozen=True)
class FreezeObstacle:
    """What keeps rows from being frozen: `kind` is `session`, `standby`, `slot`, `prepared` or `temporary`.

    Attributes:
        subject: the process id, the name of the standby, the slot or the table, the id of the prepared transaction.
        age: transactions since the oldest that it holds.
        text: what it is, for people. `remedy`: what lets go of the rows.
    """

    kind: str
    subject: str
    age: int
    text: str
    remedy: str


def databases(session: Session) -> list[DatabaseAge]:
    """All of them, the oldest first."""
    return [DatabaseAge(**row._asdict()) for row in session.query(sql.DATABASES)]


def obstacles(session: Session, database: DatabaseAge) -> list[FreezeObstacle]:
    """What would keep VACUUM from making a database younger, the oldest first.

    Temporary tables are seen in the session's own database only.
    """
    least = int(database.freeze_max_age * SHARE)
    rows = [row for row in session.query(sql.HOLDERS) if row.age is not None]
    found = [_holder(row) for row in rows if (row.lasting if database.by_multixacts else row.age >= least)]
    if database.current:
        found += _temporary(session, least, int(database.multixact_freeze_max_age * SHARE))
    return sorted(found, key=lambda each: -each.age)


def _holder(row: Any) -> FreezeObstacle:
    quoted = row.subject.replace("'", "''")
    if row.kind == "session" and row.procedure:
        text = f"{procedures.name(row.procedure).lower()} ({_session(row.subject, row)})"
        remedy = "Wait until it ends: its snapshot lasts as long as it runs."
    elif row.kind == "session":
        since = f", its transaction began at {to_rfc3339(row.since)}" if row.since else ""
        text = f"the transaction of {_session(row.subject, row)} in {row.database or 'the server'}{since}"
        remedy = _end(row.subject, row.began)
    elif row.kind == "prepared":
        text = f"the prepared transaction {row.subject} of {row.user} in {row.database}, of {to_rfc3339(row.since)}"
        remedy = f"Finish it in {row.database}: COMMIT PREPARED '{quoted}' or ROLLBACK PREPARED '{quoted}'."
    elif row.kind == "slot":
        text = f"the {row.application} replication slot {row.subject}, {row.state}"
        remedy = "End the long query of the standby that uses it, or see why its consumer does not confirm."
        if row.state == "not in use":
            remedy = f"If its consumer does not come back: SELECT pg_drop_replication_slot('{quoted}')."
    else:
        text = f"queries on the standby {row.subject} at {row.application} (hot_standby_feedback)"
        remedy = "End the long query on the standby, or turn off hot_standby_feedback there."
    return FreezeObstacle(row.kind, row.subject, row.age, text, remedy)


def _session(pid: object, row: Any) -> str:
    application = f" ({row.application})" if row.application else ""
    state = row.state or "its state is hidden from this login"
    return f"process {pid} of {row.user or 'the server'}{application}, {state}"


def _end(pid: object, began: datetime | None) -> str:
    start = f" -e terminate_sessions_backend_start={moment(began)}" if began else ""
    return (
        "Let it end, or run the playbook godel.postgres_runbook.terminate_sessions with"
        f" -e terminate_sessions_pid={pid}{start}."
    )


def _temporary(session: Session, age: int, multixact_age: int) -> Iterator[FreezeObstacle]:
    tables: dict[int, list[Any]] = {}
    for row in session.query(sql.TEMPORARY, {"age": age, "multixact_age": multixact_age}):
        tables.setdefault(row.number, []).append(row)
    backends = session.query(sql.BACKENDS) if tables else []
    for number, rows in tables.items():
        names = ", ".join(each.identity for each in rows[:_MOST_TOLD])
        names += " and others" if len(rows) > _MOST_TOLD else ""
        owners = _owners(backends, number, session.server_version)
        what = "the temporary tables" if len(rows) > 1 else "the temporary table"
        if not owners:
            text = f"{what} {names}, whose session has ended"
            drops = " ".join(f"DROP TABLE {each.identity};" for each in rows[:_MOST_TOLD])
            remedy = f"The next autovacuum of the database drops such tables, or as a superuser: {drops}"
        else:
            told = " or ".join(
                f"{_session(each.pid, each)}, connected since {to_rfc3339(each.began)}" for each in owners[:_MOST_TOLD]
            )
            text = f"{what} {names} of {told}"
            remedy = f"Only that session can VACUUM or drop it. {_end(owners[0].pid, owners[0].began)}"
            if len(owners) > 1:
                remedy = "Only that session can VACUUM or drop it: find out which of these it is, and end that one."
        yield FreezeObstacle("temporary", rows[0].identity, max(each.age for each in rows), text, remedy)


def _owners(backends: Sequence[Any], number: int, server_version: int) -> list[Any]:
    """The session whose temporary schema has this number; before PostgreSQL 16 all that may be it."""
    if server_version >= _NUMBERS_ARE_TOLD:
        return [each for each in backends if each.place == number and each.here]
    known = [each for each in backends if each.number is not None]
    return [each for each in backends if each.here and _may_be(each, number, known)]


def _may_be(backend: Any, number: int, known: Sequence[Any]) -> bool:
    """Whether a backend can have this number: numbers rise with places, with gaps where sessions have ended."""
    for each in known:
        distance = backend.place - each.place
        if distance == 0 and number != each.number:
            return False
        if distance > 0 and number < each.number + distance:
            return False
        if distance < 0 and number > each.number + distance:
            return False
    return bool(number >= backend.place)


def advice(database: DatabaseAge) -> str:
    """What makes a database younger when nothing holds its rows."""
    if database.connectable:
        return f"{_RUN}{_word(database.name)}."
    name = '"' + database.name.replace('"', '""') + '"'
    return (
        "It allows no connections, so only autovacuum freezes its rows: check that autovacuum works."
        f" Otherwise: ALTER DATABASE {name} ALLOW_CONNECTIONS true; {_RUN[0].lower()}{_RUN[1:]}{_word(database.name)};"
        f" then ALTER DATABASE {name} ALLOW_CONNECTIONS false;"
    )


def _word(name: str) -> str:
    """A database's name as an argument of a shell."""
    safe = name.replace("_", "").replace("-", "").isalnum()
    return name if safe else "'" + name.replace("'", "'\\''") + "'"


def finding(database: DatabaseAge, held_by: Sequence[FreezeObstacle], check: str, share: float = SHARE) -> Finding:
    """That a database nears wraparound, what holds its rows, and what helps."""
    age, limit, what = database.oldest
    severity = "info"
    if held_by or age >= limit * share * _LATE:
        severity = "warning"
    if age >= NEAR_THE_END:
        severity = "critical"
    threshold = NEAR_THE_END if severity == "critical" else round(limit * share)
    left = max(0, STOPS_AT - age)
    message = (
        f"The oldest rows of {database.name} are {age:,} {what} old; autovacuum freezes them from {limit:,} on."
        f" The server stops accepting writes after another {left:,}."
    )
    if not held_by:
        return Finding(check, severity, database.name, age, threshold, message, advice(database))
    verb = "may hold" if database.by_multixacts else "holds"
    told = "; ".join(f"{each.text} ({each.age:,} transactions old)" for each in held_by[:_MOST_TOLD])
    message += f" This {verb} them: {told}" + ("; and others." if len(held_by) > _MOST_TOLD else ".")
    remedies = list(dict.fromkeys(each.remedy for each in held_by[:_MOST_TOLD]))
    again = advice(database)
    if database.connectable:
        again = f"Then {again[0].lower()}{again[1:]}"
    return Finding(check, severity, database.name, age, threshold, message, " ".join([*remedies, again]))


def findings(session: Session, found: Sequence[DatabaseAge], check: str, share: float = SHARE) -> list[Finding]:
    """One finding for each of these databases that is as old as this share of its limit; three statements for each."""
    return [finding(each, obstacles(session, each), check, share) for each in found if each.aged(share)]
