# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database has and a backup of it has not: pg_dump does not carry it, or this login cannot see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .._errors import QueryFailed
from .._findings import Finding
from .._fingerprint.figures import Fingerprint
from .._postgres.connection import Session
from .._units import counted
from . import sql

_SHOWN = 5
_LONGEST = 1000  # of a statement in a remedy
_COUNTED_BYTES = 256 * 1024 * 1024  # a larger table is not read for the number of its rows
_AFTERWARDS = "After a restore, run: {statements}"


@dataclass(frozen=True)
class Kind:
    """One kind of loss: how one or many (`{}`) are called, why they are lost, and what helps (with `{statements}`)."""

    severity: str
    one: str
    many: str
    why: str
    remedy: str = _AFTERWARDS


_KINDS: Mapping[str, Kind] = {
    "member_object": Kind(
        "warning",
        "1 object on an extension's table is not in a backup",
        "{} objects on extensions' tables are not in a backup",
        "pg_dump writes CREATE EXTENSION, but no objects that were added to the extension's tables",
    ),
    "member_added": Kind(
        "info",
        "1 object joined its extension later",
        "{} objects joined their extensions later",
        "pg_dump leaves out objects that ALTER EXTENSION ... ADD, and no update of the extension, has added",
        "Take objects of your own out of it with ALTER EXTENSION ... DROP.",
    ),
    "member_unknown": Kind(
        "info",
        "1 extension comes from pg_upgrade",
        "{} extensions come from pg_upgrade",
        "Objects added to its tables cannot be distinguished from its own, and are not in a backup",
        "Compare the definitions of its tables after a restore.",
    ),
    "member_owner": Kind(
        "warning",
        "1 changed owner is not in a backup",
        "{} changed owners are not in a backup",
        "CREATE EXTENSION gives all its objects to one role",
    ),
    "extension_owner": Kind(
        "info",
        "1 extension has a different owner after a restore",
        "{} extensions have different owners after a restore",
        "It then belongs to the superuser that restores",
        "To give it to that role, drop and create it after a restore: {statements}",
    ),
    "extension_version": Kind(
        "warning",
        "1 extension has a different version after a restore",
        "{} extensions have different versions after a restore",
        "pg_dump writes CREATE EXTENSION without a version",
        "Upgrade it with ALTER EXTENSION ... UPDATE, or create it manually: {statements}",
    ),
    "member_publication": Kind(
        "warning",
        "1 published table is not in a backup's publication",
        "{} published tables are not in a backup's publications",
        "pg_dump before 18 leaves out the tables of extensions",
    ),
    "comment": Kind(
        "warning",
        "1 comment is not in a backup",
        "{} comments are not in a backup",
        "pg_dump leaves out comments on such objects",
    ),
    "invalid_index": Kind(
        "warning",
        "1 invalid index is not in a backup",
        "{} invalid indexes are not in a backup",
        "pg_dump dumps only valid indexes",
        "Make it valid with REINDEX INDEX CONCURRENTLY, or drop it. Its definition: {statements}",
    ),
    "detach_pending": Kind(
        "critical",
        "1 partition has an unfinished DETACH CONCURRENTLY",
        "{} partitions have an unfinished DETACH CONCURRENTLY",
        "A query on the parent does not show its rows; after a restore it does, because pg_dump attaches it",
        "Finish it, then take the backup again: {statements}",
    ),
    "disabled_constraint": Kind(
        "warning",
        "1 foreign key has disabled triggers",
        "{} foreign keys have disabled triggers",
        "pg_dump leaves out the state of internal triggers: after a restore it is enforced",
    ),
    "user_mapping": Kind(
        "critical",
        "1 user mapping hides its options from this login",
        "{} user mappings hide their options from this login",
        "pg_dump writes them without options, passwords among them",
        "Take backups as a superuser, or set the options after a restore: {statements}",
    ),
    "system_relation": Kind(
        "critical",
        "1 table in a system schema is not in a backup",
        "{} tables in system schemas are not in a backup",
        "pg_dump leaves out all objects that were created in pg_catalog or information_schema",
        "Move it with ALTER TABLE ... SET SCHEMA, then take the backup again.",
    ),
    "system_object": Kind(
        "warning",
        "1 object in a system schema is not in a backup",
        "{} objects in system schemas are not in a backup",
        "pg_dump leaves out all objects that were created in pg_catalog or information_schema",
        "Move it into a schema of your own, or create it again after a restore: {statements}",
    ),
    "built_in": Kind(
        "warning",
        "1 change of a built-in object is not in a backup",
        "{} changes of built-in objects are not in a backup",
        "pg_dump dumps only the privileges of built-in objects",
        "Make the change again after a restore.",
    ),
    "privilege": Kind(
        "warning",
        "1 changed privilege is not in a backup",
        "{} changed privileges are not in a backup",
        "pg_dump leaves out privileges on such objects",
        "Grant and revoke again after a restore.",
    ),
    "security_label": Kind(
        "warning",
        "1 security label is not in a backup",
        "{} security labels are not in a backup",
        "pg_dump writes those of the database only with its option --create",
    ),
    "subscription": Kind(
        "warning",
        "1 subscription is left out by a restore",
        "{} subscriptions are left out by a restore",
        "A copy with the subscription would receive the changes meant for this database",
        "Run CREATE SUBSCRIPTION after a restore.",
    ),
    "prepared_transaction": Kind(
        "warning",
        "1 prepared transaction is not in a backup",
        "{} prepared transactions are not in a backup",
        "A backup contains only committed transactions",
        "End it, then take the backup again: {statements} Or: ROLLBACK PREPARED.",
    ),
    "foreign_rows": Kind(
        "info",
        "The rows of 1 foreign table are not in a backup",
        "The rows of {} foreign tables are not in a backup",
        "The rows are on another server",
        "Back up that server.",
    ),
    "unlogged_rows": Kind(
        "critical",
        "The content of 1 unlogged table or sequence is not in a backup",
        "The content of {} unlogged tables and sequences is not in a backup",
        "A standby does not have this content",
        "Take backups from the primary.",
    ),
    "tablespace": Kind(
        "warning",
        "1 tablespace is not in a backup of the format plain",
        "{} tablespaces are not in a backup of the format plain",
        "After a restore all relations are in the database's default tablespace",
        "Use another format, or run after a restore for each of its relations: {statements}",
    ),
}


def find(session: Session, tool_major: int, *, plain: bool = False) -> list[Finding]:
    """Known losses of a backup of the session's database, and so of a restore from it.

    Args:
        tool_major: the major version of the pg_dump in question; newer ones carry more.
        plain: it writes a script, which has no tablespaces.

    Raises:
        QueryFailed: the connection was lost. A statement that the server refuses is a finding.
    """
    found = _looked_for("rows of extensions' tables", lambda: list(_rows(session)))
    found += _looked_for("positions of extensions' sequences", lambda: _sequences(session))
    for kind, statement in sql.STATEMENTS.items():
        carried = sql.CARRIED_SINCE.get(kind, tool_major + 1) <= tool_major or (kind == "tablespace" and not plain)
        if not carried:
            found += _looked_for(kind.replace("_", " "), partial(_of_kind, session, kind, statement))
    return found


def unread(fingerprint: Fingerprint | None) -> list[Finding]:
    """The tables whose content a fingerprint lacks: they are in the backup, but cannot be verified."""
    remedy = "Correct what prevents the server from reading it, then take the backup again."
    return [
        Finding(
            "unread_table", "warning", table, None, None,
            f"The fingerprint lacks the content of {table}, which could not be read: {why}", remedy,
        )
        for table, why in (fingerprint.unread_tables if fingerprint else {}).items()
    ]  # fmt: skip


def told(findings: Sequence[Finding]) -> str:
    """One sentence with the number of findings that are worth a look; empty when there are none."""
    count = sum(finding.severity in ("warning", "critical") for finding in findings)
    if not count:
        return ""
    return f"{'1 finding shows' if count == 1 else f'{count} findings show'} what a restore of it would lack or change."


def _looked_for(what: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except QueryFailed as exc:
        if exc.details.get("lost"):
            raise
        message = f"The check for what a backup lacks failed ({what}): {exc.why}"
        return [Finding("lost_unknown", "warning", what, None, None, message, exc.remedy)]


def _of_kind(session: Session, kind: str, statement: str) -> list[Finding]:
    """One finding for all objects of a kind."""
    rows = session.query(statement)
    if not rows:
        return []
    about = _KINDS[kind]
    subjects = _first([row.subject for row in rows], "; ")
    statements = _first([row.statement for row in rows if row.statement], " ")
    count = about.one if len(rows) == 1 else about.many.format(len(rows))
    remedy = about.remedy if statements else about.remedy.replace("{statements}", "the statement that created it.")
    remedy = remedy.replace("{statements}", statements)
    message = f"{count}: {subjects}. {about.why}."
    return [Finding(f"lost_{kind}", about.severity, subjects, len(rows), 0, message, remedy)]


def _first(texts: Sequence[str], between: str) -> str:
    shown = between.join(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..." for text in texts[:_SHOWN])
    return shown + (f"{between}and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")


def _rows(session: Session) -> Iterator[Finding]:
    """Tables of extensions whose rows pg_dump leaves out, but for rows that the extension's script inserts again."""
    for row in session.query(sql.MEMBER_TABLES):
        try:
            lost: int | None = _lost(session, row)
        except QueryFailed as exc:
            if exc.details.get("lost"):
                raise
            lost = None  # no right to read it, say
        number = row.estimate if lost is None else lost
        if number == 0 and (lost is not None or row.configures or row.size_bytes == 0):
            continue
        rows = counted(number, "row") if lost else f"About {counted(number, 'row')}" if number else "Rows"
        table, extension = row.identity, row.extension
        why = f"It belongs to the extension {extension} and is not a configuration table: pg_dump leaves out its rows."
        if row.configures:
            why = f"The extension {extension} makes pg_dump leave out rows that fail the condition {row.condition!r}."
        remedy = (
            f"If the table is your own, run ALTER EXTENSION {extension} DROP TABLE {table}, then take the backup "
            "again. Otherwise save its rows with COPY, and load them after a restore."
        )
        message = f"{rows} of {table} will be missing after a restore. {why}"
        yield Finding("lost_rows", "critical", table, number, 0, message, remedy)


def _lost(session: Session, row: Any) -> int | None:
    """How many rows of the table a backup lacks; None if that was not counted."""
    if row.size_bytes > _COUNTED_BYTES:
        return None
    if not row.scripts and row.configures:
        return 0  # what fails the condition is most likely the extension's own
    scripts = ", ".join(f"'{script}'" for script in row.scripts)
    own = f"NOT (read.xmin = ANY (ARRAY[{scripts}]::pg_catalog.xid[]))"
    found = f"SELECT pg_catalog.count(*) FROM (SELECT xmin FROM ONLY {row.identity} {{}}) AS read WHERE {own}"  # noqa: S608  # quoted
    every = int(session.value(found.format("")))
    return every - int(session.value(found.replace("{}", row.condition))) if row.configures and every else every


def _sequences(session: Session) -> list[Finding]:
    """Sequences of extensions that were used: pg_dump carries the position of configuration sequences only."""
    used = {}
    for row in session.query(sql.MEMBER_SEQUENCES):
        [(last, called)] = session.query(f"SELECT last_value, is_called FROM {row.identity}")  # noqa: S608  # quoted
        if called or last != row.start:
            used[f"{row.identity} of the extension {row.extension} at {last}"] = (row.identity, last, called)
    if not used:
        return []
    count = counted(len(used), "sequence")
    calls = [
        f"SELECT pg_catalog.setval('{name}', {last}, {str(called).lower()});" for name, last, called in used.values()
    ]
    subjects = _first(list(used), "; ")
    message = (
        f"A restore resets {count} to the start: {subjects}. pg_dump leaves out the positions of extensions' sequences."
    )
    remedy = _AFTERWARDS.replace("{statements}", _first(calls, " "))
    return [Finding("lost_positions", "warning", subjects, len(used), 0, message, remedy)]
