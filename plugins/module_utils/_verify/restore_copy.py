# Copyright (c) 2026, the godel.postgres_runbook authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore a dump where it does no harm, and read what came out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from .._catalog.manifest import Manifest, SourceDatabase
from .._errors import ConnectionFailed, InvalidInput, ManifestProblem, NotEnoughSpace, QueryFailed
from .._fingerprint import capture, definitions
from .._fingerprint.definitions import Original
from .._load import copies, load, source_database
from .._load.copies import Copy, WantedCopy
from .._load.refusals import Circumstances, blamed
from .._load.sql import ROOM
from .._plan import Plan
from .._postgres.connection import Server
from .._postgres.programs import CLIENT, SCRATCH, Programs, find
from .._postgres.reconnect import persist
from .._target import work_directory
from .._target.base import Target
from .._units import human_size
from . import scratch_instance, sequences
from .scratch_instance import Preload
from .verdict import CopyLoading, Restored

_SPACE_FACTOR = 1.1  # a fresh copy has no bloat, but the load writes some WAL and sorts on disk
_FLOOR_BYTES = 100 * 1024 * 1024  # an empty instance and its WAL
_CRAMPED = "The disk was full, or nearly full, while the backup was restored"


class CannotTell(Exception):
    """The throwaway restore says nothing about the backup; `why` names what this place lacks."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StepTimer:
    """Measures the steps of a throwaway restore, in seconds."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the step."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.steps[f"{name}_s"] = round(self.steps.get(f"{name}_s", 0) + time.monotonic() - started, 2)


@dataclass(frozen=True)
class ScratchLocation(Plan):
    """Where to restore: in a scratch `instance`, or in a scratch `database` of the server itself."""

    verify_in: str
    scratch_dir: str
    bin_dir: str | None
    jobs: int
    check_space: bool


@dataclass(frozen=True)
class RestoreRequirements:
    """What a dump needs to be restored.

    `tool_major` is the version of the program that wrote it; `size_bytes` an estimate of the restored database;
    `database` is set when the dump creates and enters a database of its own; `encoding` when only a database of that
    encoding takes what a dump without a manifest holds; `subscribes` when it creates subscriptions. `name` is what the
    source is called; `source_major` is the version of its server, 0 where the dump does not say it.
    """

    tool_major: int
    size_bytes: int
    roles: list[str] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    like: SourceDatabase | None = None
    database: str | None = None
    encoding: str | None = None
    subscribes: bool = False
    name: str | None = None
    source_major: int = 0


def requirements_of(manifest: Manifest) -> RestoreRequirements:
    """What a backup of the catalog needs."""
    return RestoreRequirements(
        tool_major=manifest.tool_major,
        size_bytes=manifest.database_size_bytes,
        roles=manifest.source.roles,
        extensions=manifest.source.extensions,
        like=manifest.source,
        name=manifest.database,
        source_major=manifest.server_major,
    )


def original_of(target: Target, path: str, manifest: Manifest) -> Original | None:
    """What a backup of the catalog knows of its source; None if it was taken without a fingerprint."""
    if manifest.fingerprint is None:
        return None

    def texts() -> definitions.Texts:
        if definitions.FILE_NAME not in manifest.files:
            return {}
        return definitions.unpacked(target.files.read(f"{path}/{definitions.FILE_NAME}"))

    return Original(manifest.fingerprint, texts, manifest.tool_major)


def dump_of(path: str, manifest: Manifest) -> load.Dump:
    """The dump inside a backup of the catalog."""
    absent = load.absent_from(manifest)
    if manifest.format == "directory":
        return load.Dump(f"{path}/data", "directory", absent=absent)
    name = next((name for name in manifest.files if name.startswith("data.")), None)
    if manifest.format not in ("custom", "plain") or name is None:
        raise ManifestProblem(
            "A manifest does not fit its files", subject=path, why=f"there is no dump of the format {manifest.format!r}"
        )
    unpacker = next((program for suffix, program in load.UNPACKERS.items() if name.endswith(suffix)), None)
    return load.Dump(f"{path}/{name}", manifest.format, unpacker if manifest.format == "plain" else None, absent)


def space_for(size_bytes: int) -> int:
    """The bytes that a scratch instance with a database of this size takes."""
    return int(size_bytes * _SPACE_FACTOR) + _FLOOR_BYTES


def preflight(target: Target, place: ScratchLocation, needs: RestoreRequirements) -> Programs:
    """The programs to use, once it is clear that there is room.

    Raises:
        ProgramMissing: no programs, or only older ones than the dump's.
        NotEnoughSpace: the scratch directory is too small.
    """
    wanted = SCRATCH if place.verify_in == "instance" else CLIENT
    programs = find(target, needs.tool_major, bin_dir=place.bin_dir, needed=wanted, purpose="to restore this backup")
    if place.check_space and place.verify_in == "instance":
        _refuse_full(target, place.scratch_dir, needs, "Set scratch_dir to a directory with more space.")
    if target.files.info(place.scratch_dir) is None or not target.files.writable(place.scratch_dir):
        raise InvalidInput(
            "Invalid scratch_dir",
            subject=repr(place.scratch_dir),
            why="it is missing, or this account cannot write to it",
            remedy="Create it, or name a directory that this account can write to.",
        )
    return programs


def _refuse_full(target: Target, path: str, needs: RestoreRequirements, remedy: str) -> None:
    needed, free = space_for(needs.size_bytes), target.files.space(path).free_bytes
    if needed > free:
        raise NotEnoughSpace(
            "There is not enough space to restore the backup",
            subject=path,
            why=f"it needs about {human_size(needed)}, and {human_size(free)} are free",
            remedy=f"{remedy} check_space: false skips this check.",
            details={"estimate_bytes": needed, "free_bytes": free},
        )


def restore_and_compare(
    target: Target,
    server: Server,
    place: ScratchLocation,
    dump: load.Dump,
    needs: RestoreRequirements,
    source: Original | None,
    clock: StepTimer,
) -> Restored:
    """Restore the dump, take the fingerprint of the copy as the source's was taken, and compare. Leaves no copy.

    Raises:
        restore.RestoreRefused: it does not load.
        CannotTell: something is missing here.
    """
    programs = preflight(target, place, needs)
    with (
        work_directory.work_directory(target, place.scratch_dir) as home,
        _empty(target, server, place, programs, needs, home, clock) as made,
    ):
        around = circumstances(made, place.verify_in, needs)
        with clock.step("restore"), blaming(made, around):
            loaded = load.load(target, made.server, programs, dump, made.name, jobs=place.jobs, work_dir=home)
        with clock.step("compare"):
            try:
                db = needs.database or made.name
                return persist(made.server, lambda: compared(made, db, source, place.jobs, loaded, around))
            except (QueryFailed, ConnectionFailed) as exc:
                raise CannotTell(f"It restores, but the copy cannot be read. {exc.message}") from None


@contextmanager
def blaming(made: Copy, around: Circumstances) -> Iterator[None]:
    """Find out whether the place is to blame for a load that does not come to its end."""
    try:
        yield
    except load.RestoreRefused as exc:
        blame = blamed(exc.refusals, around, rows=True)
        if blame:
            exc.remedy = blame.remedy
        exc.place_to_blame = made.blame(exc) or blame is not None or exc.place_to_blame
        raise


def compared(
    made: Copy, db: str, source: Original | None, workers: int, loaded: load.Loaded, around: Circumstances
) -> Restored:
    """Read a restored copy, and compare it with its source. Without a source its rows are counted.

    Raises:
        QueryFailed, ConnectionFailed: the copy cannot be read.
    """
    known = source.fingerprint if source else None
    mode, algorithm, copied = (known.mode, known.algorithm, known.copied) if known else ("counts", None, None)
    figures = capture.take(made.server, db, mode=mode, workers=workers, algorithm=algorithm, copied=copied)
    differences = definitions.differences(made.server, db, source, figures) if source else []
    refused = bool(loaded.refusals)
    lacks = made.weigh(known, differs=bool(differences) or (source is None and refused), refused=refused)
    if loaded.cramped and (differences or refused):
        lacks = [_CRAMPED, *lacks]
    behind = sequences.behind(made.server, db, only_indexed=source is not None)
    return Restored(figures, CopyLoading(lacks, loaded, around), differences, behind)


def circumstances(made: Copy, where: str, needs: RestoreRequirements) -> Circumstances:
    """What a refused statement is judged by: `where` is `instance`, `database` or `stage`."""
    with made.server.connect(made.name) as session:
        there = {row.rolname for row in session.query("SELECT rolname FROM pg_catalog.pg_roles")}
        absent = [role for role in needs.roles if role not in there]
        return Circumstances(where, needs.source_major, session.server_version // 10000, absent)


@contextmanager
def _empty(
    target: Target,
    server: Server,
    place: ScratchLocation,
    programs: Programs,
    needs: RestoreRequirements,
    home: str,
    clock: StepTimer,
) -> Iterator[Copy]:
    """An empty database to restore into."""
    if place.verify_in == "database":
        _refuse_beside_production(needs)
        _refuse_cramped(target, server, place, needs)
        with copies.on_server(server, needs.like, needs.encoding, needs.name) as made:
            with made.server.connect(made.name) as session:
                _refuse_missing(source_database.missing_extensions(session, needs.extensions), "The server")
            yield made
        return
    superuser = needs.like.bootstrap_role if needs.like else "postgres"
    preload = Preload(needs.like.preloaded, needs.like.start_settings) if needs.like else Preload()
    with ExitStack() as stack:
        with clock.step("start"):
            scratch_server, lacks = stack.enter_context(
                scratch_instance.instance(target, programs, home, superuser=superuser, jobs=place.jobs, preload=preload)
            )
            with scratch_server.connect("postgres") as session:
                _refuse_missing(
                    source_database.missing_extensions(session, needs.extensions),
                    f"The scratch server ({programs.bin_dir})",
                )
            wanted = WantedCopy(needs.like, needs.roles, needs.name, needs.database, needs.encoding)
            made = copies.in_instance(scratch_server, wanted, lacks)
        yield made


def _refuse_beside_production(needs: RestoreRequirements) -> None:
    """Raise CannotTell for what has no place on production's own server."""
    why = ""
    if needs.database is not None:
        why = (
            f"The dump creates a database and connects to it ({needs.database}), which is not safe next to production."
        )
    elif needs.subscribes:
        why = "The script creates subscriptions, which would receive changes that another server holds for production."
    else:
        bound = [name for name in needs.extensions if name in source_database.BOUND_TO_A_NAME]
        if bound:
            why = f"{', '.join(bound)} can be created in only one database of a server, and production has it."
    if why:
        raise CannotTell(f"{why} Verify it with verify_in: instance.")


def _refuse_cramped(target: Target, server: Server, place: ScratchLocation, needs: RestoreRequirements) -> None:
    """Raise NotEnoughSpace if production's own disk would fill up, as far as it can be seen from here."""
    if place.check_space:
        with server.connect_aside() as session:
            directory = session.query(ROOM)[0].data_directory
        if directory and target.files.info(directory) is not None:
            _refuse_full(target, directory, needs, "Free some space there, or use verify_in: instance.")


def _refuse_missing(extensions: list[str], who: str) -> None:
    if extensions:
        raise CannotTell(
            f"{who} lacks extensions that the backup needs: {', '.join(extensions)}. "
            "Install their packages there, or verify elsewhere."
        )
