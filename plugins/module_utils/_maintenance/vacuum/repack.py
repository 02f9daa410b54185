# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rewriting tables by pg_repack, which locks them for moments only, and dropping what an interrupted one has left.

A pg_repack that was killed leaves a trigger on the table, which goes on to write every change into a log that no
process reads, and refuses the next attempt.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..._errors import CommandFailed, InvalidInput, ProgramMissing, QueryFailed
from ..._postgres import sqlstate
from ..._postgres.connection import Server, Session
from ..._postgres.statements import compose, together
from ..._target import work_directory
from ..._target.base import Target, describe_status
from . import sql
from .plan import VacuumPlan
from .tables import VacuumTable

_PLACES = (
    "/usr/lib/postgresql/{major}/bin/pg_repack",
    "/usr/pgsql-{major}/bin/pg_repack",
    "/usr/local/pgsql/bin/pg_repack",
    "/usr/local/bin/pg_repack",
    "/usr/bin/pg_repack",
)
_SIGINT = 2  # at which it drops what it made
_GRACE_S = 60.0
_POLL_S = 0.1
# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES = {
    "host": "PGHOST",
    "hostaddr": "PGHOSTADDR",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "service": "PGSERVICE",
    "options": "PGOPTIONS",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}


class Repack:
    """pg_repack on a target, for one database."""

    def __init__(self, target: Target, server: Server, work: Session, plan: VacuumPlan) -> None:
        """Nothing is looked at yet."""
        self._target = target
        self._server = server
        self._work = work
        self._plan = plan
        self._program = ""

    def prepare(self) -> None:
        """Find the program and the extension.

        Raises:
            ProgramMissing: the program is not on the target.
            InvalidInput: the extension is not in the database, is of another version, or the login may not use it.
        """
        major = self._work.server_version // 10000
        self._program = self._find(major)
        output = self._target.run([self._program, "--version"], timeout=30).text
        version = next(iter(re.findall(r"\d+\.\d[\w.]*", output)), "")
        extension = self._work.query(sql.EXTENSION)[0]
        why = remedy = ""
        if extension.version is None:
            why = "the extension is not in this database"
            remedy = "CREATE EXTENSION pg_repack, in this database."
        elif extension.version != version:
            why = f"the program is version {version}, and the extension in this database is {extension.version}"
            remedy = "DROP EXTENSION pg_repack, then CREATE EXTENSION pg_repack, in this database."
        elif not extension.superuser:
            why = "pg_repack needs a superuser"
            remedy = "Use the login of a superuser."
        if why:
            raise InvalidInput("pg_repack cannot work here", subject=repr(self._plan.db), why=why, remedy=remedy)

    def _find(self, major: int) -> str:
        here = self._plan.bin_dir
        places = [f"{here}/pg_repack"] if here else [place.format(major=major) for place in _PLACES]
        for place in places:
            if self._target.files.info(place) is not None:
                return place
        raise ProgramMissing(
            "pg_repack is missing",
            subject=self._target.name,
            remedy=f"Install it (on Debian the package postgresql-{major}-repack), or set its directory in bin_dir.",
        )

    def refusal(self, table: VacuumTable) -> str:
        """Why pg_repack cannot work on a table, as a clause; else empty."""
        rows = self._work.query(sql.KEY, (table.oid,))
        if not rows:
            return "pg_repack works on ordinary tables only"
        key = rows[0].has_key
        return "" if key else "pg_repack needs a primary key, or a unique index on columns that are NOT NULL"

    def run(self, table: VacuumTable, stop: Callable[[], object]) -> None:
        """Rewrite a table, until `stop` returns something true.

        Raises:
            CommandFailed: it did not work, with its last messages; or it was stopped, then `sqlstate` is 57014.
        """
        plan = self._plan
        argv = [
            self._program,
            f"--dbname={_quoted(plan.db)}",
            f"--table={_identifier(table.schema)}.{_identifier(table.name)}",
            "--no-order",
            "--no-kill-backend",
            f"--wait-timeout={max(1, round(plan.lock_timeout_s))}",
        ]
        if not plan.analyze:
            argv.append("--no-analyze")
        deadline = time.monotonic() + plan.statement_timeout_s if plan.statement_timeout_s else None
        with work_directory.work_directory(self._target, plan.scratch_dir) as home:
            job = self._target.spawn(argv, env=self._environ(), log=f"{home}/log", stop_signal=_SIGINT)
            try:
                while (status := job.poll()) is None:
                    if stop() or (deadline is not None and time.monotonic() > deadline):
                        job.stop(_GRACE_S)
                        raise CommandFailed("pg_repack was stopped", details={"sqlstate": sqlstate.QUERY_CANCELED})
                    time.sleep(_POLL_S)
                messages = job.tail()
            finally:
                job.stop(_GRACE_S)
        # It ends with 0 as well when it gave up, and says so.
        if status != 0 or "WARNING" in messages or "ERROR" in messages:
            complaints = [line for line in messages.splitlines() if line.startswith(("ERROR", "DETAIL", "WARNING"))]
            why = " ".join(complaints or messages.splitlines()[-3:])
            if status < 0:  # it could not clear up
                why = (
                    f"pg_repack {describe_status(status)} ({why}). The next run with method: repack drops its leftovers"
                )
            raise CommandFailed(
                "pg_repack failed",
                subject=table.title,
                why=why,
                details={"returncode": status},
            )

    def _environ(self) -> dict[str, str]:
        parameters = self._server.login.parameters(self._plan.db)
        parameters.pop("dbname")
        parameters.pop("application_name", None)  # by its own name pg_repack knows its own sessions
        unknown = sorted(parameters.keys() - _VARIABLES.keys())
        if unknown:
            raise InvalidInput(
                "pg_repack cannot take these connection parameters",
                subject=", ".join(unknown),
                remedy="Remove them from connect_params.",
            )
        return {_VARIABLES[name]: value for name, value in parameters.items()}

    def clean(self, notes: list[str]) -> list[str]:
        """Drop what an interrupted pg_repack has left, where none is running; the tables that were cleaned."""
        cleaned = []
        for left in self._work.query(sql.LEFTOVERS):
            title = f"{left.schema}.{left.name}" if left.there else f"a dropped table ({left.id})"
            if not self._work.value(sql.TRY_LOCK, (left.id,)):
                notes.append(f"Another pg_repack is working on {title}.")
                continue
            try:
                self._work.execute(together(_drop(left)))
                cleaned.append(title)
            except QueryFailed as exc:
                if exc.details.get("lost"):
                    raise
                with suppress(QueryFailed):
                    self._work.query("ROLLBACK")
                notes.append(f"Leftovers of an interrupted pg_repack at {title} could not be dropped: {exc.why}.")
            finally:
                self._work.query(sql.UNLOCK, (left.id,))
        return cleaned


def _drop(left: Any) -> list[Any]:
    """The statements, the trigger first: without its log each write to the table would fail."""
    steps = [compose("BEGIN")]
    if left.there and "trigger" in left.kinds:
        steps.append(compose("DROP TRIGGER repack_trigger ON {}.{}", left.schema, left.name))
    for kind in ("log", "table"):
        if kind in left.kinds:
            steps.append(compose("DROP TABLE repack.{}", f"{kind}_{left.id}"))
    if "pk" in left.kinds:
        steps.append(compose("DROP TYPE repack.{}", f"pk_{left.id}"))
    return [*steps, compose("COMMIT")]


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(name: str) -> str:
    """As a value in a connection string: pg_repack puts it into one as it is."""
    return "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"
