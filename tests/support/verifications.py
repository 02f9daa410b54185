"""Verify backups with the module in tests, and make forged backups and dumps not taken by this collection."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.backups import params as backup_params
from tests.support.databases import Database
from tests.support.modules import Result, expect_success
from tests.support.processes import command_lines
from tests.support.servers import Server
from tests.support.workspace import workspace

MODULE = "pg_restore_verify"
PREFIX = "pg_runbook_scratch_"
# Tells what it was asked for. With NO_COMPANY it refuses to work in parallel, after it has loaded everything, as two
# workers may that stand in each other's way.
PG_RESTORE = """#!/bin/sh
echo "$*" >> "$0.log"
"$0.real" "$@" || exit 1
case "$NO_COMPANY $*" in
    yes*--jobs=2*)
        echo 'pg_restore: error: could not execute query: ERROR:  deadlock detected' >&2
        exit 1 ;;
esac
"""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for scratch servers that their account can enter."""
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=workspace()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def watched(server: Server) -> Iterator[Path]:
    """A folder of programs whose pg_restore tells what it was asked for."""
    with scratch_folder() as folder:
        for program in server.client_dir.iterdir():
            (folder / (f"{program.name}.real" if program.name == "pg_restore" else program.name)).symlink_to(program)
        (folder / "pg_restore").write_text(PG_RESTORE)
        (folder / "pg_restore").chmod(0o755)
        yield folder


def params(database: Database, backup_dir: Path, scratch: Path, **over: Any) -> dict[str, Any]:
    """The parameters of pg_restore_verify for a database of a test; keyword arguments win."""
    return {**backup_params(database, backup_dir), "scratch_dir": str(scratch), **over}


def verify(database: Database, backup_dir: Path, scratch: Path, **over: Any) -> Result:
    """Verify a backup, of which a verdict has to come; nothing may be left of it."""
    options = {name: over.pop(name) for name in ("check", "python", "env") if name in over}
    result = expect_success(MODULE, params(database, backup_dir, scratch, **over), **options)
    assert leftovers(scratch) == []
    assert scratch_servers(scratch) == []
    return result


def leftovers(scratch: Path) -> list[str]:
    """What verifications left below a directory."""
    return sorted(path.name for path in scratch.iterdir())


def scratch_servers(scratch: Path) -> list[int]:
    """The processes that work below a directory."""
    return [pid for pid, line in command_lines().items() if f"{scratch}/{PREFIX}" in line]


def verdicts(entry: str | Path) -> list[str]:
    """The verdicts that the catalog has of a backup, oldest first."""
    return [json.loads(path.read_text())["verdict"] for path in sorted(Path(entry).glob("verifications/*.json"))]


def forge(entry: str | Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest and sign it again, as a forger could."""
    path = Path(entry, "manifest.json")
    document: dict[str, Any] = json.loads(path.read_text())
    document["manifest_sha256"] = blank = "0" * 64
    change(document)
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    seal = '"manifest_sha256": "'
    path.write_text(text.replace(seal + blank, seal + hashlib.sha256(text.encode()).hexdigest()))


def tables_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the tables in a manifest's fingerprint."""
    figures: dict[str, Any] = document["fingerprint"]["tables"]
    return figures


def hand_made(database: Database, path: Path, *arguments: str) -> Path:
    """A dump made as the runbook by hand tells."""
    database.run("pg_dump", f"--file={path}", *arguments)
    return path


def packed(path: Path) -> Path:
    """The file as gzip packs it."""
    with path.open("rb") as plain, gzip.open(f"{path}.gz", "wb") as target:
        shutil.copyfileobj(plain, target)
    return Path(f"{path}.gz")


def flip(path: Path, at: int, bit: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ (1 << bit)]))
