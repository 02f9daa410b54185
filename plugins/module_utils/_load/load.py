# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load a dump into an empty database, and learn which of its statements the server refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .._catalog.manifest import Manifest
from .._errors import QueryFailed
from .._postgres.connection import Server
from .._postgres.programs import Programs
from .._postgres.statements import compose
from .._target.base import Target
from . import archive_entries, databases, script, source_database
from .loaders import UNPACKERS, Dump, RestoreRefused, Runner
from .refusals import Refusal, from_psql, shortened

__all__ = ["UNPACKERS", "Dump", "Loaded", "RestoreRefused", "absent_from", "load"]

# What pg_restore --verbose says before the first error of an entry, of the error, and at its own end. Workers write at
# the same time, so that a line may have pieces of another one.
_ENTRY = re.compile(r"from TOC entry (\d+); \d+ \d+ (.*)$", re.M)
_ENTRY_OR_ERROR = re.compile(
    r"from TOC entry (?P<entry>\d+); \d+ \d+ .*$"
    r"|(?:could not execute query|COPY failed for table (?P<table>[^\n]*?)): [^:\n]+:  (?P<why>.*)$",
    re.M,
)
_OF_ENTRY, _OF_ERROR = re.compile("from TOC entry "), re.compile("could not execute query: |COPY failed for table ")
_TO_THE_END = "errors ignored on restore"
_COMMAND = "Command was: "
_FIRST_WITH_RESTRICT = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
_OF_ROWS = ("COPY ", "INSERT ", "SELECT pg_catalog.setval(")
_SETTINGS = ("SET ", "SELECT pg_catalog.set_config(")  # which come first
_ROWS = ("TABLE DATA", "SEQUENCE SET", "BLOB", "LARGE OBJECT")
_BYTES_FOR_ENTRY = 400  # of pg_restore --verbose
# Entries that are asked again: the first ones of a load show why the others failed.
_ASKED_AGAIN = 500
_ROWS_ASKED_AGAIN = 3
# $1 pg_restore, $2 list of entries, $3 archive, $4 unpacker or nothing, $5 and $6 options, then psql: restores the
# entries through psql.
_AGAIN = """
if [ -n "$4" ]; then "$4" -dc -- "$3" | "$1" --use-list="$2" --no-subscriptions "$5" "$6" --file=-
else "$1" --use-list="$2" --no-subscriptions "$5" "$6" --file=- -- "$3"; fi | { shift 6; "$@"; }
"""


@dataclass(frozen=True)
class Loaded:
    """A load that came to its end.

    Attributes:
        refusals: the statements that were refused, the first ones by name. `count`: how many they are.
        cramped: the disk was all but full meanwhile, so that a message may be lost.
        oid: of the database that was put into the place of the one that was to be loaded, where that was needed.
    """

    refusals: Sequence[Refusal] = ()
    count: int = 0
    cramped: bool = False
    oid: int | None = None


def absent_from(manifest: Manifest) -> tuple[str, ...]:
    """What template0 brings that was dropped in the source. No dump says so."""
    found = []
    if "plpgsql" not in manifest.source.extensions:
        found.append("EXTENSION IF EXISTS plpgsql")
    figures = manifest.fingerprint
    if figures is not None and "schema public" not in figures.objects:
        names = (*figures.tables, *figures.sequences, *figures.objects)
        if not any(" public." in f" {name}" for name in names):
            found.append("SCHEMA IF EXISTS public")
    return tuple(found)


def load(
    target: Target,
    server: Server,
    programs: Programs,
    dump: Dump,
    db: str,
    *,
    jobs: int,
    work_dir: str,
    before: Sequence[str] = (),
    pause: Callable[[], None] | None = None,
) -> Loaded:
    """Load the dump, going on after statements that are refused. `before` is what starts the program, such as `nice`.

    With `pause`, an archive is loaded in pieces of some tables or indexes, and `pause` is called before each. What does
    not load in parallel is loaded once more, one after the other, into a database that is created again.

    Raises:
        RestoreRefused: it did not load to its end.
    """
    run = Runner(target, server.login.environ(), work_dir)
    psql = [*before, programs.path("psql"), f"--dbname={server.login.conninfo(db, 'psql')}", "--no-psqlrc", "--quiet"]
    psql.append("--no-password")
    _take_away(server, db, dump)
    if dump.format == "plain":
        refusals = script.load(target, run, psql, dump, knows_restrict=_knows_restrict(programs.version))
        oid = None
        if refusals is None:
            oid = _make_anew(server, db, dump)
            refusals = script.strict(run, psql, dump)
        return Loaded(refusals, len(refusals), run.cramped, oid)
    pg_restore = [*before, programs.path("pg_restore"), f"--dbname={server.login.conninfo(db, 'pg_restore')}"]
    archive = _Archive(run, [*pg_restore, "--no-password", "--verbose"], psql, dump)
    if dump.unpacker or dump.format == "tar":  # neither can be read by several at once
        archive.restore()
        return archive.loaded()
    listing = run.output([programs.path("pg_restore"), "--list", "--verbose", "--", dump.path], dump)
    archive.room = _BYTES_FOR_ENTRY * listing.count(b"\n")
    whole = archive_entries.passes(listing)

    def restore(jobs: int) -> Loaded:
        for number, (entries, together) in enumerate(archive_entries.in_pieces(whole, jobs) if pause else whole):
            if pause:
                pause()
            chosen = run.write(f"entries-{number}", entries)
            archive.restore(f"--jobs={jobs if together else 1}", f"--use-list={chosen}")
        return archive.loaded()

    try:
        loaded = restore(jobs)
        if jobs == 1 or not archive.depends_on_order:
            return loaded
    except RestoreRefused as exc:
        if jobs == 1 or exc.place_to_blame:
            raise
    oid = _make_anew(server, db, dump)  # workers may block each other, which says nothing about the dump
    archive.forget()
    return replace(restore(1), oid=oid)


class _Archive:
    """Restores an archive, and asks for refused entries once more, through psql, which reports their SQLSTATE.

    pg_restore sends an entry as one string, and with one statement of it, all of them are refused: a GRANT to a role
    that is there, for one that is not. psql sends them one by one. So what is asked again and succeeds is kept.
    """

    def __init__(self, run: Runner, pg_restore: Sequence[str], psql: Sequence[str], dump: Dump) -> None:
        self._run = run
        self._tablespaces = "--no-subscriptions" if dump.tablespaces else "--no-tablespaces"
        self._pg_restore = [*pg_restore, "--no-subscriptions", self._tablespaces]
        self._psql = psql
        self._dump = dump
        self.room = 0
        self.forget()

    def forget(self) -> None:
        """Begin once more."""
        self._texts: list[str] = []
        self.depends_on_order = False

    def restore(self, *options: str) -> None:
        """Restore it, or some of its entries. Raises RestoreRefused for an end before the end."""
        file = [] if self._dump.unpacker else ["--", self._dump.path]
        ended = self._run.run([*self._pg_restore, *options, *file], self._dump, room=self.room)
        if ended.lost() or (ended.status != 0 and _TO_THE_END not in ended.text):
            raise ended.refused()
        if ended.status != 0:
            self._texts.append(ended.text)

    def loaded(self) -> Loaded:
        """What was refused, when all is restored.

        `depends_on_order` is true then if rows were refused that are not refused any more, or if the messages of
        workers are mixed up so that one of them may be overlooked.
        """
        text = "\n".join(self._texts)
        errors = _errors(text)
        self.depends_on_order = _is_mixed_up(text, errors)
        if not errors:
            return Loaded(cramped=self._run.cramped)
        entries = dict(_ENTRY.findall(text))
        rows = [number for number, what in entries.items() if what.startswith(_ROWS)][:_ROWS_ASKED_AGAIN]
        others = [number for number, what in entries.items() if not what.startswith(_ROWS)][:_ASKED_AGAIN]
        found: list[tuple[int, Refusal]] = []
        for refusal in self._again(others):  # without any, it asks for the settings that come first
            place = next((at for at, each in enumerate(errors) if each.has(refusal)), None)
            if place is not None:  # else a statement that succeeded, and fails now since it is done
                found.append((place, refusal))
        for number in rows:
            place = next((at for at, each in enumerate(errors) if each.entry == number), len(errors))
            refused = [each for each in self._again([number], rows=True) if not each.statement.startswith(_SETTINGS)]
            self.depends_on_order = self.depends_on_order or not refused
            found += [(place, each) for each in refused]
        asked = {place for place, dummy in found}
        for place, error in enumerate(errors):
            if place not in asked and (error.of_rows or error.entry not in others):
                found.append((place, error.refusal))
        ordered = [each for dummy, each in sorted(found, key=lambda item: item[0])]
        return Loaded(ordered, len(ordered), self._run.cramped)

    def _again(self, numbers: Sequence[str], *, rows: bool = False) -> list[Refusal]:
        """Restore entries through psql; rows in a transaction that is rolled back, and that the first error ends.

        psql takes the rows of a COPY that was refused for statements. So without `rows` there are none.
        """
        entries = self._run.write("again", "".join(f"{number};\n" for number in numbers).encode())
        options = ["--set=VERBOSITY=verbose", "--echo-errors", "--output=/dev/null", f"--set=ON_ERROR_STOP={int(rows)}"]
        begin = ["--command=BEGIN"] if rows else []
        pg_restore = next(word for word in self._pg_restore if word.endswith("/pg_restore"))
        argv = [pg_restore, entries, self._dump.path, self._dump.unpacker or "", self._tablespaces]
        argv.append("--no-subscriptions" if rows else "--schema-only")
        again = [*self._psql, *options, *begin, "--file=-"]
        ended = self._run.run(["/bin/sh", "-c", _AGAIN, "again", *argv, *again], Dump(self._dump.path, "custom"))
        if ended.lost():
            raise ended.refused()
        return from_psql(ended.text)


@dataclass(frozen=True)
class _Error:
    """An error as pg_restore reports it: the number of its entry, and all that was sent as one string."""

    entry: str
    command: str
    why: str

    @property
    def of_rows(self) -> bool:
        """Whether rows may be missing for it."""
        return self.command.startswith(_OF_ROWS)

    @property
    def refusal(self) -> Refusal:
        """The same without an SQLSTATE."""
        return Refusal(shortened(self.command), self.why)

    def has(self, refusal: Refusal) -> bool:
        """Whether a statement is a part of what was sent."""
        return refusal.statement.removesuffix(" ...") in self.command


def _errors(text: str) -> list[_Error]:
    """The errors in what pg_restore --verbose printed, in their order."""
    found = []
    entry = ""
    for match in _ENTRY_OR_ERROR.finditer(text):
        if match["entry"]:
            entry = match["entry"]
            continue
        command = f"COPY of table {match['table']}"
        if match["table"] is None:
            begin = text.find(_COMMAND, match.end())
            end = text.find("\npg_restore", begin)
            command = " ".join(text[begin + len(_COMMAND) : end if end >= 0 else None].split())
        found.append(_Error(entry, command, match["why"].strip()))
    return found


def _is_mixed_up(text: str, errors: Sequence[_Error]) -> bool:
    """Whether pg_restore reports entries or errors that cannot be parsed."""
    return len(_OF_ENTRY.findall(text)) != len(_ENTRY.findall(text)) or len(_OF_ERROR.findall(text)) != len(errors)


def _knows_restrict(version: str) -> bool:
    """Whether a psql of this version knows the command that pg_dump has written since August 2025 (CVE-2025-8714)."""
    major, dummy, minor = version.partition(".")
    first = _FIRST_WITH_RESTRICT.get(int(major), 0)
    return not minor.isdigit() or int(minor) >= first


def _make_anew(server: Server, db: str, dump: Dump) -> int:
    """Put an empty database into the place of one that is half loaded; its OID."""
    if dump.enters is not None:
        with databases.connect_admin(server, databases.aside_from(dump.enters)) as session:
            session.execute(compose("DROP DATABASE IF EXISTS {} WITH (FORCE)", dump.enters))
    oid = source_database.make_anew(server, db)
    _take_away(server, db, dump)
    return oid


def _take_away(server: Server, db: str, dump: Dump) -> None:
    """Drop what the new database has and the source had not."""
    if dump.absent:
        with server.connect(db) as session:
            for what in dump.absent:
                try:
                    session.execute(f"DROP {what}")
                except QueryFailed as exc:
                    raise RestoreRefused(exc.why, program=f"DROP {what}", status=1, place_to_blame=True) from None
