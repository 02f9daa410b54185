"""pg_repack beside a copy of the machine's PostgreSQL 15, from Debian's package; nothing is installed on the machine."""

from __future__ import annotations

import fcntl
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.programs import Installation
from tests.support.workspace import REPOSITORY, workspace

MAJOR = 15
PACKAGE = f"postgresql-{MAJOR}-repack"
SYSTEM = Path("/usr")
COPIED = ("postgres", "initdb")  # they find their files by where they lie themselves
TIMEOUT_S = 300


class NoRepack(AssertionError):
    """The package cannot be had, or does not fit what is here; the text says what to do."""


@functools.cache
def installation() -> Installation:
    """A PostgreSQL with pg_repack, for as long as this process lives."""
    lib, share = Path(f"lib/postgresql/{MAJOR}"), Path(f"share/postgresql/{MAJOR}")
    if not (SYSTEM / lib / "bin" / "postgres").exists():
        raise NoRepack(f"pg_repack needs Debian's PostgreSQL {MAJOR}: apt-get install postgresql-{MAJOR} {PACKAGE}")
    root = workspace() / "repack"
    for folder in (lib / "bin", lib / "lib", share, share / "extension"):
        (root / folder).mkdir(parents=True)
        for file in (SYSTEM / folder).iterdir():
            if file.name in COPIED:
                shutil.copy(file, root / folder)
            elif file.name != "extension":
                (root / folder / file.name).symlink_to(file)
    package = _unpacked(root.with_name("repack-package"))
    for folder in (lib / "bin", lib / "lib", share / "extension"):
        for file in (package / "usr" / folder).glob("pg_repack*"):
            (root / folder / file.name).unlink(missing_ok=True)
            shutil.copy(file, root / folder)
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return Installation(MAJOR, root / lib / "bin", "of this machine, with pg_repack", has_clients=True)


def _unpacked(folder: Path) -> Path:
    """The content of the package, which is fetched once into ``.venv/repack``."""
    cache = REPOSITORY / ".venv" / "repack"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:  # two test workers may want it at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        package = next(iter(cache.glob(f"{PACKAGE}_*.deb")), None) or _fetched(cache)
    _run(["dpkg-deb", "--extract", package, folder])
    return folder


def _fetched(cache: Path) -> Path:
    """Download the package as apt knows it; where its lists are missing, with lists of our own. Needs no root."""
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        lists = Path(scratch) / "lists"
        (lists / "partial").mkdir(parents=True)
        ours = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}", "-o", "Debug::NoLocking=1"]
        try:
            _run(["apt-get", "download", PACKAGE], scratch)
        except NoRepack:
            _run(["apt-get", *ours, "update"], scratch)
            _run(["apt-get", *ours, "download", PACKAGE], scratch)
        [package] = Path(scratch).glob("*.deb")
        return Path(shutil.move(package, cache))


def _run(command: list[str | Path], folder: str | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoRepack(f"The tests need the package {PACKAGE}, and it cannot be had: {error}") from error
    if done.returncode:
        raise NoRepack(f"The tests need the package {PACKAGE}, and it cannot be had: {done.stderr.strip()}")
